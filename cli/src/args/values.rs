//! How durations, sizes, times and headers are read from flags, the environment and the configuration file: the same everywhere.

use jiff::Timestamp;
use sagamq_api::JsonText;
use std::time::Duration;

/// A duration such as `500ms`, `30s`, `5m`, `1h30m` or `7d`; `0` needs no unit.
///
/// # Errors
/// What a duration looks like, when this is none.
pub fn duration(text: &str) -> Result<Duration, String> {
    let millis = split_units(text).and_then(|parts| {
        parts.into_iter().try_fold(0_u64, |sum, (number, unit)| {
            let millis: u64 = match unit {
                "ms" => 1,
                "s" => 1_000,
                "m" | "min" => 60_000,
                "h" => 3_600_000,
                "d" => 86_400_000,
                _ => return None,
            };
            sum.checked_add(number.checked_mul(millis)?)
        })
    });
    match millis {
        Some(millis) => Ok(Duration::from_millis(millis)),
        None if text.trim() == "0" => Ok(Duration::ZERO),
        None => Err("expected a duration such as 500ms, 30s, 5m, 1h30m or 7d".to_owned()),
    }
}

/// `1h30m` as `[(1, "h"), (30, "m")]`; `None` if it is not of that form.
fn split_units(text: &str) -> Option<Vec<(u64, &str)>> {
    let mut rest = text.trim();
    let mut parts = Vec::new();
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, tail) = rest.split_at(digits);
        let letters = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        parts.push((number.parse().ok()?, unit));
        rest = tail.trim_start();
    }
    (!parts.is_empty()).then_some(parts)
}

/// A number of bytes such as `65536`, `512KiB`, `1MiB`, `2GiB`; `K`, `M` and `G` alone count in steps of 1,024 as well.
///
/// # Errors
/// What a size looks like, when this is none.
pub fn size(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let shift = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => Some(0),
        "k" | "kib" => Some(10),
        "m" | "mib" => Some(20),
        "g" | "gib" => Some(30),
        _ => None,
    };
    let bytes = number.parse::<u64>().ok().zip(shift).and_then(|(number, shift)| number.checked_mul(1 << shift));
    bytes.ok_or_else(|| "expected a number of bytes such as 65536, 512KiB, 1MiB or 2GiB".to_owned())
}

/// A size that fits 32 bits.
///
/// # Errors
/// What a size looks like, when this is none.
pub fn size_u32(text: &str) -> Result<u32, String> {
    u32::try_from(size(text)?).map_err(|_| "expected less than 4GiB".to_owned())
}

/// A point in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Milliseconds since 1970.
    At(i64),
    /// So long before now.
    Ago(Duration),
}

/// A time such as `2026-11-21T08:00:00Z`, milliseconds since 1970, or a duration before now (`15m`).
///
/// # Errors
/// What a time looks like, when this is none.
pub fn when(text: &str) -> Result<When, String> {
    if let Ok(millis) = text.parse::<i64>() {
        return Ok(When::At(millis));
    }
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(When::At(at.as_millisecond()));
    }
    let expected = "expected a time such as 2026-11-21T08:00:00Z, milliseconds since 1970, or a duration before now such as 15m";
    duration(text).map(When::Ago).map_err(|_| expected.to_owned())
}

/// A record header, `name=value`.
///
/// # Errors
/// What a header looks like, when this is none.
pub fn header(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => Ok((name.trim().to_owned(), value.to_owned())),
        Some(_) | None => Err("expected name=value, for example trace-id=4711".to_owned()),
    }
}

/// The command line's way to give a JSON document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JsonInput {
    /// On the command line itself.
    Inline(JsonText),
    /// In a file: `@path`.
    File(std::path::PathBuf),
    /// On stdin: `-`.
    Stdin,
}

/// A JSON document, `@FILE`, or `-` for stdin.
///
/// # Errors
/// What the JSON parser says.
pub fn json_input(text: &str) -> Result<JsonInput, String> {
    match text.strip_prefix('@') {
        Some("") => Err("expected a file name after `@`".to_owned()),
        Some(path) => Ok(JsonInput::File(path.into())),
        None if text == "-" => Ok(JsonInput::Stdin),
        None => JsonText::parse(text.as_bytes())
            .map(JsonInput::Inline)
            .map_err(|error| format!("no JSON: {error}; give a document, @FILE, or - for stdin")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units_and_may_have_several() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5_400)));
        assert_eq!(duration("7d"), Ok(Duration::from_secs(7 * 86_400)));
        assert_eq!(duration("0"), Ok(Duration::ZERO));
        for bad in ["", "5", "5x", "s", "1h30", "-1s", "99999999999999999999s", "18446744073709551615d"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_are_bytes_or_binary_units() {
        assert_eq!(size("65536"), Ok(65_536));
        assert_eq!(size("1MiB"), Ok(1 << 20));
        assert_eq!(size("2 g"), Ok(2 << 30));
        assert!(size("1MB").is_err(), "a decimal unit would be read wrongly by half of its readers");
        assert!(size("").is_err() && size("18446744073709551615k").is_err());
        assert!(size_u32("4GiB").is_err());
    }

    #[test]
    fn a_time_is_absolute_or_ago() {
        assert_eq!(when("1000"), Ok(When::At(1_000)));
        assert_eq!(when("1970-01-01T00:00:01Z"), Ok(When::At(1_000)));
        assert_eq!(when("15m"), Ok(When::Ago(Duration::from_secs(900))));
        assert!(when("yesterday").is_err());
    }

    #[test]
    fn headers_keep_what_is_behind_the_first_equals_sign() {
        assert_eq!(header("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert!(header("a").is_err() && header("=b").is_err());
    }
}

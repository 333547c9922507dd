//! How durations, sizes, times and headers are read from flags, the environment and the configuration file: the same everywhere.

use bytesize::ByteSize;
use jiff::Timestamp;
use sagamq_api::ids::ItemIndex;
use sagamq_api::{JsonText, SagaName};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// A duration such as `500ms`, `30s`, `5m`, `1h30m` or `7d`, read as in definitions of sagas; `0` needs no unit.
///
/// # Errors
/// What a duration looks like, when this is none.
pub fn duration(text: &str) -> Result<Duration, String> {
    if text.trim() == "0" {
        return Ok(Duration::ZERO);
    }
    sagamq_saga::duration::parse(text).map_err(|error| format!("`{text}` {error}: expected a duration such as 500ms, 30s, 5m, 1h30m or 7d"))
}

/// A number of bytes such as `65536`, `512KiB`, `1.5MiB`, `2GiB`. Units that some read as a thousand and some as 1,024 are refused.
///
/// # Errors
/// What a size looks like, when this is none.
pub fn size(text: &str) -> Result<u64, String> {
    let unit = text.trim_start_matches(|c: char| !c.is_alphabetic());
    let is_clear = unit.is_empty() || unit.eq_ignore_ascii_case("b") || unit.to_ascii_lowercase().ends_with("ib");
    let bytes = text.trim().parse::<ByteSize>().ok().filter(|_| is_clear);
    bytes.map(|size| size.as_u64()).ok_or_else(|| "expected a number of bytes such as 65536, 512KiB, 1MiB or 2GiB".to_owned())
}

/// A size that fits 32 bits.
///
/// # Errors
/// What a size looks like, when this is none.
pub fn size_u32(text: &str) -> Result<u32, String> {
    u32::try_from(size(text)?).map_err(|_| "expected less than 4GiB".to_owned())
}

/// An item of a step that fans out, counted from 0.
///
/// # Errors
/// What it looks like, when this is none.
pub fn item(text: &str) -> Result<ItemIndex, String> {
    text.parse().map(ItemIndex).map_err(|_| "expected the place of an item, counted from 0, such as 3".to_owned())
}

/// Where a definition is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DefinitionAt {
    /// In a file.
    File(PathBuf),
    /// At the server, published.
    Published {
        /// Its name.
        name: SagaName,
        /// Its version.
        version: u32,
    },
}

impl FromStr for DefinitionAt {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let published = text.rsplit_once('@').and_then(|(name, version)| Some((name.parse().ok()?, version.parse().ok()?)));
        Ok(match published {
            Some((name, version)) => Self::Published { name, version },
            None => Self::File(text.into()),
        })
    }
}

/// A point in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Milliseconds since 1970.
    At(i64),
    /// So long before now.
    Ago(Duration),
}

impl When {
    /// Milliseconds since 1970.
    #[must_use]
    pub fn to_millis(self) -> i64 {
        match self {
            Self::At(millis) => millis,
            Self::Ago(duration) => {
                let ago = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
                Timestamp::now().as_millisecond().saturating_sub(ago)
            }
        }
    }
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

/// A point in time such as `2026-11-21T08:00:00Z`, or milliseconds since 1970; in milliseconds since 1970.
///
/// # Errors
/// What a time looks like, when this is none.
pub fn time(text: &str) -> Result<u64, String> {
    let millis = text.parse().ok().or_else(|| u64::try_from(text.parse::<Timestamp>().ok()?.as_millisecond()).ok());
    millis.ok_or_else(|| "expected a time such as 2026-11-21T08:00:00Z, or milliseconds since 1970".to_owned())
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
    File(PathBuf),
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
        assert_eq!(duration("PT15M"), Ok(Duration::from_secs(900)), "what a definition takes");
        for bad in ["", "5", "5x", "s", "1h30", "-1s", "1mo", "99999999999999999999s", "18446744073709551615d"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_are_bytes_or_binary_units() {
        assert_eq!(size("65536"), Ok(65_536));
        assert_eq!(size("1MiB"), Ok(1 << 20));
        assert_eq!((size("2 gib"), size("1.5 KiB"), size("7B")), (Ok(2 << 30), Ok(1_536), Ok(7)));
        for unclear in ["1MB", "1M", "1k"] {
            assert!(size(unclear).is_err(), "{unclear} would be read wrongly by half of its readers");
        }
        assert!(size("").is_err() && size("-1KiB").is_err() && size("18446744073709551616").is_err());
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
    fn a_time_to_come_is_absolute() {
        assert_eq!((time("1000"), time("1970-01-01T00:00:01Z")), (Ok(1_000), Ok(1_000)));
        for bad in ["15m", "tomorrow", "-1", "1969-12-31T00:00:00Z", ""] {
            assert!(time(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn headers_keep_what_is_behind_the_first_equals_sign() {
        assert_eq!(header("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert!(header("a").is_err() && header("=b").is_err());
    }
}

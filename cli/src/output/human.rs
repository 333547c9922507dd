//! Durations, sizes and times as people read them. Units and zone are always shown.

use jiff::Timestamp;

/// A duration in its two largest units: `1h 30m`, `24h`, `500ms`.
pub(crate) fn duration_ms(millis: u64) -> String {
    const UNITS: [(u64, &str); 5] = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s"), (1, "ms")];
    let Some(first) = UNITS.iter().position(|&(unit, _)| millis >= unit) else { return "0".to_owned() };
    let (unit, name) = UNITS[first];
    let large = format!("{}{name}", millis / unit);
    match UNITS.get(first + 1) {
        Some(&(next, next_name)) if millis % unit / next > 0 => format!("{large} {}{next_name}", millis % unit / next),
        Some(_) | None => large,
    }
}

/// Seconds with a fraction, as the server gives a lag.
pub(crate) fn duration_seconds(seconds: f64) -> String {
    // A lag that is no number or beyond any clock is not worth a word of its own.
    let millis = std::time::Duration::try_from_secs_f64(seconds).map_or(0, |duration| duration.as_millis());
    duration_ms(u64::try_from(millis).unwrap_or(u64::MAX))
}

/// Bytes: `512 B`, `1 MiB`, `1.5 GiB`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [(u32, &str); 3] = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    let Some(&(shift, name)) = UNITS.iter().find(|&&(shift, _)| bytes >> shift > 0) else { return format!("{bytes} B") };
    let tenths = (bytes >> (shift - 10)) * 10 / 1024;
    if tenths.is_multiple_of(10) { format!("{} {name}", tenths / 10) } else { format!("{}.{} {name}", tenths / 10, tenths % 10) }
}

/// A point in time, in UTC with milliseconds: `2026-11-21 08:00:00.000Z`.
pub(crate) fn timestamp_ms(millis: i64) -> String {
    match Timestamp::from_millisecond(millis) {
        Ok(timestamp) => timestamp.strftime("%Y-%m-%d %H:%M:%S.%3fZ").to_string(),
        // The wire allows any number; a calendar does not.
        Err(_) => format!("{millis} ms"),
    }
}

/// As [`timestamp_ms`], for the wire's unsigned times.
pub(crate) fn timestamp(millis: u64) -> String {
    timestamp_ms(i64::try_from(millis).unwrap_or(i64::MAX))
}

/// A count with its noun: `1 record`, `2 records`.
pub(crate) fn count(number: u64, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_show_two_units_at_most() {
        for (millis, text) in [
            (0, "0"),
            (500, "500ms"),
            (1_000, "1s"),
            (1_500, "1s 500ms"),
            (90_000, "1m 30s"),
            (86_400_000, "1d"),
            (86_400_000 + 1, "1d"),
            (5_400_000, "1h 30m"),
        ] {
            assert_eq!(duration_ms(millis), text);
        }
        assert_eq!(duration_seconds(1.5), "1s 500ms");
        assert_eq!(duration_seconds(f64::NAN), "0");
    }

    #[test]
    fn sizes_and_times_name_their_unit() {
        assert_eq!(size(512), "512 B");
        assert_eq!(size(1 << 20), "1 MiB");
        assert_eq!(size(1_536), "1.5 KiB");
        assert_eq!(size(3 << 30), "3 GiB");
        assert_eq!(timestamp_ms(1_500), "1970-01-01 00:00:01.500Z");
        assert_eq!(timestamp_ms(i64::MAX), format!("{} ms", i64::MAX));
        assert_eq!(count(1, "record"), "1 record");
        assert_eq!(count(0, "record"), "0 records");
    }
}

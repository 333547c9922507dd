//! Durations, sizes and times as people read them. Units and zone are always shown.

use indicatif::HumanBytes;
use jiff::{Span, SpanRound, Timestamp, Unit};

/// A duration from days to milliseconds, rounded to seconds from a minute on: `1h 30m`, `1d`, `500ms`.
pub(crate) fn duration_ms(millis: u64) -> String {
    let smallest = if millis < 60_000 { Unit::Millisecond } else { Unit::Second };
    let span = i64::try_from(millis).ok().and_then(|millis| Span::new().try_milliseconds(millis).ok());
    let round = SpanRound::new().largest(Unit::Day).smallest(smallest).days_are_24_hours();
    // Longer than any calendar is what only a broken clock says.
    span.and_then(|span| span.round(round).ok()).map_or_else(|| format!("{millis} ms"), |span| format!("{span:#}"))
}

/// Seconds with a fraction, as the server gives a lag.
pub(crate) fn duration_seconds(seconds: f64) -> String {
    // A lag that is no number or beyond any clock is not worth a word of its own.
    let millis = std::time::Duration::try_from_secs_f64(seconds).map_or(0, |duration| duration.as_millis());
    duration_ms(u64::try_from(millis).unwrap_or(u64::MAX))
}

/// Bytes: `512 B`, `1.00 MiB`, `1.50 GiB`.
pub(crate) fn size(bytes: u64) -> String {
    HumanBytes(bytes).to_string()
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
    fn durations_show_what_matters() {
        for (millis, text) in [
            (0, "0s"),
            (500, "500ms"),
            (1_000, "1s"),
            (1_500, "1s 500ms"),
            (90_000, "1m 30s"),
            (86_400_000, "1d"),
            (86_400_000 + 1, "1d"),
            (90_061_000, "1d 1h 1m 1s"),
            (5_400_000, "1h 30m"),
        ] {
            assert_eq!(duration_ms(millis), text);
        }
        assert_eq!(duration_seconds(1.5), "1s 500ms");
        assert_eq!(duration_seconds(f64::NAN), "0s");
        assert_eq!(duration_ms(u64::MAX), format!("{} ms", u64::MAX));
    }

    #[test]
    fn sizes_and_times_name_their_unit() {
        assert_eq!(size(512), "512 B");
        assert_eq!(size(1 << 20), "1.00 MiB");
        assert_eq!(size(1_536), "1.50 KiB");
        assert_eq!(timestamp_ms(1_500), "1970-01-01 00:00:01.500Z");
        assert_eq!(timestamp_ms(i64::MAX), format!("{} ms", i64::MAX));
        assert_eq!(count(1, "record"), "1 record");
        assert_eq!(count(0, "record"), "0 records");
    }
}

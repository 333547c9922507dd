//! How a duration is read, in definitions and on the command line: jiff's friendly format (`1h30m`) or ISO 8601 (`PT1H30M`).

use core::time::Duration;
use jiff::{Span, SpanRelativeTo};

/// The longest one that there may be.
pub const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Why a text is no duration; reads behind the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// It is of neither form, or has no unit.
    #[error("is no duration")]
    Unreadable,
    /// It has units whose length depends on the calendar.
    #[error("has months or years, whose length varies")]
    Calendar,
    /// It is below zero.
    #[error("is negative")]
    Negative,
}

/// The duration of a text such as `200ms`, `15m`, `1h30m`, `7d` or `PT15M`. A day has 24 hours.
///
/// # Errors
/// When it is none.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let span: Span = text.trim().parse().map_err(|_| DurationError::Unreadable)?;
    let duration = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| DurationError::Calendar)?;
    Duration::try_from(duration).map_err(|_| DurationError::Negative)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_in_both_forms() {
        let ms = |text: &str| parse(text).map(|duration| duration.as_millis());
        for (text, millis) in [("200ms", 200), ("15m", 900_000), ("1h30m", 5_400_000), ("1h 30m", 5_400_000), ("PT15M", 900_000)] {
            assert_eq!(ms(text), Ok(millis), "{text}");
        }
        assert_eq!((ms("1.5s"), ms("7d"), ms("0s")), (Ok(1_500), Ok(7 * 86_400_000), Ok(0)));
        for wrong in ["", "5", "5x", "s", "1h30", "soon", "99999999999999h"] {
            assert_eq!(ms(wrong), Err(DurationError::Unreadable), "{wrong}");
        }
        assert_eq!(
            (ms("1mo"), ms("1y"), ms("-5s")),
            (Err(DurationError::Calendar), Err(DurationError::Calendar), Err(DurationError::Negative))
        );
    }
}

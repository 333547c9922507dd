//! Logs: structured, on stderr, so that stdout holds answers only.

use super::fields::PlainFields;
use super::one_line::OneLine;
use std::io;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

/// How logs are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line, for collectors.
    Json,
}

/// What is logged and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// How.
    pub format: LogFormat,
    /// What: a level, or levels by module as [`EnvFilter`] reads them. Checked when the settings were read.
    pub level: String,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { format: LogFormat::Text, level: "info".to_owned() }
    }
}

/// Whether [`EnvFilter`] can read this, and if not, why.
pub(crate) fn check_level(level: &str) -> Result<(), String> {
    let expected = "expected error, warn, info, debug or trace, or levels by module such as info,sagamq_broker=debug";
    // The filter reads any single word as the name of a module, which would silence everything: a misspelt level must be an error.
    let misspelt = level.split(',').any(|part| !part.contains('=') && part.trim().parse::<tracing::Level>().is_err());
    if misspelt || EnvFilter::try_new(level).is_err() { Err(expected.to_owned()) } else { Ok(()) }
}

/// Sends the logs of this process to stderr from now on. Called once; in a process that logs already (a test), it changes nothing.
pub fn init(config: &LogConfig) {
    let has_colours = io::IsTerminal::is_terminal(&io::stderr());
    let builder = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(&config.level))
        .with_writer(io::stderr)
        .with_span_events(FmtSpan::NONE)
        .with_ansi(has_colours);
    // Fails only if the process has a subscriber, which is then as good.
    drop(match config.format {
        LogFormat::Text if has_colours => builder.with_writer(move || OneLine { to: io::stderr(), has_colours }).try_init(),
        LogFormat::Text => builder.with_writer(move || OneLine { to: io::stderr(), has_colours }).fmt_fields(PlainFields).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(true).with_span_list(false).try_init(),
    });
}

/// What the client does, for `--verbose`.
pub(crate) fn to_stderr_for_a_client() {
    init(&LogConfig { format: LogFormat::Text, level: "warn,sagamq=debug,sagamq_sdk=debug".to_owned() });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_level_is_refused() {
        for good in ["info", "WARN", "info,sagamq_broker=debug", "trace"] {
            assert_eq!(check_level(good), Ok(()), "{good}");
        }
        for bad in ["", "loud", "info,loud", "sagamq_broker=loud"] {
            assert!(check_level(bad).is_err(), "{bad}");
        }
    }
}

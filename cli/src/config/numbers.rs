//! Numbers, sizes and words of the settings, with what they may be.

use crate::args::values;
use crate::serve::log::LogFormat;
use sagamq_api::limits::QUOTA_BYTES_MAX;
use sagamq_saga::OrchestratorConfig;
use sagamq_server::run::ServeConfig;

pub(super) fn scheduled(text: &str) -> Result<u64, String> {
    let records = text.parse().ok().filter(|records| (1..=1_000_000_000).contains(records));
    records.ok_or_else(|| "expected a number from 1 to 1000000000".to_owned())
}

pub(super) fn shards(text: &str) -> Result<u16, String> {
    let shards = text.parse().ok().filter(|shards| (1..=ServeConfig::SHARDS_MAX).contains(shards));
    shards.ok_or_else(|| format!("expected a number from 1 to {}", ServeConfig::SHARDS_MAX))
}

pub(super) fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("expected text or json".to_owned()),
    }
}

pub(super) fn memory(text: &str) -> Result<usize, String> {
    /// Less would be a handful of records.
    const MIN: usize = 1 << 20;
    let bytes = usize::try_from(values::size(text)?).unwrap_or(usize::MAX);
    if bytes < MIN { Err("expected at least 1 MiB".to_owned()) } else { Ok(bytes) }
}

/// Bytes in a second.
pub(super) fn rate(text: &str) -> Result<u64, String> {
    let bytes = values::size(text)?;
    if bytes <= QUOTA_BYTES_MAX { Ok(bytes) } else { Err("expected at most 1024 GiB".to_owned()) }
}

pub(super) fn calls(text: &str) -> Result<usize, String> {
    let (least, most) = OrchestratorConfig::PARTICIPANT_CALLS_MAX.into_inner();
    let calls = text.parse().ok().filter(|calls| (least..=most).contains(calls));
    calls.ok_or_else(|| format!("expected a number from {least} to {most}"))
}

pub(super) fn open_sagas(text: &str) -> Result<usize, String> {
    let (least, most) = OrchestratorConfig::OPEN_MAX.into_inner();
    let sagas = text.parse().ok().filter(|sagas| (least..=most).contains(sagas));
    sagas.ok_or_else(|| format!("expected a number from {least} to {most}"))
}

pub(super) fn verify_states(text: &str) -> Result<usize, String> {
    let (least, most) = OrchestratorConfig::VERIFY_STATES_MAX.into_inner();
    let states = text.parse().ok().filter(|states| (least..=most).contains(states));
    states.ok_or_else(|| format!("expected a number from {least} to {most}"))
}

pub(super) fn at_most(text: &str, max: usize) -> Result<usize, String> {
    text.parse().ok().filter(|number| (1..=max).contains(number)).ok_or_else(|| format!("expected a number from 1 to {max}"))
}

pub(super) fn in_flight(text: &str) -> Result<usize, String> {
    /// The largest body must be able to pass, or it would be refused for ever with "try again".
    const MIN: usize = sagamq_api::limits::BODY_BYTES_MAX;
    let bytes = usize::try_from(values::size(text)?).unwrap_or(usize::MAX);
    if bytes < MIN { Err(format!("expected at least {} MiB, the size of the largest request", MIN >> 20)) } else { Ok(bytes) }
}

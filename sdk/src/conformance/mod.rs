//! The conformance suite: calls a participant of sagas over HTTP as the orchestrator may call it, in every bad order, and judges its answers.
//!
//! It needs no server of SagaMQ, only the participant: any program in any language that takes `POST {base}/{operation}`. What the suite cannot
//! see in answers it sees by a [`Probe`]: a URL of the participant that counts effects. Run it with `sagamq conformance`, or from a test:
//!
//! ```no_run
//! use sagamq_sdk::conformance::{Profile, Verdict, run};
//! use serde_json::json;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let profile: Profile = serde_json::from_value(json!({
//!     "operation": "reserve",
//!     "compensation": "release",
//!     "arguments": { "order": "${ saga.key }", "pieces": 1 },
//!     "refused": { "order": "${ saga.key }", "pieces": 1_000_000 },
//!     "probe": { "url": "http://127.0.0.1:8080/stock", "pointer": "/reserved" },
//! }))?;
//! let report = run("http://127.0.0.1:8080/saga", &profile).await?;
//! assert!(report.checks.iter().all(|check| check.verdict != Verdict::Fail), "{report:#?}");
//! # Ok(()) }
//! ```

mod answer;
mod case;
mod checks;
mod placeholder;
mod probe;
mod profile;
mod report;
mod step;
mod subject;

pub use checks::list;
pub use profile::{Probe, Profile};
pub use report::{CheckReport, Report, Verdict};
pub use subject::ConformanceError;

use case::Stop;
use subject::Subject;

/// Runs every check against the participant at `base`, one after the other.
///
/// # Errors
/// [`ConformanceError`] when there is nothing to judge: the profile cannot be used, or nobody answers at `base`.
pub async fn run(base: &str, profile: &Profile) -> Result<Report, ConformanceError> {
    let subject = Subject::new(base, profile)?;
    subject.is_there().await?;
    let mut report = Report::new(base, profile);
    let mut first_failed = false;
    for check in checks::ALL {
        let finding = if check.needs_success && first_failed {
            Err(Stop::NotRun(format!("`{}` did not pass", checks::FIRST_CALL)))
        } else {
            (check.run)(&subject).await
        };
        first_failed |= check.name == checks::FIRST_CALL && finding.is_err();
        report.add(check.name, finding);
    }
    Ok(report)
}

//! `sagamq conformance` against real participants: one that is right and five that are wrong, the shop's, and those in other languages.

mod languages;
mod shop;
mod stock;
mod wrong;

use sagamq_sdk::conformance::{Report, Verdict};
use sagamq_tests::server::binary;
use std::process::Command;
use std::time::Duration;

/// Far beyond what a test needs: only a hang meets it.
const LIMIT: Duration = Duration::from_secs(300);

/// What the command says of a participant, and its exit code.
async fn conformance(url: &str, args: &[&str]) -> (Option<i32>, Report) {
    let mut command = Command::new(binary("sagamq"));
    command.args(["conformance", url, "--json"]).args(args);
    let run = tokio::task::spawn_blocking(move || command.output());
    let run = tokio::time::timeout(LIMIT, run).await.expect("it ends").expect("no panic").expect("it runs");
    let out = String::from_utf8_lossy(&run.stdout);
    let report = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{}", String::from_utf8_lossy(&run.stderr)));
    (run.status.code(), report)
}

/// The names of the checks with this verdict.
fn with(report: &Report, verdict: Verdict) -> Vec<&str> {
    report.checks.iter().filter(|check| check.verdict == verdict).map(|check| check.check.as_str()).collect()
}

/// Every check passed, but those that could not run.
fn conforms(what: &str, (code, report): &(Option<i32>, Report), not_run: &[&str]) {
    assert_eq!(with(report, Verdict::Fail), [""; 0], "{what}: {report:#?}");
    assert_eq!(with(report, Verdict::NotRun), not_run, "{what}: {report:#?}");
    assert_eq!((*code, report.checks.len()), (Some(0), report.passed as usize + not_run.len()), "{what}: {report:#?}");
}

/// Waits until a participant answers.
async fn answers(url: &str) {
    let asking = async {
        while reqwest::get(url).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LIMIT, asking).await.unwrap_or_else(|_| panic!("nobody answers at {url}"));
}

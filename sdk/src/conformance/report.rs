//! What the suite found.

use super::case::{Finding, Stop};
use super::profile::Profile;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What became of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The participant did what it must.
    Pass,
    /// It did not.
    Fail,
    /// Nobody looked, and why is told.
    NotRun,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Pass => "pass",
            Self::Fail => "FAIL",
            Self::NotRun => "not run",
        })
    }
}

/// What one check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckReport {
    /// Name of the check; it does not change.
    pub check: String,
    /// What became of it.
    pub verdict: Verdict,
    /// What was seen, or why it was not looked at.
    pub why: String,
}

/// What all checks found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Base URL of the participant.
    pub url: String,
    /// The operation that was called as an action.
    pub operation: String,
    /// The operation that undoes it.
    pub compensation: Option<String>,
    /// Whether effects were counted by a probe; else only answers were judged.
    pub effects_counted: bool,
    /// How many checks passed.
    pub passed: u32,
    /// How many failed.
    pub failed: u32,
    /// How many were not run.
    pub not_run: u32,
    /// Each check, in the order in which they ran.
    pub checks: Vec<CheckReport>,
}

impl Report {
    pub(super) fn new(url: &str, profile: &Profile) -> Self {
        Self {
            url: url.to_owned(),
            operation: profile.operation.clone(),
            compensation: profile.compensation.clone(),
            effects_counted: profile.probe.is_some(),
            passed: 0,
            failed: 0,
            not_run: 0,
            checks: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, check: &str, finding: Finding) {
        let (verdict, count, why) = match finding {
            Ok(why) => (Verdict::Pass, &mut self.passed, why),
            Err(Stop::Fail(why)) => (Verdict::Fail, &mut self.failed, why),
            Err(Stop::NotRun(why)) => (Verdict::NotRun, &mut self.not_run, why),
        };
        *count += 1;
        self.checks.push(CheckReport { check: check.to_owned(), verdict, why });
    }
}

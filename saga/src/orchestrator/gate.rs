//! The gate before publishing: a definition is run against every failure, within bounds, before it is stored.

use super::door::Orchestrator;
use super::places::Places;
use super::publish::PublishError;
use crate::dsl::Compiled;
use crate::verify::{Bounds, Subject, samples, verify};
use core::time::Duration;
use sagamq_api::saga::Mode;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

/// States that are looked at when only the request asks for it.
const STATES_MAX: usize = 200_000;

/// How long it may take.
const TIME_MAX: Duration = Duration::from_secs(20);

/// Definitions that are verified at a time; others wait.
static PLACES: Places = Places::new(1, TIME_MAX);

impl Orchestrator {
    /// That nothing is wrong with the definition, if the settings or the request ask for it. Transactions are not looked at.
    pub(super) async fn require_verified(&self, compiled: &Compiled, is_asked: bool) -> Result<(), PublishError> {
        let states = match self.0.verify_states_max {
            0 if is_asked => STATES_MAX,
            states => states,
        };
        if states == 0 || compiled.definition.mode != Mode::Saga {
            return Ok(());
        }
        let compiled = compiled.clone();
        PLACES.run(move |stop| look(&compiled, states, &stop)).await
    }
}

fn look(compiled: &Compiled, states: usize, stop: &AtomicBool) -> Result<(), PublishError> {
    let data = samples(&compiled.definition, None, &BTreeMap::new());
    let data = data.map_err(|error| PublishError::NotVerified(format!("{error}; the server makes all data up")))?;
    for sample in &data.samples {
        let subject = Subject { stop: Some(stop), ..Subject::new(&compiled.definition, &compiled.invariants, sample) };
        let report = verify(subject, Bounds { states, ..Bounds::default() }, None);
        if let Some(broken) = report.violations.into_iter().next() {
            return Err(PublishError::Broken { property: broken.property, what: broken.what, timeline: broken.timeline });
        }
        if !report.complete {
            let bound = if stop.load(Ordering::Relaxed) { format!("{TIME_MAX:?}, which is fixed,") } else { format!("{states} states") };
            let seen = report.states;
            return Err(PublishError::NotVerified(format!("the bound of {bound} was hit, and {seen} states were looked at")));
        }
    }
    Ok(())
}

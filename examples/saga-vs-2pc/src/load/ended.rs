//! A transaction at its end, and when its outcome was known.

use super::{LoadError, Started};
use sagamq_api::saga::{SagaDescription, SagaState};
use sagamq_sdk::Client;
use serde_json::Value;
use tokio::task::JoinSet;
use uuid::Uuid;

/// Histories that are asked for at a time.
const AT_A_TIME: usize = 16;

/// Events with which the outcome is known, before everything has ended: from here on effects are undone, or every branch will commit.
const DECIDED: [&str; 4] = ["saga_compensating", "saga_failed", "commit_decided", "abort_decided"];

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// All of it.
    Done,
    /// Nothing of it.
    Undone,
    /// Nobody says: an operator has to look.
    Blocked,
}

/// A transaction at its end. Times are in microseconds since 1970; the coordinator's have milliseconds.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Its key.
    pub key: String,
    /// Its id.
    pub id: Uuid,
    /// What it was started with.
    pub input: Value,
    /// How it ended.
    pub end: End,
    /// Why, if it is not done.
    pub reason: Option<String>,
    /// When it should have been started.
    pub due_us: u64,
    /// When its outcome was decided.
    pub known_us: u64,
    /// When nothing was left to do for it.
    pub finished_us: u64,
    /// When its client saw that.
    pub seen_us: u64,
}

impl Ended {
    pub(super) fn new(started: Started, input: Value, description: &SagaDescription, seen_us: u64) -> Self {
        let summary = &description.summary;
        let end = match summary.state {
            SagaState::Completed => End::Done,
            SagaState::Compensated | SagaState::Failed => End::Undone,
            _ => End::Blocked,
        };
        let finished_us = summary.updated_at_ms * 1_000;
        Self {
            key: started.key,
            id: started.id,
            input,
            end,
            reason: summary.failure.as_ref().map(|failure| failure.code.clone()),
            due_us: started.due_us,
            known_us: finished_us,
            finished_us,
            seen_us,
        }
    }

    /// From when it should have been started until its outcome was decided, in microseconds.
    #[must_use]
    pub fn known_after_us(&self) -> u64 {
        self.known_us.saturating_sub(self.due_us)
    }

    /// From when it should have been started until nothing was left to do, in microseconds.
    #[must_use]
    pub fn finished_after_us(&self) -> u64 {
        self.finished_us.saturating_sub(self.due_us)
    }
}

/// Looks up when the outcomes were decided.
pub(super) async fn settle(client: &Client, ended: Vec<Ended>) -> Result<Vec<Ended>, LoadError> {
    let mut settled = Vec::with_capacity(ended.len());
    let mut tasks = JoinSet::new();
    for mut one in ended {
        while tasks.len() >= AT_A_TIME {
            settled.push(tasks.join_next().await.expect("there are some").expect("no panic")?);
        }
        let client = client.clone();
        tasks.spawn(async move {
            let history = client.sagas().history(one.id).await?;
            if let Some(event) = history.events.iter().find(|event| DECIDED.contains(&event.r#type.as_str())) {
                one.known_us = event.at_ms * 1_000;
            }
            Ok::<_, LoadError>(one)
        });
    }
    while let Some(task) = tasks.join_next().await {
        settled.push(task.expect("no panic")?);
    }
    Ok(settled)
}

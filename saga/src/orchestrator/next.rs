//! Several replies at once, and the next calls for the worker: those that wait, and those that follow from the replies, which are leased in
//! the commits that send them.

use super::complete::CallError;
use super::door::Orchestrator;
use core::time::Duration;
use futures_util::future::{join, join_all};
use sagamq_api::headers::{TRACEPARENT, TRACESTATE, saga as headers};
use sagamq_api::limits::{RECEIPTS_MAX, WAIT_MS_MAX};
use sagamq_api::queue::TerminateRequest;
use sagamq_api::saga::{CompleteCalls, CompletedCall, NextCall, NextCalls, WORKER_GROUP};
use sagamq_api::{GroupName, JsonText, TopicName};
use sagamq_broker::{Delivered, ReceiveError, Waiting};
use std::sync::Arc;
use tokio::time::Instant;

/// Command topics of one request.
const TOPICS_MAX: usize = 64;

/// Why several replies were not looked at.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompletionError {
    /// There are too many.
    #[error("`calls` has {0} replies, at most {RECEIPTS_MAX} are allowed")]
    TooMany(usize),
    /// The topics of `next` are none, or too many.
    #[error("`next.topics` has {0} topics, allowed are 1 to {TOPICS_MAX}")]
    Topics(usize),
    /// It waits too long.
    #[error("`next.wait_ms` is {0}, allowed is 0 to {WAIT_MS_MAX}")]
    WaitTooLong(u64),
    /// There is nothing in the request.
    #[error("the request has neither `calls` nor `next`")]
    Empty,
}

/// What became of several replies.
#[derive(Debug)]
pub struct Completed {
    /// Of each, in their order.
    pub calls: Vec<Result<CompletedCall, CallError>>,
    /// What is leased to the worker next, or why that could not be asked for.
    pub next: Result<Arc<[NextCall]>, ReceiveError>,
}

impl Orchestrator {
    /// Applies several replies, each by itself, and leases the next calls if they are asked for. With a key, the same request again gets
    /// the same leases.
    ///
    /// # Errors
    /// When the request asks for more than there may be. What becomes of each reply, and of `next`, is in the answer.
    pub async fn complete_many(&self, request: CompleteCalls, key: Option<String>) -> Result<Completed, CompletionError> {
        let CompleteCalls { calls, next } = request;
        if calls.len() > RECEIPTS_MAX {
            return Err(CompletionError::TooMany(calls.len()));
        }
        if let Some(NextCalls { topics, wait_ms, .. }) = &next {
            if topics.is_empty() || topics.len() > TOPICS_MAX {
                return Err(CompletionError::Topics(topics.len()));
            }
            if let Some(wait_ms) = wait_ms.filter(|&wait_ms| wait_ms > WAIT_MS_MAX) {
                return Err(CompletionError::WaitTooLong(wait_ms));
            }
        } else if calls.is_empty() {
            return Err(CompletionError::Empty);
        }
        let may_wait = calls.is_empty();
        let completing = join_all(calls.into_iter().map(|call| self.complete(call)));
        let Some(next) = next else {
            return Ok(Completed { calls: completing.await, next: Ok(Arc::default()) });
        };
        let given = key.map(|key| self.0.given.of(key, self.broker().holder(), &next, self.0.broker.clock().now_ms()));
        if let Some(before) = given.as_ref().and_then(|given| given.get()) {
            return Ok(Completed { calls: completing.await, next: Ok(Arc::clone(before)) });
        }
        let (calls, next) = match self.waiting(&next) {
            Ok(waiting) => self.complete_beside(completing, waiting, &next, may_wait).await,
            Err(error) => (completing.await, Err(error)),
        };
        if let (Some(given), Ok(next)) = (given, &next) {
            self.0.given.keep(given, next);
        }
        Ok(Completed { calls, next })
    }

    fn waiting(&self, next: &NextCalls) -> Result<Waiting, ReceiveError> {
        let workers: GroupName = WORKER_GROUP.parse().expect("a constant that is a legal name");
        let groups: Vec<(TopicName, GroupName)> = next.topics.iter().map(|topic| (topic.clone(), workers.clone())).collect();
        self.broker().waiting(&groups, next.max, next.lease_ms)
    }

    /// The worker waits from the beginning, so that what follows from its own replies can be leased with them.
    async fn complete_beside(
        &self,
        completing: impl Future<Output = Vec<Result<CompletedCall, CallError>>>,
        mut waiting: Waiting,
        next: &NextCalls,
        may_wait: bool,
    ) -> (Vec<Result<CompletedCall, CallError>>, Result<Arc<[NextCall]>, ReceiveError>) {
        let (calls, begun) = join(completing, waiting.begin()).await;
        let wait_ms = if may_wait { next.wait_ms.unwrap_or(0) } else { 0 };
        let waited = match begun {
            Ok(()) => waiting.wait_until(Instant::now() + Duration::from_millis(wait_ms)).await,
            Err(error) => Err(error),
        };
        match waited {
            // What it was given before the error is not lost by it.
            Err(error) if waiting.is_empty() => (calls, Err(error)),
            Ok(()) | Err(_) => (calls, Ok(self.next_calls(waiting.take().await).await)),
        }
    }

    /// Those of older sagas first. A record that is no call is given up: nobody can do it.
    async fn next_calls(&self, delivered: Vec<(TopicName, Delivered)>) -> Arc<[NextCall]> {
        let mut calls = Vec::with_capacity(delivered.len());
        for (topic, delivered) in delivered {
            let Delivered { receipt, attempt, lease_until_ms, handed_out_ago_ms, record, .. } = delivered;
            let started_at_ms: u64 = record.payload.headers.get(headers::STARTED_AT).and_then(|at_ms| at_ms.parse().ok()).unwrap_or(0);
            let header = |name| record.payload.headers.get(name).map(str::to_owned);
            let (traceparent, tracestate) = (header(TRACEPARENT), header(TRACESTATE));
            match JsonText::parse(record.payload.value.as_deref().unwrap_or_default()) {
                Ok(call) => {
                    let next = NextCall { topic, receipt, attempt, lease_until_ms, handed_out_ago_ms, traceparent, tracestate, call };
                    calls.push((started_at_ms, next));
                }
                Err(error) => self.give_up(&topic, receipt, format!("the record is no call of a saga: {error}")).await,
            }
        }
        calls.sort_by_key(|(started_at_ms, _)| *started_at_ms);
        calls.into_iter().map(|(_, call)| call).collect()
    }

    async fn give_up(&self, topic: &TopicName, receipt: String, reason: String) {
        let workers: GroupName = WORKER_GROUP.parse().expect("a constant that is a legal name");
        let request = TerminateRequest { receipts: vec![receipt], reason };
        if let Err(error) = self.broker().terminate(topic, &workers, &request).await {
            tracing::warn!(%topic, %error, "a record that is no call could not be given up; it will be delivered again");
        }
    }
}

//! The worker's way to the server: replies that come together go in one request, which asks for the next calls as well.
//!
//! A request that asks for calls may be held back by the server until there are some. Where calls come several at a time there are two: while the
//! answer of one is on its way, and its handlers begin, the other one waits, so that calls are leased in the commits that send them. Replies that
//! come meanwhile go in requests of their own. Where calls come one by one there is one, and it goes with the reply to the call before: what follows
//! from that reply is in its answer.

use crate::client::Client;
use crate::consumer::{Receive, Receiving};
use crate::error::ClientError;
use sagamq_api::headers::{TRACEPARENT, TRACESTATE};
use sagamq_api::limits::RECEIPTS_MAX;
use sagamq_api::queue::{Delivery, NackRequest, ReceiveRequest, ReceiveResponse};
use sagamq_api::record::ConsumedRecord;
use sagamq_api::saga::{
    CallOutcome, CallResult, CompleteCall, CompleteCalls, CompletedCall, CompletedCalls, NextCall, NextCalls, WORKER_GROUP,
};
use sagamq_api::{Offset, PartitionId, TopicName};
use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

/// Requests that ask for calls and are on their way at a time.
pub(super) const REQUESTS_WITH_NEXT: usize = 2;

/// Requests with replies only that are on their way at a time: while they are, the next ones gather.
const REPLIES_AT_ONCE: usize = 2;

/// Bytes of replies from which on no more are added to a request. One reply alone may have more.
const REPLIES_BYTES_MAX: usize = 1024 * 1024;

/// What a reply takes beside its output, about.
const REPLY_BYTES: usize = 512;

type Answer<T> = oneshot::Sender<Result<T, ClientError>>;
type Reply = (CompleteCall, Answer<CompletedCall>);
type Next = (ReceiveRequest, Answer<ReceiveResponse>);

enum Want {
    Reply(Reply),
    Next(Next),
}

/// Where handlers give their replies; clones are the same.
#[derive(Clone, Debug)]
pub(super) struct Clerk(mpsc::UnboundedSender<Want>);

impl Clerk {
    /// A clerk for the calls of this topic, and its work: it ends when the last handle is gone and everything is answered.
    pub(super) fn new(client: Client, topic: TopicName) -> (Self, impl Future<Output = ()> + Send) {
        let (wants, receiver) = mpsc::unbounded_channel();
        let desk = Desk { client, topic, replies: VecDeque::new(), next: VecDeque::new(), requests: JoinSet::new() };
        (Self(wants), desk.work(receiver))
    }

    /// Gives a reply to the server: it is applied and durable when this returns.
    pub(super) async fn reply(&self, reply: CompleteCall) -> Result<CompletedCall, ClientError> {
        self.ask(|answer| Want::Reply((reply, answer))).await
    }

    /// Asks for calls.
    pub(super) fn receive(&self) -> Receive {
        let clerk = self.clone();
        Arc::new(move |request| -> Receiving {
            let clerk = clerk.clone();
            Box::pin(async move { clerk.ask(|answer| Want::Next((request, answer))).await })
        })
    }

    async fn ask<T>(&self, want: impl FnOnce(Answer<T>) -> Want) -> Result<T, ClientError> {
        let (answer, answered) = oneshot::channel();
        // Without an answer the runtime is going down.
        self.0.send(want(answer)).map_err(|_| ClientError::Closed)?;
        answered.await.map_err(|_| ClientError::Abandoned)?
    }
}

struct Desk {
    client: Client,
    topic: TopicName,
    replies: VecDeque<Reply>,
    next: VecDeque<Next>,
    requests: JoinSet<()>,
}

impl Desk {
    async fn work(mut self, mut wants: mpsc::UnboundedReceiver<Want>) {
        let mut is_open = true;
        while is_open || !self.requests.is_empty() || !self.replies.is_empty() {
            tokio::select! {
                want = wants.recv(), if is_open => match want {
                    Some(want) => self.take_in(want),
                    None => is_open = false,
                },
                Some(_) = self.requests.join_next() => {}
            }
            if !self.next.is_empty() {
                // Quick handlers have their turn first: what they reply goes in the same request.
                tokio::task::yield_now().await;
            }
            while let Ok(want) = wants.try_recv() {
                self.take_in(want);
            }
            self.send();
        }
    }

    fn take_in(&mut self, want: Want) {
        match want {
            Want::Reply(reply) => self.replies.push_back(reply),
            Want::Next(next) => self.next.push_back(next),
        }
    }

    fn send(&mut self) {
        while !self.next.is_empty() || (!self.replies.is_empty() && self.requests.len() < REPLIES_AT_ONCE + REQUESTS_WITH_NEXT) {
            let (client, topic, replies, next) = (self.client.clone(), self.topic.clone(), self.some_replies(), self.next.pop_front());
            self.requests.spawn(async move { request(&client, topic, replies, next).await });
        }
    }

    /// As many as go into one request.
    fn some_replies(&mut self) -> Vec<Reply> {
        let (mut bytes, mut count) = (0, 0);
        for (call, _) in &self.replies {
            bytes += size(call);
            if count > 0 && (bytes > REPLIES_BYTES_MAX || count == RECEIPTS_MAX) {
                break;
            }
            count += 1;
        }
        self.replies.drain(..count).collect()
    }
}

fn size(call: &CompleteCall) -> usize {
    match &call.reply {
        CallOutcome::Succeeded { output } => REPLY_BYTES + output.len(),
        CallOutcome::Refused { failure } | CallOutcome::Unknown { failure, .. } => REPLY_BYTES + failure.message.len(),
        CallOutcome::Ongoing { .. } => REPLY_BYTES,
    }
}

async fn request(client: &Client, topic: TopicName, replies: Vec<Reply>, next: Option<Next>) {
    let (calls, answers): (Vec<CompleteCall>, Vec<_>) = replies.into_iter().unzip();
    let wanted = next.as_ref().map(|(request, _)| NextCalls {
        topics: vec![topic.clone()],
        max: request.max_records.unwrap_or(1),
        wait_ms: request.wait_ms,
        lease_ms: request.lease_ms,
    });
    let body = CompleteCalls { calls, next: wanted };
    let sagas = client.sagas();
    let mut next = next.map(|(_, answer)| answer);
    let answered = match &mut next {
        // A long poll that nobody waits for any more is let go, and the server leases nothing to it.
        Some(next) if body.calls.is_empty() => tokio::select! {
            answered = sagas.complete_many(&body) => answered,
            () = next.closed() => return,
        },
        _ => sagas.complete_many(&body).await,
    };
    match answered {
        Ok(CompletedCalls { calls, next: leased, next_problem }) => {
            for (answer, result) in answers.into_iter().zip(calls) {
                // A handler that was cut off waits no more.
                let _ = answer.send(match result {
                    CallResult::Completed(completed) => Ok(completed),
                    CallResult::Problem(problem) => Err(ClientError::Problem(problem)),
                });
            }
            if let Some(next) = next {
                let told = match next_problem {
                    Some(problem) => Err(ClientError::Problem(problem)),
                    None => Ok(ReceiveResponse { deliveries: leased.into_iter().map(delivery).collect(), empty_reason: None }),
                };
                if let Err(Ok(unheard)) = next.send(told) {
                    give_back(client, &topic, unheard).await;
                }
            }
        }
        Err(error) => {
            let is_refused = !error.is_retryable() && !error.is_outcome_unknown();
            if let Some(next) = next {
                // What is refused because of the replies is asked for again, without them. Nobody waits, then nobody need know.
                let none = ReceiveResponse { deliveries: Vec::new(), empty_reason: None };
                let _ = next.send(if is_refused && !answers.is_empty() { Ok(none) } else { Err(error.clone()) });
            }
            let is_many = answers.len() > 1;
            for (call, answer) in body.calls.into_iter().zip(answers) {
                // What cannot be taken of one must not be held against the others.
                let result = if is_refused && is_many { sagas.complete(&call).await } else { Err(error.clone()) };
                let _ = answer.send(result);
            }
        }
    }
}

/// The call as a record of its topic: that is what it is.
fn delivery(next: NextCall) -> Delivery {
    let NextCall { receipt, attempt, lease_until_ms, handed_out_ago_ms, call, traceparent, tracestate, .. } = next;
    let headers = [(TRACEPARENT, traceparent), (TRACESTATE, tracestate)];
    let record = ConsumedRecord {
        partition: PartitionId(0),
        offset: Offset(0),
        timestamp_ms: 0,
        key: None,
        key_base64: None,
        value: Some(call),
        value_base64: None,
        headers: headers.into_iter().filter_map(|(name, value)| Some((name, value?))).collect(),
    };
    Delivery { receipt, attempt, returned: 0, lease_until_ms, handed_out_ago_ms, record }
}

async fn give_back(client: &Client, topic: &TopicName, unheard: ReceiveResponse) {
    let receipts: Vec<String> = unheard.deliveries.into_iter().map(|delivery| delivery.receipt).collect();
    if receipts.is_empty() {
        return;
    }
    let workers = WORKER_GROUP.parse().expect("the name of the workers' group is a legal name");
    let request = NackRequest { receipts, delay_ms: None, reason: None, not_begun: true };
    if let Err(error) = client.nack(topic, &workers, request).await {
        tracing::warn!(%topic, %error, "calls that came too late could not be given back; their leases run out");
    }
}

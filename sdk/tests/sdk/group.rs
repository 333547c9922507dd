//! A queue group in memory behind the scripted server: it gives each record out once, remembers how each was settled, and can be
//! told to fail.

use crate::support::{Answer, Seen, Server};
use sagamq_sdk::api::ErrorCode;
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Notify;

/// What a group was asked about a record.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Settled {
    Acked,
    Nacked { delay_ms: Option<u64>, reason: Option<String> },
    GivenBack,
    Terminated { reason: String },
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Value>,
    settled: BTreeMap<String, Settled>,
    extended: BTreeMap<String, usize>,
    failing: VecDeque<(String, Answer)>,
    count: usize,
}

/// The group. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Group {
    state: Arc<Mutex<State>>,
    arrived: Arc<Notify>,
}

impl Group {
    /// Puts records in; their receipts are `r0`, `r1`, … in order.
    pub(crate) fn put(&self, values: impl IntoIterator<Item = Value>) {
        self.put_with_attempt(1, values);
    }

    /// As [`Self::put`], for records that are delivered for the so-manyth time.
    pub(crate) fn put_with_attempt(&self, attempt: u32, values: impl IntoIterator<Item = Value>) {
        let mut state = self.state.lock().expect("no panic");
        for value in values {
            let offset = state.count;
            state.count += 1;
            state.waiting.push_back(json!({
                "receipt": format!("r{offset}"), "attempt": attempt, "lease_until_ms": 0,
                "partition": 0, "offset": offset, "timestamp_ms": 0, "value": value,
            }));
        }
        drop(state);
        self.arrived.notify_waiters();
    }

    /// As [`Group::put`], of records that came back so often from consumers that had not begun.
    pub(crate) fn put_returned(&self, returned: u32, values: impl IntoIterator<Item = Value>) {
        let before = self.state.lock().expect("no panic").waiting.len();
        self.put(values);
        for record in self.state.lock().expect("no panic").waiting.iter_mut().skip(before) {
            record["returned"] = json!(returned);
        }
    }

    /// As [`Group::put`], of records that were first handed out so long ago.
    pub(crate) fn put_again(&self, values: impl IntoIterator<Item = Value>, handed_out_ago_ms: u64) {
        let before = self.state.lock().expect("no panic").waiting.len();
        self.put(values);
        for record in self.state.lock().expect("no panic").waiting.iter_mut().skip(before) {
            record["handed_out_ago_ms"] = json!(handed_out_ago_ms);
        }
    }

    /// The next request with this verb gets this answer instead.
    pub(crate) fn fail_next(&self, verb: &str, answer: Answer) {
        self.state.lock().expect("no panic").failing.push_back((verb.to_owned(), answer));
    }

    pub(crate) fn settled(&self) -> BTreeMap<String, Settled> {
        self.state.lock().expect("no panic").settled.clone()
    }

    /// How often a record's lease was extended.
    pub(crate) fn extended(&self, receipt: &str) -> usize {
        self.state.lock().expect("no panic").extended.get(receipt).copied().unwrap_or(0)
    }

    /// Records that were not given out.
    pub(crate) fn waiting(&self) -> usize {
        self.state.lock().expect("no panic").waiting.len()
    }

    /// A server of this group alone.
    pub(crate) async fn serve(&self) -> Server {
        let group = self.clone();
        Server::start(move |seen| {
            let group = group.clone();
            async move { group.answer(seen).await }
        })
        .await
    }

    pub(crate) async fn answer(&self, seen: Seen) -> Answer {
        if let Some(answer) = self.scripted_failure(seen.verb()) {
            return answer;
        }
        match seen.verb() {
            "receive" => self.receive(&seen).await,
            "ack" | "nack" | "terminate" | "extend" => self.settle(&seen),
            _ => Answer::Problem(ErrorCode::RouteNotFound),
        }
    }

    fn scripted_failure(&self, verb: &str) -> Option<Answer> {
        let mut state = self.state.lock().expect("no panic");
        let place = state.failing.iter().position(|(failing, _)| failing == verb)?;
        state.failing.remove(place).map(|(_, answer)| answer)
    }

    async fn receive(&self, seen: &Seen) -> Answer {
        let most = seen.json["max_records"].as_u64().expect("a number") as usize;
        let wait = Duration::from_millis(seen.json["wait_ms"].as_u64().expect("a number"));
        let take = || {
            let mut state = self.state.lock().expect("no panic");
            let count = state.waiting.len().min(most);
            state.waiting.drain(..count).collect::<Vec<Value>>()
        };
        let arrived = self.arrived.notified();
        tokio::pin!(arrived);
        arrived.as_mut().enable();
        let mut deliveries = take();
        if deliveries.is_empty() {
            let _ = tokio::time::timeout(wait, arrived).await;
            deliveries = take();
        }
        Answer::Json(200, json!({"deliveries": deliveries}))
    }

    fn settle(&self, seen: &Seen) -> Answer {
        let mut state = self.state.lock().expect("no panic");
        let mut results = Vec::new();
        for receipt in seen.json["receipts"].as_array().expect("receipts") {
            let receipt = receipt.as_str().expect("text").to_owned();
            let text = |name: &str| seen.json[name].as_str().map(str::to_owned);
            let settled = match seen.verb() {
                "ack" => Settled::Acked,
                "nack" if seen.json["not_begun"] == true => Settled::GivenBack,
                "nack" => Settled::Nacked { delay_ms: seen.json["delay_ms"].as_u64(), reason: text("reason") },
                "terminate" => Settled::Terminated { reason: text("reason").expect("a reason") },
                _ => {
                    let is_open = !state.settled.contains_key(&receipt);
                    *state.extended.entry(receipt).or_default() += 1;
                    results.push(json!({"status": if is_open { "done" } else { "already_settled" }}));
                    continue;
                }
            };
            let status = if state.settled.contains_key(&receipt) { "already_settled" } else { "done" };
            state.settled.entry(receipt).or_insert(settled);
            results.push(json!({"status": status}));
        }
        Answer::Json(200, json!({"results": results}))
    }
}

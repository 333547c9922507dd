//! What workers were given under their requests' keys: a request that comes again, because its answer was lost, gets the same leases.
//!
//! It is kept in memory only, within bounds. After a restart the leases of an answer that was lost run out, as those of any worker that died.

use sagamq_api::TopicName;
use sagamq_api::saga::{NextCall, NextCalls};
use sagamq_broker::Holder;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Answers that are kept.
const ANSWERS_MAX: usize = 4_096;

/// Bytes of calls in all of them.
const BYTES_MAX: usize = 32 * 1024 * 1024;

/// What stands for a request: its key, and what it asks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Asked {
    key: String,
    /// Who asked: under the same key, somebody else asks for his own.
    holder: Option<Holder>,
    topics: Vec<TopicName>,
    max: u32,
}

/// The answers; clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Given(Arc<Mutex<Answers>>);

#[derive(Debug, Default)]
struct Answers {
    kept: HashMap<Asked, Arc<[NextCall]>>,
    /// Oldest first.
    order: VecDeque<Asked>,
    bytes: usize,
}

/// The answer of a request, if it was given before.
#[derive(Debug)]
pub(super) struct Answer {
    asked: Asked,
    before: Option<Arc<[NextCall]>>,
}

impl Answer {
    pub(super) fn get(&self) -> Option<&Arc<[NextCall]>> {
        self.before.as_ref()
    }
}

impl Given {
    fn lock(&self) -> MutexGuard<'_, Answers> {
        // What is under this lock is a memory of answers: one that is half kept is forgotten with its bytes counted, at worst.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the request was answered before, if its leases last still.
    pub(super) fn of(&self, key: String, holder: Option<Holder>, next: &NextCalls, now_ms: u64) -> Answer {
        let asked = Asked { key, holder, topics: next.topics.clone(), max: next.max };
        let before = self.lock().kept.get(&asked).filter(|calls| calls.iter().all(|call| call.lease_until_ms > now_ms)).cloned();
        Answer { asked, before }
    }

    /// Keeps an answer for a request that comes again. One without calls promises nothing.
    pub(super) fn keep(&self, answer: Answer, calls: &Arc<[NextCall]>) {
        if calls.is_empty() {
            return;
        }
        let mut answers = self.lock();
        answers.bytes += bytes(calls);
        answers.order.push_back(answer.asked.clone());
        if let Some(before) = answers.kept.insert(answer.asked, Arc::clone(calls)) {
            answers.bytes -= bytes(&before);
        }
        while answers.order.len() > ANSWERS_MAX || answers.bytes > BYTES_MAX {
            let Some(oldest) = answers.order.pop_front() else { return };
            if let Some(gone) = answers.kept.remove(&oldest) {
                answers.bytes -= bytes(&gone);
            }
        }
    }
}

fn bytes(calls: &[NextCall]) -> usize {
    calls.iter().map(|call| call.call.len() + call.receipt.len() + size_of::<NextCall>()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use sagamq_api::JsonText;

    fn calls(text: &str) -> Arc<[NextCall]> {
        let call = JsonText::parse(text.as_bytes()).expect("JSON");
        let topic = "t".parse().expect("legal");
        [NextCall {
            topic,
            receipt: "r".to_owned(),
            attempt: 1,
            lease_until_ms: 100,
            handed_out_ago_ms: None,
            traceparent: None,
            tracestate: None,
            call,
        }]
        .into()
    }

    #[test]
    fn the_same_request_gets_the_same_as_long_as_its_leases_last_and_another_does_not() {
        let given = Given::default();
        let next = |max| NextCalls { topics: vec!["t".parse().expect("legal")], max, wait_ms: None, lease_ms: None };
        let of = |key: &str, max, now_ms| given.of(key.to_owned(), None, &next(max), now_ms);
        given.keep(of("k", 1, 0), &calls("1"));
        assert_eq!(of("k", 1, 99).get(), Some(&calls("1")));
        let others = Some(Holder::of("key:other", &[7; 32]));
        assert!(given.of("k".to_owned(), others, &next(1), 99).get().is_none());
        assert!(of("k", 1, 100).get().is_none() && of("k", 2, 0).get().is_none() && of("l", 1, 0).get().is_none());
        given.keep(of("none", 1, 0), &Arc::default());
        assert!(of("none", 1, 0).get().is_none());
    }

    #[test]
    fn what_is_kept_is_bounded_in_number_and_in_bytes() {
        let given = Given::default();
        let next = NextCalls { topics: Vec::new(), max: 1, wait_ms: None, lease_ms: None };
        let large = calls(&format!("\"{}\"", "x".repeat(BYTES_MAX / 10)));
        for (count, calls) in [(2 * ANSWERS_MAX, calls("1")), (100, large)] {
            for number in 0..count {
                given.keep(given.of(number.to_string(), None, &next, 0), &calls);
            }
        }
        let answers = given.lock();
        let kept: usize = answers.kept.values().map(|calls| bytes(calls)).sum();
        assert!(answers.kept.len() <= 10 && kept == answers.bytes && kept <= BYTES_MAX, "{} {}", answers.kept.len(), answers.bytes);
    }
}

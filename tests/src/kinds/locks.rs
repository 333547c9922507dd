//! What must hold of locks over all sagas: nobody has a key before whoever had it is at its end, tokens rise, what services did under a key was done by one
//! saga after the other, and who was turned away had lost its lock.

use super::audit::{Occurred, number, text};
use super::books::Books;
use super::fence::Worked;
use sagamq_sdk::api::saga::{HistoryEvent, SagaState};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// The events with which a saga is at its end.
const ENDS: [&str; 4] = ["saga_completed", "saga_compensated", "saga_failed", "saga_terminated"];

/// How far two readings of the clock may be apart, in milliseconds: a server that is started again reads it anew.
const SLACK_MS: u64 = 100;

/// A saga that had a lock.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Hold {
    saga: Uuid,
    token: u64,
    asked_ms: u64,
    granted_ms: u64,
    end: End,
}

/// Until when it had it, in milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The end of the saga.
    At(u64),
    /// Somebody took it away.
    Broken,
    /// It has it still.
    Never,
}

/// Who had which lock, by key.
#[derive(Debug, Default)]
pub(super) struct Holds(BTreeMap<String, Vec<Hold>>);

impl Holds {
    /// Adds what a saga had.
    pub(super) fn add(&mut self, saga: Uuid, state: SagaState, history: &[HistoryEvent]) {
        let ended_ms = history.iter().rev().find(|event| ENDS.contains(&event.r#type.as_str())).map(|event| event.at_ms);
        let ended = if state.is_final() { ended_ms.map_or(End::Never, End::At) } else { End::Never };
        let is_of = |event: &HistoryEvent, kind: &str, key: &str| event.r#type == kind && text(event, "key").as_deref() == Some(key);
        for granted in history.iter().filter(|event| event.r#type == "lock_granted") {
            let (key, token) = (text(granted, "key").expect("it has a key"), number(granted, "token").expect("and a token"));
            let asked =
                history.iter().take_while(|event| event.sequence < granted.sequence).filter(|event| is_of(event, "lock_asked", &key));
            let asked_ms = asked.last().map_or(granted.at_ms, |event| event.at_ms);
            let is_broken = history.iter().any(|event| is_of(event, "lock_broken", &key) && number(event, "token") == Some(token));
            let end = if is_broken { End::Broken } else { ended };
            self.0.entry(key).or_default().push(Hold { saga, token, asked_ms, granted_ms: granted.at_ms, end });
        }
    }

    /// What is held still: by key the saga and the token.
    pub(super) fn left(&self) -> BTreeMap<String, (Uuid, u64)> {
        let all = self.0.iter().flat_map(|(key, holds)| holds.iter().map(move |hold| (key, hold)));
        all.filter(|(_, hold)| hold.end == End::Never).map(|(key, hold)| (key.clone(), (hold.saga, hold.token))).collect()
    }

    /// Looks at all of them, and at what the services did.
    pub(super) fn look(&mut self, books: &Books, wrong: &mut Vec<String>, occurred: &mut Occurred) {
        for (key, holds) in &mut self.0 {
            holds.sort_by_key(|hold| hold.token);
            for pair in holds.windows(2) {
                if let Some(what) = between(&pair[0], &pair[1]) {
                    wrong.push(format!("the lock `{key}`: {what}: {:?} and then {:?}", pair[0], pair[1]));
                }
                let has_waited = matches!(pair[0].end, End::At(at_ms) if pair[1].asked_ms < at_ms);
                *occurred.entry("lock waited for".to_owned()).or_default() += u64::from(has_waited);
            }
            let broken = holds.iter().filter(|hold| hold.end == End::Broken).count();
            *occurred.entry("lock broken".to_owned()).or_default() += broken as u64;
        }
        let had: BTreeMap<(&str, u64), &Hold> =
            self.0.iter().flat_map(|(key, holds)| holds.iter().map(move |hold| ((key.as_str(), hold.token), hold))).collect();
        for ((service, key), done) in &books.worked {
            for worked in done {
                if had.get(&(key.as_str(), worked.token)).is_none_or(|hold| hold.saga != worked.saga) {
                    wrong.push(format!("`{service}` was called under a lock that the saga never had: {worked:?}"));
                }
            }
            for pair in done.windows(2).filter(|pair| pair[0].saga != pair[1].saga && pair[0].token >= pair[1].token) {
                wrong.push(format!("`{service}` worked for two sagas under one lock: {:?} and then {:?}", pair[0], pair[1]));
            }
            let sagas: BTreeSet<Uuid> = done.iter().map(|worked| worked.saga).collect();
            *occurred.entry("key passed on at a service".to_owned()).or_default() += sagas.len() as u64 - 1;
        }
        for (service, fenced) in &books.fenced {
            if had.get(&(fenced.key.as_str(), fenced.token)).is_none_or(|hold| hold.saga != fenced.saga || hold.end != End::Broken) {
                wrong.push(format!("a call was turned away although nobody took the lock from its saga: {fenced:?}"));
            }
            let has_been_worked = |done: &Vec<Worked>| done.iter().any(|worked| worked.token > fenced.token);
            if !books.worked.get(&(*service, fenced.key.clone())).is_some_and(has_been_worked) {
                wrong.push(format!("`{service}` turned a call away, and nobody had worked there under the key since: {fenced:?}"));
            }
            let operation = fenced.call.rsplit('/').next().unwrap_or_default();
            for what in [operation, "call"] {
                *occurred.entry(format!("{what} fenced")).or_default() += 1;
            }
        }
    }
}

/// What is wrong between who had a key and who had it next.
fn between(before: &Hold, next: &Hold) -> Option<&'static str> {
    if before.token == next.token {
        return Some("two have one token");
    }
    if next.granted_ms + SLACK_MS < before.granted_ms {
        return Some("its tokens do not rise");
    }
    match before.end {
        End::At(at_ms) if at_ms > next.granted_ms + SLACK_MS => Some("it was given before whoever had it was at its end"),
        End::Never => Some("it was given although somebody has it"),
        End::At(_) | End::Broken => None,
    }
}

//! What must hold of each saga when everything is over: it is at its end or blocked for a reason, the books balance with it effect by effect, what was told
//! is what was done, and each signal counts once.

use super::books::{Books, Effect};
use super::items;
use super::traffic::{PATIENCE, Run, is_behind_blocked_child};
use sagamq_sdk::api::saga::{HistoryEvent, ItemDescription, Operation, SagaDescription, SagaState, StepDescription, StepState};
use serde_json::Value;
use std::collections::BTreeMap;
use uuid::Uuid;

/// The step that starts a sub-saga.
const PARCEL: &str = "parcel";

/// The steps that call no service.
const WAITS: [&str; 5] = ["cool_off", "review", "rest", "seen", PARCEL];

/// The step whose effect nothing undoes, because its author says so.
const NOTHING_TO_UNDO: &str = "note";

const PIVOT: &str = "capture";

/// How often each was told, by saga, step and operation.
pub(super) type Told = BTreeMap<(Uuid, String, String), u32>;

/// What occurred, by name: a drill in which it did not has shown nothing about it.
pub(super) type Occurred = BTreeMap<String, u64>;

/// Where a step has effects: itself, or, if it fans out, an item.
#[derive(Clone, Copy)]
struct Place<'c> {
    step: &'c StepDescription,
    item: Option<&'c ItemDescription>,
}

impl<'c> Place<'c> {
    /// The places of a step.
    fn of(step: &'c StepDescription) -> Vec<Self> {
        if items::max_parallel(step.id.as_str()).is_none() {
            return vec![Self { step, item: None }];
        }
        step.items.iter().map(|item| Self { step, item: Some(item) }).collect()
    }

    fn name(self) -> String {
        let step = self.step.id.as_str();
        self.item.map_or_else(|| step.to_owned(), |item| format!("{step}[{}]", item.item))
    }

    fn state(self) -> StepState {
        self.item.map_or(self.step.state, |item| item.state)
    }
}

/// One saga with all that is known about it.
pub(super) struct Case<'c> {
    pub(super) run: &'c Run,
    pub(super) shown: &'c SagaDescription,
    pub(super) history: &'c [HistoryEvent],
    pub(super) books: &'c Books,
    pub(super) told: &'c Told,
}

impl Case<'_> {
    /// Adds what is wrong, and what occurred.
    pub(super) fn look(&self, wrong: &mut Vec<String>, occurred: &mut Occurred) {
        let state = self.shown.summary.state;
        let mut say = |what: String| wrong.push(format!("saga {} ({}), {state}: {what}", self.run.saga, self.run.order.key));
        *occurred.entry(format!("saga {state}")).or_default() += 1;
        match state {
            SagaState::Completed | SagaState::Compensated | SagaState::Failed => {}
            SagaState::Blocked if self.is_blocked_for_a_reason() => {}
            SagaState::Blocked => say("it is blocked, and does not say why".to_owned()),
            _ if is_behind_blocked_child(self.shown) => {}
            _ => say(format!("it is stuck: {:?}", self.shown.summary.waits)),
        }
        if let Some(said) = &self.run.given_up {
            say(format!("it had not come to rest in {} s, and was {said}", PATIENCE.as_secs()));
        }
        let is_past_pivot = self.effect(PIVOT).stands();
        let mut places = Vec::new();
        for step in &self.shown.steps {
            let id = step.id.as_str();
            if WAITS.contains(&id) {
                continue;
            }
            *occurred.entry(format!("step {}", name_of(step.state))).or_default() += 1;
            for place in Place::of(step) {
                let (name, effect) = (place.name(), self.effect(&place.name()));
                if place.item.is_some() {
                    *occurred.entry(format!("item {}", name_of(place.state()))).or_default() += 1;
                }
                if let Some(what) = self.wrong_with(place, effect, is_past_pivot) {
                    say(format!("`{name}` is {}, and {what} ({effect:?})", name_of(place.state())));
                }
                places.push(name);
            }
            if let Some(most) = items::max_parallel(id) {
                items::look(id, most, self.history, &mut say, occurred);
            }
            for operation in [Operation::Action, Operation::Compensation] {
                self.look_at_told(step, operation, &mut say);
            }
        }
        for place in self.books.places(self.run.saga).filter(|place| !places.iter().any(|known| known == place)) {
            say(format!("`{place}` is in the books, and the saga does not show it"));
        }
        self.look_at_locks(&mut say, occurred);
        self.look_at_signals(&mut say, occurred);
    }

    fn effect(&self, step: &str) -> Effect {
        self.books.effect(self.run.saga, step)
    }

    fn is_blocked_for_a_reason(&self) -> bool {
        let is_stuck = |step: &&StepDescription| step.state == StepState::CompensationFailed;
        let stuck = self.shown.steps.iter().find(is_stuck);
        let has_failure = |step: &StepDescription| self.shown.failures.iter().any(|failed| failed.attempt.step == step.id);
        self.shown.summary.failure.is_some() && stuck.is_some_and(has_failure)
    }

    /// What is wrong between a step, or an item, and the books, if anything is.
    fn wrong_with(&self, place: Place<'_>, effect: Effect, is_past_pivot: bool) -> Option<&'static str> {
        let (state, step) = (self.shown.summary.state, place.step);
        let item = place.item.map(|item| item.item);
        let listed = self.shown.standing.iter().find(|standing| standing.step == step.id && standing.item == item);
        if effect.done > 1 || effect.undone > effect.done {
            return Some("its effect did not happen once");
        }
        if is_past_pivot && effect.undone > 0 && !step.optional {
            return Some("it was undone past the pivot");
        }
        if listed.is_some_and(|listed| !listed.in_doubt) && !effect.stands() {
            return Some("it is listed as standing for certain, and does not");
        }
        let has_undo = step.id.as_str() != NOTHING_TO_UNDO;
        match state {
            SagaState::Completed if place.state() == StepState::Succeeded => (!effect.stands()).then_some("its effect is not there"),
            SagaState::Completed => (effect.stands() && listed.is_none()).then_some("its effect stands, and nobody says so"),
            SagaState::Compensated | SagaState::Failed => (effect.stands() && has_undo).then_some("its effect stands"),
            _ if is_behind_blocked_child(self.shown) => None,
            _ => (effect.stands() && listed.is_none()).then_some("its effect stands, and nobody says so"),
        }
    }

    /// What was told is what the history says was done, once. A step that fans out tells of all of its items.
    fn look_at_told(&self, step: &StepDescription, operation: Operation, say: &mut impl FnMut(String)) {
        let id = step.id.as_str();
        let kind = if operation == Operation::Action { "step_succeeded" } else { "step_compensated" };
        let is_of_it = |event: &&HistoryEvent| event.r#type == kind && text(event, "step").as_deref() == Some(id);
        let happened = match items::max_parallel(id) {
            Some(_) => items::to_be_told(step, operation, self.history),
            None => u32::try_from(self.history.iter().filter(is_of_it).count()).expect("few"),
        };
        let key = (self.run.saga, id.to_owned(), operation.to_string());
        let told = self.told.get(&key).copied().unwrap_or(0);
        if told != happened || told > 1 {
            say(format!("`{id}`: {kind} stands {happened} times in the history, and was told {told} times"));
        }
        for (name, effect) in Place::of(step).into_iter().map(|place| (place.name(), self.effect(&place.name()))) {
            let is_false = match operation {
                Operation::Action => told > 0 && effect.done != 1,
                _ => told > 0 && effect.stands(),
            };
            if is_false {
                say(format!("`{name}`: its {operation} was told, and is not so in the books ({effect:?})"));
            }
        }
    }

    /// No call that needs a lock comes without one, and steps that want one key have it as one.
    fn look_at_locks(&self, say: &mut impl FnMut(String), occurred: &mut Occurred) {
        if let Some(failed) = self.shown.failures.iter().find(|failed| failed.failure.code == "NO_LOCK") {
            say(format!("`{}` was called without its lock", failed.attempt.step));
        }
        for code in ["LOCK_TIMEOUT", "LOCK_DEADLOCK"] {
            let is_it = |event: &&HistoryEvent| {
                event.r#type == "step_failed" && value(event, "failure").is_some_and(|failure| failure["code"] == code)
            };
            *occurred.entry(code.to_owned()).or_default() += self.history.iter().filter(is_it).count() as u64;
        }
        let called: Vec<_> =
            self.shown.steps.iter().filter(|step| step.state != StepState::Scheduled).filter_map(|step| step.lock.as_ref()).collect();
        for (at, lock) in called.iter().enumerate() {
            for other in called[..at].iter().filter(|other| other.key == lock.key) {
                let what = if other.token == lock.token { "lock held over steps" } else { "lock had again" };
                *occurred.entry(what.to_owned()).or_default() += 1;
                if other.token != lock.token && !self.has_lost(&lock.key, other.token) {
                    say(format!("it had `{}` under two tokens, {:?} and {:?}, and nobody took it away", lock.key, other.token, lock.token));
                }
            }
        }
    }

    /// Whether somebody took the lock away from it.
    fn has_lost(&self, key: &str, token: Option<u64>) -> bool {
        let is_it = |event: &HistoryEvent| {
            event.r#type == "lock_broken" && text(event, "key").as_deref() == Some(key) && number(event, "token") == token
        };
        self.history.iter().any(is_it)
    }

    /// Each signal that was taken is in the history once, and gives its step its output once.
    fn look_at_signals(&self, say: &mut impl FnMut(String), occurred: &mut Occurred) {
        for sent in &self.run.sent {
            let id = &sent.id;
            let received: Vec<&HistoryEvent> =
                self.history.iter().filter(|event| event.r#type == "signal_received" && text(event, "id").as_ref() == Some(id)).collect();
            if received.len() != usize::from(sent.is_taken) {
                say(format!("the signal `{id}` stands {} times in the history, taken: {}", received.len(), sent.is_taken));
            }
            if sent.is_taken && !sent.was_known {
                say(format!("the signal `{id}` was sent again, and was not known"));
            }
            let number = received.first().and_then(|event| value(event, "number"));
            let takers: Vec<&HistoryEvent> = self
                .history
                .iter()
                .filter(|event| event.r#type == "step_woke" && number.is_some() && value(event, "signal") == number)
                .collect();
            if takers.len() > 1 {
                say(format!("the signal `{id}` woke {} steps", takers.len()));
            }
            if !takers.is_empty() {
                *occurred.entry("signal taken by its step".to_owned()).or_default() += 1;
                let output = self.shown.steps.iter().find(|step| step.id.as_str() == sent.step).and_then(|step| step.output.as_ref());
                if output != Some(&sent.payload) {
                    say(format!("`{}` returned {output:?}, and its signal said {}", sent.step, sent.payload.as_str()));
                }
            }
        }
        let missed = self.history.iter().filter(|event| event.r#type == "step_failed" && text(event, "step").as_deref() == Some("review"));
        *occurred.entry("signal missed".to_owned()).or_default() += missed.count() as u64;
    }
}

/// The sub-saga that it started last.
pub(super) fn child_of(parent: &SagaDescription) -> Option<Uuid> {
    parent.steps.iter().find(|step| step.id.as_str() == PARCEL)?.child.as_ref()?.id
}

/// What is wrong between a saga and its sub-saga, if anything is.
pub(super) fn between(parent: &SagaDescription, child: &SagaDescription) -> Option<String> {
    let step = parent.steps.iter().find(|step| step.id.as_str() == PARCEL)?;
    let (saga, sub_saga) = (parent.summary.state, child.summary.state);
    let is_undone = matches!(sub_saga, SagaState::Compensated | SagaState::Failed);
    let fits = match step.state {
        StepState::Succeeded => sub_saga == SagaState::Completed && !matches!(saga, SagaState::Compensated | SagaState::Failed),
        StepState::Failed | StepState::Compensated => is_undone,
        StepState::InProgress | StepState::Compensating => is_behind_blocked_child(parent),
        _ => false,
    };
    let is_of_it = child.summary.parent.as_ref().is_some_and(|known| known.id == parent.summary.id);
    (!fits || !is_of_it)
        .then(|| format!("it is {saga}, its step is {}, and its sub-saga {} is {sub_saga}", name_of(step.state), child.summary.id))
}

fn value(event: &HistoryEvent, field: &str) -> Option<Value> {
    event.data.to_value().get(field).cloned()
}

pub(super) fn number(event: &HistoryEvent, field: &str) -> Option<u64> {
    value(event, field)?.as_u64()
}

pub(super) fn text(event: &HistoryEvent, field: &str) -> Option<String> {
    value(event, field)?.as_str().map(str::to_owned)
}

fn name_of(state: StepState) -> String {
    serde_json::to_value(state).ok().and_then(|value| value.as_str().map(str::to_owned)).expect("a state is text")
}

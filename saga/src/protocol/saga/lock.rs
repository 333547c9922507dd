//! Locks of steps: a step asks for its lock when its turn has come, and begins when the instance has it. A step that waits is still
//! `SCHEDULED`: it has no attempt, and whatever ends the way forward ends the wait. What is held is kept until the instance is at its end.
//!
//! What is told to the homes of locks is the difference between the claims before and after a decision, so no way to an end forgets one.

use super::apply::{require, require_operation};
use super::claims::{Claim, Claims, StepLock};
use super::event::SagaEvent;
use super::planner::Planner;
use super::state::{InstanceState, Phase};
use super::step::StepStatus;
use crate::expression::Scope;
use crate::protocol::codes;
use crate::protocol::decision::Command;
use crate::protocol::head::render_failure;
use crate::protocol::lock::{Claimant, LockSaid, Wait, is_lock_key};
use sagamq_api::JsonText;
use sagamq_api::limits::LOCK_KEY_BYTES_MAX;
use sagamq_api::saga::{Failure, FencedLock, Operation, StepAttempt, StepState};

impl Planner<'_> {
    /// Whether the step has the lock that it begins under, or needs none. If not, it has asked for it. On an error nothing is decided.
    pub(super) fn has_lock(&mut self, index: usize) -> Result<bool, Failure> {
        let Some(lock) = &self.definition.steps[index].lock else { return Ok(true) };
        if self.state.steps[index].lock.is_none() {
            let key = self.lock_key(index)?;
            let until_ms = lock.timeout.filter(|_| !self.state.is_forward_only(index)).map(|timeout| self.after(timeout));
            self.emit(SagaEvent::LockAsked { attempt: self.attempt(index.into(), Operation::Action), key, until_ms });
        }
        Ok(!self.state.steps[index].awaits_lock())
    }

    fn lock_key(&self, index: usize) -> Result<String, Failure> {
        let (state, step) = (&self.state, &self.definition.steps[index]);
        let what = format!("`lock` of `{}`", step.id);
        let template = &step.lock.as_ref().expect("only a step with a lock asks for one").key;
        let id = state.head.id.to_string();
        let scope = Scope { input: &state.head.input, outputs: state, failure: None, saga: Some(state.head.scope(&id)), item: None };
        let value = template.render(&scope).map_err(|error| render_failure(&what, &error))?;
        let wrong = |reason: String| Failure { code: codes::EXPRESSION_FAILED.to_owned(), message: format!("{what}: {reason}") };
        let key: String = match value.as_str().as_bytes() {
            [b'"', ..] => value.read().map_err(|error| wrong(error.to_string()))?,
            // As with business keys, a number is its own text.
            [b'-' | b'0'..=b'9', ..] => value.as_str().to_owned(),
            _ => return Err(wrong(format!("a key is text or a number, and this is {}", shown(&value)))),
        };
        if !is_lock_key(&key) {
            let bytes = key.len();
            return Err(wrong(format!(
                "a key has 1 to {LOCK_KEY_BYTES_MAX} bytes and no control characters, and this one has {bytes} bytes"
            )));
        }
        Ok(key)
    }

    /// What became of a claim. Gives whether nothing is new about it. Who holds what it does not want any more says so, whoever forgot it.
    pub(super) fn lock_said(&mut self, key: &str, number: u64, said: LockSaid) -> bool {
        let claim = self.state.claims.get(key).filter(|claim| claim.number == number);
        match (claim, said) {
            (Some(Claim { token: None, .. }), LockSaid::Granted { token }) => {
                self.emit(SagaEvent::LockGranted { key: key.to_owned(), token })
            }
            (Some(Claim { token: Some(held), .. }), LockSaid::Broken { token, actor, reason }) if held == token => {
                self.emit(SagaEvent::LockBroken { key: key.to_owned(), token, actor, reason });
            }
            (Some(Claim { token: None, .. }), LockSaid::Refused { failure }) => return !self.refuse_lock(key, &failure),
            (None, LockSaid::Granted { .. }) => {
                let by = Claimant { instance: self.state.head.id, number };
                self.commands.push(Command::Lock { key: key.to_owned(), by, wants: false });
                return true;
            }
            (_, LockSaid::Granted { .. } | LockSaid::Refused { .. } | LockSaid::Broken { .. }) => return true,
        }
        false
    }

    /// The steps that wait for the key do not get it. Gives whether one could fail: what can only go forward waits on.
    fn refuse_lock(&mut self, key: &str, failure: &Failure) -> bool {
        let waits = |index: &usize| {
            let step = &self.state.steps[*index];
            step.awaits_lock() && step.lock.as_ref().is_some_and(|lock| lock.key == key)
        };
        let waiting: Vec<usize> = (0..self.state.steps.len()).filter(waits).collect();
        if waiting.iter().any(|&index| self.state.is_forward_only(index)) {
            return false;
        }
        self.fail_locks(&waiting, failure);
        true
    }

    /// Fails every step whose time to wait for its lock is over.
    pub(super) fn end_lock_waits(&mut self) {
        for index in 0..self.state.steps.len() {
            if self.state.lock_due_ms(index).is_some_and(|at_ms| at_ms <= self.now_ms) {
                let key = self.state.steps[index].lock.as_ref().map_or("", |lock| &lock.key);
                let message = format!("another saga held the lock `{key}` until the time to wait for it was over");
                self.fail_locks(&[index], &Failure { code: codes::LOCK_TIMEOUT.to_owned(), message });
            }
        }
    }

    fn fail_locks(&mut self, waiting: &[usize], failure: &Failure) {
        for &index in waiting {
            self.emit(SagaEvent::StepFailed { attempt: self.attempt(index.into(), Operation::Action), failure: failure.clone() });
        }
        for &index in waiting {
            self.fail_by(index.into(), failure.clone());
        }
    }

    /// After a restart the homes of locks are asked once more for what is waited for: while an instance was set aside it was told nothing. Who asks
    /// twice has one place.
    pub(super) fn ask_for_locks_again(&mut self) {
        let instance = self.state.head.id;
        let waiting = self.state.claims.iter().filter(|(_, claim)| claim.token.is_none());
        let asked = waiting.map(|(key, claim)| (key.to_owned(), Claimant { instance, number: claim.number }));
        let commands: Vec<Command> = asked.map(|(key, by)| Command::Lock { key, by, wants: true }).collect();
        self.commands.extend(commands);
    }

    /// Tells the homes of locks what has changed since `before`.
    pub(super) fn tell_locks(&mut self, before: &Claims) {
        let (after, id) = (&self.state.claims, self.state.head.id);
        let left = before.beside(after, id).map(|(key, by)| Command::Lock { key: key.to_owned(), by, wants: false });
        let asked = after.beside(before, id).map(|(key, by)| Command::Lock { key: key.to_owned(), by, wants: true });
        let commands: Vec<Command> = left.chain(asked).collect();
        self.commands.extend(commands);
    }
}

impl StepStatus {
    /// Whether it waits for its lock.
    #[must_use]
    pub fn awaits_lock(&self) -> bool {
        self.state == StepState::Scheduled && self.lock.as_ref().is_some_and(|lock| lock.token.is_none())
    }

    /// What its participant is told of the lock.
    pub(super) fn fenced_lock(&self) -> Option<FencedLock> {
        let lock = self.lock.as_ref()?;
        Some(FencedLock { key: lock.key.clone(), token: lock.token? })
    }
}

impl InstanceState {
    /// Whether a step waits for its lock.
    pub(super) fn awaits_lock(&self) -> bool {
        self.steps.iter().any(StepStatus::awaits_lock)
    }

    /// When the step's time to wait for its lock is over, in milliseconds since 1970, if it waits and that can still change anything.
    #[must_use]
    pub fn lock_due_ms(&self, index: usize) -> Option<u64> {
        let step = &self.steps[index];
        let until_ms = step.lock.as_ref().filter(|_| step.awaits_lock())?.until_ms;
        until_ms.filter(|_| !self.is_forward_only(index))
    }

    /// The same of all steps.
    pub(super) fn lock_dues(&self) -> impl Iterator<Item = u64> {
        (0..self.steps.len()).filter_map(|index| self.lock_due_ms(index))
    }

    /// What it waits for, as a probe wants to know it.
    #[must_use]
    pub fn lock_waits(&self) -> Vec<Wait> {
        let waiting = self.claims.iter().filter(|(_, claim)| claim.token.is_none());
        let may_fail = |key: &str| {
            let is_it = |step: &StepStatus| step.awaits_lock() && step.lock.as_ref().is_some_and(|lock| lock.key == key);
            !self.steps.iter().enumerate().any(|(index, step)| is_it(step) && self.is_forward_only(index))
        };
        waiting.map(|(key, claim)| Wait { key: key.to_owned(), number: claim.number, may_fail: may_fail(key) }).collect()
    }

    pub(super) fn on_lock_asked(
        &mut self,
        attempt: &StepAttempt,
        key: &str,
        until_ms: Option<u64>,
        since_ms: u64,
    ) -> Result<usize, String> {
        require_operation(attempt, Operation::Action)?;
        self.require_phase(&[Phase::Running])?;
        let index = self.find_last(attempt)?.step;
        let number = self.head.events;
        let step = &mut self.steps[index];
        let is_its_turn = step.has_lock && step.lock.is_none() && step.state == StepState::Scheduled;
        require(is_its_turn && step.has_condition == step.condition.is_some(), || {
            format!("the step is {:?}, or has asked before", step.state)
        })?;
        require(is_lock_key(key), || "no lock has such a key".to_owned())?;
        let claim = *self.claims.0.entry(key.to_owned()).or_insert(Claim { number, token: None });
        step.lock = Some(Box::new(StepLock { key: key.to_owned(), token: claim.token, since_ms, until_ms }));
        Ok(index)
    }

    pub(super) fn on_lock_granted(&mut self, key: &str, token: u64) -> Result<(), String> {
        let claim = self.claims.0.get_mut(key).ok_or_else(|| format!("nobody asked for `{key}`"))?;
        require(claim.token.is_none(), || format!("`{key}` is held already"))?;
        claim.token = Some(token);
        for step in &mut self.steps {
            let awaits = step.awaits_lock();
            if let Some(lock) = step.lock.as_mut().filter(|lock| awaits && lock.key == key) {
                lock.token = Some(token);
            }
        }
        Ok(())
    }

    pub(super) fn on_lock_broken(&mut self, key: &str, token: u64) -> Result<(), String> {
        let is_held = self.claims.get(key).is_some_and(|claim| claim.token == Some(token));
        require(is_held, || format!("`{key}` is not held with the token {token}"))?;
        self.claims.0.remove(key);
        Ok(())
    }

    /// Nothing is waited for by nobody, and nothing is held at the end.
    pub(super) fn prune_locks(&mut self) {
        if self.claims == Claims::default() {
            return;
        }
        let is_forward = self.phase == Phase::Running;
        for step in &mut self.steps {
            let waits_in_vain = step.lock.as_ref().is_some_and(|lock| lock.token.is_none()) && !(is_forward && step.awaits_lock());
            if waits_in_vain {
                step.lock = None;
            }
        }
        if self.phase.is_final() && !self.may_be_undone_by_parent() {
            self.claims = Claims::default();
        }
        let steps = &self.steps;
        let is_wanted =
            |key: &String| steps.iter().any(|step| step.awaits_lock() && step.lock.as_ref().is_some_and(|lock| lock.key == *key));
        self.claims.0.retain(|key, claim| claim.token.is_some() || is_wanted(key));
    }

    /// Whoever waits for a lock has a claim to it, and whoever has a claim without a lock waits.
    pub(super) fn check_locks(&self) -> Result<(), String> {
        let has_claim =
            |step: &StepStatus| step.lock.as_ref().and_then(|lock| self.claims.get(&lock.key)).is_some_and(|claim| claim.token.is_none());
        let waits = |key: &str| self.steps.iter().any(|step| step.awaits_lock() && step.lock.as_ref().is_some_and(|lock| lock.key == key));
        let holds = self.steps.iter().filter(|step| step.awaits_lock()).all(has_claim)
            && self.claims.iter().all(|(key, claim)| claim.token.is_some() || waits(key));
        let may_hold = !self.phase.is_final() || self.may_be_undone_by_parent();
        require(holds && (may_hold || self.claims == Claims::default()), || {
            format!("an instance that is {:?} cannot have these claims: {:?}", self.phase, self.claims)
        })
    }
}

/// A value, short enough for a message.
fn shown(value: &JsonText) -> String {
    value.as_str().chars().take(80).collect()
}

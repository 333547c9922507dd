//! Locks of steps: a step asks for its lock when its turn has come, and begins when the instance has it. A step that waits is still
//! `SCHEDULED`: it has no attempt, and whatever ends the way forward ends the wait. What is held is kept until the instance is at its end.
//! What is locked is what is worked on: with another input a step that has not begun asks for the key that it has with that one.
//!
//! What is told to the homes of locks is the difference between the claims before and after a decision, so no way to an end forgets one.

use super::apply::{require, require_operation};
use super::call::condition;
use super::claims::{Claim, Claims, StepLock};
use super::event::SagaEvent;
use super::planner::Planner;
use super::state::{InstanceState, Phase};
use super::step::StepStatus;
use crate::expression::Scope;
use crate::protocol::codes;
use crate::protocol::decision::{Command, Rejection};
use crate::protocol::head::render_failure;
use crate::protocol::lock::{Claimant, LockSaid, Wait, is_lock_key};
use sagamq_api::JsonText;
use sagamq_api::limits::LOCK_KEY_BYTES_MAX;
use sagamq_api::saga::{Failure, FencedLock, Operation, StepAttempt, StepState, VerbName};

/// What another input means for a step that has asked for its lock and has not begun.
pub(super) enum WithInput {
    /// Its condition does not hold any more.
    LeftOut,
    /// It is to have the lock of this key.
    Locks(String),
}

impl Planner<'_> {
    /// Whether the step has the lock that it begins under, or needs none. If not, it has asked for it. On an error nothing is decided.
    pub(super) fn has_lock(&mut self, index: usize) -> Result<bool, Failure> {
        if self.definition.steps[index].lock.is_none() {
            return Ok(true);
        }
        if self.state.steps[index].lock.is_none() || self.state.has_lost_lock(index) {
            let key = self.lock_key(index, &self.state)?;
            self.ask_for_lock(index, key);
        }
        Ok(!self.state.steps[index].awaits_lock())
    }

    fn ask_for_lock(&mut self, index: usize, key: String) {
        let timeout = self.definition.steps[index].lock.as_ref().and_then(|lock| lock.timeout);
        let until_ms = timeout.filter(|_| !self.state.is_forward_only(index)).map(|timeout| self.after(timeout));
        self.emit(SagaEvent::LockAsked { attempt: self.attempt(index.into(), Operation::Action), key, until_ms });
    }

    /// What changes with this input for steps that have asked for their lock and have not begun.
    ///
    /// # Errors
    /// When a condition or a key has no value with it, or a step has begun whose items would be worked on under the wrong lock.
    pub(super) fn locks_with(&self, input: &JsonText) -> Result<Vec<(usize, WithInput)>, Rejection> {
        let (mut found, mut edited) = (Vec::new(), self.state.clone());
        edited.head.input = input.clone();
        for (index, step) in self.state.steps.iter().enumerate() {
            let is_stuck_forward = self.state.phase == Phase::Blocked && self.state.is_past_pivot();
            let Some(lock) = step.lock.as_ref().filter(|_| self.state.phase == Phase::Running || is_stuck_forward) else { continue };
            // What was called has its arguments. Items that are yet to be called, for the first time or again, get theirs then.
            let is_left = |item: &StepStatus| item.state == StepState::Failed && item.action.epoch == 0;
            let has_items_left = step.fan.as_ref().is_some_and(|fan| fan.next().is_some() || (!fan.is_closed && fan.iter().any(is_left)));
            if (step.state != StepState::Scheduled || is_stuck_forward) && !has_items_left {
                continue;
            }
            let misfit = |failure: Failure| Rejection::InvalidInput(failure.message);
            if !has_items_left && !condition(self.definition, &edited, index).map_err(misfit)? {
                found.push((index, WithInput::LeftOut));
                continue;
            }
            let key = self.lock_key(index, &edited).map_err(misfit)?;
            if key == lock.key {
                continue;
            }
            if has_items_left {
                let reason = format!(
                    "step {} works on its items under the lock `{}`, and would be under `{key}` with this input: let it end, or `terminate`",
                    self.shown(index.into()),
                    lock.key
                );
                return Err(Rejection::NotNow { verb: VerbName::EditInput, reason });
            }
            found.push((index, WithInput::Locks(key)));
        }
        Ok(found)
    }

    /// The input is another one: steps that have not begun are left out, or ask for other locks than those that they have or wait for.
    pub(super) fn lock_instead(&mut self, found: Vec<(usize, WithInput)>) {
        for (index, with_input) in found {
            match with_input {
                WithInput::Locks(key) => self.ask_for_lock(index, key),
                WithInput::LeftOut => {
                    self.emit(SagaEvent::StepCondition { attempt: self.attempt(index.into(), Operation::Action), holds: false });
                }
            }
        }
    }

    fn lock_key(&self, index: usize, state: &InstanceState) -> Result<String, Failure> {
        let step = &self.definition.steps[index];
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
            (Some(Claim { token: None, .. }), LockSaid::Granted { token } | LockSaid::Holds { token }) => {
                self.emit(SagaEvent::LockGranted { key: key.to_owned(), token })
            }
            (Some(Claim { token: Some(held), .. }), LockSaid::Broken { token, actor, reason }) if held == token => {
                self.emit(SagaEvent::LockBroken { key: key.to_owned(), token, actor, reason });
            }
            (Some(Claim { token: None, .. }), LockSaid::Refused { failure }) => {
                if self.refuse_lock(key, &failure) {
                    return false;
                }
                // It may have no place in the queue: without one it would wait for ever.
                let by = Claimant { instance: self.state.head.id, number };
                self.commands.push(Command::Lock { key: key.to_owned(), by, wants: true, must: true });
                return true;
            }
            (None, LockSaid::Granted { .. } | LockSaid::Holds { .. }) => {
                let by = Claimant { instance: self.state.head.id, number };
                self.commands.push(Command::Lock { key: key.to_owned(), by, wants: false, must: false });
                return true;
            }
            (_, LockSaid::Granted { .. } | LockSaid::Holds { .. } | LockSaid::Refused { .. } | LockSaid::Broken { .. }) => return true,
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
        if waiting.iter().any(|&index| !self.state.may_stop_waiting(index)) {
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
        let commands: Vec<Command> = asked.map(|(key, by)| Command::Lock { key, by, wants: true, must: false }).collect();
        self.commands.extend(commands);
    }

    /// Tells the homes of locks what has changed since `before`.
    pub(super) fn tell_locks(&mut self, before: &Claims) {
        let (after, id) = (&self.state.claims, self.state.head.id);
        let left = before.beside(after, id).map(|(key, by)| Command::Lock { key: key.to_owned(), by, wants: false, must: false });
        let asked = after.beside(before, id).map(|(key, by)| Command::Lock { key: key.to_owned(), by, wants: true, must: false });
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

    /// Whether the lock of a step was taken away after it got it and before it began, as it may while the instance is paused. What has begun goes
    /// on under the token that it had.
    fn has_lost_lock(&self, index: usize) -> bool {
        let step = &self.steps[index];
        step.state == StepState::Scheduled && self.lost_lock(step).is_some()
    }

    /// The lock of a step, if somebody took it away.
    pub(super) fn lost_lock<'a>(&self, step: &'a StepStatus) -> Option<&'a StepLock> {
        let is_held = |lock: &StepLock| self.claims.get(&lock.key).is_some_and(|claim| claim.token == lock.token);
        step.lock.as_deref().filter(|lock| lock.token.is_some() && !is_held(lock))
    }

    /// When the step's time to wait for its lock is over, in milliseconds since 1970, if it waits and that can still change anything.
    #[must_use]
    pub fn lock_due_ms(&self, index: usize) -> Option<u64> {
        let step = &self.steps[index];
        let until_ms = step.lock.as_ref().filter(|_| step.awaits_lock())?.until_ms;
        until_ms.filter(|_| self.may_stop_waiting(index))
    }

    /// Whether the step can fail while it waits for its lock. Not where nothing is undone any more, and not as long as that is open: a failure
    /// never meets a pivot in flight.
    fn may_stop_waiting(&self, index: usize) -> bool {
        !self.is_forward_only(index) && (self.steps[index].is_optional || !self.is_pivot_in_flight())
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
            !self.steps.iter().enumerate().any(|(index, step)| is_it(step) && !self.may_stop_waiting(index))
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
        let has_lost = self.has_lost_lock(index);
        let step = &mut self.steps[index];
        // With another input the key may be another one.
        let is_new = has_lost || step.lock.as_ref().is_none_or(|lock| lock.key != key);
        let is_its_turn = step.has_lock && is_new && step.state == StepState::Scheduled;
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

//! Sub-sagas. A step that starts one makes a call, and all that holds for calls holds for it; what is different is here.
//!
//! Of the parent: an attempt has no deadline, and is never lost; each attempt is a sub-saga of its own, so what is said of an older one says
//! nothing about the current one; what is in doubt is not found out by asking again. Of the sub-saga: what becomes of it is told to the
//! parent, in the decision that ends it; the parent may want it undone, also when it has completed.

use super::call::call_command;
use super::event::SagaEvent;
use super::place::Place;
use super::planner::Planner;
use super::state::{InstanceState, Phase};
use super::step::{Attempt, Settled, StepStatus};
use crate::definition::StepKind;
use crate::protocol::codes;
use crate::protocol::decision::{ChildCall, ChildName, Command, Parent, Related};
use sagamq_api::JsonText;
use sagamq_api::saga::{AttemptId, CallOutcome, Failure, Operation, ParentStep, StepAttempt, StepState, SubSaga};
use uuid::Uuid;

/// The business key of the sub-saga that an attempt of an action starts.
#[must_use]
pub fn child_key(attempt: &AttemptId) -> String {
    attempt.to_string()
}

fn failure(code: &str, message: &str) -> Failure {
    Failure { code: code.to_owned(), message: message.to_owned() }
}

impl StepStatus {
    /// The attempts of its action that started sub-sagas in the name of `own`, or of the instance whose effect it took over.
    fn started(&self, own: Uuid) -> impl Iterator<Item = AttemptId> {
        let (instance, epochs) = match &self.origin {
            Some(origin) => (origin.instance, origin.epoch..=origin.epoch),
            None => (own, 1..=self.action.epoch),
        };
        let named = move |epoch| StepAttempt { step: self.id.clone(), item: None, operation: Operation::Action, epoch }.of(instance);
        epochs.filter(|epoch| *epoch > 0 && self.child.is_some()).map(named)
    }
}

impl InstanceState {
    /// The sub-saga that a step started last, if it starts one and did.
    fn child(&self, step: &StepStatus) -> Option<ChildName> {
        Some(ChildName { saga: step.child.clone()?, key: child_key(&step.started(self.head.id).last()?) })
    }

    /// The same with what a call to it needs.
    pub(super) fn child_call(&self, index: usize) -> Option<ChildCall> {
        let key = child_key(&self.steps[index].started(self.head.id).last()?);
        Some(ChildCall { key, depth: self.depth() + 1 })
    }

    /// The sub-saga of a step, as the interface shows it.
    pub(super) fn shown_child(&self, step: &StepStatus) -> Option<SubSaga> {
        let ChildName { saga, key } = self.child(step)?;
        Some(SubSaga { saga, key, id: None, state: None })
    }

    /// The sub-sagas that it waits for.
    fn running_children(&self) -> Vec<ChildName> {
        let runs = |step: &&StepStatus| step.state == StepState::InProgress && step.action.attempt.is_open();
        self.steps.iter().filter(runs).filter_map(|step| self.child(step)).collect()
    }

    /// The parent, if its end is waited for, and sub-sagas, if theirs is.
    #[must_use]
    pub fn waits_for_relatives(&self) -> (Option<Uuid>, Vec<ChildName>) {
        let parent = self.parent.as_ref().filter(|_| self.may_be_undone_by_parent()).map(|parent| parent.attempt.instance);
        (parent, self.running_children())
    }

    /// Whether it has completed, and its parent may have it undone still: it keeps its locks for that.
    pub(super) fn may_be_undone_by_parent(&self) -> bool {
        // It is not rerun before its parent's end.
        self.phase == Phase::Completed && self.parent.is_some() && !self.has_parent_ended
    }

    /// Whether it waits for its parent's end now and did not before, and somebody may wait for what it, or a sub-saga of it, holds: that may close a
    /// circle of waits.
    #[must_use]
    pub fn begins_to_wait_for_parent(&self, before: &Self) -> bool {
        let begins = self.may_be_undone_by_parent() && !before.may_be_undone_by_parent();
        begins && (self.claims.iter().next().is_some() || self.steps.iter().any(|step| self.child(step).is_some()))
    }

    /// How many sagas stand above it.
    #[must_use]
    pub fn depth(&self) -> u32 {
        self.parent.as_ref().map_or(0, |parent| parent.depth)
    }

    /// The step that started it, as the interface shows it.
    pub(super) fn shown_parent(&self) -> Option<ParentStep> {
        let Parent { saga, attempt, .. } = self.parent.as_deref()?;
        Some(ParentStep { id: attempt.instance, saga: saga.clone(), step: attempt.step.clone(), attempt: attempt.epoch })
    }

    /// Whether nobody will ever need it for a right answer: at its end, and not to be undone by a parent.
    #[must_use]
    pub fn may_be_forgotten(&self) -> bool {
        let may_be_undone = self.parent.is_some() && !self.has_parent_ended && self.handed_over.is_none();
        self.phase.is_final() && !may_be_undone
    }

    /// Whether it will not want its sub-sagas undone any more: it is at its end, and is not undone itself. A rerun that takes effects over
    /// later comes to what is still there.
    fn has_let_go(&self) -> bool {
        self.phase.is_final() && (self.phase != Phase::Completed || self.parent.is_none() || self.has_parent_ended)
    }

    pub(super) fn on_undo_requested(&mut self, attempt: &AttemptId) -> Result<(), String> {
        self.require_phase(&[Phase::Running, Phase::Compensating, Phase::Blocked, Phase::Completed])?;
        if self.parent.is_none() || self.is_past_pivot() || self.handed_over.is_some() {
            return Err("it is no sub-saga, is past its pivot, or was rerun".to_owned());
        }
        self.undo = Some(Box::new(attempt.clone()));
        Ok(())
    }

    pub(super) fn on_parent_ended(&mut self) -> Result<(), String> {
        if self.parent.is_none() || self.has_parent_ended {
            return Err("it is no sub-saga, or its parent ended before".to_owned());
        }
        self.has_parent_ended = true;
        Ok(())
    }
}

impl Planner<'_> {
    /// Its parent wants it undone. Gives whether nothing is written for it; answered it is always, now or when it is undone.
    pub(super) fn undo(&mut self, attempt: AttemptId) -> bool {
        let answered = match self.state.phase {
            _ if self.state.parent.is_none() => Some(Err(failure(codes::CHILD_LOST, "the saga of that name was not started by a parent"))),
            _ if self.state.is_past_pivot() => Some(Err(self.past_pivot())),
            Phase::Compensated | Phase::Failed => Some(Ok(())),
            Phase::Terminated => Some(Err(self.terminated())),
            Phase::New | Phase::Running | Phase::Compensating | Phase::Completed | Phase::Blocked => None,
        };
        if let Some(answered) = answered {
            self.answer(attempt, undone(answered), None);
            return true;
        }
        self.emit(SagaEvent::SagaUndoRequested { attempt });
        let failure = failure(codes::PARENT_UNDONE, "the saga that started it is undone");
        match self.state.phase {
            Phase::Running if self.state.stop.is_none() => self.stop(failure, None),
            Phase::Completed => self.emit(SagaEvent::SagaCompensating { failure, actor: None }),
            _ => {}
        }
        false
    }

    /// Its parent may have missed the answer: it is given again, if there is one.
    pub(super) fn parent_asks(&mut self) -> bool {
        if self.state.phase.is_final() && self.state.handed_over.is_none() {
            self.answer_start();
        }
        true
    }

    /// What is asked of a sub-saga is asked again: of one that is there it is a question, and an answer that was missed comes again.
    pub(super) fn ask_again(&mut self, place: Place, operation: Operation) {
        let command = call_command(self.definition, &self.state, place, operation);
        self.commands.extend(command.map(|command| Command::Call(Box::new(command))));
    }

    /// Its parent is at its end. Gives whether it knew.
    pub(super) fn parent_ended(&mut self) -> bool {
        let is_news = self.state.parent.is_some() && !self.state.has_parent_ended;
        if is_news {
            self.emit(SagaEvent::SagaParentEnded);
        }
        !is_news
    }

    /// The saga is to be undone: sub-sagas that run are to be as well. What becomes of each is its answer, as of every call in flight.
    pub(super) fn cancel_children(&mut self) {
        for child in self.state.running_children() {
            self.relate(Related::Cancel(child));
        }
    }

    /// The sub-saga could not be started for now: another attempt follows, unless the saga is undone.
    pub(super) fn not_started(&mut self, index: usize, failure: Failure) {
        let place = Place::from(index);
        if self.state.is_withdrawn(place) {
            self.emit(SagaEvent::StepFailed { attempt: self.attempt(place, Operation::Action), failure: failure.clone() });
            self.fail_by(place, failure);
        } else {
            self.retry_later(place, Operation::Action, failure, true, None);
        }
    }

    /// A sub-saga that an attempt of the step started does not count for it: nothing of it is to stay, and nobody waits for that. So what an
    /// operator says of a step, or a start that overtook a refusal, leaves no sub-saga behind that runs or stands and is in nobody's list.
    pub(super) fn disown(&mut self, index: usize, epoch: u32) {
        let (step, own) = (&self.state.steps[index], self.state.head.id);
        let Some(saga) = step.child.clone() else { return };
        assert!(epoch > 0 && step.origin.is_none(), "what was taken over is known to be done, and what does not count was asked for here");
        let named = |operation, epoch| StepAttempt { step: step.id.clone(), item: None, operation, epoch }.of(own);
        let child = ChildName { saga, key: child_key(&named(Operation::Action, epoch)) };
        let attempt = named(Operation::Compensation, 0);
        self.relate(Related::Disown { child, attempt });
    }

    /// The pivot is a sub-saga that could not be started, and the saga is to be undone: then it is not tried again.
    pub(super) fn give_up_unstarted_pivots(&mut self) {
        for index in 0..self.state.steps.len() {
            let place = Place::from(index);
            if self.state.steps[index].kind == StepKind::Pivot && self.was_not_started(place) {
                let failure = self.state.last_failure(place);
                self.emit(SagaEvent::StepFailed { attempt: self.attempt(place, Operation::Action), failure });
            }
        }
    }

    /// A sub-saga of the step provably was not started, and none will be.
    pub(super) fn was_not_started(&self, place: Place) -> bool {
        let step = self.state.at(place);
        step.child.is_some() && matches!(step.action.attempt, Attempt::Waiting { .. }) && step.action.settled == Some(Settled::Refused)
    }

    /// Tells the parent what became of the call that started this instance, or of the one that wants it undone, and sub-sagas that nobody
    /// will want them undone: each once, in the decision that makes it so.
    pub(super) fn tell_relatives(&mut self, before: &InstanceState) {
        let is_handed_over = self.state.handed_over.is_some();
        if !before.phase.is_final() || before.phase == Phase::Completed && self.state.phase != Phase::Completed {
            self.tell_parent(is_handed_over);
        }
        if self.state.has_let_go() && !before.has_let_go() {
            let own = self.state.head.id;
            let named = |step: &StepStatus, attempt| Some(ChildName { saga: step.child.clone()?, key: child_key(&attempt) });
            let steps = self.state.steps.iter().filter(|step| !step.is_handed_over);
            let released = steps.flat_map(|step| step.started(own).filter_map(|attempt| named(step, attempt)));
            for child in released.collect::<Vec<ChildName>>() {
                self.relate(Related::Release(child));
            }
        }
    }

    fn tell_parent(&mut self, is_handed_over: bool) {
        if self.state.parent.is_none() || !self.state.phase.is_final() || is_handed_over {
            return;
        }
        if let Some(attempt) = self.state.undo.as_deref().cloned() {
            let answered = match self.state.phase {
                Phase::Compensated | Phase::Failed => Ok(()),
                Phase::Terminated => Err(self.terminated()),
                _ => Err(self.past_pivot()),
            };
            return self.answer(attempt, undone(answered), None);
        }
        self.answer_start();
    }

    /// What the call that started it is answered, at its end.
    fn answer_start(&mut self) {
        let Some(parent) = self.state.parent.as_deref() else { return };
        let failed = || self.state.failure.clone().unwrap_or_else(|| failure(codes::CANCELLED, ""));
        let (attempt, note) = (parent.attempt.clone(), self.state.failure.clone().filter(|_| self.state.phase == Phase::Completed));
        let outcome = match self.state.phase {
            Phase::Completed => CallOutcome::Succeeded { output: self.state.output.clone().unwrap_or_else(JsonText::null) },
            Phase::Terminated => CallOutcome::Unknown { failure: self.terminated(), retry_after_ms: None },
            _ => CallOutcome::Refused { failure: failed() },
        };
        self.answer(attempt, outcome, note);
    }

    fn answer(&mut self, attempt: AttemptId, outcome: CallOutcome, note: Option<Failure>) {
        self.relate(Related::Answer { attempt, outcome, note });
    }

    fn relate(&mut self, related: Related) {
        self.commands.push(Command::Relate(Box::new(related)));
    }

    fn past_pivot(&self) -> Failure {
        let head = &self.state.head;
        let message =
            format!("the sub-saga {} ({} version {}) has passed its pivot, and only goes forward", head.id, head.saga, head.version);
        failure(codes::CHILD_PAST_PIVOT, &message)
    }

    fn terminated(&self) -> Failure {
        let head = &self.state.head;
        let message = format!("an operator ended the sub-saga {} ({}) as it was: what it did may stand", head.id, head.saga);
        failure(codes::CHILD_TERMINATED, &message)
    }
}

/// What the parent's compensation is answered.
fn undone(answered: Result<(), Failure>) -> CallOutcome {
    match answered {
        Ok(()) => CallOutcome::Succeeded { output: JsonText::null() },
        Err(failure) => CallOutcome::Refused { failure },
    }
}

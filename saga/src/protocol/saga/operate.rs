//! What an operator does to a saga: which verb is possible when, and what follows.
//!
//! A verb that changes nothing is a duplicate; one that cannot be is refused with what stands in the way. What was called keeps its arguments
//! and its key; what is mended goes on at once, unless the saga is paused.

use super::event::SagaEvent;
use super::place::Place;
use super::planner::Planner;
use super::state::Phase;
use super::step::Attempt;
use crate::definition::StepKind;
use crate::protocol::codes;
use crate::protocol::decision::{By, Rejection, Verb};
use crate::protocol::same::says_the_same;
use sagamq_api::ids::ItemIndex;
use sagamq_api::saga::{Failure, Operation, SagaState, SagaVerb, StepOutcome, StepOutcomeName, StepState, VerbName};
use sagamq_api::{JsonText, StepId};

/// What is true of an operation, as an operator says.
type Resolved = (Operation, StepOutcomeName, Option<JsonText>);

impl Planner<'_> {
    /// Gives whether nothing is new about it.
    pub(super) fn operate(&mut self, verb: Verb, by: By) -> Result<bool, Rejection> {
        let verb = match verb {
            Verb::Saga(verb) => verb,
            Verb::ResolveBranch { .. } => return Err(Rejection::NoTransaction),
        };
        if let SagaVerb::Rerun { from, input } = verb {
            return self.rerun(&from, input, by);
        }
        if let Some(handed) = &self.state.handed_over {
            return Err(Rejection::HandedOver(handed.to));
        }
        if let SagaVerb::Resolve { step, item, outcome } = &verb
            && self.state.phase.is_final()
        {
            return self.record(step, *item, outcome, &by);
        }
        let is_said_twice = verb == SagaVerb::Terminate && self.state.phase == Phase::Terminated;
        let is_at_its_end = self.state.phase.is_final() || (verb == SagaVerb::Cancel && self.state.phase == Phase::Blocked);
        if is_at_its_end && !is_said_twice {
            let state = if self.state.phase == Phase::Blocked { SagaState::Blocked } else { self.state.saga_state() };
            return Err(Rejection::AlreadyFinal(state));
        }
        match verb {
            SagaVerb::Terminate if is_said_twice => Ok(true),
            SagaVerb::Cancel => self.cancel(by),
            SagaVerb::Pause => Ok(self.pause(by)),
            SagaVerb::Resume => Ok(self.resume(by)),
            SagaVerb::Terminate => Ok(self.terminate(by)),
            SagaVerb::Retry { step, item } => self.retry(step.as_ref(), item, &by),
            SagaVerb::Skip { step, item } => self.skip(&step, item, &by),
            SagaVerb::Resolve { step, item, outcome } => self.resolve(&step, item, &outcome, &by),
            SagaVerb::EditInput { input } => self.edit_input(input, by),
            SagaVerb::Rerun { from, input } => self.rerun(&from, input, by),
        }
    }

    fn cancel(&mut self, By { actor, reason }: By) -> Result<bool, Rejection> {
        if self.state.phase == Phase::Compensating || self.state.stop.is_some() {
            return Ok(true);
        }
        if self.state.is_past_pivot() {
            return Err(Rejection::NotCancellable);
        }
        self.stop(Failure { code: codes::CANCELLED.to_owned(), message: reason.unwrap_or_default() }, actor);
        Ok(false)
    }

    fn pause(&mut self, By { actor, reason }: By) -> bool {
        let is_paused = self.state.is_paused();
        if !is_paused {
            self.emit(SagaEvent::SagaPaused { actor, reason });
        }
        is_paused
    }

    fn resume(&mut self, By { actor, reason }: By) -> bool {
        let Some(paused_at_ms) = self.state.paused_at_ms else { return true };
        let pause_ms = self.now_ms.saturating_sub(paused_at_ms);
        let timeout_at_ms = self.state.timeout_at_ms.map(|at_ms| at_ms.saturating_add(pause_ms));
        self.emit(SagaEvent::SagaResumed { timeout_at_ms, actor, reason });
        false
    }

    /// What is called or waits is given up as it is: nobody will say what became of it.
    fn terminate(&mut self, By { actor, reason }: By) -> bool {
        let message = "an operator ended the saga while its outcome was not known".to_owned();
        let failure = Failure { code: codes::TERMINATED.to_owned(), message };
        for (place, operation) in self.state.live().collect::<Vec<_>>() {
            if self.state.at(place).action.attempt.is_asleep() {
                self.end_sleep(place.step, "an operator ended the saga");
                continue;
            }
            self.settle_command(place, operation);
            let (attempt, failure) = (self.attempt(place, operation), failure.clone());
            self.emit(match operation {
                Operation::Compensation => SagaEvent::StepCompensationFailed { attempt, failure },
                _ => SagaEvent::StepUnknown { attempt, failure },
            });
        }
        self.emit(SagaEvent::SagaTerminated { actor, reason });
        false
    }

    fn retry(&mut self, step: Option<&StepId>, item: Option<ItemIndex>, by: &By) -> Result<bool, Rejection> {
        let places = match step {
            Some(step) => self.places_named(step, item, VerbName::Retry)?,
            None => self.state.places().collect(),
        };
        let is_left_out = |place: &&Place| self.state.at(**place).is_undoing_left_out;
        if let Some(place) = places.iter().find(is_left_out).filter(|place| step.is_some() && self.is_ground_taken_away(place.step)) {
            let reason = format!("what step {} rests on is being undone since it was left out: undo it by hand", self.shown(*place));
            return Err(Rejection::NotNow { verb: VerbName::Retry, reason });
        }
        // What somebody left out is tried again only if it is named.
        let wanted = |place: &&Place| step.is_some() || !self.state.at(**place).is_undoing_left_out;
        // A sub-saga is asked what became of it only if its step is named.
        let of = |place: Place| self.retryable(place).or_else(|| step.and_then(|_| self.state.at(place).awaited_child()));
        let found: Vec<(Place, Operation)> =
            places.iter().filter(wanted).filter_map(|place| of(*place).map(|operation| (*place, operation))).collect();
        if found.is_empty() {
            let reason = match places.first().filter(|_| step.is_some()) {
                Some(place) if self.state.at(*place).child.is_some() && self.state.stop.is_some() => {
                    let shown = self.shown(*place);
                    format!(
                        "the saga is to be undone, and another sub-saga of step {shown} would add to one in doubt: `resolve` says what is true of it"
                    )
                }
                Some(place) if self.state.at(*place).action.attempt.is_asleep() => {
                    format!("step {} calls nobody: `skip` ends it, or the signal that it waits for", self.shown(*place))
                }
                Some(place) => {
                    let named = if item.is_some() { *place } else { place.step.into() };
                    format!("step {} waits for no attempt and has not failed for good", self.shown(named))
                }
                None => "no step waits for its next attempt or has failed for good".to_owned(),
            };
            return Err(Rejection::NotNow { verb: VerbName::Retry, reason });
        }
        self.unblock();
        for (place, operation) in found {
            let is_waiting = matches!(self.state.at(place).progress(operation).attempt, Attempt::Waiting { .. });
            let (attempt, By { actor, reason }) = (self.attempt(place, operation), by.clone());
            self.emit(SagaEvent::StepRetried { attempt, actor, reason });
            if is_waiting && !self.state.is_paused() {
                self.call_again(place, operation);
            } else if self.state.at(place).awaited_child() == Some(operation) {
                self.ask_again(place, operation);
            }
        }
        Ok(false)
    }

    /// The operation that can be tried again.
    fn retryable(&self, place: Place) -> Option<Operation> {
        let status = self.state.at(place);
        match (status.state, status.live_operation()) {
            // The saga went on with its effect: it is not undone any more, unless everything is.
            (StepState::CompensationFailed, _) if status.is_undoing_left_out && self.state.phase == Phase::Running => None,
            (StepState::CompensationFailed, _) => Some(Operation::Compensation),
            (StepState::Failed, _) => self.has_no_value(place).then_some(Operation::Action),
            (_, Some(_)) if status.action.attempt.is_asleep() => None,
            // A sub-saga in doubt, and the saga is to be undone: another one would only add to it.
            (_, Some(Operation::Action)) if status.child.is_some() && self.state.stop.is_some() => None,
            (_, Some(operation)) => {
                let is_open = status.progress(operation).attempt.is_open();
                (!is_open || status.attempts_exceeded).then_some(operation)
            }
            (_, None) => None,
        }
    }

    /// Whether it could not be called behind the pivot, where nothing else can be done.
    fn has_no_value(&self, place: Place) -> bool {
        let status = self.state.at(place);
        let is_optional = self.state.steps[place.step].is_optional;
        status.state == StepState::Failed && status.action.epoch == 0 && self.state.is_past_pivot() && !is_optional
    }

    fn skip(&mut self, step: &StepId, item: Option<ItemIndex>, by: &By) -> Result<bool, Rejection> {
        let mut found = Vec::new();
        let (mut refusal, mut is_known) = (None, false);
        for place in self.places_named(step, item, VerbName::Skip)? {
            match self.skippable(place) {
                Ok(Some(operation)) => found.push((place, operation)),
                Ok(None) => is_known = true,
                Err(reason) => refusal = refusal.or(Some((place, reason))),
            }
        }
        if found.is_empty() {
            return match refusal.filter(|_| !is_known) {
                Some((place, reason)) => Err(self.not_now(VerbName::Skip, place, reason)),
                None => Ok(true),
            };
        }
        self.unblock();
        for (place, operation) in found {
            let (attempt, By { actor, reason }) = (self.attempt(place, operation), by.clone());
            self.emit(SagaEvent::StepSkipped { attempt, actor, reason });
        }
        Ok(false)
    }

    /// The operation that can be left out; nothing if it is left out.
    fn skippable(&self, place: Place) -> Result<Option<Operation>, &'static str> {
        let status = self.state.at(place);
        let is_forward = self.state.phase == Phase::Running || self.state.is_past_pivot();
        let is_closed = self.state.steps[place.step].fan.as_ref().is_some_and(|fan| fan.is_closed);
        match status.state {
            StepState::Skipped => Ok(None),
            StepState::CompensationFailed if status.is_undoing_left_out => Ok(None),
            StepState::CompensationFailed => Ok(Some(Operation::Compensation)),
            StepState::Scheduled | StepState::InProgress if !is_forward => {
                Err("is not called any more: the saga is being undone, and only a compensation can be left out")
            }
            StepState::Scheduled | StepState::InProgress if is_closed => {
                Err("is not called any more: another item failed, and what was done is undone")
            }
            StepState::Scheduled | StepState::InProgress if status.kind == StepKind::Pivot => {
                Err("is the pivot, which decides whether the saga goes forward or back: say what is true of it with `resolve`")
            }
            StepState::InProgress if status.action.attempt.is_open() => Err("is being called: wait for the attempt's end"),
            StepState::Compensating if status.compensation.attempt.is_open() => Err("is being compensated: wait for the attempt's end"),
            StepState::Compensating => Ok(Some(Operation::Compensation)),
            StepState::Scheduled | StepState::InProgress => Ok(Some(Operation::Action)),
            StepState::Failed if self.has_no_value(place) => Ok(Some(Operation::Action)),
            StepState::Succeeded | StepState::Failed | StepState::Unknown | StepState::Compensated => {
                Err("has nothing to leave out: it neither waits nor has failed for good")
            }
        }
    }

    fn resolve(&mut self, step: &StepId, item: Option<ItemIndex>, outcome: &StepOutcome, by: &By) -> Result<bool, Rejection> {
        let places = self.places_named(step, item, VerbName::Resolve)?;
        let outcomes = self.outcomes(&places, item, outcome)?;
        let (mut refusal, mut is_known, mut is_new) = (None, false, false);
        for (place, outcome) in places.into_iter().zip(outcomes) {
            // What was said of one item may have ended what waits of others.
            match self.resolvable(place, outcome) {
                Ok(Some(found)) => {
                    self.resolve_as(place, found, by.clone());
                    is_new = true;
                }
                Ok(None) => is_known = true,
                Err(reason) => refusal = refusal.or(Some((place, reason))),
            }
        }
        match refusal.filter(|_| !is_known && !is_new) {
            Some((place, reason)) => Err(self.not_now(VerbName::Resolve, place, reason)),
            None => Ok(!is_new),
        }
    }

    fn resolve_as(&mut self, place: Place, (operation, outcome, output): Resolved, By { actor, reason }: By) {
        self.unblock();
        self.settle_command(place, operation);
        let attempt = self.attempt(place, operation);
        if outcome == StepOutcomeName::Failed {
            self.disown(place.step, attempt.epoch);
        }
        let failure = Failure { code: codes::RESOLVED.to_owned(), message: reason.clone().unwrap_or_default() };
        self.emit(SagaEvent::StepResolved { attempt, outcome, output, actor, reason });
        if outcome == StepOutcomeName::Failed {
            self.fail_by(place, failure);
        }
    }

    /// What is said of each place. Of all items at once that they succeeded is said with what each of them returned.
    pub(super) fn outcomes(&self, places: &[Place], item: Option<ItemIndex>, outcome: &StepOutcome) -> Result<Vec<StepOutcome>, Rejection> {
        let is_of_items = item.is_none() && places.iter().any(|place| place.item.is_some());
        match outcome {
            StepOutcome::Succeeded { output } if is_of_items => {
                let outputs = output.read::<Vec<JsonText>>().ok().filter(|outputs| outputs.len() == places.len());
                let outputs = outputs.ok_or_else(|| {
                    let reason = format!(
                        "it has {0} items: name one of them, or give as the output the list of what they returned, {0} values",
                        places.len()
                    );
                    Rejection::NotNow { verb: VerbName::Resolve, reason }
                })?;
                Ok(outputs.into_iter().map(|output| StepOutcome::Succeeded { output }).collect())
            }
            StepOutcome::Succeeded { .. } | StepOutcome::Failed | StepOutcome::Compensated => Ok(vec![outcome.clone(); places.len()]),
        }
    }

    /// What is said, if it can be; nothing if it is known.
    fn resolvable(&self, place: Place, outcome: StepOutcome) -> Result<Option<Resolved>, &'static str> {
        let status = self.state.at(place);
        if !status.is_call {
            return Err("calls nobody, so there is nothing to find out: `skip` leaves it out, and ends it if it sleeps or waits");
        }
        let is_backward = !(self.state.phase == Phase::Running || self.state.is_past_pivot());
        let is_open_question = match status.state {
            StepState::InProgress => true,
            StepState::Unknown | StepState::Failed => status.compensation.epoch == 0,
            _ => false,
        };
        let resolved = match (outcome, status.state) {
            (StepOutcome::Succeeded { output }, StepState::Succeeded)
                if status.output.as_ref().is_some_and(|known| says_the_same(known, &output)) =>
            {
                return Ok(None);
            }
            (StepOutcome::Failed, StepState::Failed) | (StepOutcome::Compensated, StepState::Compensated) => return Ok(None),
            (StepOutcome::Succeeded { .. }, _) if status.kind == StepKind::Pivot && is_backward => {
                return Err("is the pivot, and the saga is being undone because it did not succeed");
            }
            (StepOutcome::Succeeded { .. }, StepState::Failed)
                if status.has_compensation && is_backward && self.is_ground_taken_away(place.step) =>
            {
                return Err("had no effect as far as was known, and what it rests on is being undone since: undo it by hand");
            }
            (StepOutcome::Succeeded { .. }, StepState::Failed) if self.is_gone_on_without(place) => {
                return Err("had no effect as far as was known, and the saga goes on without it, by its pivot: undo it by hand");
            }
            (StepOutcome::Succeeded { output }, _) if is_open_question => {
                self.has_room_among_items(place, &output)?;
                (Operation::Action, StepOutcomeName::Succeeded, Some(output))
            }
            (StepOutcome::Failed, _) if self.state.is_forward_only(place.step) => return Err("must succeed: do it, and say that it did"),
            (StepOutcome::Failed, StepState::InProgress | StepState::Unknown) if is_open_question => {
                (Operation::Action, StepOutcomeName::Failed, None)
            }
            (StepOutcome::Compensated, StepState::Compensating | StepState::CompensationFailed) => {
                (Operation::Compensation, StepOutcomeName::Compensated, None)
            }
            (StepOutcome::Succeeded { .. } | StepOutcome::Failed, _) => return Err("has no action whose outcome is open"),
            (StepOutcome::Compensated, _) => return Err("has no compensation whose outcome is open"),
        };
        Ok(Some(resolved))
    }

    /// Whether it is an item that another one has failed, of a step that is optional, and nothing can be undone any more.
    fn is_gone_on_without(&self, place: Place) -> bool {
        let is_closed = self.state.steps[place.step].fan.as_ref().is_some_and(|fan| fan.is_closed);
        let is_forward = self.state.is_past_pivot() || self.state.is_pivot_in_flight();
        place.item.is_some() && is_closed && is_forward && !self.state.phase.is_final()
    }

    pub(super) fn not_now(&self, verb: VerbName, place: Place, reason: &str) -> Rejection {
        Rejection::NotNow { verb, reason: format!("step {} {reason}", self.shown(place)) }
    }

    /// What a verb is about: a step, all of its items, or one of them.
    pub(super) fn places_named(&self, step: &StepId, item: Option<ItemIndex>, verb: VerbName) -> Result<Vec<Place>, Rejection> {
        let index = self.index_of(step)?;
        let Some(item) = item else {
            let places: Vec<Place> = self.state.places_of(index).collect();
            // Nothing can be done to the items of an empty list; the step itself is done.
            return Ok(if places.is_empty() { vec![index.into()] } else { places });
        };
        let place = Place { step: index, item: Some(item) };
        if self.state.places_of(index).any(|known| known == place) {
            return Ok(vec![place]);
        }
        let reason = match &self.state.steps[index].fan {
            Some(fan) => format!("step `{step}` has {} items, counted from 0, and no item {item}", fan.len()),
            None if self.state.steps[index].max_parallel.is_some() => format!("step `{step}` has no items yet: its turn has not come"),
            None => format!("step `{step}` does not fan out: leave the item out"),
        };
        Err(Rejection::NotNow { verb, reason })
    }

    fn edit_input(&mut self, input: JsonText, By { actor, reason }: By) -> Result<bool, Rejection> {
        if says_the_same(&input, &self.state.head.input) {
            return Ok(true);
        }
        self.require_fitting(&input)?;
        let locks = self.locks_with(&input)?;
        self.emit(SagaEvent::SagaInputEdited { input, actor, reason });
        self.lock_instead(locks);
        Ok(false)
    }

    /// An input that fits the schema, and has the key of the saga.
    pub(super) fn require_fitting(&self, input: &JsonText) -> Result<(), Rejection> {
        if !input.is_object() {
            return Err(Rejection::InvalidInput("it must be a JSON object".to_owned()));
        }
        if let Some(misfit) = self.definition.input.as_ref().and_then(|schema| schema.misfit(input)) {
            return Err(Rejection::Misfit(misfit));
        }
        if self.state.parent.is_some() {
            // Its key is not made of its input.
            return Ok(());
        }
        let key = self.definition.business_key(input).map_err(|error| Rejection::InvalidInput(error.to_string()))?;
        if key != self.state.head.key {
            let own = &self.state.head.key;
            return Err(Rejection::InvalidInput(format!("its key is `{key}`, and the key of the saga stays `{own}`")));
        }
        Ok(())
    }

    /// Whether undoing has begun of a step that this one comes after: then this one cannot be undone before it any more.
    fn is_ground_taken_away(&self, index: usize) -> bool {
        let mut before: Vec<usize> = self.definition.steps[index].after.clone();
        let mut seen = vec![false; self.state.steps.len()];
        while let Some(index) = before.pop() {
            if core::mem::replace(&mut seen[index], true) {
                continue;
            }
            if self.state.steps[index].is_undoing_begun() {
                return true;
            }
            before.extend(&self.definition.steps[index].after);
        }
        false
    }

    /// A blocked instance goes on in its direction; what still blocks it does so again.
    fn unblock(&mut self) {
        if self.state.phase == Phase::Blocked {
            self.emit(SagaEvent::SagaUnblocked);
        }
    }

    pub(super) fn index_of(&self, step: &StepId) -> Result<usize, Rejection> {
        self.state.step_index(step).ok_or_else(|| Rejection::NoStep(step.clone()))
    }

    /// The step, or the item, with its state, for people.
    pub(super) fn shown(&self, place: Place) -> String {
        let status = self.state.at(place);
        let item = place.item.map(|item| format!("[{item}]")).unwrap_or_default();
        format!("`{}{item}` ({:?})", status.id, status.state)
    }
}

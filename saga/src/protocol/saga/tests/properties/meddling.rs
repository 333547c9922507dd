//! The operators of a run: they do anything at any time, find out what nobody knew, rerun what came to rest and mend what is blocked.

use super::super::fixture::*;
use super::books::Books;
use super::world::World;
use crate::definition::StepKind;
use crate::protocol::saga::{Phase, Place};
use crate::protocol::{HandOut, Input, Rejection};
use sagamq_api::saga::{Operation, SagaVerb, StepAttempt, StepOutcome, StepState};
use serde_json::json;

impl World {
    /// An operator does anything, and says of a step only what is true.
    pub(super) fn meddle(&mut self) {
        let step = self.any_step();
        match self.random.next_u64() % 20 {
            0..=3 => drop(self.operate(SagaVerb::Pause)),
            4..=8 => drop(self.operate(SagaVerb::Resume)),
            9..=11 => drop(self.operate(SagaVerb::Retry { item: None, step: None })),
            12 => drop(self.operate(SagaVerb::Retry { item: None, step: Some(id(&format!("s{step}"))) })),
            13 | 14 => drop(self.operate(SagaVerb::Skip { item: None, step: id(&format!("s{step}")) })),
            15 => drop(self.operate(SagaVerb::EditInput { input: json!({"edited": step}).into() })),
            16 if self.random.fraction() < 0.2 => drop(self.operate(SagaVerb::Terminate)),
            17 if self.random.fraction() < 0.3 => self.end_without_doubt(),
            18 => {
                let Place { step, item } = self.any_place(step);
                self.operate(SagaVerb::Skip { item, step: id(&format!("s{step}")) });
            }
            _ => {
                let place = self.any_place(step);
                self.resolve(place);
            }
        }
    }

    /// The step, or an item of it.
    fn any_place(&mut self, step: usize) -> Place {
        let places: Vec<Place> = self.run.state.places_of(step).collect();
        let at = self.random.next_u64().checked_rem(places.len() as u64).unwrap_or(0);
        places.get(usize::try_from(at).expect("an index")).copied().unwrap_or_else(|| step.into())
    }

    fn any_step(&mut self) -> usize {
        usize::try_from(self.random.next_u64() % self.books.len() as u64).expect("an index")
    }

    pub(super) fn operate(&mut self, verb: SagaVerb) -> bool {
        let is_done = self.run.operate(verb).is_ok();
        if is_done {
            self.take_commands();
        }
        is_done
    }

    /// The operator looks, and sees to it that it stays true.
    fn resolve(&mut self, place: Place) {
        let (step, at) = (place.step, place.item_index().unwrap_or(0));
        let is_undoing = matches!(self.run.state.at(place).state, StepState::Compensating | StepState::CompensationFailed);
        let outcome = match &self.books[step][at] {
            _ if is_undoing => StepOutcome::Compensated,
            Books { applied: true, undone: false, .. } => StepOutcome::Succeeded { output: json!({"ok": true}).into() },
            _ => StepOutcome::Failed,
        };
        if self.operate(SagaVerb::Resolve { item: place.item, step: id(&format!("s{step}")), outcome: outcome.clone() }) {
            let books = &mut self.books[step][at];
            if outcome == StepOutcome::Compensated {
                books.undone = books.applied;
            }
            books.undo_seen |= !matches!(outcome, StepOutcome::Succeeded { .. });
        }
    }

    /// An operator ends it as it is, and finds out before what became of every call.
    fn end_without_doubt(&mut self) {
        if self.operate(SagaVerb::Pause) {
            for place in self.run.state.places().collect::<Vec<_>>() {
                self.resolve(place);
            }
            self.operate(SagaVerb::Terminate);
        }
    }

    /// An operator finds out what nobody knew of what came to rest, or undoes by hand what stands.
    fn find_out(&mut self) {
        for place in self.run.state.places().collect::<Vec<_>>() {
            let (step, at) = (place.step, place.item_index().unwrap_or(0));
            match self.run.state.at(place).stands().filter(|_| !self.run.state.steps[step].is_handed_over) {
                Some(true) if self.random.fraction() < 0.5 => self.resolve(place),
                Some(false) if self.random.fraction() < 0.1 => {
                    let undone = SagaVerb::Resolve { item: place.item, step: id(&format!("s{step}")), outcome: StepOutcome::Compensated };
                    if self.operate(undone) {
                        let books = &mut self.books[step][at];
                        (books.undone, books.undo_seen) = (books.applied, true);
                    }
                }
                _ => {}
            }
        }
        self.check_books();
    }

    /// What came to rest is rerun from a step; gives whether that was possible.
    fn rerun(&mut self) -> bool {
        let (from, before) = (self.any_step(), self.run.state.clone());
        let input = (self.random.fraction() < 0.3).then(|| json!({"edited": from + 100}).into());
        if self.run.operate(SagaVerb::Rerun { from: id(&format!("s{from}")), input }).is_err() {
            assert_eq!(self.run.state, before, "what is refused changes nothing");
            return false;
        }
        assert!(self.run.commands.is_empty(), "what is handed over calls nobody");
        let next = self.run.take_next();
        let random = &mut self.random;
        let definitions = &next.definition.steps;
        let books = next.state.steps.iter().enumerate().zip(&mut self.books).map(|((index, step), books)| {
            if step.origin.is_some() {
                for place in next.state.places_of(index).filter(|place| next.state.at(*place).state == StepState::Succeeded) {
                    assert!(books[place.item_index().unwrap_or(0)].is_in_effect(), "{} is taken over, and in effect", step.id);
                }
                return core::mem::replace(books, vec![Books::default(); books.len()]);
            }
            let leaves_nothing = step.kind == StepKind::Compensatable && !step.has_compensation;
            assert!(books.iter().all(|books| !books.is_in_effect()) || leaves_nothing, "{} would be done twice", step.id);
            Books::of(&definitions[index], random)
        });
        let books = books.collect();
        let origin = core::mem::replace(&mut self.run, next);
        // The rerun has been sent nothing.
        self.signalled.clear();
        self.past.push((origin, core::mem::replace(&mut self.books, books)));
        self.take_commands();
        true
    }

    /// Whatever is said to an instance that was rerun, nothing follows.
    fn haunt(&mut self) {
        let random = &mut self.random;
        for (run, books) in &mut self.past {
            let before = run.history.len();
            let step = usize::try_from(random.next_u64() % books.len() as u64).expect("an index");
            let name = format!("s{step}");
            for verb in [
                SagaVerb::Cancel,
                SagaVerb::Terminate,
                SagaVerb::Retry { item: None, step: None },
                SagaVerb::Skip { item: None, step: id(&name) },
            ] {
                assert!(matches!(run.operate(verb), Err(Rejection::HandedOver(_))));
            }
            let operation = if random.fraction() < 0.5 { Operation::Action } else { Operation::Compensation };
            let places: Vec<Place> = run.state.places_of(step).collect();
            let Some(Place { item, .. }) = places.last().copied() else { continue };
            let attempt = run.state.named(&StepAttempt { step: id(&name), item, operation, epoch: 1 });
            let outcome = if random.fraction() < 0.5 { done() } else { unknown() };
            let said = run.input(Input::Reply { attempt, outcome, note: None, branch_address: None });
            assert!(matches!(said, Ok(true) | Err(Rejection::Fenced { .. })), "{said:?}");
            run.look(HandOut::Unknown);
            assert!(run.history.len() == before && run.commands.is_empty() && run.next.is_none());
        }
    }

    /// An operator mends what is blocked, until it is not.
    pub(super) fn mend(&mut self) {
        for _ in 0..50 {
            let is_stuck = |place: &Place| {
                let status = self.run.state.at(*place);
                status.state == StepState::CompensationFailed && !status.is_undoing_left_out
            };
            let stuck = self.run.state.places().find(is_stuck);
            // Somebody else may have ended it meanwhile.
            let Some(stuck) = stuck.filter(|_| self.run.state.phase == Phase::Blocked) else { break };
            match self.random.next_u64() % 3 {
                0 => {
                    self.books[stuck.step][stuck.item_index().unwrap_or(0)].undo_refusals_left = 0;
                    assert!(self.operate(SagaVerb::Retry { item: None, step: None }), "it is blocked");
                }
                1 => {
                    let Place { step, item } = stuck;
                    assert!(self.operate(SagaVerb::Skip { item, step: id(&format!("s{step}")) }), "it is blocked");
                }
                _ => self.resolve(stuck),
            }
            while self.happen() {}
            assert!(self.run.state.phase.is_at_rest(), "it ends again: {:?}", self.run.state);
        }
        self.restart();
        self.check_books();
    }

    /// Gives how often it was rerun.
    pub(in crate::protocol::saga::tests) fn run_through_reruns(&mut self) -> usize {
        self.run_to_the_end();
        for _ in 0..8 {
            if self.run.state.phase.is_final() {
                self.find_out();
            }
            if self.rerun() {
                self.haunt();
                self.run_to_the_end();
                self.haunt();
            }
        }
        self.past.len()
    }
}

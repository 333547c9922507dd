//! The operators of a run: they do anything at any time, find out what nobody knew, rerun what came to rest and mend what is blocked.

use super::super::fixture::*;
use super::books::Books;
use super::world::World;
use crate::definition::StepKind;
use crate::protocol::saga::Phase;
use crate::protocol::{HandOut, Rejection};
use sagamq_api::saga::{Operation, SagaVerb, StepOutcome, StepState};
use serde_json::json;

impl World {
    /// An operator does anything, and says of a step only what is true.
    pub(super) fn meddle(&mut self) {
        let step = self.any_step();
        match self.random.next_u64() % 20 {
            0..=3 => drop(self.operate(SagaVerb::Pause)),
            4..=8 => drop(self.operate(SagaVerb::Resume)),
            9..=11 => drop(self.operate(SagaVerb::Retry { step: None })),
            12 => drop(self.operate(SagaVerb::Retry { step: Some(id(&format!("s{step}"))) })),
            13 | 14 => drop(self.operate(SagaVerb::Skip { step: id(&format!("s{step}")) })),
            15 => drop(self.operate(SagaVerb::EditInput { input: json!({"edited": step}).into() })),
            16 if self.random.fraction() < 0.2 => drop(self.operate(SagaVerb::Terminate)),
            17 if self.random.fraction() < 0.3 => self.end_without_doubt(),
            _ => self.resolve(step),
        }
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
    fn resolve(&mut self, step: usize) {
        let is_undoing = matches!(self.run.state.steps[step].state, StepState::Compensating | StepState::CompensationFailed);
        let outcome = match &self.books[step] {
            _ if is_undoing => StepOutcome::Compensated,
            Books { applied: true, undone: false, .. } => StepOutcome::Succeeded { output: json!({"ok": true}).into() },
            _ => StepOutcome::Failed,
        };
        if self.operate(SagaVerb::Resolve { step: id(&format!("s{step}")), outcome: outcome.clone() }) {
            let books = &mut self.books[step];
            if outcome == StepOutcome::Compensated {
                books.undone = books.applied;
            }
            books.undo_seen |= !matches!(outcome, StepOutcome::Succeeded { .. });
        }
    }

    /// An operator ends it as it is, and finds out before what became of every call.
    fn end_without_doubt(&mut self) {
        if self.operate(SagaVerb::Pause) {
            for step in 0..self.books.len() {
                self.resolve(step);
            }
            self.operate(SagaVerb::Terminate);
        }
    }

    /// An operator finds out what nobody knew of what came to rest, or undoes by hand what stands.
    fn find_out(&mut self) {
        for step in 0..self.books.len() {
            match self.run.state.steps[step].stands() {
                Some(true) if self.random.fraction() < 0.5 => self.resolve(step),
                Some(false) if self.random.fraction() < 0.1 => {
                    let undone = SagaVerb::Resolve { step: id(&format!("s{step}")), outcome: StepOutcome::Compensated };
                    if self.operate(undone) {
                        self.books[step].undone = self.books[step].applied;
                        self.books[step].undo_seen = true;
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
        let books = next.state.steps.iter().zip(&mut self.books).map(|(step, books)| {
            if step.origin.is_some() {
                assert!(books.is_in_effect(), "{} is taken over, and in effect", step.id);
                return core::mem::take(books);
            }
            let leaves_nothing = step.kind == StepKind::Compensatable && !step.has_compensation;
            assert!(!books.is_in_effect() || leaves_nothing, "{} would be done twice", step.id);
            Books::random(random)
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
            for verb in [SagaVerb::Cancel, SagaVerb::Terminate, SagaVerb::Retry { step: None }, SagaVerb::Skip { step: id(&name) }] {
                assert!(matches!(run.operate(verb), Err(Rejection::HandedOver(_))));
            }
            let operation = if random.fraction() < 0.5 { Operation::Action } else { Operation::Compensation };
            let said = run.reply_to(&name, operation, 1, if random.fraction() < 0.5 { done() } else { unknown() });
            assert!(matches!(said, Ok(true) | Err(Rejection::Fenced { .. })), "{said:?}");
            run.look(HandOut::Unknown);
            assert!(run.history.len() == before && run.commands.is_empty() && run.next.is_none());
        }
    }

    /// An operator mends what is blocked, until it is not.
    pub(super) fn mend(&mut self) {
        for _ in 0..50 {
            let stuck =
                self.run.state.steps.iter().position(|step| step.state == StepState::CompensationFailed && !step.is_undoing_left_out);
            // Somebody else may have ended it meanwhile.
            let Some(stuck) = stuck.filter(|_| self.run.state.phase == Phase::Blocked) else { break };
            match self.random.next_u64() % 3 {
                0 => {
                    self.books[stuck].undo_refusals_left = 0;
                    assert!(self.operate(SagaVerb::Retry { step: None }), "it is blocked");
                }
                1 => assert!(self.operate(SagaVerb::Skip { step: id(&format!("s{stuck}")) }), "it is blocked"),
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

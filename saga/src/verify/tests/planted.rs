//! Bugs that are planted around the protocol, and never in it: what the search is worth is shown by what it finds.

use super::super::{Bounds, Decides, Report, Shipped, Subject, verify};
use super::{Compiled, data, linear, shape, shown};
use crate::definition::{Definition, StepKind};
use crate::protocol::saga::{InstanceState, Phase, SagaEvent};
use crate::protocol::{Command, Decision, Input, Rejection, Told};
use sagamq_api::JsonText;
use sagamq_api::saga::{AttemptId, CallOutcome, Operation};
use uuid::Uuid;

const TWO: Bounds = Bounds { faults: 2, attempts: 2, states: 1_000_000, threads: 1, reduce: true };

/// A planted bug.
#[derive(Clone, Copy, Debug)]
enum Plant {
    /// The compensation of the first step is not called, and taken for done.
    CompensationDropped,
    /// Effects are undone all at once, as if nothing rested on anything.
    UndoneAtOnce,
    /// The pivot is a step like any other.
    UndonePastThePivot,
    /// An unknown outcome is read as a refusal.
    UnknownIsRefused,
    /// The second attempt has other arguments.
    OtherArguments,
    /// A refusal that is heard is forgotten.
    RefusalIgnored,
    /// The saga's timeout does nothing.
    TimeoutIgnored,
    /// What is decided is not what is written.
    WrittenOtherwise,
    /// Nobody is told.
    NotTold,
    /// What is told is told twice.
    ToldTwice,
    /// It is told when the call is made.
    ToldEarly,
}

impl Plant {
    /// The definition that the protocol is given.
    fn given(self, definition: &Definition, state: &InstanceState) -> Definition {
        let mut definition = definition.clone();
        match self {
            Self::UndoneAtOnce if state.phase == Phase::Compensating => {
                definition.steps.iter_mut().for_each(|step| step.after.clear());
            }
            Self::UndonePastThePivot => definition.steps.iter_mut().for_each(|step| step.kind = StepKind::Compensatable),
            _ => {}
        }
        definition
    }
}

type Decided = Result<Decision<InstanceState, SagaEvent>, Rejection>;

impl Decides for Plant {
    fn new_instance(&self, id: Uuid, definition: &Definition) -> InstanceState {
        let empty = InstanceState::new(id, definition);
        InstanceState::new(id, &self.given(definition, &empty))
    }

    fn decide(&self, definition: &Definition, state: &InstanceState, input: Input, now_ms: u64) -> Decided {
        let given = self.given(definition, state);
        let (input, hides_timeout) = match (self, input) {
            (Self::RefusalIgnored, Input::Reply { outcome: CallOutcome::Refused { .. }, .. }) => return Err(Rejection::NotStarted),
            (Self::TimeoutIgnored, input @ Input::Timer { .. }) => (input, true),
            (_, input) => (input, false),
        };
        let now_ms = if hides_timeout { now_ms.min(state.timeout_at_ms.map_or(u64::MAX, |at_ms| at_ms - 1)) } else { now_ms };
        let mut decision = Shipped.decide(&given, state, input, now_ms)?;
        match self {
            Self::CompensationDropped => self.drop_compensations(&given, &mut decision, now_ms)?,
            Self::UnknownIsRefused => read_as_refused(state, &mut decision),
            Self::OtherArguments => {
                for command in &mut decision.commands {
                    if let Command::Call(command) = command
                        && command.call.attempt.epoch > 1
                    {
                        command.call.arguments = JsonText::from(serde_json::json!({ "again": true }));
                    }
                }
            }
            Self::NotTold => decision.commands.retain(|command| !matches!(command, Command::Tell(_))),
            Self::ToldTwice => {
                let told: Vec<Command> = decision.commands.iter().filter(|command| matches!(command, Command::Tell(_))).cloned().collect();
                decision.commands.extend(told);
            }
            Self::ToldEarly => tell_early(&given, &mut decision),
            Self::WrittenOtherwise if decision.events.len() > 1 => drop(decision.events.pop()),
            _ => {}
        }
        Ok(decision)
    }
}

impl Plant {
    fn drop_compensations(
        self,
        definition: &Definition,
        decision: &mut Decision<InstanceState, SagaEvent>,
        now_ms: u64,
    ) -> Result<(), Rejection> {
        let is_dropped = |command: &Command| match command {
            Command::Call(command) => {
                command.call.attempt.operation == Operation::Compensation && command.call.attempt.step.as_str() == "s0"
            }
            _ => false,
        };
        if let Some(at) = decision.commands.iter().position(is_dropped) {
            let Command::Call(command) = decision.commands.remove(at) else { unreachable!("it is a call") };
            let outcome = CallOutcome::Succeeded { output: JsonText::null() };
            let input = Input::Reply { attempt: command.call.attempt, outcome, note: None, branch_address: None };
            let next = Shipped.decide(definition, &decision.state, input, now_ms)?;
            decision.events.extend(next.events);
            decision.commands.extend(next.commands);
            decision.state = next.state;
        }
        Ok(())
    }
}

/// What a step tells is told with its call.
fn tell_early(definition: &Definition, decision: &mut Decision<InstanceState, SagaEvent>) {
    decision.commands.retain(|command| !matches!(command, Command::Tell(_)));
    let called = decision.commands.iter().filter_map(|command| match command {
        Command::Call(command) if command.call.attempt.epoch == 1 => Some(command.call.attempt.clone()),
        _ => None,
    });
    let told: Vec<Command> = called.filter_map(|attempt| told(definition, &decision.state, attempt)).collect();
    decision.commands.extend(told);
}

fn told(definition: &Definition, state: &InstanceState, attempt: AttemptId) -> Option<Command> {
    let step = definition.steps.iter().find(|step| step.id == attempt.step)?;
    let emission = if attempt.operation == Operation::Action { step.emit.as_ref() } else { step.emit_undone.as_ref() }?;
    Some(Command::Tell(Box::new(Told {
        topic: emission.topic.clone(),
        key: state.head.key.clone(),
        value: None,
        headers: Vec::new(),
        failed: None,
        attempt,
        saga: definition.name.clone(),
        version: definition.version,
        business_key: state.head.key.clone(),
    })))
}

/// A step that became unknown is failed instead.
fn read_as_refused(before: &InstanceState, decision: &mut Decision<InstanceState, SagaEvent>) {
    let is_unknown = |event: &SagaEvent| matches!(event, SagaEvent::StepUnknown { .. });
    if !decision.events.iter().any(|recorded| is_unknown(&recorded.event)) {
        return;
    }
    let mut state = before.clone();
    let mut events = Vec::new();
    for mut recorded in decision.events.drain(..) {
        if let SagaEvent::StepUnknown { attempt, failure } = recorded.event {
            recorded.event = SagaEvent::StepFailed { attempt, failure };
        }
        // What undid it is not called, then.
        if state.apply(&recorded.event, recorded.at_ms).is_ok() {
            events.push(recorded);
        } else {
            break;
        }
    }
    if state.phase == Phase::Compensating && state.steps.iter().all(|step| step.live_operation().is_none() && !step.needs_undoing()) {
        let at_ms = state.head.updated_at_ms;
        let event = SagaEvent::SagaFailed;
        if state.apply(&event, at_ms).is_ok() {
            events.push(crate::protocol::Recorded { at_ms, event });
        }
    }
    (decision.events, decision.state) = (events, state);
    decision.commands.clear();
}

fn find(compiled: &Compiled, plant: Plant) -> Report {
    let data = data(compiled);
    let sound = verify(Subject::new(&compiled.definition, &compiled.invariants, &data), TWO, None);
    assert!(!sound.is_broken(), "without the planted bug: {}", shown(&sound));
    let subject = Subject { decides: &plant, ..Subject::new(&compiled.definition, &compiled.invariants, &data) };
    let (reduced, plain) = (verify(subject, TWO, None), verify(subject, Bounds { reduce: false, ..TWO }, None));
    let ways = |report: &Report| -> Vec<(String, usize)> {
        report.violations.iter().map(|violation| (violation.property.clone(), violation.script.moves.len())).collect()
    };
    assert_eq!(ways(&reduced), ways(&plain), "reductions hide nothing");
    reduced
}

/// The bug is found, by a way of so many moves.
fn is_found(compiled: &Compiled, plant: Plant, property: &str, length: usize) {
    let report = find(compiled, plant);
    let found = report.violations.iter().find(|violation| violation.property == property);
    let found = found.unwrap_or_else(|| panic!("{plant:?} is not found: {}", shown(&report)));
    println!("{plant:?}: {}\n{}", found.what, found.timeline);
    assert!(found.shortest);
    assert_eq!(found.script.moves.len(), length, "{plant:?}: {:#?}", found.script.moves);
}

#[test]
fn a_dropped_compensation_is_found() {
    // Serve it, hear it, and the next call waits in its queue until the saga's time is over.
    is_found(&linear(2, None), Plant::CompensationDropped, "effects", 3);
}

#[test]
fn undoing_at_once_is_found() {
    is_found(&linear(3, None), Plant::UndoneAtOnce, "order", 6);
}

#[test]
fn undoing_past_the_pivot_is_found() {
    is_found(&linear(3, Some(1)), Plant::UndonePastThePivot, "pivot", 6);
}

#[test]
fn unknown_read_as_refused_is_found() {
    is_found(&linear(1, None), Plant::UnknownIsRefused, "effects", 3);
}

#[test]
fn other_arguments_are_found() {
    is_found(&linear(1, None), Plant::OtherArguments, "arguments", 3);
}

#[test]
fn a_refusal_that_is_forgotten_is_found() {
    is_found(&linear(1, None), Plant::RefusalIgnored, "ends", 2);
}

#[test]
fn a_timeout_that_does_nothing_is_found() {
    is_found(&linear(1, None), Plant::TimeoutIgnored, "timeout", 1);
}

#[test]
fn what_is_not_written_is_found() {
    is_found(&shape(&[&[], &[]], None, ""), Plant::WrittenOtherwise, "restart", 0);
}

/// Two steps that tell what they did and undid.
fn telling() -> Compiled {
    let text = "saga: s\nversion: 1\nkey: ${ input.k }\nservices: { a: { http: \"http://a\" } }\nsteps:\n".to_owned()
        + &(0..2)
            .map(|step| {
                format!(
                    "  - id: s{step}\n    call: a.do\n    emit: {{ topic: told, value: done }}\n    compensate: {{ call: a.undo, emit: {{ topic: told, value: undone }} }}\n"
                )
            })
            .collect::<String>();
    crate::dsl::compile(&text).unwrap_or_else(|faults| panic!("{faults:?}"))
}

#[test]
fn what_is_not_told_or_told_twice_or_too_early_is_found() {
    // Both are done, and nobody was told: that is seen at the end.
    is_found(&telling(), Plant::NotTold, "told", 4);
    is_found(&telling(), Plant::ToldTwice, "told", 2);
    is_found(&telling(), Plant::ToldEarly, "told", 0);
}

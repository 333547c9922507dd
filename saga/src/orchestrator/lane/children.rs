//! Sub-sagas, from lane to lane: a parent's commit sends what it wants of one, and the commit that takes it does it; so with the answer.
//! Nothing of it can be lost or happen twice, so nobody repeats it.

use super::along::{Along, Taking};
use super::decide::{Decided, Panicked};
use super::locks::claimed;
use super::refusal::{Undecided, is_passing};
use super::task::{Lane, Live};
use crate::definition::{Definition, Target};
use crate::orchestrator::beside::beside;
use crate::orchestrator::choice::choose;
use crate::orchestrator::codes::{of_instance, of_write};
use crate::orchestrator::definitions::DefinitionError;
use crate::orchestrator::error::InstanceError;
use crate::protocol::{
    By, CallCommand, ChildName, Command, FIRST_GENERATION, Input, Instance, Parent, Protocol, Related, Verb, codes, instance_id, lane_of,
    lane_of_key,
};
use crate::store::{ChildEnded, ChildNotStarted, LaneMessage, NamedChild, StartChild, UndoChild};
use crate::trace::Causes;
use sagamq_api::limits::SAGA_DEPTH_MAX;
use sagamq_api::saga::{AttemptId, CallOutcome, Failure, Mode, Operation, SagaVerb};
use sagamq_api::{ErrorCode, JsonText};
use sagamq_broker::ShardCommit;
use std::sync::Arc;
use uuid::Uuid;

/// Why a sub-saga is not started.
enum NoStart {
    /// It will not be, however often it is asked for.
    Never(Failure),
    /// It cannot be now.
    Now(Failure),
    /// The device failed: the message is to come again.
    Again,
    /// It was started, and cannot be read: what it did nobody knows. So nothing is said, and whoever waits for it waits on.
    Lost(InstanceError),
}

/// What is to be done with a message whose instance could not decide.
enum Fault {
    /// The device failed: the message is to come again.
    Passing,
    /// Nothing follows from it.
    Lasting(Failure),
}

/// Takes out of the commands what goes to other lanes.
pub(super) fn to_lanes(commands: Vec<Command>) -> (Vec<Command>, Vec<Command>) {
    commands.into_iter().partition(|command| match command {
        Command::Call(call) => matches!(call.target, Target::Saga(_)),
        Command::Settle { target, .. } | Command::Postpone { target, .. } => matches!(target, Target::Saga(_)),
        Command::Relate(_) | Command::Lock { .. } => true,
        Command::Tell(_) => false,
    })
}

impl Lane {
    /// Adds to the commit what a decision sends to other lanes.
    pub(super) fn send(lanes: u16, commit: &mut ShardCommit, commands: Vec<Command>, causes: &Causes<'_>) {
        for command in commands {
            let (to, message) = match command {
                Command::Call(call) => asked(*call, lanes, causes),
                Command::Relate(related) => told(*related, lanes),
                Command::Lock { key, by, wants, must } => claimed(key, by, wants.then_some(must), lanes),
                // What is sent arrives; and what is over is not heard any more.
                Command::Settle { .. } | Command::Postpone { .. } | Command::Tell(_) => continue,
            };
            commit.send(to, message.encode());
        }
    }

    /// A parent starts a sub-saga.
    pub(super) async fn start_child(&mut self, start: StartChild, taking: Taking) {
        let attempt = start.attempt.clone();
        match self.admit_child(&start).await {
            Ok(Some(definition)) => self.begin_child(start, definition, taking).await,
            // Its parent asks again.
            Ok(None) => self.tell_child(&NamedChild { saga: start.saga, key: start.key }, Input::ParentAsks, taking).await,
            Err(NoStart::Never(failure)) => self.answer_parent(attempt, CallOutcome::Refused { failure }, taking).await,
            Err(NoStart::Now(failure)) => {
                let message = LaneMessage::ChildNotStarted(ChildNotStarted { attempt: attempt.clone(), failure });
                self.send_alone(attempt.instance, message, taking).await;
            }
            Err(NoStart::Again) => {}
            Err(NoStart::Lost(error)) => {
                tracing::error!(saga = %attempt.instance, step = %attempt.step, %error, "a sub-saga that is asked for cannot be read, and its parent waits on");
                self.take_only(taking).await;
            }
        }
    }

    /// What the sub-saga is started with; nothing if it is there already.
    async fn admit_child(&mut self, start: &StartChild) -> Result<Option<Arc<Definition>>, NoStart> {
        let StartChild { saga, version, key, input, depth, attempt, .. } = start;
        let never = |code: &str, message: String| NoStart::Never(Failure { code: code.to_owned(), message });
        let of_store = |error: InstanceError| match error {
            InstanceError::Store(error) if is_passing(&error) => NoStart::Again,
            error => NoStart::Lost(error),
        };
        if let Some(id) = self.last_started(saga, key).map_err(of_store)? {
            let is_own = |instance: &Instance| instance.parent().is_some_and(|parent| parent.attempt == *attempt);
            if self.looked_at(id, is_own).map_err(of_store)? == Some(true) {
                return Ok(None);
            }
            return Err(never(ErrorCode::SagaKeyConflict.as_str(), format!("the key `{key}` started saga {id}, which is no sub-saga")));
        }
        if *depth > SAGA_DEPTH_MAX {
            let message =
                format!("`{saga}` would be the sub-saga of {depth} sagas above it; the bound is {SAGA_DEPTH_MAX} (`SAGA_DEPTH_MAX`)");
            return Err(never(codes::SAGA_TOO_DEEP, message));
        }
        let definitions = &self.parts.definitions;
        let found = match version {
            Some(version) => definitions.find(saga, Some(*version)),
            None => definitions.candidates(saga).map(|candidates| choose(candidates, key)),
        };
        let definition = match found {
            Ok(published) => Arc::clone(&published.definition),
            Err(error @ DefinitionError::NotFound { .. }) => return Err(never(ErrorCode::DefinitionNotFound.as_str(), error.to_string())),
            Err(error @ DefinitionError::Unreadable { .. }) => return Err(never(ErrorCode::StorageCorrupt.as_str(), error.to_string())),
        };
        let about = format!("version {} of the saga `{saga}`", definition.version);
        if let Some(reason) = definition.forbids(Mode::Saga) {
            return Err(never(ErrorCode::ModeNotPossible.as_str(), format!("{about} cannot be run as a saga: {reason}")));
        }
        if !input.is_object() {
            return Err(never(
                ErrorCode::InvalidSagaInput.as_str(),
                format!("the input of {about} is a JSON object, and `with` gives none"),
            ));
        }
        if definition.input.is_some() {
            let (judging, input) = (Arc::clone(&definition), input.clone());
            let misfit = beside(move || judging.input.as_ref().and_then(|schema| schema.misfit(&input))).await;
            if let Some(misfit) = misfit {
                let message = format!("the input does not fit the schema of {about}, {misfit}");
                return Err(never(ErrorCode::SagaInputMisfit.as_str(), message));
            }
        }
        // It counts among those that may be open, and is never refused for their number: its parent, which is one of them, could not end.
        if let Err(error) = self.parts.store.0.require_room() {
            return Err(NoStart::Now(Failure { code: of_write(&error).as_str().to_owned(), message: error.to_string() }));
        }
        Ok(Some(definition))
    }

    async fn begin_child(&mut self, start: StartChild, definition: Arc<Definition>, taking: Taking) {
        let StartChild { attempt, parent, saga, key, input, depth, trace, .. } = start;
        let id = instance_id(self.parts.store.0.shard(), &saga, &key, FIRST_GENERATION);
        let is_taken = match self.parts.store.first_event(id) {
            Ok(first) => first.is_some() || self.instances.contains_key(&id),
            Err(error) if is_passing(&error) => return,
            Err(_) => true,
        };
        let refused = |code: &str, message: String| CallOutcome::Refused { failure: Failure { code: code.to_owned(), message } };
        if is_taken {
            let outcome = refused(ErrorCode::SagaKeyConflict.as_str(), format!("the id {id} of the sub-saga belongs to another saga"));
            return self.answer_parent(attempt, outcome, taking).await;
        }
        let instance = Instance::new(Protocol::Saga, id, &definition);
        let parent = Some(Box::new(Parent { saga: parent, attempt: attempt.clone(), depth }));
        let (generation, cluster) = (FIRST_GENERATION, self.parts.cluster);
        let input = Input::Start { parent, key: key.clone(), generation, input, cluster, trace };
        let decided: Decided = match self.decide_on(&definition, &instance, input).await {
            Ok(Ok(decided)) => decided,
            Ok(Err(rejection)) => {
                let outcome = refused(ErrorCode::Internal.as_str(), rejection.to_string());
                return self.answer_parent(attempt, outcome, taking).await;
            }
            Err(Panicked) => {
                let outcome = refused(ErrorCode::Internal.as_str(), "the first decision about the sub-saga panicked".to_owned());
                return self.answer_parent(attempt, outcome, taking).await;
            }
        };
        self.keys.insert((saga, key), id);
        self.instances.insert(id, Live { definition, instance });
        self.commit(id, decided, Along { taking: Some(taking), ..Along::default() }, Box::new(|_| ())).await;
    }

    /// The parent is undone: the sub-saga is cancelled, if it still can be. What becomes of it is told as it ends.
    pub(super) async fn cancel_child(&mut self, child: NamedChild, taking: Taking) {
        // A saga that somebody else started under this key is not the parent's to cancel.
        let is_anothers =
            |lane: &Self, id: Uuid| lane.looked_at(id, |instance| instance.parent().is_none()).is_ok_and(|found| found == Some(true));
        if self.last_started(&child.saga, &child.key).is_ok_and(|id| id.is_some_and(|id| is_anothers(self, id))) {
            return self.take_only(taking).await;
        }
        let by = By { actor: None, reason: Some("the saga that started it is undone".to_owned()) };
        self.tell_child(&child, Input::Operate { verb: Verb::Saga(SagaVerb::Cancel), by }, taking).await;
    }

    /// The parent is at its end.
    pub(super) async fn release_child(&mut self, child: NamedChild, taking: Taking) {
        self.tell_child(&child, Input::ParentEnded, taking).await;
    }

    /// Tells a sub-saga something that nobody waits for the answer of.
    async fn tell_child(&mut self, NamedChild { saga, key }: &NamedChild, input: Input, taking: Taking) {
        let found = match self.last_started(saga, key) {
            Ok(Some(id)) => self.decide(id, input).await.map(|decided| (id, decided)),
            Ok(None) => return self.take_only(taking).await,
            Err(error) => Err(error.into()),
        };
        match found {
            Ok((id, decided)) => self.commit(id, decided, Along { taking: Some(taking), ..Along::default() }, Box::new(|_| ())).await,
            Err(error) => match fault(error) {
                Fault::Passing => {}
                Fault::Lasting(_) => self.take_only(taking).await,
            },
        }
    }

    /// A parent wants a sub-saga undone.
    pub(super) async fn undo_child(&mut self, undo: UndoChild, taking: Taking) {
        let UndoChild { attempt, saga, key } = undo;
        let found = match self.last_started(&saga, &key) {
            // What was not started has nothing to undo, and never will be: its start would have come before this.
            Ok(None) => return self.answer_parent(attempt, CallOutcome::Succeeded { output: JsonText::null() }, taking).await,
            Ok(Some(id)) => self.decide(id, Input::Undo(attempt.clone())).await.map(|decided| (id, decided)),
            Err(error) => Err(error.into()),
        };
        match found {
            Ok((id, decided)) => self.commit(id, decided, Along { taking: Some(taking), ..Along::default() }, Box::new(|_| ())).await,
            Err(error) => match fault(error) {
                Fault::Passing => {}
                Fault::Lasting(Failure { message, .. }) => {
                    let failure = Failure {
                        code: codes::CHILD_LOST.to_owned(),
                        message: format!("the sub-saga `{saga}` with the key `{key}`: {message}"),
                    };
                    self.answer_parent(attempt, CallOutcome::Refused { failure }, taking).await;
                }
            },
        }
    }

    /// What became of a sub-saga, or of undoing it.
    pub(super) async fn child_ended(&mut self, ended: ChildEnded, taking: Taking) {
        let ChildEnded { attempt, outcome, note } = ended;
        let to = self.addressee(&attempt);
        self.hear_of_child(to, Input::Reply { attempt, outcome, note, branch_address: None }, taking).await;
    }

    /// A sub-saga cannot be started now.
    pub(super) async fn child_not_started(&mut self, not_started: ChildNotStarted, taking: Taking) {
        let ChildNotStarted { attempt, failure } = not_started;
        self.hear_of_child(attempt.instance, Input::NotSent { attempt, failure, was_never_sent: false }, taking).await;
    }

    async fn hear_of_child(&mut self, parent: Uuid, input: Input, taking: Taking) {
        match self.decide(parent, input).await {
            Ok(decided) => self.commit(parent, decided, Along { taking: Some(taking), ..Along::default() }, Box::new(|_| ())).await,
            Err(error) => {
                tracing::debug!(saga = %parent, %error, "what became of a sub-saga changes nothing");
                if let Fault::Lasting(_) = fault(error) {
                    self.take_only(taking).await;
                }
            }
        }
    }

    async fn answer_parent(&mut self, attempt: AttemptId, outcome: CallOutcome, taking: Taking) {
        let to = attempt.instance;
        self.send_alone(to, LaneMessage::ChildEnded(ChildEnded { attempt, outcome, note: None }), taking).await;
    }

    /// Takes a message of which nothing follows but one to the lane of that instance.
    async fn send_alone(&mut self, to: Uuid, message: LaneMessage, taking: Taking) {
        let mut commit = self.parts.store.0.begin();
        commit.send(lane_of(to), message.encode());
        self.submit(commit, Some(taking), Box::new(|_| ())).await;
    }
}

/// The message that starts or undoes a sub-saga, and its lane.
fn asked(command: CallCommand, lanes: u16, causes: &Causes<'_>) -> (u16, LaneMessage) {
    let CallCommand { target, call, child, .. } = command;
    let (Target::Saga(sub_saga), Some(child)) = (target, child) else { unreachable!("only calls to sub-sagas go to lanes") };
    let (saga, key, attempt) = (sub_saga.name, child.key, call.attempt);
    let lane = lane_of_key(&saga, &key, lanes);
    let message = if attempt.operation == Operation::Action {
        let (parent, version, input, depth) = (call.saga, sub_saga.version, call.arguments, child.depth);
        let trace = causes.attempt(&attempt).map(Box::new);
        LaneMessage::StartChild(StartChild { attempt, parent, saga, version, key, input, depth, trace })
    } else {
        LaneMessage::UndoChild(UndoChild { attempt, saga, key })
    };
    (lane, message)
}

fn told(related: Related, lanes: u16) -> (u16, LaneMessage) {
    let named = |ChildName { saga, key }| (lane_of_key(&saga, &key, lanes), NamedChild { saga, key });
    match related {
        Related::Answer { attempt, outcome, note } => {
            (lane_of(attempt.instance), LaneMessage::ChildEnded(ChildEnded { attempt, outcome, note }))
        }
        Related::Cancel(child) => {
            let (lane, child) = named(child);
            (lane, LaneMessage::CancelChild(child))
        }
        Related::Release(child) => {
            let (lane, child) = named(child);
            (lane, LaneMessage::ReleaseChild(child))
        }
        Related::Disown { child, attempt } => {
            let (lane, NamedChild { saga, key }) = named(child);
            (lane, LaneMessage::UndoChild(UndoChild { attempt, saga, key }))
        }
    }
}

fn fault(error: Undecided) -> Fault {
    match error {
        Undecided::Instance(InstanceError::Store(error)) if is_passing(&error) => Fault::Passing,
        Undecided::Instance(InstanceError::Write(_)) => Fault::Passing,
        Undecided::Instance(error) => Fault::Lasting(Failure { code: of_instance(&error).as_str().to_owned(), message: error.to_string() }),
        Undecided::Rejected(rejection) => Fault::Lasting(Failure { code: String::new(), message: rejection.to_string() }),
    }
}

//! What a protocol is told and what it says. All protocols share these words, so that whoever runs instances need not know which of them
//! an instance is of.

use crate::definition::{Misfit, RetryPolicy, Target};
use crate::protocol::BranchAddress;
use crate::protocol::lock::{Claimant, LockSaid};
use sagamq_api::limits::{SAGA_SIGNALS_BYTES_MAX, SAGA_SIGNALS_MAX};
use sagamq_api::saga::{AttemptId, Call, CallOutcome, Failure, SagaState, SagaVerb, StepAttempt, VerbName};
use sagamq_api::{JsonText, SagaName, SignalName, StepId, TopicName, TraceContext};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What happened outside.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// The instance is to exist.
    Start {
        /// The step that starts it as its sub-saga, if one does.
        parent: Option<Box<Parent>>,
        /// Its business key.
        key: String,
        /// How many instances the key has started, with this one.
        generation: u64,
        /// What it works on.
        input: JsonText,
        /// The data of the server that starts it: only a server with these can say what became of a transaction.
        cluster: Uuid,
        /// The span that started it.
        trace: Option<Box<TraceContext>>,
    },
    /// A participant answered.
    Reply {
        /// The attempt it answers.
        attempt: AttemptId,
        /// What it says.
        outcome: CallOutcome,
        /// What must be told of an output that could not be kept.
        note: Option<Failure>,
        /// Where the worker is that has the branch of a transaction open, if the answer said so.
        branch_address: Option<BranchAddress>,
    },
    /// The participant could not be reached, so nothing was sent; the call stays in its queue.
    NotSent {
        /// The attempt.
        attempt: AttemptId,
        /// What went wrong.
        failure: Failure,
        /// Whether it is certain that it was not sent when it was told that it had been, or might be: a connection was being tried then.
        was_never_sent: bool,
    },
    /// Time has passed.
    Timer {
        /// What is known of the calls that the instance named as unseen. One that is missing may have been handed out.
        hand_outs: Vec<(AttemptId, HandOut)>,
    },
    /// The server was started again, and goes on from the events that it found. Told once to each instance that is not at its end, before
    /// anything else.
    Recovered,
    /// The call of this name, of its parent, wants it undone.
    Undo(AttemptId),
    /// Its parent asks what became of it: it may have missed the answer.
    ParentAsks,
    /// Its parent is at its end, and will not want it undone.
    ParentEnded,
    /// Somebody tells it something that a step waits for, or may.
    Signal(Box<Signal>),
    /// What became of a claim to a lock.
    Lock {
        /// The key.
        key: String,
        /// The number of the claim.
        number: u64,
        /// What became of it.
        said: LockSaid,
    },
    /// An operator intervenes.
    Operate {
        /// What is to be done.
        verb: Verb,
        /// Who wants it and why, for the history.
        by: By,
    },
}

/// The step that started an instance as its sub-saga.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parent {
    /// Name of the parent's definition.
    pub saga: SagaName,
    /// The attempt of the step's action.
    pub attempt: AttemptId,
    /// How many sagas stand above it.
    pub depth: u32,
}

/// What somebody outside tells an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signal {
    /// Its name.
    pub name: SignalName,
    /// What makes it the same when it comes again.
    pub id: Option<String>,
    /// What the step that takes it returns.
    pub payload: JsonText,
    /// Who sends it and why, for the history.
    pub by: By,
}

/// Who intervenes, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct By {
    /// The operator, if it is said.
    pub actor: Option<String>,
    /// The reason, if there is one.
    pub reason: Option<String>,
}

/// What an operator can do to an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verb {
    /// What operators do to sagas; to cancel is possible with every instance.
    Saga(SagaVerb),
    /// Write down what became of a branch that does not say so itself, or says something else.
    ResolveBranch {
        /// Its name.
        branch: String,
        /// What became of it.
        outcome: ResolvedOutcome,
    },
}

/// What an operator says became of a branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResolvedOutcome {
    /// It was committed.
    Committed,
    /// It was rolled back, or never was.
    RolledBack,
    /// Nobody knows, and nobody will.
    Unknown,
}

/// Whether a call was handed to its participant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandOut {
    /// Never: it provably had no effect, and waits in its queue.
    Never,
    /// At this time, in milliseconds since 1970.
    At(u64),
    /// It may have been, before the server was started, and is handed out once more when its turn comes: until then it waits in its queue.
    Again,
    /// It may have been; nobody knows when.
    Unknown,
}

/// What to do once the events are durable.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Call a participant.
    Call(Box<CallCommand>),
    /// The command of an attempt that is over must not reach a participant any more.
    Settle {
        /// The attempt.
        attempt: AttemptId,
        /// Where it was sent.
        target: Target,
        /// Whether the decision holds only if no participant has seen the command. If one has, decide again.
        unseen: bool,
    },
    /// The participant is to be asked again, under the same attempt, at a time that it named.
    Postpone {
        /// The attempt.
        attempt: AttemptId,
        /// Where it was sent.
        target: Target,
        /// When, in milliseconds since 1970.
        due_ms: u64,
    },
    /// The home of a lock is told that the instance wants it, or does not hold it or wait for it any more: a message that is written with the
    /// events.
    Lock {
        /// The key.
        key: String,
        /// The claim.
        by: Claimant,
        /// Whether it is made; else it is over.
        wants: bool,
        /// Whether it waits however many others do, because it cannot fail.
        must: bool,
    },
    /// A step tells others what it has done, or undone: a record that is written with the events.
    Tell(Box<Told>),
    /// A message to the parent or to a sub-saga, which is written with the events.
    Relate(Box<Related>),
}

/// What an instance tells its parent, or a sub-saga. How a sub-saga is started and undone is a [`Command::Call`].
#[derive(Clone, Debug, PartialEq)]
pub enum Related {
    /// To the parent: what became of its call.
    Answer {
        /// The attempt.
        attempt: AttemptId,
        /// What became of it.
        outcome: CallOutcome,
        /// Why it returned no output although it completed.
        note: Option<Failure>,
    },
    /// To a sub-saga that runs: the parent is undone.
    Cancel(ChildName),
    /// To a sub-saga: the parent is at its end, and will not want it undone.
    Release(ChildName),
    /// To a sub-saga, wherever it is on its way: the parent does not count it, so nothing of it is to stay.
    Disown {
        /// The sub-saga.
        child: ChildName,
        /// What asks for it: the undoing of the step, in an attempt of number 0, which nobody waits for.
        attempt: AttemptId,
    },
}

/// Which sub-saga is meant: the instance that the key of a definition started last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChildName {
    /// Name of its definition.
    pub saga: SagaName,
    /// Its business key.
    pub key: String,
}

/// A sub-saga to be started or undone with a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChildCall {
    /// Its business key.
    pub key: String,
    /// How many sagas stand above it.
    pub depth: u32,
}

/// What a step tells others.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// Where it goes.
    pub topic: TopicName,
    /// The record's key.
    pub key: String,
    /// What it says; `None`: its expressions have no value.
    pub value: Option<JsonText>,
    /// The headers that the definition gives it.
    pub headers: Vec<(String, String)>,
    /// Why there is no value.
    pub failed: Option<String>,
    /// What succeeded: an action, or a compensation.
    pub attempt: AttemptId,
    /// The definition of the instance.
    pub saga: SagaName,
    /// Its version.
    pub version: u32,
    /// The instance's business key.
    pub business_key: String,
}

impl Command {
    /// Whether the decision holds only as long as no participant has seen a command of it.
    #[must_use]
    pub const fn must_be_unseen(&self) -> bool {
        matches!(self, Self::Settle { unseen: true, .. })
    }
}

/// A call and its way.
#[derive(Clone, Debug, PartialEq)]
pub struct CallCommand {
    /// How the participant is reached.
    pub target: Target,
    /// How often to try to reach it.
    pub retry: RetryPolicy,
    /// What it is called with.
    pub call: Call,
    /// When it was decided, in milliseconds since 1970.
    pub called_at_ms: u64,
    /// The sub-saga, if the target is one.
    pub child: Option<ChildCall>,
}

/// An event with its time: one entry of the saga log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded<E> {
    /// Milliseconds since 1970.
    pub at_ms: u64,
    /// What happened.
    pub event: E,
}

/// What an input leads to, in a protocol with the states `S` and the events `E`.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision<S, E> {
    /// What happened: to be written first, in this order.
    pub events: Vec<Recorded<E>>,
    /// What to do once the events are durable. A topic call and a settlement are written with the events.
    pub commands: Vec<Command>,
    /// The state after the events: what folding them gives as well.
    pub state: S,
    /// Whether the input was applied before.
    pub duplicate: bool,
    /// Whether the events must be on disk (synced) before the commands are performed and anybody hears of them. If not, it is enough that
    /// they are written behind those before them.
    pub forced: bool,
    /// The next generation of the instance's key, from its first event on: it exists with these events or they do not.
    pub next: Option<Box<Self>>,
}

impl<S, E> Decision<S, E> {
    /// The same decision in other words.
    pub(super) fn map<T, F>(self, state: &impl Fn(S) -> T, event: &impl Fn(E) -> F) -> Decision<T, F> {
        let Self { events, commands, state: old, duplicate, forced, next } = self;
        let events = events.into_iter().map(|Recorded { at_ms, event: old }| Recorded { at_ms, event: event(old) });
        let next = next.map(|next| Box::new(next.map(state, event)));
        Decision { events: events.collect(), commands, state: state(old), duplicate, forced, next }
    }
}

/// Why an input changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// The reply is not of the current attempt, or the step is settled otherwise.
    #[error("the reply is of the attempt `{attempt}`, which is over: {reason}")]
    Fenced {
        /// The attempt of the reply.
        attempt: StepAttempt,
        /// Why it is over.
        reason: String,
    },
    /// The definition has no such step, or the step has no such item.
    #[error("the saga makes no call of the attempt `{attempt}`: it has no such step or operation, or the step no such item")]
    NoSuchStep {
        /// The attempt of the reply.
        attempt: StepAttempt,
    },
    /// The instance passed its pivot, or decided to commit.
    #[error("the saga has passed its pivot, or the transaction its decision, and only goes forward")]
    NotCancellable,
    /// The definition has no such step.
    #[error("the saga has no step `{0}`")]
    NoStep(StepId),
    /// The instance, or the step, is in no state for the verb.
    #[error("{verb}: {reason}")]
    NotNow {
        /// The verb.
        verb: VerbName,
        /// What stands in the way.
        reason: String,
    },
    /// The instance is a two-phase commit, which has no such verb.
    #[error("{0}: only sagas know it, and this is a two-phase commit, which is cancelled before its decision and resolved after it")]
    OnlySagas(VerbName),
    /// The input that an operator gives does not fit.
    #[error("the saga's input does not fit: {0}")]
    InvalidInput(String),
    /// The input that an operator gives does not fit the schema of the definition.
    #[error("the saga's input does not fit the schema of its version, {0}")]
    Misfit(Misfit),
    /// The instance is a saga, which has no branches.
    #[error("only a two-phase commit has branches that can be resolved, and this is a saga")]
    NoTransaction,
    /// The transaction has no such branch.
    #[error("the transaction has no branch `{0}`")]
    NoSuchBranch(String),
    /// The transaction is not decided.
    #[error("the transaction is not decided, so no branch can be out of step with it: cancel it, or wait for its timeout")]
    Undecided,
    /// What became of the branch is known.
    #[error("what became of branch `{0}` is known: there is nothing to resolve")]
    BranchSettled(String),
    /// The instance is at rest.
    #[error("the saga is {0} already")]
    AlreadyFinal(SagaState),
    /// No step of the definition waits for a signal of this name.
    #[error("no step of the saga waits for a signal `{name}`: {}", signals(.known))]
    NoSuchSignal {
        /// The name.
        name: SignalName,
        /// The names that steps wait for.
        known: Vec<SignalName>,
    },
    /// No step waits for the signal any more, or each has its own.
    #[error("the signal `{name}` is not awaited: {reason}")]
    NotAwaited {
        /// The name.
        name: SignalName,
        /// Why.
        reason: String,
    },
    /// The id is that of another signal.
    #[error("a signal with the id `{0}` came before with another name or payload: give this one an id of its own")]
    SignalIdTaken(String),
    /// As many signals as may be wait for their steps.
    #[error(
        "{count} signals with {bytes} bytes wait for steps that have not begun; the bounds are {SAGA_SIGNALS_MAX} signals and \
         {SAGA_SIGNALS_BYTES_MAX} bytes (`SAGA_SIGNALS_MAX`, `SAGA_SIGNALS_BYTES_MAX`), which are fixed: send it when its step waits, or send less"
    )]
    SignalLimit {
        /// How many wait.
        count: usize,
        /// Bytes of their payloads.
        bytes: usize,
    },
    /// The instance is a two-phase commit.
    #[error("the instance is a two-phase commit, in which no step waits for a signal")]
    NoSignals,
    /// The instance was rerun.
    #[error("the saga was rerun as {0}, which has the right to undo what it took over: ask that one")]
    HandedOver(Uuid),
    /// Steps that a rerun would call have effects that stand.
    #[error("the rerun would do again what stands: {}; rerun from a later step, or undo it first", listed(.0))]
    EffectsStand(Vec<StepId>),
    /// Of steps it is not known whether they have an effect.
    #[error("it is not known whether these steps have an effect: {}; what is in doubt is resolved or undone first", listed(.0))]
    InDoubt(Vec<StepId>),
    /// Steps before the first one of a rerun have no effect that could be taken over.
    #[error("these steps come before it and have no effect that stands: {}; rerun from an earlier step", listed(.0))]
    NotDone(Vec<StepId>),
    /// The instance exists.
    #[error("the saga is started already")]
    AlreadyStarted,
    /// The instance has no first event.
    #[error("the saga is not started")]
    NotStarted,
}

/// Names of signals, for people.
fn signals(known: &[SignalName]) -> String {
    match known {
        [] => "none of its steps waits for one".to_owned(),
        known => format!("they wait for {}", known.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")),
    }
}

/// Steps, for people.
fn listed(steps: &[StepId]) -> String {
    steps.iter().map(|step| format!("`{step}`")).collect::<Vec<_>>().join(", ")
}

/// An event that cannot follow the events before it: the log is damaged, or was written by something else.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("event {sequence} ({event}) cannot follow: {reason}")]
pub struct IllegalEvent {
    /// Its place in the history, counted from 0.
    pub sequence: u64,
    /// The event, abbreviated.
    pub event: String,
    /// What forbids it.
    pub reason: String,
}

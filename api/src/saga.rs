//! Bodies of the saga routes: definitions, instances, calls to participants.

mod activation;
mod attempt;
mod batch;
mod call;
mod family;
mod history;
mod incident;
mod item;
mod list;
mod lock;
mod mode;
mod outcome;
mod preview;
mod retention;
mod signal;
mod standing;
mod state;
mod transaction;
mod verb;
mod versions;
mod waits;

pub use activation::{ActivateVersion, Activation, Canary, PublishQuery};
pub use attempt::{AttemptId, CallId, NoCallId, NoOperation, Operation, StepAttempt};
pub use batch::{CallResult, CompleteCalls, CompletedCalls, Completion, NextCall, NextCalls};
pub use call::{Call, CompleteCall, CompletedCall, EVENT_TOPIC, REPLY_TOPIC, TransactionContext, WORKER_GROUP};
pub use family::{ParentStep, SubSaga};
pub use history::{HistoryEvent, HistoryQuery, SagaHistory};
pub use incident::{Incident, IncidentList, IncidentQuery};
pub use item::ItemDescription;
pub use list::{SagaList, SagaQuery};
pub use lock::{BreakLock, BrokenLock, FencedLock, LockDescription, LockList, LockQuery, LockWaiter, StepLock};
pub use mode::{Mode, NoMode};
pub use outcome::CallOutcome;
pub use preview::{PreviewedCall, PreviewedCopy, PreviewedRerun, SagaPreview};
pub use retention::{Retention, RetentionList, SagaRetention};
pub use signal::{KeptSignal, SendSignal, SendSignalByKey, SentSignal};
pub use standing::StandingEffect;
pub use state::{SagaState, StepState};
pub use transaction::{Heuristic, Outcome, TransactionState, TransactionStatus};
pub use verb::{NoSuchVerb, NoVerb, OperateSaga, SagaVerb, StepOutcome, StepOutcomeName, VerbFields, VerbName};
pub use versions::{DefinitionVersion, DefinitionVersions, StateCount};
pub use waits::{HeldBy, ServiceBound, WaitCode, Waits};

use crate::error::Fault;
use crate::json::JsonText;
use crate::names::{SagaName, StepId};
#[cfg(feature = "json-schema")]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
#[cfg(feature = "openapi")]
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

/// Answer of `POST /v1/saga-definitions:lint`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct LintResponse {
    /// Whether the definition could be published.
    pub valid: bool,
    /// Everything that was found, in the order of the text.
    pub faults: Vec<Fault>,
}

/// A published definition. Versions are immutable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct DefinitionDescription {
    /// Name of the saga.
    pub name: SagaName,
    /// Its version.
    pub version: u32,
    /// How its instances are run when a start does not say.
    #[serde(default)]
    pub mode: Mode,
    /// The text as it was published.
    pub source: String,
    /// Milliseconds since 1970.
    pub published_at_ms: u64,
    /// The share of new sagas without a version that take this one, of a hundred: 100 if it is active and no other is tried beside it, 0 if
    /// it is published only.
    #[serde(default)]
    pub starts_percent: u8,
    /// Ids of the steps, in the order of the text.
    pub steps: Vec<StepId>,
    /// Warnings of the linter.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub warnings: Vec<Fault>,
}

/// `GET /v1/saga-definitions`: the newest version of each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct DefinitionList {
    /// Definitions by name.
    pub definitions: Vec<DefinitionDescription>,
}

/// Query of `GET /v1/saga-definitions/{saga}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema, IntoParams))]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", into_params(parameter_in = Query))]
pub struct DefinitionQuery {
    /// The version; without it the newest.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub version: Option<u32>,
}

/// `POST /v1/sagas`: start a saga once by its business key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(deny_unknown_fields)]
pub struct StartSaga {
    /// Name of the definition.
    pub saga: SagaName,
    /// Version of the definition; without it the active one, or the one that is tried beside it, by the business key.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub version: Option<u32>,
    /// How it is run; without it as the definition says. A definition that cannot be run so is refused.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub mode: Option<Mode>,
    /// What the saga works on: a JSON object.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub input: JsonText,
}

/// Query of `POST /v1/sagas` and `GET /v1/sagas/{id}`: how long the answer waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema, IntoParams))]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", into_params(parameter_in = Query))]
pub struct WaitQuery {
    /// How long to wait until the saga is at its end or `BLOCKED`, in milliseconds (default 0, at most 60,000). The answer comes when that is
    /// durable, or when the time is over, with the saga as it is then.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub wait_ms: Option<u64>,
}

/// Answer of `POST /v1/sagas`. The saga is durable: it will run to an end whatever crashes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct StartedSaga {
    /// Id of the instance.
    pub id: Uuid,
    /// Its business key.
    pub key: String,
    /// Whether an earlier request with the same key and input started it.
    pub duplicate: bool,
    /// Its state now.
    pub state: SagaState,
}

/// Why a call did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[cfg_attr(feature = "json-schema", derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Failure {
    /// Stable code, for example `OUT_OF_STOCK`.
    pub code: String,
    /// For people.
    #[serde(default)]
    pub message: String,
}

/// `GET /v1/sagas/{id}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct SagaDescription {
    /// The instance in short.
    #[serde(flatten)]
    pub summary: SagaSummary,
    /// What it was started with.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub input: JsonText,
    /// What it returned, once it is `COMPLETED` and the definition has an `output`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub output: Option<JsonText>,
    /// Its steps, in the order of the definition.
    pub steps: Vec<StepDescription>,
    /// Everything that went wrong, oldest first: no error hides another.
    pub failures: Vec<StepFailure>,
    /// Signals that came before a step waits for them, oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub signals: Vec<KeptSignal>,
    /// Since when it is paused, in milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub paused_at_ms: Option<u64>,
    /// Effects that stand, or may, and that nobody undoes: of an instance that is `TERMINATED`, of a `BLOCKED` one as long as it is, and of a
    /// `COMPLETED` one what may have been done by a step that was left out, or that it went on without.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub standing: Vec<StandingEffect>,
}

/// Answer of `POST /v1/sagas/{id}:{verb}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct OperatedSaga {
    /// Whether nothing changed, because it was so already.
    pub duplicate: bool,
    /// The instance afterwards.
    pub saga: SagaDescription,
}

/// An instance in one row of a listing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct SagaSummary {
    /// Id of the instance.
    pub id: Uuid,
    /// Name of the definition.
    pub saga: SagaName,
    /// Version of the definition.
    pub version: u32,
    /// Business key.
    pub key: String,
    /// State.
    pub state: SagaState,
    /// Milliseconds since 1970.
    pub started_at_ms: u64,
    /// When its last event happened, in milliseconds since 1970.
    pub updated_at_ms: u64,
    /// Number of its events.
    pub events: u64,
    /// Why it is compensated or blocked.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub failure: Option<Failure>,
    /// How it stands as a transaction, if it runs in two phases.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub transaction: Option<TransactionStatus>,
    /// Why it does not move right now, if it is not at its end; of several reasons the one that most needs somebody's help.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub waits: Option<Waits>,
    /// The instance that it is the rerun of: the generation of its key before it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub rerun_of: Option<Uuid>,
    /// Its rerun, the next generation of its key: that alone can be operated, and undoes what it took over.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub rerun_as: Option<Uuid>,
    /// The step of another instance that started it, if one did: it is the sub-saga of that step.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub parent: Option<ParentStep>,
}

/// A step of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct StepDescription {
    /// Id of the step.
    pub id: StepId,
    /// State.
    pub state: StepState,
    /// What its condition (`when`) gave, once it was asked. `false`: the step is `SKIPPED`, by nobody, and returned nothing.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub condition: Option<bool>,
    /// Whether the saga goes on without it: it may be `FAILED`, `COMPENSATED` or `UNKNOWN` in a saga that is `COMPLETED`.
    #[serde(skip_serializing_if = "core::ops::Not::not", default)]
    pub optional: bool,
    /// Attempts of its action.
    pub attempts: u32,
    /// Attempts of its compensation.
    pub compensation_attempts: u32,
    /// What the action returned.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub output: Option<JsonText>,
    /// When the next attempt or the end of this one is due, in milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub due_at_ms: Option<u64>,
    /// Why it does not move right now, if its turn has come and it is not done.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub waits: Option<Waits>,
    /// Whether an operator left its compensation out: its effect stands.
    #[serde(skip_serializing_if = "core::ops::Not::not", default)]
    pub skipped: bool,
    /// The earlier instance that called its action, whose effect was taken over: its compensation has the key of that instance's.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub origin: Option<Uuid>,
    /// Whether its effect was handed over to the rerun, which alone can undo it.
    #[serde(skip_serializing_if = "core::ops::Not::not", default)]
    pub handed_over: bool,
    /// The sub-saga that it started last, if it starts one and did.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub child: Option<SubSaga>,
    /// Its items in their order, if it fans out and its turn has come: its state and its attempts are those of all of them.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub items: Vec<ItemDescription>,
    /// The lock that it is called under, once it was asked for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub lock: Option<StepLock>,
}

/// A failure of one attempt, as it is listed in a description.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct StepFailure {
    /// Which attempt.
    #[serde(flatten)]
    pub attempt: StepAttempt,
    /// What happened.
    pub failure: Failure,
    /// Milliseconds since 1970.
    pub at_ms: u64,
}

/// `POST /v1/sagas/{id}:cancel`: undoes what was done. A saga past its pivot cannot be cancelled, nor a transaction that is decided to commit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct CancelSaga {
    /// Why, for the history.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who wants it, for the history.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
}

/// Answer of `POST /v1/sagas:release`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct ReleasedSagas {
    /// Whether nothing changed, because nothing was held.
    pub duplicate: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::PartitionId;

    #[test]
    fn the_outcome_is_a_tagged_reply() {
        let body = serde_json::json!({
            "instance": Uuid::nil(), "step": "pay", "operation": "action", "epoch": 1,
            "reply": {"outcome": "refused", "failure": {"code": "CARD_REFUSED"}}
        });
        let more = {
            let mut body = body.clone();
            body["more"] = serde_json::json!(1);
            body
        };
        assert!(serde_json::from_value::<CompleteCall>(more).is_err(), "an unknown field is refused");
        let call: CompleteCall = serde_json::from_value(body).expect("a legal body");
        assert_eq!(call.reply, CallOutcome::Refused { failure: Failure { code: "CARD_REFUSED".into(), message: String::new() } });
    }

    /// Texts that a tree would change.
    const TEXTS: [&str; 5] =
        ["12345678901234567890123.50", r#"{"b":1,"a": [1E400, -0],"b":2}"#, r#""\u0041""#, "0.1000", "[1.0,1,18446744073709551616]"];

    fn same<T: Serialize + serde::de::DeserializeOwned + PartialEq + core::fmt::Debug>(value: &T, within: &str) {
        let written = serde_json::to_string(value).expect("JSON");
        assert!(written.contains(within), "{written} holds {within} as it is");
        assert_eq!(serde_json::from_str::<T>(&written).expect("its own form"), *value);
    }

    #[test]
    fn payloads_come_back_with_their_own_text() {
        for text in TEXTS {
            let json = JsonText::parse(text.as_bytes()).expect("JSON");
            let step: StepId = "pay".parse().expect("legal");
            let saga: SagaName = "s".parse().expect("legal");
            same(&CallOutcome::Succeeded { output: json.clone() }, text);
            same(&StartSaga { saga: saga.clone(), version: None, mode: None, input: json.clone() }, text);
            same(&HistoryEvent { sequence: 1, at_ms: 2, r#type: "x".to_owned(), data: json.clone() }, text);
            let instance = Uuid::nil();
            let attempt = AttemptId { instance, step: step.clone(), item: None, operation: Operation::Compensation, epoch: 1 };
            let reply = CallOutcome::Succeeded { output: json.clone() };
            same(&CompleteCall { attempt: attempt.clone(), reply }, text);
            let summary = SagaSummary {
                id: instance,
                saga: saga.clone(),
                version: 1,
                key: "k".to_owned(),
                state: SagaState::Completed,
                started_at_ms: 1,
                updated_at_ms: 2,
                events: 3,
                failure: None,
                transaction: None,
                waits: None,
                rerun_of: None,
                parent: None,
                rerun_as: None,
            };
            let (id, state, output) = (step.clone(), StepState::Succeeded, Some(json.clone()));
            let done = StepDescription {
                id,
                state,
                condition: None,
                optional: false,
                attempts: 1,
                compensation_attempts: 0,
                output: output.clone(),
                due_at_ms: None,
                waits: None,
                skipped: false,
                origin: None,
                handed_over: false,
                child: None,
                items: Vec::new(),
                lock: None,
            };
            let (input, steps) = (json.clone(), vec![done]);
            same(
                &SagaDescription {
                    summary,
                    input,
                    output,
                    steps,
                    failures: Vec::new(),
                    signals: Vec::new(),
                    paused_at_ms: None,
                    standing: Vec::new(),
                },
                text,
            );
            let call = Call {
                attempt,
                saga,
                version: 1,
                key: "k".to_owned(),
                call: "refund".to_owned(),
                idempotency_key: String::new(),
                must_succeed: false,
                started_at_ms: 0,
                deadline_ms: 1,
                timeout_ms: 1,
                arguments: json.clone(),
                action_output: Some(json.clone()),
                lock: None,
                transaction: None,
                reply_partition: PartitionId(0),
            };
            same(&call, text);
        }
    }

    #[test]
    fn every_outcome_is_read_as_it_is_written_and_others_are_refused() {
        let failure = || Failure { code: "NO".to_owned(), message: "not today".to_owned() };
        same(&CallOutcome::Refused { failure: failure() }, r#"{"outcome":"refused","failure":{"#);
        same(&CallOutcome::Ongoing { retry_after_ms: Some(7) }, r#"{"outcome":"ongoing","retry_after_ms":7}"#);
        same(&CallOutcome::Ongoing { retry_after_ms: None }, r#"{"outcome":"ongoing"}"#);
        same(&CallOutcome::Unknown { failure: failure(), retry_after_ms: Some(7) }, r#""retry_after_ms":7"#);
        let bare: CallOutcome = serde_json::from_str(r#"{"outcome":"succeeded"}"#).expect("no output is null");
        assert_eq!(bare, CallOutcome::Succeeded { output: JsonText::null() });
        for wrong in [
            r#"{"outcome":"refused"}"#,
            r#"{"outcome":"unknown","retry_after_ms":1}"#,
            r#"{"outcome":"succeeded","failure":{"code":"NO"}}"#,
            r#"{"outcome":"ongoing","output":1}"#,
            r#"{"outcome":"refused","failure":{"code":"NO"},"retry_after_ms":1}"#,
            r#"{"outcome":"succeeded","more":1}"#,
            r#"{"outcome":"else"}"#,
            r#"{"output":1}"#,
        ] {
            assert!(serde_json::from_str::<CallOutcome>(wrong).is_err(), "{wrong}");
        }
    }
}

//! Several replies in one request, and the next calls in its answer.

use super::attempt::Operation;
use super::call::{CompleteCall, CompletedCall};
use super::outcome::CallOutcome;
use crate::error::Problem;
use crate::ids::ItemIndex;
use crate::json::JsonText;
use crate::names::{StepId, TopicName};
use serde::{Deserialize, Serialize};
#[cfg(feature = "openapi")]
use utoipa::ToSchema;
use uuid::Uuid;

/// Body of `POST /v1/saga-calls:complete`: one reply, or several with a wish for more work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(untagged)]
#[serde(try_from = "Fields")]
pub enum Completion {
    /// One reply; the answer is a [`CompletedCall`].
    One(CompleteCall),
    /// Any number of replies; the answer is [`CompletedCalls`].
    Many(CompleteCalls),
}

/// `POST /v1/saga-calls:complete` with several replies: each is applied by itself, and the answer comes when all of them are durable. One that
/// is refused keeps no other from being applied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CompleteCalls {
    /// The replies, at most 1,000; none to ask for work only.
    #[serde(default)]
    pub calls: Vec<CompleteCall>,
    /// What the worker would do next.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next: Option<NextCalls>,
}

/// A wish for calls: they are leased to the caller, to be completed or given back (`:nack` of the group `workers`) before their leases are over.
///
/// With an `Idempotency-Key` the same request again gets the same leases, as long as they last and the server is not restarted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NextCalls {
    /// Command topics that the worker serves, 1 to 64.
    pub topics: Vec<TopicName>,
    /// Most calls, 1 to 1,000.
    pub max: u32,
    /// How long to wait for a first one, in milliseconds (default 0, at most 20,000). With replies in the request the answer does not wait
    /// beyond them.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub wait_ms: Option<u64>,
    /// How long the calls are leased, in milliseconds (default 30,000; 1 s to 12 h).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub lease_ms: Option<u64>,
}

/// Answer of `POST /v1/saga-calls:complete` with several replies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct CompletedCalls {
    /// What became of each reply, in their order.
    pub calls: Vec<CallResult>,
    /// Calls that are leased to the worker, those of older sagas first.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub next: Vec<NextCall>,
    /// Why there are no calls although they could be asked for; the replies are applied all the same.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next_problem: Option<Box<Problem>>,
}

/// What became of a reply.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum CallResult {
    /// It is applied, or was before.
    Completed(CompletedCall),
    /// It changes nothing.
    Problem(Box<Problem>),
}

/// A call that is leased to a worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct NextCall {
    /// The command topic.
    pub topic: TopicName,
    /// The right to extend the lease or to give the call back: opaque. Completing the call needs none.
    pub receipt: String,
    /// How often the command was delivered, this time included.
    pub attempt: u32,
    /// When the lease is over, in milliseconds since 1970.
    pub lease_until_ms: u64,
    /// How long ago the command was first handed out, in milliseconds: the time of the run counts from then.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub handed_out_ago_ms: Option<u64>,
    /// The span that it is made by, as in the header of its record.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub traceparent: Option<String>,
    /// What tracing systems say of the trace.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub tracestate: Option<String>,
    /// The call.
    #[cfg_attr(feature = "openapi", schema(value_type = super::call::Call))]
    pub call: JsonText,
}

/// How the body is read: the fields of both forms, so that what is missing or too much is told by its name.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    calls: Option<Vec<CompleteCall>>,
    next: Option<NextCalls>,
    instance: Option<Uuid>,
    step: Option<StepId>,
    item: Option<ItemIndex>,
    operation: Option<Operation>,
    epoch: Option<u32>,
    reply: Option<CallOutcome>,
}

impl TryFrom<Fields> for Completion {
    type Error = String;

    fn try_from(fields: Fields) -> Result<Self, String> {
        let Fields { calls, next, instance, step, item, operation, epoch, reply } = fields;
        let is_one = instance.is_some() || step.is_some() || item.is_some() || operation.is_some() || epoch.is_some() || reply.is_some();
        if calls.is_some() || next.is_some() {
            if is_one {
                return Err("`calls` and `next` stand alone: put the reply into `calls`".to_owned());
            }
            return Ok(Self::Many(CompleteCalls { calls: calls.unwrap_or_default(), next }));
        }
        let missing = |field: &str| format!("missing field `{field}`");
        let attempt = super::attempt::AttemptId {
            instance: instance.ok_or_else(|| missing("instance"))?,
            step: step.ok_or_else(|| missing("step"))?,
            item,
            operation: operation.ok_or_else(|| missing("operation"))?,
            epoch: epoch.ok_or_else(|| missing("epoch"))?,
        };
        Ok(Self::One(CompleteCall { attempt, reply: reply.ok_or_else(|| missing("reply"))? }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read(body: &Value) -> Result<Completion, String> {
        serde_json::from_str(&body.to_string()).map_err(|error| error.to_string())
    }

    fn one() -> Value {
        json!({"instance": Uuid::nil(), "step": "pay", "operation": "action", "epoch": 1, "reply": {"outcome": "succeeded", "output": 1.50}})
    }

    #[test]
    fn both_forms_are_read_and_what_is_neither_is_refused_by_name() {
        let Completion::One(call) = read(&one()).expect("a reply") else { panic!("one") };
        let several = json!({"calls": [one(), one()], "next": {"topics": ["a"], "max": 3}});
        let Completion::Many(CompleteCalls { calls, next: Some(next) }) = read(&several).expect("two") else { panic!("many") };
        assert_eq!((calls, next.max), (vec![call.clone(), call], 3));
        assert_eq!(read(&json!({"next": {"topics": ["a"], "max": 3}})).map(|read| matches!(read, Completion::Many(_))), Ok(true));
        for (field, name) in [("instance", "instance"), ("reply", "reply"), ("epoch", "epoch")] {
            let mut body = one();
            body.as_object_mut().expect("an object").remove(field);
            assert!(read(&body).expect_err("incomplete").contains(name), "{field}");
        }
        let mut both = one();
        both["calls"] = json!([]);
        assert!(read(&both).expect_err("both").contains("stand alone"));
        let mut more = several;
        more["more"] = json!(1);
        assert!(read(&more).expect_err("unknown").contains("more"));
    }

    #[test]
    fn what_is_written_is_read_again() {
        let Completion::One(call) = read(&one()).expect("a reply") else { panic!("one") };
        for body in [Completion::One(call.clone()), Completion::Many(CompleteCalls { calls: vec![call], next: None })] {
            let text = serde_json::to_string(&body).expect("JSON");
            assert_eq!(serde_json::from_str::<Completion>(&text).expect("its own form"), body);
        }
        let result = CallResult::Completed(CompletedCall { duplicate: true, state: super::super::state::SagaState::Running });
        assert_eq!(serde_json::to_string(&result).expect("JSON"), r#"{"completed":{"duplicate":true,"state":"RUNNING"}}"#);
    }
}

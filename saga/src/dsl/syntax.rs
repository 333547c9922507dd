//! The grammar as types: the JSON Schema for editors is made from these, and its descriptions are the comments here.
//!
//! The linter does not read through them, because a strict pass ends at its first fault. A test holds the two together: what these
//! types accept, the linter finds no fault of structure in, and the other way round.
#![expect(dead_code, reason = "the types are read by the derives, for the schema and for the test")]

use sagamq_api::saga::Mode;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// A saga: steps that are done one after the other or side by side, and undone when one of them is refused.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "SagaMQ saga definition, version 1")]
pub(crate) struct Saga {
    /// Name of the saga: letters, digits, `.`, `_`, `-`.
    #[schemars(regex(pattern = r"^[A-Za-z0-9._-]{1,249}$"))]
    saga: String,
    /// Version of the definition. A published version never changes.
    #[schemars(range(min = 1))]
    version: u32,
    /// How instances are run. `saga`, the default: each step commits by itself, and is undone if the whole cannot succeed. `2pc`: all steps
    /// take effect at one moment or none does, and services hold locks until they have heard which.
    mode: Option<Mode>,
    /// What a start must send.
    input: Option<Input>,
    /// The business key, from `input` alone: `${ input.order_id }`. There is one instance a key.
    key: String,
    /// How long an instance may take until its pivot; then what was done is undone.
    timeout: Option<Duration>,
    /// What the steps inherit.
    defaults: Option<Defaults>,
    /// Who is called, by name.
    services: BTreeMap<String, Service>,
    /// What is done, in this order unless a step uses `after`.
    #[schemars(length(min = 1, max = 500))]
    steps: Vec<Step>,
    /// What a completed instance returns; may hold `${ }` expressions over `input`, `steps.<id>.output` and `saga`.
    output: Option<Value>,
    /// What must hold across the services whatever goes wrong, for `sagamq saga verify`; what runs does not look at it.
    verify: Option<Vec<Invariant>>,
}

/// What must hold: CEL over `steps.<id>.done` (`called`, `undone`, `refused`, `unknown`, `skipped`, `state`), `saga.state` (`completed`,
/// `compensated`, `failed`, `blocked`) and `input`; `A implies B` is `!(A) || (B)`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum Invariant {
    /// Whenever the saga has come to rest.
    End(String),
    /// After everything that happens.
    Always(Always),
}

/// What must hold after everything that happens.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Always {
    /// The statement.
    always: String,
}

/// What a start must send.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Input {
    /// A JSON Schema (draft 2020-12) of it. It refers to nothing outside, and does not contain itself.
    #[schemars(extend("$ref" = "https://json-schema.org/draft/2020-12/schema"))]
    schema: BTreeMap<String, Value>,
}

/// A duration: `200ms`, `15m`, `1h30m`, `7d`, or ISO 8601 (`PT15M`).
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(transparent)]
pub(crate) struct Duration(String);

/// What the steps inherit.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Defaults {
    /// Retries of actions.
    retry: Option<Retry>,
    /// Retries of compensations, and of steps behind the pivot.
    compensate_retry: Option<Retry>,
    /// How long one attempt may take (30s).
    timeout: Option<Duration>,
}

/// A participant: a topic or a URL, or neither, if its URL is said elsewhere (`sagamq service set`).
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Service {
    /// The topic its commands go to.
    topic: Option<String>,
    /// Its base URL, unless another one is set for its name; an operation is `POST {base}/{operation}`.
    http: Option<String>,
}

/// One step: an action and what undoes it, another saga, a sleep, or a wait for a signal.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [{ "required": ["call"] }, { "required": ["sleep"] }, { "required": ["wait_for"] }, { "required": ["saga"] }]))]
pub(crate) struct Step {
    /// Name of the step; expressions refer to its output as `steps.<id>.output`.
    #[schemars(regex(pattern = r"^[A-Za-z_][A-Za-z0-9_]{0,248}$"))]
    id: String,
    /// What is called: `service.operation`.
    call: Option<CallName>,
    /// How long the step sleeps: a duration, an expression that gives one, or until when. It calls nobody, so nothing that belongs to a
    /// call stands beside it.
    sleep: Option<Sleep>,
    /// The signal that the step waits for; its payload is the step's output. It calls nobody either.
    wait_for: Option<WaitFor>,
    /// The saga that the step starts, with `with` as its input: what that saga returns is the step's output. When the saga is undone, so is the
    /// one that it started, unless `compensate` says something else.
    saga: Option<StartedSaga>,
    /// The arguments; may hold `${ }` expressions over `input`, `steps.<id>.output` of steps before it, and `saga`.
    with: Option<Arguments>,
    /// Steps that must have succeeded first. Once one step has this, all dependencies are explicit.
    after: Option<Vec<String>>,
    /// How long one attempt may take, from the moment it is handed to the participant.
    timeout: Option<Duration>,
    /// How long the action may wait to be handed to the participant; without it, as long as the saga may take. Not behind the pivot.
    queue_timeout: Option<Duration>,
    /// Retries of the action.
    retry: Option<Retry>,
    /// What undoes the action: a call, or `none` when there is nothing to undo. Not for a pivot, nor behind it.
    compensate: Option<Compensate>,
    /// Whether this is the point of no return.
    pivot: Option<bool>,
    /// The list for each of whose items the step is called: one `${ }` expression over `input`, `steps.<id>.output` of steps before it, and
    /// `saga`, or a list. The arguments see `item` and `index`, and the output is the list of what the items returned. Not for a pivot.
    for_each: Option<ForEach>,
    /// How many items are called at a time (10).
    #[schemars(range(min = 1, max = 1000))]
    max_parallel: Option<u32>,
    /// Whether the step is done at all: one `${ }` expression that is true or false, over `input`, `steps.<id>.output` of steps before it, and
    /// `saga`. Asked once, when its turn has come; without it, always. Not for a pivot.
    when: Option<Condition>,
    /// Whether the saga goes on without the step if it has no effect, and undoes it alone if that is not known. Not for a pivot.
    optional: Option<bool>,
    /// What is told others when the action has taken effect: a record in the commit that says so.
    emit: Option<Emit>,
    /// The key of the lock that the saga has before the step is called, and until the saga is at its end. Another saga that asks for the same
    /// key waits.
    lock: Option<Lock>,
}

/// The lock of a step.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum Lock {
    /// The key; may hold `${ }` expressions over `input`, `steps.<id>.output` of steps before it, and `saga`.
    Key(#[schemars(length(min = 1))] String),
    /// A key, for which the step waits for a time.
    Long(LockWithin),
}

/// A lock, and how long a step waits for it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LockWithin {
    /// The key.
    #[schemars(length(min = 1))]
    key: String,
    /// How long the step waits; without it, as long as the saga may take. Not behind the pivot.
    timeout: Option<Duration>,
}

/// The saga that a step starts.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum StartedSaga {
    /// Of this name, in the version that new sagas take.
    Name(#[schemars(regex(pattern = r"^[A-Za-z0-9._-]{1,249}$"))] String),
    /// Of this name and version.
    Version(StartedVersion),
}

/// A version of a saga.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct StartedVersion {
    /// Its name.
    #[schemars(regex(pattern = r"^[A-Za-z0-9._-]{1,249}$"))]
    name: String,
    /// Its version; without it, the one that new sagas take when the step begins.
    #[schemars(range(min = 1))]
    version: Option<u32>,
}

/// A record that a step tells others with.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Emit {
    /// Where it goes. Publishing makes it with one partition a shard.
    topic: String,
    /// Its key; the business key when it is left out. May hold `${ }` expressions, as what follows may.
    key: Option<String>,
    /// What it says: any value, over `input`, `steps.<id>.output` of steps before it and its own, and `saga`.
    value: Value,
    /// Headers beside those of every such record.
    headers: Option<BTreeMap<String, String>>,
}

/// One expression that is true or false.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(transparent)]
pub(crate) struct Condition(#[schemars(regex(pattern = r"^\s*\$\{[\s\S]*\}\s*$"))] String);

/// What a step fans out over.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum ForEach {
    /// A list, in which expressions may stand.
    List(#[schemars(length(max = 1000))] Vec<Value>),
    /// One expression that gives a list.
    Expression(#[schemars(regex(pattern = r"^\s*\$\{[\s\S]*\}\s*$"))] String),
}

/// How long a step sleeps.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum Sleep {
    /// So long: `15m`, or `${ input.pause }`.
    For(String),
    /// Until a time.
    Until(SleepUntil),
}

/// A sleep until a time.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SleepUntil {
    /// When it ends: RFC 3339, or an expression that gives that or milliseconds since 1970.
    until: String,
}

/// What a step waits for.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum WaitFor {
    /// A signal of this name.
    Name(#[schemars(regex(pattern = r"^[A-Za-z0-9._-]{1,249}$"))] String),
    /// A signal, for a time.
    Long(WaitForSignal),
}

/// A wait for a signal.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WaitForSignal {
    /// The name of the signal.
    #[schemars(regex(pattern = r"^[A-Za-z0-9._-]{1,249}$"))]
    signal: String,
    /// How long the step waits; without it, as long as the saga may take.
    timeout: Option<Duration>,
    /// What follows when that time is over.
    on_timeout: Option<OnTimeout>,
}

/// What follows when a signal has not come in time.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OnTimeout {
    /// The saga is undone. The default; not behind the pivot.
    Fail,
    /// The step is over, with the output `null`.
    Continue,
}

/// `service.operation`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(transparent)]
pub(crate) struct CallName(#[schemars(regex(pattern = r"^[A-Za-z_][A-Za-z0-9_-]*\.[A-Za-z_][A-Za-z0-9_-]*$"))] String);

/// Arguments of a call.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum Arguments {
    /// By name.
    Fields(BTreeMap<String, Value>),
    /// One expression that gives all of them.
    Expression(#[schemars(regex(pattern = r"^\s*\$\{"))] String),
}

/// What undoes an action.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum Compensate {
    /// `service.operation` with the arguments of the action, or `none`.
    Short(#[schemars(regex(pattern = r"^(none|[A-Za-z_][A-Za-z0-9_-]*\.[A-Za-z_][A-Za-z0-9_-]*)$"))] String),
    /// A call of its own.
    Long(Box<Compensation>),
}

/// A compensation in full.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Compensation {
    /// What is called: `service.operation`.
    call: CallName,
    /// The arguments; those of the action when they are left out. `failure` can be used here.
    with: Option<Arguments>,
    /// How long one attempt may take; that of the action when it is left out.
    timeout: Option<Duration>,
    /// Retries of the compensation.
    retry: Option<Retry>,
    /// What is told others when the effect is undone. `failure` can be used here.
    emit: Option<Emit>,
}

/// When and how often a call is tried again. The jitter is always full.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Retry {
    /// Backoff after the first attempt.
    initial: Option<Duration>,
    /// Factor of each further backoff.
    #[schemars(range(min = 1, max = 100))]
    factor: Option<f64>,
    /// Longest backoff.
    max: Option<Duration>,
    /// Attempts in all.
    #[schemars(range(min = 1, max = 10000))]
    attempts: Option<u32>,
    /// Failure codes that are not worth another attempt.
    never_on: Option<Vec<String>>,
}

/// The JSON Schema of a definition (draft 2020-12).
#[must_use]
pub fn schema() -> Value {
    let mut schema = schemars::schema_for!(Saga).to_value();
    without_null(&mut schema);
    schema
}

/// A field that is not given is left out. Serde takes `null` for that as well; the linter does not, because a field whose value was
/// forgotten is a slip.
fn without_null(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            if let Some(Value::Array(kinds)) = fields.get_mut("type") {
                kinds.retain(|kind| kind != "null");
                if let [only] = kinds.as_slice() {
                    let only = only.clone();
                    fields.insert("type".to_owned(), only);
                }
            }
            if let Some(Value::Array(choices)) = fields.get_mut("anyOf") {
                choices.retain(|choice| choice.get("type").is_none_or(|kind| kind != "null"));
                if let [Value::Object(only)] = choices.as_slice() {
                    let only = only.clone();
                    fields.remove("anyOf");
                    fields.extend(only);
                }
            }
            fields.values_mut().for_each(without_null);
        }
        Value::Array(items) => items.iter_mut().for_each(without_null),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::lint;
    use super::*;

    /// Codes of faults of structure; all others are about values or about more than one field.
    const STRUCTURE: [&str; 5] = ["unknown_field", "not_supported", "wrong_type", "missing_field", "bad_service"];

    const VALID: &str = "saga: a\nversion: 1\nmode: saga\ninput: { schema: { type: object } }\nkey: ${ input.k }\ntimeout: 1h\ndefaults: { timeout: 1s, retry: { attempts: 3 } }\n\
        services: { s: { topic: t }, h: { http: 'http://h' } }\nsteps:\n  - id: one\n    call: s.do\n    with: { a: 1 }\n    after: []\n    \
        timeout: 1s\n    queue_timeout: 1m\n    retry: { initial: 1s, factor: 1.5, max: 2s, attempts: 3, never_on: [A] }\n    compensate: h.undo\n    \
        when: ${ input.a }\n    optional: true\n    for_each: ${ input.l }\n    max_parallel: 2\n  - id: two\n    call: h.do\n    after: [one]\n    with: ${ input }\n    \
        compensate: { call: s.undo, with: { b: 2 }, timeout: 1s, retry: { factor: 2 } }\n    \
        emit: { topic: e, key: k, value: [1], headers: { a: b } }\n  - { id: three, call: s.do, after: [two], pivot: true, lock: one }\n  \
        - id: four\n    sleep: 15m\n    after: [three]\n  - id: five\n    sleep: { until: '2027-01-01T00:00:00Z' }\n    after: [four]\n  \
        - id: six\n    wait_for: { signal: go, timeout: 1h, on_timeout: continue }\n    after: [five]\n  \
        - { id: seven, wait_for: paid, after: [six] }\n  \
        - { id: eight, call: s.do, after: [seven], lock: { key: one } }\noutput: [1]\nverify: [ steps.one.done, { always: '!steps.one.undone' } ]\n";

    fn strict(source: &str) -> Result<Saga, serde_saphyr::Error> {
        serde_saphyr::from_str_with_options(source, serde_saphyr::options! { no_schema: true, strict_booleans: true })
    }

    fn structure_faults(source: &str) -> Vec<String> {
        lint(source).into_iter().filter(|fault| STRUCTURE.contains(&fault.code.as_str())).map(|fault| fault.message).collect()
    }

    #[test]
    fn the_strict_types_and_the_linter_accept_the_same_structure() {
        assert!(strict(VALID).is_ok(), "{:?}", strict(VALID));
        assert_eq!(structure_faults(VALID), Vec::<String>::new());
    }

    /// Renames, removes or spoils every field in turn; both must notice or neither.
    #[test]
    fn the_strict_types_and_the_linter_refuse_the_same_structure() {
        let fields = [
            "saga",
            "version",
            "mode",
            "input",
            "schema",
            "key",
            "timeout",
            "queue_timeout",
            "defaults",
            "services",
            "steps",
            "output",
            "verify",
            "always",
            "id",
            "call",
            "with",
            "after",
            "retry",
            "compensate",
            "pivot",
            "when",
            "optional",
            "for_each",
            "max_parallel",
            "sleep",
            "until",
            "wait_for",
            "signal",
            "on_timeout",
            "initial",
            "factor",
            "max",
            "attempts",
            "never_on",
            "topic",
            "emit",
            "lock",
            "value",
            "headers",
            "http",
        ];
        let mut compared = 0;
        for field in fields {
            for (at, found) in VALID.match_indices(&format!("{field}: ")) {
                if !VALID[..at].ends_with([' ', '\n', '{']) && at > 0 {
                    continue;
                }
                let value = at + found.len();
                let renamed = format!("{}{field}_x: {}", &VALID[..at], &VALID[value..]);
                let end = value + VALID[value..].find([',', '\n', '}', ']']).expect("it ends");
                let mut sources = vec![renamed];
                if !VALID[value..end].contains(['{', '[', '$']) {
                    sources.extend(
                        ["[7]", "{ q: 7 }", "true", "7", "word"].map(|other| format!("{}{other}{}", &VALID[..value], &VALID[end..])),
                    );
                }
                for source in sources {
                    let (strict, lenient) = (strict(&source), structure_faults(&source));
                    assert_eq!(strict.is_err(), !lenient.is_empty(), "{strict:?}\n{lenient:?}\n{source}");
                    compared += 1;
                }
            }
        }
        assert!(compared > 100, "only {compared} were compared");
    }
}

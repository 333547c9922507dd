//! Names of HTTP headers and of record headers that SagaMQ gives a meaning to.

/// HTTP: one key for the whole produce request; a retry with the same key and body is stored once.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// HTTP: the id of a request; taken from the client or made by the server, returned and logged.
pub const REQUEST_ID: &str = "x-request-id";

/// Names the client of a request, for quotas.
pub const CLIENT_ID: &str = "x-client-id";

/// HTTP and record: the span that caused it, as W3C Trace Context writes it.
pub const TRACEPARENT: &str = "traceparent";

/// HTTP and record: what tracing systems say of the trace of [`TRACEPARENT`].
pub const TRACESTATE: &str = "tracestate";

/// Record: the media type of the value. A JSON value that is not a string is stored with `application/json`.
pub const CONTENT_TYPE: &str = "content-type";

/// The value of [`CONTENT_TYPE`] for JSON.
pub const APPLICATION_JSON: &str = "application/json";

/// HTTP media type of record batches, see [`crate::batch`]: the body of a produce request, or the answer to a read.
pub const APPLICATION_BATCH: &str = "application/vnd.sagamq.batch";

/// HTTP media type of leased records with their batches, see [`crate::queue::LeasesHead`]: the answer to a receive.
pub const APPLICATION_DELIVERIES: &str = "application/vnd.sagamq.deliveries";

/// HTTP media type of server-sent events.
pub const TEXT_EVENT_STREAM: &str = "text/event-stream";

/// HTTP: the id of the last event that a client has seen.
pub const LAST_EVENT_ID: &str = "last-event-id";

/// HTTP: with an answer of record batches, the offset at which to read on.
pub const NEXT_OFFSET: &str = "sagamq-next-offset";

/// HTTP: with an answer of record batches, the first offset that is still there.
pub const LOG_START_OFFSET: &str = "sagamq-log-start-offset";

/// HTTP: with an answer of record batches, the offset behind the last durable record.
pub const HIGH_WATERMARK: &str = "sagamq-high-watermark";

/// HTTP: of a node that stands by, with the error `STANDBY` and with an answer that it passed on: the address of the active node of the cluster, if
/// it is known.
pub const ACTIVE_NODE: &str = "sagamq-active-node";

/// HTTP, between nodes of a cluster: who passes the request on, from whom it came, and the proof of both.
pub const PASSED_ON: &str = "sagamq-passed-on";

/// HTTP, between nodes of a cluster: the code with which a proof in [`PASSED_ON`] is refused.
pub const NODE_REFUSED: &str = "sagamq-node-refused";

/// HTTP media type of an error.
pub const APPLICATION_PROBLEM_JSON: &str = "application/problem+json";

/// HTTP media type of a saga definition.
pub const APPLICATION_YAML: &str = "application/yaml";

/// Headers of a record in a dead-letter topic: where it came from and why it is here.
pub mod dead_letter {
    /// Why the record was given up: `delivery_limit` or `terminated`.
    pub const CAUSE: &str = "x-dlq-cause";
    /// What the consumer said last, if it said anything.
    pub const REASON: &str = "x-dlq-reason";
    /// How often it was delivered.
    pub const ATTEMPTS: &str = "x-dlq-attempts";
    /// The topic it was produced to.
    pub const ORIGIN_TOPIC: &str = "x-dlq-origin-topic";
    /// The partition it was produced to.
    pub const ORIGIN_PARTITION: &str = "x-dlq-origin-partition";
    /// Its offset there.
    pub const ORIGIN_OFFSET: &str = "x-dlq-origin-offset";
    /// The group that gave it up.
    pub const GROUP: &str = "x-dlq-group";
    /// When, in milliseconds since 1970.
    pub const AT: &str = "x-dlq-at-ms";
    /// When it was edited by an operator who redrove it, in milliseconds since 1970. On what is delivered then, not on the dead letter.
    pub const EDITED_AT: &str = "x-dlq-edited-at-ms";
    /// That the record could not be read when it was given up, so that this is not it: `true`.
    pub const UNREAD: &str = "x-dlq-unread";
    /// All of them begin so.
    pub const PREFIX: &str = "x-dlq-";
}

/// Headers of a record that is a CloudEvent, as the specification's binding to Kafka names them.
pub mod cloud_event {
    /// The version of the specification: `1.0`.
    pub const SPECVERSION: &str = "ce_specversion";
    /// What tells it from all others of its source.
    pub const ID: &str = "ce_id";
    /// Where it comes from: the data of a server, as a URN.
    pub const SOURCE: &str = "ce_source";
    /// What happened.
    pub const TYPE: &str = "ce_type";
    /// To whom: the id of the saga.
    pub const SUBJECT: &str = "ce_subject";
    /// When, in UTC.
    pub const TIME: &str = "ce_time";
    /// The span in which it came about.
    pub const TRACEPARENT: &str = "ce_traceparent";
    /// What tracing systems say of its trace.
    pub const TRACESTATE: &str = "ce_tracestate";
    /// [`TRACEPARENT`] of an event in the headers of a request.
    pub const CE_TRACEPARENT: &str = "ce-traceparent";
    /// [`TRACESTATE`] of an event in the headers of a request.
    pub const CE_TRACESTATE: &str = "ce-tracestate";
}

/// Headers of a saga's command record, of a call to an HTTP participant (same names) and of a reply record.
pub mod saga {
    /// The id of the saga instance.
    pub const INSTANCE: &str = "saga-id";
    /// The name of the definition.
    pub const NAME: &str = "saga-name";
    /// The version of the definition.
    pub const VERSION: &str = "saga-version";
    /// The business key of the instance.
    pub const KEY: &str = "saga-key";
    /// The id of the step.
    pub const STEP: &str = "saga-step";
    /// Which item of a step that fans out, counted from 0; absent for a step that does not.
    pub const ITEM: &str = "saga-item";
    /// `action` or `compensation`.
    pub const OPERATION: &str = "saga-operation";
    /// The operation of the service that is called, for example `reserve`.
    pub const CALL: &str = "saga-call";
    /// The attempt, counted from 1; it is also the epoch that fences replies of older attempts.
    pub const EPOCH: &str = "saga-epoch";
    /// `{instance}/{step}/{operation}`, of an item `{instance}/{step}[{item}]/{operation}`: the same for all attempts.
    pub const IDEMPOTENCY_KEY: &str = "idempotency-key";
    /// `true` if a refusal is not final: the call is made again until it succeeds. Else `false`.
    pub const MUST_SUCCEED: &str = "saga-must-succeed";
    /// When the instance started, in milliseconds since 1970.
    pub const STARTED_AT: &str = "saga-started-at-ms";
    /// When the attempt is given up, in milliseconds since 1970.
    pub const DEADLINE: &str = "saga-deadline-ms";
    /// The key of the lock that the saga holds for the step, if the step has one.
    pub const LOCK_KEY: &str = "saga-lock-key";
    /// The fencing token of that lock: a participant that has seen a larger one for the key refuses the call.
    pub const LOCK_TOKEN: &str = "saga-lock-token";
    /// The topic a reply record goes to.
    pub const REPLY_TO: &str = "saga-reply-to";
    /// The partition of [`REPLY_TO`] a reply record goes to.
    pub const REPLY_PARTITION: &str = "saga-reply-partition";
    /// In the answer over HTTP to an action of a two-phase commit: base URL of the worker that has the branch open.
    pub const BRANCH_ADDRESS: &str = "saga-branch-address";
    /// In a reply: `succeeded`, `refused`, `ongoing` or `unknown`.
    pub const OUTCOME: &str = "saga-outcome";
    /// When to ask again, in milliseconds: of an ongoing or unknown reply.
    pub const RETRY_AFTER_MS: &str = "saga-retry-after-ms";
    /// In a reply that is no success: the code of the failure.
    pub const FAILURE_CODE: &str = "saga-failure-code";
    /// Of what a step tells: why it has no value. What it did has happened all the same.
    pub const EMIT_FAILED: &str = "saga-emit-failed";
}

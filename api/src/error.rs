//! Every error code of the interface, in one table that serves the server and the SDK.
//!
//! An error answer is an RFC 9457 problem document (`application/problem+json`). The `code` is stable and is what programs
//! look at; `detail` is for people and may change. Two questions matter to a caller and each code answers both: can the same
//! request succeed later ([`ErrorCode::is_retryable`]), and may it have taken effect already ([`ErrorCode::is_outcome_unknown`]).

use crate::Offset;
use core::fmt;
use serde::{Deserialize, Serialize};
#[cfg(feature = "openapi")]
use utoipa::openapi::{ObjectBuilder, RefOr, Schema, Type};
#[cfg(feature = "openapi")]
use utoipa::{PartialSchema, ToSchema};

macro_rules! codes {
    ($( $(#[$doc:meta])* $variant:ident = $code:literal, $status:literal, $retryable:literal, $unknown:literal, $title:literal; )*) => {
        /// What went wrong, as a stable code.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[non_exhaustive]
        pub enum ErrorCode {
            $( $(#[$doc])* #[serde(rename = $code)] $variant, )*
            /// A code that this version of the client does not know.
            #[serde(other, rename = "UNKNOWN_CODE")]
            UnknownCode,
        }

        impl ErrorCode {
            /// Every code of this version.
            pub const ALL: &'static [Self] = &[ $( Self::$variant, )* ];

            /// The code as it stands in a problem document.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $( Self::$variant => $code, )* Self::UnknownCode => "UNKNOWN_CODE" }
            }

            /// The HTTP status that carries the code.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { $( Self::$variant => $status, )* Self::UnknownCode => 500 }
            }

            /// Whether the very same request may succeed later, without anybody changing it.
            #[must_use]
            pub const fn is_retryable(self) -> bool {
                match self { $( Self::$variant => $retryable, )* Self::UnknownCode => false }
            }

            /// Whether the request may have taken effect. Such an error is never a failure: retry with the same idempotency key.
            #[must_use]
            pub const fn is_outcome_unknown(self) -> bool {
                match self { $( Self::$variant => $unknown, )* Self::UnknownCode => true }
            }

            /// The problem in a few words, the same for every occurrence.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $( Self::$variant => $title, )* Self::UnknownCode => "Unknown error code" }
            }
        }
    };
}

codes! {
    // variant = code, status, retryable, outcome unknown, title
    /// The body is no JSON, or a parameter cannot be read.
    MalformedRequest = "MALFORMED_REQUEST", 400, false, false, "The request cannot be read";
    /// The body is JSON but not what this route takes: a wrong type, an unknown field, a value out of range.
    InvalidRequest = "INVALID_REQUEST", 400, false, false, "The request is not valid";
    /// A name breaks the naming rule.
    InvalidName = "INVALID_NAME", 400, false, false, "The name is not legal";
    /// A `*_base64` field is no base64.
    InvalidBase64 = "INVALID_BASE64", 400, false, false, "The field is not base64";
    /// A record batch cannot be read, was changed on its way, or uses what is not supported.
    InvalidBatch = "INVALID_BATCH", 400, false, false, "The record batch is not valid";
    /// A receipt was not issued by this broker for this group.
    InvalidReceipt = "INVALID_RECEIPT", 400, false, false, "The receipt is not valid";
    /// A saga definition has faults; `faults` holds all of them.
    InvalidDefinition = "INVALID_DEFINITION", 400, false, false, "The saga definition has faults";
    /// Verification of a saga definition shows something wrong; `detail` holds the shortest way to it.
    VerificationFailed = "VERIFICATION_FAILED", 400, false, false, "Verification shows something wrong";
    /// Verification of a saga definition did not come to its end within its bounds.
    VerificationIncomplete = "VERIFICATION_INCOMPLETE", 400, false, false, "Verification is not complete";
    /// The input of a saga does not fit its definition.
    InvalidSagaInput = "INVALID_SAGA_INPUT", 400, false, false, "The saga's input does not fit its definition";
    /// No step of the saga's definition waits for a signal of this name.
    UnknownSignal = "UNKNOWN_SIGNAL", 400, false, false, "No step waits for such a signal";
    /// The definition cannot be run in the mode that was asked for.
    ModeNotPossible = "MODE_NOT_POSSIBLE", 400, false, false, "The definition cannot be run in this mode";
    /// The request has no key, or none that is valid: one that is not known, revoked or run out. Nothing was done.
    Unauthenticated = "UNAUTHENTICATED", 401, false, false, "A valid key is needed";
    /// The key is valid and has not the right to this. Nothing was done; `detail` names the right.
    Forbidden = "FORBIDDEN", 403, false, false, "The key has not the right to this";
    /// The request comes from a web page of an origin that is not listed.
    OriginNotAllowed = "ORIGIN_NOT_ALLOWED", 403, false, false, "The origin may not use this server";
    /// A receipt was given to another key, or to another subject of tokens.
    ReceiptOfAnother = "RECEIPT_OF_ANOTHER", 403, false, false, "The receipt was given to another";
    /// The request says that a node of the cluster passes it on, and does not prove it. Nothing was done.
    NodeProofInvalid = "NODE_PROOF_INVALID", 403, false, false, "No node of this cluster passed the request on";
    /// The proof with which a node passed the request on was shown before. Nothing was done this time.
    NodeProofSpent = "NODE_PROOF_SPENT", 403, false, false, "The request was passed on before";
    /// A node passed the request on to an earlier start of this node. Nothing was done.
    NodeRestarted = "NODE_RESTARTED", 403, false, false, "The request was passed on to an earlier start of this node";
    /// A node passed the request on whose clock differs too much from this one's. Nothing was done.
    NodeClockSkew = "NODE_CLOCK_SKEW", 403, false, false, "The clocks of two nodes are too far apart";
    /// No such path.
    RouteNotFound = "ROUTE_NOT_FOUND", 404, false, false, "No such route";
    /// The path exists, the method does not.
    MethodNotAllowed = "METHOD_NOT_ALLOWED", 405, false, false, "The method is not allowed here";
    /// The request did not arrive in time. Nothing of it was done.
    RequestTimeout = "REQUEST_TIMEOUT", 408, true, false, "The request did not arrive in time";
    /// No such topic.
    TopicNotFound = "TOPIC_NOT_FOUND", 404, false, false, "No such topic";
    /// The topic has no such partition.
    PartitionNotFound = "PARTITION_NOT_FOUND", 404, false, false, "No such partition";
    /// No such group.
    GroupNotFound = "GROUP_NOT_FOUND", 404, false, false, "No such consumer group";
    /// No such saga definition, or no such version.
    DefinitionNotFound = "DEFINITION_NOT_FOUND", 404, false, false, "No such saga definition";
    /// No such saga instance.
    SagaNotFound = "SAGA_NOT_FOUND", 404, false, false, "No such saga";
    /// Nobody holds the lock, or not with that token. Nothing was taken away.
    LockNotHeld = "LOCK_NOT_HELD", 404, false, false, "Nobody holds the lock so";
    /// No such repair.
    RepairNotFound = "REPAIR_NOT_FOUND", 404, false, false, "No such repair";
    /// The key started a repair with another request.
    RepairKeyConflict = "REPAIR_KEY_CONFLICT", 409, false, false, "The key started another repair";
    /// The repair is in no state for that.
    RepairStateConflict = "REPAIR_STATE_CONFLICT", 409, false, false, "The repair is in no state for that";
    /// Too many repairs are not at their end.
    TooManyRepairs = "TOO_MANY_REPAIRS", 409, false, false, "Too many repairs are not at their end";
    /// No such transaction, or the instance is a saga.
    TransactionNotFound = "TRANSACTION_NOT_FOUND", 404, false, false, "No such transaction";
    /// No record waits under this id: it was appended when it was due, it was cancelled, or it never was.
    ScheduleNotFound = "SCHEDULE_NOT_FOUND", 404, false, false, "No such schedule";
    /// No key has the name.
    KeyNotFound = "KEY_NOT_FOUND", 404, false, false, "No such key";
    /// A key that is not revoked has the name.
    KeyExists = "KEY_EXISTS", 409, false, false, "The key exists";
    /// As many keys are valid as may be.
    KeyLimit = "KEY_LIMIT", 409, false, false, "Too many keys are valid";
    /// The audit log is not kept, and never was.
    AuditNotKept = "AUDIT_NOT_KEPT", 404, false, false, "There is no audit log";
    /// No producer has the name.
    ProducerNotFound = "PRODUCER_NOT_FOUND", 404, false, false, "No such producer";
    /// The service has no address of its own.
    ServiceNotFound = "SERVICE_NOT_FOUND", 404, false, false, "No such service";
    /// A topic of that name exists with another configuration.
    TopicExists = "TOPIC_EXISTS", 409, false, false, "The topic exists";
    /// Partitions of a topic are added and never taken away.
    FewerPartitions = "FEWER_PARTITIONS", 409, false, false, "A topic's partitions do not become fewer";
    /// Something stands in the way of adding partitions: records that wait, or that they were added too often.
    PartitionsNotAdded = "PARTITIONS_NOT_ADDED", 409, false, false, "Partitions cannot be added now";
    /// Partitions were added, and the request was made for as many as there were before. Nothing was stored.
    PartitionsChanged = "PARTITIONS_CHANGED", 409, false, false, "The topic has another number of partitions";
    /// The topic belongs to something else (a dead-letter topic, a saga's topic) and cannot be deleted alone.
    TopicInUse = "TOPIC_IN_USE", 409, false, false, "The topic is in use";
    /// A group of the other kind, queue or stream, has the name on that topic.
    GroupKindConflict = "GROUP_KIND_CONFLICT", 409, false, false, "A group of another kind has the name";
    /// A bound on groups, their topics or their members is reached.
    GroupLimit = "GROUP_LIMIT", 409, false, false, "A bound on groups is reached";
    /// Consumers or sagas use the group, so it cannot be deleted.
    GroupInUse = "GROUP_IN_USE", 409, false, false, "The group is in use";
    /// The lease of the receipt is over; the record was or will be delivered again.
    ReceiptExpired = "RECEIPT_EXPIRED", 409, false, false, "The lease is over";
    /// This version of the definition is published with another text. Versions are immutable.
    DefinitionVersionExists = "DEFINITION_VERSION_EXISTS", 409, false, false, "The version is published already";
    /// The business key started a saga with another input.
    SagaKeyConflict = "SAGA_KEY_CONFLICT", 409, false, false, "The key started another saga";
    /// The definition calls a service that has no address: neither its own nor one in the definition.
    ServiceWithoutAddress = "SERVICE_WITHOUT_ADDRESS", 409, false, false, "A service has no address";
    /// The saga is in a state that does not allow this.
    SagaStateConflict = "SAGA_STATE_CONFLICT", 409, false, false, "The saga's state does not allow this";
    /// The saga was rerun: the next generation of its key can be operated, and it no more.
    SagaHandedOver = "SAGA_HANDED_OVER", 409, false, false, "The saga was rerun";
    /// A step that a rerun would call has an effect that stands: it would be there twice.
    SagaEffectStands = "SAGA_EFFECT_STANDS", 409, false, false, "An effect stands that would be there twice";
    /// Whether a step has an effect is not known, so a rerun can neither take it over nor call the step under another key.
    SagaEffectInDoubt = "SAGA_EFFECT_IN_DOUBT", 409, false, false, "It is not known whether an effect stands";
    /// A step that comes before a rerun's first has no effect that stands, so there is nothing to take over.
    SagaStepNotDone = "SAGA_STEP_NOT_DONE", 409, false, false, "A step that would be taken over is not done";
    /// No step of the saga waits for the signal any more, or they have theirs.
    SignalNotAwaited = "SIGNAL_NOT_AWAITED", 409, false, false, "No step waits for the signal any more";
    /// The reply belongs to an older attempt, the step is settled, or the member of a stream group lost its place or the partition.
    Fenced = "FENCED", 409, false, false, "Whoever asks was superseded";
    /// Another batch of the producer must come first, or the sequence was used for other records. Nothing was stored.
    OutOfOrderSequence = "OUT_OF_ORDER_SEQUENCE", 409, false, false, "The sequence is not the next one";
    /// A newer epoch of the producer has begun, or a newer producer of its name. Nothing was stored.
    ProducerFenced = "PRODUCER_FENCED", 409, false, false, "The producer was superseded";
    /// The partition knows nothing of the producer, and the batch is not its first. Nothing was stored.
    UnknownProducer = "UNKNOWN_PRODUCER", 409, false, false, "The partition does not know the producer";
    /// As many producers have a name as may.
    ProducerNameLimit = "PRODUCER_NAME_LIMIT", 409, false, false, "Too many producers have names";
    /// The transaction is of a coordinator with other data, so what this server knows says nothing about it.
    WrongCluster = "WRONG_CLUSTER", 409, false, false, "The server has other data";
    /// The offset lies outside the partition.
    OffsetOutOfRange = "OFFSET_OUT_OF_RANGE", 416, false, false, "The offset is out of range";
    /// A record is larger than the topic allows.
    RecordTooLarge = "RECORD_TOO_LARGE", 413, false, false, "The record is too large";
    /// The body is larger than the server takes.
    BodyTooLarge = "BODY_TOO_LARGE", 413, false, false, "The request body is too large";
    /// A saga's payload is larger than the bound.
    PayloadTooLarge = "PAYLOAD_TOO_LARGE", 413, false, false, "The payload is too large";
    /// The body has a media type that this route does not take.
    UnsupportedMediaType = "UNSUPPORTED_MEDIA_TYPE", 415, false, false, "The media type is not supported";
    /// The records of a batch are compressed in a way that the server does not read.
    UnsupportedCompression = "UNSUPPORTED_COMPRESSION", 415, false, false, "The compression is not supported";
    /// The path is longer than the server takes.
    UriTooLong = "URI_TOO_LONG", 414, false, false, "The path is too long";
    /// The request is addressed to a name that is not one of the server's.
    HostNotAllowed = "HOST_NOT_ALLOWED", 421, false, false, "The server is not known by this name";
    /// The headers are larger than the server takes.
    HeadersTooLarge = "HEADERS_TOO_LARGE", 431, false, false, "The headers are too large";
    /// The idempotency key, or the id of a signal, was used with another payload.
    IdempotencyKeyReused = "IDEMPOTENCY_KEY_REUSED", 422, false, false, "The idempotency key was used with another payload";
    /// The input of a saga is not what the schema of its definition asks for; `pointer` says where. Nothing was stored.
    SagaInputMisfit = "SAGA_INPUT_MISFIT", 422, false, false, "The saga's input does not fit its schema";
    /// The queue in front of the disk is full. Nothing was stored; `Retry-After` says when to come back.
    Overloaded = "OVERLOADED", 429, true, false, "The broker is overloaded";
    /// The client has used up its quota of requests or bytes. Nothing was done; `Retry-After` says when to come back.
    QuotaExceeded = "QUOTA_EXCEEDED", 429, true, false, "The client's quota is used up";
    /// As many records of a shard as may wait for their time do so. Nothing was stored.
    ScheduleLimit = "SCHEDULE_LIMIT", 429, true, false, "Too many records wait for their time";
    /// As many sagas of a shard as may be are not at their end. Nothing was started; `Retry-After` says when to come back.
    SagaOpenLimit = "SAGA_OPEN_LIMIT", 429, true, false, "Too many sagas are not at their end";
    /// As many signals of the saga as may be are kept until steps wait for them. Nothing was stored.
    SignalLimit = "SIGNAL_LIMIT", 429, true, false, "Too many signals wait for their steps";
    /// As many producers are known as may be. Nothing was stored.
    ProducerLimit = "PRODUCER_LIMIT", 429, true, false, "Too many producers are known";
    /// Some shards have stored their share of a request, and another one has refused its own; `detail` says why. Under the same idempotency key
    /// nothing is stored twice.
    ProducedInPart = "PRODUCED_IN_PART", 503, true, true, "The records were stored in part";
    /// A fault inside the server.
    Internal = "INTERNAL", 500, false, true, "Internal error";
    /// A durable write failed. The broker takes no more writes until it is restarted.
    WritesStopped = "WRITES_STOPPED", 503, true, true, "Writes are stopped";
    /// The disk has too little room for what adds to the data. Nothing was stored; `Retry-After` says when to come back.
    DiskLow = "DISK_LOW", 503, true, false, "The disk has too little room";
    /// Stored bytes do not match their checksum.
    StorageCorrupt = "STORAGE_CORRUPT", 500, false, false, "Stored data is damaged";
    /// The saga is set aside: it cannot be read, or a decision about it panicked. Nothing was done.
    SagaQuarantined = "SAGA_QUARANTINED", 500, false, false, "The saga is set aside";
    /// The server is shutting down. Nothing was stored.
    ShuttingDown = "SHUTTING_DOWN", 503, true, false, "The server is shutting down";
    /// The node of a cluster is not the active one, or cannot show that it is. Nothing was done; `detail` names the one that is.
    Standby = "STANDBY", 503, true, false, "The node is not the active one";
    /// While the node of a cluster worked on the request it lost sight of the others, so its answer may not be true any more; or it passed the
    /// request on, and no answer came back.
    LeaseLost = "LEASE_LOST", 503, true, true, "The node may not be the active one any more";
}

// By hand, because the derive does not see names that a macro passes to `#[serde(rename)]`. Clients must expect codes that are not
// in the list, so it is an example of what there is and no closed set.
#[cfg(feature = "openapi")]
impl PartialSchema for ErrorCode {
    fn schema() -> RefOr<Schema> {
        let codes: Vec<&str> = Self::ALL.iter().map(|code| code.as_str()).collect();
        let description = format!("What went wrong, as a stable code; later versions may have more. Now: {}.", codes.join(", "));
        ObjectBuilder::new().schema_type(Type::String).description(Some(description)).examples(codes).into()
    }
}

#[cfg(feature = "openapi")]
impl ToSchema for ErrorCode {}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One fault of a saga definition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct Fault {
    /// Stable code of the rule, for example `unknown_service`.
    pub code: String,
    /// `error` forbids publishing, `warning` does not.
    pub severity: Severity,
    /// What is wrong.
    pub message: String,
    /// Line of the definition, counted from 1.
    pub line: u32,
    /// Column in the line, in characters, counted from 1.
    pub column: u32,
    /// Byte offset in the text.
    pub offset: usize,
    /// Length in bytes.
    pub length: usize,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub help: Option<String>,
}

/// How bad a fault of a saga definition is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// It may be meant; the definition can be published.
    Warning,
    /// The definition cannot be published.
    Error,
}

/// An RFC 9457 problem document: the body of every answer with a status of 400 and above.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct Problem {
    /// Reference to the code's description, relative to the documentation.
    pub r#type: String,
    /// The problem in a few words, the same for every occurrence.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// Stable code for programs.
    pub code: ErrorCode,
    /// What was wrong this time, and what to do.
    pub detail: String,
    /// Whether the same request may succeed later.
    pub retryable: bool,
    /// Whether the request may have taken effect all the same.
    pub outcome_unknown: bool,
    /// Id of the request, also in the server's log.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub request_id: Option<String>,
    /// All faults of a saga definition.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub faults: Vec<Fault>,
    /// Of an offset that is out of range: the first offset of the partition that is still there.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub log_start_offset: Option<Offset>,
    /// Of an offset that is out of range: the offset after the last durable record of the partition.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub high_watermark: Option<Offset>,
    /// Of a request that was made for another number of partitions: how many the topic has.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub partitions: Option<u32>,
    /// Of a saga's input that does not fit its schema: the value that does not, as a JSON pointer into the input; empty for the whole.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub pointer: Option<String>,
}

impl Problem {
    /// A problem with this code. `detail` says what was wrong and what to do.
    #[must_use]
    pub fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self {
            r#type: format!("/docs/errors#{}", code.as_str().to_ascii_lowercase()),
            title: code.title().to_owned(),
            status: code.status(),
            code,
            detail: detail.into(),
            retryable: code.is_retryable(),
            outcome_unknown: code.is_outcome_unknown(),
            request_id: None,
            faults: Vec::new(),
            log_start_offset: None,
            high_watermark: None,
            partitions: None,
            pointer: None,
        }
    }

    /// The same problem with the number of partitions that the topic has.
    #[must_use]
    pub fn with_partitions(self, partitions: u32) -> Self {
        Self { partitions: Some(partitions), ..self }
    }

    /// The same problem with the place in a saga's input.
    #[must_use]
    pub fn with_pointer(self, pointer: String) -> Self {
        Self { pointer: Some(pointer), ..self }
    }

    /// The same problem with the offsets that could be asked for.
    #[must_use]
    pub fn with_offsets(self, log_start_offset: Offset, high_watermark: Offset) -> Self {
        Self { log_start_offset: Some(log_start_offset), high_watermark: Some(high_watermark), ..self }
    }

    /// The same problem with the faults of a saga definition.
    #[must_use]
    pub fn with_faults(mut self, faults: Vec<Fault>) -> Self {
        self.faults = faults;
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.detail)
    }
}

impl core::error::Error for Problem {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_survive_the_wire_and_unknown_ones_are_not_lost_in_an_error() {
        for &code in ErrorCode::ALL {
            let json = serde_json::to_string(&code).expect("a string");
            assert_eq!(json, format!("\"{}\"", code.as_str()));
            assert_eq!(serde_json::from_str::<ErrorCode>(&json).expect("its own code"), code);
            assert!((400..=599).contains(&code.status()), "{code} has a status of an error");
        }
        assert_eq!(serde_json::from_str::<ErrorCode>("\"FROM_THE_FUTURE\"").expect("tolerated"), ErrorCode::UnknownCode);
    }

    #[test]
    fn a_client_error_never_has_an_unknown_outcome() {
        for &code in ErrorCode::ALL {
            assert!(!(code.status() < 500 && code.is_outcome_unknown()), "{code}: a refused request stored nothing");
        }
    }
}

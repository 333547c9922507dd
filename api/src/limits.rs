//! Every numeric bound of the wire: its unit, and what it protects.

use core::time::Duration;

/// Longest topic, group or saga name, in bytes. Kafka's rule, so that names can be mirrored there unchanged.
pub const NAME_BYTES_MAX: usize = 249;

/// Most partitions a topic may have: keeps the cost of opening a data directory bounded.
pub const PARTITIONS_MAX: u32 = 1_024;

/// How often partitions may be added to a topic while records from before are kept: each time is remembered.
pub const PARTITIONS_ADDED_MAX: usize = 16;

/// Most keys that a topic's description shows.
pub const HOTTEST_KEYS_MAX: usize = 5;
/// Partitions of a topic that does not ask for a number.
pub const PARTITIONS_DEFAULT: u32 = 4;

/// Default bound on one record (key, value and headers together), in bytes.
pub const RECORD_BYTES_DEFAULT: u32 = 1024 * 1024;

/// Hard bound on one record, in bytes: a topic cannot be configured above it.
pub const RECORD_BYTES_MAX: u32 = 16 * 1024 * 1024;

/// Most headers of one record.
pub const RECORD_HEADERS_MAX: usize = 1_000;

/// Most headers of all records of one produce request together: a header of two bytes takes fifty times that while it is worked on.
pub const PRODUCE_HEADERS_MAX: usize = 200_000;

/// Most records in one produce request: bounds the work a single request can put on a shard's task.
pub const PRODUCE_RECORDS_MAX: usize = 10_000;

/// Most records in one binary batch: a reader decodes all of it for one of them.
pub const BATCH_RECORDS_MAX: u32 = 1_000;

/// Most bytes of one binary batch that has more than one record.
pub const BATCH_BYTES_MAX: usize = 1024 * 1024;

/// Newest batches of a producer in a partition that are recognised when they come again (as Kafka): so many may be on their way at once.
pub const PRODUCER_BATCHES_KEPT: usize = 5;

/// Most producers that a partition knows: each is kept in memory.
pub const PARTITION_PRODUCERS_MAX: usize = 1_000;

/// Most producers that all partitions of a server know together, each counted once a partition; every shard has an equal share.
pub const PRODUCERS_MAX: usize = 131_072;

/// Longest name of an API key, in bytes: it stands in histories as the actor, beside who it says acts.
pub const KEY_NAME_BYTES_MAX: usize = 64;

/// Most API keys, revoked ones included; beyond, those that were revoked or ran out first are forgotten for new ones.
pub const KEYS_MAX: usize = 10_000;

/// Most roles of an API key.
pub const KEY_ROLES_MAX: usize = 64;

/// Most requests a second that the quota of a client or of an API key can say.
pub const QUOTA_REQUESTS_MAX: u64 = 1_000_000_000;

/// Most bytes a second that the quota of a client or of an API key can say: 1 TiB.
pub const QUOTA_BYTES_MAX: u64 = 1 << 40;

/// Shortest time for which an API key can be made, in milliseconds.
pub const KEY_EXPIRES_MS_MIN: u64 = 1_000;

/// Longest time for which an API key can be made, in milliseconds: ten years.
pub const KEY_EXPIRES_MS_MAX: u64 = 3_650 * 86_400_000;

/// How long the secret of an API key from before works beside the new one, in milliseconds, if nothing is said.
pub const KEY_GRACE_MS_DEFAULT: u64 = 3_600_000;

/// Longest of these times, in milliseconds.
pub const KEY_GRACE_MS_MAX: u64 = 30 * 86_400_000;

/// Most producers that have a name.
pub const PRODUCER_NAMES_MAX: usize = 10_000;

/// How long a partition knows a producer that it does not hear of, in milliseconds (as Kafka): 24 hours.
pub const PRODUCER_EXPIRY_MS: u64 = 24 * 60 * 60 * 1000;

/// How long it knows it in any case, in milliseconds: until then none makes room for another. Longer than batches are repeated.
pub const PRODUCER_IDLE_MS_MIN: u64 = 15 * 60 * 1000;

/// The same for a producer that has sent one batch, and may have been there for no more: it makes room first.
pub const PRODUCER_ONCE_IDLE_MS_MIN: u64 = 5 * 60 * 1000;

/// Largest request body, in bytes. A record of [`RECORD_BYTES_MAX`] still fits when it is sent as base64.
pub const BODY_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Most bytes of the records of one compressed batch, and of all batches of one request together, when they are decompressed. Nobody needs more
/// memory to read one, however well it is compressed.
pub const DECOMPRESSED_BYTES_MAX: usize = BODY_BYTES_MAX;

/// Longest idempotency key, in bytes.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 256;

/// How long a duplicate is recognised when the topic does not say, in milliseconds.
pub const DEDUP_WINDOW_MS_DEFAULT: u64 = 24 * 60 * 60 * 1000;

/// Shortest deduplication window, in milliseconds.
pub const DEDUP_WINDOW_MS_MIN: u64 = 60 * 1000;

/// Longest deduplication window, in milliseconds: every look-up asks each time bucket of the window, so it must be bounded.
pub const DEDUP_WINDOW_MS_MAX: u64 = 7 * 24 * 60 * 60 * 1000;

/// How long records are kept when the topic does not say, in milliseconds (as Kafka): 7 days.
pub const RETENTION_MS_DEFAULT: u64 = 7 * 24 * 60 * 60 * 1000;

/// Shortest time that records can be set to be kept, in milliseconds; 0 stands for "for ever".
pub const RETENTION_MS_MIN: u64 = 1_000;

/// Longest time that records can be set to be kept, in milliseconds: a hundred years.
pub const RETENTION_MS_MAX: u64 = 100 * 365 * 24 * 60 * 60 * 1000;

/// How long a record that says that its key is gone stays in a compacted topic that does not say, in milliseconds (as Kafka): 24 hours.
pub const DELETE_RETENTION_MS_DEFAULT: u64 = 24 * 60 * 60 * 1000;

/// Fewest bytes of a partition that can be set to be kept; 0 stands for "any number". Records go in portions of about this size.
pub const RETENTION_BYTES_MIN: u64 = 1024 * 1024;

/// Most bytes of a partition that can be set to be kept: 1 PiB.
pub const RETENTION_BYTES_MAX: u64 = 1 << 50;

/// How far ahead of the broker's clock the time of a record may lie, in milliseconds (as Kafka from 4.0 on): one with a later time would
/// keep all behind it from going when their time is over.
pub const TIMESTAMP_AHEAD_MS_MAX: u64 = 60 * 60 * 1000;

/// How far ahead a record may be scheduled, in milliseconds: a year.
pub const SCHEDULE_AHEAD_MS_MAX: u64 = 365 * 24 * 60 * 60 * 1000;

/// Records of one shard that may wait for their time, when the server's settings do not say.
pub const SCHEDULE_RECORDS_DEFAULT: u64 = 1_000_000;

/// Bytes of one shard's records that may wait for their time, when the server's settings do not say: 1 GiB.
pub const SCHEDULE_BYTES_DEFAULT: u64 = 1 << 30;

/// The earliest time that a record may have, in milliseconds since 1970: compaction puts records of any times into one batch, whose format counts
/// their times from the lowest.
pub const TIMESTAMP_MS_MIN: i64 = i64::MIN / 2;

/// Most records that one receive or one read returns.
pub const RECEIVE_RECORDS_MAX: u32 = 1_000;

/// Records that a receive or a read returns when it does not say.
pub const RECEIVE_RECORDS_DEFAULT: u32 = 100;

/// Most bytes of records in one answer; at least one record is always returned, so that a large one cannot stall its reader.
pub const RESPONSE_BYTES_MAX: u32 = 16 * 1024 * 1024;

/// Most bytes of an answer with binary batches when the request does not say.
pub const BATCHES_BYTES_DEFAULT: u32 = 4 * 1024 * 1024;

/// Longest long poll, in milliseconds. Below the idle timeout of common proxies.
pub const WAIT_MS_MAX: u64 = 20_000;

/// Lease of a receive that does not say, in milliseconds (as SQS and Kafka share groups).
pub const LEASE_MS_DEFAULT: u64 = 30_000;

/// Shortest lease, in milliseconds.
pub const LEASE_MS_MIN: u64 = 1_000;

/// Longest lease, in milliseconds (as SQS).
pub const LEASE_MS_MAX: u64 = 12 * 60 * 60 * 1000;

/// Longest delay of a negative acknowledgement, in milliseconds.
pub const NACK_DELAY_MS_MAX: u64 = 12 * 60 * 60 * 1000;

/// Most receipts in one settling request.
pub const RECEIPTS_MAX: usize = 1_000;

/// Deliveries before a record is a dead letter, when the topic does not say (as Kafka share groups).
pub const DELIVERY_LIMIT_DEFAULT: u32 = 5;

/// Largest delivery limit that can be configured; 0 stands for "no limit".
pub const DELIVERY_LIMIT_MAX: u32 = 1_000;

/// Leases of a record that may run out before their holders have begun without being counted as attempts. From then on each is one, so
/// that a record whose consumers die before they can say anything becomes a dead letter all the same.
pub const RETURNS_MAX: u32 = 3;

/// First redelivery backoff, in milliseconds; it doubles at each delivery.
pub const BACKOFF_INITIAL_MS_DEFAULT: u64 = 1_000;

/// Longest redelivery backoff, in milliseconds.
pub const BACKOFF_MAX_MS_DEFAULT: u64 = 5 * 60 * 1000;

/// Most records of one partition that one group may have leased at a time: bounds the group's state.
pub const IN_FLIGHT_MAX: usize = 1_000;

/// Most settled ranges above the acknowledgement floor of one group and partition. When the bound is hit, fresh records are
/// not delivered until the floor moves: forgetting acknowledgements would redeliver settled work.
pub const SETTLED_RANGES_MAX: usize = 10_000;

/// Most records of one partition that one group may have leased or waiting for a redelivery together: bounds the group's state.
/// When the bound is hit, fresh records are not delivered and dead letters are not redriven until some are settled.
pub const PENDING_MAX: usize = 10_000;

/// Most records of one group and partition that were edited when they were redriven and are not settled, and the bytes of their payloads
/// together: they are kept in memory, and written whole when one of them changes. One always fits, whatever its size.
pub const EDITED_RECORDS_MAX: usize = 100;

/// See [`EDITED_RECORDS_MAX`].
pub const EDITED_BYTES_MAX: usize = 1024 * 1024;

/// Most dead letters that a redrive brings back in a second, if it says how many.
pub const REDRIVE_PER_SECOND_MAX: u32 = 10_000;

/// Most dead letters that one redrive or discard looks at: bounds the work of a request whose filter matches few.
pub const REDRIVE_LOOKED_AT_MAX: usize = 10_000;

/// Longest reason given with a negative acknowledgement, a termination or a cancellation, in bytes.
pub const REASON_BYTES_MAX: usize = 1_024;

/// Longest time that an answer about a saga is held back until the saga is at rest, in milliseconds.
pub const SAGA_WAIT_MS_MAX: u64 = 60_000;

/// Longest name of who acts, in bytes.
pub const ACTOR_BYTES_MAX: usize = 256;

/// Longest code of a failure that is kept, in bytes; a longer one is cut. Its message is cut to [`REASON_BYTES_MAX`].
pub const FAILURE_CODE_BYTES_MAX: usize = 256;

/// Most failures of one saga instance that are kept in memory and shown with it; its history has all.
pub const SAGA_FAILURES_MAX: usize = 200;

/// Most bytes of the failures of one saga instance that are kept in memory.
pub const SAGA_FAILURES_BYTES_MAX: usize = 16 * 1024;

/// Largest saga definition, in bytes.
pub const DEFINITION_BYTES_MAX: usize = 1024 * 1024;

/// Most steps in a saga definition.
pub const SAGA_STEPS_MAX: usize = 500;

/// Most items of a step that fans out.
pub const SAGA_FAN_OUT_MAX: usize = 1_000;

/// Most events of one saga instance.
pub const SAGA_EVENTS_MAX: u64 = 10_000;

/// Largest input of a saga and output of a step, in bytes of JSON.
pub const SAGA_PAYLOAD_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Most signals of one saga instance that are kept until a step waits for them.
pub const SAGA_SIGNALS_MAX: usize = 100;

/// Most bytes of payloads of signals of one saga instance that are kept until a step waits for them.
pub const SAGA_SIGNALS_BYTES_MAX: usize = 2 * SAGA_PAYLOAD_BYTES_MAX;

/// Longest id of a signal, in bytes.
pub const SIGNAL_ID_BYTES_MAX: usize = 256;

/// Longest key of a lock, in bytes.
pub const LOCK_KEY_BYTES_MAX: usize = 512;

/// Most sagas that wait for one lock; one more is refused.
pub const LOCK_WAITERS_MAX: usize = 1_000;

/// Most waits that are followed to find a circle of sagas that wait for each other's locks. A longer one is ended by timeouts.
pub const LOCK_PROBE_HOPS_MAX: usize = 100;

/// Most levels of lists and objects in a JSON value that is taken as one. What stores a value puts a few levels around it, and the
/// parser that reads it back stops at 128, so the bound at every door must lie well below that.
pub const JSON_DEPTH_MAX: usize = 64;

/// Most levels of lists and objects in an input of a saga, an output of a step, and the arguments of a call. Below [`JSON_DEPTH_MAX`],
/// because a command record, a reply and an event of the history hold such a value inside, and must be readable as JSON themselves.
pub const SAGA_JSON_DEPTH_MAX: usize = JSON_DEPTH_MAX - 4;

/// How deep sub-sagas may nest: a saga that nobody started as a sub-saga has the depth 0.
pub const SAGA_DEPTH_MAX: u32 = 8;

/// Longest id of a step that starts a sub-saga, in bytes: it is a part of the sub-saga's business key.
pub const SUB_SAGA_STEP_BYTES_MAX: usize = 180;

/// Longest business key of a saga, in bytes.
pub const SAGA_KEY_BYTES_MAX: usize = 256;

/// Most rows in one page of a listing.
pub const PAGE_ROWS_MAX: u32 = 1_000;

/// Most entries of the audit log in one answer.
pub const AUDIT_ENTRIES_MAX: u32 = 1_000;

/// Entries of the audit log in an answer that does not say.
pub const AUDIT_ENTRIES_DEFAULT: u32 = 100;

/// Rows in a page of a listing that does not say.
pub const PAGE_ROWS_DEFAULT: u32 = 100;

/// Most sagas that a repair names one by one.
pub const REPAIR_IDS_MAX: usize = 1_000;

/// Most sagas that a repair begins in a second.
pub const REPAIR_RATE_MAX: u32 = 10_000;

/// Sagas that a repair begins in a second when it does not say.
pub const REPAIR_RATE_DEFAULT: u32 = 100;

/// Most sagas of one repair.
pub const REPAIR_SAGAS_MAX: u64 = 1_000_000;

/// Most sagas of a repair that does not say.
pub const REPAIR_SAGAS_DEFAULT: u64 = 10_000;

/// Longest time that a saga of a repair has to move on, in milliseconds.
pub const REPAIR_PATIENCE_MS_MAX: u64 = 60 * 60 * 1000;

/// How long a saga of a repair has to move on when the repair does not say, in milliseconds.
pub const REPAIR_PATIENCE_MS_DEFAULT: u64 = 60 * 1000;

/// Most bytes of what a repair does to each saga: it is sent to each.
pub const REPAIR_VERB_BYTES_MAX: usize = 64 * 1024;

/// Longest name that a caller gives to a repair, in bytes.
pub const REPAIR_KEY_BYTES_MAX: usize = 256;

/// Sagas that a preview of a repair shows when it does not say.
pub const REPAIR_PREVIEW_DEFAULT: u32 = 10;

/// Repairs of one lane that are not at their end: each is in memory.
pub const OPEN_REPAIRS_MAX: usize = 32;

/// Most sagas that a preview of a repair shows.
pub const REPAIR_PREVIEW_MAX: u32 = 100;

/// How long a member of a stream group stays one without a heartbeat, when neither it nor the server says, in milliseconds.
pub const STREAM_SESSION_MS_DEFAULT: u64 = 45_000;

/// Shortest session, in milliseconds.
pub const STREAM_SESSION_MS_MIN: u64 = 1_000;

/// Longest session, in milliseconds (as Kafka).
pub const STREAM_SESSION_MS_MAX: u64 = 30 * 60 * 1000;

/// How often a member of a stream group sends a heartbeat, when the server does not say, in milliseconds.
pub const STREAM_HEARTBEAT_MS_DEFAULT: u64 = 5_000;

/// How long a member has to hand back a partition, when the server does not say, in milliseconds.
pub const STREAM_REBALANCE_MS_DEFAULT: u64 = 60_000;

/// Most members of a stream group, when the server does not say: each change looks at all of them.
pub const STREAM_MEMBERS_MAX_DEFAULT: usize = 500;

/// Most topics of a stream group, when the server does not say.
pub const STREAM_TOPICS_MAX_DEFAULT: usize = 32;

/// Most stream groups whose home is one shard, when the server does not say.
pub const STREAM_GROUPS_MAX_DEFAULT: usize = 1_000;

/// Most partitions in one commit of a stream group.
pub const STREAM_OFFSETS_MAX: usize = 10_000;

/// How long a client waits for an answer beyond the long poll it asked for.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

const _: () = assert!(RECORD_BYTES_DEFAULT <= RECORD_BYTES_MAX, "the default must be allowed");
const _: () = assert!((RECORD_BYTES_MAX as usize) / 3 * 4 < BODY_BYTES_MAX, "the largest record must fit a body as base64");
const _: () = assert!(RECEIVE_RECORDS_DEFAULT <= RECEIVE_RECORDS_MAX, "the default must be allowed");
const _: () = assert!(RECEIVE_RECORDS_MAX as usize <= IN_FLIGHT_MAX, "one receive must fit the in-flight bound");
const _: () = assert!(IN_FLIGHT_MAX < PENDING_MAX, "delayed records must leave room for leased ones");
const _: () = assert!(RECEIVE_RECORDS_MAX as usize <= RECEIPTS_MAX, "one receive can be settled by one request");

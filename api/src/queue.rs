//! Bodies of the queue-group routes: receive, settle, describe.

mod binary;
mod dead_letters;
mod operate;

pub use binary::{DeliveriesError, Lease, LeasesHead, write_head};
pub use dead_letters::{
    DeadLetter, DeadLetterList, DeadLetterQuery, DiscardRequest, DiscardResponse, LetterEdit, RedriveLimit, RedriveRequest, RedriveResponse,
};
pub use operate::{GroupPause, GroupSeek, GroupSeekResponse, GroupSought, PurgeRequest, PurgeResponse, SeekPosition};

use crate::error::ErrorCode;
use crate::ids::{Offset, PartitionId};
use crate::json::JsonText;
use crate::names::GroupName;
use crate::record::{ConsumedRecord, Headers};
use serde::{Deserialize, Serialize};
#[cfg(feature = "openapi")]
use utoipa::ToSchema;

/// `POST …:receive`. The group is made by its first receive.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct ReceiveRequest {
    /// Most records (default 100, at most 1,000).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_records: Option<u32>,
    /// How long to wait for a first record, in milliseconds (default 0, at most 20,000).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait_ms: Option<u64>,
    /// How long the records are leased to the caller, in milliseconds (default 30,000; 1 s to 12 h).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease_ms: Option<u64>,
    /// Acknowledge on delivery: at most once. The acknowledgement is durable before the records are sent.
    pub auto_ack: bool,
    /// The caller does not begin with the records at once (it fetches ahead), and says of each when it does, by `extend` with `begun`. A
    /// lease that runs out before that is no attempt, up to three times a record. Not together with `auto_ack`. Without effect in the command
    /// topics of sagas, where what is handed out has begun.
    #[serde(skip_serializing_if = "core::ops::Not::not")]
    pub not_begun: bool,
    /// Where a group that does not exist yet begins.
    pub start: StartPosition,
}

/// Where a new group begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum StartPosition {
    /// With the oldest record.
    #[default]
    Earliest,
    /// With the first record produced after the group was made.
    Latest,
}

/// Leased records.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct ReceiveResponse {
    /// The records.
    pub deliveries: Vec<Delivery>,
    /// Why there are none, if there are none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub empty_reason: Option<EmptyReason>,
}

/// Why a receive returned nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum EmptyReason {
    /// Every record is settled.
    CaughtUp,
    /// Every record that is left is leased to a consumer.
    AllLeased,
    /// Records wait for their redelivery backoff or delay.
    AllDelayed,
    /// Every record that is left waits for an earlier one of its key, which is leased or waits for its redelivery. Only with `ordering: key`.
    KeyOrder,
    /// Records wait for older ones of the same partition of before: partitions were added, and what was produced until then in a partition is
    /// settled before its keys go on in others. Only with `ordering: key`.
    PartitionsAdded,
    /// As `key_order`, and there are more records behind those that one partition allows to be looked past (10,000 unsettled ones): among them
    /// may be some of other keys. They are looked at when earlier ones are settled.
    KeyOrderLimit,
    /// The group has as many records in flight as one partition allows.
    InFlightLimit,
    /// Fresh records wait, but the group has as many records leased or waiting for a redelivery as one partition allows: some of those
    /// must be settled first.
    PendingLimit,
    /// The group has as many settled ranges above its floor as one partition allows: an old record must be settled first.
    SettledRangesLimit,
    /// The group is paused: nothing is delivered before it is resumed.
    Paused,
    /// Nothing is handed out before somebody releases it: commands of sagas on a server that was started with them held.
    Held,
}

/// One leased record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(from = "Received")]
pub struct Delivery {
    /// The right to settle this record: opaque, valid on any connection until the lease is over. Empty with `auto_ack`: it is settled.
    pub receipt: String,
    /// How often somebody of this group began with the record, the caller included: the attempt that this delivery is, or becomes.
    pub attempt: u32,
    /// How often it came back because a lease ran out whose holder had not said that he began. Greater than 0: what was handed it may
    /// have died of it, or have begun before it could say so.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub returned: u32,
    /// When the lease is over, in milliseconds since 1970. With `auto_ack` the record is settled already.
    pub lease_until_ms: u64,
    /// How long ago the record was first handed out to this group, in milliseconds. Only in the command topics of sagas, where the time
    /// of a run counts from then.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub handed_out_ago_ms: Option<u64>,
    /// The record.
    #[serde(flatten)]
    pub record: ConsumedRecord,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// A [`Delivery`] as it is read: serde cannot read a JSON text through a flattened field, because it takes such fields apart first.
#[derive(Deserialize)]
struct Received {
    receipt: String,
    attempt: u32,
    #[serde(default)]
    returned: u32,
    lease_until_ms: u64,
    handed_out_ago_ms: Option<u64>,
    partition: PartitionId,
    offset: Offset,
    timestamp_ms: i64,
    key: Option<String>,
    key_base64: Option<String>,
    #[serde(default, deserialize_with = "crate::record::value_in")]
    value: Option<JsonText>,
    value_base64: Option<String>,
    #[serde(default)]
    headers: Headers,
}

impl From<Received> for Delivery {
    fn from(received: Received) -> Self {
        let Received { receipt, attempt, returned, lease_until_ms, handed_out_ago_ms, partition, offset, timestamp_ms, .. } = received;
        let Received { key, key_base64, value, value_base64, headers, .. } = received;
        let record = ConsumedRecord { partition, offset, timestamp_ms, key, key_base64, value, value_base64, headers };
        Self { receipt, attempt, returned, lease_until_ms, handed_out_ago_ms, record }
    }
}

/// `POST …:ack`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(deny_unknown_fields)]
pub struct AckRequest {
    /// Receipts of a receive; 1 to 1,000.
    pub receipts: Vec<String>,
}

/// `POST …:nack`: give records back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NackRequest {
    /// Receipts of a receive; 1 to 1,000.
    pub receipts: Vec<String>,
    /// When the records may be delivered again, in milliseconds from now; without it the topic's backoff.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub delay_ms: Option<u64>,
    /// Why; kept with the dead letter if it was the last delivery.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// Nobody has begun with the records, as when a consumer stops: due at once, and the delivery does not count. Not together with
    /// `delay_ms` or `reason`.
    #[serde(skip_serializing_if = "core::ops::Not::not", default)]
    pub not_begun: bool,
}

/// `POST …:extend`: keep records longer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ExtendRequest {
    /// Receipts of a receive; 1 to 1,000.
    pub receipts: Vec<String>,
    /// New length of the leases from now, in milliseconds (1 s to 12 h).
    pub lease_ms: u64,
    /// The caller begins with the records that it received `not_begun`, or has begun: from now on this delivery is an attempt. Counted once.
    #[serde(skip_serializing_if = "core::ops::Not::not", default)]
    pub begun: bool,
}

/// `POST …:terminate`: make records dead letters now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(deny_unknown_fields)]
pub struct TerminateRequest {
    /// Receipts of a receive; 1 to 1,000.
    pub receipts: Vec<String>,
    /// Why; kept with the dead letters.
    pub reason: String,
}

/// Answer of the settling verbs: one entry a receipt, in order. Durable when it is sent. If no receipt at all could be
/// settled, the answer is a problem instead: with the code `INVALID_RECEIPT` if none is one of this group, else `RECEIPT_EXPIRED`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct SettleResponse {
    /// One entry a receipt.
    pub results: Vec<SettleResult>,
}

/// What became of one receipt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct SettleResult {
    /// What was done.
    pub status: SettleStatus,
    /// Why it was not, with `status: failed`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub code: Option<ErrorCode>,
    /// End of the lease after an `extend`, in milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub lease_until_ms: Option<u64>,
}

/// What became of one receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum SettleStatus {
    /// The verb was applied.
    Done,
    /// The record was settled before; nothing was changed. A repeated acknowledgement ends here.
    AlreadySettled,
    /// The record became a dead letter: terminated, or given back at its last delivery.
    DeadLettered,
    /// The lease is over, or it is no receipt of this group; `code` says which.
    Failed,
}

/// `GET /v1/topics/{topic}/groups`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct GroupList {
    /// Groups by name.
    pub groups: Vec<GroupDescription>,
}

/// A group and how far it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct GroupDescription {
    /// Name of the group.
    pub name: GroupName,
    /// Whether it is paused: nothing is delivered to it.
    pub paused: bool,
    /// Records that are not settled, over all partitions.
    pub lag_records: u64,
    /// Age of the oldest record that is not settled, in seconds.
    pub lag_seconds: f64,
    /// Records leased to consumers, over all partitions.
    pub in_flight: u64,
    /// Records that wait for a redelivery, over all partitions.
    pub delayed: u64,
    /// Records that are known to wait for an earlier one of their key, over all partitions. Only with `ordering: key`.
    pub waiting_for_key: u64,
    /// Dead letters that were neither redriven nor discarded, over all partitions.
    pub dead_letters: u64,
    /// Records that retention took before the group had settled them, ever, over all partitions. They were not delivered, or not to their
    /// end, and are no dead letters.
    pub trimmed_unsettled: u64,
    /// Name of the group's dead-letter topic.
    pub dead_letter_topic: String,
    /// The partitions in order.
    pub partitions: Vec<GroupPartitionDescription>,
}

/// A group in one partition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct GroupPartitionDescription {
    /// Number of the partition.
    pub partition: PartitionId,
    /// Every record below is settled.
    pub ack_floor: Offset,
    /// First record that was never delivered.
    pub next_offset: Offset,
    /// Offset after the last durable record.
    pub high_watermark: Offset,
    /// Records that are not settled.
    pub lag_records: u64,
    /// Age of the oldest record that is not settled, in seconds.
    pub lag_seconds: f64,
    /// Records leased to consumers.
    pub in_flight: u64,
    /// Records that wait for a redelivery, and those that were passed over.
    pub delayed: u64,
    /// Records that are known to wait for an earlier one of their key. Only with `ordering: key`.
    pub waiting_for_key: u64,
    /// Dead letters that were neither redriven nor discarded.
    pub dead_letters: u64,
    /// Records that retention took before the group had settled them, ever.
    pub trimmed_unsettled: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delivery_is_read_as_it_was_written() {
        let payload =
            crate::record::Payload { value: Some("1".into()), headers: [("a", "b")].into_iter().collect(), key: Some("k".into()) };
        let record = ConsumedRecord::new(PartitionId(1), Offset(2), 3, payload);
        let delivery = Delivery { receipt: "r".to_owned(), attempt: 1, returned: 0, lease_until_ms: 4, handed_out_ago_ms: None, record };
        let json = serde_json::to_string(&delivery).expect("JSON");
        assert_eq!(serde_json::from_str::<Delivery>(&json).expect("its own form"), delivery);
        let exact = json.replace(r#""value":"1""#, r#""value":{"a": 1E400}"#);
        assert_eq!(serde_json::to_string(&serde_json::from_str::<Delivery>(&exact).expect("read")).expect("JSON"), exact);
    }
}

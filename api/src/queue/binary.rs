//! Leased records in binary form: `application/vnd.sagamq.deliveries`.
//!
//! | bytes | what |
//! |---|---|
//! | 0..4 | length of the head, u32, big-endian |
//! | head | JSON: `leases`, each with what a [`Delivery`] says beside its record, and `empty_reason` |
//! | rest | record batches, each with its partition in front, as they are sent to be stored; offsets between their records may be left out |
//!
//! The leases are those of the records of all batches, in their order.

use super::{Delivery, EmptyReason, ReceiveResponse};
use crate::batch::{Batch, BatchError, StoredRecord, take_framed_bytes};
use crate::record::ConsumedRecord;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Bytes of the length of the head.
const LENGTH: usize = 4;

/// The lease of a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// As [`Delivery::receipt`].
    pub receipt: String,
    /// As [`Delivery::attempt`].
    pub attempt: u32,
    /// As [`Delivery::returned`].
    #[serde(skip_serializing_if = "super::is_zero", default)]
    pub returned: u32,
    /// As [`Delivery::lease_until_ms`].
    pub lease_until_ms: u64,
    /// As [`Delivery::handed_out_ago_ms`].
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub handed_out_ago_ms: Option<u64>,
}

/// What stands in front of the batches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeasesHead {
    /// One for each record, in their order.
    pub leases: Vec<Lease>,
    /// As [`ReceiveResponse::empty_reason`].
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub empty_reason: Option<EmptyReason>,
}

/// Why an answer cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DeliveriesError {
    /// It ends in its head.
    #[error("the answer ends in its head")]
    Truncated,
    /// The head is another one.
    #[error("the head of the answer: {0}")]
    Head(#[from] serde_json::Error),
    /// A batch cannot be read.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// A batch has no partition.
    #[error("a batch of the answer has no partition")]
    Partition,
    /// There are more leases than records, or fewer.
    #[error("the answer has {leases} leases and {records} records")]
    Count {
        /// So many leases.
        leases: usize,
        /// So many records.
        records: usize,
    },
}

impl LeasesHead {
    /// The text of the head of an answer, whatever is in it; nothing if it is not there.
    #[must_use]
    pub fn unread(answer: &[u8]) -> &[u8] {
        let Some((length, rest)) = answer.split_first_chunk::<LENGTH>() else { return &[] };
        rest.get(..u32::from_be_bytes(*length) as usize).unwrap_or_default()
    }

    /// Takes the head from the front of an answer.
    ///
    /// # Errors
    /// When it is not there or another one.
    pub fn take(answer: &mut Bytes) -> Result<Self, DeliveriesError> {
        let length = answer.first_chunk::<LENGTH>().map(|length| u32::from_be_bytes(*length) as usize);
        let length = length.filter(|length| *length <= answer.len() - LENGTH).ok_or(DeliveriesError::Truncated)?;
        let head = serde_json::from_slice(&answer[LENGTH..LENGTH + length])?;
        let _read = answer.split_to(LENGTH + length);
        Ok(head)
    }
}

/// Writes the head of an answer, which `write` adds as JSON.
///
/// # Panics
/// When it has 4 GiB.
pub fn write_head(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; LENGTH]);
    write(out);
    let length = u32::try_from(out.len() - start - LENGTH).expect("a receive has at most a thousand records");
    out[start..start + LENGTH].copy_from_slice(&length.to_be_bytes());
}

impl ReceiveResponse {
    /// Reads an answer in binary form.
    ///
    /// # Errors
    /// When it is another one or was changed on its way.
    pub fn from_binary(mut answer: Bytes) -> Result<Self, DeliveriesError> {
        let LeasesHead { leases, empty_reason } = LeasesHead::take(&mut answer)?;
        let mut records = Vec::with_capacity(leases.len());
        while let Some((partition, batch)) = take_framed_bytes(&mut answer)? {
            let partition = partition.ok_or(DeliveriesError::Partition)?;
            let of_batch = Batch::parse(batch)?.records()?;
            records.extend(of_batch.into_iter().map(|record| (partition, record)));
        }
        if records.len() != leases.len() {
            return Err(DeliveriesError::Count { leases: leases.len(), records: records.len() });
        }
        let delivery = |(lease, (partition, record)): (Lease, _)| {
            let Lease { receipt, attempt, returned, lease_until_ms, handed_out_ago_ms } = lease;
            let StoredRecord { offset, timestamp_ms, mut payload } = record;
            // The answer would stay as long as any of its records.
            payload.headers.detach();
            let record = ConsumedRecord::new(partition, offset, timestamp_ms, payload);
            Delivery { receipt, attempt, returned, lease_until_ms, handed_out_ago_ms, record }
        };
        Ok(Self { deliveries: leases.into_iter().zip(records).map(delivery).collect(), empty_reason })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::frame;
    use crate::ids::{Offset, PartitionId};
    use crate::record::Payload;
    use proptest::prelude::*;

    fn record(offset: u64) -> StoredRecord {
        let payload = Payload { value: Some(Bytes::from(offset.to_string())), ..Payload::default() };
        StoredRecord { offset: Offset(offset), timestamp_ms: 5, payload }
    }

    fn answer(leases: usize, batches: &[(u32, &[u64])]) -> Vec<u8> {
        let lease = |n: usize| Lease {
            receipt: format!("r{n}"),
            attempt: 1,
            returned: 0,
            lease_until_ms: 9,
            handed_out_ago_ms: (n == 1).then_some(3),
        };
        let head = LeasesHead { leases: (0..leases).map(lease).collect(), empty_reason: (leases == 0).then_some(EmptyReason::CaughtUp) };
        let mut out = Vec::new();
        write_head(&mut out, |out| serde_json::to_writer(out, &head).expect("memory"));
        for (partition, offsets) in batches {
            let records: Vec<StoredRecord> = offsets.iter().map(|&offset| record(offset)).collect();
            out.extend_from_slice(&frame(Some(PartitionId(*partition))));
            out.extend_from_slice(Batch::picked(records.iter()).expect("fits").bytes());
        }
        out
    }

    #[test]
    fn records_get_their_leases_in_the_order_of_the_batches() {
        let read = ReceiveResponse::from_binary(answer(4, &[(3, &[7, 9]), (1, &[2]), (3, &[4])]).into()).expect("whole");
        let of = |delivery: &Delivery| {
            let record = &delivery.record;
            (delivery.receipt.clone(), delivery.handed_out_ago_ms, record.partition.0, record.offset.0, record.text().expect("text"))
        };
        let expected = [("r0", None, 3, 7), ("r1", Some(3), 3, 9), ("r2", None, 1, 2), ("r3", None, 3, 4)];
        let expected = expected.map(|(receipt, ago, partition, offset)| (receipt.to_owned(), ago, partition, offset, offset.to_string()));
        assert_eq!(read.deliveries.iter().map(of).collect::<Vec<_>>(), expected);
        assert_eq!(read.empty_reason, None);
        let none = ReceiveResponse::from_binary(answer(0, &[]).into()).expect("whole");
        assert_eq!((none.deliveries.len(), none.empty_reason), (0, Some(EmptyReason::CaughtUp)));
    }

    #[test]
    fn a_record_s_headers_do_not_keep_the_answer_in_memory() {
        let mut with_header = record(1);
        with_header.payload.headers.push("h", Some("value".into()));
        let mut large = record(2);
        large.payload.value = Some(vec![0; 100_000].into());
        let mut bytes = answer(2, &[]);
        bytes.extend_from_slice(&frame(Some(PartitionId(0))));
        bytes.extend_from_slice(Batch::picked([&with_header, &large].into_iter()).expect("fits").bytes());
        let read = ReceiveResponse::from_binary(bytes.into()).expect("whole");
        let value = read.deliveries[0].record.headers.get_bytes("h").cloned().expect("it has one");
        drop(read);
        assert!(value.try_into_mut().expect("nobody else has it").capacity() < 1_000);
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let read = |bytes: Vec<u8>| ReceiveResponse::from_binary(bytes.into());
        assert!(matches!(read(answer(1, &[(0, &[1, 2])])), Err(DeliveriesError::Count { leases: 1, records: 2 })));
        assert!(matches!(read(Vec::new()), Err(DeliveriesError::Truncated)));
        assert!(matches!(read(vec![0, 0, 0, 9, b'{', b'}']), Err(DeliveriesError::Truncated)));
        assert!(matches!(read(vec![0, 0, 0, 2, b'{', b'}']), Err(DeliveriesError::Head(_))));
        let mut any = answer(1, &[(0, &[1])]);
        let head = 4 + u32::from_be_bytes(any[..4].try_into().expect("four")) as usize;
        any[head..head + 4].copy_from_slice(&frame(None));
        assert!(matches!(read(any), Err(DeliveriesError::Partition)));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn damage_is_an_error_or_nothing_and_no_panic(changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6), cut in any::<prop::sample::Index>()) {
            let mut bytes = answer(3, &[(3, &[7, 9]), (1, &[2])]);
            for (place, byte) in changes {
                let at = place.index(bytes.len());
                bytes[at] = byte;
            }
            let _read = ReceiveResponse::from_binary(bytes.clone().into());
            bytes.truncate(cut.index(bytes.len()));
            let _read = ReceiveResponse::from_binary(bytes.into());
        }
    }
}

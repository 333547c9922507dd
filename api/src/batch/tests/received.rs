//! What producers encode is stored as it came, and whatever a reader would stumble over is refused.

use super::{GOLDEN, any_records, crafted_bytes, encode, golden_records, with_checksum};
use crate::batch::{BatchError, FRAME_LEN, HEADER_LEN, NewBatch, ReceivedBatch, Record, StoredRecord, frame, framed, take, take_framed};
use crate::ids::{Offset, PartitionId};
use crate::limits::{BATCH_BYTES_MAX, BATCH_RECORDS_MAX};
use crate::record::Payload;
use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

fn receive(bytes: &[u8]) -> Result<ReceivedBatch, BatchError> {
    ReceivedBatch::parse(BytesMut::from(bytes))
}

fn of_value(bytes: usize) -> Record {
    Record { timestamp_ms: 7, payload: Payload { value: Some(vec![7; bytes].into()), ..Payload::default() } }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_received_is_stored_as_it_came(records in any_records()) {
        let sent = NewBatch::encode(&records).expect("legal records");
        let received = receive(sent.bytes()).expect("legal");
        prop_assert_eq!(received.records_count() as usize, records.len());
        prop_assert_eq!(received.keys(), records.iter().filter(|record| record.payload.key.is_some()).count());
        prop_assert_eq!(Some(received.record_bytes_max()), records.iter().map(|record| record.payload.len()).max());
        prop_assert_eq!(received.max_timestamp(), records.iter().map(|record| record.timestamp_ms).max());
        prop_assert_eq!(received.arrived_at(5), sent);
    }

    #[test]
    fn what_is_taken_can_be_read(records in any_records(), place in any::<prop::sample::Index>(), byte: u8) {
        let sent = encode(&records);
        let mut bytes = sent.bytes().to_vec();
        let at = 21 + place.index(bytes.len() - 21);
        bytes[at] = byte;
        if let Ok(received) = receive(&with_checksum(bytes)) {
            let (count, highest) = (received.records_count(), received.max_timestamp());
            let stored = received.arrived_at(1_000).at(Offset(3));
            let read = stored.records().expect("a reader trusts what is stored");
            prop_assert_eq!(read.len(), count as usize);
            prop_assert!(read.iter().map(|record| record.offset.0).eq(3..3 + u64::from(count)), "no gap");
            let found = read.iter().map(|record| record.timestamp_ms).max();
            prop_assert_eq!(found, Some(highest.unwrap_or(1_000)));
            prop_assert_eq!(stored.max_timestamp(), highest.unwrap_or(1_000));
        }
    }

    #[test]
    fn framed_batches_are_taken_apart_again(partitions in proptest::collection::vec(proptest::option::of(0..9_u32), 0..5), cut in 1..80_usize) {
        let mut body = Vec::new();
        for &partition in &partitions {
            body.extend_from_slice(&frame(partition.map(PartitionId)));
            body.extend_from_slice(&GOLDEN);
        }
        let mut left = BytesMut::from(&body[..]);
        for &partition in &partitions {
            let (of, bytes) = take_framed(&mut left).expect("whole").expect("there is one");
            prop_assert_eq!((of, &bytes[..]), (partition.map(PartitionId), &GOLDEN[..]));
        }
        prop_assert!(framed(&body).eq(partitions.iter().map(|_| &GOLDEN[..])));
        prop_assert!(take_framed(&mut left).expect("nothing").is_none());
        if !partitions.is_empty() {
            let mut short = BytesMut::from(&body[..body.len() - cut]);
            prop_assert_eq!(framed(&short).count(), partitions.len() - 1);
            let whole = (1..partitions.len()).all(|_| take_framed(&mut short).is_ok_and(|taken| taken.is_some()));
            prop_assert!(whole && take_framed(&mut short).is_err(), "the last one is cut");
        }
    }
}

#[test]
fn an_answer_is_taken_apart_again() {
    let mut answer = Bytes::from([GOLDEN, GOLDEN].concat());
    for _ in 0..2 {
        assert_eq!(take(&mut answer).expect("whole").as_deref(), Some(&GOLDEN[..]));
    }
    assert_eq!(take(&mut answer), Ok(None));
    assert_eq!(take(&mut Bytes::from_static(&GOLDEN[..HEADER_LEN - 1])), Err(BatchError::Truncated(HEADER_LEN - 1)));
    assert!(matches!(take(&mut Bytes::from_static(&GOLDEN[..91])), Err(BatchError::Length { stated: 92, actual: 91 })));
    assert_eq!(take_framed(&mut BytesMut::from(&[0; FRAME_LEN - 1][..])).map(|_| ()), Err(BatchError::Truncated(FRAME_LEN - 1)));
}

#[test]
fn a_batch_without_times_gets_that_of_its_arrival_and_its_retry_says_the_same() {
    let timeless = Record { timestamp_ms: -1, ..golden_records().remove(1) };
    let sent = NewBatch::encode(&[timeless.clone(), timeless]).expect("legal");
    let (first, retry) = (receive(sent.bytes()).expect("legal"), receive(sent.bytes()).expect("legal"));
    assert_eq!((first.max_timestamp(), first.sent()), (None, retry.sent()));
    let [early, late] = [(first, 1_000), (retry, 2_000)].map(|(batch, arrived_ms)| {
        let stored = batch.arrived_at(arrived_ms).at(Offset(9));
        let again = crate::batch::Batch::parse(stored.bytes().clone()).expect("its checksum was made anew");
        assert_eq!((again.header().base_timestamp, again.max_timestamp()), (arrived_ms, arrived_ms));
        again.records().expect("readable").into_iter().map(|StoredRecord { timestamp_ms, .. }| timestamp_ms).collect::<Vec<_>>()
    });
    assert_eq!((early, late), (vec![1_000; 2], vec![2_000; 2]));
}

/// A batch of one record whose time is said in two parts.
fn in_two_parts(base_ms: i64, delta: &[u8], max_ms: i64) -> Vec<u8> {
    let record = [&[0_u8][..], delta, &[0, 1, 1, 0]].concat();
    let mut bytes = crafted_bytes(1, 0, &[&[(record.len() * 2) as u8][..], &record].concat());
    bytes[27..35].copy_from_slice(&base_ms.to_be_bytes());
    bytes[35..43].copy_from_slice(&max_ms.to_be_bytes());
    with_checksum(bytes)
}

#[test]
fn a_batch_without_times_cannot_get_one_that_nobody_can_read() {
    // The lowest time and the largest distance are -1 together: with the time of arrival the sum would be out of range.
    let largest = [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
    for (base_ms, delta) in [(i64::MIN, &largest[..]), (-2, &[2]), (0, &[1])] {
        let refused = receive(&in_two_parts(base_ms, delta, -1));
        assert!(matches!(refused, Err(BatchError::Header(what)) if what.contains("without times")), "{base_ms}: {refused:?}");
    }
    let stored = receive(&in_two_parts(-1, &[0], -1)).expect("as Kafka says it").arrived_at(1_000).at(Offset(0));
    assert_eq!(stored.records().expect("readable")[0].timestamp_ms, 1_000);
    // With times the two parts may be anything that adds up.
    assert_eq!(receive(&in_two_parts(0, &[2], 1)).expect("times").max_timestamp(), Some(1));
}

#[test]
fn what_the_producer_says_of_its_place_is_not_believed() {
    let mut bytes = GOLDEN;
    bytes[7] = 99;
    bytes[12..16].copy_from_slice(&5_i32.to_be_bytes());
    let stored = receive(&bytes).expect("neither is covered by the checksum").arrived_at(0);
    assert_eq!(stored.bytes(), GOLDEN);
}

#[test]
fn what_is_not_supported_or_contradicts_itself_is_refused() {
    let refused = |bytes: &[u8]| receive(bytes).expect_err("refused");
    let changed = |at: usize, to: &[u8]| {
        let mut bytes = GOLDEN.to_vec();
        bytes[at..at + to.len()].copy_from_slice(to);
        refused(&with_checksum(bytes))
    };
    let mut damaged = GOLDEN;
    damaged[80] ^= 1;
    assert!(matches!(refused(&damaged), BatchError::Checksum { .. }));
    assert_eq!(changed(21, &[0, 1]), BatchError::Compression("gzip"));
    assert_eq!(changed(21, &[0, 2]), BatchError::Compression("snappy"));
    assert!(matches!(changed(21, &[0, 3]), BatchError::Compressed(_)), "it is no LZ4");
    assert!(matches!(changed(21, &[0, 4]), BatchError::Compressed(_)), "it is no Zstandard");
    assert_eq!(changed(21, &[0, 8]), BatchError::Unsupported("times of the log"));
    for attribute in [1 << 4, 1 << 5, 1 << 6, i16::MIN] {
        assert!(matches!(changed(21, &i16::to_be_bytes(attribute)), BatchError::Unsupported(what) if what.contains("transactions")));
    }
    assert!(matches!(changed(43, &[0; 8]), BatchError::Header(what) if what.contains("all -1")));
    assert!(matches!(changed(23, &[0, 0, 0, 2]), BatchError::Header(what) if what.contains("left out")));
    assert!(matches!(changed(35, &1_006_i64.to_be_bytes()), BatchError::Header(what) if what.contains("maximum timestamp")));
    assert!(matches!(changed(27, &i64::MAX.to_be_bytes()), BatchError::Record { index: 0, reason: "its timestamp is out of range" }));
    assert!(matches!(changed(64, &[2]), BatchError::Record { index: 0, reason: "its offset delta is not its place in the batch" }));
    let headers = |count: usize| {
        let mut record = vec![0, 0, 0, 1, 1];
        // The number of headers as a zigzag varint of two bytes.
        record.extend_from_slice(&[((count * 2) as u8 & 0x7f) | 0x80, ((count * 2) >> 7) as u8]);
        record.extend(core::iter::repeat_n([2, b'n', 1], count).flatten());
        let size = record.len() * 2;
        let mut bytes = crafted_bytes(1, 0, &[vec![(size as u8 & 0x7f) | 0x80, (size >> 7) as u8], record].concat());
        bytes[35..43].copy_from_slice(&1_000_i64.to_be_bytes());
        receive(&with_checksum(bytes)).map(|_| ())
    };
    assert_eq!(headers(1_000), Ok(()));
    assert_eq!(headers(1_001), Err(BatchError::Record { index: 0, reason: "it has too many headers" }));
}

#[test]
fn a_batch_is_as_large_as_a_reader_should_decode_for_one_record() {
    let of = |records: &[Record]| receive(NewBatch::encode(records).expect("legal").bytes()).map(|_| ());
    let most = BATCH_RECORDS_MAX as usize;
    assert_eq!(of(&vec![of_value(1); most]), Ok(()));
    assert!(matches!(of(&vec![of_value(1); most + 1]), Err(BatchError::TooLarge { records, .. }) if records as usize == most + 1));
    assert!(matches!(of(&[of_value(1), of_value(BATCH_BYTES_MAX)]), Err(BatchError::TooLarge { records: 2, .. })));
    assert_eq!(of(&[of_value(2 * BATCH_BYTES_MAX)]), Ok(()), "a record larger than the bound is a batch of its own");
}

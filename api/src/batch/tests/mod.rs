//! Batches go around unchanged, damage is found, and hostile bytes are errors.

mod compressed;
mod received;

use super::layout::CRC_END;
use super::{Batch, BatchBuffer, BatchError, EncodeError, HEADER_LEN, NewBatch, Record, StoredRecord};
use crate::ids::Offset;
use crate::record::{Header, Headers, Payload};
use bytes::{Bytes, BytesMut};
use kafka_protocol::records::RecordBatchDecoder;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Written down from the format's documentation, not from this code: two records, the first with key, value and two headers, the
/// second with nothing.
const GOLDEN: [u8; 92] = [
    0, 0, 0, 0, 0, 0, 0, 0, // base offset
    0, 0, 0, 0x50, // length
    0xff, 0xff, 0xff, 0xff, // leader epoch
    2,    // magic
    0xb5, 0x77, 0x93, 0x26, // CRC-32C
    0, 0, // attributes
    0, 0, 0, 1, // last offset delta
    0, 0, 0, 0, 0, 0, 0x03, 0xe8, // base timestamp
    0, 0, 0, 0, 0, 0, 0x03, 0xed, // maximum timestamp
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, // producer id
    0xff, 0xff, // producer epoch
    0xff, 0xff, 0xff, 0xff, // base sequence
    0, 0, 0, 2, // number of records
    0x2e, 0, 0x0a, 0, // 23 bytes, attributes, 5 ms later, offset delta 0
    2, b'k', 0x0a, b'h', b'e', b'l', b'l', b'o', // key, value
    4, 2, b'a', 2, b'1', 0x0a, b't', b'r', b'a', b'c', b'e', 0, // headers
    0x0c, 0, 0, 2, 1, 1, 0, // 6 bytes, attributes, 0 ms later, offset delta 1, no key, no value, no headers
];

fn golden_records() -> Vec<Record> {
    let headers = [("a", "1"), ("trace", "")].into_iter().collect();
    let payload = Payload { key: Some(Bytes::from_static(b"k")), value: Some(Bytes::from_static(b"hello")), headers };
    vec![Record { timestamp_ms: 1005, payload }, Record { timestamp_ms: 1000, payload: Payload::default() }]
}

fn encode(records: &[Record]) -> Batch {
    encode_at(records, 0)
}

fn encode_at(records: &[Record], base: u64) -> Batch {
    NewBatch::encode(records).expect("legal records").at(Offset(base))
}

/// A batch of these bytes behind a header that fits them.
fn crafted(records_count: u32, attributes: i16, records: &[u8]) -> Batch {
    Batch::parse(crafted_bytes(records_count, attributes, records).into()).expect("the header is right")
}

fn crafted_bytes(records_count: u32, attributes: i16, records: &[u8]) -> Vec<u8> {
    let mut bytes = GOLDEN[..HEADER_LEN].to_vec();
    bytes.extend_from_slice(records);
    let length = u32::try_from(bytes.len() - 12).expect("small");
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    bytes[21..23].copy_from_slice(&attributes.to_be_bytes());
    bytes[23..27].copy_from_slice(&(records_count - 1).to_be_bytes());
    bytes[57..61].copy_from_slice(&records_count.to_be_bytes());
    with_checksum(bytes)
}

/// The same bytes with the checksum that they give.
fn with_checksum(mut bytes: Vec<u8>) -> Vec<u8> {
    let crc = crc32c::crc32c(&bytes[CRC_END..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes
}

fn any_bytes() -> impl Strategy<Value = Option<Bytes>> {
    proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from))
}

prop_compose! {
    fn any_record()(
        // Half the range, so that any two are near enough for one batch.
        timestamp_ms in i64::MIN / 2..i64::MAX / 2,
        key in any_bytes(),
        value in any_bytes(),
        list in proptest::collection::vec(("[a-b]|.{0,8}", any_bytes()), 0..4),
    ) -> Record {
        let mut headers = Headers::default();
        list.into_iter().for_each(|(name, value)| headers.push(name, value));
        Record { timestamp_ms, payload: Payload { key, value, headers } }
    }
}

fn any_records() -> impl Strategy<Value = Vec<Record>> {
    proptest::collection::vec(any_record(), 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_encoded_is_read_again(records in any_records(), base in 0..u64::try_from(i64::MAX).expect("positive") / 2) {
        let batch = encode_at(&records, base);
        let parsed = Batch::parse(batch.bytes().clone()).expect("the base offset is outside the checksum");
        prop_assert_eq!(&parsed, &batch);
        let expected: Vec<StoredRecord> = (base..)
            .zip(&records)
            .map(|(offset, r)| StoredRecord { offset: Offset(offset), timestamp_ms: r.timestamp_ms, payload: r.payload.clone() })
            .collect();
        prop_assert_eq!(&parsed.records().expect("readable"), &expected);
        prop_assert_eq!(parsed.base_offset(), Offset(base));
        prop_assert_eq!(parsed.next_offset(), Offset(base + records.len() as u64));
        prop_assert_eq!(parsed.records_count() as usize, records.len());
        prop_assert_eq!(Some(parsed.header().base_timestamp), records.iter().map(|r| r.timestamp_ms).min());
        prop_assert_eq!(Some(parsed.max_timestamp()), records.iter().map(|r| r.timestamp_ms).max());
        let again: Vec<Record> = expected.into_iter().map(StoredRecord::into_record).collect();
        prop_assert_eq!(again, records);
    }

    #[test]
    fn others_read_the_same(records in any_records()) {
        let batch = encode_at(&records, 77);
        let theirs = RecordBatchDecoder::decode(&mut batch.bytes().clone()).expect("Kafka's format").records;
        let ours = batch.records().expect("readable");
        prop_assert_eq!(theirs.len(), ours.len());
        for (theirs, ours) in theirs.into_iter().zip(ours) {
            // They keep the last of repeated headers.
            let headers: BTreeMap<_, _> = theirs.headers.iter().map(|(name, value)| (name.to_string(), value.clone())).collect();
            let last = ours.payload.headers.iter().map(|Header { name, value }| (name.clone(), value.clone()));
            prop_assert_eq!(headers, last.collect::<BTreeMap<_, _>>());
            prop_assert_eq!((theirs.key, theirs.value), (ours.payload.key, ours.payload.value));
            prop_assert_eq!((theirs.offset, theirs.timestamp), (i64::try_from(ours.offset.0).expect("small"), ours.timestamp_ms));
        }
    }

    #[test]
    fn a_changed_byte_is_found(records in any_records(), place in any::<prop::sample::Index>(), flip in 1_u8..) {
        let mut bytes = encode(&records).into_bytes().to_vec();
        let at = CRC_END + place.index(bytes.len() - CRC_END);
        bytes[at] ^= flip;
        // A field of the header may make no sense before the checksum is looked at.
        let error = Batch::parse(bytes.into()).expect_err("one byte is different");
        prop_assert!(matches!(error, BatchError::Checksum { .. } | BatchError::Header(_)), "{}", error);
    }

    #[test]
    fn bytes_cut_or_added_are_found(records in any_records(), cut in 1_usize..80) {
        let bytes = encode(&records).into_bytes();
        let short = bytes.slice(..bytes.len().saturating_sub(cut));
        let error = Batch::parse(short).expect_err("bytes are missing");
        prop_assert!(matches!(error, BatchError::Length { .. } | BatchError::Truncated(_)), "{}", error);
        let mut long = bytes.to_vec();
        long.extend_from_slice(&bytes[..cut.min(bytes.len())]);
        let error = Batch::parse(long.into()).expect_err("there are bytes behind the batch");
        prop_assert!(matches!(error, BatchError::Length { .. }), "{}", error);
    }

    #[test]
    fn hostile_records_are_errors_and_no_panic(
        noise in proptest::collection::vec(any::<u8>(), 0..60),
        count in 1_u32..=i32::MAX.unsigned_abs(),
        attributes in any::<i16>(),
    ) {
        // Whether it can be read does not matter, only that reading ends.
        let _read = crafted(count, attributes, &noise).records();
    }

    #[test]
    fn changed_records_are_read_or_refused_but_never_panic(records in any_records(), place in any::<prop::sample::Index>(), byte: u8) {
        let batch = encode(&records);
        let mut body = batch.bytes()[HEADER_LEN..].to_vec();
        let at = place.index(body.len());
        body[at] = byte;
        let _read = crafted(batch.records_count(), 0, &body).records();
    }
}

#[test]
fn golden_bytes() {
    let batch = encode(&golden_records());
    assert_eq!(batch.bytes().as_ref(), GOLDEN);
    let read: Vec<Record> = Batch::parse(Bytes::from_static(&GOLDEN))
        .and_then(|batch| batch.records())
        .expect("readable")
        .into_iter()
        .map(StoredRecord::into_record)
        .collect();
    assert_eq!(read, golden_records());
}

#[test]
fn any_single_bit_behind_the_checksum_is_covered() {
    for at in CRC_END * 8..GOLDEN.len() * 8 {
        let mut bytes = GOLDEN;
        bytes[at / 8] ^= 1 << (at % 8);
        Batch::parse(Bytes::copy_from_slice(&bytes)).expect_err("one bit is different");
    }
    let mut checksum = GOLDEN;
    checksum[17] ^= 1;
    assert!(matches!(Batch::parse(Bytes::copy_from_slice(&checksum)), Err(BatchError::Checksum { .. })));
}

#[test]
fn an_offset_is_given_without_copying_and_without_touching_the_neighbours() {
    let records = golden_records();
    let mut buffer = BatchBuffer::expecting(3, 3 * records.len(), 100);
    let batches = [(); 3].map(|()| NewBatch::encode_each(records.iter(), &mut buffer).expect("legal records"));
    let [first, second, third] = batches.map(|batch| (batch.bytes().as_ptr(), batch));
    assert!(second.0 == first.0.wrapping_add(GOLDEN.len()) && third.0 == second.0.wrapping_add(GOLDEN.len()), "one behind the other");
    let moved = [(first, 1), (third, 3), (second, 2)].map(|((place, batch), base)| {
        let batch = batch.at(Offset(base));
        assert_eq!(batch.bytes().as_ptr(), place, "the bytes are changed where they are");
        batch
    });
    for (batch, base) in moved.iter().zip([1, 3, 2_u8]) {
        assert_eq!((batch.base_offset(), batch.bytes()[7]), (Offset(base.into()), base));
        assert_eq!(batch.bytes()[8..], GOLDEN[8..]);
        assert_eq!(Batch::parse(batch.bytes().clone()).as_ref(), Ok(batch));
    }
}

#[test]
fn batches_share_memory_up_to_a_bound_and_a_large_one_has_its_own() {
    let record = |bytes: usize| Record { timestamp_ms: 0, payload: Payload { value: Some(vec![7; bytes].into()), ..Payload::default() } };
    let (small, large) = (record(1_000), record(200_000));
    let mut buffer = BatchBuffer::expecting(101, 101, 300_000);
    let each = [&small; 50].into_iter().chain([&large]).chain([&small; 50]);
    let batches: Vec<NewBatch> =
        each.clone().map(|record| NewBatch::encode_each(core::iter::once(record), &mut buffer).expect("legal")).collect();
    let is_behind = |pair: &[NewBatch]| pair[0].bytes().as_ptr_range().end == pair[1].bytes().as_ptr();
    let allocations = 1 + batches.windows(2).filter(|pair| !is_behind(pair)).count();
    assert!((5..=8).contains(&allocations), "memory of 32 KiB at a time, and one for itself: {allocations}");
    for (batch, record) in batches.into_iter().zip(each) {
        let again: Vec<Record> = batch.into_records().expect("readable").into_iter().map(StoredRecord::into_record).collect();
        assert_eq!(again, std::slice::from_ref(record));
    }
}

#[test]
fn values_share_the_memory_of_the_batch() {
    let batch = encode(&golden_records());
    let records = batch.records().expect("readable");
    let value = records[0].payload.value.as_ref().expect("there is one");
    assert!(batch.bytes().as_ptr_range().contains(&value.as_ptr()));
}

#[test]
fn what_does_not_fit_a_batch_is_refused() {
    assert_eq!(NewBatch::encode(&[]), Err(EncodeError::Empty));
    let at = |timestamp_ms| Record { timestamp_ms, payload: Payload::default() };
    let error = NewBatch::encode(&[at(-1), at(i64::MAX)]).expect_err("too far apart");
    assert_eq!(error, EncodeError::TimestampsTooFarApart { lowest_ms: -1, highest_ms: i64::MAX });
    encode(&[at(i64::MIN)]);
    encode(&[at(0), at(i64::MAX)]);
    // One value a thousand times: no memory, but more than the format can count.
    let value = Bytes::from(vec![0; 4 << 20]);
    let large = vec![Record { timestamp_ms: 0, payload: Payload { value: Some(value), ..Payload::default() } }; 1000];
    assert!(matches!(NewBatch::encode(&large), Err(EncodeError::TooLarge { .. })));
}

#[test]
fn repeated_binary_and_null_headers_are_read_in_order() {
    let headers = |record: &[u8]| crafted(1, 0, record).records().expect("readable").remove(0).payload.headers;
    let binary = headers(&[0x14, 0, 0, 0, 1, 1, 2, 2, b'n', 2, 0xff]);
    assert_eq!(binary.get_bytes("n").map(Bytes::as_ref), Some(b"\xff".as_slice()));
    let twice = headers(&[0x18, 0, 0, 0, 1, 1, 4, 2, b'n', 1, 2, b'n', 0]);
    assert!(twice.all("n").eq([None, Some(&Bytes::new())]));
}

#[test]
fn other_formats_are_called_by_their_name() {
    let with = |at: usize, bytes: &[u8]| {
        let mut batch = BytesMut::from(GOLDEN.as_slice());
        batch[at..at + bytes.len()].copy_from_slice(bytes);
        Batch::parse(batch.freeze()).expect_err("not a batch of ours")
    };
    assert_eq!(with(16, &[1]), BatchError::Magic(1));
    assert_eq!(Batch::parse(Bytes::new()), Err(BatchError::Truncated(0)));
    assert!(matches!(with(8, &[0xff; 4]), BatchError::Length { stated: 11, actual: 92 }));
    assert!(matches!(with(0, &[0xff; 8]), BatchError::Header(_)), "negative base offset");
    assert!(matches!(with(57, &[0; 4]), BatchError::Checksum { .. }), "a batch may have no records, and this one has");
    assert!(matches!(with(57, &[0, 0, 0, 3]), BatchError::Header(_)), "more records than offsets");
}

#[test]
fn what_a_payload_cannot_hold_is_refused() {
    let read = |records: &[u8]| crafted(1, 0, records).records();
    let refused = |records: &[u8]| match read(records) {
        Err(BatchError::Record { index: 0, reason }) => reason,
        other => panic!("expected a refused record, got {other:?}"),
    };
    assert!(read(&[0x0c, 0, 0, 0, 1, 1, 0]).is_ok(), "what follows differs from this one");
    assert_eq!(refused(&[0x14, 0, 0, 0, 1, 1, 2, 2, 0xff, 2, b'v']), "the name of a header is not UTF-8");
    assert_eq!(refused(&[0x10, 0, 0, 0, 1, 1, 2, 1, 2, b'v']), "a header has no name");
    assert_eq!(refused(&[0x0e, 0, 0, 0, 1, 1, 0, 0]), "its size does not match its parts");
    assert_eq!(refused(&[0x0c, 0, 0, 0, 3, 1, 0]), "a length is negative");
    assert_eq!(refused(&[0x0c, 0, 0, 0, 0x7e, 1, 0]), "it ends in the middle");
    assert_eq!(refused(&[0x0c, 0, 0, 2, 1, 1, 0]), "its offset is out of order or behind the last one");
    assert_eq!(refused(&[0x0c, 0, 0, 1, 1, 1, 0]), "its offset is before the batch's");
    assert_eq!(crafted(1, 0, &[0x0c, 0, 0, 0, 1, 1, 0, 9]).records(), Err(BatchError::Header("there are bytes behind the last record")));
    for (codec, name) in [(1, "gzip"), (2, "snappy"), (5, "an unknown codec"), (7, "an unknown codec")] {
        assert_eq!(crafted(1, codec, &[]).records(), Err(BatchError::Compression(name)));
    }
    assert_eq!(crafted(1, 1 << 5, &[]).records(), Err(BatchError::Unsupported("control records")));
    let at_arrival = crafted(1, 1 << 3, &[0x0c, 0, 0x0a, 0, 1, 1, 0]).records().expect("readable");
    assert_eq!(at_arrival[0].timestamp_ms, 1005, "the batch's highest time is every record's");
}

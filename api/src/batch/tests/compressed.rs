//! Compressed batches are the same records, and what is wrong with one is an error: no panic, and no more memory than the bounds say.

use super::{any_records, with_checksum};
use crate::batch::{
    Batch, BatchError, Compression, HEADER_LEN, NewBatch, ReceivedBatch, Record, Unpacked, codec, sent_unpacked_bytes_max,
    unpacked_bytes_max,
};
use crate::ids::Offset;
use crate::limits::{BATCH_BYTES_MAX, DECOMPRESSED_BYTES_MAX};
use crate::record::Payload;
use bytes::BytesMut;
use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
use proptest::prelude::*;
use std::io::Write as _;

const CODECS: [Compression; 2] = [Compression::Lz4, Compression::Zstd];

fn any_codec() -> impl Strategy<Value = Compression> {
    proptest::sample::select(CODECS.to_vec())
}

/// Records that compress well, whatever is in them: each is there several times.
fn repeated(records: Vec<Record>, times: usize) -> Vec<Record> {
    core::iter::repeat_n(records, times).flatten().collect()
}

fn of_value(bytes: usize) -> Record {
    Record { timestamp_ms: 7, payload: Payload { value: Some(vec![7; bytes].into()), ..Payload::default() } }
}

/// The batch with its records in these bytes, which say what they are compressed with.
fn with_body(batch: &[u8], compression: Compression, body: &[u8]) -> Vec<u8> {
    let mut bytes = [&batch[..HEADER_LEN], body].concat();
    let length = u32::try_from(bytes.len() - 12).expect("small");
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    bytes[21..23].copy_from_slice(&compression.bits().to_be_bytes());
    with_checksum(bytes)
}

fn lz4(records: &[u8], info: FrameInfo) -> Vec<u8> {
    let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
    encoder.write_all(records).expect("memory");
    encoder.finish().expect("memory")
}

fn receive(bytes: &[u8]) -> Result<ReceivedBatch, BatchError> {
    ReceivedBatch::parse(BytesMut::from(bytes))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn compressed_records_are_the_same(records in any_records(), times in 1..40_usize, codec in any_codec(), base in 0..1_u64 << 40) {
        let records = repeated(records, times);
        let plain = NewBatch::encode(&records).expect("legal records");
        let (plain_len, expected) = (plain.len(), NewBatch::encode(&records).expect("legal").at(Offset(base)).records().expect("readable"));
        let packed = plain.compressed(codec);
        prop_assert!(packed.len() <= plain_len && (packed.is_compressed() || packed.len() == plain_len));
        let received = receive(packed.bytes()).expect("legal");
        prop_assert_eq!(received.records_count() as usize, records.len());
        prop_assert_eq!(received.record_bytes_max(), records.iter().map(|record| record.payload.len()).max().expect("some"));
        prop_assert_eq!(received.keys(), records.iter().filter(|record| record.payload.key.is_some()).count());
        prop_assert_eq!(received.unpacked_bytes(), plain_len - HEADER_LEN);
        prop_assert_eq!(received.max_timestamp(), records.iter().map(|record| record.timestamp_ms).max());
        let stored = received.arrived_at(5);
        prop_assert_eq!(&stored, &packed, "it is stored as it came");
        let stored = stored.at(Offset(base));
        prop_assert_eq!(stored.next_offset(), Offset(base + records.len() as u64));
        prop_assert_eq!(&Batch::parse(stored.bytes().clone()).and_then(|batch| batch.records()).expect("readable"), &expected);
        let unpacked = Unpacked::read(stored.bytes()).expect("readable");
        prop_assert_eq!((unpacked.header(), unpacked.bytes()), (stored.header(), plain_len - HEADER_LEN));
        prop_assert_eq!(&unpacked.records().collect::<Result<Vec<_>, _>>().expect("readable"), &expected);
        prop_assert!((unpacked.bytes()..=plain_len).contains(&unpacked_bytes_max(stored.bytes())), "the frame says it");
        let again: Vec<Record> = expected.into_iter().map(crate::batch::StoredRecord::into_record).collect();
        prop_assert_eq!(again, records);
    }

    #[test]
    fn a_damaged_frame_is_an_error_or_other_records_but_no_panic_and_within_the_bounds(
        records in any_records(),
        codec in any_codec(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in proptest::option::of(any::<prop::sample::Index>()),
        states_size: bool,
    ) {
        let plain = NewBatch::encode(&repeated(records, 30)).expect("legal");
        let body = &plain.bytes()[HEADER_LEN..];
        let mut body = match codec {
            Compression::Zstd if states_size => zstd::bulk::compress(body, 3).expect("memory"),
            Compression::Zstd => zstd::stream::encode_all(body, 3).expect("memory"),
            _ => lz4(body, FrameInfo::new().content_size(states_size.then_some(body.len() as u64))),
        };
        for (place, byte) in changes {
            let at = place.index(body.len());
            body[at] = byte;
        }
        if let Some(cut) = cut {
            body.truncate(cut.index(body.len()));
        }
        let bytes = with_body(plain.bytes(), codec, &body);
        prop_assert!(unpacked_bytes_max(&bytes) <= DECOMPRESSED_BYTES_MAX && sent_unpacked_bytes_max(&bytes) <= DECOMPRESSED_BYTES_MAX);
        // What is taken can be read.
        if let Ok(received) = receive(&bytes) {
            let (count, bytes) = (received.records_count() as usize, received.unpacked_bytes());
            let stored = received.arrived_at(9).at(Offset(3));
            let read = Unpacked::read(stored.bytes()).expect("a reader trusts what is stored");
            prop_assert_eq!((read.records().filter(Result::is_ok).count(), read.bytes()), (count, bytes));
        }
    }

    #[test]
    fn noise_behind_a_header_is_an_error(noise in proptest::collection::vec(any::<u8>(), 0..80), codec in any_codec(), has_magic: bool) {
        let batch = NewBatch::encode(&[of_value(1)]).expect("legal");
        let magic: &[u8] = match codec {
            _ if !has_magic => &[],
            Compression::Lz4 => &[4, 0x22, 0x4d, 0x18],
            _ => &[0x28, 0xb5, 0x2f, 0xfd],
        };
        let _read = Unpacked::read(&with_body(batch.bytes(), codec, &[magic, &noise].concat())).map(|batch| batch.records().count());
    }
}

#[test]
fn what_becomes_no_smaller_stays_as_it_is() {
    let batch = || NewBatch::encode(&[of_value(3)]).expect("legal");
    for codec in CODECS {
        assert_eq!(batch().compressed(codec), batch());
        let large = || NewBatch::encode(&[of_value(3_000)]).expect("legal").compressed(codec);
        assert!(large().is_compressed() && large().len() < 300);
        assert_eq!(large().compressed(Compression::Zstd), large(), "nothing is compressed twice");
    }
    assert_eq!(batch().compressed(Compression::None), batch());
}

#[test]
fn frames_of_others_are_read() {
    let records = repeated(vec![of_value(500)], 300);
    let plain = NewBatch::encode(&records).expect("legal");
    let body = &plain.bytes()[HEADER_LEN..];
    let linked = FrameInfo::new().block_mode(BlockMode::Linked).block_size(BlockSize::Max64KB).content_checksum(true).block_checksums(true);
    let two = [zstd::bulk::compress(&body[..99], 1).expect("memory"), zstd::stream::encode_all(&body[99..], 19).expect("memory")].concat();
    let frames = [
        (Compression::Lz4, lz4(body, FrameInfo::new())),
        (Compression::Lz4, lz4(body, linked)),
        (Compression::Lz4, lz4(body, FrameInfo::new().block_size(BlockSize::Max4MB).content_size(Some(body.len() as u64)))),
        (Compression::Zstd, zstd::stream::encode_all(body, 1).expect("memory")),
    ];
    for (codec, frame) in frames {
        let received = receive(&with_body(plain.bytes(), codec, &frame)).expect("a frame as any other");
        assert_eq!((received.records_count(), received.unpacked_bytes()), (300, body.len()));
    }
    // The first frame says a size, which is not that of all.
    assert!(matches!(receive(&with_body(plain.bytes(), Compression::Zstd, &two)), Err(BatchError::Compressed(_))));
    let checked = lz4(body, FrameInfo::new().content_checksum(true).block_checksums(true));
    let refused = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut frame = checked.clone();
        change(&mut frame);
        match receive(&with_body(plain.bytes(), Compression::Lz4, &frame)) {
            Err(BatchError::Compressed(reason)) => reason,
            other => panic!("{other:?}"),
        }
    };
    let last = checked.len() - 1;
    assert!(refused(&|frame| frame.push(0)).contains("behind"));
    assert!(refused(&|frame| frame.truncate(last)).contains("cut"));
    assert!(refused(&|frame| frame.truncate(last - 7)).contains("cut"), "without its end");
    assert!(refused(&|frame| frame[last] ^= 1).contains("checksum of the content"));
    assert!(refused(&|frame| frame[20] ^= 1).contains("checksum of a block"));
    assert!(refused(&|frame| frame[6] ^= 1).contains("checksum of the frame's head"));
    assert!(refused(&|frame| frame[..4].copy_from_slice(&0x184c_2102_u32.to_le_bytes())).contains("no frame"), "of the time before frames");
    assert!(refused(&|frame| frame[4] ^= 1 << 7).contains("later version"));
    assert!(refused(&|frame| frame.truncate(5)).contains("head"));
    let mut with_dictionary = checked;
    with_dictionary[4] |= 1;
    let received = receive(&with_body(plain.bytes(), Compression::Lz4, &with_dictionary));
    assert!(matches!(received, Err(BatchError::Compression(_))), "{received:?}");
}

#[test]
fn a_bomb_is_refused_before_there_is_memory_for_it() {
    let batch = |count: usize| NewBatch::encode(&vec![of_value(1); count]).expect("legal");
    let zeros = vec![0; 64 << 20];
    let bombs = [
        (Compression::Zstd, zstd::bulk::compress(&zeros, 3).expect("memory")),
        (Compression::Zstd, zstd::stream::encode_all(&zeros[..], 3).expect("memory")),
        (Compression::Lz4, lz4(&zeros, FrameInfo::new().content_size(Some(zeros.len() as u64)))),
        (Compression::Lz4, lz4(&zeros, FrameInfo::new())),
    ];
    for (codec, bomb) in bombs {
        for (count, max) in [(1, DECOMPRESSED_BYTES_MAX), (2, BATCH_BYTES_MAX - HEADER_LEN)] {
            let bytes = with_body(batch(count).bytes(), codec, &bomb);
            assert!(sent_unpacked_bytes_max(&bytes) <= max);
            assert_eq!(receive(&bytes).map(|_| ()), Err(BatchError::DecompressedTooLarge(max)), "{codec} of {count}");
            let out = codec::decompress(&bomb, codec, 1_000);
            assert_eq!(out, Err(BatchError::DecompressedTooLarge(1_000)));
        }
        assert_eq!(
            Unpacked::read(&with_body(batch(1).bytes(), codec, &bomb)).map(|_| ()),
            Err(BatchError::DecompressedTooLarge(DECOMPRESSED_BYTES_MAX))
        );
    }
    // A frame that says much and has little needs no more than it says it may.
    let mut lying = lz4(&[7; 100], FrameInfo::new().content_size(Some(100)));
    lying[6..14].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(receive(&with_body(batch(1).bytes(), Compression::Lz4, &lying)).is_err());
}

#[test]
fn the_bound_on_a_batch_is_on_what_it_becomes() {
    let most = vec![of_value(1_040); 980];
    for codec in CODECS {
        let within = NewBatch::encode(&most).expect("legal").compressed(codec);
        assert!(within.len() < 20_000, "{codec}");
        assert!(receive(within.bytes()).is_ok());
        let beyond = NewBatch::encode(&vec![of_value(2_000); most.len()]).expect("legal").compressed(codec);
        assert!(matches!(receive(beyond.bytes()), Err(BatchError::DecompressedTooLarge(_))));
        let one = NewBatch::encode(&[of_value(16 << 20)]).expect("legal").compressed(codec);
        assert!(receive(one.bytes()).is_ok(), "one record may be larger");
        let parsed = ReceivedBatch::parse_within(BytesMut::from(one.bytes()), 1 << 20);
        assert_eq!(parsed.map(|_| ()), Err(BatchError::DecompressedTooLarge(1 << 20)));
    }
}

#[test]
fn records_that_contradict_the_header_are_refused_whole() {
    let records = vec![of_value(100); 20];
    for codec in CODECS {
        let good = NewBatch::encode(&records).expect("legal").compressed(codec);
        let changed = |at: usize, to: &[u8]| {
            let mut bytes = good.bytes().to_vec();
            bytes[at..at + to.len()].copy_from_slice(to);
            receive(&with_checksum(bytes)).map(|_| ())
        };
        assert_eq!(changed(16, &[2]), Ok(()));
        let fewer = changed(23, &[0, 0, 0, 18, /* base time */ 0, 0, 0, 0, 0, 0, 0, 7]);
        assert!(matches!(fewer, Err(BatchError::Header(_))), "{fewer:?}");
        let mut bytes = good.bytes().to_vec();
        for (count, what) in [(19_u32, "behind the last"), (21, "ends in the middle")] {
            bytes[23..27].copy_from_slice(&(count - 1).to_be_bytes());
            bytes[57..61].copy_from_slice(&count.to_be_bytes());
            let error = receive(&with_checksum(bytes.clone())).expect_err("another number of records").to_string();
            assert!(error.contains(what), "{error}");
        }
        assert!(matches!(changed(35, &[0; 8]), Err(BatchError::Header(what)) if what.contains("maximum")));
    }
}

#[test]
fn a_compressed_batch_without_times_gets_that_of_its_arrival() {
    for codec in CODECS {
        let timeless = Record { timestamp_ms: -1, ..of_value(1_000) };
        let sent = NewBatch::encode(&[timeless.clone(), timeless]).expect("legal").compressed(codec);
        let stored = receive(sent.bytes()).expect("legal").arrived_at(1_234).at(Offset(2));
        assert!(stored.is_compressed());
        assert_eq!(stored.stated_bytes(), Some(Unpacked::read(stored.bytes()).expect("sound").bytes() as u64));
        let read = Batch::parse(stored.into_bytes()).and_then(|batch| batch.records()).expect("sound");
        assert!(read.iter().all(|record| record.timestamp_ms == 1_234));
    }
}

#[test]
fn names_are_read_as_they_are_written() {
    for codec in Compression::ALL {
        assert_eq!(codec.to_string().parse(), Ok(codec));
    }
    assert!("gzip".parse::<Compression>().expect_err("not one").to_string().contains("zstd"));
}

//! Writes the bytes of a batch. The caller has checked that they fit the format's 31 bits.

use super::header::BatchHeader;
use super::layout::{CRC_END, HEADER_LEN, LENGTH_END};
use super::record::Record;
use super::stamp::NO_STAMP;
use crate::ids::Offset;
use crate::record::Payload;
use bytes::BytesMut;

/// Most bytes a record takes beside its payload and the lengths of its headers: its size, attributes, time, offset delta, the lengths of key
/// and value, the number of headers.
pub(super) const RECORD_OVERHEAD: usize = 5 + 1 + 10 + 5 + 5 + 5 + 5;

/// Most bytes that a record takes in a batch.
pub(super) fn record_bytes_max(payload: &Payload) -> usize {
    let lengths = payload.headers.len().saturating_mul(2 * 5);
    RECORD_OVERHEAD.saturating_add(lengths).saturating_add(payload.len())
}

/// What stands in a header beside what its records say.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) records_count: usize,
    /// Of the last offset that it takes, whether or not a record is there.
    pub(super) last_offset_delta: u32,
    pub(super) lowest_ms: i64,
    pub(super) highest_ms: i64,
}

/// Writes the batch of these records with base offset 0 into an empty buffer with room for it.
pub(super) fn batch<'a>(
    out: &mut BytesMut,
    records: impl Iterator<Item = &'a Record>,
    count: usize,
    lowest_ms: i64,
    highest_ms: i64,
) -> BatchHeader {
    let last_offset_delta = u32::try_from(count - 1).expect("each record takes bytes, and their sum fits 31 bits");
    let shape = Shape { records_count: count, last_offset_delta, lowest_ms, highest_ms };
    sparse(out, (0..).zip(records).map(|(delta, record)| (delta, record.timestamp_ms, &record.payload)), shape)
}

/// The same of records with gaps between their offsets: each with its offset delta and its time.
pub(super) fn sparse<'a>(out: &mut BytesMut, records: impl Iterator<Item = (i64, i64, &'a Payload)>, shape: Shape) -> BatchHeader {
    let Shape { records_count, last_offset_delta, lowest_ms, highest_ms } = shape;
    assert!(out.is_empty(), "a batch is written into a buffer of its own");
    let count = i32::try_from(records_count).expect("each record takes bytes, and their sum fits 31 bits");
    let last = i32::try_from(last_offset_delta).expect("who makes a batch looks that its offsets fit 31 bits");
    out.extend_from_slice(&[0; CRC_END]);
    out.extend_from_slice(&0_i16.to_be_bytes()); // attributes
    out.extend_from_slice(&last.to_be_bytes()); // last offset delta
    out.extend_from_slice(&lowest_ms.to_be_bytes());
    out.extend_from_slice(&highest_ms.to_be_bytes());
    out.extend_from_slice(&NO_STAMP); // producer id, its epoch, base sequence
    out.extend_from_slice(&count.to_be_bytes());
    assert_eq!(out.len(), HEADER_LEN, "the fields above are the header");
    for (delta, timestamp_ms, payload) in records {
        record(out, payload, timestamp_ms - lowest_ms, delta);
    }
    let length = i32::try_from(out.len() - LENGTH_END).expect("the bound on bytes was checked");
    out[8..12].copy_from_slice(&length.to_be_bytes());
    out[12..16].copy_from_slice(&(-1_i32).to_be_bytes()); // leader epoch
    out[16] = 2; // magic
    let crc = crc32c::crc32c(&out[CRC_END..]);
    out[17..21].copy_from_slice(&crc.to_be_bytes());
    BatchHeader {
        base_offset: Offset(0),
        length: length.unsigned_abs(),
        crc,
        last_offset_delta,
        base_timestamp: lowest_ms,
        max_timestamp: highest_ms,
        records_count: count.unsigned_abs(),
        stamp: None,
        attributes: 0,
    }
}

/// A record: its size, attributes, time, offset delta, key, value and headers.
fn record(out: &mut BytesMut, payload: &Payload, timestamp_delta: i64, delta: i64) {
    let headers = &payload.headers;
    let sizes = headers.iter().map(|header| nullable_len(Some(header.name.as_bytes())) + nullable_len(header.value.as_deref()));
    let size = 1
        + varint_len(timestamp_delta)
        + varint_len(delta)
        + nullable_len(payload.key.as_deref())
        + nullable_len(payload.value.as_deref())
        + varint_len(headers.len() as i64)
        + sizes.sum::<usize>();
    varint(out, size as i64);
    let start = out.len();
    out.extend_from_slice(&[0]); // attributes
    varint(out, timestamp_delta);
    varint(out, delta);
    nullable(out, payload.key.as_deref());
    nullable(out, payload.value.as_deref());
    varint(out, headers.len() as i64);
    for header in headers {
        nullable(out, Some(header.name.as_bytes()));
        nullable(out, header.value.as_deref());
    }
    assert_eq!(out.len() - start, size, "a record has the size that stands in front of it");
}

/// Bytes with their length in front; -1 stands for none.
fn nullable(out: &mut BytesMut, bytes: Option<&[u8]>) {
    match bytes {
        None => varint(out, -1),
        Some(bytes) => {
            varint(out, bytes.len() as i64);
            out.extend_from_slice(bytes);
        }
    }
}

fn nullable_len(bytes: Option<&[u8]>) -> usize {
    bytes.map_or(1, |bytes| varint_len(bytes.len() as i64) + bytes.len())
}

const fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)).cast_unsigned()
}

/// Seven bits a byte, lowest first; the top bit says that more follow.
fn varint(out: &mut BytesMut, number: i64) {
    let (mut bytes, mut len, mut rest) = ([0; 10], 0, zigzag(number));
    while rest >= 0x80 {
        bytes[len] = (rest & 0x7f) as u8 | 0x80;
        rest >>= 7;
        len += 1;
    }
    bytes[len] = rest as u8;
    out.extend_from_slice(&bytes[..=len]);
}

const fn varint_len(number: i64) -> usize {
    let bits = 64 - zigzag(number).leading_zeros() as usize;
    if bits == 0 { 1 } else { bits.div_ceil(7) }
}

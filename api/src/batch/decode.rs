//! Reads the records of a batch. Every length is checked against what is there before anything is taken or allocated.

use super::codec;
use super::compression::Compression;
use super::error::BatchError;
use super::header::BatchHeader;
use super::layout::HEADER_LEN;
use super::record::StoredRecord;
use crate::limits::RECORD_HEADERS_MAX;
use crate::record::{Headers, Payload};
use bytes::Bytes;
use core::ops::Range;

/// Attributes: every record has the maximum timestamp, the broker's time of arrival.
pub(super) const LOG_APPEND_TIME: i16 = 1 << 3;
/// Attributes: markers of transactions instead of records.
const CONTROL: i16 = 1 << 5;
/// The shortest record: size, attributes, time, offset delta, three lengths.
const RECORD_MIN: usize = 7;

/// The part of a batch that has its records, decompressed if that makes no more than `max` bytes.
pub(super) fn body(batch: &Bytes, header: &BatchHeader, max: usize) -> Result<Bytes, BatchError> {
    match header.compression()? {
        Compression::None => Ok(batch.slice(HEADER_LEN..)),
        compression => codec::decompress(&batch[HEADER_LEN..], compression, max).map(Bytes::from),
    }
}

/// The records of a batch out of its [`body`], in order of their offsets.
pub(super) fn records(body: &Bytes, header: &BatchHeader) -> Result<Vec<StoredRecord>, BatchError> {
    // The count is only a claim: never reserve more than the bytes could hold.
    let possible = body.len() / RECORD_MIN;
    let mut records = Vec::with_capacity(possible.min(header.records_count as usize));
    for record in Records::of(body, header) {
        records.push(record?);
    }
    Ok(records)
}

/// Reads the records of a batch one after the other, so that one that nobody wants takes no memory for long. Behind an error there is nothing.
#[derive(Debug)]
pub struct Records<'a> {
    body: &'a Bytes,
    header: &'a BatchHeader,
    cursor: Cursor<'a>,
    index: u32,
    next_delta: u32,
    is_over: bool,
}

impl<'a> Records<'a> {
    pub(super) fn of(body: &'a Bytes, header: &'a BatchHeader) -> Self {
        Self { body, header, cursor: Cursor::new(body), index: 0, next_delta: 0, is_over: false }
    }

    fn read(&mut self) -> Result<Option<StoredRecord>, BatchError> {
        if self.header.attributes & CONTROL != 0 {
            return Err(BatchError::Unsupported("control records"));
        }
        let index = self.index;
        if index == self.header.records_count {
            let is_end = self.cursor.remaining() == 0;
            return if is_end { Ok(None) } else { Err(BatchError::Header("there are bytes behind the last record")) };
        }
        let at_record = |reason| BatchError::Record { index, reason };
        let (delta, record) = record(self.body, &mut self.cursor, self.header).map_err(at_record)?;
        if delta < self.next_delta || delta > self.header.last_offset_delta {
            return Err(at_record("its offset is out of order or behind the last one"));
        }
        (self.index, self.next_delta) = (index + 1, delta + 1);
        Ok(Some(record))
    }
}

impl Iterator for Records<'_> {
    type Item = Result<StoredRecord, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let read = self.read().transpose();
        self.is_over = !matches!(read, Some(Ok(_)));
        read
    }
}

/// One record with its offset delta.
fn record(bytes: &Bytes, outer: &mut Cursor<'_>, header: &BatchHeader) -> Result<(u32, StoredRecord), &'static str> {
    let size = usize::try_from(outer.varint()?).map_err(|_| "its size is negative")?;
    let mut cursor = outer.split(size)?;
    let _attributes_unused_by_the_format = cursor.byte()?;
    let timestamp_delta = cursor.varlong()?;
    let delta = u32::try_from(cursor.varint()?).map_err(|_| "its offset is before the batch's")?;
    let key = cursor.nullable()?.map(|place| bytes.slice(place));
    let value = cursor.nullable()?.map(|place| bytes.slice(place));
    let headers = headers(bytes, &mut cursor)?;
    if cursor.remaining() > 0 {
        return Err("its size does not match its parts");
    }
    let timestamp_ms = if header.attributes & LOG_APPEND_TIME == 0 {
        header.base_timestamp.checked_add(timestamp_delta).ok_or("its timestamp is out of range")?
    } else {
        header.max_timestamp
    };
    let payload = Payload { key, value, headers };
    Ok((delta, StoredRecord { offset: header.base_offset.plus(u64::from(delta)), timestamp_ms, payload }))
}

/// A record that was looked at and not taken.
pub(super) struct WalkedRecord {
    pub(super) timestamp_delta: i64,
    pub(super) delta: i64,
    /// Bytes of key, value and headers.
    pub(super) payload_bytes: usize,
    pub(super) has_key: bool,
    pub(super) headers: usize,
}

/// Looks at one record: whatever [`records`] would refuse is refused, and nothing is allocated.
pub(super) fn walk(outer: &mut Cursor<'_>) -> Result<WalkedRecord, &'static str> {
    let size = usize::try_from(outer.varint()?).map_err(|_| "its size is negative")?;
    let mut cursor = outer.split(size)?;
    let _attributes_unused_by_the_format = cursor.byte()?;
    let timestamp_delta = cursor.varlong()?;
    let delta = cursor.varint()?.into();
    let key = cursor.nullable()?;
    let value = cursor.nullable()?;
    let has_key = key.is_some();
    let mut payload_bytes = key.map_or(0, |key| key.len()) + value.map_or(0, |value| value.len());
    let count = usize::try_from(cursor.varint()?).map_err(|_| "its number of headers is negative")?;
    if count > RECORD_HEADERS_MAX {
        return Err("it has too many headers");
    }
    for _ in 0..count {
        let name = cursor.nullable()?.ok_or("a header has no name")?;
        core::str::from_utf8(&cursor.data[name.clone()]).map_err(|_| "the name of a header is not UTF-8")?;
        payload_bytes += name.len() + cursor.nullable()?.map_or(0, |value| value.len());
    }
    if cursor.remaining() > 0 {
        return Err("its size does not match its parts");
    }
    Ok(WalkedRecord { timestamp_delta, delta, payload_bytes, has_key, headers: count })
}

fn headers(bytes: &Bytes, cursor: &mut Cursor<'_>) -> Result<Headers, &'static str> {
    let count = usize::try_from(cursor.varint()?).map_err(|_| "its number of headers is negative")?;
    // The count is only a claim: a header has at least two lengths.
    let mut headers = Headers::with_capacity(count.min(cursor.remaining() / 2));
    for _ in 0..count {
        let name = cursor.nullable()?.ok_or("a header has no name")?;
        let name = core::str::from_utf8(&bytes[name]).map_err(|_| "the name of a header is not UTF-8")?;
        headers.push(name, cursor.nullable()?.map(|place| bytes.slice(place)));
    }
    Ok(headers)
}

/// A place in the body of a batch and the end of what may be read.
#[derive(Debug)]
pub(super) struct Cursor<'a> {
    /// The body, up to that end.
    data: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) const fn new(data: &'a [u8]) -> Self {
        Self { data, at: 0 }
    }

    pub(super) const fn remaining(&self) -> usize {
        self.data.len() - self.at
    }

    /// A cursor over the next `size` bytes; this one goes on behind them.
    fn split(&mut self, size: usize) -> Result<Cursor<'a>, &'static str> {
        if size > self.remaining() {
            return Err("it ends in the middle");
        }
        let end = self.at + size;
        let part = Cursor { data: &self.data[..end], at: self.at };
        self.at = end;
        Ok(part)
    }

    fn byte(&mut self) -> Result<u8, &'static str> {
        let byte = *self.data.get(self.at).ok_or("it ends in the middle")?;
        self.at += 1;
        Ok(byte)
    }

    /// Where bytes with their length in front stand; a length of -1 means that there are none.
    fn nullable(&mut self) -> Result<Option<Range<usize>>, &'static str> {
        match self.varint()? {
            -1 => Ok(None),
            length => {
                let part = self.split(usize::try_from(length).map_err(|_| "a length is negative")?)?;
                Ok(Some(part.at..part.data.len()))
            }
        }
    }

    fn varint(&mut self) -> Result<i32, &'static str> {
        i32::try_from(self.varlong()?).map_err(|_| "a number is too large")
    }

    /// A zigzag number: seven bits a byte, lowest first, the top bit says that more follow.
    fn varlong(&mut self) -> Result<i64, &'static str> {
        // Most numbers are below 64.
        if let Some(&byte @ ..0x80) = self.data.get(self.at) {
            self.at += 1;
            return Ok(unzigzag(byte.into()));
        }
        let mut zigzag = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            // Of the tenth byte only one bit has a place.
            if shift == 63 && bits > 1 {
                return Err("a number is too large");
            }
            zigzag |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(unzigzag(zigzag));
            }
        }
        Err("a number is too long")
    }
}

/// Numbers near zero are small, whatever their sign.
const fn unzigzag(zigzag: u64) -> i64 {
    (zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed()
}

//! A batch of a producer: checked whole before it is stored as it came, because every reader trusts what is stored.

use super::codec;
use super::compression::{self, Compression};
use super::decode::{self, Cursor};
use super::encoded::check;
use super::error::BatchError;
use super::header::BatchHeader;
use super::layout::{CRC_END, HEADER_LEN};
use super::new::NewBatch;
use super::stamp::Stamp;
use crate::limits::{BATCH_BYTES_MAX, BATCH_RECORDS_MAX, DECOMPRESSED_BYTES_MAX};
use bytes::BytesMut;

/// What the header says instead of a time: the batch has none, and its records get the time of their arrival.
const NO_TIME: i64 = -1;

/// A batch that a producer sent, with what a broker asks about its records.
#[derive(Debug)]
pub struct ReceivedBatch {
    batch: NewBatch,
    has_times: bool,
    /// The lowest time, also if only the header has it.
    lowest_ms: i64,
    record_bytes_max: usize,
    keys: usize,
    headers: usize,
    sent_crc: u32,
    stamp: Option<Stamp>,
    /// Bytes of the records, decompressed.
    unpacked_bytes: usize,
}

impl ReceivedBatch {
    /// Takes bytes for a batch after its format, its checksum and each of its records were checked.
    ///
    /// # Errors
    /// When the bytes are not exactly one batch, were changed on their way, use a part of the format that is not read here (gzip and
    /// snappy, transactions, times of the log), leave offsets out, have more than [`BATCH_RECORDS_MAX`] records, or have more than
    /// [`BATCH_BYTES_MAX`] bytes, decompressed, and more than one record.
    pub fn parse(bytes: BytesMut) -> Result<Self, BatchError> {
        Self::parse_within(bytes, DECOMPRESSED_BYTES_MAX)
    }

    /// As [`ReceivedBatch::parse`], if its records have no more than so many bytes when they are decompressed.
    ///
    /// # Errors
    /// As [`ReceivedBatch::parse`].
    pub fn parse_within(mut bytes: BytesMut, unpacked_max: usize) -> Result<Self, BatchError> {
        let mut header = check(&bytes)?;
        check_header(&header, &bytes)?;
        let compression = header.compression()?;
        let unpacked;
        let records = if compression == Compression::None {
            &bytes[HEADER_LEN..]
        } else {
            let max = unpacked_bytes_max(&header, unpacked_max);
            unpacked = codec::decompress(&bytes[HEADER_LEN..], compression, max)?;
            &unpacked[..]
        };
        let unpacked_bytes = records.len();
        let Walked { lowest_ms, highest_ms, record_bytes_max, keys, headers } = walk(records, &header)?;
        if highest_ms != header.max_timestamp {
            return Err(BatchError::Header("the maximum timestamp is not that of the records"));
        }
        let has_times = (lowest_ms, highest_ms) != (NO_TIME, NO_TIME);
        // The time of arrival is written over that of the header: where the records are told apart from it, they would not have that time,
        // and beyond the last one that a number can say nobody could read them.
        if !has_times && header.base_timestamp != NO_TIME {
            return Err(BatchError::Header("a batch without times has the base timestamp -1 and no other in its records"));
        }
        let lowest_ms = lowest_ms.min(header.base_timestamp);
        bytes[..8].copy_from_slice(&0_i64.to_be_bytes());
        bytes[12..16].copy_from_slice(&(-1_i32).to_be_bytes());
        header.base_offset = crate::ids::Offset(0);
        let (sent_crc, stamp) = (header.crc, header.stamp);
        Ok(Self {
            batch: NewBatch::known(bytes, header),
            has_times,
            lowest_ms,
            record_bytes_max,
            keys,
            headers,
            sent_crc,
            stamp,
            unpacked_bytes,
        })
    }

    /// Who sent it, if the producer said so.
    #[must_use]
    pub const fn stamp(&self) -> Option<Stamp> {
        self.stamp
    }

    /// The checksum as it was sent: a retry has the same.
    #[must_use]
    pub const fn sent_crc(&self) -> u32 {
        self.sent_crc
    }

    /// Bytes of key, value and headers of its largest record.
    #[must_use]
    pub const fn record_bytes_max(&self) -> usize {
        self.record_bytes_max
    }

    /// How many of its records have a key.
    #[must_use]
    pub const fn keys(&self) -> usize {
        self.keys
    }

    /// How many headers its records have together.
    #[must_use]
    pub const fn headers(&self) -> usize {
        self.headers
    }

    /// Whether its records are compressed.
    #[must_use]
    pub const fn is_compressed(&self) -> bool {
        self.batch.is_compressed()
    }

    /// Bytes of its records when they are decompressed.
    #[must_use]
    pub const fn unpacked_bytes(&self) -> usize {
        self.unpacked_bytes
    }

    /// Number of records, at least 1.
    #[must_use]
    pub const fn records_count(&self) -> u32 {
        self.batch.records_count()
    }

    /// The highest time of its records, in milliseconds since 1970; `None`: they are to get that of their arrival.
    #[must_use]
    pub fn max_timestamp(&self) -> Option<i64> {
        self.has_times.then(|| self.batch.max_timestamp())
    }

    /// The lowest time of its records and its header, in milliseconds since 1970.
    #[must_use]
    pub const fn min_timestamp(&self) -> i64 {
        self.lowest_ms
    }

    /// What a retry sends again: everything but what the broker writes itself.
    #[must_use]
    pub fn sent(&self) -> &[u8] {
        &self.batch.bytes()[CRC_END..]
    }

    /// The batch as it is stored. One without times gets this one, in milliseconds since 1970; any other is stored as it came.
    #[must_use]
    pub fn arrived_at(self, arrived_ms: i64) -> NewBatch {
        if self.has_times { self.batch } else { self.batch.at_time(arrived_ms) }
    }
}

fn check_header(header: &BatchHeader, bytes: &[u8]) -> Result<(), BatchError> {
    if header.attributes & decode::LOG_APPEND_TIME != 0 {
        return Err(BatchError::Unsupported("times of the log"));
    }
    if header.attributes & !compression::BITS != 0 {
        return Err(BatchError::Unsupported("control records, transactions or an attribute of a later version"));
    }
    if header.records_count.checked_sub(1) != Some(header.last_offset_delta) {
        return Err(BatchError::Header("offsets are left out: the last offset delta is not the number of records less one"));
    }
    if header.records_count > BATCH_RECORDS_MAX || (header.records_count > 1 && bytes.len() > BATCH_BYTES_MAX) {
        return Err(BatchError::TooLarge { records: header.records_count, bytes: bytes.len() });
    }
    Ok(())
}

/// Bytes that the records of a producer's batch may have when they are decompressed, where `max` are left for them.
pub(super) fn unpacked_bytes_max(header: &BatchHeader, max: usize) -> usize {
    if header.records_count > 1 { max.min(BATCH_BYTES_MAX - HEADER_LEN) } else { max }
}

/// What the records are like.
struct Walked {
    lowest_ms: i64,
    highest_ms: i64,
    record_bytes_max: usize,
    keys: usize,
    headers: usize,
}

/// Reads every record as a reader would, and keeps none.
fn walk(body: &[u8], header: &BatchHeader) -> Result<Walked, BatchError> {
    let mut walked = Walked { lowest_ms: i64::MAX, highest_ms: i64::MIN, record_bytes_max: 0, keys: 0, headers: 0 };
    let mut cursor = Cursor::new(body);
    for index in 0..header.records_count {
        let at_record = |reason| BatchError::Record { index, reason };
        let record = decode::walk(&mut cursor).map_err(at_record)?;
        if record.delta != i64::from(index) {
            return Err(at_record("its offset delta is not its place in the batch"));
        }
        let time_ms = header.base_timestamp.checked_add(record.timestamp_delta).ok_or(at_record("its timestamp is out of range"))?;
        (walked.lowest_ms, walked.highest_ms) = (walked.lowest_ms.min(time_ms), walked.highest_ms.max(time_ms));
        walked.record_bytes_max = walked.record_bytes_max.max(record.payload_bytes);
        walked.keys += usize::from(record.has_key);
        walked.headers += record.headers;
    }
    if cursor.remaining() > 0 {
        return Err(BatchError::Header("there are bytes behind the last record"));
    }
    Ok(walked)
}

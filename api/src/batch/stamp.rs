//! What a batch says of its producer: who sent it, and which of his batches for the partition it is.

use super::error::BatchError;

/// Bytes of producer id, epoch and base sequence in a header.
pub(super) const STAMP_LEN: usize = 14;

/// What a batch without a producer has there.
pub(super) const NO_STAMP: [u8; STAMP_LEN] = [0xff; STAMP_LEN];

/// Highest producer id, highest epoch, and highest sequence: the format has signed numbers for them.
pub const PRODUCER_ID_MAX: u64 = i64::MAX.unsigned_abs();
/// See [`PRODUCER_ID_MAX`].
pub const EPOCH_MAX: u16 = i16::MAX.unsigned_abs();
/// See [`PRODUCER_ID_MAX`].
pub const SEQUENCE_MAX: u32 = i32::MAX.unsigned_abs();

/// Who sent a batch, and which of his batches for the partition it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The producer.
    pub producer: u64,
    /// Counts how often the producer began to count its records of the partition anew.
    pub epoch: u16,
    /// How many records of the partition the producer has sent in this epoch before the first one of the batch.
    pub sequence: u32,
}

impl Stamp {
    /// The stamp in a header; none if the batch has no producer.
    pub(super) fn read(bytes: [u8; STAMP_LEN]) -> Result<Option<Self>, BatchError> {
        if bytes == NO_STAMP {
            return Ok(None);
        }
        let [a, b, c, d, e, f, g, h, i, j, sequence @ ..] = bytes;
        let producer = u64::try_from(i64::from_be_bytes([a, b, c, d, e, f, g, h]));
        let epoch = u16::try_from(i16::from_be_bytes([i, j]));
        let sequence = u32::try_from(i32::from_be_bytes(sequence));
        match (producer, epoch, sequence) {
            (Ok(producer), Ok(epoch), Ok(sequence)) => Ok(Some(Self { producer, epoch, sequence })),
            _ => Err(BatchError::Header("producer id, epoch and base sequence are all -1 or none of them is negative")),
        }
    }

    /// As it stands in a header.
    ///
    /// # Panics
    /// When a number is above the highest.
    pub(super) fn bytes(self) -> [u8; STAMP_LEN] {
        let Self { producer, epoch, sequence } = self;
        assert!(producer <= PRODUCER_ID_MAX && epoch <= EPOCH_MAX && sequence <= SEQUENCE_MAX, "the format holds {self:?}");
        let mut bytes = [0; STAMP_LEN];
        bytes[..8].copy_from_slice(&producer.to_be_bytes());
        bytes[8..10].copy_from_slice(&epoch.to_be_bytes());
        bytes[10..].copy_from_slice(&sequence.to_be_bytes());
        bytes
    }
}

/// The sequence behind so many records; behind the highest comes 0, as in Kafka.
#[must_use]
pub const fn sequence_after(sequence: u32, records: u32) -> u32 {
    sequence.wrapping_add(records) & SEQUENCE_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_read_back_and_half_of_one_is_refused() {
        let stamp = Stamp { producer: PRODUCER_ID_MAX, epoch: 2, sequence: SEQUENCE_MAX };
        assert_eq!(stamp.bytes(), *b"\x7f\xff\xff\xff\xff\xff\xff\xff\0\x02\x7f\xff\xff\xff");
        assert_eq!(Stamp::read(stamp.bytes()), Ok(Some(stamp)));
        assert_eq!(Stamp::read(NO_STAMP), Ok(None));
        for place in [0..8, 8..10, 10..14] {
            let mut half = stamp.bytes();
            half[place].fill(0xff);
            assert!(matches!(Stamp::read(half), Err(BatchError::Header(_))), "{half:?}");
        }
    }

    #[test]
    fn behind_the_highest_sequence_comes_the_lowest() {
        assert_eq!(sequence_after(0, 3), 3);
        assert_eq!(sequence_after(SEQUENCE_MAX, 1), 0);
        assert_eq!(sequence_after(SEQUENCE_MAX - 1, 5), 3);
    }
}

//! Where the parts of a batch lie.

/// Bytes before the first record.
pub const HEADER_LEN: usize = 61;
/// Bytes up to and including the length field, which the length does not count.
pub(super) const LENGTH_END: usize = 12;
/// Where the checksummed part begins.
pub(super) const CRC_END: usize = 21;
/// Where the producer's id, epoch and sequence begin.
pub(super) const STAMP_START: usize = 43;

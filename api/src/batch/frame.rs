//! Batches one behind the other, as they travel: `application/vnd.sagamq.batch`.
//!
//! In the body of a produce request each batch has its partition in front (u32, big-endian; all bits set: the broker chooses). In the answer
//! to a read they have nothing in front: all are of one partition.

use super::error::BatchError;
use super::layout::{HEADER_LEN, LENGTH_END};
use crate::ids::PartitionId;
use bytes::{Bytes, BytesMut};

/// Bytes of the partition in front of a batch.
pub const FRAME_LEN: usize = 4;

/// Says that the broker chooses the partition.
const ANY: u32 = u32::MAX;

/// What stands in front of a batch for this partition, or for one that the broker chooses.
#[must_use]
pub fn frame(partition: Option<PartitionId>) -> [u8; FRAME_LEN] {
    partition.map_or(ANY, |partition| partition.0).to_be_bytes()
}

/// The partition of the batch at the front of a body, and its length.
fn next_frame(body: &[u8]) -> Result<Option<(Option<PartitionId>, usize)>, BatchError> {
    if body.is_empty() {
        return Ok(None);
    }
    let Some((partition, rest)) = body.split_first_chunk::<FRAME_LEN>() else { return Err(BatchError::Truncated(body.len())) };
    let partition = u32::from_be_bytes(*partition);
    Ok(Some(((partition != ANY).then_some(PartitionId(partition)), batch_len(rest)?)))
}

/// Takes the next batch with its partition from the front of a body. `None`: there is no more. What is in the batch is not looked at.
///
/// # Errors
/// When the body ends in the middle of a batch. Nothing is taken then.
pub fn take_framed(body: &mut BytesMut) -> Result<Option<(Option<PartitionId>, BytesMut)>, BatchError> {
    let Some((partition, len)) = next_frame(body)? else { return Ok(None) };
    let _frame = body.split_to(FRAME_LEN);
    Ok(Some((partition, body.split_to(len))))
}

/// As [`take_framed`], from bytes that others may share.
///
/// # Errors
/// As [`take_framed`].
pub fn take_framed_bytes(body: &mut Bytes) -> Result<Option<(Option<PartitionId>, Bytes)>, BatchError> {
    let Some((partition, len)) = next_frame(body)? else { return Ok(None) };
    let _frame = body.split_to(FRAME_LEN);
    Ok(Some((partition, body.split_to(len))))
}

/// The batches of a body, up to where it ends or is broken. What is in them is not looked at.
pub fn framed(mut body: &[u8]) -> impl Iterator<Item = &[u8]> {
    core::iter::from_fn(move || {
        let (_, rest) = body.split_first_chunk::<FRAME_LEN>()?;
        let (batch, rest) = rest.split_at(batch_len(rest).ok()?);
        body = rest;
        Some(batch)
    })
}

/// Takes the next batch from the front of an answer. `None`: there is no more. What is in the batch is not looked at.
///
/// # Errors
/// As [`take_framed`].
pub fn take(answer: &mut Bytes) -> Result<Option<Bytes>, BatchError> {
    if answer.is_empty() {
        return Ok(None);
    }
    let len = batch_len(answer)?;
    Ok(Some(answer.split_to(len)))
}

/// Length of the batch at the front, all of which is there.
fn batch_len(bytes: &[u8]) -> Result<usize, BatchError> {
    if bytes.len() < HEADER_LEN {
        return Err(BatchError::Truncated(bytes.len()));
    }
    let stated = i32::from_be_bytes(bytes[8..LENGTH_END].try_into().expect("four bytes"));
    match usize::try_from(stated).map(|length| length + LENGTH_END) {
        Ok(length) if (HEADER_LEN..=bytes.len()).contains(&length) => Ok(length),
        _ => Err(BatchError::Length { stated: i64::from(stated) + LENGTH_END as i64, actual: bytes.len() }),
    }
}

//! Cutting records into stored batches.

use crate::log::batch::{BatchBuffer, EncodeError, NewBatch, Record};

/// Most records of one stored batch, so that a reader never decodes many to find one.
pub(super) const BATCH_RECORDS_MAX: usize = 256;

/// Bytes of one stored batch, as far as records allow: a reader decodes whole batches.
pub(super) const BATCH_BYTES_MAX: usize = 1024 * 1024;

/// Batches of these records that are small enough to be decoded for one of them; none for none.
pub(crate) fn encode_cut(records: &[Record]) -> Result<Vec<NewBatch>, EncodeError> {
    let mut batches = Vec::with_capacity(1);
    encode_cut_into(&mut batches, &mut BatchBuffer::default(), records.len(), |index| &records[index])?;
    Ok(batches)
}

/// As [`encode_cut`], of records that lie anywhere, behind other batches and in memory that those may share. How many there are.
pub(crate) fn encode_cut_into<'a>(
    batches: &mut Vec<NewBatch>,
    buffer: &mut BatchBuffer,
    count: usize,
    record: impl Fn(usize) -> &'a Record + Copy,
) -> Result<usize, EncodeError> {
    let before = batches.len();
    let (mut start, mut bytes) = (0, 0);
    for index in 0..count {
        let record_bytes = record(index).payload.len();
        if index > start && (index - start >= BATCH_RECORDS_MAX || bytes + record_bytes > BATCH_BYTES_MAX) {
            batches.push(NewBatch::encode_each((start..index).map(record), buffer)?);
            (start, bytes) = (index, 0);
        }
        bytes += record_bytes;
    }
    if start < count {
        batches.push(NewBatch::encode_each((start..count).map(record), buffer)?);
    }
    Ok(batches.len() - before)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sagamq_api::record::Payload;

    fn records(sizes: &[usize]) -> Vec<Record> {
        let record =
            |&size: &usize| Record { timestamp_ms: 0, payload: Payload { value: Some(vec![0; size].into()), ..Payload::default() } };
        sizes.iter().map(record).collect()
    }

    fn counts(sizes: &[usize]) -> Vec<u32> {
        encode_cut(&records(sizes)).expect("encodes").iter().map(NewBatch::records_count).collect()
    }

    #[test]
    fn a_batch_is_bounded_in_records_and_bytes() {
        assert!(counts(&[]).is_empty());
        assert_eq!(counts(&[1; 600]), [256, 256, 88]);
        assert_eq!(counts(&[BATCH_BYTES_MAX / 2, BATCH_BYTES_MAX / 2, 1]), [2, 1]);
        assert_eq!(counts(&[1, 3 * BATCH_BYTES_MAX, 1]), [1, 1, 1], "a record above the bound is a batch of its own");
    }
}

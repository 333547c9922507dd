//! Deleting old rows of the barrier on RocksDB, and knowing afterwards that they were deleted.

use super::recorded::Recorded;
use super::rocks::{BarrierError, RocksBarrier};
use super::row::{decode_value, decode_watermark, encode_watermark};
use ::rocksdb::{Direction, ErrorKind, IteratorMode, ThreadMode, TransactionDB};

impl RocksBarrier {
    /// Deletes what was recorded before this time (milliseconds since 1970; at the latest now) and returns how many rows that were.
    /// Actions in doubt stay, and so do rows that a call holds just now.
    ///
    /// That rows were swept is itself recorded, before the first one is deleted. From then on a call of a saga **that started before
    /// this time** and finds no row is an unknown outcome with [`SWEPT`](super::SWEPT): no effect happens twice and no compensation is an
    /// empty success, but somebody has to look at the saga and to [`resolve`](Self::resolve) it. So keep rows for longer than a saga of
    /// yours may live, the time that a blocked one waits for its repair included, and for longer than the oldest backup of the broker
    /// that you would restore.
    ///
    /// # Errors
    /// [`BarrierError`] when the database fails or a row cannot be read; rows before it are deleted.
    pub fn sweep<T: ThreadMode>(&self, db: &TransactionDB<T>, before_ms: u64) -> Result<u64, BarrierError> {
        let before_ms = before_ms.min((self.clock)());
        self.raise_watermark(db, before_ms)?;
        let mut swept = 0;
        for row in db.iterator(IteratorMode::From(&self.prefix, Direction::Forward)) {
            let (key, value) = row?;
            if !key.starts_with(&self.prefix) {
                break;
            }
            if *key != *self.prefix && is_old(&value, before_ms)? && self.delete(db, &key, before_ms)? {
                swept += 1;
            }
        }
        Ok(swept)
    }

    fn raise_watermark<T: ThreadMode>(&self, db: &TransactionDB<T>, before_ms: u64) -> Result<(), BarrierError> {
        let txn = self.transaction(db);
        let now_ms = match txn.get_for_update(&self.prefix, true)? {
            Some(value) => decode_watermark(&value)?,
            None => 0,
        };
        if before_ms > now_ms {
            txn.put(&self.prefix, encode_watermark(before_ms))?;
            txn.commit()?;
        }
        Ok(())
    }

    /// Deletes a row if it is still old once it is locked. A row that a call holds is not old.
    fn delete<T: ThreadMode>(&self, db: &TransactionDB<T>, key: &[u8], before_ms: u64) -> Result<bool, BarrierError> {
        // Not synced: a deletion that is lost is done again by the next sweep.
        let txn = db.transaction();
        match txn.get_for_update(key, true) {
            Ok(Some(value)) if is_old(&value, before_ms)? => {
                txn.delete(key)?;
                txn.commit()?;
                Ok(true)
            }
            Ok(_) => Ok(false),
            Err(error) if matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::Busy) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

fn is_old(value: &[u8], before_ms: u64) -> Result<bool, BarrierError> {
    let row = decode_value(value)?;
    Ok(row.at_ms < before_ms && !matches!(row.recorded, Recorded::InDoubt { .. }))
}

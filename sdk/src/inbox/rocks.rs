//! The inbox in a RocksDB `TransactionDB`.

use super::rocks_row::{Keys, Mark, decode_handled, decode_mark, encode_handled, encode_mark};
use super::{Once, swept};
use crate::consumer::HandlerError;
use ::rocksdb::{Direction, Error, ErrorKind, IteratorMode, ThreadMode, Transaction, TransactionDB, TransactionOptions, WriteOptions};
use sagamq_api::queue::Delivery;
use sagamq_api::{GroupName, TopicName};
use std::collections::BTreeMap;
use std::time::Duration;

/// Where the rows are kept if nobody says otherwise. Keys of text do not begin with a zero byte.
const PREFIX: &[u8] = b"\0inbox/";

/// How long a delivery waits for another one of the same record, and for rows that the effect locks.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// Rows that are swept with one transaction.
const SWEEP_ROWS: usize = 1_000;

/// Why rows cannot be swept or forgotten.
#[derive(Debug, thiserror::Error)]
pub enum RocksInboxError {
    /// The database failed.
    #[error("the inbox's database failed: {0}")]
    Database(#[from] Error),
    /// A row cannot be read.
    #[error("the inbox's row is {value:?}: it was not written by this version, or it is damaged")]
    Row {
        /// What is there.
        value: Vec<u8>,
    },
}

/// Makes the effect of a handler happen once, in a RocksDB. Cheap to clone; holds no state of its own.
///
/// Its calls block on locks and on the disk: in an async handler run them with `tokio::task::spawn_blocking`.
///
/// ```no_run
/// use sagamq_sdk::inbox::rocks::RocksInbox;
/// use sagamq_sdk::{CancellationToken, Client};
/// use rocksdb::{MultiThreaded, TransactionDB};
/// use std::sync::Arc;
///
/// # async fn example(client: Client) -> Result<(), Box<dyn std::error::Error>> {
/// let db = Arc::new(TransactionDB::<MultiThreaded>::open_default("books")?);
/// let (topic, group) = ("payments".parse()?, "books".parse()?);
/// let inbox = RocksInbox::new(&topic, &group);
/// let consumer = client.consumer(topic, group);
/// consumer
///     .run(CancellationToken::new(), move |delivery| {
///         let (db, inbox) = (Arc::clone(&db), inbox.clone());
///         async move {
///             let handle = move || {
///                 inbox.once(&db, &delivery, |txn| {
///                     let balance = txn.get_for_update(b"balance", true)?.map_or(0, |bytes| bytes[0]);
///                     Ok(txn.put(b"balance", [balance + 1])?)
///                 })
///             };
///             tokio::task::spawn_blocking(handle).await??;
///             Ok(())
///         }
///     })
///     .await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct RocksInbox {
    topic: TopicName,
    group: GroupName,
    keys: Keys,
    lock_timeout: Duration,
    clock: fn() -> i64,
}

impl RocksInbox {
    /// The inbox of this group's consumers of this topic, with its rows under `\0inbox/`.
    #[must_use]
    pub fn new(topic: &TopicName, group: &GroupName) -> Self {
        let keys = Keys::new(PREFIX, group.as_str(), topic.as_str());
        Self { topic: topic.clone(), group: group.clone(), keys, lock_timeout: LOCK_TIMEOUT, clock: super::now_ms }
    }

    /// The same inbox with its rows under another prefix, which no other key of the database may begin with. Never change it for a database:
    /// what was handled would be forgotten.
    #[must_use]
    pub fn with_prefix(mut self, prefix: impl AsRef<[u8]>) -> Self {
        self.keys = Keys::new(prefix.as_ref(), self.group.as_str(), self.topic.as_str());
        self
    }

    /// How long [`Self::once`] waits for a lock (default 5 s).
    #[must_use]
    pub fn with_lock_timeout(mut self, timeout: Duration) -> Self {
        self.lock_timeout = timeout;
        self
    }

    /// The clock by which rows are dated for [`Self::sweep`], in milliseconds since 1970 (default: the system's). For tests.
    #[must_use]
    pub fn with_clock(mut self, now_ms: fn() -> i64) -> Self {
        self.clock = now_ms;
        self
    }

    /// Runs `effect` in a transaction, unless the delivery was handled before. When this returns [`Once::First`], its writes and the row are
    /// on disk together; acknowledge the delivery then, and on [`Once::Again`] as well. On an error nothing is written.
    ///
    /// # Errors
    /// What `effect` says; [`HandlerError::Retry`] when the database fails or a lock is not had in time: the next delivery finds out.
    /// [`HandlerError::Terminate`] with [`INBOX_SWEPT`](super::INBOX_SWEPT).
    pub fn once<T: ThreadMode, O>(
        &self,
        db: &TransactionDB<T>,
        delivery: &Delivery,
        effect: impl FnOnce(&Transaction<'_, TransactionDB<T>>) -> Result<O, HandlerError>,
    ) -> Result<Once<O>, HandlerError> {
        let txn = self.transaction(db);
        if !self.is_first(&txn, delivery)? {
            return Ok(Once::Again);
        }
        let done = effect(&txn)?;
        // A failed commit may or may not be on disk: the next delivery finds out.
        txn.commit().map_err(failed)?;
        Ok(Once::First(done))
    }

    /// Writes the delivery's row in a transaction of yours, and whether it is the first: only then let the effect run. **Commit it, synced,
    /// before you acknowledge the record**, or drop it. A second delivery waits here until the transaction of the first has ended.
    ///
    /// # Errors
    /// As [`Self::once`].
    pub fn is_first<T: ThreadMode>(&self, txn: &Transaction<'_, TransactionDB<T>>, delivery: &Delivery) -> Result<bool, HandlerError> {
        let record = &delivery.record;
        let key = self.keys.record(record);
        if txn.get_for_update(&key, true).map_err(failed)?.is_some() {
            return Ok(false);
        }
        // Read behind the lock on the missing row. The mark is written before any row is deleted, so a row that is missing because it was swept
        // is never seen without it.
        if let Some(value) = txn.get(self.keys.mark(record.partition)).map_err(failed)? {
            let mark = decode_mark(&value).map_err(|error| HandlerError::retry(error.to_string()))?;
            if mark.covers(record) {
                return Err(swept(delivery, mark.offset));
            }
        }
        txn.put(key, encode_handled((self.clock)())).map_err(failed)?;
        Ok(true)
    }

    /// Lets the effect of a delivery that ended with [`INBOX_SWEPT`](super::INBOX_SWEPT) run when it is redriven: somebody has looked, and it did not take place.
    ///
    /// # Errors
    /// [`RocksInboxError`] when the database fails; whether it is written is then not known.
    pub fn resolve<T: ThreadMode>(&self, db: &TransactionDB<T>, delivery: &Delivery) -> Result<(), RocksInboxError> {
        let txn = self.transaction(db);
        let key = self.keys.mark(delivery.record.partition);
        if let Some(value) = txn.get_for_update(&key, true)? {
            let mut mark = decode_mark(&value)?;
            mark.cleared.insert(delivery.record.offset.0);
            txn.put(key, encode_mark(&mark))?;
            txn.commit()?;
        }
        Ok(())
    }

    /// Deletes the rows of records that were handled before this time (milliseconds since 1970; at the latest now) and returns how many those
    /// were.
    ///
    /// Up to which record of each partition rows were swept is itself recorded, before the first one is deleted. From then on a record **up to
    /// that one** without a row becomes a dead letter with [`INBOX_SWEPT`](super::INBOX_SWEPT), however often it was delivered: no effect happens twice, but
    /// somebody has to look. So keep rows for longer than a record of yours may be retried, or lie among the dead letters until it is redriven.
    ///
    /// # Errors
    /// [`RocksInboxError`] when the database fails or a row cannot be read; rows before it are deleted.
    pub fn sweep<T: ThreadMode>(&self, db: &TransactionDB<T>, before_ms: i64) -> Result<u64, RocksInboxError> {
        let before_ms = before_ms.min((self.clock)());
        let prefix = self.keys.records();
        let (mut count, mut old) = (0, Vec::new());
        for row in db.iterator(IteratorMode::From(&prefix, Direction::Forward)) {
            let (key, value) = row?;
            if !key.starts_with(&prefix) {
                break;
            }
            if decode_handled(&value)? < before_ms {
                old.push(key);
            }
            if old.len() == SWEEP_ROWS {
                count += self.delete(db, std::mem::take(&mut old))?;
            }
        }
        Ok(count + self.delete(db, old)?)
    }

    /// Deletes these rows, behind the marks that tell of it.
    fn delete<T: ThreadMode>(&self, db: &TransactionDB<T>, keys: Vec<Box<[u8]>>) -> Result<u64, RocksInboxError> {
        let mut by_partition: BTreeMap<_, Vec<(u64, i64)>> = BTreeMap::new();
        for key in &keys {
            let (partition, offset, record_ms) = self.keys.read(key).ok_or_else(|| RocksInboxError::Row { value: key.to_vec() })?;
            by_partition.entry(partition).or_default().push((offset, record_ms));
        }
        let marks = self.transaction(db);
        for (partition, records) in by_partition {
            let key = self.keys.mark(partition);
            let mut mark = match marks.get_for_update(&key, true)? {
                Some(value) => decode_mark(&value)?,
                None => Mark::default(),
            };
            for (offset, record_ms) in records {
                mark.raise(offset, record_ms);
            }
            marks.put(key, encode_mark(&mark))?;
        }
        marks.commit()?;
        // Not synced: a deletion that is lost is done again by the next sweep.
        let txn = db.transaction();
        let mut deleted = 0;
        for key in keys {
            // A row is written once, so it is old still; but a delivery may hold it just now.
            match txn.get_for_update(&key, true) {
                Ok(_) => {
                    txn.delete(&key)?;
                    deleted += 1;
                }
                Err(error) if matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::Busy) => {}
                Err(error) => return Err(error.into()),
            }
        }
        txn.commit()?;
        Ok(deleted)
    }

    fn transaction<'db, T: ThreadMode>(&self, db: &'db TransactionDB<T>) -> Transaction<'db, TransactionDB<T>> {
        let mut write = WriteOptions::default();
        write.set_sync(true);
        let mut options = TransactionOptions::default();
        options.set_deadlock_detect(true);
        options.set_lock_timeout(i64::try_from(self.lock_timeout.as_millis()).unwrap_or(i64::MAX));
        // Dropped without a commit, the transaction is rolled back.
        db.transaction_opt(&write, &options)
    }
}

fn failed(error: impl std::fmt::Display) -> HandlerError {
    HandlerError::retry(format!("the inbox's database failed: {error}"))
}

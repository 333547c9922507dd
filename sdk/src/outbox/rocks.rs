//! The outbox in a RocksDB `TransactionDB`.

use super::pump::{Entry, Pump, Source};
use super::rocks_open::OpenNumbers;
use super::rocks_row::{Keys, Waiting, decode_refused, decode_waiting, encode_refused, encode_waiting};
use super::{OutboxError, RefusedRecord, record_text};
use crate::client::Client;
use ::rocksdb::{
    Direction, Error, ErrorKind, IteratorMode, ReadOptions, ThreadMode, Transaction, TransactionDB, TransactionOptions, WriteOptions,
};
use sagamq_api::TopicName;
use sagamq_api::record::ProduceRecord;
use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

/// Where the rows are kept if nobody says otherwise. Keys of text do not begin with a zero byte.
const PREFIX: &[u8] = b"\0outbox/";

/// Most records that are read at once, and about as many bytes.
const BATCH_RECORDS: usize = 1_000;
const BATCH_BYTES: usize = 4 * 1024 * 1024;

/// Most records that are told of what was set aside.
const REFUSED_RECORDS: usize = 1_000;

/// How many turns the pump goes on behind what it has deleted before it looks from the start again: where a clock was set back, rows may lie there.
const TURNS_BEHIND: u32 = 16;

/// Why an outbox cannot be opened or read.
#[derive(Debug, thiserror::Error)]
pub enum RocksOutboxError {
    /// The database failed.
    #[error("the outbox's database failed: {0}")]
    Database(#[from] Error),
    /// A row cannot be read.
    #[error("the outbox's row at {key:?} was not written by this version, or it is damaged")]
    Row {
        /// Its key.
        key: Vec<u8>,
    },
}

/// An outbox in a RocksDB. Cheap to clone; its clones share [`Self::wake`]. **Open it once in a process**, and clone it.
///
/// ```no_run
/// use sagamq_sdk::outbox::rocks::RocksOutbox;
/// use sagamq_sdk::{CancellationToken, Client, ProduceRecord};
/// use rocksdb::{MultiThreaded, TransactionDB, TransactionOptions, WriteOptions};
/// use std::sync::Arc;
///
/// # async fn example(client: Client) -> Result<(), Box<dyn std::error::Error>> {
/// let db = Arc::new(TransactionDB::<MultiThreaded>::open_default("orders")?);
/// let outbox = RocksOutbox::open(Arc::clone(&db))?;
/// tokio::spawn(outbox.pump(client).run(CancellationToken::new()));
///
/// let mut write = WriteOptions::default();
/// write.set_sync(true);
/// let txn = db.transaction_opt(&write, &TransactionOptions::default());
/// txn.put("order/o-1", "paid")?;
/// outbox.add(&txn, &"payments".parse()?, ProduceRecord::text("paid").with_key("o-1"))?;
/// txn.commit()?;
/// outbox.wake();
/// # Ok(()) }
/// ```
pub struct RocksOutbox<T: ThreadMode> {
    inner: Arc<Inner<T>>,
}

struct Inner<T: ThreadMode> {
    db: Arc<TransactionDB<T>>,
    keys: Keys,
    /// The number that was given last.
    last: AtomicI64,
    /// Numbers below may have been given by a process before, to transactions that are prepared and not committed.
    opened: i64,
    /// Those that were given since.
    numbers: Mutex<OpenNumbers>,
    /// Whether a pump runs.
    is_pumped: AtomicBool,
    wake: Arc<Notify>,
}

impl<T: ThreadMode> Clone for RocksOutbox<T> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<T: ThreadMode> fmt::Debug for RocksOutbox<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RocksOutbox").field("last", &self.inner.last).finish_non_exhaustive()
    }
}

impl<T: ThreadMode> RocksOutbox<T> {
    /// The outbox with its rows under `\0outbox/`.
    ///
    /// # Errors
    /// [`RocksOutboxError`] when the database fails, or holds something else there.
    pub fn open(db: Arc<TransactionDB<T>>) -> Result<Self, RocksOutboxError> {
        Self::open_at(db, PREFIX)
    }

    /// The outbox with its rows under another prefix, which no other key of the database may begin with.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_at(db: Arc<TransactionDB<T>>, prefix: impl AsRef<[u8]>) -> Result<Self, RocksOutboxError> {
        let keys = Keys::new(prefix.as_ref());
        let newest = db.iterator(IteratorMode::From(&keys.behind_waiting(), Direction::Reverse)).next().transpose()?;
        let last = newest.and_then(|(key, _)| keys.waiting_id(&key)).unwrap_or_default();
        let (opened, numbers) = (last.max(now_us()), Mutex::default());
        let inner =
            Inner { db, keys, last: AtomicI64::new(last), opened, numbers, is_pumped: AtomicBool::new(false), wake: Arc::default() };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Writes a record that is to be produced if the transaction commits. Without an idempotency key it is given one. Commit with a sync if
    /// the other writes are worth one. Also in a branch of two-phase commit.
    ///
    /// Records of one key are produced in the order in which they were added, if their transactions came after each other: if each locks what
    /// it writes about before it adds.
    ///
    /// # Errors
    /// [`OutboxError`] when the record or the database does not allow it; drop the transaction then.
    pub fn add(&self, txn: &Transaction<'_, TransactionDB<T>>, topic: &TopicName, record: ProduceRecord) -> Result<(), OutboxError<Error>> {
        let record = record_text(record).map_err(OutboxError::Record)?;
        let value = encode_waiting(&Waiting { topic: topic.as_str().to_owned(), record });
        loop {
            let id = self.next_id();
            let key = self.inner.keys.waiting(id);
            // A number is used once. But after a crash, with a clock that was set back, a prepared transaction may have it, unseen.
            match txn.get_for_update(&key, true) {
                Ok(None) => {
                    // Behind the lock, by which it is told that the transaction is open.
                    self.numbers().add(id, |id| self.is_open(id)).map_err(OutboxError::Database)?;
                    return txn.put(key, value).map_err(OutboxError::Database);
                }
                Ok(Some(_)) => {}
                Err(error) if matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::Busy) => {}
                Err(error) => return Err(OutboxError::Database(error)),
            }
        }
    }

    /// Tells the pump that something was committed, so that it need not find it by looking.
    pub fn wake(&self) {
        self.inner.wake.notify_one();
    }

    /// What produces this outbox. One runs at a time; others stand by.
    pub fn pump(&self, client: Client) -> RocksOutboxPump<T> {
        RocksOutboxPump { outbox: self.clone(), client, poll_interval: Duration::from_millis(200) }
    }

    /// The records that were set aside because the broker can never store them, oldest first, a thousand at most.
    ///
    /// # Errors
    /// [`RocksOutboxError`] when the database fails or a row cannot be read.
    pub fn refused(&self) -> Result<Vec<RefusedRecord>, RocksOutboxError> {
        let keys = &self.inner.keys;
        let mut refused = Vec::new();
        for row in self.inner.db.iterator(IteratorMode::From(&keys.all_refused(), Direction::Forward)) {
            let (key, value) = row?;
            let Some(id) = keys.refused_id(&key).filter(|_| refused.len() < REFUSED_RECORDS) else { break };
            let (Waiting { topic, record }, reason) = decode_refused(&value).ok_or_else(|| RocksOutboxError::Row { key: key.to_vec() })?;
            refused.push(RefusedRecord { id, topic, record, reason });
        }
        Ok(refused)
    }

    /// Lets what was set aside be produced again, with the records as they are: the cause was mended. How many those are.
    ///
    /// # Errors
    /// [`RocksOutboxError`] when the database fails or a row cannot be read.
    pub fn retry_refused(&self) -> Result<u64, RocksOutboxError> {
        let txn = self.synced();
        let mut again = 0;
        for RefusedRecord { id, topic, record, .. } in self.refused()? {
            txn.delete(self.inner.keys.refused(id))?;
            txn.put(self.inner.keys.waiting(id), encode_waiting(&Waiting { topic, record }))?;
            again += 1;
        }
        txn.commit()?;
        self.wake();
        Ok(again)
    }

    /// A number above every one before: about the time in microseconds, so that a process goes on where the last one stopped.
    fn next_id(&self) -> i64 {
        let now = now_us();
        let next = |last: i64| Some(now.max(last + 1));
        let last = self.inner.last.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).expect("there is always a next number");
        now.max(last + 1)
    }

    fn numbers(&self) -> MutexGuard<'_, OpenNumbers> {
        // What is under this lock changes a number at a time, so a panic elsewhere leaves nothing half done.
        self.inner.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the transaction that was given the number has neither been committed nor rolled back: it has the lock then.
    fn is_open(&self, id: i64) -> Result<bool, Error> {
        let mut options = TransactionOptions::default();
        // No wait.
        options.set_lock_timeout(0);
        match self.inner.db.transaction_opt(&WriteOptions::default(), &options).get_for_update(self.inner.keys.waiting(id), true) {
            Ok(_) => Ok(false),
            Err(error) if matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::Busy) => Ok(true),
            Err(error) => Err(error),
        }
    }

    fn synced(&self) -> Transaction<'_, TransactionDB<T>> {
        let mut write = WriteOptions::default();
        write.set_sync(true);
        self.inner.db.transaction_opt(&write, &TransactionOptions::default())
    }

    /// The oldest records, without those of these topics, and the number of the first one that was left out for that. None was there below `from`; what
    /// has been committed there since is found.
    fn oldest(&self, from: i64, without: &[String]) -> Result<(Vec<Entry>, Option<i64>), RocksOutboxError> {
        let start = self.numbers().begin(from, |id| self.is_open(id))?;
        let (behind, left_behind) = self.within(start..i64::MAX, without)?;
        // Read later than what lies behind: what that rests on is seen.
        let (mut entries, left) = self.within(0..start.min(self.inner.opened), without)?;
        entries.extend(behind);
        Ok((entries, left.or(left_behind)))
    }

    /// The oldest records within these numbers.
    fn within(&self, numbers: Range<i64>, without: &[String]) -> Result<(Vec<Entry>, Option<i64>), RocksOutboxError> {
        let keys = &self.inner.keys;
        let (mut entries, mut bytes, mut first_left) = (Vec::new(), 0, None);
        if numbers.is_empty() {
            return Ok((entries, first_left));
        }
        let mut options = ReadOptions::default();
        // What lies behind is not stepped over, deleted or not.
        options.set_iterate_upper_bound(keys.waiting(numbers.end));
        for row in self.inner.db.iterator_opt(IteratorMode::From(&keys.waiting(numbers.start), Direction::Forward), options) {
            let (key, value) = row?;
            let Some(id) = keys.waiting_id(&key).filter(|_| entries.len() < BATCH_RECORDS && bytes < BATCH_BYTES) else { break };
            let Waiting { topic, record } = decode_waiting(&value).ok_or_else(|| RocksOutboxError::Row { key: key.to_vec() })?;
            if without.contains(&topic) {
                first_left = first_left.or(Some(id));
            } else {
                bytes += record.len();
                entries.push(Entry { id, topic, record });
            }
        }
        Ok((entries, first_left))
    }

    /// Deletes what is stored by the broker. Not synced: what comes back after a power cut is produced again under its key.
    fn sent(&self, ids: Vec<i64>) -> Result<(), RocksOutboxError> {
        let txn = self.inner.db.transaction();
        for id in ids {
            txn.delete(self.inner.keys.waiting(id))?;
        }
        Ok(txn.commit()?)
    }

    fn set_aside(&self, id: i64, reason: &str) -> Result<(), RocksOutboxError> {
        let txn = self.synced();
        let key = self.inner.keys.waiting(id);
        if let Some(value) = txn.get_for_update(&key, true)? {
            let waiting = decode_waiting(&value).ok_or_else(|| RocksOutboxError::Row { key: key.clone() })?;
            txn.put(self.inner.keys.refused(id), encode_refused(&waiting, reason))?;
            txn.delete(key)?;
            txn.commit()?;
        }
        Ok(())
    }
}

/// Produces what an outbox holds.
#[derive(Debug)]
#[must_use = "a pump does nothing until `run`"]
pub struct RocksOutboxPump<T: ThreadMode> {
    outbox: RocksOutbox<T>,
    client: Client,
    poll_interval: Duration,
}

impl<T: ThreadMode + 'static> RocksOutboxPump<T> {
    /// How long a pump that has nothing to do waits before it looks again, unless it is woken (default 200 ms).
    pub fn poll_interval(mut self, interval: Duration) -> Self {
        self.poll_interval = interval;
        self
    }

    /// Pumps until `shutdown` is cancelled; then the turn that runs is finished. Never gives up: what fails is logged and tried again.
    pub async fn run(self, shutdown: CancellationToken) {
        let wake = Arc::clone(&self.outbox.inner.wake);
        let source = RocksSource { outbox: self.outbox, leads: false, from: 0, turns: 0, waiting: BTreeSet::new() };
        Pump::new(source, &self.client, wake, self.poll_interval).run(shutdown).await;
    }
}

/// The outbox as its pump sees it.
struct RocksSource<T: ThreadMode> {
    outbox: RocksOutbox<T>,
    leads: bool,
    /// No record that waits had a lower number when it was looked: a look from the start passes over the traces of all that was deleted.
    from: i64,
    /// How many looks have begun there since the last one from the start.
    turns: u32,
    /// Numbers that were seen last and still wait: the first of what was left out, and what the pump was given.
    waiting: BTreeSet<i64>,
}

impl<T: ThreadMode> Drop for RocksSource<T> {
    fn drop(&mut self) {
        if self.leads {
            self.outbox.inner.is_pumped.store(false, Ordering::Release);
        }
    }
}

impl<T: ThreadMode + 'static> RocksSource<T> {
    async fn blocking<O: Send + 'static>(
        &self,
        work: impl FnOnce(&RocksOutbox<T>) -> Result<O, RocksOutboxError> + Send + 'static,
    ) -> Result<O, String> {
        let outbox = self.outbox.clone();
        let worked = spawn_blocking(move || work(&outbox)).await.map_err(|error| error.to_string())?;
        worked.map_err(|error| error.to_string())
    }

    async fn look(&mut self, without: Vec<String>) -> Result<Vec<Entry>, String> {
        let from = self.from;
        let (entries, first_left) = self.blocking(move |outbox| outbox.oldest(from, &without)).await?;
        self.waiting = entries.iter().map(|entry| entry.id).chain(first_left).collect();
        Ok(entries)
    }

    /// These wait no more. The next look must not pass over any that does: a later record of its topic would overtake it.
    fn gone(&mut self, ids: &[i64]) {
        for id in ids {
            self.waiting.remove(id);
        }
        self.outbox.numbers().seen(ids);
        let behind = ids.iter().max().map_or(self.from, |last| last + 1);
        self.from = self.waiting.first().copied().unwrap_or_else(|| behind.max(self.from));
    }
}

impl<T: ThreadMode + 'static> Source for RocksSource<T> {
    type Error = String;

    async fn lead(&mut self) -> Result<bool, String> {
        self.leads = self.leads || !self.outbox.inner.is_pumped.swap(true, Ordering::Acquire);
        Ok(self.leads)
    }

    async fn oldest(&mut self, without: Vec<String>) -> Result<Vec<Entry>, String> {
        if self.from > 0 && self.turns < TURNS_BEHIND {
            self.turns += 1;
            let entries = self.look(without.clone()).await?;
            if !entries.is_empty() {
                return Ok(entries);
            }
        }
        (self.from, self.turns) = (0, 0);
        self.look(without).await
    }

    async fn sent(&mut self, ids: Vec<i64>) -> Result<(), String> {
        let gone = ids.clone();
        self.blocking(move |outbox| outbox.sent(ids)).await?;
        self.gone(&gone);
        Ok(())
    }

    async fn refused(&mut self, id: i64, reason: String) -> Result<(), String> {
        self.blocking(move |outbox| outbox.set_aside(id, &reason)).await?;
        self.gone(&[id]);
        Ok(())
    }

    /// Looks from the start again.
    fn reset(&mut self) {
        (self.from, self.turns) = (0, 0);
    }
}

#[expect(clippy::disallowed_methods, reason = "the time only spreads the numbers; their order is kept without it")]
fn now_us() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX / 2)
}

//! What a participant keeps of locks: the largest token of each key that it has seen, in the transaction in which it works, and what was done under
//! each key, in its order. A call with a smaller token is refused, and remembered.

use sagamq_sdk::api::saga::FencedLock;
use sagamq_sdk::barrier::rocksdb::{Error, MultiThreaded, Transaction, TransactionDB};
use sagamq_sdk::{Call, CallError};
use uuid::Uuid;

type Db = TransactionDB<MultiThreaded>;

/// What the rows begin with: the largest token of a key, what was done under it, and what was refused.
const FENCE: &str = "fence/";
const WORKED: &str = "worked/";
const FENCED: &str = "fenced/";

/// The code of a call that came too late.
pub(super) const CODE: &str = "FENCED";

/// The operations that are never called without a lock.
const UNDER_LOCKS: [&str; 6] = ["allot", "free", "tally", "untally", "capture", "label"];

/// Something that was done under a lock, or was not because of its token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Worked {
    pub(super) key: String,
    pub(super) token: u64,
    pub(super) saga: Uuid,
    /// The key of the call.
    pub(super) call: String,
}

/// A row of these.
#[derive(Debug)]
pub(super) enum Row {
    Worked(Worked),
    Fenced(Worked),
}

/// Reads a row; `None`: it is of something else.
pub(super) fn read(key: &[u8], value: &[u8]) -> Option<Row> {
    let worked = || {
        let (key, token, saga, call) = serde_json::from_slice(value).expect("the services write it so");
        Worked { key, token, saga, call }
    };
    match std::str::from_utf8(key).ok()? {
        key if key.starts_with(WORKED) => Some(Row::Worked(worked())),
        key if key.starts_with(FENCED) => Some(Row::Fenced(worked())),
        _ => None,
    }
}

fn written(call: &Call, lock: &FencedLock) -> Vec<u8> {
    serde_json::to_vec(&(&lock.key, lock.token, call.attempt.instance, &call.idempotency_key)).expect("it is JSON")
}

/// Lets a call through that has the lock that it needs, and writes down that it came.
pub(super) fn pass(txn: &Transaction<'_, Db>, call: &Call) -> Result<(), CallError> {
    let Some(lock) = &call.lock else {
        let needs_one = UNDER_LOCKS.contains(&call.call.as_str());
        return if needs_one { Err(CallError::unknown("NO_LOCK", "it is called without a lock")) } else { Ok(()) };
    };
    let row = format!("{FENCE}{}", lock.key);
    // The largest token, and how much was done under the key.
    let (token, done): (u64, u64) = txn.get_for_update(&row, true)?.map_or(Ok((0, 0)), |bytes| serde_json::from_slice(&bytes))?;
    if lock.token < token {
        return Err(CallError::refused(CODE, format!("`{}` was held with the token {token} since", lock.key)));
    }
    txn.put(&row, serde_json::to_vec(&(lock.token, done + 1))?)?;
    txn.put(format!("{WORKED}{}/{done:010}", lock.key), written(call, lock))?;
    Ok(())
}

/// Remembers a call that was not let through. What it would have written is not there.
pub(super) fn remember(db: &Db, call: &Call) -> Result<(), Error> {
    let Some(lock) = &call.lock else { return Ok(()) };
    db.put(format!("{FENCED}{}", call.idempotency_key), written(call, lock))
}

//! The suite itself: it refuses logs that break one promise each.

use super::*;
use crate::log::memory::{Flavour, MemoryLog};
use futures_util::FutureExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

/// The promise that is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Broken {
    None,
    /// Put-if-absent alone: a place whose entry was deleted is free again.
    TrimmedPlaceIsFree,
    /// Another one stands there, and the append is acknowledged all the same.
    ConflictIsAcknowledged,
    /// A conflict is told for what was stored.
    ConflictIsStored,
    /// The place that was named is read again.
    ReadIsInclusive,
    /// A page ends before an entry that is too large for it.
    LargeEntryIsNeverRead,
    /// A page is the whole log.
    PageIsEverything,
    /// What a client read once it reads for ever.
    ReadIsCached,
    /// What is trimmed is left out silently.
    TrimmedIsLeftOut,
    /// An emptied log begins anew.
    EmptiedLogForgetsItsEnd,
    /// Trimming again with less is refused.
    TrimIsNotRepeatable,
    /// A larger entry than it said.
    LargerIsTaken,
    /// All shards have one log.
    LogsAreOne,
    /// A client knows only its own appends.
    BoundsAreStale,
}

#[derive(Debug)]
struct BrokenLog {
    inner: MemoryLog,
    broken: Broken,
    seen: Mutex<Option<Vec<Entry>>>,
    last: Mutex<Option<Pos>>,
}

impl BrokenLog {
    fn name(&self, log: LogName) -> LogName {
        match log {
            LogName::Shard(shard) if self.broken == Broken::LogsAreOne && shard > 100 => LogName::Shard(101),
            log => log,
        }
    }
}

impl CommitLog for BrokenLog {
    fn entry_bytes_max(&self) -> usize {
        if self.broken == Broken::LargerIsTaken { 4096 } else { self.inner.entry_bytes_max() }
    }

    fn append(&self, log: LogName, after: Pos, bytes: Bytes) -> BoxFuture<'_, Result<Pos, AppendError>> {
        Box::pin(async move {
            let log = self.name(log);
            let bounds = self.inner.bounds(log).await.expect("it has no faults");
            let answer = self.inner.append(log, after, bytes.clone()).await;
            if let Ok(pos) = answer {
                *self.last.lock().expect("no check goes on after a panic") = Some(pos);
            }
            match (self.broken, &answer) {
                (Broken::TrimmedPlaceIsFree, Err(AppendError::Conflict)) if after < bounds.trimmed => Ok(Pos(after.0 + 1)),
                (Broken::ConflictIsAcknowledged, Err(AppendError::Conflict)) => Ok(Pos(after.0 + 1)),
                (Broken::ConflictIsStored, Err(AppendError::Conflict)) => {
                    let _ = self.inner.append(log, bounds.last, bytes).await;
                    answer
                }
                _ => answer,
            }
        })
    }

    fn read(&self, log: LogName, after: Pos, bytes_max: usize) -> BoxFuture<'_, Result<Vec<Entry>, ReadError>> {
        Box::pin(async move {
            let log = self.name(log);
            let after = if self.broken == Broken::ReadIsInclusive { Pos(after.0.saturating_sub(1)) } else { after };
            let bytes_max = if self.broken == Broken::PageIsEverything { usize::MAX } else { bytes_max };
            let mut page = self.inner.read(log, after, bytes_max).await;
            if let (Broken::TrimmedIsLeftOut, Err(ReadError::Trimmed(upto))) = (self.broken, &page) {
                page = self.inner.read(log, *upto, bytes_max).await;
            }
            let page = page?;
            if self.broken == Broken::LargeEntryIsNeverRead && page.first().is_some_and(|entry| entry.bytes.len() > bytes_max) {
                return Ok(Vec::new());
            }
            if self.broken == Broken::ReadIsCached {
                return Ok(self.seen.lock().expect("no check goes on after a panic").get_or_insert(page).clone());
            }
            Ok(page)
        })
    }

    fn bounds(&self, log: LogName) -> BoxFuture<'_, Result<Bounds, ReadError>> {
        Box::pin(async move {
            let bounds = self.inner.bounds(self.name(log)).await?;
            let own = self.last.lock().expect("no check goes on after a panic").unwrap_or(bounds.last);
            Ok(match self.broken {
                Broken::EmptiedLogForgetsItsEnd if bounds.trimmed == bounds.last => Bounds::default(),
                Broken::BoundsAreStale => Bounds { last: own.min(bounds.last), ..bounds },
                _ => bounds,
            })
        })
    }

    fn trim(&self, log: LogName, upto: Pos) -> BoxFuture<'_, Result<(), ReadError>> {
        Box::pin(async move {
            let log = self.name(log);
            if self.broken == Broken::TrimIsNotRepeatable && upto < self.inner.bounds(log).await?.trimmed {
                return Err(ReadError::Trimmed(upto));
            }
            self.inner.trim(log, upto).await
        })
    }
}

fn is_refused(broken: Broken, flavour: Flavour) -> bool {
    let log = MemoryLog::new(flavour);
    let client =
        || -> Arc<dyn CommitLog> { Arc::new(BrokenLog { inner: log.client(), broken, seen: Mutex::default(), last: Mutex::default() }) };
    let subject = Subject { is_conditional: flavour == Flavour::Conditional, client: &client };
    catch_unwind(AssertUnwindSafe(|| check(&subject).now_or_never().expect("a log without delays answers at once"))).is_err()
}

#[test]
fn each_broken_promise_is_found() {
    for flavour in [Flavour::Conditional, Flavour::Unconditional] {
        assert!(!is_refused(Broken::None, flavour));
        for broken in [
            Broken::ReadIsInclusive,
            Broken::LargeEntryIsNeverRead,
            Broken::PageIsEverything,
            Broken::ReadIsCached,
            Broken::TrimmedIsLeftOut,
            Broken::EmptiedLogForgetsItsEnd,
            Broken::TrimIsNotRepeatable,
            Broken::LargerIsTaken,
            Broken::LogsAreOne,
            Broken::BoundsAreStale,
        ] {
            assert!(is_refused(broken, flavour), "{broken:?}, {flavour:?}");
        }
    }
    for broken in [Broken::TrimmedPlaceIsFree, Broken::ConflictIsAcknowledged, Broken::ConflictIsStored] {
        assert!(is_refused(broken, Flavour::Conditional), "{broken:?}");
    }
}

#[test]
fn one_flavour_is_not_taken_for_the_other() {
    for (flavour, said) in [(Flavour::Conditional, false), (Flavour::Unconditional, true)] {
        let log = MemoryLog::new(flavour);
        let subject = Subject { is_conditional: said, client: &|| Arc::new(log.client()) };
        assert!(catch_unwind(AssertUnwindSafe(|| check(&subject).now_or_never())).is_err(), "{flavour:?}");
    }
}

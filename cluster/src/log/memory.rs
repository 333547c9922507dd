//! [`MemoryLog`]: logs in memory that behave as badly as a seed says, for tests. Nothing survives the process.
//!
//! It has no clock. A delay is a number of turns that others get, so a run under an executor that is seeded as well repeats itself.

use super::{AppendError, Bounds, CommitLog, Entry, LogName, Pos, ReadError};
use bytes::Bytes;
use core::future::poll_fn;
use core::task::Poll;
use futures_util::future::BoxFuture;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What kind of log it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// An entry goes behind the place that was named or nowhere: object storage with put-if-absent.
    Conditional,
    /// An entry goes behind the last one, whatever place was named: the Kafka protocol.
    Unconditional,
}

/// How often something goes wrong, each in calls of a thousand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// A call takes its time: others have some turns before it has an effect, and before its answer comes.
    pub delayed: u32,
    /// An append is not taken: [`AppendError::NotStored`].
    pub refused: u32,
    /// An append is stored, its answer is lost: [`AppendError::Unknown`].
    pub answer_lost: u32,
    /// An append ends as [`AppendError::Unknown`] and arrives some calls later, if it can still be stored then.
    pub late: u32,
    /// An append ends as [`AppendError::Unknown`] and never arrives.
    pub request_lost: u32,
    /// An append arrives twice. An unconditional log stores it twice and tells one of the places. A conditional one answers
    /// [`AppendError::Conflict`] for what it has stored, which is worse than the trait allows: owners bear it all the same.
    pub doubled: u32,
    /// An unconditional log leaves places out before an entry, as Kafka does for its own records.
    pub skipped: u32,
    /// A read is not answered: [`ReadError::Unavailable`].
    pub unreadable: u32,
}

/// How many turns or calls later something delayed comes, at most.
const LATER_MAX: u64 = 12;

/// Logs in memory. Clones are the same client; [`MemoryLog::client`] makes another one of the same logs.
#[derive(Clone, Debug)]
pub struct MemoryLog {
    shared: Arc<Mutex<Shared>>,
    cut: Arc<AtomicBool>,
    flavour: Flavour,
    entry_bytes_max: usize,
}

#[derive(Debug)]
struct Shared {
    logs: BTreeMap<LogName, Log>,
    late: Vec<Late>,
    calls: u64,
    faults: Faults,
    random: StdRng,
}

#[derive(Debug, Default)]
struct Log {
    entries: BTreeMap<Pos, Bytes>,
    bounds: Bounds,
}

/// An append that is under way although its caller has heard that nobody knows.
#[derive(Debug)]
struct Late {
    due_at_call: u64,
    log: LogName,
    after: Pos,
    bytes: Bytes,
}

/// What becomes of one append, drawn before it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Taken,
    Refused,
    AnswerLost,
    Late { by_calls: u64 },
    RequestLost,
    Doubled { tells_second: bool },
}

impl MemoryLog {
    /// Empty logs without faults.
    #[must_use]
    pub fn new(flavour: Flavour) -> Self {
        Self::with_faults(flavour, Faults::default(), 0)
    }

    /// Empty logs with faults, the same ones for the same seed and the same calls.
    #[must_use]
    pub fn with_faults(flavour: Flavour, faults: Faults, seed: u64) -> Self {
        let random = StdRng::seed_from_u64(seed);
        let shared = Shared { logs: BTreeMap::new(), late: Vec::new(), calls: 0, faults, random };
        Self { shared: Arc::new(Mutex::new(shared)), cut: Arc::default(), flavour, entry_bytes_max: 1 << 20 }
    }

    /// The same logs, which take entries of up to so many bytes from this client.
    #[must_use]
    pub fn with_entry_bytes_max(mut self, bytes: usize) -> Self {
        self.entry_bytes_max = bytes;
        self
    }

    /// Another client of the same logs: it can be cut off by itself.
    #[must_use]
    pub fn client(&self) -> Self {
        Self { cut: Arc::default(), ..self.clone() }
    }

    /// Cuts this client off from its logs, or lets it reach them again. Calls under way are not touched.
    pub fn cut_off(&self, is_cut: bool) {
        self.cut.store(is_cut, Ordering::SeqCst);
    }

    /// Goes on with other faults. What is under way comes as it was drawn.
    pub fn set_faults(&self, faults: Faults) {
        self.shared().faults = faults;
    }

    /// Lets every late append arrive now.
    pub fn land_all(&self) {
        let mut shared = self.shared();
        for late in core::mem::take(&mut shared.late) {
            shared.arrive(self.flavour, &late);
        }
    }

    /// Whether appends are under way whose callers heard that nobody knows.
    #[must_use]
    pub fn is_anything_late(&self) -> bool {
        !self.shared().late.is_empty()
    }

    /// All entries of a log that are not trimmed, without faults.
    #[must_use]
    pub fn entries(&self, log: LogName) -> Vec<Entry> {
        let shared = self.shared();
        let entries = shared.logs.get(&log).map(|log| &log.entries).into_iter().flatten();
        entries.map(|(pos, bytes)| Entry { pos: *pos, bytes: bytes.clone() }).collect()
    }

    /// Loses every entry behind a place, as no log should: what a restored backup or a lost quorum does.
    pub fn lose_behind(&self, log: LogName, last: Pos) {
        let mut shared = self.shared();
        let log = shared.log(log);
        log.entries.retain(|pos, _| *pos <= last);
        log.bounds.last = log.bounds.last.min(last).max(log.bounds.trimmed);
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_cut(&self) -> bool {
        self.cut.load(Ordering::SeqCst)
    }

    /// Begins a call: what is late and due arrives first. Gives the turns before the effect and before the answer.
    fn begin(&self) -> (u64, u64) {
        let mut shared = self.shared();
        shared.calls += 1;
        let now = shared.calls;
        let (due, later) = core::mem::take(&mut shared.late).into_iter().partition(|late| late.due_at_call <= now);
        shared.late = later;
        let due: Vec<Late> = due;
        for late in &due {
            shared.arrive(self.flavour, late);
        }
        let delayed = shared.faults.delayed;
        if shared.is_drawn(delayed) { (shared.turns(), shared.turns()) } else { (0, 0) }
    }

    fn reach(&self, what: &str) -> Result<MutexGuard<'_, Shared>, ReadError> {
        if self.is_cut() {
            return Err(ReadError::Unavailable(format!("cut off from the log: {what}")));
        }
        let mut shared = self.shared();
        let unreadable = shared.faults.unreadable;
        if shared.is_drawn(unreadable) { Err(ReadError::Unavailable(format!("no answer: {what}"))) } else { Ok(shared) }
    }

    fn append_now(&self, log: LogName, after: Pos, bytes: &Bytes) -> Result<Pos, AppendError> {
        if bytes.len() > self.entry_bytes_max {
            return Err(AppendError::NotStored(format!("{} bytes are more than {}", bytes.len(), self.entry_bytes_max)));
        }
        if self.is_cut() {
            return Err(AppendError::NotStored("cut off from the log".to_owned()));
        }
        let mut shared = self.shared();
        match shared.draw_fate(self.flavour) {
            Fate::Taken => shared.store(self.flavour, log, after, bytes),
            Fate::Refused => Err(AppendError::NotStored("the log is busy".to_owned())),
            Fate::AnswerLost => {
                let stored = shared.store(self.flavour, log, after, bytes);
                Err(AppendError::Unknown(format!("the answer is lost, it was {}", if stored.is_ok() { "stored" } else { "a conflict" })))
            }
            Fate::Late { by_calls } => {
                let late = Late { due_at_call: shared.calls + by_calls, log, after, bytes: bytes.clone() };
                shared.late.push(late);
                Err(AppendError::Unknown("no answer yet".to_owned()))
            }
            Fate::RequestLost => Err(AppendError::Unknown("the request is lost".to_owned())),
            Fate::Doubled { tells_second } => {
                let first = shared.store(self.flavour, log, after, bytes);
                let second = shared.store(self.flavour, log, after, bytes);
                if tells_second { second } else { first }
            }
        }
    }
}

impl Shared {
    fn is_drawn(&mut self, in_a_thousand: u32) -> bool {
        // Nothing is drawn for what never happens, so that a log without faults costs nothing.
        in_a_thousand > 0 && self.random.random_range(0..1000) < in_a_thousand
    }

    fn turns(&mut self) -> u64 {
        self.random.random_range(0..=LATER_MAX)
    }

    fn draw_fate(&mut self, flavour: Flavour) -> Fate {
        let Faults { refused, answer_lost, late, request_lost, doubled, .. } = self.faults;
        if self.is_drawn(refused) {
            Fate::Refused
        } else if self.is_drawn(answer_lost) {
            Fate::AnswerLost
        } else if self.is_drawn(late) {
            Fate::Late { by_calls: 1 + self.turns() }
        } else if self.is_drawn(request_lost) {
            Fate::RequestLost
        } else if self.is_drawn(doubled) {
            Fate::Doubled { tells_second: flavour == Flavour::Conditional || self.is_drawn(500) }
        } else {
            Fate::Taken
        }
    }

    fn log(&mut self, name: LogName) -> &mut Log {
        self.logs.entry(name).or_default()
    }

    fn store(&mut self, flavour: Flavour, name: LogName, after: Pos, bytes: &Bytes) -> Result<Pos, AppendError> {
        let skipped = self.faults.skipped;
        let gap = if flavour == Flavour::Unconditional && self.is_drawn(skipped) { 1 + self.turns() } else { 0 };
        let log = self.log(name);
        if flavour == Flavour::Conditional && log.bounds.last != after {
            return Err(AppendError::Conflict);
        }
        let pos = Pos(log.bounds.last.0 + gap + 1);
        log.entries.insert(pos, bytes.clone());
        log.bounds.last = pos;
        Ok(pos)
    }

    fn arrive(&mut self, flavour: Flavour, late: &Late) {
        // Its caller hears nothing more, whatever becomes of it.
        let _ = self.store(flavour, late.log, late.after, &late.bytes);
    }
}

/// Lets others have so many turns.
pub(crate) async fn turns(mut left: u64) {
    poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(());
        }
        left -= 1;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

impl CommitLog for MemoryLog {
    fn entry_bytes_max(&self) -> usize {
        self.entry_bytes_max
    }

    fn append(&self, log: LogName, after: Pos, bytes: Bytes) -> BoxFuture<'_, Result<Pos, AppendError>> {
        Box::pin(async move {
            let (before, behind) = self.begin();
            turns(before).await;
            let answer = self.append_now(log, after, &bytes);
            turns(behind).await;
            answer
        })
    }

    fn read(&self, log: LogName, after: Pos, bytes_max: usize) -> BoxFuture<'_, Result<Vec<Entry>, ReadError>> {
        Box::pin(async move {
            let (before, behind) = self.begin();
            turns(before).await;
            let answer = self.reach("read").and_then(|mut shared| {
                let log = shared.log(log);
                if after < log.bounds.trimmed {
                    return Err(ReadError::Trimmed(log.bounds.trimmed));
                }
                let mut page = Vec::new();
                let mut bytes_left = bytes_max;
                for (pos, bytes) in log.entries.range(Pos(after.0.saturating_add(1))..) {
                    if !page.is_empty() && bytes.len() > bytes_left {
                        break;
                    }
                    bytes_left = bytes_left.saturating_sub(bytes.len());
                    page.push(Entry { pos: *pos, bytes: bytes.clone() });
                }
                Ok(page)
            });
            turns(behind).await;
            answer
        })
    }

    fn bounds(&self, log: LogName) -> BoxFuture<'_, Result<Bounds, ReadError>> {
        Box::pin(async move {
            let (before, behind) = self.begin();
            turns(before).await;
            let answer = self.reach("bounds").map(|mut shared| shared.log(log).bounds);
            turns(behind).await;
            answer
        })
    }

    fn trim(&self, log: LogName, upto: Pos) -> BoxFuture<'_, Result<(), ReadError>> {
        Box::pin(async move {
            let (before, behind) = self.begin();
            turns(before).await;
            let answer = self.reach("trim").map(|mut shared| {
                let log = shared.log(log);
                let upto = upto.min(log.bounds.last).max(log.bounds.trimmed);
                log.entries = log.entries.split_off(&Pos(upto.0 + 1));
                log.bounds.trimmed = upto;
            });
            turns(behind).await;
            answer
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::contract;
    use super::*;
    use futures_util::FutureExt as _;

    const LOG: LogName = LogName::Shard(0);

    fn now<T>(future: impl Future<Output = T>) -> T {
        future.now_or_never().expect("a log without delays answers at once")
    }

    fn append(log: &MemoryLog, after: u64, bytes: &'static str) -> Result<Pos, AppendError> {
        now(log.append(LOG, Pos(after), Bytes::from_static(bytes.as_bytes())))
    }

    fn content(log: &MemoryLog) -> Vec<Bytes> {
        log.entries(LOG).into_iter().map(|entry| entry.bytes).collect()
    }

    #[test]
    fn both_flavours_hold_the_contract() {
        for (flavour, is_conditional) in [(Flavour::Conditional, true), (Flavour::Unconditional, false)] {
            let log = MemoryLog::new(flavour);
            let subject = contract::Subject { is_conditional, client: &|| Arc::new(log.client()) };
            now(contract::check(&subject));
        }
    }

    #[test]
    fn an_append_that_lands_late_finds_its_place_taken_or_goes_to_the_end() {
        for (flavour, expected) in [(Flavour::Conditional, vec!["b"]), (Flavour::Unconditional, vec!["b", "a"])] {
            let log = MemoryLog::with_faults(flavour, Faults { late: 1000, ..Faults::default() }, 1);
            assert!(matches!(append(&log, 0, "a"), Err(AppendError::Unknown(_))));
            log.set_faults(Faults::default());
            assert_eq!(append(&log, 0, "b"), Ok(Pos(1)));
            assert!(log.is_anything_late());
            log.land_all();
            assert_eq!(content(&log), expected, "{flavour:?}");
        }
    }

    #[test]
    fn an_answer_that_is_lost_leaves_the_entry_and_a_lost_request_none() {
        let lost = |faults| {
            let log = MemoryLog::with_faults(Flavour::Conditional, faults, 1);
            assert!(matches!(append(&log, 0, "a"), Err(AppendError::Unknown(_))));
            content(&log)
        };
        assert_eq!(lost(Faults { answer_lost: 1000, ..Faults::default() }), ["a"]);
        assert!(lost(Faults { request_lost: 1000, ..Faults::default() }).is_empty());
    }

    #[test]
    fn a_doubled_request_is_stored_twice_or_conflicts_with_itself() {
        let doubled = |flavour| {
            let log = MemoryLog::with_faults(flavour, Faults { doubled: 1000, ..Faults::default() }, 1);
            let answer = append(&log, 0, "a");
            (answer, content(&log).len())
        };
        assert_eq!(doubled(Flavour::Conditional), (Err(AppendError::Conflict), 1));
        let (answer, stored) = doubled(Flavour::Unconditional);
        assert!(answer.is_ok_and(|pos| pos.0 <= 2) && stored == 2);
    }

    #[test]
    fn who_is_cut_off_stores_nothing_and_others_go_on() {
        let log = MemoryLog::new(Flavour::Conditional);
        let other = log.client();
        log.cut_off(true);
        assert!(matches!(append(&log, 0, "a"), Err(AppendError::NotStored(_))));
        assert!(matches!(now(log.read(LOG, Pos::START, 100)), Err(ReadError::Unavailable(_))));
        assert_eq!(append(&other, 0, "b"), Ok(Pos(1)));
        log.cut_off(false);
        assert_eq!(append(&log, 1, "c"), Ok(Pos(2)));
    }

    #[test]
    fn what_is_refused_is_not_stored_and_skipped_places_stay_empty() {
        let log = MemoryLog::with_faults(Flavour::Unconditional, Faults { refused: 1000, ..Faults::default() }, 1);
        assert!(matches!(append(&log, 0, "a"), Err(AppendError::NotStored(_))));
        log.set_faults(Faults { skipped: 1000, ..Faults::default() });
        let pos = append(&log, 0, "b").expect("it is taken");
        assert!(pos > Pos(1));
        assert_eq!(log.entries(LOG), [Entry { pos, bytes: Bytes::from_static(b"b") }]);
    }

    #[test]
    fn a_seed_repeats_what_happened() {
        let run = |seed| {
            let faults = Faults { refused: 300, answer_lost: 300, late: 300, request_lost: 300, doubled: 300, ..Faults::default() };
            let log = MemoryLog::with_faults(Flavour::Unconditional, faults, seed);
            (0..50).map(|n| append(&log, n, "a")).collect::<Vec<_>>()
        };
        assert_eq!(run(5), run(5));
        assert_ne!(run(5), run(6));
    }

    #[test]
    fn a_delayed_call_lets_others_have_turns() {
        let log = MemoryLog::with_faults(Flavour::Conditional, Faults { delayed: 1000, ..Faults::default() }, 3);
        let mut slow = log.append(LOG, Pos::START, Bytes::from_static(b"slow"));
        assert!((&mut slow).now_or_never().is_none(), "the first turn is for others");
        log.set_faults(Faults::default());
        assert_eq!(append(&log, 0, "fast"), Ok(Pos(1)));
        let answer = core::iter::repeat_with(|| (&mut slow).now_or_never()).take(100).flatten().next();
        assert_eq!(answer, Some(Err(AppendError::Conflict)));
    }
}

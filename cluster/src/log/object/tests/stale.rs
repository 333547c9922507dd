//! The writer that slept while the log went on and was trimmed: the key at which it means to write is free again.

use super::*;
use crate::objects::faults::{Fault, Storage};
use core::time::Duration;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use std::collections::BTreeMap;

#[tokio::test]
async fn a_writer_that_goes_on_behind_its_own_entry_finds_where_its_row_was_ended() {
    let storage = Storage::new();
    let (sleeper, other) = (ObjectLog::new(storage.objects()), ObjectLog::new(storage.objects()));
    append_all(&sleeper, SHARD, &["1", "2", "3"]).await;
    append_all(&other, SHARD, &["4", "5", "6"]).await;
    other.trim(SHARD, Pos(5)).await.expect("it answers");
    storage.asked();
    assert_eq!(sleeper.append(SHARD, Pos(3), bytes("stale")).await, Err(AppendError::Conflict));
    assert_eq!(storage.asked(), 2, "it did not ask for the mark: the storage itself stopped it");

    // That is what the first of a row stays for: without it the sleeper is told that its entry stands.
    let (sleeper, other) = (ObjectLog::new(storage.objects()), ObjectLog::new(storage.objects()));
    append_all(&sleeper, SHARD, &["7", "8"]).await;
    append_all(&other, SHARD, &["9", "10"]).await;
    other.trim(SHARD, Pos(9)).await.expect("it answers");
    storage.lose(&key(SHARD, 9));
    assert_eq!(sleeper.append(SHARD, Pos(8), bytes("stale")).await, Ok(Pos(9)));
}

#[tokio::test]
async fn a_reader_that_becomes_a_writer_finds_the_mark() {
    let storage = Storage::new();
    let (writer, sleeper) = (ObjectLog::new(storage.objects()), ObjectLog::new(storage.objects()));
    append_all(&writer, SHARD, &["1", "2"]).await;
    assert_eq!(texts(&sleeper, SHARD, 0).await, ["1", "2"]);
    append_all(&writer, SHARD, &["3", "4", "5"]).await;
    writer.trim(SHARD, Pos(4)).await.expect("it answers");
    assert!(!storage.has(&key(SHARD, 3)), "the place at which it will write is free");
    assert_eq!(sleeper.append(SHARD, Pos(2), bytes("stale")).await, Err(AppendError::Conflict));
    assert!(!storage.has(&key(SHARD, 3)), "it did not write there");
    assert_eq!(sleeper.read(SHARD, Pos(2), 1000).await, Err(ReadError::Trimmed(Pos(4))));
}

#[tokio::test]
async fn what_comes_to_stand_where_it_is_trimmed_is_read_by_nobody() {
    let storage = Storage::new();
    let (writer, late) = (ObjectLog::new(storage.objects()), ObjectLog::new(storage.objects()));
    append_all(&writer, SHARD, &["1", "2"]).await;
    assert_eq!(texts(&late, SHARD, 0).await, ["1", "2"]);
    storage.fail_writes(&[Fault::Held; 50]);
    assert!(matches!(late.append(SHARD, Pos(2), bytes("late")).await, Err(AppendError::Unknown(_))));
    storage.heal();
    append_all(&writer, SHARD, &["3", "4", "5"]).await;
    writer.trim(SHARD, Pos(4)).await.expect("it answers");
    assert_eq!(storage.release().await, 1, "it stands, and nobody is left who could take it away");
    for log in [&writer, &late, &ObjectLog::new(storage.objects())] {
        assert_eq!(log.read(SHARD, Pos(2), 1000).await, Err(ReadError::Trimmed(Pos(4))));
        assert_eq!(log.bounds(SHARD).await, Ok(Bounds { trimmed: Pos(4), last: Pos(5) }));
        assert_eq!(texts(log, SHARD, 4).await, ["5"]);
    }
    assert_eq!(late.append(SHARD, Pos(2), bytes("again")).await, Err(AppendError::Conflict));
}

#[tokio::test]
async fn an_entry_that_is_trimmed_before_its_writer_has_looked_may_have_counted() {
    let storage = Storage::new();
    let slow = Arc::new(ObjectLog::new(storage.objects()));
    let other = ObjectLog::new(storage.objects());
    append_all(&other, SHARD, &["1"]).await;
    assert_eq!(texts(&slow, SHARD, 0).await, ["1"]);
    storage.fail_reads(&[Fault::None, Fault::Slow]);
    let append = tokio::spawn({
        let slow = slow.clone();
        async move { slow.append(SHARD, Pos(1), bytes("2")).await }
    });
    while !storage.is_done() {
        tokio::task::yield_now().await;
    }
    // It stands, and its writer has not seen the mark yet. The others read it and go on.
    assert_eq!(texts(&other, SHARD, 1).await, ["2"]);
    append_all(&other, SHARD, &["3", "4"]).await;
    other.trim(SHARD, Pos(3)).await.expect("it answers");
    storage.go_on();
    let append = append.await.expect("no panic");
    assert!(matches!(append, Err(AppendError::Unknown(_))), "it did count, so a denial would be a lie: {append:?}");
    assert!(storage.has(&key(SHARD, 2)), "the first of its row stays");
}

/// Asks while the answer about the next place is on its way, the log goes on, and all but the last entry is trimmed.
async fn ask_while_it_is_trimmed<T: Send + 'static>(faults: &[Fault], ask: impl FnOnce(Arc<ObjectLog>) -> BoxFuture<'static, T>) -> T {
    let storage = Storage::new();
    let (writer, slow) = (ObjectLog::new(storage.objects()), Arc::new(ObjectLog::new(storage.objects())));
    append_all(&writer, SHARD, &["1", "2"]).await;
    assert_eq!(texts(&slow, SHARD, 0).await, ["1", "2"]);
    storage.fail_reads(faults);
    let asked = tokio::spawn(ask(slow));
    while !storage.is_done() {
        tokio::task::yield_now().await;
    }
    append_all(&writer, SHARD, &["3", "4", "5"]).await;
    writer.trim(SHARD, Pos(4)).await.expect("it answers");
    storage.go_on();
    asked.await.expect("no panic")
}

#[tokio::test]
async fn a_place_that_is_trimmed_while_it_is_read_is_not_taken_for_the_end() {
    // Whether the answer about the place comes late, or the one about the mark after it.
    for faults in [&[Fault::Slow][..], &[Fault::None, Fault::Slow]] {
        let read = ask_while_it_is_trimmed(faults, |log| Box::pin(async move { log.read(SHARD, Pos(2), 1000).await })).await;
        assert_eq!(read, Err(ReadError::Trimmed(Pos(4))), "{faults:?}");
    }
}

#[tokio::test]
async fn a_place_that_is_trimmed_while_the_end_is_looked_for_is_not_taken_for_it() {
    // The mark is read, and then it takes long to hear what stands behind the last entry that was seen.
    let faults = [Fault::None, Fault::Slow];
    let bounds = ask_while_it_is_trimmed(&faults, |log| Box::pin(async move { log.bounds(SHARD).await })).await;
    assert_eq!(bounds, Ok(Bounds { trimmed: Pos(4), last: Pos(5) }));
}

#[tokio::test]
async fn an_entry_that_was_in_doubt_and_trimmed_may_have_counted_whatever_stands_there_now() {
    let storage = Storage::new();
    let (writer, other) = (ObjectLog::new(storage.objects()), ObjectLog::new(storage.objects()));
    append_all(&writer, SHARD, &["1", "2"]).await;
    // Its second attempt finds what a stale one left where the first had stood.
    let slow = Arc::new(writer);
    storage.fail_writes(&[Fault::AnswerLost]);
    storage.fail_reads(&[Fault::Slow]);
    let append = tokio::spawn({
        let slow = slow.clone();
        async move { slow.append(SHARD, Pos(2), bytes("3")).await }
    });
    while !storage.is_done() {
        tokio::task::yield_now().await;
    }
    assert_eq!(texts(&other, SHARD, 2).await, ["3"]);
    append_all(&other, SHARD, &["4"]).await;
    other.trim(SHARD, Pos(3)).await.expect("it answers");
    storage.put(&key(SHARD, 3), storage.content(&key(SHARD, 4)).expect("it stands"));
    storage.go_on();
    let append = append.await.expect("no panic");
    assert!(matches!(append, Err(AppendError::Unknown(_))), "{append:?}");
}

/// Many writers that sleep, lose answers and trim, from a seed. An auditor reads everything before it is trimmed.
struct World {
    storage: Storage,
    random: StdRng,
    clients: Vec<(ObjectLog, Pos)>,
    auditor: ObjectLog,
    entries: BTreeMap<u64, String>,
    acknowledged: Vec<(u64, String)>,
    denied: Vec<String>,
    next: u32,
    stale_at_trimmed: usize,
}

impl World {
    fn new(seed: u64) -> Self {
        let storage = Storage::new();
        let auditor = ObjectLog::new(storage.objects());
        let mut world = Self {
            storage,
            random: StdRng::seed_from_u64(seed),
            clients: Vec::new(),
            auditor,
            entries: BTreeMap::new(),
            acknowledged: Vec::new(),
            denied: Vec::new(),
            next: 0,
            stale_at_trimmed: 0,
        };
        world.clients = (0..4).map(|_| world.newcomer(Pos::START)).collect();
        world
    }

    fn newcomer(&self, at: Pos) -> (ObjectLog, Pos) {
        let patience = crate::objects::Patience { request: Duration::from_secs(5), call: Duration::from_millis(1) };
        (ObjectLog::new(self.storage.objects().with_patience(patience)), at)
    }

    async fn audit(&mut self) {
        let behind = Pos(self.entries.last_key_value().map_or(0, |(place, _)| *place));
        let found = self.auditor.read(SHARD, behind, 1 << 20).await.expect("the auditor is never behind a trim");
        for entry in found {
            let text = String::from_utf8(entry.bytes.to_vec()).expect("text");
            assert_eq!(self.entries.insert(entry.pos.0, text), None);
        }
    }

    async fn step(&mut self) {
        let who = self.random.random_range(0..self.clients.len());
        match self.random.random_range(0..100) {
            0..60 => self.append(who).await,
            60..80 => self.catch_up(who).await,
            80..90 => {
                self.audit().await;
                let last = self.entries.last_key_value().map_or(0, |(place, _)| *place);
                let upto = Pos(last.saturating_sub(self.random.random_range(0..4)));
                self.clients[who].0.trim(SHARD, upto).await.expect("the storage answers");
            }
            90..95 => self.clients[who] = self.newcomer(self.clients[who].1),
            _ => {
                self.storage.release().await;
            }
        }
    }

    async fn append(&mut self, who: usize) {
        let fault = match self.random.random_range(0..10) {
            0 => Fault::AnswerLost,
            1 => Fault::RequestLost,
            2 => Fault::Twice,
            3 => Fault::Held,
            4 => Fault::Meets,
            _ => Fault::None,
        };
        self.storage.fail_writes(&[fault]);
        self.next += 1;
        let text = self.next.to_string();
        let after = self.clients[who].1;
        // What the storage says of the place before: whether the hole is there that this is about.
        let is_free = self.entries.contains_key(&(after.0 + 1)) && !self.storage.has(&key(SHARD, after.0 + 1));
        self.stale_at_trimmed += usize::from(is_free);
        match self.clients[who].0.append(SHARD, after, bytes(&text)).await {
            Ok(place) => {
                assert_eq!(place.0, after.0 + 1);
                assert!(!is_free, "acknowledged at a place that was given before");
                self.acknowledged.push((place.0, text));
                self.clients[who].1 = place;
            }
            Err(AppendError::Conflict | AppendError::NotStored(_)) => self.denied.push(text),
            Err(AppendError::Unknown(_)) => {}
        }
        self.storage.heal();
    }

    async fn catch_up(&mut self, who: usize) {
        self.audit().await;
        let (log, at) = &self.clients[who];
        match log.read(SHARD, *at, 1 << 20).await {
            Ok(entries) => {
                let last = entries.last().map_or(*at, |entry| entry.pos);
                for entry in entries {
                    let audited = self.entries.get(&entry.pos.0).map(String::as_bytes);
                    assert_eq!(audited, Some(&entry.bytes[..]), "all read the same at {:?}", entry.pos);
                }
                self.clients[who].1 = last;
            }
            Err(ReadError::Trimmed(upto)) => self.clients[who].1 = upto,
            Err(error) => panic!("the storage answers: {error}"),
        }
    }

    async fn run(mut self) -> usize {
        for _ in 0..120 {
            self.step().await;
        }
        self.storage.release().await;
        self.audit().await;
        let places: Vec<u64> = self.entries.keys().copied().collect();
        assert_eq!(places, (1..=places.len() as u64).collect::<Vec<_>>(), "no gap");
        for (place, text) in &self.acknowledged {
            assert_eq!(self.entries.get(place), Some(text), "what was acknowledged stands at its place");
        }
        for text in &self.denied {
            assert!(!self.entries.values().any(|entry| entry == text), "{text} was denied, and stands");
        }
        self.stale_at_trimmed
    }
}

#[tokio::test]
async fn whoever_sleeps_and_whatever_is_lost_what_is_acknowledged_stands_and_what_is_denied_does_not() {
    let mut stale = 0;
    for seed in 0..300 {
        stale += World::new(seed).run().await;
    }
    assert!(stale > 300, "the place was free again only {stale} times");
}

//! Clients that ask again as soon as they are answered, over a storage of which each write takes long, by a clock of the test.

use super::*;
use crate::ids::ShardId;
use crate::shard::disk_guard::DiskLimits;
use crate::storage::memory::MemoryStorage;
use crate::storage::{Direction, Family, StorageError, Visitor};
use bytes::Bytes;
use core::ops::Range;
use prometheus_client::registry::Registry;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How long a client takes from its answer to its next request.
const WAY: Duration = Duration::from_millis(1);

#[derive(Default)]
struct World {
    now: Duration,
    staged: Option<mpsc::Sender<Commit>>,
    last: u64,
    /// When answered clients come again.
    due: Vec<Duration>,
    /// Requests that are left.
    left: usize,
    /// By write: when it began, and whom it answered.
    writes: Vec<(Duration, usize)>,
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<World>>);

impl Shared {
    fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A client asks, and asks again a way after it was answered, as long as requests are left.
    fn ask(&self) {
        let mut world = self.world();
        if world.left == 0 {
            return;
        }
        world.left -= 1;
        let mut commit = Commit::new(ShardId(0));
        commit.push(Mutation::Delete { family: Family::Meta, key: vec![0, 0, 1] });
        world.last = commit.complete(world.last, 0);
        let shared = self.clone();
        commit.on_written(move |written| {
            written.expect("it is written");
            let mut world = shared.world();
            let due = world.now + WAY;
            world.due.push(due);
            if let Some((_, answered)) = world.writes.last_mut() {
                *answered += 1;
            }
        });
        world.staged.as_ref().expect("it runs").try_send(commit).map_err(|_| "full").expect("there is room");
    }

    /// Time passes, and whose time has come asks.
    fn pass(&self, time: Duration) {
        let came = {
            let mut world = self.world();
            world.now += time;
            let now = world.now;
            let before = world.due.len();
            world.due.retain(|due| *due > now);
            before - world.due.len()
        };
        (0..came).for_each(|_| self.ask());
    }
}

impl Pace for Shared {
    fn now(&self) -> Duration {
        self.world().now
    }

    fn pause(&mut self, time: Duration) {
        self.pass(time);
    }

    fn first(&mut self, staged: &mut mpsc::Receiver<Commit>) -> Option<Commit> {
        loop {
            match staged.try_recv() {
                Ok(commit) => return Some(commit),
                Err(mpsc::error::TryRecvError::Disconnected) => return None,
                Err(mpsc::error::TryRecvError::Empty) => self.pass(LOOK_INTERVAL),
            }
        }
    }
}

struct Slow {
    shared: Shared,
    takes: Duration,
    content: MemoryStorage,
}

impl Storage for Slow {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        self.content.get(family, key)
    }

    fn scan(&self, family: Family, range: Range<&[u8]>, direction: Direction, visit: Visitor<'_>) -> Result<(), StorageError> {
        self.content.scan(family, range, direction, visit)
    }

    fn write(&self, mutations: &[Mutation], durability: Durability) -> Result<(), StorageError> {
        let began = self.shared.world().now;
        self.shared.world().writes.push((began, 0));
        // In small steps: clients come while it is under way.
        (0..self.takes.as_millis()).for_each(|_| self.shared.pass(Duration::from_millis(1)));
        self.content.write(mutations, durability)
    }
}

/// What became of so many requests of clients of which the first half begin before the others.
fn writes(takes: Duration, clients: usize, requests: usize) -> Vec<(Duration, usize)> {
    let (staged, mut receiver) = mpsc::channel(STAGED_COMMITS_MAX);
    let shared = Shared::default();
    {
        let mut world = shared.world();
        (world.staged, world.left) = (Some(staged), requests);
        // They come in the middle of the first write.
        world.due = vec![takes / 2; clients - clients / 2];
    }
    (0..clients / 2).for_each(|_| shared.ask());
    let metrics = Arc::new(Metrics::register(&mut Registry::default()));
    let disk = DiskGuard::new(DiskLimits::default(), metrics.disk.clone());
    let storage = Arc::new(Slow { shared: shared.clone(), takes, content: MemoryStorage::new() });
    let parts = CommitterParts {
        storage,
        stops: WriteStops::new(1),
        metrics,
        disk,
        draining: CancellationToken::new(),
        last_commits: vec![0],
        due: SyncDue::default(),
    };
    let mut committer = Committer::new(parts, shared.clone());
    let mut write = GroupWrite::default();
    loop {
        if shared.world().left == 0 {
            // Nobody asks any more, so the channel ends behind what is in it.
            shared.world().staged = None;
        }
        if !committer.collect(&mut receiver, &mut write) {
            break;
        }
        let result = committer.write(&write);
        write.completions.drain(..).for_each(|completion| completion(result.clone()));
        write.clear();
    }
    let written = std::mem::take(&mut shared.world().writes);
    assert_eq!(written.iter().map(|(_, answered)| answered).sum::<usize>(), requests, "each is answered");
    written
}

#[test]
fn clients_that_took_turns_are_written_together_where_a_write_takes_long() {
    let written = writes(Duration::from_millis(40), 8, 800);
    assert!(written.len() <= 110, "{} writes of at most 8 for 800 requests", written.len());
    assert_eq!(written.iter().filter(|(_, answered)| *answered == 8).count(), written.len() - 2, "but for the first and the last");
}

#[test]
fn nobody_is_waited_for_where_a_write_is_quick() {
    let written = writes(Duration::from_millis(2), 8, 800);
    let between: Vec<Duration> = written.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
    assert!(between.iter().all(|between| *between == Duration::from_millis(2)), "one after the other: {between:?}");
}

#[test]
fn a_client_alone_is_not_kept_waiting() {
    let written = writes(Duration::from_millis(40), 1, 100);
    assert!(written.windows(2).all(|pair| pair[1].0 - pair[0].0 <= Duration::from_millis(42)), "{written:?}");
}

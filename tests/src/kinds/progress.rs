//! How far the drill is, on stderr every ten seconds, and what it waits for if it waits for long.

use super::traffic::said;
use sagamq_sdk::SagaClient;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use uuid::Uuid;

/// The processes that are killed.
pub(super) const KILLED: [&str; 3] = ["broker", "stock", "bank"];

const EVERY: Duration = Duration::from_secs(10);

/// A saga that is waited for as long as this is shown.
const LONG: Duration = Duration::from_secs(30);

/// How many of these are shown at most, the oldest first.
const SHOWN: usize = 10;

/// How long the server may take to say what a saga waits for.
const ASKED: Duration = Duration::from_secs(2);

/// How far it is.
#[derive(Debug)]
pub(super) struct Progress {
    all: u64,
    began: Instant,
    now: Mutex<Now>,
}

#[derive(Debug, Default)]
struct Now {
    started: u64,
    /// What is waited for, under its key, and since when.
    open: BTreeMap<Uuid, (String, Instant)>,
    killed: [u64; KILLED.len()],
}

impl Progress {
    pub(super) fn new(all: u64) -> Self {
        Self { all, began: Instant::now(), now: Mutex::default() }
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn started(&self, saga: Uuid, key: &str) {
        self.now().started += 1;
        self.waits_for(saga, key);
    }

    pub(super) fn waits_for(&self, saga: Uuid, key: &str) {
        self.now().open.insert(saga, (key.to_owned(), Instant::now()));
    }

    pub(super) fn rests(&self, saga: Uuid) {
        self.now().open.remove(&saga);
    }

    /// One of [`KILLED`].
    pub(super) fn killed(&self, which: usize) {
        self.now().killed[which] += 1;
    }

    /// How often which was killed.
    pub(super) fn kills(&self) -> impl Iterator<Item = (String, u64)> {
        KILLED.map(|name| format!("{name} killed")).into_iter().zip(self.now().killed)
    }

    fn line(&self) -> String {
        let (seconds, now) = (self.began.elapsed().as_secs(), self.now());
        let (started, open) = (now.started, now.open.len());
        let mut line =
            format!("{seconds} s: {started} of {} sagas started, {} at rest, {open} waited for; killed:", self.all, started - open as u64);
        for (name, times) in KILLED.iter().zip(now.killed) {
            write!(line, " {name} {times}").expect("a string takes it");
        }
        line
    }

    /// What is waited for as long as this, the oldest first.
    fn waited_for(&self, long: Duration) -> Vec<(Uuid, String, Duration)> {
        // One reading of the clock for all, so that whoever waits longer is always in front.
        let (now, at) = (self.now(), Instant::now());
        let waited = now.open.iter().map(|(saga, (key, since))| (*saga, key.clone(), at.duration_since(*since)));
        let mut waited: Vec<_> = waited.filter(|(.., waited)| *waited >= long).collect();
        waited.sort_by_key(|(.., waited)| std::cmp::Reverse(*waited));
        waited
    }

    /// Tells of it until it is over.
    pub(super) async fn tell(&self, sagas: &SagaClient, mut over: watch::Receiver<bool>) {
        loop {
            tokio::select! {
                _ = over.wait_for(|is_over| *is_over) => return,
                () = tokio::time::sleep(EVERY) => {}
            }
            eprintln!("{}", self.line());
            for (saga, key, waited) in self.waited_for(LONG).into_iter().take(SHOWN) {
                let says = match tokio::time::timeout(ASKED, sagas.get(saga)).await {
                    Ok(Ok(shown)) => said(&shown),
                    Ok(Err(error)) => error.to_string(),
                    Err(_) => "the server does not say".to_owned(),
                };
                eprintln!("  for {} s: saga {saga} ({key}): {says}", waited.as_secs());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_counts_what_is_started_and_rests_and_knows_what_is_waited_for() {
        let (progress, [first, second]) = (Progress::new(3), [1, 2].map(Uuid::from_u128));
        let is_line = |line: &str| assert!(progress.line().ends_with(line), "{}", progress.line());
        progress.started(first, "o-1");
        progress.started(second, "o-2");
        progress.killed(0);
        is_line(": 2 of 3 sagas started, 0 at rest, 2 waited for; killed: broker 1 stock 0 bank 0");
        let waited_for = |long| progress.waited_for(long).into_iter().map(|(saga, key, _)| (saga, key)).collect::<Vec<_>>();
        assert_eq!(waited_for(Duration::ZERO), [(first, "o-1".to_owned()), (second, "o-2".to_owned())]);
        assert_eq!(waited_for(Duration::from_secs(3_600)), []);
        progress.rests(first);
        is_line(": 2 of 3 sagas started, 1 at rest, 1 waited for; killed: broker 1 stock 0 bank 0");
        // It is waited for again when it is undone late.
        progress.waits_for(first, "o-1");
        assert_eq!(waited_for(Duration::ZERO).len(), 2);
        assert_eq!(progress.kills().map(|(_, times)| times).collect::<Vec<_>>(), [1, 0, 0]);
    }
}

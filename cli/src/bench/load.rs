//! Sends requests over so many connections, as a schedule says or each after the answer to the one before, for a while that has an end.

use super::board::{Board, Moment, Outcome, Sample};
use super::schedule::{Schedule, pace};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// After so long with failures and not one success, the run of a server alone ends.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// The same where another server may take over.
pub const PATIENCE_WITH_SEVERAL: Duration = Duration::from_secs(30);

/// How long a sender waits after a failure before its next request in a closed loop: a server that is gone is not asked in a busy loop.
const PAUSE: Duration = Duration::from_millis(100);

/// Something that is sent again and again over a connection of its own.
pub trait Operation: Send + 'static {
    /// Does it once.
    fn run(&mut self, start: Start) -> impl Future<Output = Outcome> + Send;
}

/// Which request it is.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    /// Its number, from 0.
    pub index: u64,
    /// When it was meant to start, from the beginning of the run.
    pub intended: Duration,
}

/// How requests are sent.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// When requests are due; none: each connection sends after the answer to its last one.
    pub schedule: Option<Schedule>,
    /// How long the server is warmed up before what is measured begins.
    pub warmup: Duration,
    /// How long it is measured.
    pub duration: Duration,
    /// Most requests, the warm-up's included.
    pub count_max: Option<u64>,
    /// Length of an interval of the timeline.
    pub interval: Duration,
    /// After so long with failures and not one success it ends.
    pub patience: Duration,
}

/// Is told about every interval.
pub type Watch = Arc<dyn Fn(&Moment) + Send + Sync>;

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Its time was over.
    Duration,
    /// As many requests as were allowed were sent.
    Count,
    /// There was nothing left to do.
    Drained,
    /// Somebody stopped it.
    Interrupted,
    /// Nothing succeeded any more.
    GaveUp,
}

/// What became of the schedule.
#[derive(Clone, Copy, Debug)]
pub struct Loaded {
    /// Why it ended.
    pub ended: Ended,
    /// When.
    pub at: Duration,
    /// Requests that were due by then.
    pub due: u64,
    /// Requests that were sent.
    pub sent: u64,
}

struct Shared {
    plan: Plan,
    began: Instant,
    permits: Arc<Semaphore>,
    next: AtomicU64,
    sent: AtomicU64,
    /// Nothing new is started.
    closing: CancellationToken,
    board: Arc<Board>,
    drained: CancellationToken,
}

/// Sends until the plan is over, or `stop` says so. Each operation has a connection; what comes of a request goes to the first of `boards`,
/// and all of them are told when an interval is over. What was sent is waited for.
///
/// # Panics
/// When there is no board.
pub async fn run<O: Operation>(
    plan: Plan,
    began: Instant,
    operations: Vec<O>,
    boards: &[Arc<Board>],
    stop: &CancellationToken,
    watch: &Watch,
) -> Loaded {
    let shared = Arc::new(Shared {
        plan,
        began,
        permits: Arc::new(Semaphore::new(0)),
        next: AtomicU64::new(0),
        sent: AtomicU64::new(0),
        closing: CancellationToken::new(),
        board: Arc::clone(boards.first().expect("a run has a board")),
        drained: CancellationToken::new(),
    });
    let end = plan.warmup + plan.duration;
    let last = plan.count_max.unwrap_or(u64::MAX);
    let connections = operations.len();
    let pacer = plan.schedule.map(|schedule| {
        let (permits, closing, count) = (Arc::clone(&shared.permits), shared.closing.clone(), schedule.due(end).min(last));
        tokio::task::spawn_blocking(move || {
            pace(schedule, count, began, &permits, &closing);
            if count == last {
                // Those who wait for another request see that there is none.
                permits.add_permits(connections);
            }
        })
    });
    let mut senders = JoinSet::new();
    for (number, operation) in operations.into_iter().enumerate() {
        senders.spawn(send(number, operation, Arc::clone(&shared)));
    }
    let ended = wait(&shared, &mut senders, boards, stop, watch, end).await;
    let at = began.elapsed();
    shared.closing.cancel();
    // Requests end by themselves: each has a timeout.
    while let Some(sender) = senders.join_next().await {
        sender.expect("a sender does not panic");
    }
    if let Some(pacer) = pacer {
        pacer.await.expect("the pacer does not panic");
    }
    for board in boards {
        board.finish(began.elapsed());
    }
    let sent = shared.sent.load(Ordering::Relaxed);
    let due = plan.schedule.map_or(sent, |schedule| schedule.due(at.min(end)).min(last));
    Loaded { ended, at, due, sent }
}

/// Until it is over; why.
async fn wait(
    shared: &Shared,
    senders: &mut JoinSet<()>,
    boards: &[Arc<Board>],
    stop: &CancellationToken,
    watch: &Watch,
    end: Duration,
) -> Ended {
    let mut ticks = tokio::time::interval_at(shared.began + shared.plan.interval, shared.plan.interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut successes, mut failing_for) = (0, Duration::ZERO);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return Ended::Interrupted,
            () = shared.drained.cancelled() => return Ended::Drained,
            () = tokio::time::sleep_until(shared.began + end) => return Ended::Duration,
            Some(sender) = senders.join_next() => {
                sender.expect("a sender does not panic");
                // They end by themselves only when no request is left.
                if senders.is_empty() {
                    return if shared.drained.is_cancelled() { Ended::Drained } else { Ended::Count };
                }
            }
            _ = ticks.tick() => {
                let moment = shared.board.tick(shared.began.elapsed());
                for other in boards.iter().skip(1) {
                    other.tick(shared.began.elapsed());
                }
                watch(&moment);
                let is_failing = shared.board.successes() == successes && (moment.errors > 0 || !failing_for.is_zero());
                failing_for = if is_failing { failing_for + shared.plan.interval } else { Duration::ZERO };
                successes = shared.board.successes();
                if failing_for >= shared.plan.patience {
                    return Ended::GaveUp;
                }
            }
        }
    }
}

async fn send<O: Operation>(number: usize, mut operation: O, shared: Arc<Shared>) {
    let last = shared.plan.count_max.unwrap_or(u64::MAX);
    loop {
        if shared.plan.schedule.is_some() {
            tokio::select! {
                biased;
                () = shared.closing.cancelled() => return,
                permit = shared.permits.acquire() => permit.expect("it is never closed").forget(),
            }
        } else if shared.closing.is_cancelled() {
            return;
        }
        let index = shared.next.fetch_add(1, Ordering::Relaxed);
        if index >= last {
            return;
        }
        let sent = shared.began.elapsed();
        let intended = shared.plan.schedule.map_or(sent, |schedule| schedule.start_of(index));
        shared.sent.fetch_add(1, Ordering::Relaxed);
        let outcome = operation.run(Start { index, intended }).await;
        shared.board.record(number, &Sample { intended, sent, ended: shared.began.elapsed(), outcome });
        match outcome {
            Outcome::Over => {
                shared.drained.cancel();
                return;
            }
            Outcome::Failed(_) if shared.plan.schedule.is_none() => {
                tokio::select! {
                    () = shared.closing.cancelled() => {}
                    () = tokio::time::sleep(PAUSE) => {}
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes so long, and says what a test wants.
    struct Scripted<F>(Duration, F);

    impl<F: FnMut(u64) -> Outcome + Send + 'static> Operation for Scripted<F> {
        async fn run(&mut self, start: Start) -> Outcome {
            tokio::time::sleep(self.0).await;
            (self.1)(start.index)
        }
    }

    const DONE: Outcome = Outcome::Done { records: 1, bytes: 1 };

    fn plan(rate: Option<f64>) -> Plan {
        let ms = Duration::from_millis;
        let schedule = rate.map(|rate| Schedule::new(rate).expect("a rate"));
        Plan { schedule, warmup: Duration::ZERO, duration: ms(300), count_max: None, interval: ms(100), patience: PATIENCE }
    }

    async fn run_scripted(plan: Plan, connections: usize, took: Duration, outcome: fn(u64) -> Outcome) -> (Loaded, Arc<Board>) {
        let board = Arc::new(Board::new(plan.warmup));
        let operations = (0..connections).map(|_| Scripted(took, outcome)).collect();
        let watch: Watch = Arc::new(|_| {});
        let loaded = run(plan, Instant::now(), operations, &[Arc::clone(&board)], &CancellationToken::new(), &watch).await;
        (loaded, board)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_was_not_sent_in_time_is_told_and_what_was_counts_its_wait() {
        // One connection that takes 50 ms cannot do 100 a second.
        let plan = Plan { duration: Duration::from_secs(3), ..plan(Some(100.0)) };
        let (loaded, board) = run_scripted(plan, 1, Duration::from_millis(50), |_| DONE).await;
        assert_eq!((loaded.ended, loaded.due), (Ended::Duration, 301));
        assert!((1..=60).contains(&loaded.sent), "{loaded:?}");
        let total = board.total();
        assert_eq!(total.counts.requests, loaded.sent);
        assert!(total.latency.max() > total.service.max(), "what waits for the connection waits since it was due");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_count_ends_an_open_and_a_closed_loop() {
        for rate in [Some(1_000.0), None] {
            let plan = Plan { count_max: Some(20), duration: Duration::from_secs(600), ..plan(rate) };
            let (loaded, board) = run_scripted(plan, 3, Duration::ZERO, |_| DONE).await;
            assert_eq!((loaded.ended, loaded.sent, board.total().counts.requests), (Ended::Count, 20, 20), "{rate:?}");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_run_without_anything_to_do_ends() {
        let plan = Plan { duration: Duration::from_secs(600), ..plan(None) };
        let (loaded, board) = run_scripted(plan, 2, Duration::ZERO, |index| if index < 5 { DONE } else { Outcome::Over }).await;
        assert_eq!((loaded.ended, board.total().counts.requests), (Ended::Drained, 5));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_server_that_is_gone_is_given_up_and_not_asked_in_a_busy_loop() {
        let plan = Plan { duration: Duration::from_secs(600), ..plan(None) };
        let (loaded, board) = run_scripted(plan, 1, Duration::ZERO, |_| Outcome::Failed("UNREACHABLE")).await;
        assert_eq!(loaded.ended, Ended::GaveUp);
        let counts = board.total().counts;
        assert_eq!((counts.requests, counts.errors["UNREACHABLE"]), (0, loaded.sent));
        assert!(loaded.sent <= 2 * 10 * PATIENCE.as_secs(), "{loaded:?}");
    }
}

//! Threads that do for the owner what may take long: handlers, which wait for locks, and writes, which wait for the disk.

use super::request::Request;
use std::cell::Cell;
use std::sync::mpsc;
use std::thread::{Scope, panicking};

/// Most threads that are kept without work.
const IDLE_MAX: usize = 16;

thread_local! {
    /// Whether this thread belongs to a participant.
    static IS_OURS: Cell<bool> = const { Cell::new(false) };
}

/// Says that this thread belongs to a participant, so that it never waits for the participant's end.
pub(super) fn mark_as_ours() {
    IS_OURS.set(true);
}

/// Whether this thread belongs to a participant. A thread whose locals are gone may: it must not wait.
pub(super) fn is_ours() -> bool {
    IS_OURS.try_with(Cell::get).unwrap_or(true)
}

/// One thing to do, and what came of it.
pub(super) type Job<'db, T> = Box<dyn FnOnce() -> T + Send + 'db>;

/// Ends the process when a thread that holds transactions dies: they would be dropped, and with them the locks of what is in doubt.
pub(super) struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if panicking() {
            tracing::error!("a thread that holds transactions in doubt died; the process ends so that their locks are not let go");
            std::process::abort();
        }
    }
}

/// The threads. There are as many as are working at the same time, so no job waits for another one.
pub(super) struct Workers<'scope, 'db, T> {
    scope: &'scope Scope<'scope, 'db>,
    idle: Vec<mpsc::Sender<Task<'db, T>>>,
    finished: (mpsc::Sender<Finished<'db, T>>, mpsc::Receiver<Finished<'db, T>>),
    /// Tells the owner to look at what is finished.
    wake: mpsc::Sender<Request>,
}

/// A job on its way to a thread, with the way to that thread: whoever gives it back offers the thread again, and else the thread ends.
struct Task<'db, T> {
    job: Job<'db, T>,
    worker: mpsc::Sender<Task<'db, T>>,
}

/// What came of a job, and the way to the thread that is free now.
struct Finished<'db, T> {
    result: T,
    worker: mpsc::Sender<Task<'db, T>>,
}

impl<'scope, 'db: 'scope, T: Send + 'db> Workers<'scope, 'db, T> {
    pub(super) fn new(scope: &'scope Scope<'scope, 'db>, wake: mpsc::Sender<Request>) -> Self {
        Self { scope, idle: Vec::new(), finished: mpsc::channel(), wake }
    }

    /// Begins a job.
    pub(super) fn run(&mut self, job: Job<'db, T>) {
        let worker = self.idle.pop().unwrap_or_else(|| self.spawn());
        let task = Task { job, worker: worker.clone() };
        assert!(worker.send(task).is_ok(), "a worker lives as long as there is a sender to it");
    }

    /// The next result, if there is one.
    pub(super) fn finished(&mut self) -> Option<T> {
        let Finished { result, worker } = self.finished.1.try_recv().ok()?;
        if self.idle.len() < IDLE_MAX {
            self.idle.push(worker);
        }
        Some(result)
    }

    fn spawn(&self) -> mpsc::Sender<Task<'db, T>> {
        let (worker, tasks) = mpsc::channel::<Task<'db, T>>();
        let (finished, wake) = (self.finished.0.clone(), self.wake.clone());
        self.scope.spawn(move || {
            let _guard = AbortOnPanic;
            mark_as_ours();
            while let Ok(Task { job, worker }) = tasks.recv() {
                let result = job();
                if finished.send(Finished { result, worker }).is_err() || wake.send(Request::Wake).is_err() {
                    return;
                }
            }
        });
        worker
    }
}

//! Where definitions are compiled: on threads that may block, few at a time.

use std::sync::Arc;
use tokio::sync::Semaphore;

/// Definitions that are compiled at a time. A text of the largest size takes a good part of a second, and a core.
const COMPILES_MAX: usize = 2;

/// The place for it; who comes while it is full waits for a turn. Clones are the same one.
#[derive(Clone, Debug)]
pub(super) struct Compiler(Arc<Semaphore>);

impl Default for Compiler {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(COMPILES_MAX)))
    }
}

impl Compiler {
    pub(super) async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let turn = Arc::clone(&self.0).acquire_owned().await.expect("it is never closed");
        // The turn goes along: whoever asked may go, the work goes on to its end.
        let done = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            work()
        });
        done.await.expect("the compiler does not panic, and nobody aborts it")
    }
}

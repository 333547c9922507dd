//! Whether calls are held back: nothing leaves before somebody releases it.

use std::sync::Arc;
use tokio::sync::watch;

/// The one switch of an orchestrator; clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Hold(Arc<watch::Sender<bool>>);

impl Hold {
    pub(crate) fn new(is_held: bool) -> Self {
        Self(Arc::new(watch::Sender::new(is_held)))
    }

    pub(crate) fn is_held(&self) -> bool {
        *self.0.borrow()
    }

    /// Lets everything go. `false`: nothing was held.
    pub(crate) fn release(&self) -> bool {
        self.0.send_if_modified(core::mem::take)
    }

    /// Returns when nothing is held.
    pub(crate) async fn released(&self) {
        if self.is_held() {
            // The sender is in our hands, so it is there.
            let _ = self.0.subscribe().wait_for(|is_held| !is_held).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_waits_goes_on_when_it_is_released_once() {
        let hold = Hold::new(true);
        let waiting = tokio::spawn({
            let hold = hold.clone();
            async move { hold.released().await }
        });
        tokio::task::yield_now().await;
        assert!(hold.is_held() && !waiting.is_finished());
        assert_eq!((hold.release(), hold.release(), hold.is_held()), (true, false, false));
        waiting.await.expect("no panic");
        hold.released().await;
    }
}

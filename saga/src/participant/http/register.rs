//! Calls to HTTP participants that are in progress: whether each was sent, and the way to take back one that was not.
//!
//! The register lives as long as the process. A call that an earlier process decided may have been sent by it. It waits in its queue as if it had not
//! been, and its time begins when this process sends it; but it cannot be taken back any more.

use super::held::Held;
use crate::protocol::HandOut;
use sagamq_api::saga::AttemptId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// The register; clones are the same one.
#[derive(Clone, Debug, Default)]
pub(in crate::participant) struct HttpCalls(Arc<Mutex<HashMap<AttemptId, HttpCall>>>);

#[derive(Debug)]
struct HttpCall {
    /// When this process sent it, in milliseconds since 1970; `None`: it waits in its queue.
    sent_ms: Option<u64>,
    /// Whether an earlier process may have sent it.
    may_be_sent: bool,
    /// Whether the participant has it for certain.
    was_answered: bool,
    /// Whether somebody was told that it was sent.
    is_seen: bool,
    is_withdrawn: bool,
    /// Told when it is not withdrawn any more.
    restored: Arc<Notify>,
    /// What it waits behind, if that is a bound of its service.
    held: Option<Held>,
    /// Ends the call's task.
    over: CancellationToken,
}

impl HttpCalls {
    fn lock(&self) -> MutexGuard<'_, HashMap<AttemptId, HttpCall>> {
        // Every change under this lock is a single assignment, so a panic elsewhere leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a call in. The token is cancelled when the call is over.
    pub(in crate::participant) fn enter(&self, attempt: AttemptId, may_be_sent: bool) -> CancellationToken {
        let over = CancellationToken::new();
        let call = HttpCall {
            sent_ms: None,
            may_be_sent,
            was_answered: false,
            is_seen: false,
            is_withdrawn: false,
            restored: Arc::default(),
            held: None,
            over: over.clone(),
        };
        if let Some(before) = self.lock().insert(attempt, call) {
            before.over.cancel();
        }
        over
    }

    /// From this moment on the call may be on its way; gives when that began. `None`: it was taken back, and must not be sent.
    pub(in crate::participant) fn begin(&self, attempt: &AttemptId, now_ms: u64) -> Option<u64> {
        let mut calls = self.lock();
        let call = calls.get_mut(attempt).filter(|call| !call.is_withdrawn)?;
        call.held = None;
        Some(*call.sent_ms.get_or_insert(now_ms))
    }

    /// Returns when a call that was taken back may be made after all. For one that is over that is never.
    pub(in crate::participant) async fn restored(&self, attempt: &AttemptId) {
        let restored = self.lock().get(attempt).map(|call| Arc::clone(&call.restored));
        match restored {
            // It keeps that for who comes late.
            Some(restored) => restored.notified().await,
            None => core::future::pending().await,
        }
    }

    /// A bound of its service holds it back from now on, or none does.
    pub(in crate::participant) fn hold(&self, attempt: &AttemptId, held: Option<Held>) {
        if let Some(call) = self.lock().get_mut(attempt) {
            call.held = held;
        }
    }

    /// What holds it back.
    pub(in crate::participant) fn held(&self, attempt: &AttemptId) -> Option<Held> {
        self.lock().get(attempt)?.held.clone()
    }

    /// No connection came about, so this process has not sent it; the call waits again. Gives whether somebody was told meanwhile that it was sent.
    /// `None`: the participant has it.
    pub(in crate::participant) fn not_sent(&self, attempt: &AttemptId) -> Option<bool> {
        let mut calls = self.lock();
        let call = calls.get_mut(attempt).filter(|call| !call.was_answered)?;
        call.sent_ms.take()?;
        Some(core::mem::take(&mut call.is_seen))
    }

    /// The call was answered, though not for good: from now on, no refused connection says that it was not sent.
    pub(in crate::participant) fn was_sent(&self, attempt: &AttemptId) {
        if let Some(call) = self.lock().get_mut(attempt) {
            call.was_answered = true;
        }
    }

    /// Whether it was sent; unknown for one that is not there.
    pub(in crate::participant) fn hand_out(&self, attempt: &AttemptId) -> HandOut {
        let mut calls = self.lock();
        let Some(call) = calls.get_mut(attempt) else { return HandOut::Unknown };
        call.is_seen |= call.sent_ms.is_some();
        match call.sent_ms {
            Some(sent_ms) => HandOut::At(sent_ms),
            None if call.may_be_sent => HandOut::Again,
            None => HandOut::Never,
        }
    }

    /// Takes a call back that was not sent: it will not be, unless it is [restored](Self::restore). `false`: it may be on its way.
    pub(in crate::participant) fn withdraw(&self, attempt: &AttemptId) -> bool {
        let mut calls = self.lock();
        let Some(call) = calls.get_mut(attempt).filter(|call| call.sent_ms.is_none() && !call.may_be_sent) else { return false };
        call.is_withdrawn = true;
        true
    }

    /// What took the call back did not come about: it is made after all.
    pub(in crate::participant) fn restore(&self, attempt: &AttemptId) {
        if let Some(call) = self.lock().get_mut(attempt).filter(|call| call.is_withdrawn) {
            call.is_withdrawn = false;
            call.restored.notify_one();
        }
    }

    /// The attempt is over: its task ends.
    pub(in crate::participant) fn end(&self, attempt: &AttemptId) {
        if let Some(call) = self.lock().remove(attempt) {
            call.over.cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sagamq_api::saga::Operation;
    use uuid::Uuid;

    fn attempt() -> AttemptId {
        AttemptId { instance: Uuid::nil(), step: "a".parse().expect("legal"), item: None, operation: Operation::Action, epoch: 1 }
    }

    #[test]
    fn a_call_is_taken_back_or_begun_and_never_both() {
        let (calls, attempt) = (HttpCalls::default(), attempt());
        assert_eq!((calls.hand_out(&attempt), calls.begin(&attempt, 5)), (HandOut::Unknown, None));
        let over = calls.enter(attempt.clone(), false);
        assert_eq!(calls.hand_out(&attempt), HandOut::Never);
        assert_eq!(calls.begin(&attempt, 5), Some(5));
        assert_eq!((calls.hand_out(&attempt), calls.withdraw(&attempt)), (HandOut::At(5), false));
        assert_eq!(calls.not_sent(&attempt), Some(true), "somebody was told that it was sent");
        assert_eq!((calls.begin(&attempt, 5), calls.not_sent(&attempt)), (Some(5), Some(false)), "and this time nobody was");
        assert!(calls.withdraw(&attempt) && !over.is_cancelled(), "it may yet be made");
        assert_eq!(calls.begin(&attempt, 6), None, "what was taken back is not sent");
        assert!(calls.withdraw(&attempt), "taking it back again is the same");
        calls.end(&attempt);
        assert!(over.is_cancelled());
    }

    #[test]
    fn what_an_earlier_process_may_have_sent_waits_for_its_turn_and_cannot_be_taken_back() {
        let (calls, attempt) = (HttpCalls::default(), attempt());
        calls.enter(attempt.clone(), true);
        assert_eq!((calls.hand_out(&attempt), calls.withdraw(&attempt)), (HandOut::Again, false));
        assert_eq!((calls.begin(&attempt, 8), calls.hand_out(&attempt)), (Some(8), HandOut::At(8)), "its time begins when it is sent");
        assert_eq!(
            (calls.not_sent(&attempt), calls.hand_out(&attempt)),
            (Some(true), HandOut::Again),
            "a refused connection is no attempt"
        );
        assert_eq!(calls.begin(&attempt, 9), Some(9));
        calls.was_sent(&attempt);
        assert_eq!((calls.not_sent(&attempt), calls.hand_out(&attempt)), (None, HandOut::At(9)), "the participant has it");
    }

    #[tokio::test]
    async fn a_call_that_was_taken_back_for_nothing_is_made() {
        let (calls, attempt) = (HttpCalls::default(), attempt());
        calls.enter(attempt.clone(), false);
        calls.restore(&attempt);
        assert!(calls.withdraw(&attempt));
        let restored = calls.restored(&attempt);
        let mut restored = core::pin::pin!(restored);
        assert!(futures_util::poll!(restored.as_mut()).is_pending(), "who was not taken back was not restored");
        calls.restore(&attempt);
        restored.await;
        assert_eq!(calls.begin(&attempt, 6), Some(6));
        // It was restored before anybody waited for that.
        assert!(!calls.withdraw(&attempt) && calls.not_sent(&attempt).is_some() && calls.withdraw(&attempt));
        calls.restore(&attempt);
        calls.restored(&attempt).await;
    }
}

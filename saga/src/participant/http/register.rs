//! Calls to HTTP participants that are in progress: whether each was sent, and the way to take back one that was not.
//!
//! The register lives as long as the process. A call that an earlier process began is in doubt: it may have been sent then, and its time
//! begins anew, so that the participant is asked once more before time says anything.

use super::held::Held;
use crate::protocol::HandOut;
use sagamq_api::saga::AttemptId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio_util::sync::CancellationToken;

/// The register; clones are the same one.
#[derive(Clone, Debug, Default)]
pub(in crate::participant) struct HttpCalls(Arc<Mutex<HashMap<AttemptId, HttpCall>>>);

#[derive(Debug)]
struct HttpCall {
    /// When it was sent, in milliseconds since 1970; `None`: it waits in its queue.
    sent_ms: Option<u64>,
    is_in_doubt: bool,
    /// Whether somebody was told that it was sent.
    is_seen: bool,
    is_withdrawn: bool,
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

    /// Takes a call in. The token is cancelled when the call is over or withdrawn.
    pub(in crate::participant) fn enter(&self, attempt: AttemptId, is_in_doubt: bool, now_ms: u64) -> CancellationToken {
        let over = CancellationToken::new();
        let sent_ms = is_in_doubt.then_some(now_ms);
        let call = HttpCall { sent_ms, is_in_doubt, is_seen: false, is_withdrawn: false, held: None, over: over.clone() };
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

    /// The time of a call that an earlier process may have sent begins anew: it was held back, and its participant is asked only now.
    pub(in crate::participant) fn ask_anew(&self, attempt: &AttemptId, now_ms: u64) {
        if let Some(call) = self.lock().get_mut(attempt).filter(|call| call.is_in_doubt) {
            call.sent_ms = Some(now_ms);
        }
    }

    /// No connection came about, so nothing was sent; the call waits again. Gives whether somebody was told meanwhile that it was sent. `None`: it was
    /// or may have been sent at another time.
    pub(in crate::participant) fn not_sent(&self, attempt: &AttemptId) -> Option<bool> {
        let mut calls = self.lock();
        let call = calls.get_mut(attempt).filter(|call| !call.is_in_doubt)?;
        call.sent_ms.take()?;
        Some(core::mem::take(&mut call.is_seen))
    }

    /// The call was answered, though not for good: from now on, no refused connection says that it was not sent.
    pub(in crate::participant) fn was_sent(&self, attempt: &AttemptId) {
        if let Some(call) = self.lock().get_mut(attempt) {
            call.is_in_doubt = true;
        }
    }

    /// Whether it was sent; unknown for one that is not there.
    pub(in crate::participant) fn hand_out(&self, attempt: &AttemptId) -> HandOut {
        let mut calls = self.lock();
        let Some(call) = calls.get_mut(attempt) else { return HandOut::Unknown };
        call.is_seen |= call.sent_ms.is_some();
        call.sent_ms.map_or(HandOut::Never, HandOut::At)
    }

    /// Takes a call back that was not sent: it never will be. `false`: it may be on its way.
    pub(in crate::participant) fn withdraw(&self, attempt: &AttemptId) -> bool {
        let mut calls = self.lock();
        let Some(call) = calls.get_mut(attempt).filter(|call| call.sent_ms.is_none()) else { return false };
        call.is_withdrawn = true;
        call.over.cancel();
        true
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

    #[test]
    fn a_call_is_taken_back_or_begun_and_never_both() {
        let calls = HttpCalls::default();
        let attempt =
            AttemptId { instance: Uuid::nil(), step: "a".parse().expect("legal"), item: None, operation: Operation::Action, epoch: 1 };
        assert_eq!((calls.hand_out(&attempt), calls.begin(&attempt, 5)), (HandOut::Unknown, None));
        let over = calls.enter(attempt.clone(), false, 4);
        assert_eq!(calls.hand_out(&attempt), HandOut::Never);
        assert_eq!(calls.begin(&attempt, 5), Some(5));
        assert_eq!((calls.hand_out(&attempt), calls.withdraw(&attempt)), (HandOut::At(5), false));
        assert_eq!(calls.not_sent(&attempt), Some(true), "somebody was told that it was sent");
        assert_eq!((calls.begin(&attempt, 5), calls.not_sent(&attempt)), (Some(5), Some(false)), "and this time nobody was");
        assert!(calls.withdraw(&attempt) && over.is_cancelled());
        assert_eq!(calls.begin(&attempt, 6), None, "what was taken back is not sent");
        assert!(calls.withdraw(&attempt), "taking it back again is the same");
        calls.end(&attempt);
        calls.enter(attempt.clone(), true, 7);
        assert_eq!((calls.begin(&attempt, 8), calls.not_sent(&attempt)), (Some(7), None));
        assert_eq!((calls.hand_out(&attempt), calls.withdraw(&attempt)), (HandOut::At(7), false), "an earlier process may have sent it");
    }
}

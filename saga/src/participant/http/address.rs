//! Where the worker is that has the branch of a transaction open: what the answer to its first action says, in a header.
//!
//! All further calls of the branch go there, so it is as good as a URL of the definition: its host must be allowed, and it must be a base.

use super::credentials::Ready;
use super::progress::Progress;
use crate::dsl::base_url;
use crate::protocol::BranchAddress;
use http::{HeaderMap, HeaderValue};
use sagamq_api::headers::saga::BRANCH_ADDRESS;
use sagamq_api::saga::{Call, CallOutcome, Failure, Operation};

/// The code of an address that cannot be called.
const INVALID: &str = "BRANCH_ADDRESS_INVALID";

/// The address of an answer, or why it is none; `forbids` says why a base URL must not be called. It is kept, so nothing that was shown with the
/// call may stand in it.
pub(super) fn address_of(
    headers: &HeaderMap,
    call: &Call,
    shown: &Ready,
    forbids: impl FnOnce(&str) -> Option<Failure>,
) -> Option<Result<String, Failure>> {
    // To others, the header is nothing of ours.
    if call.transaction.is_none() || call.attempt.operation != Operation::Action {
        return None;
    }
    Some(read(headers.get(BRANCH_ADDRESS)?, shown).and_then(|base| match forbids(&base) {
        None => Ok(base),
        Some(failure) => Err(failure),
    }))
}

fn read(header: &HeaderValue, shown: &Ready) -> Result<String, Failure> {
    let invalid = |reason: String| Failure { code: INVALID.to_owned(), message: format!("`{BRANCH_ADDRESS}` of the answer: {reason}") };
    if shown.is_repeated_in(header.as_bytes()) {
        return Err(invalid("it repeats a secret that the call has shown".to_owned()));
    }
    let text = header.to_str().map_err(|_| invalid("it is no text".to_owned()))?;
    base_url(text).map_err(|reason| invalid(format!("`{text}` cannot be called: {reason}")))
}

/// The word with the address that came with it. Whoever cannot be found again has an unknown outcome: what it did can be neither voted for nor
/// ended by anybody else.
///
/// `is_foreign`: it was called where a definition says, and so is whatever worker it names.
pub(super) fn located(progress: Progress, address: Option<Result<String, Failure>>, is_foreign: bool) -> Progress {
    match (progress, address) {
        (Progress::Word { reply, note, .. }, Some(Ok(base))) => {
            Progress::Word { reply, note, branch_address: Some(BranchAddress { base, is_foreign }) }
        }
        (Progress::Word { reply: CallOutcome::Succeeded { .. }, note, .. }, Some(Err(failure))) => {
            Progress::Word { reply: CallOutcome::Unknown { failure, retry_after_ms: None }, note, branch_address: None }
        }
        (progress, _) => progress,
    }
}

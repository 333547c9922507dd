//! Codes of failures that the orchestrator itself finds.

/// An attempt had no answer at its deadline.
pub const TIMEOUT: &str = "TIMEOUT";
/// The saga had not passed its pivot when its time was over.
pub const SAGA_TIMEOUT: &str = "SAGA_TIMEOUT";
/// The call was not handed to its participant before the saga was to be undone, or the participant cannot be reached.
pub const NOT_SENT: &str = "NOT_SENT";
/// The server's settings do not allow the participant's host, so the call is not made.
pub const PARTICIPANT_HOST_NOT_ALLOWED: &str = "PARTICIPANT_HOST_NOT_ALLOWED";
/// The service may not be called by the saga's definition, so the call is not made.
pub const SERVICE_NOT_ALLOWED: &str = "SERVICE_NOT_ALLOWED";
/// A secret or a certificate that the service is shown is not there or cannot be used, so the call is not made until it can.
pub const SECRET_UNAVAILABLE: &str = "SECRET_UNAVAILABLE";
/// The service has no address, so the call is not made until it has one.
pub const NO_ADDRESS: &str = "NO_ADDRESS";
/// No endpoint of the service can be connected to, so the call waits until one is tried again.
pub const ENDPOINTS_EJECTED: &str = "ENDPOINTS_EJECTED";
/// Too many calls to the service in a row had no answer, so the call waits until one has tried again.
pub const BREAKER_OPEN: &str = "BREAKER_OPEN";
/// The call was not handed to its participant within the step's `queue_timeout`.
pub const QUEUE_TIMEOUT: &str = "QUEUE_TIMEOUT";
/// A signal had not come when the step's time for it was over.
pub const SIGNAL_TIMEOUT: &str = "SIGNAL_TIMEOUT";
/// A step that slept need not any more: the saga is undone, or an operator ended it.
pub const SLEEP_ENDED: &str = "SLEEP_ENDED";
/// A step had not got its lock when its time for it was over.
pub const LOCK_TIMEOUT: &str = "LOCK_TIMEOUT";
/// As many sagas as may be wait for the lock already.
pub const LOCK_QUEUE_FULL: &str = "LOCK_QUEUE_FULL";
/// Sagas wait for each other's locks in a circle, and this one gives way.
pub const LOCK_DEADLOCK: &str = "LOCK_DEADLOCK";
/// The transaction was not decided when its time was over.
pub const TRANSACTION_TIMEOUT: &str = "TRANSACTION_TIMEOUT";
/// The server was started again before the transaction was decided.
pub const COORDINATOR_RESTARTED: &str = "COORDINATOR_RESTARTED";
/// The answer to a call for a vote is no vote.
pub const VOTE_INVALID: &str = "VOTE_INVALID";
/// A branch voted, and then voted otherwise.
pub const VOTE_CHANGED: &str = "VOTE_CHANGED";
/// An operator said what is true: of a step, or of the only branch of a transaction, which had the decision.
pub const RESOLVED: &str = "RESOLVED";
/// Somebody cancelled the saga.
pub const CANCELLED: &str = "CANCELLED";
/// An operator ended the saga: nothing more is called, and nothing is undone.
pub const TERMINATED: &str = "TERMINATED";
/// A compensation cannot finish.
pub const COMPENSATION_FAILED: &str = "COMPENSATION_FAILED";
/// An expression had no value at run time.
pub const EXPRESSION_FAILED: &str = "EXPRESSION_FAILED";
/// The list of a step that fans out has more items than a step, or an instance, may have.
pub const FAN_OUT_TOO_LARGE: &str = "FAN_OUT_TOO_LARGE";
/// The condition of a step had no value at run time, or one that is neither true nor false.
pub const CONDITION_FAILED: &str = "CONDITION_FAILED";
/// What was rendered or returned is larger than a saga's payload may be.
pub const PAYLOAD_TOO_LARGE: &str = "PAYLOAD_TOO_LARGE";
/// What was returned nests deeper than a saga's payload may.
pub const PAYLOAD_TOO_DEEP: &str = "PAYLOAD_TOO_DEEP";
/// The instance came near the bound of events before its pivot.
pub const TOO_MANY_EVENTS: &str = "TOO_MANY_EVENTS";

/// An operator said that a step was done for which neither a sub-saga nor an item was ever called: nobody can be asked to undo that.
pub const DONE_BY_HAND: &str = "DONE_BY_HAND";

/// A sub-saga cannot be undone: it has passed its pivot.
pub const CHILD_PAST_PIVOT: &str = "CHILD_PAST_PIVOT";
/// A sub-saga was ended by an operator as it was: its effects may stand, and nobody undoes them.
pub const CHILD_TERMINATED: &str = "CHILD_TERMINATED";
/// A sub-saga cannot be looked at: it was removed, or is set aside.
pub const CHILD_LOST: &str = "CHILD_LOST";
/// The parent of a sub-saga is undone.
pub const PARENT_UNDONE: &str = "PARENT_UNDONE";
/// Sub-sagas nest deeper than they may.
pub const SAGA_TOO_DEEP: &str = "SAGA_TOO_DEEP";

/// A participant does not know the branch: it never had it, or lost it.
pub const BRANCH_UNKNOWN: &str = "BRANCH_UNKNOWN";
/// A participant has rolled the branch back.
pub const BRANCH_ROLLED_BACK: &str = "BRANCH_ROLLED_BACK";
/// A participant has committed the branch.
pub const BRANCH_COMMITTED: &str = "BRANCH_COMMITTED";

//! Signals: what somebody outside tells an instance that waits for it, by its id or by its business key. The key names the lane, as with a
//! start, so there is nobody to ask on the way.

use super::bounds::require_bounds;
use super::door::Orchestrator;
use super::lane::{Addressee, LaneInput};
use super::operate::{OperateError, by};
use crate::protocol::Signal;
use sagamq_api::limits::SIGNAL_ID_BYTES_MAX;
use sagamq_api::saga::{SendSignal, SendSignalByKey, SentSignal};
use uuid::Uuid;

/// Why a signal was not taken.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SignalError {
    /// Its id is empty or too long.
    #[error("`signal_id` has {0} bytes, allowed are 1 to {SIGNAL_ID_BYTES_MAX}")]
    IdLength(usize),
    /// The header and the body say two ids.
    #[error("the header `Idempotency-Key` and `signal_id` differ: say one of them")]
    TwoIds,
    /// What comes with it does not fit, or the instance does not take it.
    #[error(transparent)]
    Refused(#[from] OperateError),
}

impl Orchestrator {
    /// Gives a signal to an instance, once by its id. Durable when it returns.
    ///
    /// # Errors
    /// When there is no such instance, no step of it waits for the signal, or what comes with it does not fit.
    pub async fn signal(&self, id: Uuid, signal: SendSignal, key: Option<String>) -> Result<SentSignal, SignalError> {
        let signal = checked(signal, key)?;
        let lane = self.lane(id).map_err(OperateError::from)?;
        let answer = lane.ask(|reply| LaneInput::Signal { to: Addressee::Id(id), signal, reply }).await;
        Ok(answer.map_err(OperateError::from)?)
    }

    /// The same to the instance that a business key started last.
    ///
    /// # Errors
    /// As [`Orchestrator::signal`], and when the key has started none.
    pub async fn signal_by_key(&self, request: SendSignalByKey, key: Option<String>) -> Result<SentSignal, SignalError> {
        let to = Addressee::Key(request.saga.clone(), request.key.clone());
        let lane = usize::from(self.lane_of_key(&request.saga, &request.key));
        let signal = checked(request.into_signal(), key)?;
        let answer = self.0.lanes[lane].ask(|reply| LaneInput::Signal { to, signal, reply }).await;
        Ok(answer.map_err(OperateError::from)?)
    }
}

/// What the protocol is told of a request.
fn checked(request: SendSignal, key: Option<String>) -> Result<Box<Signal>, SignalError> {
    let SendSignal { name, payload, signal_id, actor, reason } = request;
    let id = match (signal_id, key) {
        (Some(id), Some(key)) if id != key => return Err(SignalError::TwoIds),
        (id, key) => id.or(key),
    };
    if let Some(bytes) = id.as_ref().map(String::len).filter(|bytes| !(1..=SIGNAL_ID_BYTES_MAX).contains(bytes)) {
        return Err(SignalError::IdLength(bytes));
    }
    require_bounds(&payload).map_err(|error| OperateError::OutOfBounds { field: "payload", error })?;
    Ok(Box::new(Signal { name, id, payload, by: by(actor, reason)? }))
}

//! One budget of memory for all request bodies: a body is let in before it is read, and waits for its turn if the budget is taken.
//!
//! Turns are taken in the order of asking, so a large body is not overtaken for ever by small ones. Who waits too long is refused with
//! 429; nothing of his body was read. What a request has taken is given back when it is answered, or when it turned out to be small.
//!
//! A short body can need much more than its length: millions of empty records, or of headers of two bytes, or compressed records. That is
//! estimated when the body is there and comes out of a second budget. The two are always taken in this order, so that requests cannot wait for each other in a circle.

use crate::web::config::HttpConfig;
use crate::web::problem::ApiError;
use crate::web::quota::Meter;
use axum::body::Body;
use core::time::Duration;
use sagamq_api::ErrorCode;
use sagamq_api::limits::{BODY_BYTES_MAX, DECOMPRESSED_BYTES_MAX, PRODUCE_HEADERS_MAX, PRODUCE_RECORDS_MAX};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// What the shortest body counts: the request itself takes memory.
const BODY_BYTES_LEAST: usize = 4 * 1024;

/// Up to this length what a body has taken is given back when it is read, so that long polls do not hold the budget.
const SMALL_BODY_BYTES: usize = 16 * 1024;

/// The slowest client that is waited for.
const BODY_BYTES_PER_SECOND: u64 = 512 * 1024;

/// The second budget, for what bodies take beyond their length.
const PARSED_BYTES_MAX: usize = 64 << 20;

/// What a record takes while it is worked on and answered, whatever is in it.
const RECORD_BYTES: usize = 512;

/// What a short text takes while it is worked on. A header has two.
const TEXT_BYTES: usize = 64;

const _: () = assert!(
    PRODUCE_RECORDS_MAX * RECORD_BYTES + 2 * PRODUCE_HEADERS_MAX * TEXT_BYTES <= PARSED_BYTES_MAX,
    "one request must fit the budget"
);
const _: () = assert!(DECOMPRESSED_BYTES_MAX <= PARSED_BYTES_MAX, "a batch must fit the budget");
const _: () = assert!(BODY_BYTES_MAX <= u32::MAX as usize, "semaphores count in 32 bits");

/// The budgets.
#[derive(Debug)]
pub(super) struct Admission {
    bodies: Arc<Semaphore>,
    parsed: Arc<Semaphore>,
    bodies_max: usize,
    turn_wait: Duration,
    body_time: Duration,
    draining: CancellationToken,
}

impl Admission {
    pub(super) fn new(config: &HttpConfig) -> Self {
        let bodies_max = config.body_bytes_max.clamp(HttpConfig::BODY_BYTES_MIN, u32::MAX as usize);
        Self {
            bodies: Arc::new(Semaphore::new(bodies_max)),
            parsed: Arc::new(Semaphore::new(PARSED_BYTES_MAX)),
            bodies_max,
            turn_wait: config.turn_wait,
            body_time: config.body_time,
            draining: config.draining.clone(),
        }
    }

    /// Waits for a turn at a budget.
    async fn turn(&self, budget: &Arc<Semaphore>, bytes: usize, max: usize) -> Result<OwnedSemaphorePermit, ApiError> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        // Nothing is free while somebody waits, so nobody is overtaken.
        if let Ok(permit) = Arc::clone(budget).try_acquire_many_owned(bytes) {
            return Ok(permit);
        }
        let turn = tokio::time::timeout(self.turn_wait, Arc::clone(budget).acquire_many_owned(bytes));
        let turn = tokio::select! {
            turn = turn => turn,
            () = self.draining.cancelled() => return Err(draining()),
        };
        let Ok(Ok(permit)) = turn else {
            let detail =
                format!("requests of more than {max} bytes together are being worked on, and there was no turn for this one: try again");
            return Err(ApiError::new(ErrorCode::Overloaded, detail));
        };
        Ok(permit)
    }
}

/// What one request has taken of the budgets, in its extensions. It is given back when the request is answered, or with the last clone when
/// its client went away.
#[derive(Clone, Debug)]
pub(super) struct Ticket(Arc<Taking>);

#[derive(Debug)]
struct Taking {
    admission: Arc<Admission>,
    /// Whom its bytes are charged to.
    meter: Option<Meter>,
    taken: Mutex<Taken>,
}

/// One share of each budget.
#[derive(Debug, Default)]
struct Taken {
    body: Option<OwnedSemaphorePermit>,
    parsed: Option<OwnedSemaphorePermit>,
}

impl Ticket {
    pub(super) fn new(admission: &Arc<Admission>, meter: Option<Meter>) -> Self {
        Self(Arc::new(Taking { admission: Arc::clone(admission), meter, taken: Mutex::default() }))
    }

    /// Takes memory for a body of at most this length.
    ///
    /// # Errors
    /// When the budget stays taken, or the server is about to end.
    pub(super) async fn admit(&self, bytes: usize) -> Result<(), ApiError> {
        let admission = &self.0.admission;
        let bytes = bytes.clamp(BODY_BYTES_LEAST, admission.bodies_max);
        let permit = admission.turn(&admission.bodies, bytes, admission.bodies_max).await?;
        self.taken().body = Some(permit);
        Ok(())
    }

    /// Takes memory for what is in the body, if that is much more than its length.
    ///
    /// # Errors
    /// As [`Self::admit`].
    pub(super) async fn parse(&self, body: &[u8]) -> Result<(), ApiError> {
        let bytes = parsed_bytes(body);
        if bytes <= body.len() || body.len() <= BODY_BYTES_LEAST {
            return Ok(());
        }
        let admission = &self.0.admission;
        let permit = admission.turn(&admission.parsed, bytes, PARSED_BYTES_MAX).await?;
        self.taken().parsed = Some(permit);
        Ok(())
    }

    /// Takes memory for what a compressed body becomes while it is looked at, in bytes.
    ///
    /// # Errors
    /// As [`Self::admit`].
    pub(super) async fn unpack(&self, bytes: usize) -> Result<(), ApiError> {
        if bytes == 0 {
            return Ok(());
        }
        let admission = &self.0.admission;
        let permit = admission.turn(&admission.parsed, bytes.min(PARSED_BYTES_MAX), PARSED_BYTES_MAX).await?;
        self.taken().parsed = Some(permit);
        Ok(())
    }

    /// It was looked at, and nothing is left of what it became.
    pub(super) fn unpacked(&self) {
        self.taken().parsed = None;
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.0.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The request is answered with this body: what was taken is given back.
    pub(super) fn answered(&self, body: Body) -> Body {
        self.give_back();
        match &self.0.meter {
            Some(meter) => meter.answered(body, self.draining()),
            None => body,
        }
    }

    /// A body of this length was read.
    pub(super) fn body_read(&self, bytes: usize) {
        if let Some(meter) = &self.0.meter {
            meter.body_read(bytes);
        }
    }

    /// A body that was read has become so many bytes more.
    pub(super) fn body_grew(&self, bytes: usize) {
        if let Some(meter) = &self.0.meter {
            meter.body_grew(bytes);
        }
    }

    /// Gives back what was taken.
    fn give_back(&self) {
        *self.taken() = Taken::default();
    }

    /// A body of this length is read and taken apart: a small one is not counted any longer.
    pub(super) fn done(&self, bytes: usize) {
        if bytes <= SMALL_BODY_BYTES {
            self.give_back();
        }
    }

    /// How long a body of this length may take to arrive.
    pub(super) fn body_time(&self, bytes: usize) -> Duration {
        self.0.admission.body_time + Duration::from_secs(bytes as u64 / BODY_BYTES_PER_SECOND)
    }

    /// Cancelled when the server is told to end.
    pub(super) fn draining(&self) -> &CancellationToken {
        &self.0.admission.draining
    }
}

/// Memory for what is in a body, at most: as if each brace began a record and all quotes were those of headers.
fn parsed_bytes(body: &[u8]) -> usize {
    let count = |wanted: u8| memchr::memchr_iter(wanted, body).count();
    count(b'{').min(PRODUCE_RECORDS_MAX) * RECORD_BYTES + (count(b'"') / 2).min(2 * PRODUCE_HEADERS_MAX) * TEXT_BYTES
}

/// The answer to a request that was not complete when the server was told to end.
pub(super) fn draining() -> ApiError {
    ApiError::new(ErrorCode::ShuttingDown, "the server is shutting down and does not wait for the rest of the request; nothing was stored")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket(admission: &Arc<Admission>) -> Ticket {
        Ticket::new(admission, None)
    }

    #[tokio::test]
    async fn a_large_body_gets_its_turn_among_small_ones() {
        let admission = Arc::new(Admission::new(&HttpConfig::default()));
        let (first, large, small) = (ticket(&admission), ticket(&admission), ticket(&admission));
        first.admit(40 << 20).await.expect("there is room");
        let large_in = large.admit(BODY_BYTES_MAX);
        tokio::pin!(large_in);
        assert!(futures_util::poll!(&mut large_in).is_pending());
        // It would fit beside the first one, but the large one has asked before.
        let small_in = small.admit(1 << 20);
        tokio::pin!(small_in);
        assert!(futures_util::poll!(&mut small_in).is_pending());
        drop(first);
        large_in.await.expect("its turn");
        small_in.await.expect("its turn");
    }

    #[tokio::test]
    async fn who_gets_no_turn_is_told_to_come_back() {
        let config = HttpConfig { turn_wait: Duration::from_millis(20), ..HttpConfig::default() };
        let admission = Arc::new(Admission::new(&config));
        let (first, second) = (ticket(&admission), ticket(&admission));
        first.admit(40 << 20).await.expect("there is room");
        let refused = second.admit(BODY_BYTES_MAX).await.expect_err("nobody gives anything back").into_problem();
        assert_eq!((refused.code, refused.retryable), (ErrorCode::Overloaded, true));
    }

    #[tokio::test]
    async fn who_waits_is_told_when_the_server_ends() {
        let admission = Arc::new(Admission::new(&HttpConfig::default()));
        let (first, second) = (ticket(&admission), ticket(&admission));
        first.admit(40 << 20).await.expect("there is room");
        let waiting = second.admit(40 << 20);
        tokio::pin!(waiting);
        assert!(futures_util::poll!(&mut waiting).is_pending());
        admission.draining.cancel();
        assert_eq!(waiting.await.expect_err("it ends").into_problem().code, ErrorCode::ShuttingDown);
    }

    #[tokio::test]
    async fn a_short_body_that_needs_much_is_counted_for_what_it_needs() {
        let admission = Arc::new(Admission::new(&HttpConfig::default()));
        let one = ticket(&admission);
        one.parse(format!("{{\"records\":[{}]}}", vec!["{}"; 5_000].join(",")).as_bytes()).await.expect("there is room");
        assert_eq!(PARSED_BYTES_MAX - admission.parsed.available_permits(), 5_001 * RECORD_BYTES + TEXT_BYTES);
        one.done(SMALL_BODY_BYTES + 1);
        assert_ne!(admission.parsed.available_permits(), PARSED_BYTES_MAX, "it is held until the answer");
        drop(one);
        assert_eq!(admission.parsed.available_permits(), PARSED_BYTES_MAX);
        let batch = ticket(&admission);
        batch.unpack(10_000).await.expect("there is room");
        assert_eq!(PARSED_BYTES_MAX - admission.parsed.available_permits(), 10_000);
        batch.unpacked();
        assert_eq!(admission.parsed.available_permits(), PARSED_BYTES_MAX, "nothing is left of it");
        let text = ticket(&admission);
        text.parse(format!("{{\"records\":[{{\"value\":\"{}\"}}]}}", "x".repeat(100_000)).as_bytes()).await.expect("its length is enough");
        assert_eq!(admission.parsed.available_permits(), PARSED_BYTES_MAX);
    }
}

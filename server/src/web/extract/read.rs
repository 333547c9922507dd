//! A body, read within bounds of bytes, memory and time.

use crate::web::admission::{Ticket, draining};
use crate::web::gzip::{self, Encoding};
use crate::web::problem::ApiError;
use axum::body::{BodyDataStream, HttpBody as _};
use axum::extract::Request;
use axum::http::header::{CONTENT_LENGTH, EXPECT};
use bytes::{Bytes, BytesMut};
use core::time::Duration;
use futures_util::StreamExt as _;
use sagamq_api::ErrorCode;
use sagamq_api::limits::BODY_BYTES_MAX;

/// Most bytes of a refused body that are let by.
const LET_BY_BYTES_MAX: usize = 2 * BODY_BYTES_MAX;

/// How long a refused body is let by.
const LET_BY_TIME_MAX: Duration = Duration::from_secs(5);

/// How long a body that is under way when the server is told to end is waited for.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(1);

/// The whole body, if it fits the bound, once there is memory for it. One that is refused is not kept: what the client is still sending is
/// let by, within bounds, because a client that writes to a closed connection does not see the refusal.
pub(super) async fn read_body(request: Request, max: usize, ticket: Option<&Ticket>) -> Result<Bytes, ApiError> {
    let too_large = || ApiError::new(ErrorCode::BodyTooLarge, format!("the body is larger than {max} bytes: send less at a time"));
    let announced = request.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok()).unwrap_or(0);
    // Who asks before he sends is refused before he sends.
    let asks = request.headers().contains_key(EXPECT);
    let is_gzip = Encoding::of(request.headers()) == Encoding::Gzip;
    let body = request.into_body();
    let hint = body.size_hint().upper().map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
    let is_known = hint.is_some() || announced > 0;
    let expected = if is_known { hint.unwrap_or(0).max(announced) } else { max };
    let mut chunks = body.into_data_stream();
    let admitted = match ticket {
        _ if is_known && expected > max => Err(too_large()),
        Some(ticket) if expected > 0 && is_gzip => ticket.admit(gzip::memory(expected.min(max), max)).await,
        Some(ticket) if expected > 0 => ticket.admit(expected.min(max)).await,
        Some(_) | None => Ok(()),
    };
    if let Err(refusal) = admitted {
        if !asks {
            let_by(&mut chunks).await;
        }
        return Err(refusal);
    }
    let mut body = Gathered { first: Bytes::new(), all: BytesMut::new(), expected: if is_known { expected.min(max) } else { 0 } };
    // Without a ticket, which every request of a server has, nothing is bounded.
    let time = ticket.map_or(Duration::MAX, |ticket| ticket.body_time(expected.min(max)));
    let whole = async {
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|error| ApiError::new(ErrorCode::MalformedRequest, format!("the body ended early: {error}")))?;
            if body.len() + chunk.len() > max {
                let_by(&mut chunks).await;
                return Err(too_large());
            }
            body.push(chunk);
        }
        Ok(())
    };
    let drained = async {
        match ticket {
            Some(ticket) => ticket.draining().cancelled().await,
            None => core::future::pending().await,
        }
        tokio::time::sleep(DRAIN_TIME_MAX).await;
    };
    tokio::select! {
        biased;
        whole = tokio::time::timeout(time, whole) => whole.unwrap_or_else(|_| {
            let detail = format!("the body did not arrive within {} s: send less at a time, or faster", time.as_secs());
            Err(ApiError::new(ErrorCode::RequestTimeout, detail))
        })?,
        () = drained => return Err(draining()),
    }
    if let Some(ticket) = ticket {
        ticket.body_read(body.len());
    }
    Ok(body.whole())
}

/// As [`read_body`], decompressed, once there is memory for what the text takes when it is parsed as well.
pub(super) async fn read_text(request: Request, max: usize, ticket: Option<&Ticket>) -> Result<Bytes, ApiError> {
    let encoding = Encoding::of(request.headers());
    let mut body = read_body(request, max, ticket).await?;
    if encoding == Encoding::Gzip && !body.is_empty() {
        let sent = body.len();
        body = gzip::decompressed(body, max).await?;
        if let Some(ticket) = ticket {
            ticket.body_grew(body.len().saturating_sub(sent));
        }
    }
    if let Some(ticket) = ticket {
        ticket.parse(&body).await?;
    }
    Ok(body)
}

/// A body while it comes. One that comes in one piece, as small ones do, is not copied.
struct Gathered {
    first: Bytes,
    /// Everything, once there is a second piece.
    all: BytesMut,
    expected: usize,
}

impl Gathered {
    fn len(&self) -> usize {
        self.first.len().max(self.all.len())
    }

    fn push(&mut self, piece: Bytes) {
        if self.first.is_empty() {
            self.first = piece;
            return;
        }
        if self.all.is_empty() {
            self.all.reserve(self.expected.max(self.first.len() + piece.len()));
            self.all.extend_from_slice(&self.first);
        }
        self.all.extend_from_slice(&piece);
    }

    fn whole(self) -> Bytes {
        if self.all.is_empty() { self.first } else { self.all.freeze() }
    }
}

/// Reads what is left of a refused body and forgets it, up to a bound of bytes and of time.
async fn let_by(chunks: &mut BodyDataStream) {
    let discard = async {
        let mut bytes = 0;
        while let Some(Ok(chunk)) = chunks.next().await {
            bytes += chunk.len();
            if bytes > LET_BY_BYTES_MAX {
                break;
            }
        }
    };
    // When the time is over the client has not read the refusal, and there is nothing more to do for it.
    let _ = tokio::time::timeout(LET_BY_TIME_MAX, discard).await;
}

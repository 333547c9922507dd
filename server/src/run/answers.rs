//! [`Answers`]: the answers of a connection of HTTP/2 that its client has not taken whole.
//!
//! Each of them has a window of its own there: a client that takes the bytes of one leaves those of another where they are, in memory, for
//! which others are refused. What goes out on the connection says nothing of that.

use axum::Error;
use axum::body::{Body, HttpBody};
use bytes::Bytes;
use core::pin::Pin;
use core::task::{Context, Poll, ready};
use core::time::Duration;
use hyper::body::{Frame, SizeHint};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::time::Instant;

/// Bytes of an answer that are handed over at a time: of a larger piece it would not be known that its client takes it slowly.
const PIECE_BYTES: usize = 16 * 1024;

/// In how many looks it is seen that nothing of an answer was taken for too long.
const LOOKS: u32 = 12;

/// Since when nothing was taken of the answers of a connection of which there is something to take.
#[derive(Debug, Default)]
pub(super) struct Answers(Mutex<Untaken>);

#[derive(Debug, Default)]
struct Untaken {
    next: u64,
    since: HashMap<u64, Instant>,
}

/// One of them, until the last of its bytes is taken or given up.
#[derive(Debug)]
struct Answer {
    number: u64,
    all: Arc<Answers>,
}

/// The body of an answer, piece by piece.
struct Pieces {
    body: Body,
    /// What is left of what the body gave last.
    rest: Bytes,
    answer: Arc<Answer>,
}

/// Bytes that are on their way to the client.
struct Piece {
    bytes: Bytes,
    _answer: Arc<Answer>,
}

impl Answers {
    /// The same body, of which it is known whether its client takes it.
    pub(super) fn watched(self: &Arc<Self>, body: Body) -> Body {
        let number = {
            let mut untaken = self.untaken();
            untaken.next += 1;
            untaken.next
        };
        let answer = Arc::new(Answer { number, all: Arc::clone(self) });
        // A client without a window is never given anything.
        answer.given();
        Body::new(Pieces { body, rest: Bytes::new(), answer })
    }

    /// Waits until nothing was taken of an answer for so long.
    pub(super) async fn stalled(&self, longest: Duration) {
        loop {
            tokio::time::sleep(longest / LOOKS).await;
            if self.untaken().since.values().any(|since| since.elapsed() >= longest) {
                return;
            }
        }
    }

    fn untaken(&self) -> MutexGuard<'_, Untaken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Answer {
    /// There is something to take.
    fn given(&self) {
        self.all.untaken().since.insert(self.number, Instant::now());
    }

    /// It was taken, and more is asked for.
    fn taken(&self) {
        self.all.untaken().since.remove(&self.number);
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.taken();
    }
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = Error;

    /// Asked when the client has a window for more.
    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        self.answer.taken();
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)).map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(data))) => self.rest = data,
                Some(Ok(Err(other))) => return Poll::Ready(Some(Ok(other))),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
        let length = self.rest.len().min(PIECE_BYTES);
        let piece = Piece { bytes: self.rest.split_to(length), _answer: Arc::clone(&self.answer) };
        self.answer.given();
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_owner(piece)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (rest, body) = (self.rest.len() as u64, self.body.size_hint());
        let mut hint = SizeHint::new();
        hint.set_lower(body.lower().saturating_add(rest));
        if let Some(upper) = body.upper().and_then(|upper| upper.checked_add(rest)) {
            hint.set_upper(upper);
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::StreamExt as _;

    #[tokio::test]
    async fn a_body_is_the_same_in_pieces_and_it_is_known_since_when_one_is_untaken() {
        let answers = Arc::new(Answers::default());
        let whole: Vec<u8> = (0..=250_u8).cycle().take(PIECE_BYTES * 2 + 7).collect();
        let body = answers.watched(Body::from(whole.clone()));
        assert_eq!(body.size_hint().exact(), Some(whole.len() as u64));
        assert_eq!(answers.untaken().since.len(), 1, "there is something to take");
        let mut pieces = body.into_data_stream();
        let mut taken = Vec::new();
        while let Some(piece) = pieces.next().await {
            let piece = piece.expect("sound");
            assert!(piece.len() <= PIECE_BYTES);
            assert_eq!(answers.untaken().since.len(), 1);
            taken.extend_from_slice(&piece);
        }
        assert_eq!(taken, whole);
        drop(pieces);
        assert!(answers.untaken().since.is_empty());

        // The last piece is on its way when the body has ended, and is not taken yet.
        let mut last = answers.watched(Body::from("last")).into_data_stream();
        let piece = last.next().await.expect("a piece").expect("sound");
        drop(last);
        answers.stalled(Duration::from_millis(24)).await;
        drop(piece);
        assert!(answers.untaken().since.is_empty());

        // Who waits for what is not there yet is not slow.
        let nothing = Body::from_stream(futures_util::stream::pending::<Result<Bytes, std::io::Error>>());
        let mut waits = answers.watched(nothing).into_data_stream();
        assert!(futures_util::poll!(waits.next()).is_pending());
        assert!(answers.untaken().since.is_empty());
    }
}

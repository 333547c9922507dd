//! What the HTTP library refuses by itself, a request that is none or whose head is too large, it answers without a body. This puts a
//! problem document into those answers, so that every answer of 400 and above is one.
//!
//! The library offers no other place for it. Its own answers are told by what they are: one write that is a whole head of 400, 414 or 431
//! without a body and without the request id that every answer of the server has.

use super::activity::Activity;
use super::connection_metrics::Refused;
use core::pin::Pin;
use core::sync::atomic::Ordering;
use core::task::{Context, Poll, ready};
use core::time::Duration;
use sagamq_api::headers::{APPLICATION_PROBLEM_JSON, REQUEST_ID};
use sagamq_api::{ErrorCode, Problem};
use std::io::{self, IoSlice};
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;
use uuid::Uuid;

/// A longer write is none of the library's own refusals.
const BARE_BYTES_MAX: usize = 256;

/// How long a client may take nothing of what is sent to it. What it does not take stays in memory, and others are refused for it.
pub(super) const STALL_MAX: Duration = Duration::from_secs(60);

/// A connection that counts what goes out, gives the library's own refusals a body, and breaks when its client takes nothing any more.
#[derive(Debug)]
pub(super) struct Watched<S> {
    stream: S,
    activity: Arc<Activity>,
    stall_max: Duration,
    /// Runs while the client takes nothing.
    stall: Option<Pin<Box<Sleep>>>,
    /// What is written in place of a refusal, and how much of it is written.
    instead: Option<(Vec<u8>, usize)>,
}

impl<S: AsyncWrite + Unpin> Watched<S> {
    pub(super) fn new(stream: S, activity: Arc<Activity>) -> Self {
        Self { stream, activity, stall_max: STALL_MAX, stall: None, instead: None }
    }

    /// Writes what stands in place of `bare` to its end.
    fn poll_instead(&mut self, cx: &mut Context<'_>, bare: &[u8]) -> Poll<io::Result<usize>> {
        while let Some((instead, written)) = &mut self.instead {
            match ready!(Pin::new(&mut self.stream).poll_write(cx, &instead[*written..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                more => *written += more,
            }
            if *written == instead.len() {
                self.instead = None;
            }
        }
        Poll::Ready(Ok(bare.len()))
    }

    /// Whether these bytes are replaced.
    fn replaces(&mut self, bytes: &[u8]) -> bool {
        if self.instead.is_none() {
            self.instead = refusal(bytes).map(|instead| (instead, 0));
            if self.instead.is_some() {
                self.activity.metrics.refused(Refused::Head);
            }
        }
        self.instead.is_some()
    }

    fn counted(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = &written {
            self.activity.written.fetch_add(*bytes as u64, Ordering::Relaxed);
        }
        if written.is_ready() {
            self.stall = None;
            return written;
        }
        let stall_max = self.stall_max;
        ready!(self.stall.get_or_insert_with(|| Box::pin(tokio::time::sleep(stall_max))).as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

/// The answer with a problem document, if these bytes are a refusal of the library.
fn refusal(bytes: &[u8]) -> Option<Vec<u8>> {
    if bytes.len() > BARE_BYTES_MAX || !bytes.starts_with(b"HTTP/1.1 4") {
        return None;
    }
    let head = core::str::from_utf8(bytes).ok()?.strip_suffix("\r\n\r\n")?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.1 ")?;
    let mut is_empty = false;
    for line in lines {
        let (name, value) = line.split_once(": ")?;
        is_empty |= name.eq_ignore_ascii_case("content-length") && value == "0";
        if name.eq_ignore_ascii_case(REQUEST_ID) {
            return None;
        }
    }
    let (code, detail) = match status.get(..3)? {
        "400" => (ErrorCode::MalformedRequest, "the head of the request is not HTTP/1.1: a method, a path or a header cannot be read"),
        "414" => (ErrorCode::UriTooLong, "the path with its query is longer than 65,534 bytes"),
        "431" => (ErrorCode::HeadersTooLarge, "the head of the request has more than 100 headers or 128 KiB"),
        _ => return None,
    };
    if !is_empty {
        return None;
    }
    let id = Uuid::new_v4();
    tracing::info!(request_id = %id, code = code.as_str(), "refused what is no request");
    let problem = Problem { request_id: Some(id.to_string()), ..Problem::new(code, detail) };
    let body = serde_json::to_string(&problem).expect("a problem has string keys only");
    let length = body.len();
    Some(
        format!(
            "HTTP/1.1 {status}\r\ncontent-type: {APPLICATION_PROBLEM_JSON}\r\ncontent-length: {length}\r\nconnection: close\r\n{REQUEST_ID}: \
             {id}\r\n\r\n{body}"
        )
        .into_bytes(),
    )
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.replaces(buf) {
            return self.poll_instead(cx, buf);
        }
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.counted(cx, written)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let mut parts = bufs.iter().filter(|part| !part.is_empty());
        if let (Some(only), None) = (parts.next(), parts.next())
            && self.replaces(only)
        {
            return self.poll_instead(cx, only);
        }
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.counted(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    /// Far beyond what a test needs: only a hang meets it.
    const LIMIT: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_client_that_takes_nothing_any_more_is_given_up_and_one_that_takes_a_little_is_not() {
        let (server, mut client) = tokio::io::duplex(16);
        let mut server = Watched { stall_max: Duration::from_secs(8), ..Watched::new(server, Arc::default()) };
        let writing = tokio::spawn(async move { server.write_all(&[7; 96]).await });
        // Slower in all than it may be slow at once.
        let mut taken = [0; 16];
        for _ in 0..4 {
            tokio::time::sleep(Duration::from_millis(2_100)).await;
            client.read_exact(&mut taken).await.expect("it is not given up");
        }
        let ended = tokio::time::timeout(LIMIT, writing).await.expect("it does not wait for ever").expect("no panic");
        assert_eq!(ended.expect_err("the last bytes were never taken").kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn only_the_bare_refusals_of_the_library_get_a_body() {
        let bare = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\ndate: x\r\n\r\n";
        let answer = String::from_utf8(refusal(bare).expect("a refusal")).expect("text");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        assert!(head.contains(&format!("content-length: {}", body.len())), "{head}");
        let problem: Problem = serde_json::from_str(body).expect("a problem");
        assert_eq!((problem.code, problem.status), (ErrorCode::HeadersTooLarge, 431));
        for other in [
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nx-request-id: a\r\n\r\n",
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\n\r\n",
            "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n{}",
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 400 within a value\r\n0\r\n\r\n",
        ] {
            assert!(refusal(other.as_bytes()).is_none(), "{other}");
        }
    }
}

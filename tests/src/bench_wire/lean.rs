//! A connection over which requests are sent that were written before, and of whose answers no more is read than whether they are a success and
//! where they end: as little work for the client as with Redis, because it takes its time from the server's cores.

use bytes::Bytes;
use memchr::memmem;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Answers are a few hundred bytes.
const ANSWER_BYTES: usize = 64 * 1024;

/// A request as it goes over the wire.
pub(super) fn written(path: &str, media_type: &str, body: &[u8]) -> Bytes {
    let length = body.len();
    let head =
        format!("POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: {media_type}\r\ncontent-length: {length}\r\n\r\n").into_bytes();
    [&head[..], body].concat().into()
}

/// One request at a time.
pub(super) struct Lean {
    stream: TcpStream,
    answer: Vec<u8>,
}

impl Lean {
    pub(super) async fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("the server listens");
        stream.set_nodelay(true).expect("a socket takes the option");
        Self { stream, answer: vec![0; ANSWER_BYTES] }
    }

    /// Sends a request and reads its answer, which must be a success.
    pub(super) async fn send(&mut self, request: &[u8]) {
        self.stream.write_all(request).await.expect("the server takes it");
        let mut read = 0;
        loop {
            let more = self.stream.read(&mut self.answer[read..]).await.expect("the server answers");
            assert!(more > 0, "the server closed the connection, or the answer is too long");
            read += more;
            if let Some(end) = end(&self.answer[..read]) {
                assert_eq!(end, read, "one answer a request");
                return;
            }
        }
    }
}

/// Where the answer ends; `None`: its head is not whole yet.
fn end(read: &[u8]) -> Option<usize> {
    const LENGTH: &[u8] = b"\r\ncontent-length: ";
    let head = memmem::find(read, b"\r\n\r\n")?;
    let told = || String::from_utf8_lossy(read).into_owned();
    assert!(read.starts_with(b"HTTP/1.1 2"), "the server refuses: {}", told());
    let length = memmem::find(&read[..head], LENGTH).map(|at| &read[at + LENGTH.len()..]).expect("the answer says how long it is");
    let digits = length.iter().take_while(|byte| byte.is_ascii_digit());
    let length = digits.fold(0, |length, digit| length * 10 + usize::from(digit - b'0'));
    let end = head + 4 + length;
    (end <= read.len()).then_some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_ends_where_its_length_says() {
        let whole = b"HTTP/1.1 201 Created\r\nx: y\r\ncontent-length: 3\r\ndate: now\r\n\r\nabc";
        assert_eq!(end(whole), Some(whole.len()));
        for cut in 0..whole.len() {
            assert_eq!(end(&whole[..cut]), None, "{cut}");
        }
    }

    #[test]
    #[should_panic(expected = "the server refuses")]
    fn a_refusal_is_no_answer() {
        let _ = end(b"HTTP/1.1 429 Too Many Requests\r\ncontent-length: 0\r\n\r\n");
    }
}

//! HTTP services that cost next to nothing, as a static answer of a web server does: every request has a length, and so has every answer.

use std::net::SocketAddr;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";

/// Answers every request at once.
pub(super) async fn answer(address: SocketAddr) {
    let listener = TcpListener::bind(address).await.expect("the address is free");
    loop {
        let (stream, _) = listener.accept().await.expect("it listens");
        tokio::spawn(serve(stream));
    }
}

/// Takes every connection, reads nothing and answers nothing.
pub(super) async fn hang(address: SocketAddr) {
    let listener = TcpListener::bind(address).await.expect("the address is free");
    let mut held = Vec::new();
    loop {
        held.push(listener.accept().await.expect("it listens"));
    }
}

async fn serve(mut stream: TcpStream) {
    stream.set_nodelay(true).expect("a socket takes the option");
    let (mut buffer, mut filled) = (vec![0; 64 * 1024], 0);
    loop {
        while let Some(length) = request_length(&buffer[..filled]) {
            buffer.copy_within(length..filled, 0);
            filled -= length;
            if stream.write_all(ANSWER).await.is_err() {
                return;
            }
        }
        match stream.read(&mut buffer[filled..]).await {
            Ok(0) | Err(_) => return,
            Ok(count) => filled += count,
        }
    }
}

/// Bytes of the first request, once all of it is there.
fn request_length(bytes: &[u8]) -> Option<usize> {
    let head = memchr::memmem::find(bytes, b"\r\n\r\n")? + 4;
    let fields = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
    let body = fields.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok()).unwrap_or(0);
    (bytes.len() >= head + body).then_some(head + body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_there_when_all_of_its_body_is() {
        let request = b"POST /do HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcPOST";
        assert_eq!(request_length(request), Some(request.len() - 4));
        assert_eq!((request_length(&request[..request.len() - 5]), request_length(&request[..10])), (None, None));
        assert_eq!(request_length(b"GET / HTTP/1.1\r\n\r\n"), Some(18));
    }
}

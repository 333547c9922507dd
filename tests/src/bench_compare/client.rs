//! One HTTP/1.1 connection that costs little: client and servers share the machine.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST};
use hyper_util::rt::TokioIo;
use std::net::SocketAddr;
use tokio::net::TcpStream;

/// One connection; requests go one after the other.
#[derive(Debug)]
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("the server listens");
        stream.set_nodelay(true).expect("a socket takes the option");
        let (sender, connection) = handshake(TokioIo::new(stream)).await.expect("the server speaks HTTP");
        // It ends with the sender.
        tokio::spawn(connection);
        Self { sender }
    }

    /// Sends a request with a JSON body (none: no body) and gives the answer's body.
    pub(crate) async fn send(&mut self, method: &str, path: &str, body: Bytes) -> Bytes {
        self.send_as(method, path, "application/json", body).await
    }

    /// As [`Self::send`], with another media type, of which the answer is asked for as well.
    pub(crate) async fn send_as(&mut self, method: &str, path: &str, media_type: &str, body: Bytes) -> Bytes {
        let request = Request::builder().method(method).uri(path).header(HOST, "localhost").header(CONTENT_TYPE, media_type);
        // What is produced is answered as JSON in any case.
        let request = if method == "GET" { request.header(ACCEPT, media_type) } else { request };
        let request = request.body(Full::new(body)).expect("a legal request");
        self.sender.ready().await.expect("the connection holds");
        let answer = self.sender.send_request(request).await.expect("answered");
        let status = answer.status();
        let body = answer.into_body().collect().await.expect("a whole answer").to_bytes();
        assert!(status.is_success(), "{method} {path}: {status}: {}", String::from_utf8_lossy(&body));
        body
    }
}

//! The HTTP client of the exports, for threads that are no tasks.

use http::{Request, Response};
use opentelemetry_http::{Bytes, HttpError};
use std::time::Duration;
use tokio::runtime::Handle;

/// Most bytes of an answer that are looked at.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Sends on the runtime that it was made in. OpenTelemetry exports from a thread of its own, on which no client of this kind could wait.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    client: reqwest::Client,
    runtime: Handle,
}

/// The answer is larger than one that says whether something was taken.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the answer has more than {ANSWER_BYTES_MAX} bytes: it is not that of a receiver")]
struct AnswerTooLarge;

impl Client {
    /// A client of the current runtime.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    ///
    /// # Panics
    /// Outside of a runtime.
    pub(crate) fn new(timeout: Duration) -> Result<Self, reqwest::Error> {
        let builder = || reqwest::Client::builder().timeout(timeout).redirect(reqwest::redirect::Policy::none());
        // A machine without certificates, as a small container is: a receiver over plain HTTP must work there all the same.
        let client = builder().build().or_else(|_| builder().tls_certs_only([]).build())?;
        Ok(Self { client, runtime: Handle::current() })
    }

    /// Sends, and gives status and body.
    pub(crate) async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = self.client.clone();
        let sent = self.runtime.spawn(async move {
            // The log says where to by itself, without what may be a secret.
            let mut answer = client.execute(request.try_into()?).await.map_err(reqwest::Error::without_url)?;
            let mut response = Response::builder().status(answer.status());
            if let Some(headers) = response.headers_mut() {
                headers.clone_from(answer.headers());
            }
            let mut body = Vec::new();
            while let Some(piece) = answer.chunk().await.map_err(reqwest::Error::without_url)? {
                if body.len() + piece.len() > ANSWER_BYTES_MAX {
                    return Err(HttpError::from(AnswerTooLarge));
                }
                body.extend_from_slice(&piece);
            }
            Ok(response.body(body.into())?)
        });
        sent.await?
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    async fn sent(uri: &str) -> Result<Response<Bytes>, HttpError> {
        let client = Client::new(Duration::from_secs(10)).expect("a client");
        client.send(Request::post(uri).body(Bytes::from_static(b"x")).expect("a request")).await
    }

    /// Answers each request with this head, and a body of which it does not say how long it is; gives its address.
    async fn answering(head: String, body: Vec<u8>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.read(&mut [0; 4_096]).await;
                let _ = stream.write_all(format!("HTTP/1.1 {head}\r\nconnection: close\r\n\r\n").as_bytes()).await;
                let _ = stream.write_all(&body).await;
            }
        });
        format!("http://{address}/v1/traces")
    }

    #[tokio::test]
    async fn an_answer_without_a_length_is_bounded_as_well() {
        let taken = sent(&answering("200 OK".to_owned(), vec![1; ANSWER_BYTES_MAX]).await).await.expect("it is an answer");
        assert_eq!(taken.body().len(), ANSWER_BYTES_MAX);
        let refused = sent(&answering("200 OK".to_owned(), vec![1; ANSWER_BYTES_MAX + 1]).await).await.expect_err("it is too large");
        assert!(refused.to_string().contains("not that of a receiver"), "{refused}");
    }

    /// What is exported, and the headers with it, are for whom the settings name.
    #[tokio::test]
    async fn nobody_is_asked_that_a_receiver_sends_on_to() {
        let elsewhere = answering("200 OK".to_owned(), Vec::new()).await;
        for status in ["302 Found", "307 Temporary Redirect", "308 Permanent Redirect"] {
            let answer = sent(&answering(format!("{status}\r\nlocation: {elsewhere}"), Vec::new()).await).await.expect("an answer");
            assert_eq!(answer.status().as_str(), &status[..3]);
        }
    }

    #[tokio::test]
    async fn what_went_wrong_is_told_without_the_address() {
        // Bound, so that nobody else gets the port, and not listening.
        let held = tokio::net::TcpSocket::new_v4().expect("a socket");
        held.bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
        let address = held.local_addr().expect("it is bound");
        let error = sent(&format!("http://{address}/v1/traces?key=s3cret")).await.expect_err("nobody listens there");
        assert!(!format!("{error} {error:?}").contains("s3cret"), "{error:?}");
    }
}

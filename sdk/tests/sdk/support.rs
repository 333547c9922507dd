//! A server whose answers a test scripts, and which remembers every request. What it answers is decided by the test alone, so the
//! client's behaviour is seen without any behaviour of a broker.

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::Response;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, stream};
use sagamq_sdk::api::{ErrorCode, Problem};
use sagamq_sdk::{Client, RetryPolicy};
use serde_json::Value;
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Longest wait for a condition: far beyond what any test needs, so that only a hang meets it.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// One request as the server saw it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    /// Path with query.
    pub(crate) path: String,
    pub(crate) headers: BTreeMap<String, String>,
    /// The body as text.
    pub(crate) text: String,
    /// The body.
    pub(crate) bytes: Vec<u8>,
    /// The body as JSON; null if it is none.
    pub(crate) json: Value,
    /// How many requests came before.
    pub(crate) index: usize,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// What comes after the last colon: the verb.
    pub(crate) fn verb(&self) -> &str {
        self.path.rsplit_once(':').map_or("", |(_, verb)| verb)
    }
}

/// What the server does with a request.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// An answer in JSON.
    Json(u16, Value),
    /// An answer of another media type.
    Bytes(&'static str, Vec<u8>),
    /// A problem document.
    Problem(ErrorCode),
    /// A problem document with a `Retry-After` in seconds.
    RetryAfter(ErrorCode, &'static str),
    /// An answer of something that is no SagaMQ server.
    Text(u16, &'static str),
    /// The connection breaks in the middle of the answer.
    Break,
}

impl Answer {
    fn response(self) -> Response {
        let (status, body, retry_after) = match self {
            Self::Json(status, value) => (status, value.to_string(), None),
            Self::Bytes(media_type, bytes) => {
                return Response::builder().header("content-type", media_type).body(bytes.into()).expect("a response");
            }
            Self::Problem(code) => (code.status(), problem(code), None),
            Self::RetryAfter(code, seconds) => (code.status(), problem(code), Some(seconds)),
            Self::Text(status, text) => (status, text.to_owned(), None),
            Self::Break => {
                let broken = stream::once(async { Err::<Vec<u8>, _>(std::io::Error::other("scripted")) });
                return Response::new(Body::from_stream(broken));
            }
        };
        let mut response = Response::builder().status(StatusCode::from_u16(status).expect("a status"));
        if let Some(seconds) = retry_after {
            response = response.header("retry-after", seconds);
        }
        response.body(body.into()).expect("a response")
    }
}

fn problem(code: ErrorCode) -> String {
    serde_json::to_string(&Problem::new(code, "scripted")).expect("a problem document")
}

type Script = Arc<dyn Fn(Seen) -> BoxFuture<'static, Answer> + Send + Sync>;

/// A scripted server on a port of its own; it ends with the test.
pub(crate) struct Server {
    pub(crate) url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    pub(crate) async fn start<S, F>(script: S) -> Self
    where
        S: Fn(Seen) -> F + Send + Sync + 'static,
        F: Future<Output = Answer> + Send + 'static,
    {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let script: Script = Arc::new(move |request| script(request).boxed());
        let remembered = Arc::clone(&seen);
        let router = Router::new().fallback(move |request: Request| answer(Arc::clone(&remembered), Arc::clone(&script), request));
        let task = tokio::spawn(async move { axum::serve(listener, router).await.expect("the server runs") });
        Self { url, seen, task }
    }

    /// A server that gives these answers in turn, the last one for ever.
    pub(crate) async fn with_answers(answers: Vec<Answer>) -> Self {
        Self::start(move |seen| {
            let answer = answers[seen.index.min(answers.len() - 1)].clone();
            async move { answer }
        })
        .await
    }

    /// A client that tries again almost at once.
    pub(crate) fn client(&self) -> Client {
        Client::builder(&self.url).retry(quick(6)).build().expect("an address")
    }

    /// Every request so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("no panic").clone()
    }

    /// Every request with this verb so far.
    pub(crate) fn verbs(&self, verb: &str) -> Vec<Seen> {
        self.seen().into_iter().filter(|seen| seen.verb() == verb).collect()
    }
}

/// An address at which nobody listens while the socket is held: it is bound, and does not listen.
pub(crate) fn nobody() -> (tokio::net::TcpSocket, String) {
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
    let url = format!("http://{}", socket.local_addr().expect("an address"));
    (socket, url)
}

/// So many attempts with waits that a test does not notice.
pub(crate) fn quick(attempts: u32) -> RetryPolicy {
    RetryPolicy { attempts, initial: Duration::from_millis(1), max: Duration::from_millis(5), ..RetryPolicy::default() }
}

async fn answer(remembered: Arc<Mutex<Vec<Seen>>>, script: Script, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let bytes = to_bytes(body, usize::MAX).await.expect("a body");
    let text = |value: &axum::http::HeaderValue| value.to_str().expect("text").to_owned();
    let seen = {
        let mut all = remembered.lock().expect("no panic");
        let seen = Seen {
            method: head.method.to_string(),
            path: head.uri.path_and_query().expect("a path").to_string(),
            headers: head.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect(),
            text: String::from_utf8_lossy(&bytes).into_owned(),
            bytes: bytes.to_vec(),
            json: serde_json::from_slice(&bytes).unwrap_or(Value::Null),
            index: all.len(),
        };
        all.push(seen.clone());
        seen
    };
    script(seen).await.response()
}

/// Waits until the condition holds.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(LIMIT, wait).await.unwrap_or_else(|_| panic!("it never came true: {what}"));
}

/// The outcome of a future that must come.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, future).await.expect("it ends")
}

//! What a process of the benchmark does: start sagas, serve a command topic, or be an HTTP service.

use super::definitions::TOPICS;
use super::http;
use crate::bench_compare::Connection;
use crate::measure::{Latency, now};
use bytes::Bytes;
use sagamq_api::saga::Call;
use sagamq_sdk::{CallError, Client, SagaWorker};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// A process of the benchmark. Its arguments are the same in all builds, so that an older one can play beside a newer one.
#[derive(Clone, Debug)]
pub enum Role {
    /// Serves the command topics; handlers do nothing.
    Worker {
        /// The broker.
        server: SocketAddr,
    },
    /// Starts sagas for a time, and prints how many there were, p50 and p99 in milliseconds, and how long it took in seconds.
    Starters {
        /// The broker.
        server: SocketAddr,
        /// The definition.
        saga: String,
        /// How many at a time, on a connection each.
        at_a_time: u32,
        /// For how long, in seconds.
        seconds: f64,
        /// Until when the answer is held back, in milliseconds; 0: as long as the start takes.
        wait_ms: u64,
        /// The business key of all of them, if it is one.
        key: Option<String>,
    },
    /// An HTTP service that answers at once with the same bytes.
    Static {
        /// Where it listens.
        address: SocketAddr,
    },
    /// An HTTP service that takes every request and never answers.
    Hanging {
        /// Where it listens.
        address: SocketAddr,
    },
}

impl Role {
    /// The role that the arguments name, if they do.
    ///
    /// # Panics
    /// When they name one and do not fit it.
    #[must_use]
    pub fn from_args(arguments: &[String]) -> Option<Self> {
        let at = |index: usize| arguments.get(index).map(String::as_str).expect("a role has its arguments");
        let address = |index| at(index).parse().expect("an address");
        Some(match arguments.first()?.as_str() {
            "worker" => Self::Worker { server: address(1) },
            "starters" => Self::Starters {
                server: address(1),
                saga: at(2).to_owned(),
                at_a_time: at(3).parse().expect("a number"),
                seconds: at(4).parse().expect("a number"),
                wait_ms: at(5).parse().expect("a number"),
                key: arguments.get(6).cloned(),
            },
            "static" => Self::Static { address: address(1) },
            "hanging" => Self::Hanging { address: address(1) },
            _ => return None,
        })
    }

    pub(super) fn to_args(&self) -> Vec<String> {
        match self {
            Self::Worker { server } => vec!["worker".to_owned(), server.to_string()],
            Self::Starters { server, saga, at_a_time, seconds, wait_ms, key } => {
                let numbers = [at_a_time.to_string(), seconds.to_string(), wait_ms.to_string()];
                ["starters".to_owned(), server.to_string(), saga.clone()].into_iter().chain(numbers).chain(key.clone()).collect()
            }
            Self::Static { address } => vec!["static".to_owned(), address.to_string()],
            Self::Hanging { address } => vec!["hanging".to_owned(), address.to_string()],
        }
    }

    /// Does it.
    ///
    /// # Panics
    /// When something answers as it must not.
    pub async fn play(self) {
        match self {
            Self::Worker { server } => work(server).await,
            Self::Starters { server, saga, at_a_time, seconds, wait_ms, key } => {
                let path = if wait_ms == 0 { "/v1/sagas".to_owned() } else { format!("/v1/sagas?wait_ms={wait_ms}") };
                start(server, Arc::new(Starts { saga, path, key, next: AtomicU64::new(0) }), at_a_time, Duration::from_secs_f64(seconds))
                    .await;
            }
            Self::Static { address } => http::answer(address).await,
            Self::Hanging { address } => http::hang(address).await,
        }
    }
}

async fn work(server: SocketAddr) {
    let client = Client::new(format!("http://{server}")).expect("a legal URL");
    let workers = TOPICS.map(|topic| {
        let mut builder = SagaWorker::builder(client.clone(), topic.parse().expect("legal")).concurrency(64);
        for name in ["do", "undo", "pay", "ship"] {
            builder = builder.on(name, |_: Call| async { Ok::<Value, CallError>(json!({})) });
        }
        builder.build().run(CancellationToken::new())
    });
    for ended in futures_util::future::join_all(workers).await {
        ended.expect("they run until they are killed");
    }
}

struct Starts {
    saga: String,
    path: String,
    key: Option<String>,
    next: AtomicU64,
}

impl Starts {
    async fn one(&self, connection: &mut Connection) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let id = self.key.clone().unwrap_or_else(|| format!("{}-{number}", std::process::id()));
        let body = format!(r#"{{"saga":"{}","input":{{"id":"{id}"}}}}"#, self.saga);
        let answer = connection.send("POST", &self.path, Bytes::from(body)).await;
        let is_at_its_end =
            self.path.len() == "/v1/sagas".len() || self.key.is_some() || answer.windows(9).any(|word| word == b"COMPLETED");
        assert!(is_at_its_end, "{}", String::from_utf8_lossy(&answer));
    }
}

async fn start(server: SocketAddr, starts: Arc<Starts>, at_a_time: u32, span: Duration) {
    let began = now();
    let clients: Vec<_> = (0..at_a_time)
        .map(|_| {
            let starts = Arc::clone(&starts);
            tokio::spawn(async move {
                let (mut connection, mut latencies) = (Connection::open(server).await, Vec::new());
                while began.elapsed() < span {
                    let sent = now();
                    starts.one(&mut connection).await;
                    latencies.push(sent.elapsed());
                }
                latencies
            })
        })
        .collect();
    let mut latencies = Vec::new();
    for client in clients {
        latencies.extend(client.await.expect("no panic"));
    }
    let (took, count) = (began.elapsed().as_secs_f64(), latencies.len());
    let Latency { p50, p99 } = Latency::of(&mut latencies);
    println!("{count} {} {} {took}", p50.as_secs_f64() * 1e3, p99.as_secs_f64() * 1e3);
}

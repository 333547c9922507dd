//! What is measured for a while: rates, latencies, and syncs a saga.

use super::definitions::{over_http, over_topics};
use super::neighbours;
use super::role::Role;
use super::side::Side;
use crate::ServerProcess;
use crate::server::{eventually, free_address, wait_until};
use std::net::TcpStream;
use std::time::Duration;

/// A measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Case {
    /// Topic participants, 64 sagas at a time.
    Topics64,
    /// Topic participants, one saga at a time.
    Topics1,
    /// HTTP participants, 16 starters that do not wait.
    Http,
    /// HTTP participants, beside a hot business key and beside a service that hangs.
    Neighbours,
}

impl Case {
    pub(super) const ALL: [Self; 4] = [Self::Topics64, Self::Topics1, Self::Http, Self::Neighbours];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Topics64 => "topics-64",
            Self::Topics1 => "topics-1",
            Self::Http => "http",
            Self::Neighbours => "neighbours",
        }
    }

    /// What each row says, and its value.
    pub(super) async fn measure(self, side: &Side, span: Duration) -> Vec<(String, f64)> {
        match self {
            Self::Topics64 => over_workers(side, 64, span).await,
            Self::Topics1 => over_workers(side, 1, span).await,
            Self::Http => over_static_http(side, span).await,
            Self::Neighbours => neighbours::measure(side, span).await,
        }
    }
}

async fn over_workers(side: &Side, at_a_time: u32, span: Duration) -> Vec<(String, f64)> {
    let server = side.start().await;
    server.client().sagas().publish(&over_topics()).await.expect("published");
    let _worker = side.play(&Role::Worker { server: server.address() });
    let starters = |span: Duration| Role::Starters {
        server: server.address(),
        saga: "bench-topics".to_owned(),
        at_a_time,
        seconds: span.as_secs_f64(),
        wait_ms: 60_000,
        key: None,
    };
    // Connections, topics and caches are there.
    side.ask(&starters(span / 4)).await;
    let before = syncs(&server).await;
    let [count, p50, p99, took] = side.ask(&starters(span)).await[..] else { panic!("starters print four numbers") };
    let of = format!("topic participants, {at_a_time} at a time");
    vec![
        (format!("{of}: completed/s"), count / took),
        (format!("{of}: p50, ms"), p50),
        (format!("{of}: p99, ms"), p99),
        (format!("{of}: syncs a saga"), (syncs(&server).await - before) / count),
    ]
}

async fn over_static_http(side: &Side, span: Duration) -> Vec<(String, f64)> {
    let (server, address) = (side.start().await, free_address());
    let _service = side.play(&Role::Static { address });
    listening(address).await;
    server.client().sagas().publish(&over_http("bench-http", &format!("http://{address}"))).await.expect("published");
    let rate = completed_beside_starts(side, &server, "bench-http", span).await;
    vec![("HTTP participants that do nothing, 16 starters that do not wait: completed/s".to_owned(), rate)]
}

/// Sagas a second that end while 16 starters start as many as they can.
async fn completed_beside_starts(side: &Side, server: &ServerProcess, saga: &str, span: Duration) -> f64 {
    let starters = |span: Duration| Role::Starters {
        server: server.address(),
        saga: saga.to_owned(),
        at_a_time: 16,
        seconds: span.as_secs_f64(),
        wait_ms: 0,
        key: None,
    };
    side.ask(&starters(span / 4)).await;
    let before = metric(server, "sagamq_sagas_finished_total").await;
    let [.., took] = side.ask(&starters(span)).await[..] else { panic!("starters print numbers") };
    (metric(server, "sagamq_sagas_finished_total").await - before) / took
}

pub(super) async fn listening(address: std::net::SocketAddr) {
    wait_until("the service listens", || TcpStream::connect(address).ok()).await;
}

async fn syncs(server: &ServerProcess) -> f64 {
    metric(server, "sagamq_commit_seconds_count{synced=\"true\"}").await
}

/// The sum of the series that begin with this.
pub(super) async fn metric(server: &ServerProcess, name: &str) -> f64 {
    let text = eventually("the metrics answer", async || {
        let answer = reqwest::get(format!("{}/metrics", server.url())).await.ok()?;
        answer.text().await.ok()
    })
    .await;
    let values = text.lines().filter(|line| line.starts_with(name)).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    values.sum()
}

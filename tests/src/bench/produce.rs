//! Durable produce: requests of 100 records of 1 KiB, each answered when it is synced.

use crate::ServerProcess;
use crate::bench::{Latency, now};
use sagamq_api::topic::TopicConfig;
use sagamq_api::{TopicName, routes};
use std::time::Duration;

/// Records of one request.
pub(crate) const BATCH_RECORDS: usize = 100;

/// Bytes of one record's value.
pub(crate) const RECORD_BYTES: usize = 1024;

/// What a round gave.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProduceRate {
    pub(crate) records_per_second: f64,
    pub(crate) request: Latency,
}

pub(crate) fn topic() -> TopicName {
    "bench".parse().expect("a legal name")
}

/// Each connection sends one request after the other.
pub(crate) async fn measure(server: &ServerProcess, connections: usize, span: Duration) -> ProduceRate {
    server.client().create_topic(&topic(), TopicConfig { partitions: 16, ..TopicConfig::default() }).await.expect("there");
    let url = format!("{}{}", server.url(), routes::records(&topic()));
    // The body is made once: the clients' share of two cores is not what is measured.
    let body: bytes::Bytes = body().into();
    let began = now();
    let clients: Vec<_> = (0..connections)
        .map(|_| {
            let (url, body) = (url.clone(), body.clone());
            tokio::spawn(async move {
                let client = reqwest::Client::builder().tcp_nodelay(true).build().expect("a client");
                let mut latencies = Vec::new();
                while began.elapsed() < span {
                    let sent = now();
                    let answer =
                        client.post(&url).header("content-type", "application/json").body(body.clone()).send().await.expect("answered");
                    assert!(answer.status().is_success(), "{}", answer.status());
                    answer.bytes().await.expect("an answer");
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
    let records_per_second = (latencies.len() * BATCH_RECORDS) as f64 / began.elapsed().as_secs_f64();
    ProduceRate { records_per_second, request: Latency::of(&mut latencies) }
}

fn body() -> Vec<u8> {
    let record = serde_json::json!({ "value": "x".repeat(RECORD_BYTES) });
    serde_json::to_vec(&serde_json::json!({ "records": vec![record; BATCH_RECORDS] })).expect("JSON")
}

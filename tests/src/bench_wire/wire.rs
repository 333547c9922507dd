//! Requests to SagaMQ, as JSON and as binary batches.

use super::lean::{Lean, written};
use crate::ServerProcess;
use crate::bench_compare::{Connection, Noise, Place, request};
use crate::measure::now;
use bytes::Bytes;
use sagamq_api::PartitionId;
use sagamq_api::batch::{BatchHeader, NewBatch, Record, frame, take};
use sagamq_api::headers::{APPLICATION_BATCH, APPLICATION_JSON};
use sagamq_api::record::Payload;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Partitions of the topic.
const PARTITIONS: u32 = 16;

/// Different bodies that are sent in turn, so that nothing is found again in a cache.
const BODIES: u32 = 160;

const RECORDS: &str = "/v1/topics/bench/records";

/// How records travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Wire {
    Json,
    Binary,
}

impl Wire {
    fn media_type(self) -> &'static str {
        match self {
            Self::Json => APPLICATION_JSON,
            Self::Binary => APPLICATION_BATCH,
        }
    }

    /// A request of a hundred records for one partition.
    fn body(self, noise: &mut Noise, partition: u32) -> Bytes {
        if self == Self::Json {
            return request(noise, super::BATCH, super::VALUE, Place::Partition(partition));
        }
        let record =
            |_| Record { timestamp_ms: -1, payload: Payload { value: Some(noise.bytes(super::VALUE).into()), ..Payload::default() } };
        let records: Vec<Record> = (0..super::BATCH).map(record).collect();
        let batch = NewBatch::encode(&records).expect("legal records");
        [&frame(Some(PartitionId(partition))), batch.bytes()].concat().into()
    }
}

/// Records a second of batches, after so many GB were produced, and bytes of a commit of the server.
pub(super) async fn batches(server: &Path, wire: Wire, span: Duration, prefill_gb: u64) -> (f64, f64) {
    let server = start(server).await;
    let bodies: Arc<[Bytes]> = bodies(wire).into();
    let bytes = (super::BATCH * super::VALUE) as u64;
    let requests = usize::try_from(prefill_gb * 1_000_000_000 / bytes).expect("a number of requests");
    produce(server.address(), wire, super::CONNECTIONS, &bodies, Until::Requests(requests)).await;
    let rate = produce(server.address(), wire, super::CONNECTIONS, &bodies, Until::Over(span)).await * super::BATCH as f64;
    (rate, commit_bytes(&server).await)
}

/// Bytes of the server's commits in the mean.
async fn commit_bytes(server: &ServerProcess) -> f64 {
    let metrics = reqwest::get(format!("{}/metrics", server.url())).await.expect("answered").text().await.expect("text");
    let of = |name: &str| {
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.parse::<f64>().ok()).expect("the server counts its commits")
    };
    of("sagamq_commit_bytes_sum") / of("sagamq_commit_bytes_count")
}

/// Records a second, one a request.
pub(super) async fn singles(server: &Path, span: Duration) -> f64 {
    let server = start(server).await;
    let mut noise = Noise::new(1);
    let bodies: Arc<[Bytes]> = (0..BODIES).map(|_| request(&mut noise, 1, super::SINGLE_VALUE, Place::Anywhere)).collect();
    produce(server.address(), Wire::Json, super::SINGLES, &bodies, Until::Over(span)).await
}

/// MiB of payload a second, of reads from the beginning after a restart.
pub(super) async fn read(server: &Path, wire: Wire, megabytes: u64) -> f64 {
    let mut server = start(server).await;
    let bodies: Arc<[Bytes]> = bodies(Wire::Binary).into();
    let bytes = (super::BATCH * super::VALUE) as u64;
    let requests = usize::try_from(megabytes * 1_000_000 / bytes).expect("a number of requests");
    produce(server.address(), Wire::Binary, super::CONNECTIONS, &bodies, Until::Requests(requests)).await;
    server.kill();
    server.restart().await;
    let mut connection = Connection::open(server.address()).await;
    let (began, mut records) = (now(), 0);
    for partition in 0..PARTITIONS {
        let mut next = 0;
        loop {
            let path = format!("/v1/topics/bench/partitions/{partition}/records?offset={next}&max_records=1000");
            let path = if wire == Wire::Binary { path.replace("max_records=1000", "max_bytes=4194304") } else { path };
            let answer = connection.send_as("GET", &path, wire.media_type(), Bytes::new()).await;
            let count = records_in(wire, answer);
            if count == 0 {
                break;
            }
            next += count;
        }
        records += next;
    }
    assert_eq!(records as usize, requests * super::BATCH, "everything is read");
    (records * super::VALUE as u64) as f64 / (1024.0 * 1024.0) / began.elapsed().as_secs_f64()
}

/// How many records an answer holds.
fn records_in(wire: Wire, mut answer: Bytes) -> u64 {
    if wire == Wire::Json {
        return memchr::memmem::find_iter(&answer, br#""offset":"#).count() as u64;
    }
    let mut count = 0;
    while let Some(batch) = take(&mut answer).expect("whole batches") {
        count += u64::from(BatchHeader::parse(&batch).expect("a batch").records_count);
    }
    count
}

async fn start(program: &Path) -> ServerProcess {
    let server = ServerProcess::start_program(program).await;
    let body = format!(r#"{{"name":"bench","config":{{"partitions":{PARTITIONS}}}}}"#);
    Connection::open(server.address()).await.send("POST", "/v1/topics", body.into()).await;
    server
}

fn bodies(wire: Wire) -> Vec<Bytes> {
    let mut noise = Noise::new(1);
    (0..BODIES).map(|index| wire.body(&mut noise, index % PARTITIONS)).collect()
}

/// When producing ends.
#[derive(Clone, Copy)]
enum Until {
    Requests(usize),
    Over(Duration),
}

/// Requests a second, each connection one after the other.
async fn produce(address: SocketAddr, wire: Wire, connections: usize, bodies: &[Bytes], until: Until) -> f64 {
    let requests: Arc<[Bytes]> = bodies.iter().map(|body| written(RECORDS, wire.media_type(), body)).collect();
    let next = Arc::new(AtomicUsize::new(0));
    let began = now();
    let clients: Vec<_> = (0..connections)
        .map(|_| {
            let (requests, next) = (Arc::clone(&requests), Arc::clone(&next));
            tokio::spawn(async move {
                let mut connection = Lean::open(address).await;
                let mut sent = 0;
                loop {
                    let turn = next.fetch_add(1, Ordering::Relaxed);
                    let is_over = match until {
                        Until::Requests(count) => turn >= count,
                        Until::Over(span) => began.elapsed() >= span,
                    };
                    if is_over {
                        return sent;
                    }
                    connection.send(&requests[turn % requests.len()]).await;
                    sent += 1;
                }
            })
        })
        .collect();
    let mut sent = 0;
    for client in clients {
        sent += client.await.expect("no panic");
    }
    f64::from(sent) / began.elapsed().as_secs_f64()
}

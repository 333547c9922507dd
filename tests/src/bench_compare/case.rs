//! What is measured of one server, and how.

use super::client::Connection;
use super::payload::{Noise, Place, request};
use crate::ServerProcess;
use crate::measure::now;
use bytes::Bytes;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Different bodies a case sends in turn, so that nothing is found again in a cache.
const BODIES: usize = 16;
/// As many where each body names its partition: the same number however many partitions there are, so that the client reads its bodies from
/// memory in all of these cases and not from a cache in some. They are 140 MB.
const BODIES_BY_PARTITION: u32 = 1000;
/// Records that wait for the cases that read.
const BACKLOG: usize = 200_000;

/// One figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Case {
    /// One record of 100 bytes a request on 64 connections.
    Single,
    /// 100 records of 1 KiB a request, each request to one partition, of as many, on 16 connections.
    Partitions(u32),
    /// 100 records of 100 bytes a request with 100 keys over as many partitions, on 16 connections.
    Scattered(u32),
    /// Receives of 500 records of 100 bytes with `auto_ack` on one connection, from a backlog that was produced 100 a request.
    Backlog,
    /// Reads of 1,000 records of 100 bytes from the beginning, after a restart.
    CatchUp,
    /// Until a server with the backlog is ready again after `kill -9`; starts a second, so that more is better as everywhere.
    Restart,
}

impl Case {
    pub(crate) const ALL: [Self; 11] = [
        Self::Single,
        Self::Partitions(1),
        Self::Partitions(12),
        Self::Partitions(100),
        Self::Partitions(1000),
        Self::Scattered(1),
        Self::Scattered(100),
        Self::Scattered(1000),
        Self::Backlog,
        Self::CatchUp,
        Self::Restart,
    ];

    /// What it is called on the command line.
    pub(crate) fn name(self) -> String {
        match self {
            Self::Single => "single".to_owned(),
            Self::Partitions(count) => format!("partitions-{count}"),
            Self::Scattered(count) => format!("scattered-{count}"),
            Self::Backlog => "backlog".to_owned(),
            Self::CatchUp => "catch-up".to_owned(),
            Self::Restart => "restart".to_owned(),
        }
    }

    /// What it says in the report.
    pub(crate) fn says(self) -> String {
        match self {
            Self::Single => "one record of 100 bytes a request, 64 connections: records/s".to_owned(),
            Self::Partitions(count) => {
                format!("100 records of 1 KiB a request, each to one of {count} partition(s), 16 connections: records/s")
            }
            Self::Scattered(count) => {
                format!("100 records of 100 bytes a request, 100 keys over {count} partition(s), 16 connections: records/s")
            }
            Self::Backlog => "receives of 500 records of 100 bytes, `auto_ack`, one connection: records/s".to_owned(),
            Self::CatchUp => {
                "reads of 1,000 records of 100 bytes from the beginning, after a restart, one connection: records/s".to_owned()
            }
            Self::Restart => format!("starts after `kill -9` with {BACKLOG} records of 100 bytes: starts/s"),
        }
    }

    /// Measures it on a new server of this binary.
    pub(crate) async fn measure(self, binary: &Path, span: Duration) -> f64 {
        let mut server = ServerProcess::start_program(binary).await;
        match self {
            Self::Single => {
                create(&server, 16).await;
                let bodies = bodies(|noise, _| request(noise, 1, 100, Place::Anywhere));
                produce(server.address(), 64, 1, bodies, span).await
            }
            Self::Partitions(count) => {
                create(&server, count).await;
                let bodies: Vec<Bytes> = {
                    let mut noise = Noise::new(1);
                    (0..BODIES_BY_PARTITION).map(|index| request(&mut noise, 100, 1024, Place::Partition(index % count))).collect()
                };
                produce(server.address(), 16, 100, bodies, span).await
            }
            Self::Scattered(count) => {
                create(&server, count).await;
                let bodies = bodies(|noise, _| request(noise, 100, 100, Place::Keys));
                produce(server.address(), 16, 100, bodies, span).await
            }
            Self::Backlog => {
                backlog(&server).await;
                receive_all(server.address()).await
            }
            Self::CatchUp => {
                backlog(&server).await;
                server.kill();
                server.restart().await;
                read_all(server.address()).await
            }
            Self::Restart => {
                backlog(&server).await;
                server.kill();
                1.0 / server.restart().await.as_secs_f64()
            }
        }
    }
}

fn bodies(mut make: impl FnMut(&mut Noise, usize) -> Bytes) -> Vec<Bytes> {
    let mut noise = Noise::new(1);
    (0..BODIES).map(|index| make(&mut noise, index)).collect()
}

async fn create(server: &ServerProcess, partitions: u32) {
    let body = format!(r#"{{"name":"bench","config":{{"partitions":{partitions}}}}}"#);
    Connection::open(server.address()).await.send("POST", "/v1/topics", body.into()).await;
}

/// Records a second, of requests of `records` records, each connection one after the other.
async fn produce(address: SocketAddr, connections: usize, records: usize, bodies: Vec<Bytes>, span: Duration) -> f64 {
    let (bodies, next) = (Arc::new(bodies), Arc::new(AtomicUsize::new(0)));
    let began = now();
    let clients: Vec<_> = (0..connections)
        .map(|_| {
            let (bodies, next) = (Arc::clone(&bodies), Arc::clone(&next));
            tokio::spawn(async move {
                let mut connection = Connection::open(address).await;
                let mut sent = 0;
                while began.elapsed() < span {
                    let body = bodies[next.fetch_add(1, Ordering::Relaxed) % bodies.len()].clone();
                    connection.send("POST", "/v1/topics/bench/records", body).await;
                    sent += records;
                }
                sent
            })
        })
        .collect();
    let mut sent = 0;
    for client in clients {
        sent += client.await.expect("no panic");
    }
    sent as f64 / began.elapsed().as_secs_f64()
}

async fn backlog(server: &ServerProcess) {
    create(server, 16).await;
    let bodies = bodies(|noise, index| request(noise, 100, 100, Place::Partition(u32::try_from(index).expect("few"))));
    let mut connection = Connection::open(server.address()).await;
    for index in 0..BACKLOG / 100 {
        connection.send("POST", "/v1/topics/bench/records", bodies[index % bodies.len()].clone()).await;
    }
}

/// How many records an answer holds: each has one offset.
fn records_in(answer: &[u8]) -> usize {
    memchr::memmem::find_iter(answer, br#""offset":"#).count()
}

async fn receive_all(address: SocketAddr) -> f64 {
    let mut connection = Connection::open(address).await;
    let body = Bytes::from_static(br#"{"max_records":500,"auto_ack":true}"#);
    let (began, mut received) = (now(), 0);
    while received < BACKLOG {
        let answer = connection.send("POST", "/v1/topics/bench/groups/bench:receive", body.clone()).await;
        let count = records_in(&answer);
        assert!(count > 0, "{received} of {BACKLOG} records came: {}", String::from_utf8_lossy(&answer));
        received += count;
    }
    received as f64 / began.elapsed().as_secs_f64()
}

async fn read_all(address: SocketAddr) -> f64 {
    let mut connection = Connection::open(address).await;
    let (began, mut read) = (now(), 0);
    for partition in 0..16 {
        let mut next = 0;
        while next < BACKLOG / 16 {
            let path = format!("/v1/topics/bench/partitions/{partition}/records?offset={next}&max_records=1000");
            let answer = connection.send("GET", &path, Bytes::new()).await;
            let count = records_in(&answer);
            assert!(count > 0, "partition {partition} ends at {next}: {}", String::from_utf8_lossy(&answer));
            next += count;
        }
        read += next;
    }
    read as f64 / began.elapsed().as_secs_f64()
}

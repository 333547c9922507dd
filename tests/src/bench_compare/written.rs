//! What a server writes to disk for each byte of payload, as the system counts it for the process.

use super::client::Connection;
use super::payload::{Noise, Place, request};
use crate::ServerProcess;
use crate::measure::now;
use bytes::Bytes;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Records of a request and bytes of their values.
const RECORDS: usize = 100;
const RECORD_BYTES: usize = 1024;
const PAYLOAD_BYTES: u64 = (RECORDS * RECORD_BYTES) as u64;
const CONNECTIONS: u64 = 16;
/// Topics that come and go one after the other beside the one that stays.
const SHORT_TOPICS: u64 = 10;

/// What was written and what lies on disk in the end, a byte of payload.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Written {
    pub(crate) a_byte: f64,
    pub(crate) kept_a_byte: f64,
    pub(crate) mb_per_second: f64,
}

/// Which topics are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Topics {
    /// One that stays.
    One,
    /// Half of the payload goes to one that stays, half to ten that come one after the other and are deleted when the next one comes.
    Interleaved,
}

/// Writes `gigabytes` (10^9) of payload and waits until the server writes no more.
pub(crate) async fn measure(binary: &Path, gigabytes: u64, topics: Topics) -> Written {
    let server = ServerProcess::start_program(binary).await;
    let requests = gigabytes * 1_000_000_000 / PAYLOAD_BYTES;
    create(&server, "stays").await;
    let mut noise = Noise::new(7);
    // Enough of them that no block holds two of one.
    let bodies: Arc<Vec<Bytes>> = Arc::new((0..256).map(|_| request(&mut noise, RECORDS, RECORD_BYTES, Place::Anywhere)).collect());
    let (before, began) = (server.written_bytes(), now());
    let parts = if topics == Topics::One { 1 } else { SHORT_TOPICS };
    for part in 0..parts {
        let short = format!("short-{part}");
        if topics == Topics::Interleaved {
            create(&server, &short).await;
        }
        let (next, mut tasks) = (Arc::new(AtomicU64::new(0)), Vec::new());
        for _ in 0..CONNECTIONS {
            let (bodies, next, address, short) = (Arc::clone(&bodies), Arc::clone(&next), server.address(), short.clone());
            tasks.push(tokio::spawn(async move {
                let mut connection = Connection::open(address).await;
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= requests / parts {
                        return;
                    }
                    let topic = if topics == Topics::Interleaved && number % 2 == 1 { &short } else { "stays" };
                    let body = bodies[usize::try_from(number).expect("fits") % bodies.len()].clone();
                    connection.send("POST", &format!("/v1/topics/{topic}/records"), body).await;
                }
            }));
        }
        for task in tasks {
            task.await.expect("no panic");
        }
        if topics == Topics::Interleaved {
            Connection::open(server.address()).await.send("DELETE", &format!("/v1/topics/{short}"), Bytes::new()).await;
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    quiet(&server).await;
    let payload = (requests / parts * parts * PAYLOAD_BYTES) as f64;
    let kept = if topics == Topics::One { payload } else { payload / 2.0 };
    Written {
        a_byte: (server.written_bytes() - before) as f64 / payload,
        kept_a_byte: crate::bench_log::used(&server.data()) as f64 / kept,
        mb_per_second: payload / 1e6 / seconds,
    }
}

async fn create(server: &ServerProcess, name: &str) {
    let body = format!(r#"{{"name":"{name}","config":{{"partitions":16}}}}"#);
    Connection::open(server.address()).await.send("POST", "/v1/topics", body.into()).await;
}

/// Waits until nothing was written for fifteen seconds: a look for deleted space comes every ten.
async fn quiet(server: &ServerProcess) {
    let (mut last, mut since) = (server.written_bytes(), now());
    while since.elapsed() < Duration::from_secs(15) {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let written = server.written_bytes();
        // A note of a few KiB about once a second is no work.
        if written > last + (256 << 10) {
            (last, since) = (written, now());
        }
    }
}

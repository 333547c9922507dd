//! Redis Streams with a sync for each write, and a client that pipelines.

use crate::bench_compare::Noise;
use crate::measure::now;
use crate::server::free_address;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A server of its own, on new data; it ends with this.
pub(super) struct RedisServer {
    process: Child,
    address: SocketAddr,
    _data: TempDir,
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl RedisServer {
    /// `None`: there is no `redis-server`.
    pub(super) fn start() -> Option<Self> {
        let data = tempfile::Builder::new().prefix("sagamq-bench-redis-").tempdir().expect("a directory");
        let address = free_address();
        let process = Command::new("redis-server")
            .args(["--port", &address.port().to_string(), "--bind", "127.0.0.1", "--dir"])
            .arg(data.path())
            .args(["--appendonly", "yes", "--appendfsync", "always", "--save", "", "--auto-aof-rewrite-percentage", "0"])
            .stdout(Stdio::null())
            .spawn()
            .ok()?;
        Some(Self { process, address, _data: data })
    }

    /// Records a second with so many in a pipeline, after so many GB were produced.
    pub(super) async fn produce(self, connections: usize, batch: usize, value: usize, span: Duration, prefill_gb: u64) -> f64 {
        let mut noise = Noise::new(1);
        let bodies: Arc<[Vec<u8>]> = (0..160).map(|_| pipeline(&mut noise, batch, value)).collect();
        let prefill = prefill_gb * 1_000_000_000 / (batch * value) as u64;
        load(self.address, connections, batch, &bodies, move |turn, _| turn >= prefill).await;
        load(self.address, connections, batch, &bodies, move |_, elapsed| elapsed >= span).await * batch as f64
    }
}

/// Commands that append values to one stream.
fn pipeline(noise: &mut Noise, batch: usize, value: usize) -> Vec<u8> {
    let mut body = Vec::new();
    for _ in 0..batch {
        body.extend_from_slice(format!("*5\r\n$4\r\nXADD\r\n$5\r\nbench\r\n$1\r\n*\r\n$1\r\nv\r\n${value}\r\n").as_bytes());
        body.extend_from_slice(&noise.bytes(value));
        body.extend_from_slice(b"\r\n");
    }
    body
}

/// Pipelines a second, each connection one after the other.
async fn load(
    address: SocketAddr,
    connections: usize,
    batch: usize,
    bodies: &Arc<[Vec<u8>]>,
    is_over: impl Fn(u64, Duration) -> bool + Clone + Send + 'static,
) -> f64 {
    let next = Arc::new(AtomicU64::new(0));
    let mut open = Vec::new();
    for _ in 0..connections {
        open.push(connect(address).await);
    }
    let began = now();
    let clients = open.into_iter().map(|mut stream| {
        let (bodies, next, is_over) = (Arc::clone(bodies), Arc::clone(&next), is_over.clone());
        tokio::spawn(async move {
            let (mut sent, mut answers) = (0, vec![0; 64 * 1024]);
            loop {
                let turn = next.fetch_add(1, Ordering::Relaxed);
                if is_over(turn, began.elapsed()) {
                    return sent;
                }
                let body = &bodies[usize::try_from(turn).expect("few") % bodies.len()];
                stream.write_all(body).await.expect("Redis takes it");
                // Each answer is an id, a length in front: two lines.
                let mut lines = 0;
                while lines < 2 * batch {
                    let read = stream.read(&mut answers).await.expect("Redis answers");
                    assert!(read > 0 && !answers.starts_with(b"-"), "Redis refuses: {}", String::from_utf8_lossy(&answers[..read]));
                    lines += memchr::memchr_iter(b'\n', &answers[..read]).count();
                }
                sent += 1;
            }
        })
    });
    let clients: Vec<_> = clients.collect();
    let mut sent = 0;
    for client in clients {
        sent += client.await.expect("no panic");
    }
    f64::from(sent) / began.elapsed().as_secs_f64()
}

/// A connection, once the server listens.
async fn connect(address: SocketAddr) -> TcpStream {
    let began = now();
    loop {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                stream.set_nodelay(true).expect("a socket takes the option");
                return stream;
            }
            Err(error) => assert!(began.elapsed() < Duration::from_secs(30), "Redis does not listen: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

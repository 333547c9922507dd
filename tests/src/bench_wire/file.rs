//! A plain file over the HTTP stack that the server has: what a catch-up read could be at best.

use crate::bench_compare::{Connection, Noise};
use crate::measure::now;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use tokio::net::TcpListener;

/// Bytes of an answer: as much as a read of binary batches gives.
const PIECE: usize = 4 * 1024 * 1024;

/// MiB a second of a file of so many MB, each piece read off the async runtime and answered whole.
pub(super) async fn read(megabytes: u64) -> f64 {
    let mut file = tempfile::tempfile().expect("a file");
    let mut noise = Noise::new(2);
    let pieces = usize::try_from(megabytes * 1_000_000).expect("a size") / PIECE;
    for _ in 0..pieces {
        file.write_all(&noise.bytes(PIECE)).expect("the disk takes it");
    }
    let file = Arc::new(file);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let serving = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("a connection");
        stream.set_nodelay(true).expect("a socket takes the option");
        let service = service_fn(move |request: Request<Incoming>| piece(Arc::clone(&file), request));
        // It ends with the connection.
        let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
    });
    let mut connection = Connection::open(address).await;
    let (began, mut read) = (now(), 0);
    for index in 0..pieces {
        read += connection.send("GET", &format!("/{index}"), Bytes::new()).await.len();
    }
    let rate = read as f64 / (1024.0 * 1024.0) / began.elapsed().as_secs_f64();
    serving.abort();
    rate
}

async fn piece(file: Arc<File>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let index: u64 = request.uri().path()[1..].parse().expect("a number");
    let read = move || {
        let mut bytes = vec![0; PIECE];
        file.read_exact_at(&mut bytes, index * PIECE as u64).expect("it was written");
        bytes
    };
    let bytes = tokio::task::spawn_blocking(read).await.expect("no panic");
    Ok(Response::new(Full::new(bytes.into())))
}

//! A collector that takes what OTLP over HTTP brings, and throws it away.

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::net::TcpListener;

/// Runs until the program ends.
#[derive(Debug)]
pub(super) struct Collector {
    address: SocketAddr,
    requests: Arc<AtomicU64>,
}

impl Collector {
    pub(super) async fn start() -> Self {
        let requests = Arc::new(AtomicU64::new(0));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        // An empty answer is the protocol's "everything was taken".
        let take = async |State(requests): State<Arc<AtomicU64>>, _body: Bytes| {
            requests.fetch_add(1, Ordering::Relaxed);
        };
        let router = Router::new().fallback(take).with_state(Arc::clone(&requests));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, requests }
    }

    pub(super) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How often it was told something.
    pub(super) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }
}

//! A receiver of OTLP over HTTP that throws everything away and counts it: the other end when the cost of exporting is measured.

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message as _;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What came.
#[derive(Debug, Default)]
struct Counts {
    spans: AtomicU64,
    requests: AtomicU64,
    bytes: AtomicU64,
}

#[tokio::main]
async fn main() -> ExitCode {
    let address: Option<SocketAddr> = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:4318".to_owned()).parse().ok();
    let Some(address) = address else {
        eprintln!("usage: sagamq-otlp-sink [ADDRESS:PORT]");
        return ExitCode::from(2);
    };
    let listener = match tokio::net::TcpListener::bind(address).await {
        Ok(listener) => listener,
        Err(error) => {
            eprintln!("cannot listen on {address}: {error}");
            return ExitCode::FAILURE;
        }
    };
    let counts = Arc::new(Counts::default());
    let routes = Router::new().route("/v1/traces", post(traces)).route("/v1/metrics", post(metrics));
    let routes = routes.layer(DefaultBodyLimit::disable()).with_state(Arc::clone(&counts));
    println!("receiving on {address}, until Ctrl-C");
    let served = axum::serve(listener, routes).with_graceful_shutdown(async { drop(tokio::signal::ctrl_c().await) }).await;
    let count = |of: &AtomicU64| of.load(Ordering::Relaxed);
    println!("{} spans and metrics in {} requests of {} bytes", count(&counts.spans), count(&counts.requests), count(&counts.bytes));
    if served.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn traces(State(counts): State<Arc<Counts>>, body: Bytes) {
    counts.came(&body);
    if let Ok(request) = ExportTraceServiceRequest::decode(body) {
        let scopes = request.resource_spans.iter().flat_map(|resource| &resource.scope_spans);
        counts.spans.fetch_add(scopes.map(|scope| scope.spans.len() as u64).sum(), Ordering::Relaxed);
    }
}

async fn metrics(State(counts): State<Arc<Counts>>, body: Bytes) {
    counts.came(&body);
}

impl Counts {
    fn came(&self, body: &Bytes) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(body.len() as u64, Ordering::Relaxed);
    }
}

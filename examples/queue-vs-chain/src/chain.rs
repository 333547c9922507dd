//! The synchronous chain: each service calls the next over HTTP and answers when that has answered.

use crate::service::Service;
use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::post;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// How long one call may take, with all that it calls.
pub const TIMEOUT: Duration = Duration::from_secs(2);

/// Four servers in this process.
#[derive(Debug)]
pub struct Chain {
    client: reqwest::Client,
    first: SocketAddr,
    /// They end when this is dropped.
    _servers: JoinSet<io::Result<()>>,
}

#[derive(Clone)]
struct Link {
    service: Arc<Service>,
    client: reqwest::Client,
    next: Option<SocketAddr>,
}

impl Chain {
    /// Lets the services listen, the last one first.
    ///
    /// # Errors
    /// When the system has no port left.
    ///
    /// # Panics
    /// When there is no service.
    pub async fn start(services: &[Arc<Service>]) -> io::Result<Self> {
        // Nothing here speaks TLS, so the system's certificates are not needed.
        let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).tcp_nodelay(true).timeout(TIMEOUT).build();
        let client = client.map_err(io::Error::other)?;
        let (mut next, mut servers) = (None, JoinSet::new());
        for service in services.iter().rev() {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
            let address = listener.local_addr()?;
            let link = Link { service: Arc::clone(service), client: client.clone(), next };
            let router = Router::new().route("/orders/{order}", post(handle)).with_state(link);
            servers.spawn(async move { axum::serve(listener, router).await });
            next = Some(address);
        }
        Ok(Self { client, first: next.expect("there are services"), _servers: servers })
    }

    /// Sends an order; whether it was done.
    pub async fn order(&self, order: u64) -> bool {
        call(&self.client, self.first, order).await
    }
}

async fn call(client: &reqwest::Client, address: SocketAddr, order: u64) -> bool {
    let answer = client.post(format!("http://{address}/orders/{order}")).send().await;
    answer.is_ok_and(|answer| answer.status().is_success())
}

async fn handle(State(link): State<Link>, Path(order): Path<u64>) -> StatusCode {
    if link.service.work(order).await.is_err() {
        return StatusCode::SERVICE_UNAVAILABLE;
    }
    match link.next {
        Some(next) if !call(&link.client, next, order).await => StatusCode::BAD_GATEWAY,
        _ => StatusCode::OK,
    }
}

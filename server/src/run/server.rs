//! [`Server`]: opens the data, starts broker and orchestrator, listens; and ends all of it in the right order.

use super::drain::run;
use super::front::{Front, url};
use super::parts::{Parts, Role};
use super::{ServeConfig, StartError, node};
use std::net::SocketAddr;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A running server. Dropping it does not end it: cancel the token it was started with, then [`Server::join`].
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    speaks_tls: bool,
    task: JoinHandle<Result<(), StartError>>,
}

impl Server {
    /// Opens the data directory, recovers what it holds, and listens. When this returns the server takes requests. It ends when
    /// `shutdown` is cancelled.
    ///
    /// # Errors
    /// [`StartError`]. Nothing is left behind: the address and the data directory are free again.
    pub async fn start(config: ServeConfig, shutdown: CancellationToken) -> Result<Self, StartError> {
        let front = Front::open(&config).await?;
        let (address, speaks_tls) = (front.address, front.tls.is_some());
        let task = if config.cluster.log.is_some() {
            tokio::spawn(Box::pin(node::start(config, front, shutdown)).await?)
        } else {
            let parts = Parts::open(config.clone(), &front, Role::Alone).await?;
            front.serve_begins(&config, parts.broker.shards());
            tokio::spawn(run(front, parts, None, config.shutdown_grace, shutdown))
        };
        Ok(Self { address, speaks_tls, task })
    }

    /// Where it listens; the port is the real one, also if 0 was asked for.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its address as a client takes it.
    #[must_use]
    pub fn url(&self) -> String {
        url(self.speaks_tls, self.address)
    }

    /// Waits until the server has ended: requests are answered, everything is on disk, the data directory can be opened again.
    ///
    /// # Errors
    /// [`StartError::GraceElapsed`] when requests were cut off, [`StartError::Panicked`].
    pub async fn join(self) -> Result<(), StartError> {
        self.task.await.unwrap_or_else(|error| Err(StartError::Panicked(error.to_string())))
    }
}

#[cfg(test)]
mod access_tests;
#[cfg(test)]
mod metrics_tests;
#[cfg(test)]
mod stall_tests;
#[cfg(test)]
mod tests;

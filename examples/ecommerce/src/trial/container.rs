//! A PostgreSQL server in a container, for whoever asks for PostgreSQL and names no server.

use super::TrialError;
use sagamq_sdk::postgres::tokio_postgres::{Config, NoTls};
use std::time::Duration;
use testcontainers::core::IntoContainerPort as _;
use testcontainers::runners::AsyncRunner as _;
use testcontainers::{ContainerAsync, GenericImage, ImageExt as _};
use tokio::time::Instant;

/// Says which image the server is of, and what it is by default.
const IMAGE: &str = "SAGAMQ_POSTGRES_IMAGE";
const IMAGE_DEFAULT: &str = "postgres:17";

/// The port of the server in its container.
const PORT: u16 = 5432;

/// Options of the server: a place for every branch that may be prepared, and connections for all services.
const OPTIONS: [&str; 4] = ["-c", "max_prepared_transactions=64", "-c", "max_connections=300"];

/// Longest time until the server answers, a registry's time included.
const READY_LIMIT: Duration = Duration::from_secs(300);

/// Pause between two looks whether it does.
const LOOK: Duration = Duration::from_millis(100);

/// The container, which goes when it is removed.
#[derive(Debug)]
pub(super) struct Container {
    running: ContainerAsync<GenericImage>,
    connection: String,
}

impl Container {
    /// Starts a server and waits until it answers.
    pub(super) async fn start() -> Result<Self, TrialError> {
        let named = std::env::var(IMAGE).unwrap_or_else(|_| IMAGE_DEFAULT.to_owned());
        let (name, tag) = split(&named);
        let image = GenericImage::new(name, tag)
            .with_exposed_port(PORT.tcp())
            .with_env_var("POSTGRES_HOST_AUTH_METHOD", "trust")
            .with_cmd(OPTIONS)
            .with_startup_timeout(READY_LIMIT);
        let running = image.start().await.map_err(|source| TrialError::NoPostgres { image: named.clone(), source })?;
        let failed = |source| TrialError::NoPostgres { image: named.clone(), source };
        let host = running.get_host().await.map_err(failed)?;
        let port = running.get_host_port_ipv4(PORT.tcp()).await.map_err(failed)?;
        let connection = format!("host={host} port={port} user=postgres dbname=postgres connect_timeout=5");
        let container = Self { running, connection };
        container.wait().await?;
        println!("PostgreSQL runs in a container of the image {named}.");
        Ok(container)
    }

    /// How the server is reached.
    pub(super) fn connection(&self) -> &str {
        &self.connection
    }

    /// While the server makes its first database, it answers nobody from outside.
    async fn wait(&self) -> Result<(), TrialError> {
        let config: Config = self.connection.parse()?;
        let until = Instant::now() + READY_LIMIT;
        loop {
            let asked = async {
                let (client, driver) = config.connect(NoTls).await?;
                tokio::spawn(driver);
                client.batch_execute("SELECT 1").await
            };
            match asked.await {
                Ok(()) => return Ok(()),
                Err(error) if Instant::now() >= until => return Err(error.into()),
                Err(_) => tokio::time::sleep(LOOK).await,
            }
        }
    }

    /// Ends and removes it, with its data.
    pub(super) async fn remove(self) {
        if let Err(error) = self.running.rm().await {
            tracing::warn!(%error, "the container of PostgreSQL could not be removed");
        }
    }

    /// Leaves it where it is, for whoever looks for what went wrong.
    pub(super) fn keep(self) {
        println!("PostgreSQL stays in the container {}: docker rm --force --volumes {0}", self.running.id());
        // Its end would remove it.
        std::mem::forget(self.running);
    }
}

/// Name and tag of an image; the colon of a registry's port is none of a tag.
fn split(image: &str) -> (&str, &str) {
    image.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')).unwrap_or((image, "latest"))
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn a_registry_s_port_is_no_tag() {
        assert_eq!(split("postgres:17"), ("postgres", "17"));
        assert_eq!(split("postgres"), ("postgres", "latest"));
        assert_eq!(split("registry.example:5000/postgres"), ("registry.example:5000/postgres", "latest"));
        assert_eq!(split("registry.example:5000/postgres:16"), ("registry.example:5000/postgres", "16"));
    }
}

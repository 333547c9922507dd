//! Databases of PostgreSQL for the services that are to have one: made for a trial, and gone after it.

use super::TrialError;
use super::site::{INVENTORY, ORDER};
use sagamq_sdk::postgres::tokio_postgres::types::Type;
use sagamq_sdk::postgres::tokio_postgres::{Client, Config, NoTls};

/// The services whose data are in PostgreSQL where that is asked for; all others stay on RocksDB.
const SERVICES: [&str; 2] = [ORDER, INVENTORY];

/// A server with a database for each of these services.
#[derive(Debug)]
pub(super) struct Databases {
    connection: String,
    client: Client,
    names: Vec<(&'static str, String)>,
}

impl Databases {
    /// Makes them. Their names are new, so nothing that is there is touched.
    pub(super) async fn create(connection: &str) -> Result<Self, TrialError> {
        let config: Config = connection.parse()?;
        let (client, driver) = config.connect(NoTls).await?;
        // Ends with the client. What goes wrong is told to whoever uses that.
        tokio::spawn(driver);
        let run: u32 = rand::random();
        let names: Vec<_> = SERVICES.map(|service| (service, format!("sagamq_shop_{service}_{run:08x}"))).into();
        for (_, name) in &names {
            client.batch_execute(&format!("CREATE DATABASE {name}")).await?;
        }
        Ok(Self { connection: connection.to_owned(), client, names })
    }

    /// The options by which this service finds its database, if it has one.
    pub(super) fn options(&self, service: &str) -> Vec<String> {
        let name = self.names.iter().find(|(of, _)| *of == service).map(|(_, name)| name.clone());
        name.map_or_else(Vec::new, |name| vec!["--postgres".to_owned(), self.connection.clone(), "--database".to_owned(), name])
    }

    /// Transactions that are prepared in them.
    pub(super) async fn prepared(&self) -> Result<Vec<String>, TrialError> {
        let names: Vec<&str> = self.names.iter().map(|(_, name)| name.as_str()).collect();
        let query = "SELECT gid FROM pg_prepared_xacts WHERE database = ANY($1)";
        let rows = self.client.query_typed(query, &[(&names, Type::TEXT_ARRAY)]).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// Removes them.
    pub(super) async fn remove(&self) -> Result<(), TrialError> {
        for (_, name) in &self.names {
            self.client.batch_execute(&format!("DROP DATABASE {name} WITH (FORCE)")).await?;
        }
        Ok(())
    }
}

//! A broker for the comparison: a process of its own on new data.

use serde_json::Value;
use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// How long it may take to listen.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running server, killed and its data removed when this is dropped.
#[derive(Debug)]
pub struct Server {
    /// Its address.
    pub url: String,
    _child: Child,
    _data: TempDir,
}

impl Server {
    /// Starts `program serve` on a free port.
    ///
    /// # Errors
    /// When it does not listen.
    ///
    /// # Panics
    /// Never: its output is piped.
    pub async fn start(program: &Path) -> io::Result<Self> {
        let data = tempfile::Builder::new().prefix("sagamq-chain-").tempdir()?;
        let mut child = Command::new(program)
            .args(["serve", "--listen", "127.0.0.1:0", "--log-level", "warn", "--output", "json", "--data-dir"])
            .arg(data.path().join("data"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.map_err(io::Error::other)??;
        let said: Value = serde_json::from_str(&line.unwrap_or_default()).map_err(|_| io::Error::other("the server did not start"))?;
        let url = said["listening"].as_str().ok_or_else(|| io::Error::other("the server does not say where it listens"))?.to_owned();
        Ok(Self { url, _child: child, _data: data })
    }
}

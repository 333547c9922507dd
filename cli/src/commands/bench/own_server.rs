//! A server for one run: a process of its own, as one that is measured elsewhere is, on new data.

use crate::config::ENVIRONMENT_PREFIX;
use crate::error::CliError;
use serde::Deserialize;
use std::ffi::OsStr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// How long it may take to listen, and to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running server. Dropping it kills the process and removes the data.
#[derive(Debug)]
pub(super) struct OwnServer {
    child: Child,
    pub(super) url: String,
    data: TempDir,
}

/// The line that `serve` prints once it listens.
#[derive(Deserialize)]
struct Listening {
    listening: String,
}

/// Whether a variable says something of another server than one for a run: in the environment of a node this one would join its cluster.
fn is_of_another(variable: &OsStr) -> bool {
    let key = variable.to_str().and_then(|name| name.strip_prefix(ENVIRONMENT_PREFIX)).map(str::to_ascii_lowercase);
    let begins = |key: &str| ["cluster_", "jwt_", "tls_"].iter().any(|beginning| key.starts_with(beginning));
    key.is_some_and(|key| {
        matches!(&*key, "config" | "log" | "node" | "node_url" | "authentication" | "insecure_no_auth" | "bootstrap_key_file")
            || begins(&key)
    })
}

impl OwnServer {
    /// Starts this program's `serve` on a free port, with its data below `folder`.
    pub(super) async fn start(folder: &Path) -> Result<Self, CliError> {
        let io = |what: &str| {
            let what = what.to_owned();
            move |error| CliError::Io { what, error }
        };
        let data = tempfile::Builder::new()
            .prefix("sagamq-bench-")
            .tempdir_in(folder)
            .map_err(io("cannot make a folder for the server's data"))?;
        let own = std::env::current_exe().map_err(io("cannot find out where this program lies"))?;
        let mut command = Command::new(own);
        for (name, _) in std::env::vars_os().filter(|(name, _)| is_of_another(name)) {
            command.env_remove(name);
        }
        let mut child = command
            .args(["serve", "--listen", "127.0.0.1:0", "--log-level", "warn", "--output", "json", "--data-dir"])
            .arg(data.path().join("data"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(io("cannot start a server"))?;
        let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let first = tokio::time::timeout(PATIENCE, lines.next_line()).await;
        let url = match first {
            Ok(Ok(Some(line))) => serde_json::from_str::<Listening>(&line).ok().map(|said| said.listening),
            Ok(Ok(None) | Err(_)) | Err(_) => None,
        };
        let url = url.ok_or_else(|| CliError::Failed("the server of this run did not start; what it said stands above".to_owned()))?;
        Ok(Self { child, url, data })
    }

    /// A folder on its disk.
    pub(super) fn folder(&self) -> &Path {
        self.data.path()
    }

    /// Asks it to end, and waits for that. One that does not is killed.
    pub(super) async fn stop(mut self) {
        if let Some(pid) = self.child.id().and_then(|pid| rustix::process::Pid::from_raw(i32::try_from(pid).ok()?)) {
            // One that has ended already cannot be asked.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        if tokio::time::timeout(PATIENCE, self.child.wait()).await.is_err() {
            drop(self.child.kill().await);
        }
    }
}

//! Where the log of the servers is that are compared, and the servers.

use super::delay::Delay;
use crate::server::eventually;
use sagamq_api::ErrorCode;
use sagamq_sdk::{Client, RetryPolicy};
use serde_json::Value;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// How long a server may take to listen, and to end.
const PATIENCE: Duration = Duration::from_secs(120);

/// Where scripts/with-s3 says which bucket it has made, and how its server is reached.
const S3: &str = "SAGAMQ_TEST_S3";
const ENDPOINT: &str = "AWS_ENDPOINT";

/// Where a log is, if there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    Alone,
    /// In a folder, with so many nodes, of which one is active.
    Folder(u8),
    S3,
    S3Late(u64),
}

/// The S3 server.
#[derive(Clone, Debug)]
pub(super) struct Bucket {
    url: String,
    /// Its server, as `host:port`.
    server: String,
}

impl Bucket {
    /// The one of scripts/with-s3, if this runs under it.
    pub(super) fn of_environment() -> Option<Self> {
        let (url, endpoint) = (std::env::var(S3).ok()?, std::env::var(ENDPOINT).ok()?);
        Some(Self { url, server: endpoint.strip_prefix("http://")?.trim_end_matches('/').to_owned() })
    }
}

impl Place {
    pub(super) const ALL: [Self; 8] =
        [Self::Alone, Self::Folder(1), Self::Folder(2), Self::Folder(3), Self::S3, Self::S3Late(0), Self::S3Late(10), Self::S3Late(50)];

    pub(super) fn says(self) -> String {
        match self {
            Self::Alone => "no log".to_owned(),
            Self::Folder(1) => "a folder on the same disk".to_owned(),
            Self::Folder(nodes) => format!("a folder on the same disk, {nodes} nodes"),
            Self::S3 => "the S3 server".to_owned(),
            Self::S3Late(ms) => format!("the S3 server, {ms} ms added"),
        }
    }

    pub(super) fn needs_s3(self) -> bool {
        matches!(self, Self::S3 | Self::S3Late(_))
    }
}

/// A running server, with those that stand by if there are any. Dropping it kills the processes and removes the data.
#[derive(Debug)]
pub(super) struct Server {
    /// The active one first.
    children: Vec<Child>,
    url: String,
    _delay: Option<Delay>,
    _data: TempDir,
}

impl Server {
    /// On new data, with its log at `place`, in a part of the bucket that nobody else has.
    ///
    /// # Panics
    /// When it does not start, or does not become the active node.
    pub(super) async fn start(program: &Path, place: Place, bucket: Option<&Bucket>, run: &str) -> Self {
        let data = tempfile::Builder::new().prefix("sagamq-bench-").tempdir().expect("a folder for the data");
        let mut command = node(program, data.path(), "a");
        let (mut delay, mut standbys) = (None, Vec::new());
        match (place, bucket) {
            (Place::Alone, _) => {}
            (Place::Folder(nodes), _) => {
                let log = format!("file://{}", data.path().join("log").display());
                command.args(["--node", "a", "--log", &log]);
                standbys = ["b", "c"].into_iter().take(usize::from(nodes) - 1).map(|name| (name, log.clone())).collect();
            }
            (Place::S3 | Place::S3Late(_), bucket) => {
                let Bucket { url, server } = bucket.expect("a place that needs a bucket is not measured without one");
                command.args(["--node", "a", "--log", &format!("{url}/{run}")]);
                if let Place::S3Late(ms) = place {
                    let before = Delay::before(server.clone(), Duration::from_millis(ms)).await;
                    command.env(ENDPOINT, format!("http://{}", before.address()));
                    delay = Some(before);
                }
            }
        }
        let (child, url) = start(&mut command).await;
        let client = Client::new(&url).expect("an address").with_retry(RetryPolicy::none());
        eventually("the server is ready", async || client.ready().await.ok()).await;
        let mut children = vec![child];
        for (name, log) in standbys {
            let (child, url) = start(node(program, data.path(), name).args(["--node", name, "--log", &log])).await;
            let client = Client::new(&url).expect("an address").with_retry(RetryPolicy::none());
            eventually("the node stands by", async || client.ready().await.err().filter(|error| error.code() == Some(ErrorCode::Standby)))
                .await;
            children.push(child);
        }
        Self { children, url, _delay: delay, _data: data }
    }

    /// A command that speaks to it.
    pub(super) fn client(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.args(["--server", &self.url]);
        command
    }

    /// Asks it to end and waits until it has, so that it does nothing beside the next one. Those that stand by end first.
    ///
    /// # Panics
    /// When it does not end.
    pub(super) async fn stop(mut self) {
        while let Some(mut child) = self.children.pop() {
            let pid = child.id().and_then(|pid| rustix::process::Pid::from_raw(i32::try_from(pid).ok()?)).expect("the server runs");
            rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("the process can be signalled");
            tokio::time::timeout(PATIENCE, child.wait()).await.expect("the server ends").expect("the process can be waited for");
        }
    }
}

/// A server on data of its own.
fn node(program: &Path, folder: &Path, name: &str) -> Command {
    let mut command = Command::new(program);
    command
        .args(["serve", "--listen", "127.0.0.1:0", "--log-level", "error", "--output", "json", "--data-dir"])
        .arg(folder.join(format!("data-{name}")))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// Gives the process and its address.
async fn start(command: &mut Command) -> (Child, String) {
    let mut child = command.spawn().expect("the server starts");
    let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
    let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.expect("the server says where it listens").expect("a line");
    let said: Value = serde_json::from_str(&line.expect("the server runs")).expect("JSON");
    (child, said["listening"].as_str().expect("an address").to_owned())
}

//! The broker as a cluster: its nodes, which of them serves, and what happens when that one is lost for good.

use super::TrialError;
use super::nodes::NodesPlan;
use super::process::Process;
use super::site::BROKER;
use reqwest::StatusCode;
use sagamq_api::{headers, routes};
use std::ffi::OsString;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::process::Command;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// The names of nodes: as many as there may be, and the one that joins.
pub(super) const NAMES: [&str; 6] = ["node-1", "node-2", "node-3", "node-4", "node-5", "node-6"];

/// The exit code of a node that was the active one and is not any more: it is to be started again.
const STEPPED_DOWN: i32 = 6;

/// Longest time until some node serves, or one stands by. A takeover takes 7 s; on a loaded machine slow is not wrong.
const LIMIT: Duration = Duration::from_secs(120);

/// Longest time until a node answers whether it serves.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(25);

/// The nodes, each a process with a directory of its own.
#[derive(Debug)]
pub(super) struct Cluster {
    program: PathBuf,
    directory: PathBuf,
    log: String,
    urls: Vec<String>,
    http: reqwest::Client,
    nodes: Mutex<Vec<Node>>,
    stepped_down: AtomicUsize,
}

#[derive(Debug)]
struct Node {
    name: &'static str,
    port: u16,
    process: Process,
}

/// A node that is lost, with its disk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lost {
    /// Its name.
    pub(super) name: &'static str,
    /// When it was killed.
    at: Instant,
    /// Which address it had.
    port: u16,
}

/// The node that serves after another one was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Successor {
    /// Its name.
    pub(super) name: &'static str,
    /// From the kill until it served: nobody did meanwhile.
    pub(super) silent: Duration,
}

/// How a cluster went on without a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Takeover {
    /// The node that was lost.
    pub(super) lost: &'static str,
    /// The one that serves since then.
    pub(super) by: Successor,
    /// The new node, with an empty disk, that has the address of the lost one.
    pub(super) new: &'static str,
    /// From the start of the new one until it stood by, with all that is in the log.
    pub(super) joined: Duration,
}

impl Cluster {
    /// Nodes on these ports, with everything they have below `directory`. None runs yet.
    pub(super) fn new(plan: &NodesPlan, program: &Path, directory: &Path, ports: &[u16], http: reqwest::Client) -> Self {
        let log = plan.log.clone().unwrap_or_else(|| format!("file://{}", directory.join("log").display()));
        let urls = ports.iter().map(|port| url(*port)).collect();
        let (program, directory) = (program.to_owned(), directory.to_owned());
        let mut cluster = Self { program, directory, log, urls, http, nodes: Mutex::default(), stepped_down: AtomicUsize::new(0) };
        let nodes = NAMES.iter().zip(ports).map(|(name, port)| cluster.node(name, *port)).collect();
        cluster.nodes = Mutex::new(nodes);
        cluster
    }

    /// The addresses of all nodes, as clients take them.
    pub(super) fn urls(&self) -> String {
        self.urls.join(",")
    }

    /// How often a node noticed that it was not the active one any more, and stood by after a start.
    pub(super) fn stepped_down(&self) -> usize {
        self.stepped_down.load(Ordering::Relaxed)
    }

    fn node(&self, name: &'static str, port: u16) -> Node {
        let args = serve(&self.log, name, port, &self.data(name));
        Node { name, port, process: Process::new(name, &self.program, args, &self.directory.join("logs")) }
    }

    fn data(&self, name: &str) -> PathBuf {
        self.directory.join("data").join(name)
    }

    /// Starts the first node, which makes the cluster, then the others. Returns when it serves and they stand by.
    pub(super) async fn start(&self) -> Result<(), TrialError> {
        let all: Vec<_> = self.nodes.lock().await.iter().map(|node| (node.name, node.port)).collect();
        for (index, (name, port)) in all.into_iter().enumerate() {
            self.start_process(name).await?;
            if index == 0 {
                self.serving().await?;
            } else {
                self.stands_by(name, port).await?;
            }
        }
        Ok(())
    }

    async fn start_process(&self, name: &str) -> Result<(), TrialError> {
        self.nodes.lock().await.iter_mut().filter(|node| node.name == name).try_for_each(|node| node.process.start())
    }

    /// Kills the node that serves and deletes its data directory: nothing of it will come back.
    pub(super) async fn lose(&self) -> Result<Lost, TrialError> {
        let name = self.serving().await?;
        let mut nodes = self.nodes.lock().await;
        let index = nodes.iter().position(|node| node.name == name).expect("nobody but this takes nodes away");
        let mut node = nodes.remove(index);
        node.process.kill().await?;
        let lost = Lost { name, at: Instant::now(), port: node.port };
        drop(nodes);
        tokio::fs::remove_dir_all(self.data(name)).await?;
        Ok(lost)
    }

    /// Waits until another node serves.
    pub(super) async fn take_over(&self, lost: &Lost) -> Result<Successor, TrialError> {
        let name = self.serving().await?;
        Ok(Successor { name, silent: lost.at.elapsed() })
    }

    /// Has a new node join with an empty disk, at the address of the lost one.
    pub(super) async fn replace(&self, lost: &Lost, by: Successor) -> Result<Takeover, TrialError> {
        let new = *NAMES.get(self.urls.len()).expect("there is a name for the one that joins");
        let node = self.node(new, lost.port);
        self.nodes.lock().await.push(node);
        let began = Instant::now();
        // A connection that was under way to the old one may have the port for a moment.
        while TcpListener::bind((Ipv4Addr::LOCALHOST, lost.port)).is_err() {
            self.in_time(began, Some(new)).await?;
        }
        let started = Instant::now();
        self.start_process(new).await?;
        self.stands_by(new, lost.port).await?;
        Ok(Takeover { lost: lost.name, by, new, joined: started.elapsed() })
    }

    /// Waits until a node serves, and says which.
    async fn serving(&self) -> Result<&'static str, TrialError> {
        let began = Instant::now();
        loop {
            let all: Vec<_> = self.nodes.lock().await.iter().map(|node| (node.name, node.port)).collect();
            for &(name, port) in &all {
                if self.ready(port).await.is_some_and(|answer| answer.status().is_success()) {
                    return Ok(name);
                }
            }
            self.in_time(began, None).await?;
        }
    }

    /// Waits until this node says that another one serves.
    async fn stands_by(&self, name: &'static str, port: u16) -> Result<(), TrialError> {
        let began = Instant::now();
        let names_it = |answer: &reqwest::Response| {
            answer.status() == StatusCode::SERVICE_UNAVAILABLE && answer.headers().contains_key(headers::ACTIVE_NODE)
        };
        while !self.ready(port).await.is_some_and(|answer| names_it(&answer)) {
            self.in_time(began, Some(name)).await?;
        }
        Ok(())
    }

    async fn ready(&self, port: u16) -> Option<reqwest::Response> {
        self.http.get(format!("{}{}", url(port), routes::READYZ)).timeout(ANSWER_LIMIT).send().await.ok()
    }

    /// A pause between two looks, as long as there is time for what a node, or any of them, is to do.
    async fn in_time(&self, began: Instant, who: Option<&'static str>) -> Result<(), TrialError> {
        self.check_alive().await?;
        if began.elapsed() > LIMIT {
            let nodes = self.nodes.lock().await;
            let logs: Vec<_> =
                nodes.iter().filter(|node| who.is_none_or(|who| who == node.name)).map(|node| node.process.log_tail()).collect();
            return Err(TrialError::NotReady { name: who.unwrap_or(BROKER), waited: began.elapsed(), log: logs.join("\n") });
        }
        tokio::time::sleep(LOOK).await;
        Ok(())
    }

    /// Starts a node again that has lost its term, as whoever sees to processes does; one that ended in any other way is a failure.
    pub(super) async fn check_alive(&self) -> Result<(), TrialError> {
        for node in self.nodes.lock().await.iter_mut() {
            match node.process.died() {
                Some(status) if status.code() == Some(STEPPED_DOWN) => {
                    self.stepped_down.fetch_add(1, Ordering::Relaxed);
                    node.process.start()?;
                }
                Some(status) => return Err(TrialError::Died { name: node.name, status, log: node.process.log_tail() }),
                None => {}
            }
        }
        Ok(())
    }

    /// What `sagamq cluster status` says.
    pub(super) async fn status(&self) -> Result<String, TrialError> {
        let asked = Command::new(&self.program).args(["cluster", "status", "--log", &self.log]).kill_on_drop(true).output();
        let output =
            tokio::time::timeout(LIMIT, asked).await.map_err(|_| TrialError::WrongAnswer("the log did not answer".to_owned()))??;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(TrialError::WrongAnswer(format!("`sagamq cluster status` failed: {said}")));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Ends all nodes.
    pub(super) async fn stop(&self) -> Result<(), TrialError> {
        for node in self.nodes.lock().await.iter_mut() {
            node.process.kill().await?;
        }
        Ok(())
    }
}

/// The arguments of a node. All that is not named has its default, the cluster's times as well.
fn serve(log: &str, name: &str, port: u16, data: &Path) -> Vec<OsString> {
    let listen = format!("127.0.0.1:{port}");
    let mut args: Vec<OsString> = ["serve", "--log", log, "--node", name, "--listen", &listen, "--data-dir"].map(OsString::from).into();
    args.push(data.into());
    args
}

fn url(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(log: Option<&str>) -> Cluster {
        let plan = NodesPlan { count: 2, log: log.map(str::to_owned) };
        Cluster::new(&plan, Path::new("/bin/sagamq"), Path::new("/tmp/x"), &[7001, 7002], reqwest::Client::new())
    }

    #[test]
    fn clients_know_every_node_and_each_node_has_a_directory_over_one_log() {
        let cluster = cluster(None);
        assert_eq!(cluster.urls(), "http://127.0.0.1:7001,http://127.0.0.1:7002");
        assert_eq!(cluster.log, "file:///tmp/x/log");
        let args = serve(&cluster.log, NAMES[1], 7002, &cluster.data(NAMES[1]));
        let expected = "serve --log file:///tmp/x/log --node node-2 --listen 127.0.0.1:7002 --data-dir /tmp/x/data/node-2";
        assert_eq!(args, expected.split(' ').map(OsString::from).collect::<Vec<_>>());
    }

    #[test]
    fn a_log_that_is_named_is_used_as_it_is() {
        assert_eq!(cluster(Some("s3://bucket/demo-1")).log, "s3://bucket/demo-1");
    }

    #[tokio::test]
    async fn nobody_is_asked_for_what_a_log_that_is_not_there_says() {
        let error = cluster(None).status().await.expect_err("there is no such program");
        assert!(matches!(error, TrialError::Io(_)), "{error}");
    }
}

//! [`Node`]: a process of a cluster over a folder, with times so short that a takeover takes some seconds.

use reqwest::{Certificate, Identity};
use rustix::process::{Pid, Signal, kill_process};
use sagamq_sdk::{Client, ClientBuilder, RetryPolicy};
use sagamq_tests::server::{binary, eventually, free_address, wait_until};
use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

/// The lease, the heartbeat, and the time after which another node takes over: so long that no node is taken for dead because the
/// machine, or its disk, stands still for some seconds.
pub(super) const TIMES: [&str; 6] = ["--cluster-lease", "5s", "--cluster-heartbeat", "100ms", "--cluster-claim-after", "7s"];

/// The same for tests in which nobody is to take over from a node that lives, however slow the disk is. Who drains the last node waits for others as long
/// as the lease.
const PATIENT: [&str; 6] = ["--cluster-lease", "20s", "--cluster-heartbeat", "100ms", "--cluster-claim-after", "30s"];

/// A node of a cluster, killed when it is dropped.
pub(super) struct Node {
    name: &'static str,
    address: SocketAddr,
    data: PathBuf,
    log: String,
    /// What it says on stderr, over all its starts.
    says: PathBuf,
    times: [&'static str; 6],
    /// Settings of its own.
    more: Vec<String>,
    /// Over TLS: whom its clients trust, and the certificate that they show.
    tls: Option<(String, String)>,
    child: Option<Child>,
}

impl Node {
    /// Starts a node with its data below `folder`, over the log in `folder/log`.
    pub(super) fn start(folder: &Path, name: &'static str) -> Self {
        let mut node = Self::prepare(folder, name);
        node.start_again();
        node
    }

    /// A node that is not started.
    pub(super) fn prepare(folder: &Path, name: &'static str) -> Self {
        let log = format!("file://{}", folder.join("log").display());
        let (data, says) = (folder.join(name), folder.join(format!("{name}.stderr")));
        Self { name, address: free_address(), data, log, says, times: TIMES, more: Vec::new(), tls: None, child: None }
    }

    /// As [`Node::prepare`], with a data directory that is there.
    pub(super) fn prepare_on(folder: &Path, name: &'static str, data: &Path) -> Self {
        let mut node = Self::prepare(folder, name);
        data.clone_into(&mut node.data);
        node
    }

    /// The same one with settings of its own.
    pub(super) fn with(mut self, more: &[&str]) -> Self {
        self.more.extend(more.iter().map(|&setting| setting.to_owned()));
        self
    }

    /// The same one with times so long that nobody takes over from it while it lives.
    pub(super) fn patient(mut self) -> Self {
        self.times = PATIENT;
        self
    }

    /// The same one over TLS: whom its clients trust, and the certificate with its key that they show, in PEM. The node's own are settings.
    pub(super) fn over_tls(mut self, trusted: String, shown: String) -> Self {
        self.tls = Some((trusted, shown));
        self
    }

    /// What starts it.
    pub(super) fn command(&self, more: &[&str]) -> Command {
        let mut command = Command::new(binary("sagamq"));
        command
            .args(["serve", "--log-level", "info", "--shards", "4", "--listen", &self.address.to_string(), "--data-dir"])
            .arg(&self.data);
        command
            .args(["--log", &self.log, "--node", self.name])
            .args(self.times)
            .args(["--saga-restart-grace", "0s", "--cluster-snapshot-bytes", "64KiB"])
            .args(&self.more)
            .args(more);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    /// Starts the process; it may stand by.
    pub(super) fn start_again(&mut self) {
        let says = File::options().create(true).append(true).open(&self.says).expect("a file");
        self.child = Some(self.command(&[]).stderr(says).spawn().expect("the node starts"));
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn url(&self) -> String {
        format!("http{}://{}", if self.tls.is_some() { "s" } else { "" }, self.address)
    }

    /// Where its log is.
    pub(super) fn log(&self) -> &str {
        &self.log
    }

    pub(super) fn data(&self) -> &Path {
        &self.data
    }

    /// A client that asks once.
    pub(super) fn client(&self) -> Client {
        self.client_builder().build().expect("a client")
    }

    /// The same, with what else it is to show.
    pub(super) fn client_builder(&self) -> ClientBuilder {
        let builder = Client::builder(self.url()).retry(RetryPolicy::none());
        match &self.tls {
            None => builder,
            Some((trusted, shown)) => builder.ca_certificates(trusted.clone()).client_certificate(shown.clone()),
        }
    }

    /// A client that sends what it is told.
    pub(super) fn http(&self) -> reqwest::Client {
        let builder = reqwest::Client::builder();
        let builder = match &self.tls {
            None => builder,
            Some((trusted, shown)) => {
                let trusted = Certificate::from_pem(trusted.as_bytes()).expect("a certificate");
                builder.tls_certs_only([trusted]).identity(Identity::from_pem(shown.as_bytes()).expect("a certificate and its key"))
            }
        };
        builder.build().expect("a client")
    }

    /// How it answers a GET.
    pub(super) async fn get(&self, path: &str) -> reqwest::Result<reqwest::Response> {
        self.http().get(format!("{}{path}", self.url())).send().await
    }

    /// Everything it has said.
    pub(super) fn says(&self) -> String {
        std::fs::read_to_string(&self.says).unwrap_or_default()
    }

    /// Waits until it answers, whatever.
    pub(super) async fn answers(&mut self) {
        eventually("the node answers", async || {
            self.lives();
            self.get("/healthz").await.ok().filter(|answer| answer.status() == 200).map(drop)
        })
        .await;
    }

    /// Waits until it is the active one.
    pub(super) async fn is_active(&mut self) {
        let client = self.client();
        eventually("the node is active", async || {
            self.lives();
            client.ready().await.ok()
        })
        .await;
    }

    fn lives(&mut self) {
        let ended = self.child.as_mut().expect("the node runs").try_wait().expect("the process can be asked");
        assert!(ended.is_none(), "node {} ended: {ended:?}\n{}", self.name, self.says());
    }

    fn pid(&self) -> Pid {
        Pid::from_child(self.child.as_ref().expect("the node runs"))
    }

    fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("the process can be signalled");
    }

    /// Stops the process as a machine does that pauses, and waits until none of its threads runs: what is sent to it from then on it finds when it
    /// goes on.
    pub(super) async fn pause(&self) {
        self.signal(Signal::STOP);
        let threads = format!("/proc/{}/task", self.child.as_ref().expect("the node runs").id());
        wait_until("every thread is stopped", || {
            let all = std::fs::read_dir(&threads).expect("Linux tells it");
            let mut states = all.filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("stat")).ok());
            // The state stands behind the name, which is in brackets.
            states.all(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))).then_some(())
        })
        .await;
    }

    /// Lets it run again.
    pub(super) fn go_on(&self) {
        self.signal(Signal::CONT);
    }

    /// Ends it as a crash does.
    pub(super) fn kill(&mut self) {
        let mut child = self.child.take().expect("the node runs");
        child.kill().expect("the process can be killed");
        child.wait().expect("the process ends");
    }

    /// Asks it to end, and waits until it has.
    pub(super) async fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.ended().await
    }

    /// Waits until it has ended by itself.
    pub(super) async fn ended(&mut self) -> ExitStatus {
        let child = self.child.as_mut().expect("the node runs");
        let status = wait_until("the node ends", || child.try_wait().expect("the process can be asked")).await;
        self.child = None;
        status
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Nothing to do about a process that is gone already.
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("node {} said:\n{}", self.name, self.says());
        }
    }
}

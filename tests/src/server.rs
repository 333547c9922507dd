//! A `sagamq serve` process on a data directory and a port of its own, or a cluster of three where that is asked for.

use crate::nodes::{self, Nodes};
use sagamq_sdk::Client;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tempfile::TempDir;
use tokio::net::TcpSocket;

/// How long a server may take to answer, or to end: generous, because this is no test of speed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// A server that runs as a process, and is killed when it is dropped.
///
/// Where `SAGAMQ_TEST_CLUSTER` is set, it is three nodes of a cluster over a folder, behind one address that leads to the active one; what is killed
/// or asked to end is that one, and a start brings it back.
#[derive(Debug)]
pub struct ServerProcess {
    program: PathBuf,
    /// Beside those that every server of a test has.
    arguments: Vec<String>,
    /// Its environment, beside that of the test.
    environment: Vec<(&'static str, String)>,
    data: TempDir,
    address: SocketAddr,
    child: Option<Child>,
    /// In the place of the child.
    nodes: Option<Nodes>,
}

/// Whether a test that is about one server alone has to be left out, because the servers of tests are clusters. It says so, and why.
///
/// # Panics
/// When stderr is closed.
#[must_use]
pub fn is_left_out_over_a_cluster(because: &str) -> bool {
    let is_left_out = nodes::are_asked_for();
    if is_left_out {
        // Not printed: that would be shown of failed tests only.
        let said = format!("LEFT OUT over a cluster: {}: {because}\n", std::thread::current().name().unwrap_or_default());
        std::io::stderr().write_all(said.as_bytes()).expect("stderr is open");
    }
    is_left_out
}

/// The binary under test: the one that was built with this test, or the one in the folder that `SAGAMQ_TEST_COMMANDS` says, if it has it.
///
/// # Panics
/// When it is not there.
#[must_use]
pub fn binary(name: &str) -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace");
    let said = std::env::var_os("SAGAMQ_TEST_COMMANDS").map(|folder| workspace.join(folder).join(name));
    if let Some(said) = said.filter(|path| path.is_file()) {
        return said;
    }
    let own = std::env::current_exe().expect("a test has a path");
    let found = own.ancestors().skip(1).take(2).map(|folder| folder.join(name)).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("`{name}` is not beside {}: build the whole workspace first (make test does)", own.display()))
}

/// An address that nobody else gets while this process lives, and at which nobody listens before a server of the test does. A restarted
/// server needs the same one, so the system cannot choose at each start.
///
/// # Panics
/// When the system has no port left.
#[must_use]
pub fn free_address() -> SocketAddr {
    free_address_at(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

/// As [`free_address`], at another address of this machine.
///
/// # Panics
/// When the system has no port left.
#[must_use]
pub fn free_address_at(at: IpAddr) -> SocketAddr {
    /// Bound and never listening: the system gives their ports to nobody, and a server that means just that port may have it all the
    /// same, and again after each of its ends.
    static KEPT: Mutex<Vec<TcpSocket>> = Mutex::new(Vec::new());
    let socket = if at.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.expect("a socket");
    socket.set_reuseaddr(true).expect("a socket can be set");
    socket.bind((at, 0).into()).expect("a free port");
    let address = socket.local_addr().expect("a bound socket has an address");
    // Other systems let nobody listen beside it.
    if cfg!(target_os = "linux") {
        KEPT.lock().unwrap_or_else(PoisonError::into_inner).push(socket);
    }
    address
}

/// Runs a command to its end, and ends it if it does not: one that starts a server where it was to refuse runs for ever.
///
/// # Panics
/// When it does not run, or does not end by itself.
#[must_use]
pub fn ended(mut command: Command) -> Output {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the command runs");
    let pid = rustix::process::Pid::from_child(&child);
    let (over, end) = mpsc::channel();
    let watchdog = std::thread::spawn(move || match end.recv_timeout(PATIENCE) {
        Err(RecvTimeoutError::Timeout) => rustix::process::kill_process(pid, rustix::process::Signal::KILL).is_ok(),
        Ok(()) | Err(RecvTimeoutError::Disconnected) => false,
    });
    let output = child.wait_with_output().expect("the command ends");
    drop(over);
    assert!(!watchdog.join().expect("no panic"), "it does not end by itself: {command:?}: {output:?}");
    output
}

impl ServerProcess {
    /// Starts a server on a new data directory and waits until it is ready.
    ///
    /// # Panics
    /// When it does not get ready.
    pub async fn start() -> Self {
        Self::start_program(&binary("sagamq")).await
    }

    /// As [`ServerProcess::start`], with another binary of the server than the one that was built with this.
    ///
    /// # Panics
    /// When it does not get ready.
    pub async fn start_program(program: &Path) -> Self {
        let data = tempfile::Builder::new().prefix("sagamq-test-").tempdir().expect("a folder for the data");
        Self::start_on(program.to_owned(), data, Vec::new(), Vec::new()).await
    }

    async fn start_on(program: PathBuf, data: TempDir, arguments: Vec<String>, environment: Vec<(&'static str, String)>) -> Self {
        let mut server = Self { program, arguments, environment, data, address: free_address(), child: None, nodes: None };
        // Nodes are those of this build.
        if nodes::are_asked_for() && server.program == binary("sagamq") {
            server.nodes = Some(Nodes::behind(server.address, &server.data()));
        }
        server.restart().await;
        server
    }

    /// As [`ServerProcess::start`], with its data in a folder of its own within this one, and with further arguments at each start.
    ///
    /// # Panics
    /// When it does not get ready.
    pub async fn start_in(folder: &Path, arguments: &[&str]) -> Self {
        let data = tempfile::Builder::new().prefix("sagamq-test-").tempdir_in(folder).expect("a folder for the data");
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        Self::start_on(binary("sagamq"), data, arguments, Vec::new()).await
    }

    /// As [`ServerProcess::start`], with these variables in its environment at each start.
    ///
    /// # Panics
    /// When it does not get ready.
    pub async fn start_with(environment: &[(&'static str, String)]) -> Self {
        let data = tempfile::Builder::new().prefix("sagamq-test-").tempdir().expect("a folder for the data");
        Self::start_on(binary("sagamq"), data, Vec::new(), environment.to_vec()).await
    }

    /// Its data directory; of a cluster, that of the active node.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.nodes.as_ref().map_or_else(|| self.data.path().join("data"), Nodes::data)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its address as clients take it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A client of it.
    ///
    /// # Panics
    /// When the client cannot be made.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::new(self.url()).expect("a legal URL")
    }

    /// A command that would start it, to look at its refusals.
    #[must_use]
    pub fn command(data: &Path, address: SocketAddr) -> Command {
        Self::command_of(&binary("sagamq"), data, address)
    }

    fn command_of(program: &Path, data: &Path, address: SocketAddr) -> Command {
        let mut command = Command::new(program);
        command.args(["serve", "--log-level", "warn", "--listen", &address.to_string(), "--data-dir"]).arg(data);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    /// Starts the process again on the same data and port, and waits until it is ready. How long that took.
    ///
    /// # Panics
    /// When it does not get ready.
    pub async fn restart(&mut self) -> Duration {
        let mut command = Self::command_of(&self.program, &self.data(), self.address);
        command.args(&self.arguments).envs(self.environment.iter().map(|(name, value)| (name, value)));
        self.restart_as(command).await
    }

    /// As [`ServerProcess::restart`], by a command of the test's own: with other arguments, or with bounds around the process.
    ///
    /// # Panics
    /// When it does not get ready.
    #[expect(clippy::disallowed_methods, reason = "a test measures how long a restart takes")]
    pub async fn restart_as(&mut self, mut command: Command) -> Duration {
        let began = std::time::Instant::now();
        let mut child = match &mut self.nodes {
            Some(nodes) => {
                nodes.start(&command);
                None
            }
            None => Some(command.spawn().expect("the server starts")),
        };
        let client = self.client().with_retry(sagamq_sdk::RetryPolicy::none());
        while client.ready().await.is_err() {
            if let Some(status) = child.as_mut().and_then(|child| child.try_wait().expect("the process can be asked")) {
                panic!("the server ended before it was ready: {status}");
            }
            assert!(began.elapsed() < PATIENCE, "the server is not ready after {PATIENCE:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.child = child;
        began.elapsed()
    }

    /// Waits until its page of metrics has all of these lines: some are counted a moment after what they count can be seen.
    ///
    /// # Panics
    /// When it does not come to that.
    pub async fn shows(&self, lines: &[&str]) {
        for line in lines {
            eventually(line, async || {
                let page = reqwest::get(format!("{}/metrics", self.url())).await.ok()?.text().await.ok()?;
                page.lines().any(|found| found == *line).then_some(())
            })
            .await;
        }
    }

    /// The most memory the process ever had resident, in KiB.
    ///
    /// # Panics
    /// When it does not run, or the system is no Linux.
    #[must_use]
    pub fn peak_memory_kib(&self) -> u64 {
        self.status_kib("VmHWM:")
    }

    /// The memory that the process has resident, in KiB.
    ///
    /// # Panics
    /// When it does not run, or the system is no Linux.
    #[must_use]
    pub fn memory_kib(&self) -> u64 {
        self.status_kib("VmRSS:")
    }

    fn pid(&self) -> u32 {
        match &self.nodes {
            Some(nodes) => nodes.pid(),
            None => self.child.as_ref().expect("the server runs").id(),
        }
    }

    fn status_kib(&self, field: &str) -> u64 {
        let pid = self.pid();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("Linux tells it");
        let value = status.lines().find_map(|line| line.strip_prefix(field)?.trim().strip_suffix("kB")?.trim().parse().ok());
        value.expect("a process has it")
    }

    /// Bytes that the process caused to be written to the device since it started.
    ///
    /// # Panics
    /// When it does not run, or the system is no Linux.
    #[must_use]
    pub fn written_bytes(&self) -> u64 {
        let pid = self.pid();
        let io = std::fs::read_to_string(format!("/proc/{pid}/io")).expect("Linux tells it");
        io.lines().find_map(|line| line.strip_prefix("write_bytes: ")?.parse().ok()).expect("the system counts it")
    }

    /// Ends the process as a crash would: SIGKILL.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill(&mut self) {
        if let Some(nodes) = &mut self.nodes {
            return nodes.kill();
        }
        let mut child = self.child.take().expect("the server runs");
        child.kill().expect("the process can be killed");
        child.wait().expect("the process ends");
    }

    /// Asks the process to end (SIGTERM) and waits until it has.
    ///
    /// # Panics
    /// When it does not run, or does not end.
    pub async fn terminate(&mut self) -> ExitStatus {
        if let Some(nodes) = &mut self.nodes {
            self.child = Some(nodes.take_active());
        }
        // It stays in `self` until it has ended, so that one that hangs is killed when the test gives up.
        let child = self.child.as_mut().expect("the server runs");
        let pid = rustix::process::Pid::from_child(child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("the process can be signalled");
        let status = wait_until("the server ends", || child.try_wait().expect("the process can be asked")).await;
        self.child = None;
        status
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Nothing to do about a process that is gone already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Waits for a condition, generously.
///
/// # Panics
/// When it does not come.
pub async fn wait_until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    eventually(what, async || condition()).await
}

/// As [`wait_until`], for a condition that has to be asked for.
///
/// # Panics
/// When it does not come.
#[expect(clippy::disallowed_methods, reason = "a test waits in real time")]
pub async fn eventually<T>(what: &str, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let began = std::time::Instant::now();
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(began.elapsed() < PATIENCE, "{what}: not after {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

//! A `sagamq serve` process on a data directory and a port of its own.

use sagamq_sdk::Client;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// How long a server may take to answer, or to end: generous, because this is no test of speed.
const PATIENCE: Duration = Duration::from_secs(120);

/// A server that runs as a process, and is killed when it is dropped.
#[derive(Debug)]
pub struct ServerProcess {
    program: PathBuf,
    /// Beside those that every server of a test has.
    arguments: Vec<String>,
    data: TempDir,
    address: SocketAddr,
    child: Option<Child>,
}

/// The binary under test: the one that was built with this test.
///
/// # Panics
/// When it is not there.
#[must_use]
pub fn binary(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("a test has a path");
    let found = own.ancestors().skip(1).take(2).map(|folder| folder.join(name)).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("`{name}` is not beside {}: build the whole workspace first (make test does)", own.display()))
}

/// A port that was free a moment ago. A restarted server needs the same one, so the system cannot choose at each start.
///
/// # Panics
/// When the system has no port left.
#[must_use]
pub fn free_address() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("a bound socket has an address")
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
        let mut server = Self { program: program.to_owned(), arguments: Vec::new(), data, address: free_address(), child: None };
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
        let mut server = Self { program: binary("sagamq"), arguments, data, address: free_address(), child: None };
        server.restart().await;
        server
    }

    /// Its data directory.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.data.path().join("data")
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
        command.args(&self.arguments);
        self.restart_as(command).await
    }

    /// As [`ServerProcess::restart`], by a command of the test's own: with other arguments, or with bounds around the process.
    ///
    /// # Panics
    /// When it does not get ready.
    #[expect(clippy::disallowed_methods, reason = "a test measures how long a restart takes")]
    pub async fn restart_as(&mut self, mut command: Command) -> Duration {
        let began = std::time::Instant::now();
        let mut child = command.spawn().expect("the server starts");
        let client = self.client().with_retry(sagamq_sdk::RetryPolicy::none());
        while client.ready().await.is_err() {
            if let Some(status) = child.try_wait().expect("the process can be asked") {
                panic!("the server ended before it was ready: {status}");
            }
            assert!(began.elapsed() < PATIENCE, "the server is not ready after {PATIENCE:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.child = Some(child);
        began.elapsed()
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

    fn status_kib(&self, field: &str) -> u64 {
        let pid = self.child.as_ref().expect("the server runs").id();
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
        let pid = self.child.as_ref().expect("the server runs").id();
        let io = std::fs::read_to_string(format!("/proc/{pid}/io")).expect("Linux tells it");
        io.lines().find_map(|line| line.strip_prefix("write_bytes: ")?.parse().ok()).expect("the system counts it")
    }

    /// Ends the process as a crash would: SIGKILL.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("the server runs");
        child.kill().expect("the process can be killed");
        child.wait().expect("the process ends");
    }

    /// Asks the process to end (SIGTERM) and waits until it has.
    ///
    /// # Panics
    /// When it does not run, or does not end.
    pub async fn terminate(&mut self) -> ExitStatus {
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

//! `sagamq serve` as a process: it says where it listens, ends when it is told to, and refuses what it must.

use crate::support::{LIMIT, Run, Watchdog, run, sagamq};
use rustix::process::{Pid, Signal, kill_process};
use sagamq_server::run::{ServeConfig, Server, StartError};
use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
#[cfg(target_os = "linux")]
use tokio::net::TcpStream;
#[cfg(target_os = "linux")]
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// What every server here is started with.
fn flags_of(data_dir: &Path) -> impl Iterator<Item = &OsStr> {
    ["serve", "--listen", "127.0.0.1:0", "--log-format", "json", "--data-dir"].map(OsStr::new).into_iter().chain([data_dir.as_os_str()])
}

/// A server in a process of its own; killed when dropped.
pub(crate) struct Process {
    child: Child,
    pub(crate) url: String,
}

impl Process {
    pub(crate) fn start(data_dir: &Path) -> Self {
        Self::start_with(data_dir, &[], &[])
    }

    /// With further flags and variables.
    pub(crate) fn start_with(data_dir: &Path, flags: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut command = sagamq();
        command.args(flags_of(data_dir)).args(flags).envs(environment.iter().copied());
        Self::begin(command)
    }

    /// Under a bound that the shell's `ulimit` sets.
    #[cfg(target_os = "linux")]
    fn start_within(ulimit: &str, data_dir: &Path) -> Self {
        let ours = sagamq();
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!("ulimit {ulimit} && exec \"$0\" \"$@\"")).arg(ours.get_program()).args(flags_of(data_dir));
        for (name, _) in ours.get_envs() {
            command.env_remove(name);
        }
        Self::begin(command)
    }

    /// Starts the command, and waits until it says where it listens.
    pub(crate) fn begin(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary runs");
        let watchdog = Watchdog::over(&child);
        let mut line = String::new();
        let read = BufReader::new(child.stdout.as_mut().expect("it is piped")).read_line(&mut line).expect("stdout is text");
        assert!(!watchdog.has_killed(), "the server says nothing");
        if read == 0 {
            let mut stderr = String::new();
            drop(child.stderr.take().expect("it is piped").read_to_string(&mut stderr));
            panic!("the server did not start: {stderr}");
        }
        let (_, url) = line.trim().split_once("listens on ").unwrap_or_else(|| panic!("it says where it listens, not: {line}"));
        Self { url: url.to_owned(), child }
    }

    pub(crate) fn run(&self, args: &[&str]) -> Run {
        run(&[args, &["--server", &self.url]].concat())
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("the process lives");
    }

    /// Waits until its log has a line with these words.
    fn says(&mut self, words: &str) {
        let watchdog = Watchdog::over(&self.child);
        // Byte by byte: nothing behind the line is taken from whoever reads on.
        let mut log = BufReader::with_capacity(1, self.child.stderr.as_mut().expect("it is piped"));
        let mut line = String::new();
        while !line.contains(words) {
            line.clear();
            let read = log.read_line(&mut line).expect("the log is text");
            assert!(read > 0, "it ended, or was ended, and never said {words:?}");
        }
        assert!(!watchdog.has_killed(), "it says {words:?} too late");
    }

    /// Waits until it has ended; its exit code and its log.
    pub(crate) fn ended(mut self) -> (Option<i32>, String) {
        let watchdog = Watchdog::over(&self.child);
        let mut log = String::new();
        // To the end of the stream, so that a full pipe cannot hold it up.
        self.child.stderr.take().expect("it is piped").read_to_string(&mut log).expect("the log is text");
        assert!(!watchdog.has_killed(), "the server does not end: {log}");
        (self.child.wait().expect("it ends").code(), log)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn a_term_signal_ends_it_well_and_the_data_can_be_opened_again() {
    let directory = tempfile::tempdir().expect("a directory");
    let server = Process::start(directory.path());
    server.run(&["topic", "create", "orders"]).expect(0);
    server.signal(Signal::TERM);
    let (code, log) = server.ended();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()), "the log is JSON: {log}");

    let server = Process::start(directory.path());
    server.run(&["topic", "describe", "orders"]).expect(0);
    server.signal(Signal::INT);
    assert_eq!(server.ended().0, Some(0));
}

#[test]
fn a_second_signal_ends_it_at_once_with_a_request_under_way() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut server = Process::start(directory.path());
    server.run(&["topic", "create", "orders"]).expect(0);
    let address = server.url.strip_prefix("http://").expect("an address");
    let mut request = std::net::TcpStream::connect(address).expect("it listens");
    request.set_read_timeout(Some(LIMIT)).expect("a legal limit");
    let head = format!(
        "POST /v1/topics HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\ncontent-length: 9\r\nexpect: 100-continue\r\n\r\n"
    );
    request.write_all(head.as_bytes()).expect("it takes a request");
    let mut says = [0; 12];
    request.read_exact(&mut says).expect("it answers");
    assert_eq!(&says, b"HTTP/1.1 100", "it waits for the body, which never comes");
    server.signal(Signal::TERM);
    server.says("draining");
    server.signal(Signal::TERM);
    let (code, log) = server.ended();
    assert_eq!(code, Some(130), "{log}");
    assert!(log.contains("ended at once by a second signal"), "{log}");
}

#[test]
fn a_server_without_certificates_outlives_a_hangup_as_service_managers_send_it_to_have_things_read_anew() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut server = Process::start(directory.path());
    server.signal(Signal::HUP);
    server.says("nothing is read anew");
    server.run(&["topic", "create", "orders"]).expect(0);
    server.signal(Signal::TERM);
    assert_eq!(server.ended().0, Some(0));
}

#[test]
fn its_log_says_what_differs_from_the_defaults_and_which_variable_is_nobodys() {
    let directory = tempfile::tempdir().expect("a directory");
    let server = Process::start_with(directory.path(), &["--shards", "3"], &[("SAGAMQ_DATADIR", "x"), ("SAGAMQ_SERVICE_HOST", "10.0.0.1")]);
    server.signal(Signal::TERM);
    let (code, log) = server.ended();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("SAGAMQ_DATADIR is no setting and is ignored: did you mean SAGAMQ_DATA_DIR?"), "{log}");
    assert!(log.contains("shards = 3") && !log.contains("SAGAMQ_SERVICE_HOST"), "{log}");
}

#[cfg(target_os = "linux")]
#[test]
fn it_takes_as_many_open_files_as_the_system_lets_it_have() {
    let directory = tempfile::tempdir().expect("a directory");
    let server = Process::start_within("-S -n 300", directory.path());
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", server.child.id())).expect("the process lives");
    let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("there is such a bound");
    let bounds: Vec<&str> = line.split_whitespace().skip(3).take(2).collect();
    assert!(bounds[0] == bounds[1] && bounds[0] != "300", "{line}");
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn connections_for_which_there_are_no_files_wait_and_none_fails() {
    let directory = tempfile::tempdir().expect("a directory");
    let server = Process::start_within("-n 300", directory.path());
    let address = server.url.strip_prefix("http://").expect("an address").to_owned();
    let mut held = JoinSet::new();
    for _ in 0..320 {
        let address = address.clone();
        held.spawn(async move {
            let stream = TcpStream::connect(address).await;
            std::future::pending::<()>().await;
            drop(stream);
        });
    }
    let open = || std::fs::read_dir(format!("/proc/{}/fd", server.child.id())).expect("the process lives").count();
    // It has taken what it takes when the number of its files rests.
    let (mut before, mut rests, mut looks) = (0, 0, 0);
    while before < 75 || rests < 20 {
        looks += 1;
        assert!(looks < 6_000, "{before} files are open");
        tokio::time::sleep(Duration::from_millis(10)).await;
        let now = open();
        rests = if now == before { rests + 1 } else { 0 };
        before = now;
    }
    held.shutdown().await;
    server.run(&["topic", "create", "orders"]).expect(0);
    server.signal(Signal::TERM);
    let (code, log) = server.ended();
    assert_eq!(code, Some(0), "{log}");
    assert!(!log.contains("could not be accepted"), "{log}");
    assert!(log.contains("LimitNOFILE=65536") && log.contains("\"connections\":75"), "{log}");
}

#[test]
fn a_data_directory_in_use_is_refused_with_what_to_do() {
    let directory = tempfile::tempdir().expect("a directory");
    let server = Process::start(directory.path());
    let data_dir = directory.path().to_str().expect("text");
    let second = run(&["serve", "--listen", "127.0.0.1:0", "--data-dir", data_dir]).expect(1);
    assert!(second.stderr.contains("in use") && second.stderr.contains("(DATA_DIRECTORY)"), "{}", second.stderr);
    assert_eq!(second.stdout, "", "it never said that it listens");
    server.run(&["topic", "list"]).expect(0);
}

#[test]
fn the_database_of_something_else_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    // The file by which RocksDB knows its databases.
    std::fs::write(directory.path().join("CURRENT"), "MANIFEST-000001\n").expect("a file");
    let data_dir = directory.path().to_str().expect("text");
    let error = run(&["serve", "--listen", "127.0.0.1:0", "--data-dir", data_dir, "--output", "json"]).expect(1).stderr;
    let document = error.lines().last().map(serde_json::from_str::<serde_json::Value>).expect("a line").expect("JSON");
    assert_eq!(document["code"], "DATA_DIRECTORY");
    assert_eq!(std::fs::read_dir(directory.path()).expect("it is there").count(), 1, "nothing was made in it");
}

#[test]
fn an_address_in_use_is_refused_with_what_to_do() {
    let directory = tempfile::tempdir().expect("a directory");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("it is bound").to_string();
    let data_dir = directory.path().join("data");
    let run = run(&["serve", "--listen", &address, "--data-dir", data_dir.to_str().expect("text")]).expect(1);
    assert!(run.stderr.contains(&address) && run.stderr.contains("--listen"), "{}", run.stderr);
    assert!(!data_dir.exists(), "the data was not touched");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_in_this_process_ends_a_long_poll_and_frees_its_data() {
    let directory = tempfile::tempdir().expect("a directory");
    let config = || ServeConfig {
        listen: "127.0.0.1:0".parse().expect("an address"),
        data_dir: directory.path().to_owned(),
        shutdown_grace: Duration::from_secs(60),
        ..ServeConfig::default()
    };
    let shutdown = CancellationToken::new();
    let server = Server::start(config(), shutdown.clone()).await.expect("it starts");
    let second = Server::start(config(), CancellationToken::new()).await;
    assert!(matches!(second, Err(StartError::DataDirectory(_))), "{second:?}");

    let client = sagamq_sdk::Client::new(server.url()).expect("an address").with_retry(sagamq_sdk::RetryPolicy::none());
    let topic = "orders".parse().expect("a name");
    client.create_topic(&topic, sagamq_api::topic::TopicConfig::default()).await.expect("it is made");
    let poll = tokio::spawn({
        let (client, topic) = (client.clone(), topic.clone());
        let request = sagamq_api::queue::ReceiveRequest { wait_ms: Some(20_000), ..Default::default() };
        async move { client.receive(&topic, &"g".parse().expect("a name"), &request).await }
    });
    // The group is made by the receive: once it is there, the poll waits.
    while client.groups(&topic).await.expect("it answers").groups.is_empty() {
        tokio::task::yield_now().await;
    }
    shutdown.cancel();
    server.join().await.expect("it ends well");
    let answer = poll.await.expect("no panic");
    assert!(answer.is_ok() || answer.as_ref().is_err_and(|error| !error.is_outcome_unknown()), "{answer:?}");

    let shutdown = CancellationToken::new();
    let again = Server::start(config(), shutdown.clone()).await.expect("the data is free again");
    let client = sagamq_sdk::Client::new(again.url()).expect("an address");
    client.describe_topic(&topic).await.expect("the topic is there");
    shutdown.cancel();
    again.join().await.expect("it ends well");
}

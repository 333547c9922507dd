//! Runs the binary, and plays the server for it.

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse as _, Response};
use rustix::process::{Pid, Signal, kill_process};
use sagamq_api::{ErrorCode, Problem};
use serde::Serialize;
use serde_json::Value;
use std::fmt::Debug;
use std::io::Write as _;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The binary, in an environment without settings of its own.
pub(crate) fn sagamq() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sagamq"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SAGAMQ_") {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null());
    command
}

/// What a run of the binary left.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().expect("it was not ended by a signal"),
            stdout: String::from_utf8(output.stdout).expect("stdout is text"),
            stderr: String::from_utf8(output.stderr).expect("stderr is text"),
        }
    }
}

impl Run {
    /// Stdout as the one JSON document it has to be.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("stdout is one JSON document, not ({error}): {self:?}"))
    }

    /// Stderr as the one JSON document it has to be.
    pub(crate) fn error(&self) -> Value {
        serde_json::from_str(&self.stderr).unwrap_or_else(|error| panic!("stderr is one JSON document, not ({error}): {self:?}"))
    }

    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:?}");
        self
    }
}

/// A command that takes longer hangs.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

/// Runs the binary to its end.
pub(crate) fn run(args: &[&str]) -> Run {
    run_with_stdin(args, b"")
}

/// Runs the binary with this on stdin.
pub(crate) fn run_with_stdin(args: &[&str], stdin: &[u8]) -> Run {
    let mut child =
        sagamq().args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary runs");
    // A command that fails early does not read all of it.
    drop(child.stdin.take().expect("it is piped").write_all(stdin));
    to_its_end(child, &args)
}

/// Runs the binary with this on stdin and a stdout that nobody reads any more, as behind `| head` when that has enough.
pub(crate) fn run_unread(args: &[&str], stdin: &[u8]) -> Run {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut child = sagamq().args(args).stdin(Stdio::piped()).stdout(writer).stderr(Stdio::piped()).spawn().expect("the binary runs");
    drop(child.stdin.take().expect("it is piped").write_all(stdin));
    to_its_end(child, &args)
}

/// Runs a command to its end.
pub(crate) fn run_command(mut command: Command) -> Run {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary runs");
    to_its_end(child, &command)
}

/// Waits for a child, and ends it if it does not end by itself: a server that starts where it was to refuse runs for ever.
fn to_its_end(child: Child, what: &dyn Debug) -> Run {
    let watchdog = Watchdog::over(&child);
    let output = child.wait_with_output().expect("the binary ends");
    assert!(!watchdog.has_killed(), "sagamq {what:?} hangs: {output:?}");
    output.into()
}

/// Kills a process that is watched for longer than [`LIMIT`], so that whoever reads what it says comes to an end.
pub(crate) struct Watchdog {
    over: mpsc::Sender<()>,
    thread: JoinHandle<bool>,
}

impl Watchdog {
    pub(crate) fn over(child: &Child) -> Self {
        let pid = Pid::from_child(child);
        let (over, end) = mpsc::channel();
        let thread = std::thread::spawn(move || match end.recv_timeout(LIMIT) {
            Err(RecvTimeoutError::Timeout) => kill_process(pid, Signal::KILL).is_ok(),
            Ok(()) | Err(RecvTimeoutError::Disconnected) => false,
        });
        Self { over, thread }
    }

    /// Ends the watch: whether it came too late.
    pub(crate) fn has_killed(self) -> bool {
        drop(self.over);
        self.thread.join().expect("no panic")
    }
}

/// Waits for a child that must end.
pub(crate) fn wait(child: &mut Child) -> std::process::ExitStatus {
    let status = until(|| child.try_wait().expect("it can be waited for"));
    status.unwrap_or_else(|| {
        drop(child.kill());
        panic!("sagamq does not end");
    })
}

/// Looks until there is something, and no longer than [`LIMIT`].
#[expect(clippy::disallowed_methods, reason = "a test waits in real time")]
pub(crate) fn until<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let give_up = std::time::Instant::now() + LIMIT;
    loop {
        let found = look();
        if found.is_some() || std::time::Instant::now() > give_up {
            return found;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A request that the scripted server got.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// Method and path with query, for example `GET /v1/topics`.
    pub(crate) line: String,
    pub(crate) body: Bytes,
    pub(crate) headers: HeaderMap,
}

impl Asked {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("the body is JSON")
    }
}

type Answer = Box<dyn FnMut(&Asked) -> Response + Send>;

struct Script {
    answer: Mutex<Answer>,
    asked: Mutex<Vec<Asked>>,
}

/// A server that says what a test wants.
pub(crate) struct Scripted {
    pub(crate) url: String,
    script: Arc<Script>,
    shutdown: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Scripted {
    /// Answers each request with what `answer` makes of it.
    pub(crate) fn new(answer: impl FnMut(&Asked) -> Response + Send + 'static) -> Self {
        let script = Arc::new(Script { answer: Mutex::new(Box::new(answer)), asked: Mutex::default() });
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a socket");
        let url = format!("http://{}", listener.local_addr().expect("it is bound"));
        let router = Router::new().fallback(answer_one).with_state(Arc::clone(&script));
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a socket");
                axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await.expect("it serves");
            });
        });
        Self { url, script, shutdown, thread: Some(thread) }
    }

    /// Always the same answer.
    pub(crate) fn answering(document: &(impl Serialize + ?Sized)) -> Self {
        let body = serde_json::to_value(document).expect("a document");
        Self::new(move |_| json(&body))
    }

    /// Always this problem.
    pub(crate) fn refusing(code: ErrorCode) -> Self {
        Self::new(move |_| problem(code))
    }

    /// Runs the binary against this server.
    pub(crate) fn run(&self, args: &[&str]) -> Run {
        run(&[args, &["--server", &self.url]].concat())
    }

    /// Runs the binary against this server with this on stdin.
    pub(crate) fn run_with_stdin(&self, args: &[&str], stdin: &[u8]) -> Run {
        run_with_stdin(&[args, &["--server", &self.url]].concat(), stdin)
    }

    /// The requests so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.script.asked.lock().expect("no test panicked in it").clone()
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.shutdown.cancel();
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

async fn answer_one(State(script): State<Arc<Script>>, request: Request) -> Response {
    let line = format!("{} {}", request.method(), request.uri());
    let headers = request.headers().clone();
    let body = axum::body::to_bytes(request.into_body(), usize::MAX).await.expect("a body");
    let asked = Asked { line, body, headers };
    script.asked.lock().expect("no test panicked in it").push(asked.clone());
    (script.answer.lock().expect("no test panicked in it"))(&asked)
}

pub(crate) fn json(document: &(impl Serialize + ?Sized)) -> Response {
    ([("content-type", "application/json")], serde_json::to_string(document).expect("a document")).into_response()
}

pub(crate) fn problem(code: ErrorCode) -> Response {
    let mut problem = Problem::new(code, "what was wrong");
    problem.request_id = Some("request-4711".to_owned());
    let status = http::StatusCode::from_u16(problem.status).expect("a status");
    (status, json(&problem)).into_response()
}

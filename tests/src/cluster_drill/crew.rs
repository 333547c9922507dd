//! [`Crew`]: the three nodes as processes, with what starts them again as a system's manager of services does.

use super::ground::{Ground, NODES};
use super::wrong::{Findings, Wrong};
use crate::server::wait_until;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::File;
use std::process::{Child, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::task::JoinHandle;

/// The exit code of one that was active and is not any more.
const STEPPED_DOWN: i32 = 6;

/// How often it is looked whether a node has ended.
const LOOK: Duration = Duration::from_millis(50);

/// Pause before a node that could not start is started again.
const PAUSE: Duration = Duration::from_secs(1);

/// The nodes.
#[derive(Debug)]
pub(super) struct Crew {
    pub(super) ground: Ground,
    nodes: Vec<Mutex<Node>>,
    findings: Findings,
    /// Whether a node may end for another reason than that it stepped down: it cannot reach the log, for example.
    may_fail: AtomicBool,
}

#[derive(Debug, Default)]
struct Node {
    /// Running, or ended by itself.
    child: Option<Child>,
}

impl Crew {
    /// Starts all nodes. The task starts those again that end by themselves.
    pub(super) fn start(ground: Ground, findings: Findings) -> (Arc<Self>, JoinHandle<()>) {
        let nodes = NODES.iter().map(|_| Mutex::default()).collect();
        let crew = Arc::new(Self { ground, nodes, findings, may_fail: AtomicBool::new(false) });
        for node in 0..NODES.len() {
            crew.begin(node);
        }
        let task = tokio::spawn(Arc::clone(&crew).look_after());
        (crew, task)
    }

    fn node(&self, node: usize) -> MutexGuard<'_, Node> {
        self.nodes[node].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn spawn(&self, node: usize) -> Child {
        let says = File::options().create(true).append(true).open(self.ground.says(node)).expect("a file");
        self.ground.command(node).stderr(says).spawn().expect("the node starts")
    }

    /// Starts a node that does not run.
    pub(super) fn begin(&self, node: usize) {
        let mut this = self.node(node);
        assert!(this.child.is_none(), "node {} runs already", NODES[node]);
        this.child = Some(self.spawn(node));
    }

    async fn look_after(self: Arc<Self>) {
        loop {
            let mut has_failed = false;
            for node in 0..NODES.len() {
                let mut this = self.node(node);
                let Some(child) = this.child.as_mut() else { continue };
                let Some(status) = child.try_wait().expect("the process can be asked") else { continue };
                self.ended(node, status);
                has_failed |= status.code() != Some(STEPPED_DOWN);
                this.child = Some(self.spawn(node));
            }
            tokio::time::sleep(if has_failed { PAUSE } else { LOOK }).await;
        }
    }

    /// A node has ended by itself.
    fn ended(&self, node: usize, status: ExitStatus) {
        match status.code() {
            Some(STEPPED_DOWN) => self.findings.occurred("node stepped down by itself"),
            Some(code) if self.may_fail.load(Ordering::SeqCst) => self.findings.occurred(format!("node ended by itself with {code}")),
            _ => {
                let (name, last) = (NODES[node], self.last_words(node));
                self.findings.wrong(Wrong::Other(format!("node {name} ended by itself ({status}): {last}")));
            }
        }
    }

    /// From now on nodes may end by themselves because the log is out of reach, or must not.
    pub(super) fn may_fail(&self, may: bool) {
        self.may_fail.store(may, Ordering::SeqCst);
    }

    /// Everything that a node has said.
    pub(super) fn says(&self, node: usize) -> String {
        String::from_utf8_lossy(&std::fs::read(self.ground.says(node)).unwrap_or_default()).into_owned()
    }

    /// How much a node has said by now, for [`Crew::says_behind`].
    pub(super) fn said(&self, node: usize) -> usize {
        self.says(node).len()
    }

    /// What a node has said since.
    pub(super) fn says_behind(&self, node: usize, said: usize) -> String {
        self.says(node).get(said..).unwrap_or_default().to_owned()
    }

    fn last_words(&self, node: usize) -> String {
        let says = self.says(node);
        let lines: Vec<&str> = says.lines().collect();
        lines[lines.len().saturating_sub(3)..].join(" / ")
    }

    fn pid(&self, node: usize) -> Option<Pid> {
        self.node(node).child.as_ref().map(Pid::from_child)
    }

    /// Kills a node (`SIGKILL`). It is not started again.
    pub(super) fn kill(&self, node: usize) {
        let Some(mut child) = self.node(node).child.take() else { return };
        child.kill().expect("the process can be killed");
        child.wait().expect("the process ends");
    }

    /// Asks a node to end (`SIGTERM`), and waits until it has. It is not started again.
    pub(super) async fn terminate(&self, node: usize) -> ExitStatus {
        let mut child = self.node(node).child.take().expect("the node runs");
        kill_process(Pid::from_child(&child), Signal::TERM).expect("the process can be signalled");
        wait_until("the node ends", || child.try_wait().expect("the process can be asked")).await
    }

    /// Stops a node (`SIGSTOP`) until none of its threads runs.
    pub(super) async fn pause(&self, node: usize) {
        let pid = self.pid(node).expect("the node runs");
        kill_process(pid, Signal::STOP).expect("the process can be signalled");
        let threads = format!("/proc/{}/task", pid.as_raw_nonzero());
        wait_until("every thread is stopped", || {
            let all = std::fs::read_dir(&threads).ok()?;
            let mut states = all.filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("stat")).ok());
            // The state stands behind the name, which is in brackets.
            states.all(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))).then_some(())
        })
        .await;
    }

    /// Lets a node run again.
    pub(super) fn go_on(&self, node: usize) {
        if let Some(pid) = self.pid(node) {
            kill_process(pid, Signal::CONT).expect("the process can be signalled");
        }
    }

    /// Kills all of them.
    pub(super) fn kill_all(&self) {
        (0..NODES.len()).for_each(|node| self.kill(node));
    }

    /// Panics that nodes told of.
    pub(super) fn panics(&self) -> Vec<Wrong> {
        let panicked = |node: &usize| self.says(*node).lines().find(|line| line.contains("panicked at")).map(str::to_owned);
        let all = 0..NODES.len();
        all.filter_map(|node| Some(Wrong::Other(format!("node {}: {}", NODES[node], panicked(&node)?)))).collect()
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.kill_all();
    }
}

//! [`Nodes`]: a server that is three nodes of a cluster over a folder, behind one address. So the tests of a server can be run over a cluster.

use crate::balancer::Balancer;
use crate::server::{PATIENCE, binary, free_address};
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Whoever sets this to anything has the servers of tests be clusters.
const ASKED_FOR: &str = "SAGAMQ_TEST_CLUSTER";

const NODES: usize = 3;

/// Short, so that a takeover takes seconds, and long enough for a machine on which many of them run at once.
const TIMES: [&str; 6] = ["--cluster-lease", "2s", "--cluster-heartbeat", "200ms", "--cluster-claim-after", "2500ms"];

/// Small, so that most tests see snapshots and a log that is trimmed.
const SNAPSHOT_BYTES: &str = "64KiB";

/// The exit code of a node that was the active one and is not any more.
const STEPPED_DOWN: i32 = 6;

/// Pause between two looks at the processes.
const LOOK: Duration = Duration::from_millis(10);

/// Whether the servers of tests are to be clusters.
pub(crate) fn are_asked_for() -> bool {
    std::env::var_os(ASKED_FOR).is_some_and(|value| !value.is_empty())
}

/// The nodes and what stands before them. All are killed when this is dropped.
pub(crate) struct Nodes {
    log: PathBuf,
    /// What all nodes are started with, beside what makes them nodes.
    settings: Settings,
    nodes: Arc<Mutex<Vec<Node>>>,
    /// The address of the active node.
    led: watch::Receiver<Option<SocketAddr>>,
    over: CancellationToken,
    thread: Option<JoinHandle<()>>,
    kills: usize,
}

/// The arguments and the environment of a node that a test chooses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Settings {
    arguments: Vec<OsString>,
    environment: Vec<(OsString, Option<OsString>)>,
}

#[derive(Debug)]
struct Node {
    name: String,
    address: SocketAddr,
    data: PathBuf,
    /// What starts it; nothing before its first start.
    command: Option<Command>,
    child: Option<Child>,
}

impl Nodes {
    /// Nodes behind `address`, the first one with its data in `data`. None runs yet.
    pub(crate) fn behind(address: SocketAddr, data: &Path) -> Self {
        let folder = data.parent().expect("the data is in a folder of the test");
        let node = |n: usize| Node {
            name: format!("node-{n}"),
            address: free_address(),
            data: if n == 1 { data.to_owned() } else { folder.join(format!("data-{n}")) },
            command: None,
            child: None,
        };
        let all: Vec<Node> = (1..=NODES).map(node).collect();
        let addresses = all.iter().map(|node| node.address).collect();
        let nodes = Arc::new(Mutex::new(all));
        let over = CancellationToken::new();
        let (begun, led) = std::sync::mpsc::channel();
        // On a thread of its own: tests wait for commands on the threads of theirs.
        let thread = std::thread::spawn({
            let (nodes, over) = (Arc::clone(&nodes), over.clone());
            move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
                runtime.block_on(async {
                    let balancer = Balancer::at(address, addresses).await;
                    let _ = begun.send(balancer.led());
                    while over.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_some() {
                        start_those_that_stepped_down(&nodes);
                    }
                });
            }
        });
        let led = led.recv_timeout(PATIENCE).expect("the balancer listens");
        let log = folder.join("log");
        Self { log, settings: Settings::default(), nodes, led, over, thread: Some(thread), kills: 0 }
    }

    /// Starts the nodes that do not run as this command would start a server. With other settings than before, all others are killed first. Of
    /// kills one after the other, the first one is followed by the takeover of another node, the second one by a start of the same one, and so on.
    pub(crate) fn start(&mut self, command: &Command) {
        let settings = Settings::of(command);
        if settings != self.settings {
            self.all().iter_mut().for_each(Node::kill);
            self.settings = settings;
            // The first one makes the cluster, or goes on: the others come when it serves.
            self.start_node(0);
            self.until_active();
        } else if self.kills % 2 == 1 {
            self.until_active();
        }
        (0..NODES).for_each(|index| self.start_node(index));
    }

    fn start_node(&self, index: usize) {
        let node = &mut self.all()[index];
        if node.child.is_none() {
            let mut command = Command::new(binary("sagamq"));
            command.args(&self.settings.arguments).arg("--listen").arg(node.address.to_string()).arg("--data-dir").arg(&node.data);
            command.arg("--log").arg(format!("file://{}", self.log.display())).args(["--node", &node.name]);
            command.args(TIMES).args(["--cluster-snapshot-bytes", SNAPSHOT_BYTES]);
            for (name, value) in &self.settings.environment {
                match value {
                    Some(value) => command.env(name, value),
                    None => command.env_remove(name),
                };
            }
            command.stdin(Stdio::null()).stdout(Stdio::null());
            node.child = Some(command.spawn().expect("the node starts"));
            node.command = Some(command);
        }
    }

    /// The place of the active node; waits until there is one.
    #[expect(clippy::disallowed_methods, reason = "a test waits in real time")]
    fn until_active(&self) -> usize {
        let began = std::time::Instant::now();
        loop {
            let led = *self.led.borrow();
            let mut nodes = self.all();
            if let Some(index) = nodes.iter().position(|node| led == Some(node.address) && node.child.is_some()) {
                return index;
            }
            for node in nodes.iter_mut() {
                if let Some(status) = node.ended().filter(|status| status.code() != Some(STEPPED_DOWN)) {
                    panic!("{} ended: {status}", node.name);
                }
            }
            drop(nodes);
            assert!(began.elapsed() < PATIENCE, "no node is active after {PATIENCE:?}");
            std::thread::sleep(LOOK);
        }
    }

    /// The data directory of the active node, or of the first one while none is.
    pub(crate) fn data(&self) -> PathBuf {
        let led = *self.led.borrow();
        let nodes = self.all();
        nodes.iter().find(|node| led == Some(node.address)).unwrap_or(&nodes[0]).data.clone()
    }

    /// The process that is the active node.
    pub(crate) fn pid(&self) -> u32 {
        let index = self.until_active();
        self.all()[index].child.as_ref().expect("it runs").id()
    }

    /// Ends the active node as a crash would.
    pub(crate) fn kill(&mut self) {
        let index = self.until_active();
        self.all()[index].kill();
        self.kills += 1;
    }

    /// Takes the active node out, to be ended by the caller: it is not started again before the next start.
    pub(crate) fn take_active(&mut self) -> Child {
        let index = self.until_active();
        self.kills += 1;
        self.all()[index].child.take().expect("it runs")
    }

    fn all(&self) -> std::sync::MutexGuard<'_, Vec<Node>> {
        // After a panic only the end is left to do.
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Settings {
    /// Those of a command that would start a server: all but where it listens and has its data, which each node has of its own.
    fn of(command: &Command) -> Self {
        assert_eq!(
            command.get_program(),
            binary("sagamq").as_os_str(),
            "bounds around a process cannot be put around nodes: leave the test out"
        );
        let mut arguments = Vec::new();
        let mut given = command.get_args();
        while let Some(argument) = given.next() {
            if ["--listen", "--data-dir"].iter().any(|own| argument == OsStr::new(own)) {
                given.next();
            } else {
                arguments.push(argument.to_owned());
            }
        }
        let environment = command.get_envs().map(|(name, value)| (name.to_owned(), value.map(OsStr::to_owned))).collect();
        Self { arguments, environment }
    }
}

impl Node {
    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Nothing to do about a process that is gone already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    fn ended(&mut self) -> Option<ExitStatus> {
        self.child.as_mut()?.try_wait().ok().flatten()
    }
}

/// As whoever sees to processes does: a node that lost its term is to stand by.
fn start_those_that_stepped_down(nodes: &Mutex<Vec<Node>>) {
    for node in nodes.lock().unwrap_or_else(PoisonError::into_inner).iter_mut() {
        if node.ended().is_some_and(|status| status.code() == Some(STEPPED_DOWN)) {
            eprintln!("{} has lost its term and is started again", node.name);
            node.child = node.command.as_mut().and_then(|command| command.spawn().ok());
        }
    }
}

impl fmt::Debug for Nodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nodes").field("led", &self.led).field("kills", &self.kills).finish_non_exhaustive()
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        self.over.cancel();
        if let Some(thread) = self.thread.take() {
            // A balancer that panicked has said so.
            let _ = thread.join();
        }
        self.all().iter_mut().for_each(Node::kill);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_have_the_settings_of_a_server_but_for_where_it_listens_and_has_its_data() {
        let mut command = Command::new(binary("sagamq"));
        command.args(["serve", "--listen", "127.0.0.1:1", "--shards", "2", "--data-dir", "/d", "--retention-interval", "1s"]);
        command.env("SAGAMQ_A", "1").env_remove("SAGAMQ_B");
        let settings = Settings::of(&command);
        assert_eq!(settings.arguments, ["serve", "--shards", "2", "--retention-interval", "1s"]);
        assert_eq!(settings.environment, [("SAGAMQ_A".into(), Some("1".into())), ("SAGAMQ_B".into(), None)]);
        command.arg("--shards");
        assert_ne!(Settings::of(&command), settings, "other settings are noticed");
    }

    #[test]
    #[should_panic(expected = "leave the test out")]
    fn what_stands_around_a_process_is_not_lost_silently() {
        drop(Settings::of(&Command::new("bash")));
    }
}

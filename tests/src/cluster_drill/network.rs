//! [`Network`]: a network namespace for each node on this machine, with a bridge between them, so that a node can be cut off as machines are.

use rustix::process::geteuid;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::{Command, Stdio};

/// What the names of namespaces begin with; the number of the process that made them follows.
const PREFIX: &str = "sagamq-drill-";

/// A bridge with namespaces. All of it goes when it is dropped.
#[derive(Debug)]
pub(super) struct Network {
    /// The process that made it.
    of: u32,
    nodes: usize,
}

impl Network {
    /// Makes one with so many namespaces.
    ///
    /// # Errors
    /// Why that is not possible here.
    pub(super) fn make(nodes: usize) -> Result<Self, String> {
        if !geteuid().is_root() {
            return Err("network namespaces need root".to_owned());
        }
        ip(&["netns", "list"]).map_err(|why| format!("network namespaces cannot be made: {why}"))?;
        clear();
        let network = Self { of: std::process::id(), nodes };
        network.build().map_err(|why| format!("network namespaces cannot be made: {why}"))?;
        Ok(network)
    }

    fn build(&self) -> Result<(), String> {
        let bridge = self.bridge();
        ip(&["link", "add", &bridge, "type", "bridge"])?;
        ip(&["addr", "add", &format!("{}/24", self.host()), "dev", &bridge])?;
        ip(&["link", "set", &bridge, "up"])?;
        for node in 0..self.nodes {
            let (space, end) = (self.namespace(node), self.end(node));
            ip(&["netns", "add", &space])?;
            ip(&["link", "add", &end, "type", "veth", "peer", "name", "eth0", "netns", &space])?;
            ip(&["link", "set", &end, "master", &bridge, "up"])?;
            ip(&["-n", &space, "addr", "add", &format!("{}/24", self.address(node)), "dev", "eth0"])?;
            ip(&["-n", &space, "link", "set", "eth0", "up"])?;
            ip(&["-n", &space, "link", "set", "lo", "up"])?;
        }
        Ok(())
    }

    fn bridge(&self) -> String {
        format!("sgq{}", self.of)
    }

    /// The end of a node's cable at the bridge.
    fn end(&self, node: usize) -> String {
        format!("sgq{}n{node}", self.of)
    }

    /// The name of a node's namespace.
    fn namespace(&self, node: usize) -> String {
        format!("{PREFIX}{}-{node}", self.of)
    }

    /// In a network that is set aside for measurements of networks, so it is nobody's.
    fn number(&self, last: u8) -> IpAddr {
        let third = u8::try_from(self.of % 254).unwrap_or_default() + 1;
        IpAddr::V4(Ipv4Addr::new(198, 18, third, last))
    }

    /// Where everybody reaches the drill itself.
    pub(super) fn host(&self) -> IpAddr {
        self.number(1)
    }

    /// Where a node is.
    pub(super) fn address(&self, node: usize) -> IpAddr {
        self.number(11 + u8::try_from(node).unwrap_or_default())
    }

    /// What runs a program in the namespace of a node.
    pub(super) fn command(&self, node: usize, program: &Path) -> Command {
        let mut command = Command::new("ip");
        // `ip` becomes the program, so its process is the program's.
        command.args(["netns", "exec", &self.namespace(node)]).arg(program);
        command
    }

    /// Cuts all nodes off from each other, and from nobody else, or ends that: between two ends at the bridge that are isolated, nothing passes.
    pub(super) fn isolate(&self, is_isolated: bool) -> Result<(), String> {
        let word = if is_isolated { "on" } else { "off" };
        (0..self.nodes).try_for_each(|node| run(Command::new("bridge").args(["link", "set", "dev", &self.end(node), "isolated", word])))
    }

    /// Pulls a node's cable, or puts it back.
    pub(super) fn plug(&self, node: usize, is_plugged: bool) -> Result<(), String> {
        ip(&["link", "set", &self.end(node), if is_plugged { "up" } else { "down" }])
    }

    /// Whether one node reaches another one: asked of the system, in the namespace of the first.
    pub(super) fn reaches(&self, from: usize, to: usize) -> bool {
        let connect = format!("exec 3<>/dev/tcp/{}/{}", self.address(to), super::ground::PORT);
        let mut command = self.command(from, Path::new("timeout"));
        run(command.args(["2", "bash", "-c", &connect])).is_ok()
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for node in 0..self.nodes {
            // What was not made cannot be removed.
            let _ = ip(&["link", "del", &self.end(node)]);
            let _ = ip(&["netns", "del", &self.namespace(node)]);
        }
        let _ = ip(&["link", "del", &self.bridge()]);
    }
}

/// Removes what drills left that were killed.
fn clear() {
    let Ok(output) = Command::new("ip").args(["netns", "list"]).stdin(Stdio::null()).output() else { return };
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let Some(name) = line.split_whitespace().next() else { continue };
        let of = name.strip_prefix(PREFIX).and_then(|rest| rest.split_once('-')).and_then(|(of, _)| of.parse::<u32>().ok());
        let Some(of) = of.filter(|of| !Path::new(&format!("/proc/{of}")).exists()) else { continue };
        // Another drill may do the same at this moment.
        let _ = ip(&["netns", "del", name]);
        let _ = ip(&["link", "del", &format!("sgq{of}")]);
    }
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    run(Command::new("ip").args(arguments))
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{}: {error}", command.get_program().display()))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

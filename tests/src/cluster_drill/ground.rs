//! [`Ground`]: where the nodes of a drill live: their addresses, the way to the log, and what starts them.

use super::forwarder::Forwarder;
use super::network::Network;
use super::options::{LogPlace, Options};
use super::wrong::Findings;
use crate::server::{binary, free_address};
use sagamq_broker::env::Random;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The names of the nodes.
pub(super) const NODES: [&str; 3] = ["a", "b", "c"];

/// The port of every node that has an address of its own.
pub(super) const PORT: u16 = 7070;

/// After so many bytes of a shard there is a snapshot: few, so that logs are trimmed while the drill runs.
const SNAPSHOT_BYTES: &str = "2MiB";

/// The variable by which nodes find the server of a bucket.
const ENDPOINT: &str = "AWS_ENDPOINT";

/// Where the nodes live.
#[derive(Debug)]
pub(super) struct Ground {
    pub(super) network: Option<Network>,
    /// One for each node, if the log is in a bucket.
    pub(super) forwarders: Vec<Forwarder>,
    /// The address of the log, as nodes take it.
    pub(super) log: String,
    addresses: Vec<SocketAddr>,
    folder: PathBuf,
    times: Vec<String>,
    /// The binary of another version, and for each node whether it is started with that one.
    other_binary: Option<PathBuf>,
    is_other: [AtomicBool; NODES.len()],
}

impl Ground {
    /// Prepares it in a folder. Nothing is started.
    ///
    /// # Errors
    /// Why that is not possible here.
    pub(super) async fn prepare(options: &Options, folder: &Path, findings: &Findings) -> Result<Self, String> {
        let network = if options.namespaces { Some(Network::make(NODES.len())?) } else { None };
        let addresses: Vec<SocketAddr> = (0..NODES.len())
            .map(|node| network.as_ref().map_or_else(free_address, |network| SocketAddr::new(network.address(node), PORT)))
            .collect();
        let host = network.as_ref().map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), Network::host);
        let (mut forwarders, mut random) = (Vec::new(), Random::from_seed(options.seed));
        let log = match &options.log {
            LogPlace::Folder => format!("file://{}", folder.join("log").display()),
            LogPlace::Bucket(bucket) => {
                let endpoint = std::env::var(ENDPOINT).map_err(|_| format!("{ENDPOINT} does not name the server of {bucket}"))?;
                let server = endpoint.strip_prefix("http://").ok_or_else(|| format!("{ENDPOINT} is no http address: {endpoint}"))?;
                for _ in NODES {
                    let forwarder = Forwarder::before(server.to_owned(), host, random.fork(), findings.clone()).await;
                    forwarders.push(forwarder.map_err(|error| format!("a forwarder cannot listen on {host}: {error}"))?);
                }
                format!("{bucket}/drill-{}-{}", std::process::id(), options.seed)
            }
        };
        let ms = |name: &str, time: Duration| [name.to_owned(), format!("{}ms", time.as_millis())];
        let times = [
            ms("--cluster-lease", options.times.lease),
            ms("--cluster-heartbeat", options.times.heartbeat),
            ms("--cluster-claim-after", options.times.claim_after),
        ];
        let (other_binary, is_other) = (options.other_binary.clone(), NODES.map(|_| AtomicBool::new(options.other_binary.is_some())));
        Ok(Self { network, forwarders, log, addresses, folder: folder.to_owned(), times: times.concat(), other_binary, is_other })
    }

    /// From its next start on a node is of the version of the drill.
    pub(super) fn upgrade(&self, node: usize) {
        self.is_other[node].store(false, Ordering::SeqCst);
    }

    /// What a node is started with.
    fn program(&self, node: usize) -> PathBuf {
        let is_other = self.is_other[node].load(Ordering::SeqCst);
        self.other_binary.clone().filter(|_| is_other).unwrap_or_else(|| binary("sagamq"))
    }

    /// Where everybody reaches what the drill itself runs.
    pub(super) fn host(&self) -> IpAddr {
        self.network.as_ref().map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), Network::host)
    }

    /// Where a node listens.
    pub(super) fn address(&self, node: usize) -> SocketAddr {
        self.addresses[node]
    }

    /// The same, as clients take it.
    pub(super) fn url(&self, node: usize) -> String {
        format!("http://{}", self.addresses[node])
    }

    /// All nodes, as clients take them.
    pub(super) fn urls(&self) -> String {
        (0..NODES.len()).map(|node| self.url(node)).collect::<Vec<_>>().join(",")
    }

    /// The data directory of a node.
    pub(super) fn data(&self, node: usize) -> PathBuf {
        self.folder.join(NODES[node])
    }

    /// Where a node writes what it says.
    pub(super) fn says(&self, node: usize) -> PathBuf {
        self.folder.join(format!("{}.stderr", NODES[node]))
    }

    /// A folder beside those of the nodes.
    pub(super) fn beside(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// An address for a server beside a node, on the same machine.
    pub(super) fn address_beside(&self, node: usize) -> SocketAddr {
        self.network.as_ref().map_or_else(free_address, |network| SocketAddr::new(network.address(node), PORT + 1))
    }

    /// What starts a node.
    pub(super) fn command(&self, node: usize) -> Command {
        self.command_of(&self.program(node), node, self.addresses[node], &self.data(node), &self.log)
    }

    /// As [`Ground::command`], at another address, over another directory and another log, and of the drill's version.
    pub(super) fn command_on(&self, node: usize, address: SocketAddr, data: &Path, log: &str) -> Command {
        self.command_of(&binary("sagamq"), node, address, data, log)
    }

    fn command_of(&self, program: &Path, node: usize, address: SocketAddr, data: &Path, log: &str) -> Command {
        let mut command = match &self.network {
            Some(network) => network.command(node, program),
            None => Command::new(program),
        };
        command.args(["serve", "--log-level", "info", "--shards", "4", "--listen", &address.to_string(), "--data-dir"]).arg(data);
        command.args(["--log", log, "--node", NODES[node], "--cluster-snapshot-bytes", SNAPSHOT_BYTES]);
        command.args(&self.times);
        if self.network.is_some() {
            // Nobody but the nodes and the drill is in this network.
            command.arg("--insecure-no-auth");
        }
        if let Some(forwarder) = self.forwarders.get(node) {
            command.env(ENDPOINT, forwarder.url());
            // A proxy of the machine leads away from it.
            let direct = format!("127.0.0.1,{}", self.host());
            command.env("NO_PROXY", &direct).env("no_proxy", &direct);
        }
        // What a terminal sends to the drill is not for the nodes.
        command.stdin(Stdio::null()).stdout(Stdio::null()).process_group(0);
        command
    }
}

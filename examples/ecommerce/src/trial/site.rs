//! The running shop: a broker or its nodes, its services and the payment provider, each a process with its own directory and port.

use super::cluster::{Cluster, NAMES};
use super::databases::Databases;
use super::followers::SLOW_MS;
use super::nodes::NodesPlan;
use super::plan::Plan;
use super::process::Process;
use super::{SiteArgs, TrialError};
use crate::mode::Mode;
use sagamq_sdk::{Client, RetryPolicy};
use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex as StdMutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpSocket;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// The processes by name. Services are called like the subcommands that run them.
pub(super) const BROKER: &str = "broker";
pub(super) const PROVIDER: &str = "provider";
pub(super) const ORDER: &str = "order";
pub(super) const PAYMENT: &str = "payment";
pub(super) const INVENTORY: &str = "inventory";
pub(super) const SHIPPING: &str = "shipping";
pub(super) const LOYALTY: &str = "loyalty";
pub(super) const NOTIFICATIONS: &str = "notifications";
pub(super) const STATUS: &str = "status";

/// The services that take part in sagas.
pub(super) const PARTICIPANTS: [&str; 4] = [ORDER, PAYMENT, INVENTORY, SHIPPING];

/// Everything but the broker, in the order it is started.
const SERVICES: [&str; 6] = [PROVIDER, ORDER, PAYMENT, INVENTORY, SHIPPING, LOYALTY];

/// Services that only listen, and that a trial starts when it wants them.
const FOLLOWERS: [&str; 2] = [NOTIFICATIONS, STATUS];

/// Longest time a process may take until it answers. Generous: on a loaded machine slow is not wrong.
const READY_LIMIT: Duration = Duration::from_secs(60);

/// How long a branch waits for its decision before it asks. Short, because a coordinator that is dead is the normal case here.
const ASK_AFTER_MS: u64 = 300;

/// Pause between two looks at something that is awaited.
const LOOK: Duration = Duration::from_millis(25);

/// Broker and services.
#[derive(Debug)]
pub(super) struct Site {
    processes: Mutex<Vec<Process>>,
    directory: PathBuf,
    ports: Vec<(&'static str, u16)>,
    databases: Option<Databases>,
    /// The broker, if it is not one server.
    cluster: Option<Cluster>,
    http: reqwest::Client,
}

impl Site {
    /// Prepares everything under `directory`, on free ports. Nothing runs yet but the PostgreSQL server, if one is named.
    pub(super) async fn prepare(
        args: &SiteArgs,
        nodes: Option<&NodesPlan>,
        postgres: Option<&str>,
        lose_replies: f64,
        plan: &Plan,
        directory: &Path,
    ) -> Result<Self, TrialError> {
        let shop = std::env::current_exe()?;
        let broker = args.sagamq.clone().unwrap_or_else(|| shop.with_file_name(format!("sagamq{}", std::env::consts::EXE_SUFFIX)));
        if !broker.is_file() {
            return Err(TrialError::NoBroker { path: broker });
        }
        let databases = match postgres {
            Some(connection) => Some(Databases::create(connection).await?),
            None => None,
        };
        let count = nodes.map_or(0, |nodes| nodes.count);
        let ports = free_ports(&NAMES[..count])?;
        let logs = directory.join("logs");
        std::fs::create_dir_all(&logs)?;
        let address = |name| format!("127.0.0.1:{}", port(&ports, name));
        let own = |name: &'static str| -> Vec<OsString> {
            vec!["--listen".into(), address(name).into(), "--data-dir".into(), data(directory, name).into_os_string()]
        };
        // Nothing here speaks TLS, so the system's certificates are not needed.
        let http = reqwest::Client::builder().no_proxy().tls_certs_only([]).timeout(Duration::from_secs(90)).build()?;
        let cluster = nodes.map(|nodes| {
            let of_nodes: Vec<u16> = NAMES[..count].iter().map(|name| port(&ports, name)).collect();
            Cluster::new(nodes, &broker, directory, &of_nodes, http.clone())
        });
        let url = |name| match &cluster {
            Some(cluster) if name == BROKER => cluster.urls(),
            _ => format!("http://{}", address(name)),
        };
        let mut processes = Vec::new();
        if cluster.is_none() {
            processes.push(Process::new(BROKER, &broker, [vec!["serve".into()], own(BROKER)].concat(), &logs));
        }
        for name in SERVICES.into_iter().chain(FOLLOWERS) {
            std::fs::create_dir_all(data(directory, name))?;
            let mut options: Vec<OsString> = [vec![name.into()], own(name)].concat();
            if name != PROVIDER {
                options.extend(["--server".into(), url(BROKER).into(), "--lose-replies".into(), lose_replies.to_string().into()]);
            }
            if FOLLOWERS.contains(&name) {
                options.extend(["--slow-ms".into(), SLOW_MS.to_string().into()]);
            }
            if name == PAYMENT {
                options.extend(["--provider".into(), url(PROVIDER).into()]);
            }
            if plan.mode == Mode::Choreography && PARTICIPANTS.contains(&name) {
                options.push("--choreography".into());
            }
            if name == ORDER {
                options.extend(["--mode".into(), plan.mode.to_string().into()]);
            }
            if plan.mode == Mode::TwoPhase && PARTICIPANTS.contains(&name) {
                options.extend(["--checkpoint".into(), "--ask-after".into(), ASK_AFTER_MS.to_string().into()]);
            }
            options.extend(databases.iter().flat_map(|databases| databases.options(name)).map(OsString::from));
            if name == SHIPPING && plan.slow_shipping_ms > 0 {
                options.extend(["--slow-ms".into(), plan.slow_shipping_ms.to_string().into()]);
            }
            if name == SHIPPING && !plan.late.is_empty() {
                options.extend(["--late-requests".into(), plan.late.join(",").into()]);
            }
            processes.push(Process::new(name, &shop, options, &logs));
        }
        Ok(Self { processes: Mutex::new(processes), directory: directory.to_owned(), ports, databases, cluster, http })
    }

    /// The data directory of a process.
    pub(super) fn data(&self, name: &str) -> PathBuf {
        data(&self.directory, name)
    }

    /// The base address of a process; of a broker of several nodes, their addresses, divided by commas.
    pub(super) fn url(&self, name: &str) -> String {
        if let Some(cluster) = self.cluster.as_ref().filter(|_| name == BROKER) {
            return cluster.urls();
        }
        format!("http://127.0.0.1:{}", port(&self.ports, name))
    }

    /// A client of the broker that rides out its restart.
    pub(super) fn client(&self) -> Result<Client, TrialError> {
        let patient = RetryPolicy { attempts: 200, max: Duration::from_millis(500), ..RetryPolicy::default() };
        Ok(Client::builder(self.url(BROKER)).retry(patient).build()?)
    }

    /// The databases of PostgreSQL that some services have, if that was asked for.
    pub(super) const fn databases(&self) -> Option<&Databases> {
        self.databases.as_ref()
    }

    /// The nodes of the broker, if it is not one server.
    pub(super) const fn cluster(&self) -> Option<&Cluster> {
        self.cluster.as_ref()
    }

    /// The HTTP client for the services.
    pub(super) fn http(&self) -> &reqwest::Client {
        &self.http
    }

    /// Starts everything and waits until everything answers.
    pub(super) async fn start(&self) -> Result<(), TrialError> {
        match &self.cluster {
            Some(cluster) => cluster.start().await?,
            None => drop(self.restart(BROKER).await?),
        }
        for name in SERVICES {
            self.restart(name).await?;
        }
        Ok(())
    }

    /// Starts a process that does not run and waits until it answers. Returns how long that took.
    pub(super) async fn restart(&self, name: &'static str) -> Result<Duration, TrialError> {
        let started = Instant::now();
        for process in self.processes.lock().await.iter_mut().filter(|process| process.name == name) {
            process.start()?;
        }
        while !self.answers(name).await {
            self.check_alive().await?;
            if started.elapsed() > READY_LIMIT {
                return Err(TrialError::NotReady { name, waited: started.elapsed(), log: self.log_tail(name).await });
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(started.elapsed())
    }

    /// `kill -9`. Returns when the process is gone.
    pub(super) async fn kill(&self, name: &str) -> Result<(), TrialError> {
        for process in self.processes.lock().await.iter_mut().filter(|process| process.name == name) {
            process.kill().await?;
        }
        Ok(())
    }

    /// Ends everything.
    pub(super) async fn stop(&self) -> Result<(), TrialError> {
        for process in self.processes.lock().await.iter_mut().rev() {
            process.kill().await?;
        }
        match &self.cluster {
            Some(cluster) => cluster.stop().await,
            None => Ok(()),
        }
    }

    /// Never returns while every process that should run does; then says which one died.
    pub(super) async fn watch(&self) -> TrialError {
        loop {
            if let Err(died) = self.check_alive().await {
                return died;
            }
            tokio::time::sleep(LOOK * 8).await;
        }
    }

    async fn check_alive(&self) -> Result<(), TrialError> {
        for process in self.processes.lock().await.iter_mut() {
            if let Some(status) = process.died() {
                return Err(TrialError::Died { name: process.name, status, log: process.log_tail() });
            }
        }
        match &self.cluster {
            Some(cluster) => cluster.check_alive().await,
            None => Ok(()),
        }
    }

    async fn answers(&self, name: &str) -> bool {
        let path = if name == BROKER { "readyz" } else { "healthz" };
        let answer = self.http.get(format!("{}/{path}", self.url(name))).timeout(Duration::from_secs(5)).send().await;
        answer.is_ok_and(|answer| answer.status().is_success())
    }

    async fn log_tail(&self, name: &str) -> String {
        let processes = self.processes.lock().await;
        processes.iter().find(|process| process.name == name).map(Process::log_tail).unwrap_or_default()
    }
}

/// Free ports, all held until all are known, so that none is given twice, and where the system allows it until this program ends: a process
/// that is started again finds its own.
fn free_ports(nodes: &[&'static str]) -> Result<Vec<(&'static str, u16)>, TrialError> {
    /// Bound and never listening, so that a process that means just this port may have it.
    static KEPT: StdMutex<Vec<TcpSocket>> = StdMutex::new(Vec::new());
    let names = std::iter::once(BROKER).chain(SERVICES).chain(FOLLOWERS).chain(nodes.iter().copied());
    let bound = |name| {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
        Ok(((name, socket.local_addr()?.port()), socket))
    };
    let (ports, held): (Vec<_>, Vec<_>) = names.map(bound).collect::<Result<Vec<_>, std::io::Error>>()?.into_iter().unzip();
    if cfg!(target_os = "linux") {
        KEPT.lock().unwrap_or_else(PoisonError::into_inner).extend(held);
    }
    Ok(ports)
}

fn data(directory: &Path, name: &str) -> PathBuf {
    directory.join("data").join(name)
}

fn port(ports: &[(&'static str, u16)], name: &str) -> u16 {
    ports.iter().find(|(known, _)| *known == name).map(|&(_, port)| port).expect("every process has a port")
}

/// Where the demo keeps everything: a temporary directory, removed at the end unless it is to be kept.
#[derive(Debug)]
pub(super) struct Workplace {
    directory: Option<tempfile::TempDir>,
    path: PathBuf,
}

impl Workplace {
    pub(super) fn new() -> Result<Self, TrialError> {
        let directory = tempfile::Builder::new().prefix("sagamq-demo-").tempdir()?;
        Ok(Self { path: directory.path().to_owned(), directory: Some(directory) })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves the directory where it is.
    pub(super) fn keep(&mut self) {
        if let Some(directory) = self.directory.take() {
            let _ = directory.keep();
        }
    }
}

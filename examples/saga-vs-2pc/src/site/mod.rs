//! What a measurement runs on: a coordinator and services, each a process with a directory and a port of its own, begun empty.

mod error;
mod process;
mod proxy;

pub use error::SiteError;
pub use proxy::{Cut, Proxy};

use crate::service::{Role, Stats, Table};
use process::Process;
use sagamq_sdk::{Client, RetryPolicy};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tempfile::TempDir;
use tokio::net::TcpSocket;
use tokio::time::Instant;

/// The name of the coordinator among the processes.
pub const COORDINATOR: &str = "coordinator";

/// Longest time a process may take until it answers. Generous: on a loaded machine slow is not wrong.
const READY_LIMIT: Duration = Duration::from_secs(60);

/// Pause between two looks at something that is awaited.
const LOOK: Duration = Duration::from_millis(10);

/// A service of the site to come.
#[derive(Clone, Debug)]
pub struct Place {
    /// Its name, which the definition uses too.
    pub name: String,
    /// What it is for.
    pub role: Role,
    /// How long the way to it takes, there and back; `None` is the direct way without a relay.
    pub round_trip: Option<Duration>,
}

impl Place {
    /// A service at the end of the direct way.
    #[must_use]
    pub fn near(name: &str, role: Role) -> Self {
        Self { name: name.to_owned(), role, round_trip: None }
    }
}

/// What the coordinator has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counted {
    /// Commits with a sync.
    pub forced_writes: f64,
    /// Questions of participants for an outcome.
    pub questions: f64,
}

#[derive(Debug)]
struct Service {
    place: Place,
    address: SocketAddr,
    process: Process,
    proxy: Option<Proxy>,
}

/// Coordinator and services.
#[derive(Debug)]
pub struct Site {
    coordinator: Process,
    address: SocketAddr,
    services: Vec<Service>,
    http: reqwest::Client,
    // Last, so that the processes are gone before their directories.
    directory: TempDir,
}

impl Site {
    /// Starts everything on free ports and empty directories, and waits until all answer.
    ///
    /// # Errors
    /// [`SiteError`].
    pub async fn start(sagamq: &Path, places: &[Place], lock_timeout: Duration) -> Result<Self, SiteError> {
        if !sagamq.is_file() {
            return Err(SiteError::NoProgram { path: sagamq.to_owned() });
        }
        let directory = tempfile::Builder::new().prefix("sagamq-compare-").tempdir()?;
        let logs = directory.path().join("logs");
        std::fs::create_dir_all(&logs)?;
        let own = std::env::current_exe()?;
        let addresses = free_addresses(places.len() + 1)?;
        let address = addresses[0];
        let args = |address: SocketAddr, name: &str| -> Vec<OsString> {
            vec!["--listen".into(), address.to_string().into(), "--data-dir".into(), directory.path().join(name).into()]
        };
        let serve = ["serve", "--log-level", "warn"].map(OsString::from).to_vec();
        let mut coordinator = Process::new(COORDINATOR, sagamq, [serve, args(address, COORDINATOR)].concat(), &logs);
        coordinator.start()?;
        let mut services = Vec::new();
        for (place, &own_address) in places.iter().zip(&addresses[1..]) {
            let role = clap::ValueEnum::to_possible_value(&place.role).expect("every role has a name").get_name().to_owned();
            let lock_timeout = lock_timeout.as_millis().to_string();
            let coordinator = format!("http://{address}");
            let own_args = ["service", "--role", &role, "--lock-timeout-ms", &lock_timeout, "--coordinator", &coordinator];
            let own_args = own_args.map(OsString::from).to_vec();
            let mut process = Process::new(&place.name, &own, [own_args, args(own_address, &place.name)].concat(), &logs);
            process.start()?;
            let proxy = match place.round_trip {
                Some(delay) => Some(Proxy::start(own_address, delay).await?),
                None => None,
            };
            services.push(Service { place: place.clone(), address: own_address, process, proxy });
        }
        // Nothing here speaks TLS, so the system's certificates are not needed.
        let http = reqwest::Client::builder().no_proxy().tls_certs_only([]).timeout(Duration::from_secs(60)).build()?;
        let mut site = Self { coordinator, address, services, http, directory };
        site.ready(COORDINATOR).await?;
        for place in places {
            site.ready(&place.name).await?;
        }
        Ok(site)
    }

    /// A client of the coordinator that rides out its restart.
    ///
    /// # Errors
    /// [`SiteError::Client`].
    pub fn client(&self) -> Result<Client, SiteError> {
        let patient = RetryPolicy { attempts: 500, max: Duration::from_millis(250), ..RetryPolicy::default() };
        Ok(Client::builder(format!("http://{}", self.address)).retry(patient).build()?)
    }

    /// The services' base addresses as the coordinator reaches them, by name.
    #[must_use]
    pub fn addresses(&self) -> BTreeMap<String, String> {
        let way = |service: &Service| service.proxy.as_ref().map_or(service.address, Proxy::address);
        self.services.iter().map(|service| (service.place.name.clone(), format!("http://{}", way(service)))).collect()
    }

    /// The relay in front of a service.
    ///
    /// # Panics
    /// When the service has none.
    #[must_use]
    pub fn proxy(&self, name: &str) -> &Proxy {
        self.services.iter().find(|service| service.place.name == name).and_then(|it| it.proxy.as_ref()).expect("it has a relay")
    }

    /// Puts rows into a service.
    ///
    /// # Errors
    /// [`SiteError::Http`].
    pub async fn fill(&self, name: &str, tables: &BTreeMap<String, Table>) -> Result<(), SiteError> {
        self.http.put(self.url(name, "rows")).json(tables).send().await?.error_for_status()?;
        Ok(())
    }

    /// All rows of a service.
    ///
    /// # Errors
    /// [`SiteError::Http`].
    pub async fn books(&self, name: &str) -> Result<BTreeMap<String, Table>, SiteError> {
        Ok(self.http.get(self.url(name, "books")).send().await?.error_for_status()?.json().await?)
    }

    /// Asks a service something about a row: `read` or `touch`.
    ///
    /// # Errors
    /// [`SiteError::Http`].
    pub async fn ask<T: DeserializeOwned>(&self, name: &str, route: &str, body: &impl Serialize) -> Result<T, SiteError> {
        Ok(self.http.post(self.url(name, route)).json(body).send().await?.error_for_status()?.json().await?)
    }

    /// What all services have counted.
    ///
    /// # Errors
    /// [`SiteError::Http`].
    pub async fn stats(&self) -> Result<Vec<Stats>, SiteError> {
        let mut all = Vec::new();
        for service in &self.services {
            let url = self.url(&service.place.name, "stats");
            all.push(self.http.get(url).send().await?.error_for_status()?.json().await?);
        }
        Ok(all)
    }

    /// What the coordinator has counted.
    ///
    /// # Errors
    /// [`SiteError::Http`].
    pub async fn counted(&self) -> Result<Counted, SiteError> {
        let text = self.http.get(format!("http://{}/metrics", self.address)).send().await?.error_for_status()?.text().await?;
        let sum = |is_it: &dyn Fn(&str) -> bool| -> f64 {
            let lines = text.lines().filter(|line| is_it(line));
            lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
        };
        Ok(Counted {
            forced_writes: sum(&|line| line.starts_with("sagamq_commit_seconds_count") && line.contains("synced=\"true\"")),
            questions: sum(&|line| line.starts_with("sagamq_http_requests_total") && line.contains("outcome")),
        })
    }

    /// `kill -9`. Returns when the process is gone.
    ///
    /// # Errors
    /// [`SiteError::Io`].
    pub async fn kill(&mut self, name: &str) -> Result<(), SiteError> {
        self.process(name).kill().await
    }

    /// Starts a process that was killed, on its data and port, and waits until it answers.
    ///
    /// # Errors
    /// [`SiteError`].
    pub async fn restart(&mut self, name: &str) -> Result<(), SiteError> {
        self.process(name).start()?;
        self.ready(name).await
    }

    /// Stops a process in the middle of whatever it does.
    ///
    /// # Errors
    /// [`SiteError`].
    pub fn pause(&mut self, name: &str) -> Result<(), SiteError> {
        self.process(name).pause()
    }

    /// Lets a paused process go on.
    ///
    /// # Errors
    /// [`SiteError`].
    pub fn resume(&mut self, name: &str) -> Result<(), SiteError> {
        self.process(name).resume()
    }

    /// Says which process ended by itself, if one did.
    ///
    /// # Errors
    /// [`SiteError::Died`].
    pub fn check_alive(&mut self) -> Result<(), SiteError> {
        let services = self.services.iter_mut().map(|service| (service.place.name.clone(), &mut service.process));
        for (name, process) in std::iter::once((COORDINATOR.to_owned(), &mut self.coordinator)).chain(services) {
            if let Some(status) = process.died() {
                return Err(SiteError::Died { name, status, log: process.log_tail() });
            }
        }
        Ok(())
    }

    /// Where everything lies.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Leaves the directory where it is, for whoever looks for what went wrong.
    pub fn keep(&mut self) -> PathBuf {
        self.directory.disable_cleanup(true);
        self.directory.path().to_owned()
    }

    fn process(&mut self, name: &str) -> &mut Process {
        if name == COORDINATOR {
            return &mut self.coordinator;
        }
        let service = self.services.iter_mut().find(|service| service.place.name == name);
        &mut service.expect("every name is that of a process").process
    }

    fn url(&self, name: &str, route: &str) -> String {
        let service = self.services.iter().find(|service| service.place.name == name).expect("every name is that of a service");
        format!("http://{}/{route}", service.address)
    }

    async fn ready(&mut self, name: &str) -> Result<(), SiteError> {
        let url = if name == COORDINATOR { format!("http://{}/readyz", self.address) } else { self.url(name, "healthz") };
        let began = Instant::now();
        loop {
            let answer = self.http.get(&url).timeout(Duration::from_secs(5)).send().await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(());
            }
            self.check_alive()?;
            if began.elapsed() > READY_LIMIT {
                return Err(SiteError::NotReady { name: name.to_owned(), waited: READY_LIMIT, log: self.process(name).log_tail() });
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// Free addresses, all held until all are known, so that none is given twice, and where the system allows it until this program ends: a
/// process that is started again finds its own.
fn free_addresses(count: usize) -> Result<Vec<SocketAddr>, std::io::Error> {
    /// Bound and never listening, so that a process that means just this address may have it.
    static KEPT: Mutex<Vec<TcpSocket>> = Mutex::new(Vec::new());
    let bound = || {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
        Ok::<_, std::io::Error>(socket)
    };
    let held: Vec<TcpSocket> = (0..count).map(|_| bound()).collect::<Result<_, _>>()?;
    let addresses = held.iter().map(TcpSocket::local_addr).collect();
    if cfg!(target_os = "linux") {
        KEPT.lock().unwrap_or_else(PoisonError::into_inner).extend(held);
    }
    addresses
}

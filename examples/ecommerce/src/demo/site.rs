//! The running shop: a broker and four services, each a process with its own directory and port.

use super::process::Process;
use super::{DemoArgs, DemoError};
use sagamq_sdk::{Client, RetryPolicy};
use std::ffi::OsString;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// The broker's name among the processes.
pub(super) const BROKER: &str = "broker";

/// The service that is killed.
pub(super) const PAYMENT: &str = "payment";

/// The services, in the order they are started.
const SERVICES: [&str; 4] = ["order", PAYMENT, "inventory", "shipping"];

/// Longest time a process may take until it answers. Generous: on a loaded machine slow is not wrong.
const READY_LIMIT: Duration = Duration::from_secs(60);

/// Pause between two looks at something that is awaited.
const LOOK: Duration = Duration::from_millis(25);

/// Broker and services.
#[derive(Debug)]
pub(super) struct Site {
    processes: Mutex<Vec<Process>>,
    ports: Vec<(&'static str, u16)>,
    http: reqwest::Client,
}

impl Site {
    /// Prepares everything under `directory`, on free ports. Nothing runs yet.
    pub(super) fn prepare(args: &DemoArgs, directory: &Path) -> Result<Self, DemoError> {
        let shop = std::env::current_exe()?;
        let broker = args.sagamq.clone().unwrap_or_else(|| shop.with_file_name(format!("sagamq{}", std::env::consts::EXE_SUFFIX)));
        if !broker.is_file() {
            return Err(DemoError::NoBroker { path: broker });
        }
        let ports = free_ports()?;
        let logs = directory.join("logs");
        std::fs::create_dir_all(&logs)?;
        let site = |name| format!("127.0.0.1:{}", port(&ports, name));
        let data = |name: &str| directory.join("data").join(name).into_os_string();
        let mut processes = vec![Process::new(
            BROKER,
            &broker,
            vec!["serve".into(), "--listen".into(), site(BROKER).into(), "--data-dir".into(), data(BROKER)],
            &logs,
        )];
        for name in SERVICES {
            std::fs::create_dir_all(data(name))?;
            let args: Vec<OsString> = vec![
                name.into(),
                "--server".into(),
                format!("http://{}", site(BROKER)).into(),
                "--listen".into(),
                site(name).into(),
                "--data-dir".into(),
                data(name),
                "--lose-replies".into(),
                args.lose_replies.to_string().into(),
            ];
            processes.push(Process::new(name, &shop, args, &logs));
        }
        let http = reqwest::Client::builder().timeout(Duration::from_secs(90)).build()?;
        Ok(Self { processes: Mutex::new(processes), ports, http })
    }

    /// The base address of a process.
    pub(super) fn url(&self, name: &str) -> String {
        format!("http://127.0.0.1:{}", port(&self.ports, name))
    }

    /// A client of the broker that rides out its restart.
    pub(super) fn client(&self) -> Result<Client, DemoError> {
        let patient = RetryPolicy { attempts: 200, max: Duration::from_millis(500), ..RetryPolicy::default() };
        Ok(Client::builder(self.url(BROKER)).retry(patient).build()?)
    }

    /// The HTTP client for the services.
    pub(super) fn http(&self) -> &reqwest::Client {
        &self.http
    }

    /// Starts everything and waits until everything answers.
    pub(super) async fn start(&self) -> Result<(), DemoError> {
        self.restart(BROKER).await?;
        for name in SERVICES {
            self.restart(name).await?;
        }
        Ok(())
    }

    /// Starts a process that does not run and waits until it answers. Returns how long that took.
    pub(super) async fn restart(&self, name: &'static str) -> Result<Duration, DemoError> {
        let started = Instant::now();
        for process in self.processes.lock().await.iter_mut().filter(|process| process.name == name) {
            process.start()?;
        }
        while !self.answers(name).await {
            self.check_alive().await?;
            if started.elapsed() > READY_LIMIT {
                return Err(DemoError::NotReady { name, waited: started.elapsed(), log: self.log_tail(name).await });
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(started.elapsed())
    }

    /// `kill -9`. Returns when the process is gone.
    pub(super) async fn kill(&self, name: &str) -> Result<(), DemoError> {
        for process in self.processes.lock().await.iter_mut().filter(|process| process.name == name) {
            process.kill().await?;
        }
        Ok(())
    }

    /// Ends everything.
    pub(super) async fn stop(&self) -> Result<(), DemoError> {
        for process in self.processes.lock().await.iter_mut().rev() {
            process.kill().await?;
        }
        Ok(())
    }

    /// Never returns while every process that should run does; then says which one died.
    pub(super) async fn watch(&self) -> DemoError {
        loop {
            if let Err(died) = self.check_alive().await {
                return died;
            }
            tokio::time::sleep(LOOK * 8).await;
        }
    }

    async fn check_alive(&self) -> Result<(), DemoError> {
        for process in self.processes.lock().await.iter_mut() {
            if let Some(status) = process.died() {
                return Err(DemoError::Died { name: process.name, status, log: process.log_tail() });
            }
        }
        Ok(())
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

/// Free ports, all held until all are known, so that none is given twice.
fn free_ports() -> Result<Vec<(&'static str, u16)>, DemoError> {
    let names = std::iter::once(BROKER).chain(SERVICES);
    let held: Vec<(&str, TcpListener)> =
        names.map(|name| Ok((name, TcpListener::bind("127.0.0.1:0")?))).collect::<Result<_, std::io::Error>>()?;
    held.into_iter().map(|(name, listener)| Ok((name, listener.local_addr()?.port()))).collect()
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
    pub(super) fn new() -> Result<Self, DemoError> {
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

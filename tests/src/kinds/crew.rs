//! The processes of the services, which are killed and started again.

use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// A service as a process.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) name: &'static str,
    pub(super) folder: PathBuf,
    program: PathBuf,
    url: String,
    address: SocketAddr,
    seed: u64,
    child: Option<Child>,
}

impl Service {
    pub(super) fn start(name: &'static str, program: PathBuf, url: String, folder: PathBuf, address: SocketAddr, seed: u64) -> Self {
        let mut service = Self { name, folder, program, url, address, seed, child: None };
        service.restart();
        service
    }

    pub(super) fn restart(&mut self) {
        let mut command = Command::new(&self.program);
        command.args(["service", self.name, &self.url]).arg(&self.folder).args([self.address.to_string(), self.seed.to_string()]);
        // What a terminal sends to the drill is not for its services.
        command.stdin(Stdio::null()).stdout(Stdio::null()).process_group(0);
        self.child = Some(command.spawn().expect("the service starts"));
    }

    /// `SIGKILL`.
    pub(super) fn kill(&mut self) {
        let mut child = self.child.take().expect("the service runs");
        if let Some(status) = child.try_wait().expect("the process can be asked") {
            panic!("the service `{}` ended by itself: {status}", self.name);
        }
        child.kill().expect("the process can be killed");
        child.wait().expect("the process ends");
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Nothing to do about a process that is gone already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

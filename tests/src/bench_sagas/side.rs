//! One of the builds that are compared: its server, and the processes that load it.

use super::role::Role;
use crate::ServerProcess;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// A server and the program that plays its clients.
#[derive(Clone, Debug)]
pub(super) struct Side {
    pub(super) server: PathBuf,
    pub(super) clients: PathBuf,
}

/// A process that plays a role until it is dropped.
#[derive(Debug)]
pub(super) struct Player(Child);

impl Side {
    pub(super) async fn start(&self) -> ServerProcess {
        ServerProcess::start_program(&self.server).await
    }

    /// Starts a process that works until it is dropped.
    pub(super) fn play(&self, role: &Role) -> Player {
        Player(self.command(role).stdout(Stdio::null()).spawn().expect("the program starts"))
    }

    /// Lets a process do its part, and gives the numbers that it prints.
    pub(super) async fn ask(&self, role: &Role) -> Vec<f64> {
        let mut command = self.command(role);
        let output = tokio::task::spawn_blocking(move || command.output().expect("the program runs")).await.expect("no panic");
        assert!(output.status.success(), "it ends well");
        let text = String::from_utf8(output.stdout).expect("numbers");
        text.split_whitespace().map(|number| number.parse().expect("a number")).collect()
    }

    fn command(&self, role: &Role) -> Command {
        let mut command = Command::new(&self.clients);
        command.args(role.to_args()).stdin(Stdio::null()).stderr(Stdio::inherit());
        command
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        // Nothing to do about a process that is gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

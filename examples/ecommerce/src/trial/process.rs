//! One child process: how it is started, killed and started again, and where its output goes.

use super::TrialError;
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use tokio::process::{Child, Command};

/// Lines of a child's log that are shown when it died.
const LOG_LINES: usize = 15;

/// A process that can be started more than once with the same arguments. Killed when this is dropped, on a panic too.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) name: &'static str,
    program: PathBuf,
    args: Vec<OsString>,
    log: PathBuf,
    child: Option<Child>,
}

impl Process {
    /// A process that writes its output to `<name>.log` in `logs`. Not started yet.
    pub(super) fn new(name: &'static str, program: &Path, args: Vec<OsString>, logs: &Path) -> Self {
        Self { name, program: program.to_owned(), args, log: logs.join(format!("{name}.log")), child: None }
    }

    /// Starts it; its output is added to its log.
    pub(super) fn start(&mut self) -> Result<(), TrialError> {
        let failed = |source| TrialError::Start { name: self.name, program: self.program.clone(), source };
        let log = OpenOptions::new().create(true).append(true).open(&self.log).map_err(failed)?;
        let child = Command::new(&self.program)
            .args(&self.args)
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(failed)?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        self.child = Some(child);
        Ok(())
    }

    /// SIGKILL: the process has no chance to finish anything. Returns when it is gone.
    pub(super) async fn kill(&mut self) -> Result<(), TrialError> {
        if let Some(mut child) = self.child.take() {
            child.kill().await?;
        }
        Ok(())
    }

    /// How it ended, if it was started, not killed, and ended all the same.
    pub(super) fn died(&mut self) -> Option<ExitStatus> {
        self.child.as_mut()?.try_wait().ok().flatten()
    }

    /// The end of its output.
    pub(super) fn log_tail(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }
}

//! One child process: how it is started, killed, paused and started again, and where its output goes.

use super::SiteError;
use rustix::process::{Pid, Signal};
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
    name: String,
    program: PathBuf,
    args: Vec<OsString>,
    log: PathBuf,
    child: Option<Child>,
}

impl Process {
    /// A process that writes its output to `<name>.log` in `logs`. Not started yet.
    pub(super) fn new(name: &str, program: &Path, args: Vec<OsString>, logs: &Path) -> Self {
        Self { name: name.to_owned(), program: program.to_owned(), args, log: logs.join(format!("{name}.log")), child: None }
    }

    /// Starts it; its output is added to its log.
    pub(super) fn start(&mut self) -> Result<(), SiteError> {
        let failed = |source| SiteError::Start { name: self.name.clone(), program: self.program.clone(), source };
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

    /// SIGKILL. Returns when the process is gone.
    pub(super) async fn kill(&mut self) -> Result<(), SiteError> {
        if let Some(mut child) = self.child.take() {
            child.kill().await?;
        }
        Ok(())
    }

    /// SIGSTOP: the process does nothing any more, and its connections stay.
    pub(super) fn pause(&self) -> Result<(), SiteError> {
        self.signal(Signal::STOP)
    }

    /// SIGCONT.
    pub(super) fn resume(&self) -> Result<(), SiteError> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> Result<(), SiteError> {
        let pid = self.child.as_ref().and_then(Child::id).and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        let pid = pid.ok_or_else(|| SiteError::NotRunning { name: self.name.clone() })?;
        Ok(rustix::process::kill_process(pid, signal).map_err(std::io::Error::from)?)
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

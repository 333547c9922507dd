//! Why there is no site.

use sagamq_sdk::ClientError;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

/// Why there is no site, or not any more.
#[derive(Debug, thiserror::Error)]
pub enum SiteError {
    /// The server's program.
    #[error("there is no program {}: build the whole workspace, or say --sagamq", path.display())]
    NoProgram {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// A process cannot be started.
    #[error("{name} ({}) cannot be started: {source}", program.display())]
    Start {
        /// Which.
        name: String,
        /// Its program.
        program: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// A process ended by itself.
    #[error("{name} ended by itself ({status}); the end of its log:\n{log}")]
    Died {
        /// Which.
        name: String,
        /// How.
        status: ExitStatus,
        /// What it said last.
        log: String,
    },
    /// A process does not answer.
    #[error("{name} does not answer after {waited:?}; the end of its log:\n{log}")]
    NotReady {
        /// Which.
        name: String,
        /// How long it was waited for.
        waited: Duration,
        /// What it said last.
        log: String,
    },
    /// A process that should be signalled does not run.
    #[error("{name} does not run")]
    NotRunning {
        /// Which.
        name: String,
    },
    /// The coordinator.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A service.
    #[error(transparent)]
    Http(#[from] reqwest::Error),
    /// Files and ports.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

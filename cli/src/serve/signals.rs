//! SIGTERM and SIGINT: the first one asks the process to end well, the second one does not ask. SIGHUP: by it a service manager asks to have
//! things read anew.

use crate::exit::{INTERRUPTED, leave};
use std::io;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The signals that end a server, or a command that follows.
#[derive(Debug)]
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Takes the signals over from the system, which would end the process.
    pub(crate) fn take_over() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }

    /// Cancels `shutdown` at the first signal and ends the process at the second. What was answered is on disk by then, as always.
    pub(crate) async fn watch(mut self, shutdown: CancellationToken) {
        let name = self.next().await;
        tracing::info!(signal = name, "shutting down; a second signal ends the process at once");
        shutdown.cancel();
        let name = self.next().await;
        tracing::warn!(signal = name, "ended at once by a second signal");
        leave(INTERRUPTED);
    }
}

/// SIGHUP, which would end the process.
#[derive(Debug)]
pub(crate) struct Hangups(Signal);

impl Hangups {
    /// Takes the signal over from the system.
    pub(crate) fn take_over() -> io::Result<Self> {
        signal(SignalKind::hangup()).map(Self)
    }

    /// Says that there is nothing that would be read anew, as often as it is asked.
    pub(crate) async fn outlive(mut self) {
        while self.0.recv().await.is_some() {
            tracing::info!("SIGHUP: there are no certificates, so nothing is read anew; settings are read at a start");
        }
    }
}

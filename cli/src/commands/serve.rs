//! `sagamq serve`: settings, logs and signals around a [`Server`].

use crate::args::Format;
use crate::args::serve::ServeArgs;
use crate::config::{Loaded, Settings};
use crate::error::CliError;
use crate::exit::Exit;
use crate::output::Output;
use crate::serve::log;
use crate::serve::signals::{Hangups, Signals};
use sagamq_server::run::{Server, open_files};
use sd_notify::NotifyState;
use serde_json::json;
use std::io::{self, IsTerminal as _};
use tokio::runtime::Builder;
use tokio_util::sync::CancellationToken;

pub(crate) fn run(args: &ServeArgs, output: Output) -> Result<Exit, CliError> {
    let Loaded { settings, given, ignored } =
        Loaded::load(args, std::env::vars_os()).map_err(|error| CliError::Usage(error.to_string()))?;
    log::init(&settings.log);
    for variable in ignored {
        tracing::warn!("{variable}");
    }
    if !given.is_empty() {
        tracing::info!(settings = given.join("; "), "settings that are not the defaults");
    }
    open_files::raise();
    let runtime = super::runtime(Builder::new_multi_thread())?;
    let result = runtime.block_on(serve(settings, output));
    // The server has ended; nothing that is left may hold the process.
    runtime.shutdown_background();
    result
}

async fn serve(settings: Settings, output: Output) -> Result<Exit, CliError> {
    let cannot = |error| CliError::Io { what: "cannot take over signals".to_owned(), error };
    let signals = Signals::take_over().map_err(cannot)?;
    // With certificates the server itself sees to it. A terminal that hangs up takes with it what was started there.
    if settings.serve.tls_cert_file.is_none() && !io::stdin().is_terminal() {
        tokio::spawn(Hangups::take_over().map_err(cannot)?.outlive());
    }
    let shutdown = CancellationToken::new();
    tokio::spawn(signals.watch(shutdown.clone()));
    let told = shutdown.clone();
    tokio::spawn(async move {
        told.cancelled().await;
        tell(NotifyState::Stopping);
    });
    let server = Server::start(settings.serve, shutdown).await?;
    tell(NotifyState::Ready);
    // That nobody reads this line any more is no reason not to serve.
    drop(listening(output, &server.url()));
    server.join().await?;
    Ok(Exit::Ok)
}

/// Tells systemd, where it started the server and waits for it (`Type=notify`). That it does not hear is no reason not to serve.
fn tell(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "systemd cannot be told how it stands with the server");
    }
}

/// The one line that says that the server takes requests. Whoever started it on port 0 learns the port here.
fn listening(output: Output, url: &str) -> Result<(), CliError> {
    match output.format {
        Format::Table => output.line(&format!("sagamq {} listens on {url}", env!("CARGO_PKG_VERSION"))),
        Format::Json => output.line(&json!({ "listening": url, "version": env!("CARGO_PKG_VERSION") }).to_string()),
    }
}

//! Whether exports succeed, said once when that changes: a receiver that is away must not fill the log.

use core::fmt;
use reqwest::Url;
use std::sync::atomic::{AtomicBool, Ordering};

/// Tells of the exports of one signal.
#[derive(Debug)]
pub(crate) struct Told {
    signal: &'static str,
    /// Without what stands before its host: that may be a password.
    endpoint: String,
    has_failed: AtomicBool,
}

impl Told {
    pub(crate) fn new(signal: &'static str, endpoint: &Url) -> Self {
        Self { signal, endpoint: shown(endpoint), has_failed: AtomicBool::new(false) }
    }

    pub(crate) fn of<E: fmt::Display>(&self, exported: Result<(), E>) {
        let (signal, endpoint) = (self.signal, self.endpoint.as_str());
        let had_failed = self.has_failed.swap(exported.is_err(), Ordering::Relaxed);
        match exported {
            Err(error) if !had_failed => {
                tracing::warn!(signal, endpoint, %error, "telemetry cannot be exported and is dropped; it is said when it can again");
            }
            Ok(()) if had_failed => tracing::info!(signal, endpoint, "telemetry is exported again"),
            Ok(()) | Err(_) => {}
        }
    }
}

/// An address as it may be shown.
pub(crate) fn shown(url: &Url) -> String {
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{}{port}{}", url.scheme(), url.host_str().unwrap_or_default(), url.path())
}

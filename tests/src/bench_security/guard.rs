//! The servers that are compared.

use rcgen::{CertificateParams, KeyPair};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// How long a server may take to listen, and to end.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a server asks of its clients, and what it tells of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Guard {
    Open,
    Keys,
    KeysTls,
    OpenTracedInPart,
    OpenTraced,
    KeysTlsTraced,
}

impl Guard {
    pub(super) const ALL: [Self; 6] =
        [Self::Open, Self::Keys, Self::KeysTls, Self::OpenTracedInPart, Self::OpenTraced, Self::KeysTlsTraced];

    pub(super) fn says(self) -> &'static str {
        match self {
            Self::Open => "asks nobody, plain HTTP",
            Self::Keys => "API keys",
            Self::KeysTls => "API keys, TLS 1.3",
            Self::OpenTracedInPart => "asks nobody, one request in a hundred traced",
            Self::OpenTraced => "asks nobody, every request traced",
            Self::KeysTlsTraced => "API keys, TLS 1.3, every request traced",
        }
    }

    fn asks_for_keys(self) -> bool {
        matches!(self, Self::Keys | Self::KeysTls | Self::KeysTlsTraced)
    }

    fn speaks_tls(self) -> bool {
        matches!(self, Self::KeysTls | Self::KeysTlsTraced)
    }

    pub(super) fn is_traced(self) -> bool {
        matches!(self, Self::OpenTracedInPart | Self::OpenTraced | Self::KeysTlsTraced)
    }

    /// The share of requests that is traced, as the standard variable has it.
    fn sampled(self) -> &'static str {
        if self == Self::OpenTracedInPart { "0.01" } else { "1" }
    }
}

/// What the servers and their clients show each other.
#[derive(Debug)]
pub(super) struct Files {
    certificate: PathBuf,
    key: PathBuf,
    admin: PathBuf,
}

impl Files {
    pub(super) fn write(folder: &Path, program: &Path) -> Self {
        let pair = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(["127.0.0.1".to_owned()]).expect("a name");
        let certificate = params.self_signed(&pair).expect("a certificate");
        let files = Self { certificate: folder.join("certificate.pem"), key: folder.join("key.pem"), admin: folder.join("admin.key") };
        std::fs::write(&files.certificate, certificate.pem()).expect("a file");
        std::fs::write(&files.key, pair.serialize_pem()).expect("a file");
        let made =
            std::process::Command::new(program).args(["key", "init", "--file"]).arg(&files.admin).output().expect("the program runs");
        assert!(made.status.success(), "sagamq key init: {}", String::from_utf8_lossy(&made.stderr));
        files
    }
}

/// A running server. Dropping it kills the process and removes the data.
#[derive(Debug)]
pub(super) struct Guarded {
    child: Child,
    url: String,
    /// What a client sets to be let in.
    environment: Vec<(&'static str, String)>,
    _data: TempDir,
}

impl Guarded {
    pub(super) async fn start(program: &Path, guard: Guard, files: &Files, collector: &str) -> Self {
        let data = tempfile::Builder::new().prefix("sagamq-bench-").tempdir().expect("a folder for the data");
        let mut command = Command::new(program);
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--log-level", "warn", "--output", "json", "--data-dir"])
            .arg(data.path().join("data"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        let mut environment = Vec::new();
        if guard.asks_for_keys() {
            command.args(["--authentication", "keys", "--bootstrap-key-file"]).arg(&files.admin);
            let secret = std::fs::read_to_string(&files.admin).expect("it was written");
            environment.push(("SAGAMQ_API_KEY", secret.trim().to_owned()));
        }
        if guard.speaks_tls() {
            command.arg("--tls-cert-file").arg(&files.certificate).arg("--tls-key-file").arg(&files.key);
            environment.push(("SAGAMQ_CA_FILE", files.certificate.display().to_string()));
        }
        if guard.is_traced() {
            command.env("OTEL_EXPORTER_OTLP_ENDPOINT", collector);
            command.env("OTEL_TRACES_SAMPLER", "parentbased_traceidratio").env("OTEL_TRACES_SAMPLER_ARG", guard.sampled());
        }
        let mut child = command.spawn().expect("the server starts");
        let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.expect("the server says where it listens").expect("a line");
        let said: Value = serde_json::from_str(&line.expect("the server runs")).expect("JSON");
        let url = said["listening"].as_str().expect("an address").to_owned();
        Self { child, url, environment, _data: data }
    }

    /// A command that speaks to it.
    pub(super) fn client(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.args(["--server", &self.url]).envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Asks it to end, so that it tells what it has not told yet, and waits for that.
    pub(super) async fn stop(mut self) {
        let pid = self.child.id().and_then(|pid| rustix::process::Pid::from_raw(i32::try_from(pid).ok()?)).expect("the server runs");
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("the process can be signalled");
        tokio::time::timeout(PATIENCE, self.child.wait()).await.expect("the server ends").expect("the process can be waited for");
    }
}

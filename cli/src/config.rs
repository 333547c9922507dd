//! The server's settings: a flag wins over the environment, the environment over the file, the file over the default.
//!
//! All three sources give text that is read by the same rules, so a value means the same wherever it stands. Every fault is found
//! in one go and names its source.

use crate::args::serve::ServeArgs;
use crate::args::values;
use crate::serve::log::{self, LogConfig};
use config::builder::DefaultState;
use config::{Config, ConfigBuilder, Environment, File, FileFormat, Map, Source as _, Value, ValueKind};
use http::Uri;
use http::uri::Authority;
use sagamq_api::limits::{QUOTA_REQUESTS_MAX, STREAM_SESSION_MS_MAX, STREAM_SESSION_MS_MIN};
use sagamq_saga::{NoProxy, OrchestratorConfig};
use sagamq_server::run::{AuthenticationMode, ServeConfig};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;
use thiserror::Error;

mod audit;
mod cluster;
mod keys;
mod loaded;
mod numbers;
mod otel;
mod participants;

pub use keys::KEYS;
pub use loaded::Loaded;
use numbers::{at_most, calls, in_flight, log_format, memory, open_sagas, rate, scheduled, shards, verify_states};
use otel::Variables;

/// Beginning of the environment variables' names.
pub const ENVIRONMENT_PREFIX: &str = "SAGAMQ_";

/// The environment variable that names the configuration file.
const CONFIG_VARIABLE: &str = "SAGAMQ_CONFIG";

/// All settings of `sagamq serve`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The server's.
    pub serve: ServeConfig,
    /// The logs'.
    pub log: LogConfig,
}

/// Why settings cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SettingsError {
    /// The configuration file cannot be read.
    #[error("cannot read the configuration file {}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system or the TOML parser says.
        reason: String,
    },
    /// Values that cannot be used, unknown keys: all of them.
    #[error("{}", .0.join("\n"))]
    Faults(Vec<String>),
}

impl Settings {
    /// Reads the settings. `environment` is the process's, or a test's.
    ///
    /// # Errors
    /// [`SettingsError`], with every fault that was found.
    pub fn load(args: &ServeArgs, environment: impl IntoIterator<Item = (String, String)>) -> Result<Self, SettingsError> {
        Self::with_given(args, environment).map(|(settings, _)| settings)
    }

    /// The settings, and those that are not the defaults as they were given.
    fn with_given(args: &ServeArgs, environment: impl IntoIterator<Item = (String, String)>) -> Result<(Self, Vec<String>), SettingsError> {
        let mut environment: Map<String, String> = environment.into_iter().collect();
        let secrets = participants::take_secrets(&mut environment);
        let otel = Variables::of(&environment);
        let named = environment.get(CONFIG_VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from);
        let path = args.config.clone().or(named);
        let mut builder = Config::builder();
        if let Some(path) = &path {
            builder = builder.add_source(File::from_str(&read(path)?, FileFormat::Toml));
        }
        builder = builder.add_source(Environment::default().ignore_empty(true).source(Some(known(environment))));
        let merged = flags(builder, args).build().and_then(|config| config.collect()).map_err(|error| SettingsError::File {
            // Flags and the environment are flat text: only the file can fail to be read.
            path: path.clone().unwrap_or_default(),
            reason: without_lines(&error.to_string()),
        })?;
        let given = other_than_default(&merged);
        let mut settings = read_all(merged, path.as_deref(), otel)?;
        settings.serve.sagas.secrets.environment = secrets;
        Ok((settings, given))
    }
}

/// What the parser says, without the lines of the file that it shows with it: there may be a password or a key in them.
fn without_lines(told: &str) -> String {
    let is_of_file = |line: &&str| line.trim_start().trim_start_matches(|c: char| c.is_ascii_digit()).trim_start().starts_with('|');
    told.lines().filter(|line| !is_of_file(line)).collect::<Vec<_>>().join(": ")
}

fn read(path: &Path) -> Result<String, SettingsError> {
    std::fs::read_to_string(path).map_err(|error| SettingsError::File { path: path.to_owned(), reason: error.to_string() })
}

/// What makes a difference, one by one, as `key = text`. Of an address neither user and password are shown nor what stands behind `?`.
fn other_than_default(merged: &Map<String, Value>) -> Vec<String> {
    let texts = KEYS.into_iter().filter_map(|key| Some((key, merged.get(key)?.clone().into_string().ok()?)));
    let makes_a_difference = |key: &str, text: &str| {
        let mut settings = Settings::default();
        set(&mut settings, key, text).is_ok() && settings != Settings::default()
    };
    let shown = |(key, text): (&str, String)| {
        let cut = text.split_once('?').filter(|(address, _)| address.contains("://")).map(|(address, _)| format!("{address}?…"));
        let text = cut.unwrap_or(text);
        match text.rsplit_once('@') {
            Some((_, rest)) => format!("{key} = …@{rest}"),
            None => format!("{key} = {text}"),
        }
    };
    texts.filter(|(key, text)| otel::is_key(key) || makes_a_difference(key, text)).map(shown).collect()
}

/// The variables that are settings. Others begin with the prefix too: those of the client, and those that Kubernetes makes up for a
/// service of this name.
fn known(environment: Map<String, String>) -> Map<String, String> {
    let key = |variable: &str| variable.strip_prefix(ENVIRONMENT_PREFIX).map(str::to_ascii_lowercase);
    let pairs = environment.into_iter().filter_map(|(variable, value)| Some((key(&variable)?, value)));
    pairs.filter(|(key, _)| KEYS.contains(&key.as_str())).collect()
}

fn flags(mut builder: ConfigBuilder<DefaultState>, args: &ServeArgs) -> ConfigBuilder<DefaultState> {
    let flags = [
        &args.listen,
        &args.data_dir,
        &args.shards,
        &args.log_format,
        &args.log_level,
        &args.shutdown_grace,
        &args.in_flight_bytes_max,
        &args.accept_data_loss,
        &args.read_bytes_max,
        &args.tail_bytes_max,
        &args.request_bytes_max,
        &args.retention_interval,
        &args.disk_reserve_bytes,
        &args.disk_resume_bytes,
        &args.sync_interval,
        &args.client_connections_max,
        &args.client_requests_per_second,
        &args.client_bytes_per_second,
        &args.allow_host,
        &args.allow_origin,
        &args.participant_allow_host,
        &args.participant_deny_address,
        &args.secrets_dir,
        &args.participant_proxy,
        &args.participant_calls_max,
        &args.sagas_open_max,
        &args.participant_connect_timeout,
        &args.saga_restart_grace,
        &args.saga_repair_retention,
        &args.saga_events,
        &args.saga_verify_states_max,
        &args.hold_sagas,
        &args.stream_session,
        &args.stream_heartbeat,
        &args.stream_rebalance,
        &args.stream_members_max,
        &args.stream_topics_max,
        &args.stream_groups_max,
        &args.schedule_records_max,
        &args.schedule_bytes_max,
        &args.authentication,
        &args.insecure_no_auth,
        &args.bootstrap_key_file,
        &args.open_metrics,
        &args.audit,
        &args.audit_retention,
        &args.audit_refusals_per_minute,
        &args.tls_cert_file,
        &args.tls_key_file,
        &args.tls_client_ca_file,
        &args.jwt_jwks,
        &args.jwt_issuer,
        &args.jwt_audience,
        &args.jwt_roles_claim,
        &args.jwt_clock_skew,
        &args.otel_exporter_otlp_endpoint,
        &args.otel_service_name,
        &args.otel_traces_sampler,
        &args.otel_traces_sampler_arg,
        &args.otel_metric_export_interval,
        &args.log,
        &args.node,
        &args.node_url,
        &args.cluster_lease,
        &args.cluster_heartbeat,
        &args.cluster_claim_after,
        &args.cluster_snapshot_bytes,
        &args.cluster_key_file,
        &args.cluster_ca_file,
        &args.cluster_client_cert_file,
        &args.cluster_client_key_file,
    ];
    for (key, flag) in KEYS.into_iter().zip(flags) {
        if let Some(text) = flag {
            let origin = format!("--{}", key.replace('_', "-"));
            let value = Value::new(Some(&origin), ValueKind::String(text.clone()));
            builder = builder.set_override(key, value).expect("the keys are plain names");
        }
    }
    builder
}

fn read_all(merged: Map<String, Value>, path: Option<&Path>, otel: Variables) -> Result<Settings, SettingsError> {
    let mut settings = Settings::default();
    let (mut faults, mut given) = (Vec::new(), Variables::default());
    let mut merged: Vec<(String, Value)> = merged.into_iter().collect();
    merged.sort_by(|(a, _), (b, _)| a.cmp(b));
    for (key, value) in merged {
        let place = place(&key, value.origin(), path);
        let text = match &value.kind {
            ValueKind::Table(_) | ValueKind::Array(_) | ValueKind::Nil => None,
            _ => value.clone().into_string().ok(),
        };
        if !KEYS.contains(&key.as_str()) {
            faults.push(format!("{place} is no setting; the settings are {}", KEYS.join(", ")));
            continue;
        }
        // Of the file everything gives way to the environment, also to the variables of OpenTelemetry itself.
        if value.origin().is_none() && otel.has(&key) {
            continue;
        }
        let result = match &text {
            Some(text) if otel::is_key(&key) => given.set(&key, text),
            Some(text) => set(&mut settings, &key, text),
            None => Err("expected a single value".to_owned()),
        };
        if let Err(reason) = result {
            // An address may hold a password or a key, and a key may stand where its file should.
            let may_hold_one = |text: &str| text.contains('@') || text.contains("://") && text.contains('?');
            let shown =
                text.filter(|text| !may_hold_one(text) && !is_secret(text)).map_or_else(String::new, |text| format!(" is `{text}`"));
            faults.push(format!("{place}{shown}: {reason}"));
        }
    }
    if let Some(resume) = settings.serve.disk_resume_bytes.filter(|resume| *resume < settings.serve.disk_reserve_bytes) {
        let reserve = settings.serve.disk_reserve_bytes;
        faults.push(format!("disk_resume_bytes is {resume}: expected at least disk_reserve_bytes, which is {reserve}"));
    }
    let asks_for_keys = settings.serve.authentication == Some(AuthenticationMode::Keys);
    if asks_for_keys && settings.serve.insecure_no_auth {
        faults.push("authentication is `keys` and insecure_no_auth is true: leave one of them out".to_owned());
    }
    if settings.serve.jwt_jwks.is_some() {
        let rules = &settings.serve.jwt;
        if !asks_for_keys || rules.issuer.is_empty() || rules.audience.is_empty() {
            let needs =
                "tokens (jwt_jwks) need authentication `keys`, jwt_issuer and jwt_audience: a token of anybody for anything is none";
            faults.push(needs.to_owned());
        }
    }
    let ServeConfig { tls_cert_file, tls_key_file, tls_client_ca_file, .. } = &settings.serve;
    if tls_cert_file.is_some() != tls_key_file.is_some() || (tls_client_ca_file.is_some() && tls_cert_file.is_none()) {
        faults.push("TLS needs tls_cert_file and tls_key_file, and tls_client_ca_file needs both: set what is missing".to_owned());
    }
    if settings.serve.bootstrap_key_file.is_some() && !asks_for_keys {
        faults.push("bootstrap_key_file is set and nobody is asked for a key: set authentication to `keys`".to_owned());
    }
    faults.extend(cluster::faults(&settings.serve));
    given.fill(otel);
    match given.read() {
        Ok(telemetry) => settings.serve.telemetry = telemetry,
        // Those of the environment alone: a setting that cannot be used is told with its place, and is none of these.
        Err(found) => faults.extend(found),
    }
    if faults.is_empty() { Ok(settings) } else { Err(SettingsError::Faults(faults)) }
}

/// Where a value stands, in words that lead there.
fn place(key: &str, origin: Option<&str>, path: Option<&Path>) -> String {
    match (origin, path) {
        (Some(flag), _) if flag.starts_with("--") => flag.to_owned(),
        (None, Some(path)) => format!("`{key}` in {}", path.display()),
        (Some(_) | None, _) => format!("{ENVIRONMENT_PREFIX}{}", key.to_ascii_uppercase()),
    }
}

fn set(settings: &mut Settings, key: &str, text: &str) -> Result<(), String> {
    let Settings { serve, log } = settings;
    match key {
        "listen" => serve.listen = text.parse().map_err(|_| "expected an address and a port such as 127.0.0.1:7070".to_owned())?,
        "data_dir" if text.is_empty() => return Err("expected a directory".to_owned()),
        "data_dir" => serve.data_dir = PathBuf::from(text),
        "shards" => serve.shards = shards(text)?,
        "log_format" => log.format = log_format(text)?,
        "log_level" => {
            log::check_level(text)?;
            text.clone_into(&mut log.level);
        }
        "shutdown_grace" => serve.shutdown_grace = values::duration(text)?,
        "in_flight_bytes_max" => serve.in_flight_bytes_max = in_flight(text)?,
        "request_bytes_max" => serve.request_bytes_max = in_flight(text)?,
        "disk_reserve_bytes" => serve.disk_reserve_bytes = values::size(text)?,
        "disk_resume_bytes" => serve.disk_resume_bytes = Some(values::size(text)?),
        "sync_interval" => {
            serve.sync_interval = within(text, Duration::from_millis(10)..=Duration::from_secs(60), "expected a duration from 10ms to 1m")?;
        }
        "client_connections_max" => serve.client_connections_max = Some(at_most(text, 10_000)?),
        "client_requests_per_second" => {
            let expected = "expected a number from 0 (no bound) to 1000000000";
            serve.quota.requests_per_second = text.parse().ok().filter(|rate| *rate <= QUOTA_REQUESTS_MAX).ok_or(expected)?;
        }
        "client_bytes_per_second" => serve.quota.bytes_per_second = rate(text)?,
        "retention_interval" => serve.retention_interval = retention_interval(text)?,
        "allow_host" => serve.allow_hosts = list(text, is_host, "expected names without scheme and port, such as broker.example.com")?,
        "allow_origin" => {
            serve.allow_origins = list(text, is_origin, "expected origins without a path, such as https://console.example.com, or null")?;
        }
        "accept_data_loss" => serve.accept_data_loss = text.parse().map_err(|_| "expected true or false".to_owned())?,
        "read_bytes_max" => serve.read_bytes_max = memory(text)?,
        "tail_bytes_max" => serve.tail_bytes_max = memory(text)?,
        "participant_allow_host" | "participant_deny_address" | "secrets_dir" => participants::set(&mut serve.sagas, key, text)?,
        "participant_proxy" => serve.sagas.participant_proxy = text.parse().map_err(|error: NoProxy| error.to_string())?,
        "participant_calls_max" => serve.sagas.participant_calls_max = calls(text)?,
        "sagas_open_max" => serve.sagas.open_max = open_sagas(text)?,
        "participant_connect_timeout" => serve.sagas.participant_connect_timeout = connect_timeout(text)?,
        "saga_restart_grace" => serve.sagas.restart_grace = restart_grace(text)?,
        "saga_repair_retention" => serve.sagas.repair_retention = repair_retention(text)?,
        "saga_events" => serve.sagas.lifecycle_events = text.parse().map_err(|_| "expected true or false".to_owned())?,
        "saga_verify_states_max" => serve.sagas.verify_states_max = verify_states(text)?,
        "hold_sagas" => serve.sagas.hold = text.parse().map_err(|_| "expected true or false".to_owned())?,
        "stream_session" => {
            let range = Duration::from_millis(STREAM_SESSION_MS_MIN)..=Duration::from_millis(STREAM_SESSION_MS_MAX);
            serve.streams.session = within(text, range, "expected a duration from 1s to 30m")?;
        }
        "stream_heartbeat" => {
            let range = Duration::from_millis(10)..=Duration::from_secs(600);
            serve.streams.heartbeat = within(text, range, "expected a duration from 10ms to 10m")?;
        }
        "stream_rebalance" => {
            let range = Duration::from_millis(100)..=Duration::from_secs(86_400);
            serve.streams.rebalance = within(text, range, "expected a duration from 100ms to 24h")?;
        }
        "stream_members_max" => serve.streams.members_max = at_most(text, 10_000)?,
        "stream_topics_max" => serve.streams.topics_max = at_most(text, 256)?,
        "stream_groups_max" => serve.streams.groups_max = at_most(text, 100_000)?,
        "schedule_records_max" => serve.schedules.records_max = scheduled(text)?,
        "schedule_bytes_max" => serve.schedules.bytes_max = memory(text)? as u64,
        "authentication" => serve.authentication = Some(authentication(text)?),
        "insecure_no_auth" => serve.insecure_no_auth = text.parse().map_err(|_| "expected true or false".to_owned())?,
        "bootstrap_key_file" | "tls_cert_file" | "tls_key_file" | "tls_client_ca_file" if text.is_empty() => {
            return Err("expected a file".to_owned());
        }
        "tls_cert_file" => serve.tls_cert_file = Some(PathBuf::from(text)),
        "tls_key_file" => serve.tls_key_file = Some(PathBuf::from(text)),
        "tls_client_ca_file" => serve.tls_client_ca_file = Some(PathBuf::from(text)),
        "bootstrap_key_file" if is_secret(text) => return Err("expected a file with the secret, and not the secret itself".to_owned()),
        "bootstrap_key_file" => serve.bootstrap_key_file = Some(PathBuf::from(text)),
        "open_metrics" => serve.open_metrics = text.parse().map_err(|_| "expected true or false".to_owned())?,
        "audit" | "audit_retention" | "audit_refusals_per_minute" => audit::set(&mut serve.audit, key, text)?,
        "log"
        | "node"
        | "node_url"
        | "cluster_lease"
        | "cluster_heartbeat"
        | "cluster_claim_after"
        | "cluster_snapshot_bytes"
        | "cluster_key_file"
        | "cluster_ca_file"
        | "cluster_client_cert_file"
        | "cluster_client_key_file" => cluster::set(&mut serve.cluster, key, text)?,
        "jwt_issuer" | "jwt_audience" | "jwt_roles_claim" if text.is_empty() => return Err("expected a text".to_owned()),
        "jwt_jwks" => serve.jwt_jwks = Some(text.parse()?),
        "jwt_issuer" => text.clone_into(&mut serve.jwt.issuer),
        "jwt_audience" => text.clone_into(&mut serve.jwt.audience),
        "jwt_roles_claim" => text.clone_into(&mut serve.jwt.roles_claim),
        "jwt_clock_skew" => serve.jwt.skew = within(text, Duration::ZERO..=Duration::from_secs(600), "expected a duration from 0 to 10m")?,
        other => return Err(format!("`{other}` is no setting")),
    }
    Ok(())
}

/// Whether that is the secret of a key.
fn is_secret(text: &str) -> bool {
    text.trim_start().starts_with("sq_")
}

fn authentication(text: &str) -> Result<AuthenticationMode, String> {
    match text {
        "keys" => Ok(AuthenticationMode::Keys),
        "off" => Ok(AuthenticationMode::Off),
        _ => Err("expected keys or off".to_owned()),
    }
}

/// Values divided by commas.
fn list(text: &str, is_legal: fn(&str) -> bool, expected: &str) -> Result<Vec<String>, String> {
    let values = text.split(',').map(str::trim).filter(|value| !value.is_empty());
    values.map(|value| if is_legal(value) { Ok(value.to_owned()) } else { Err(format!("`{value}`: {expected}")) }).collect()
}

fn is_host(text: &str) -> bool {
    text.parse::<Authority>().is_ok_and(|authority| authority.host() == text) && !text.contains('@')
}

fn connect_timeout(text: &str) -> Result<Duration, String> {
    let timeout = values::duration(text)?;
    let range = OrchestratorConfig::PARTICIPANT_CONNECT_TIMEOUT;
    if range.contains(&timeout) { Ok(timeout) } else { Err("expected a duration from 10ms to 5m".to_owned()) }
}

fn within(text: &str, range: RangeInclusive<Duration>, expected: &str) -> Result<Duration, String> {
    let duration = values::duration(text)?;
    if range.contains(&duration) { Ok(duration) } else { Err(expected.to_owned()) }
}

fn retention_interval(text: &str) -> Result<Duration, String> {
    let interval = values::duration(text)?;
    let is_legal = (Duration::from_secs(1)..=Duration::from_secs(3_600)).contains(&interval);
    if is_legal { Ok(interval) } else { Err("expected a duration from 1s to 1h".to_owned()) }
}

fn restart_grace(text: &str) -> Result<Duration, String> {
    let grace = values::duration(text)?;
    if grace <= OrchestratorConfig::RESTART_GRACE_MAX { Ok(grace) } else { Err("expected a duration of at most 24h".to_owned()) }
}

fn repair_retention(text: &str) -> Result<Duration, String> {
    let retention = values::duration(text)?;
    let is_legal = OrchestratorConfig::REPAIR_RETENTION.contains(&retention);
    if is_legal { Ok(retention) } else { Err("expected a duration from 1m to 10 years".to_owned()) }
}

fn is_origin(text: &str) -> bool {
    let is_of_the_web = |uri: &Uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.path() == "/" && uri.query().is_none();
    text == "null" || text.parse::<Uri>().is_ok_and(|uri| is_of_the_web(&uri))
}

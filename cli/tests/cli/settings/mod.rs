//! Settings of the server: flags win over the environment, the environment over the file, the file over the defaults.

mod every;

use crate::support::{run_command, sagamq};
use sagamq::args::serve::ServeArgs;
use sagamq::config::{KEYS, Loaded, Settings, SettingsError};
use sagamq::serve::log::{LogConfig, LogFormat};
use sagamq_broker::access::TokenRules;
use sagamq_broker::{DiskLimits, ScheduleConfig, StreamConfig};
use sagamq_saga::{OrchestratorConfig, SecretSource};
use sagamq_server::QuotaLimits;
use sagamq_server::run::{AuditSettings, AuthenticationMode, ClusterSettings, KeySource, ServeConfig};
use std::path::PathBuf;
use std::time::Duration;
use tempfile::TempDir;

fn file(text: &str) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("sagamq.toml");
    std::fs::write(&path, text).expect("a file");
    (directory, path)
}

fn load(args: &ServeArgs, environment: &[(&str, &str)]) -> Result<Settings, SettingsError> {
    Settings::load(args, environment.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())))
}

fn faults(args: &ServeArgs, environment: &[(&str, &str)]) -> Vec<String> {
    match load(args, environment) {
        Err(SettingsError::Faults(faults)) => faults,
        other => panic!("faults are expected, not {other:?}"),
    }
}

#[test]
fn without_any_source_there_are_the_defaults() {
    let settings = load(&ServeArgs::default(), &[]).expect("defaults are legal");
    assert_eq!(settings, Settings { serve: ServeConfig::default(), log: LogConfig::default() });
    assert_eq!(settings.serve.listen.to_string(), "127.0.0.1:7070");
    assert!((4..=16).contains(&settings.serve.shards), "{}", settings.serve.shards);
}

#[test]
fn each_source_wins_over_the_one_below() {
    let (_directory, path) = file("shards = 1\nlisten = \"127.0.0.1:1\"\nlog_level = \"warn\"");
    let from_file = ServeArgs { config: Some(path), ..ServeArgs::default() };
    let settings = load(&from_file, &[]).expect("a legal file");
    assert_eq!((settings.serve.shards, settings.serve.listen.port(), settings.log.level.as_str()), (1, 1, "warn"));

    let environment = [("SAGAMQ_SHARDS", "2"), ("SAGAMQ_LISTEN", "127.0.0.1:2")];
    let settings = load(&from_file, &environment).expect("legal variables");
    assert_eq!((settings.serve.shards, settings.serve.listen.port(), settings.log.level.as_str()), (2, 2, "warn"));

    let flags = ServeArgs { shards: Some("3".into()), ..from_file };
    let settings = load(&flags, &environment).expect("legal flags");
    assert_eq!((settings.serve.shards, settings.serve.listen.port(), settings.log.level.as_str()), (3, 2, "warn"));
}

fn telemetry(variables: &[(&str, &str)]) -> Option<sagamq_telemetry::Settings> {
    let variable = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
    sagamq_telemetry::Settings::read(variable).expect("legal variables")
}

#[test]
fn the_variables_of_open_telemetry_win_over_the_file_and_ours_over_them() {
    let (_directory, path) =
        file("otel_exporter_otlp_endpoint = \"http://file:1\"\notel_service_name = \"file\"\notel_traces_sampler_arg = 0.5");
    let from_file = ServeArgs { config: Some(path), ..ServeArgs::default() };
    let settings = |environment: &[(&str, &str)]| load(&from_file, environment).expect("legal").serve.telemetry;
    let (endpoint, name, arg) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_SERVICE_NAME", ("OTEL_TRACES_SAMPLER_ARG", "0.5"));
    assert_eq!(settings(&[]), telemetry(&[(endpoint, "http://file:1"), (name, "file"), arg]));
    assert_eq!(settings(&[(endpoint, "http://std:1")]), telemetry(&[(endpoint, "http://std:1"), (name, "file"), arg]));
    let both =
        [(endpoint, "http://std:1"), ("SAGAMQ_OTEL_EXPORTER_OTLP_ENDPOINT", "http://ours:1"), ("OTEL_EXPORTER_OTLP_HEADERS", "a=s3cret")];
    let merged = settings(&both);
    assert_eq!(merged, telemetry(&[(endpoint, "http://ours:1"), (name, "file"), arg, ("OTEL_EXPORTER_OTLP_HEADERS", "a=s3cret")]));
    assert!(!format!("{merged:?}").contains("s3cret"));
    for (environment, part) in [
        (&[("SAGAMQ_OTEL_TRACES_SAMPLER", "sometimes")][..], "SAGAMQ_OTEL_TRACES_SAMPLER is `sometimes`: expected always_on"),
        (&[("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")], "OTEL_EXPORTER_OTLP_PROTOCOL: expected http/protobuf"),
    ] {
        let faults = faults(&ServeArgs::default(), environment);
        assert!(matches!(&faults[..], [fault] if fault.contains(part)), "{part}: {faults:?}");
    }
}

#[test]
fn secrets_of_the_environment_are_no_settings_and_show_nowhere() {
    let settings = load(&ServeArgs::default(), &[("SAGAMQ_SECRET_PAYMENT_TOKEN", "hidden-1"), ("SAGAMQ_SECRET_EMPTY", "")]).expect("legal");
    let names: Vec<&str> = settings.serve.sagas.secrets.environment.keys().map(String::as_str).collect();
    assert_eq!(names, ["PAYMENT_TOKEN"]);
    assert!(!format!("{settings:?}").contains("hidden-1"), "{settings:?}");
    let environment = [("SAGAMQ_SECRET_PAYMENT_TOKEN", "hidden-1"), ("SAGAMQ_SHARDS", "2")];
    let loaded = Loaded::load(&ServeArgs::default(), environment.map(|(name, value)| (name.into(), value.into()))).expect("legal");
    assert_eq!((loaded.given.as_slice(), loaded.ignored.as_slice()), (["shards = 2".to_owned()].as_slice(), [].as_slice()));
}

#[test]
fn numbers_and_booleans_of_toml_are_read_as_such() {
    let (_directory, path) = file("shards = 3\naccept_data_loss = true\nin_flight_bytes_max = 67108864");
    let settings = load(&ServeArgs { config: Some(path), ..ServeArgs::default() }, &[]).expect("a legal file");
    assert_eq!((settings.serve.shards, settings.serve.accept_data_loss, settings.serve.in_flight_bytes_max), (3, true, 64 << 20));
}

#[test]
fn variables_of_others_and_empty_ones_are_not_settings() {
    let environment =
        [("SAGAMQ_SERVER", "http://h"), ("SAGAMQ_PORT", "tcp://10.0.0.1:7070"), ("SAGAMQ_SERVICE_HOST", "10.0.0.1"), ("SAGAMQ_SHARDS", "")];
    assert_eq!(load(&ServeArgs::default(), &environment), Ok(Settings::default()));
}

#[test]
fn every_fault_is_named_with_its_source() {
    let (_directory, path) = file("lisen = \"x\"\nlog_format = \"xml\"\nshards = [1]");
    let args = ServeArgs { config: Some(path.clone()), shutdown_grace: Some("soon".into()), ..ServeArgs::default() };
    let faults = faults(&args, &[("SAGAMQ_LISTEN", "everywhere")]);
    let file = path.display().to_string();
    for parts in [
        [&format!("`lisen` in {file}"), "is no setting"],
        [&format!("`log_format` in {file}"), "text or json"],
        [&format!("`shards` in {file}"), "single value"],
        ["SAGAMQ_LISTEN", "`everywhere`"],
        ["--shutdown-grace", "`soon`"],
    ] {
        assert!(faults.iter().any(|fault| parts.iter().all(|part| fault.contains(part))), "{parts:?} is missing in {faults:#?}");
    }
    assert_eq!(faults.len(), 5, "{faults:#?}");
}

#[test]
fn bounds_are_checked() {
    for (key, value) in [
        ("SHARDS", "0"),
        ("SHARDS", "257"),
        ("IN_FLIGHT_BYTES_MAX", "1MiB"),
        ("READ_BYTES_MAX", "1KiB"),
        ("LOG_LEVEL", "loud"),
        ("ACCEPT_DATA_LOSS", "yes"),
        ("PARTICIPANT_ALLOW_HOST", "http://payments.internal"),
        ("PARTICIPANT_ALLOW_HOST", "payments.internal:0"),
        ("PARTICIPANT_DENY_ADDRESS", "public"),
        ("PARTICIPANT_DENY_ADDRESS", "loopback, none"),
        ("PARTICIPANT_PROXY", "proxy.example:3128"),
        ("PARTICIPANT_PROXY", "socks5://proxy.example:1080"),
        ("PARTICIPANT_CALLS_MAX", "0"),
        ("PARTICIPANT_CALLS_MAX", "10001"),
        ("PARTICIPANT_CONNECT_TIMEOUT", "1ms"),
        ("PARTICIPANT_CONNECT_TIMEOUT", "1h"),
        ("SAGA_RESTART_GRACE", "2d"),
        ("DISK_RESERVE_BYTES", "much"),
        ("SYNC_INTERVAL", "1ms"),
        ("CLIENT_REQUESTS_PER_SECOND", "-1"),
        ("CLIENT_BYTES_PER_SECOND", "fast"),
    ] {
        let name = format!("SAGAMQ_{key}");
        let faults = faults(&ServeArgs::default(), &[(&name, value)]);
        assert!(matches!(&faults[..], [fault] if fault.contains(&name) && fault.contains("expected")), "{faults:?}");
    }
}

#[test]
fn what_was_refused_is_taken_again_when_a_fourth_more_is_free_or_as_it_is_said_but_not_below_the_reserve() {
    let disk = |environment: &[(&str, &str)]| load(&ServeArgs::default(), environment).map(|settings| settings.serve.disk());
    let limits = |reserve_bytes, resume_bytes| Ok(DiskLimits { reserve_bytes, resume_bytes });
    assert_eq!(disk(&[]), limits(1 << 30, 5 << 28));
    assert_eq!(disk(&[("SAGAMQ_DISK_RESERVE_BYTES", "4KiB")]), limits(4096, 5120));
    assert_eq!(disk(&[("SAGAMQ_DISK_RESERVE_BYTES", "0")]), limits(0, 0));
    let both = [("SAGAMQ_DISK_RESERVE_BYTES", "2GiB"), ("SAGAMQ_DISK_RESUME_BYTES", "2GiB")];
    assert_eq!(disk(&both), limits(2 << 30, 2 << 30));
    let faults = faults(&ServeArgs::default(), &[("SAGAMQ_DISK_RESUME_BYTES", "1MiB")]);
    assert!(matches!(&faults[..], [fault] if fault.contains("disk_resume_bytes") && fault.contains("expected at least")), "{faults:?}");
}

#[test]
fn who_may_use_the_server_is_said_in_one_way() {
    let said = |environment: &[(&str, &str)]| {
        load(&ServeArgs::default(), environment).map(|settings| (settings.serve.authentication, settings.serve.insecure_no_auth))
    };
    assert_eq!(said(&[("SAGAMQ_AUTHENTICATION", "off")]), Ok((Some(AuthenticationMode::Off), false)));
    assert_eq!(said(&[("SAGAMQ_INSECURE_NO_AUTH", "true")]), Ok((None, true)));
    for (environment, part) in [
        (&[("SAGAMQ_AUTHENTICATION", "basic")][..], "keys or off"),
        (&[("SAGAMQ_AUTHENTICATION", "keys"), ("SAGAMQ_INSECURE_NO_AUTH", "true")], "leave one of them out"),
        (&[("SAGAMQ_BOOTSTRAP_KEY_FILE", "/k")], "set authentication"),
        (&[("SAGAMQ_JWT_JWKS", "/j"), ("SAGAMQ_AUTHENTICATION", "keys"), ("SAGAMQ_JWT_ISSUER", "i")], "jwt_audience"),
        (&[("SAGAMQ_JWT_JWKS", "http://login.example/keys")], "expected an https address"),
        (&[("SAGAMQ_JWT_CLOCK_SKEW", "1h")], "expected a duration"),
        (&[("SAGAMQ_TLS_CERT_FILE", "/c")], "set what is missing"),
        (&[("SAGAMQ_TLS_KEY_FILE", "/k")], "set what is missing"),
        (&[("SAGAMQ_TLS_CLIENT_CA_FILE", "/a")], "set what is missing"),
    ] {
        let faults = faults(&ServeArgs::default(), environment);
        assert!(matches!(&faults[..], [fault] if fault.contains(part)), "{part}: {faults:?}");
    }
}

#[test]
fn the_password_of_a_proxy_is_not_shown_with_its_fault() {
    let faults = faults(&ServeArgs::default(), &[("SAGAMQ_PARTICIPANT_PROXY", "socks5://user:secret@proxy.example")]);
    assert!(matches!(&faults[..], [fault] if fault.contains("SAGAMQ_PARTICIPANT_PROXY") && !fault.contains("secret")), "{faults:?}");
}

/// A quotation mark that is missing is the usual mistake, and the parser would show the whole line.
#[test]
fn what_stands_in_a_line_of_the_file_that_cannot_be_read_is_not_shown() {
    for (text, place) in [
        ("shards = 1\nparticipant_proxy = \"http://user:s3cret@proxy:3128\n", "line 2"),
        ("participant_proxy = http://user:s3cret@proxy:3128", "line 1"),
        ("jwt_jwks = 'https://login.example/keys?code=s3cret", "line 1"),
        ("bootstrap_key_file = sq_s3cret", "line 1"),
        ("s3cret", "line 1"),
        ("listen = \"127.0.0.1:1\" s3cret", "line 1"),
        ("shards = 1\nshards = \"s3cret\"", "line 2"),
    ] {
        let (_directory, path) = file(text);
        let error = load(&ServeArgs { config: Some(path), ..ServeArgs::default() }, &[]).expect_err(text).to_string();
        assert!(error.contains("sagamq.toml") && error.contains(place) && !error.contains("s3cret"), "{text}: {error}");
    }
}

#[test]
fn the_binary_says_it_once_and_ends_with_2_before_it_touches_anything() {
    let directory = tempfile::tempdir().expect("a directory");
    let syntax = directory.path().join("syntax.toml");
    std::fs::write(&syntax, "shards = ").expect("a file");
    let unknown = directory.path().join("unknown.toml");
    std::fs::write(&unknown, "shard = 1").expect("a file");
    for (args, part) in [
        (vec!["--config", "no-such-file.toml"], "no-such-file.toml"),
        (vec!["--config", syntax.to_str().expect("text")], "syntax.toml"),
        (vec!["--config", unknown.to_str().expect("text")], "`shard`"),
        (vec!["--shards", "zero"], "--shards"),
        (vec!["--listen", "7070"], "--listen"),
    ] {
        let mut command = sagamq();
        command.arg("serve").args(&args).current_dir(&directory);
        let stderr = run_command(command).expect(2).stderr;
        assert_eq!(stderr.matches("error: ").count(), 1, "{stderr}");
        assert!(stderr.contains(part), "{part} is missing in {stderr}");
        assert!(!directory.path().join("data").exists(), "nothing was made");
    }
}

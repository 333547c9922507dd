//! Settings of the server: flags win over the environment, the environment over the file, the file over the defaults.

use crate::support::sagamq;
use sagamq::args::serve::ServeArgs;
use sagamq::config::{KEYS, Settings, SettingsError};
use sagamq::serve::log::{LogConfig, LogFormat};
use sagamq::serve::{AuthenticationMode, KeySource, ServeConfig};
use sagamq_broker::access::TokenRules;
use sagamq_broker::http::QuotaLimits;
use sagamq_broker::{DiskLimits, ScheduleConfig, StreamConfig};
use sagamq_saga::OrchestratorConfig;
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
    assert_eq!(settings.serve.shards, 16);
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

#[test]
fn every_setting_can_be_given_by_every_source() {
    let values = [
        "127.0.0.1:9",
        "/d",
        "8",
        "json",
        "debug",
        "5s",
        "128MiB",
        "true",
        "32MiB",
        "16MiB",
        "96MiB",
        "7s",
        "2GiB",
        "3GiB",
        "50ms",
        "500",
        "8MiB",
        "a.example, b.example",
        "https://c.example",
        "payments.internal, 10.0.0.7",
        "http://proxy.example:3128",
        "8",
        "77",
        "250ms",
        "1m",
        "7d",
        "true",
        "4321",
        "true",
        "30s",
        "2s",
        "20s",
        "60",
        "7",
        "9",
        "11",
        "12MiB",
        "keys",
        "false",
        "/k",
        "true",
        "/cert",
        "/key",
        "/ca",
        "/jwks",
        "issuer",
        "audience",
        "groups",
        "5s",
    ];
    let wanted = Settings {
        serve: ServeConfig {
            listen: "127.0.0.1:9".parse().expect("an address"),
            data_dir: "/d".into(),
            shards: 8,
            accept_data_loss: true,
            shutdown_grace: Duration::from_secs(5),
            in_flight_bytes_max: 128 << 20,
            read_bytes_max: 32 << 20,
            tail_bytes_max: 16 << 20,
            request_bytes_max: 96 << 20,
            retention_interval: Duration::from_secs(7),
            disk_reserve_bytes: 2 << 30,
            disk_resume_bytes: Some(3 << 30),
            sync_interval: Duration::from_millis(50),
            quota: QuotaLimits { requests_per_second: 500, bytes_per_second: 8 << 20 },
            allow_hosts: vec!["a.example".into(), "b.example".into()],
            allow_origins: vec!["https://c.example".into()],
            sagas: OrchestratorConfig {
                participant_hosts: vec!["payments.internal".into(), "10.0.0.7".into()],
                participant_proxy: "http://proxy.example:3128".parse().expect("a proxy"),
                participant_calls_max: 8,
                open_max: 77,
                participant_connect_timeout: Duration::from_millis(250),
                restart_grace: Duration::from_secs(60),
                repair_retention: Duration::from_secs(7 * 24 * 3_600),
                lifecycle_events: true,
                verify_states_max: 4_321,
                hold: true,
            },
            streams: StreamConfig {
                session: Duration::from_secs(30),
                heartbeat: Duration::from_secs(2),
                rebalance: Duration::from_secs(20),
                members_max: 60,
                topics_max: 7,
                groups_max: 9,
            },
            schedules: ScheduleConfig { records_max: 11, bytes_max: 12 << 20 },
            authentication: Some(AuthenticationMode::Keys),
            insecure_no_auth: false,
            bootstrap_key_file: Some("/k".into()),
            open_metrics: true,
            tls_cert_file: Some("/cert".into()),
            tls_key_file: Some("/key".into()),
            tls_client_ca_file: Some("/ca".into()),
            jwt_jwks: Some(KeySource::File("/jwks".into())),
            jwt: TokenRules {
                issuer: "issuer".into(),
                audience: "audience".into(),
                roles_claim: "groups".into(),
                skew: Duration::from_secs(5),
            },
        },
        log: LogConfig { format: LogFormat::Json, level: "debug".into() },
    };
    let text: Vec<String> = KEYS.iter().zip(values).map(|(key, value)| format!("{key} = \"{value}\"")).collect();
    let (_directory, path) = file(&text.join("\n"));
    assert_eq!(load(&ServeArgs { config: Some(path.clone()), ..ServeArgs::default() }, &[]), Ok(wanted.clone()));
    // The file itself can be named by the environment.
    assert_eq!(load(&ServeArgs::default(), &[("SAGAMQ_CONFIG", path.to_str().expect("text"))]), Ok(wanted.clone()));

    let names: Vec<String> = KEYS.iter().map(|key| format!("SAGAMQ_{}", key.to_uppercase())).collect();
    let environment: Vec<(&str, &str)> = names.iter().map(String::as_str).zip(values).collect();
    assert_eq!(load(&ServeArgs::default(), &environment), Ok(wanted.clone()));

    let [
        listen,
        data_dir,
        shards,
        log_format,
        log_level,
        shutdown_grace,
        in_flight_bytes_max,
        accept_data_loss,
        read_bytes_max,
        tail_bytes_max,
        request_bytes_max,
        retention_interval,
        disk_reserve_bytes,
        disk_resume_bytes,
        sync_interval,
        client_requests_per_second,
        client_bytes_per_second,
        allow_host,
        allow_origin,
        participant_allow_host,
        participant_proxy,
        participant_calls_max,
        sagas_open_max,
        participant_connect_timeout,
        saga_restart_grace,
        saga_repair_retention,
        saga_events,
        saga_verify_states_max,
        hold_sagas,
        stream_session,
        stream_heartbeat,
        stream_rebalance,
        stream_members_max,
        stream_topics_max,
        stream_groups_max,
        schedule_records_max,
        schedule_bytes_max,
        authentication,
        insecure_no_auth,
        bootstrap_key_file,
        open_metrics,
        tls_cert_file,
        tls_key_file,
        tls_client_ca_file,
        jwt_jwks,
        jwt_issuer,
        jwt_audience,
        jwt_roles_claim,
        jwt_clock_skew,
    ] = values.map(|value| Some(value.to_owned()));
    let args = ServeArgs {
        config: None,
        listen,
        data_dir,
        shards,
        log_format,
        log_level,
        shutdown_grace,
        in_flight_bytes_max,
        accept_data_loss,
        read_bytes_max,
        tail_bytes_max,
        request_bytes_max,
        retention_interval,
        disk_reserve_bytes,
        disk_resume_bytes,
        sync_interval,
        client_requests_per_second,
        client_bytes_per_second,
        allow_host,
        allow_origin,
        participant_allow_host,
        participant_proxy,
        participant_calls_max,
        sagas_open_max,
        participant_connect_timeout,
        saga_restart_grace,
        saga_repair_retention,
        saga_events,
        saga_verify_states_max,
        hold_sagas,
        stream_session,
        stream_heartbeat,
        stream_rebalance,
        stream_members_max,
        stream_topics_max,
        stream_groups_max,
        schedule_records_max,
        schedule_bytes_max,
        authentication,
        insecure_no_auth,
        bootstrap_key_file,
        open_metrics,
        tls_cert_file,
        tls_key_file,
        tls_client_ca_file,
        jwt_jwks,
        jwt_issuer,
        jwt_audience,
        jwt_roles_claim,
        jwt_clock_skew,
    };
    assert_eq!(load(&args, &[]), Ok(wanted));
}

#[test]
fn numbers_and_booleans_of_toml_are_read_as_such() {
    let (_directory, path) = file("shards = 4\naccept_data_loss = true\nin_flight_bytes_max = 67108864");
    let settings = load(&ServeArgs { config: Some(path), ..ServeArgs::default() }, &[]).expect("a legal file");
    assert_eq!((settings.serve.shards, settings.serve.accept_data_loss, settings.serve.in_flight_bytes_max), (4, true, 64 << 20));
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
        ("PARTICIPANT_ALLOW_HOST", "payments.internal:8080"),
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
        let output = sagamq().arg("serve").args(&args).current_dir(&directory).output().expect("the binary runs");
        let stderr = String::from_utf8(output.stderr).expect("text");
        assert_eq!(output.status.code(), Some(2), "{args:?}: {stderr}");
        assert_eq!(stderr.matches("error: ").count(), 1, "{stderr}");
        assert!(stderr.contains(part), "{part} is missing in {stderr}");
        assert!(!directory.path().join("data").exists(), "nothing was made");
    }
}

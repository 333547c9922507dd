//! [`Loaded`]: the settings of a process, and what its log is to say about where they come from.

use super::otel::Variables;
use super::participants::SECRET_PREFIX;
use super::{CONFIG_VARIABLE, ENVIRONMENT_PREFIX, KEYS, Settings, SettingsError};
use crate::args::Cli;
use crate::args::serve::ServeArgs;
use clap::CommandFactory as _;
use sagamq_saga::dsl::nearest;
use std::ffi::OsString;

/// Beginnings of variables that scripts and tests of this project take, and what the SDK reads by itself.
const OF_OTHERS: [&str; 9] = [
    "SAGAMQ_TEST_",
    "SAGAMQ_CI_",
    "SAGAMQ_POSTGRES_",
    "SAGAMQ_ORACLE_",
    "SAGAMQ_EXPLORER_",
    "SAGAMQ_FOLDS_",
    "SAGAMQ_UPDATE_",
    "SAGAMQ_SETUP",
    "SAGAMQ_PROFILE",
];

/// Settings, and what is to be said about them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// Those that are not the defaults, as they were given, without secrets.
    pub given: Vec<String>,
    /// A sentence for each variable that begins as a setting does and is nobody's.
    pub ignored: Vec<String>,
}

impl Loaded {
    /// Reads the settings of a process with this environment.
    ///
    /// # Errors
    /// [`SettingsError`], with every fault that was found. A setting that is no UTF-8 is one.
    pub fn load(args: &ServeArgs, environment: impl IntoIterator<Item = (OsString, OsString)>) -> Result<Self, SettingsError> {
        let (mut texts, mut faults, mut ignored) = (Vec::new(), Vec::new(), Vec::new());
        let clients = of_clients();
        for (name, value) in environment {
            let Some(name) = name.to_str() else { continue };
            if Variables::are(name) {
                match value.into_string() {
                    Ok(text) => texts.push((name.to_owned(), text)),
                    Err(_) => faults.push(format!("{name}: expected UTF-8 text")),
                }
                continue;
            }
            if !name.starts_with(ENVIRONMENT_PREFIX) {
                continue;
            }
            if !is_setting(name) && !name.starts_with(SECRET_PREFIX) {
                let is_known = clients.iter().any(|known| known == name) || OF_OTHERS.iter().any(|begin| name.starts_with(begin));
                if !is_known && !is_of_kubernetes(name, &value.to_string_lossy()) {
                    ignored.push(told(name));
                }
                continue;
            }
            match value.into_string() {
                Ok(text) => texts.push((name.to_owned(), text)),
                Err(_) => faults.push(format!("{name}: expected UTF-8 text")),
            }
        }
        ignored.sort();
        match Settings::with_given(args, texts) {
            Ok((settings, given)) if faults.is_empty() => Ok(Self { settings, given, ignored }),
            Ok(_) => Err(SettingsError::Faults(faults)),
            Err(SettingsError::Faults(more)) => Err(SettingsError::Faults([faults, more].concat())),
            Err(file @ SettingsError::File { .. }) => Err(file),
        }
    }
}

fn is_setting(name: &str) -> bool {
    name == CONFIG_VARIABLE || KEYS.contains(&key(name).as_str())
}

/// The key that a variable of this name sets, if there is one.
fn key(name: &str) -> String {
    name.strip_prefix(ENVIRONMENT_PREFIX).unwrap_or(name).to_ascii_lowercase()
}

/// The variables that commands of the client take.
fn of_clients() -> Vec<String> {
    let mut commands = vec![Cli::command()];
    let mut names = Vec::new();
    while let Some(command) = commands.pop() {
        names.extend(command.get_arguments().filter_map(|arg| Some(arg.get_env()?.to_str()?.to_owned())));
        commands.extend(command.get_subcommands().cloned());
    }
    names
}

/// Whether this is one of those that Kubernetes makes for services whose names begin with ours: `SAGAMQ_SERVICE_HOST`,
/// `SAGAMQ_PORT_7070_TCP_ADDR`, and `SAGAMQ_PORT` with an address.
fn is_of_kubernetes(name: &str, value: &str) -> bool {
    let rest = &name[ENVIRONMENT_PREFIX.len() - 1..];
    let has_port = rest.split("_PORT_").skip(1).any(|port| port.starts_with(|c: char| c.is_ascii_digit()));
    rest.ends_with("_SERVICE_HOST") || rest.contains("_SERVICE_PORT") || has_port || (rest.ends_with("_PORT") && value.contains("://"))
}

fn told(name: &str) -> String {
    let meant = nearest(&key(name), KEYS.into_iter().chain(["config"]));
    let help = meant.map_or_else(
        || "the settings are in `sagamq serve --help`".to_owned(),
        |key| format!("did you mean {ENVIRONMENT_PREFIX}{}?", key.to_ascii_uppercase()),
    );
    format!("{name} is no setting and is ignored: {help}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::os::unix::ffi::OsStringExt as _;

    fn load(environment: &[(&str, &str)]) -> Loaded {
        Loaded::load(&ServeArgs::default(), environment.iter().map(|&(name, value)| (name.into(), value.into()))).expect("legal settings")
    }

    #[test]
    fn a_misspelt_variable_is_told_with_what_may_be_meant() {
        for (name, meant) in [
            ("SAGAMQ_PARTICIPANT_ALLOW_HOSTS", "did you mean SAGAMQ_PARTICIPANT_ALLOW_HOST?"),
            ("SAGAMQ_DATADIR", "did you mean SAGAMQ_DATA_DIR?"),
            ("SAGAMQ_CONFIGS", "did you mean SAGAMQ_CONFIG?"),
            ("SAGAMQ_PORT", "`sagamq serve --help`"),
            ("SAGAMQ_FLUX", "`sagamq serve --help`"),
        ] {
            let loaded = load(&[(name, "7070"), ("SAGAMQ_SHARDS", "2")]);
            assert!(matches!(&loaded.ignored[..], [one] if one.starts_with(name) && one.contains(meant)), "{name}: {:?}", loaded.ignored);
            assert_eq!(loaded.settings.serve.shards, 2);
        }
    }

    #[test]
    fn what_is_a_setting_a_clients_of_kubernetes_or_of_tests_is_not_told() {
        let others = [
            ("SAGAMQ_SHARDS", "2"),
            ("SAGAMQ_Data_Dir", "d"),
            ("SAGAMQ_CONFIG", ""),
            ("SAGAMQ_SERVER", "http://h"),
            ("SAGAMQ_TOKEN", "t"),
            ("SAGAMQ_OUTPUT", "json"),
            ("SAGAMQ_SETUP", "no"),
            ("SAGAMQ_TEST_POSTGRES", "host=h"),
            ("SAGAMQ_PORT", "tcp://10.0.0.1:7070"),
            ("SAGAMQ_PORT_7070_TCP_ADDR", "10.0.0.1"),
            ("SAGAMQ_SERVICE_HOST", "10.0.0.1"),
            ("SAGAMQ_SERVICE_PORT_HTTP", "7070"),
            ("SAGAMQ_HEADLESS_SERVICE_HOST", "10.0.0.1"),
            ("SAGAMQ_HEADLESS_PORT_7070_TCP", "tcp://10.0.0.1:7070"),
            ("sagamq_nothing", "x"),
            ("PATH", "/bin"),
        ];
        assert_eq!(load(&others).ignored, Vec::<String>::new());
    }

    #[test]
    fn what_differs_from_the_defaults_is_told_without_passwords() {
        let given = load(&[
            ("SAGAMQ_SHUTDOWN_GRACE", "30s"),
            ("SAGAMQ_DATA_DIR", "d"),
            ("SAGAMQ_PARTICIPANT_PROXY", "http://user:s3cret@proxy.example:3128"),
            ("SAGAMQ_LOG_FORMAT", "json"),
            ("SAGAMQ_OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318?key=s3cret"),
        ]);
        let shown = [
            "data_dir = d",
            "log_format = json",
            "participant_proxy = …@proxy.example:3128",
            "otel_exporter_otlp_endpoint = http://collector:4318?…",
        ];
        assert_eq!(given.given.iter().map(String::as_str).collect::<BTreeSet<_>>(), BTreeSet::from(shown));
        for (name, wrong) in [
            ("SAGAMQ_JWT_JWKS", "http://login.example/keys?code=s3cret"),
            ("SAGAMQ_PARTICIPANT_PROXY", "http://user:s3cret@h/path"),
            ("SAGAMQ_OTEL_EXPORTER_OTLP_ENDPOINT", "ftp://collector?key=s3cret"),
        ] {
            let faults = Loaded::load(&ServeArgs::default(), [(name.into(), wrong.into())]).expect_err(wrong).to_string();
            assert!(faults.contains(name) && !faults.contains("s3cret"), "{faults}");
        }
        assert_eq!(load(&[]).given, Vec::<String>::new());
    }

    #[test]
    fn a_setting_that_is_no_text_is_a_fault_beside_the_others() {
        let raw = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
        let environment = [(raw(b"SAGAMQ_DATA_DIR"), raw(b"/d\xff")), (raw(b"SAGAMQ_SHARDS"), raw(b"0")), (raw(b"OTHER"), raw(b"\xff"))];
        match Loaded::load(&ServeArgs::default(), environment) {
            Err(SettingsError::Faults(faults)) => {
                assert_eq!(faults.len(), 2, "{faults:?}");
                assert!(faults[0].contains("SAGAMQ_DATA_DIR") && faults[0].contains("UTF-8"), "{faults:?}");
                assert!(faults[1].contains("SAGAMQ_SHARDS"), "{faults:?}");
            }
            other => panic!("faults are expected, not {other:?}"),
        }
    }
}

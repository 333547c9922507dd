//! What the Debian package brings beside the binary. The package itself is installed, used and removed by `scripts/test-deb`.

use rustix::process::{Pid, Signal, kill_process};
use sagamq_tests::server::{binary, free_address};
use std::collections::BTreeMap;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The settings of the unit, each with its values.
fn unit() -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in
        read("packaging/debian/sagamq.service").lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('='))
    {
        found.entry(name.to_owned()).or_default().push(value.to_owned());
    }
    found
}

/// Starts the server with this configuration, as the unit does, on a free port and with data of its own; what it says when it ends at once.
fn served(config: &str, folder: &Path) -> Command {
    let path = folder.join("sagamq.toml");
    std::fs::write(&path, config).expect("a file");
    let unit = unit();
    let mut words = unit["ExecStart"][0].split(' ');
    assert_eq!(words.next(), Some("/usr/bin/sagamq"));
    let words = words.map(|word| if word == "/etc/sagamq/sagamq.toml" { path.clone() } else { PathBuf::from(word) });
    let mut command = Command::new(binary("sagamq"));
    command.args(words).env_clear().stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// The configuration of the package, for this test: where it listens, and where its data lie.
fn config(address: &str, folder: &Path) -> String {
    let text = read("packaging/sagamq.toml");
    let data = folder.join("data");
    let changed =
        text.replace("127.0.0.1:7070\"\n", &format!("{address}\"\n")).replace("/var/lib/sagamq\"\n", &format!("{}\"\n", data.display()));
    assert!(changed.contains(address) && changed.contains(&data.display().to_string()), "{changed}");
    changed
}

#[test]
fn systemd_is_told_when_the_server_takes_requests_and_when_it_ends() {
    let folder = tempfile::tempdir().expect("a folder");
    let (address, socket) = (free_address().to_string(), folder.path().join("notify"));
    let told = UnixDatagram::bind(&socket).expect("a socket");
    // Generous, because this is no test of speed.
    told.set_read_timeout(Some(Duration::from_secs(120))).expect("a time");
    let next = || {
        let mut buffer = [0; 100];
        let size = told.recv(&mut buffer).expect("systemd is told");
        String::from_utf8_lossy(&buffer[..size]).into_owned()
    };
    assert_eq!(unit()["Type"], ["notify"]);
    let mut child = served(&config(&address, folder.path()), folder.path()).env("NOTIFY_SOCKET", &socket).spawn().expect("it starts");
    assert_eq!(next(), "READY=1\n");
    let ready = Command::new(binary("sagamq")).args(["health", "--retry-for", "0s", "--server", &format!("http://{address}")]).status();
    assert!(ready.expect("it runs").success(), "whoever is told so can use it");
    kill_process(Pid::from_child(&child), Signal::TERM).expect("it runs");
    assert_eq!(next(), "STOPPING=1\n");
    assert!(child.wait().expect("it ends").success());
    // The first start made a key, for whoever can read the data.
    assert!(folder.path().join("data/admin-key").is_file());
}

#[test]
fn every_line_of_the_configuration_can_be_used_and_a_wrong_one_ends_it_for_good() {
    let folder = tempfile::tempdir().expect("a folder");
    // Those that are commented out are settings as well.
    let text = read("packaging/sagamq.toml");
    let all: String = text
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(setting) if setting.split_once(" = ").is_some_and(|(key, _)| key.chars().all(|c| c.is_ascii_lowercase() || c == '_')) => {
                format!("{setting}\n")
            }
            _ => format!("{line}\n"),
        })
        .collect();
    for key in ["listen", "data_dir", "authentication", "tls_cert_file", "tls_key_file", "open_metrics", "disk_reserve_bytes"] {
        assert!(all.lines().any(|line| line.starts_with(&format!("{key} = "))), "{key} is not in {all}");
    }
    let ended = |config: &str| {
        let ended = served(config, folder.path()).output().expect("it runs");
        (ended.status.code(), String::from_utf8_lossy(&ended.stderr).into_owned())
    };
    // There are no certificates there: that is looked at when all settings are read.
    let (code, says) = ended(&all.replace("/etc/sagamq/tls", &folder.path().join("tls").display().to_string()));
    assert!(code == Some(2) && says.contains("certificate.pem"), "{code:?}: {says}");
    let (code, says) = ended(&all.replace("authentication", "authentification"));
    assert!(says.contains("authentification"), "{says}");
    assert_eq!(unit()["RestartPreventExitStatus"], [code.expect("a code").to_string()], "systemd does not try it again and again");
}

#[test]
fn the_unit_stops_it_later_than_it_needs_and_lets_it_have_its_files() {
    let unit = unit();
    let grace = sagamq_server::run::ServeConfig::default().shutdown_grace.as_secs();
    assert!(unit["TimeoutStopSec"][0].parse::<u64>().expect("seconds") > grace, "nothing is cut off");
    assert_eq!(unit["StateDirectory"], ["sagamq"]);
    assert!(read("packaging/sagamq.toml").contains("data_dir = \"/var/lib/sagamq\"\n"));
    let user = read("packaging/debian/sagamq.sysusers");
    assert!(user.starts_with(&format!("u {} ", unit["User"][0])), "{user}");
    // What is said in the documents is what is shipped.
    assert!(read("docs/operations.md").contains("/usr/lib/systemd/system/sagamq.service"));
}

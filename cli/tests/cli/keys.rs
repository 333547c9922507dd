//! Secure by default: who may use a server is said, or it does not start where others can reach it; the first key, and the commands for keys.

use crate::serve::Process;
use crate::support::{Run, run, run_command, sagamq};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// Port 0, but of all addresses of the machine.
const EVERYWHERE: &str = "0.0.0.0:0";

fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

fn with_key(server: &Process, key: &str, args: &[&str]) -> Run {
    let mut command = sagamq();
    command.args(args).args(["--server", &server.url, "--output", "json"]).env("SAGAMQ_API_KEY", key);
    run_command(command)
}

/// The secret in a file that only its owner may read.
fn secret_in(path: &Path) -> String {
    let mode = fs::metadata(path).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "nobody else may read it");
    fs::read_to_string(path).expect("ours").trim().to_owned()
}

#[test]
fn a_server_that_others_can_reach_does_not_start_until_it_is_said_who_may_use_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("data");
    for address in [EVERYWHERE, "[::]:0", "192.0.2.1:7070"] {
        let refused = run(&["serve", "--listen", address, "--data-dir", text(&data)]).expect(2);
        for part in ["(UNGUARDED)", "--authentication keys", "--insecure-no-auth"] {
            assert!(refused.stderr.contains(part), "{part}: {}", refused.stderr);
        }
        let off = run(&["serve", "--listen", address, "--data-dir", text(&data), "--authentication", "off"]).expect(2);
        assert!(off.stderr.contains("(UNGUARDED)"), "saying off is no way around it: {}", off.stderr);
        assert!(!data.exists(), "nothing was made");
    }
    let mut open = sagamq();
    open.args(["serve", "--listen", EVERYWHERE, "--insecure-no-auth", "--data-dir", text(&data)]);
    assert!(Process::begin(open).url.starts_with("http://"), "said plainly, it starts");
}

#[test]
fn the_first_start_makes_a_key_and_says_where_it_lies_and_later_ones_do_not() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("admin-key");
    let server = Process::start_with(directory.path(), &["--authentication", "keys"], &[]);
    let admin = secret_in(&file);
    let refused = with_key(&server, "", &["topic", "list"]).expect(1).error();
    assert_eq!(refused["code"], "UNAUTHENTICATED", "on loopback too: {refused}");
    with_key(&server, "", &["health"]).expect(0);

    let made =
        with_key(&server, &admin, &["key", "create", "shop", "--role", "produce:topic=orders*", "--expires-in", "1d"]).expect(0).json();
    let shop = made["secret"].as_str().expect("a secret").to_owned();
    with_key(&server, &admin, &["topic", "create", "orders"]).expect(0);
    with_key(&server, &shop, &["produce", "orders", "--value", "1"]).expect(0);
    let forbidden = with_key(&server, &shop, &["consume", "orders", "--group", "g", "--max", "1"]).expect(1).error();
    assert_eq!(forbidden["code"], "FORBIDDEN", "{forbidden}");
    let list = with_key(&server, &admin, &["key", "list"]).expect(0);
    let names: Vec<String> = list.json()["keys"].as_array().expect("a list").iter().map(|key| key["name"].to_string()).collect();
    assert_eq!(names, [r#""admin""#, r#""shop""#]);
    assert!(!list.stdout.contains(&shop[20..]));
    let rotated = with_key(&server, &admin, &["key", "rotate", "shop", "--grace", "0"]).expect(0).json();
    assert_eq!(with_key(&server, &shop, &["topic", "list"]).expect(1).error()["code"], "UNAUTHENTICATED");
    let shop = rotated["secret"].as_str().expect("a secret").to_owned();
    with_key(&server, &shop, &["topic", "list"]).expect(0);
    let limited = with_key(&server, &admin, &["key", "limit", "shop", "--requests-per-second", "1000", "--bytes-per-second", "1KiB"]);
    assert_eq!(limited.expect(0).json()["quota"], serde_json::json!({ "requests_per_second": 1000, "bytes_per_second": 1024 }));
    let quota = ["--requests-per-second", "0"];
    let other = with_key(&server, &admin, &[&["key", "create", "other", "--role", "produce"], &quota[..]].concat()).expect(0).json();
    assert_eq!(other["key"]["quota"], serde_json::json!({ "requests_per_second": 0 }));
    with_key(&server, &admin, &["key", "revoke", "shop"]).expect(0);
    assert_eq!(with_key(&server, &shop, &["topic", "list"]).expect(1).error()["code"], "UNAUTHENTICATED");
    drop(server);

    fs::remove_file(&file).expect("as the log says");
    let server = Process::start_with(directory.path(), &["--authentication", "keys"], &[]);
    assert!(!file.exists(), "there is a key of an administrator");
    with_key(&server, &admin, &["topic", "describe", "orders"]).expect(0);
    // Whoever takes all of them away gets one at the next start.
    with_key(&server, &admin, &["key", "revoke", "admin"]).expect(0);
    drop(server);
    let server = Process::start_with(directory.path(), &["--authentication", "keys"], &[]);
    let anew = secret_in(&file);
    with_key(&server, &anew, &["key", "list"]).expect(0);
    assert_eq!(with_key(&server, &admin, &["key", "list"]).expect(1).error()["code"], "UNAUTHENTICATED");
    drop(server);
    assert_no_secret_in(directory.path(), &file, &[&admin, &anew, &shop]);
}

/// That none of the secrets is in a file below this folder, save in the one that is made for it.
fn assert_no_secret_in(folder: &Path, save: &Path, secrets: &[&str]) {
    let mut looked = 0;
    for entry in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
        if entry.is_dir() {
            assert_no_secret_in(&entry, save, secrets);
        } else if entry != save {
            let bytes = fs::read(&entry).expect("ours");
            for secret in secrets {
                let random = &secret.as_bytes()[20..];
                assert!(!bytes.windows(random.len()).any(|window| window == random), "{}", entry.display());
            }
            looked += 1;
        }
    }
    assert!(looked > 0 || folder.ends_with("data"), "{} has files", folder.display());
}

#[test]
fn a_secret_that_a_file_brings_is_an_administrator_s_and_another_takes_its_place() {
    let directory = tempfile::tempdir().expect("a directory");
    let (data, file) = (directory.path().join("data"), directory.path().join("key"));
    let drawn = run(&["key", "init"]).expect(0).stdout;
    assert!(drawn.trim().starts_with("sq_") && drawn.trim().len() == 84, "{drawn}");
    run(&["key", "init", "--file", text(&file)]).expect(0);
    let first = secret_in(&file);
    let again = run(&["key", "init", "--file", text(&file)]).expect(2);
    assert!(again.stderr.contains("there already"), "{again:?}");

    let flags = ["--authentication", "keys", "--bootstrap-key-file", text(&file)];
    let server = Process::start_with(&data, &flags, &[]);
    assert!(!data.join("admin-key").exists());
    with_key(&server, &first, &["key", "list"]).expect(0);
    drop(server);
    fs::remove_file(&file).expect("ours");
    run(&["key", "init", "--file", text(&file)]).expect(0);
    let server = Process::start_with(&data, &flags, &[]);
    with_key(&server, &secret_in(&file), &["key", "list"]).expect(0);
    assert_eq!(with_key(&server, &first, &["key", "list"]).expect(1).error()["code"], "UNAUTHENTICATED");
    drop(server);

    fs::write(&file, "sq_s3cret").expect("ours");
    let wrong = run(&[&["serve", "--listen", "127.0.0.1:0", "--data-dir", text(&data)], &flags[..]].concat()).expect(1);
    assert!(wrong.stderr.contains("(KEY_FILE)") && wrong.stderr.contains("key init") && !wrong.stderr.contains("s3cret"), "{wrong:?}");
}

#[test]
fn a_profile_says_where_the_server_is_and_which_key_is_sent() {
    let directory = tempfile::tempdir().expect("a directory");
    let server = Process::start_with(directory.path(), &["--authentication", "keys"], &[]);
    let admin = secret_in(&directory.path().join("admin-key"));
    let file = directory.path().join("profiles.json");
    let profiles = serde_json::json!({ "here": { "server": server.url, "api_key": admin }, "default": { "server": server.url } });
    fs::write(&file, profiles.to_string()).expect("ours");
    let ask = |args: &[&str], environment: &[(&str, &str)]| -> Run {
        let mut command = sagamq();
        command.args(["topic", "list", "--output", "json"]).args(args).env("SAGAMQ_PROFILES", &file).envs(environment.iter().copied());
        run_command(command)
    };
    let open = ask(&["--profile", "here"], &[]).expect(2);
    assert!(open.stderr.contains("chmod 600") && !open.stderr.contains(&admin), "{open:?}");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("ours");
    ask(&["--profile", "here"], &[]).expect(0);
    ask(&[], &[("SAGAMQ_PROFILE", "here")]).expect(0);
    assert_eq!(ask(&[], &[]).expect(1).error()["code"], "UNAUTHENTICATED", "the default profile has no key");
    ask(&[], &[("SAGAMQ_API_KEY", &admin)]).expect(0);
    ask(&["--profile", "there"], &[]).expect(2);
    let value: Value = ask(&["--profile", "here"], &[("SAGAMQ_API_KEY", "sq_wrong")]).expect(1).error();
    assert_eq!(value["code"], "UNAUTHENTICATED", "what is said here wins over the profile: {value}");
    // The same server under another name is another server to the profile.
    let elsewhere = server.url.replace("127.0.0.1", "localhost");
    let value: Value = ask(&["--profile", "here", "--server", &elsewhere], &[]).expect(1).error();
    assert_eq!(value["code"], "UNAUTHENTICATED", "its key does not go where else it is told to: {value}");
    ask(&["--profile", "here", "--server", &server.url], &[]).expect(0);
}

#[test]
fn keys_that_are_there_are_asked_for_or_it_is_said_that_they_are_not() {
    let directory = tempfile::tempdir().expect("a directory");
    drop(Process::start_with(directory.path(), &["--authentication", "keys"], &[]));
    let refused = run(&["serve", "--listen", "127.0.0.1:0", "--data-dir", text(directory.path())]);
    let refused = refused.expect(2);
    for part in ["(UNGUARDED)", "1 API keys", "--authentication keys", "--authentication off"] {
        assert!(refused.stderr.contains(part), "{part}: {}", refused.stderr);
    }
    let server = Process::start_with(directory.path(), &["--authentication", "off"], &[]);
    with_key(&server, "", &["topic", "list"]).expect(0);
    let planted = with_key(&server, "", &["key", "create", "backup", "--role", "admin"]).expect(1).error();
    assert_eq!(planted["code"], "FORBIDDEN", "{planted}");
}

#[test]
fn the_secret_of_a_file_that_was_rotated_does_not_count_after_a_restart() {
    let directory = tempfile::tempdir().expect("a directory");
    let (data, file) = (directory.path().join("data"), directory.path().join("key"));
    run(&["key", "init", "--file", text(&file)]).expect(0);
    let flags = ["--authentication", "keys", "--bootstrap-key-file", text(&file)];
    let server = Process::start_with(&data, &flags, &[]);
    let leaked = secret_in(&file);
    let rotated = with_key(&server, &leaked, &["key", "rotate", "bootstrap", "--grace", "0"]).expect(0).json();
    let rotated = rotated["secret"].as_str().expect("a secret").to_owned();
    drop(server);
    let server = Process::start_with(&data, &flags, &[]);
    assert_eq!(with_key(&server, &leaked, &["key", "list"]).expect(1).error()["code"], "UNAUTHENTICATED");
    with_key(&server, &rotated, &["key", "list"]).expect(0);
    drop(server);
    let slip =
        run(&["serve", "--listen", "127.0.0.1:0", "--data-dir", text(&data), "--authentication", "keys", "--bootstrap-key-file", &leaked]);
    let slip = slip.expect(2);
    assert!(slip.stderr.contains("not the secret itself") && !slip.stderr.contains(&leaked[3..]), "{slip:?}");
}

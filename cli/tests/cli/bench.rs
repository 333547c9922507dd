//! `sagamq bench`: what is refused before anything is sent, and that its topic goes although its requests failed.

use crate::support::{Scripted, json, problem, run_command, sagamq};
use sagamq_api::ErrorCode;
use sagamq_api::topic::{TopicConfig, TopicDescription};

#[test]
fn what_cannot_be_measured_is_refused_and_nothing_is_sent() {
    let server = Scripted::refusing(ErrorCode::Internal);
    for (args, says) in [
        (&["produce", "--rate", "0"][..], "above 0"),
        (&["produce", "--rate", "nan"], "above 0"),
        (&["produce", "--duration", "0"], "--duration"),
        (&["produce", "--duration", "25h"], "24h"),
        (&["produce", "--requests", "0"], "--requests"),
        (&["produce", "--batch", "10000", "--size", "4KiB"], "--batch"),
        (&["latency", "--partitions", "0"], "partitions"),
        (&["consume", "--records", "0"], "--records"),
        (&["sagas", "--connections", "0"], "connections"),
    ] {
        let run = server.run(&[&["bench"], args].concat()).expect(2);
        assert!(run.stderr.contains(says), "{args:?}: {run:?}");
    }
    assert!(server.asked().is_empty(), "{:?}", server.asked());
}

#[test]
fn failures_are_counted_by_their_code_and_the_topic_is_deleted_all_the_same() {
    let mut made = None;
    let server = Scripted::new(move |asked| {
        if asked.line.starts_with("POST /v1/topics ") || asked.line == "POST /v1/topics" {
            made = Some(asked.json()["name"].as_str().expect("a name").to_owned());
        }
        match (asked.line.split(' ').next(), &made) {
            (Some("POST"), Some(_)) if asked.line.ends_with("/records") => problem(ErrorCode::Overloaded),
            (_, Some(name)) => {
                let name = name.parse().expect("a legal name");
                json(&TopicDescription {
                    name,
                    config: TopicConfig::default(),
                    created_at_ms: 0,
                    partitions: Vec::new(),
                    hottest_keys: Vec::new(),
                })
            }
            _ => problem(ErrorCode::Internal),
        }
    });
    let args = ["bench", "produce", "--requests", "3", "--connections", "1", "--warmup", "0", "--output", "json"];
    let report = server.run(&args).expect(1).json();
    assert_eq!(report["results"][0]["errors"], serde_json::json!({ "OVERLOADED": 3 }), "{report}");
    assert_eq!((&report["results"][0]["records"], &report["ended"]), (&0.into(), &"count".into()), "{report}");
    let asked: Vec<String> = server.asked().into_iter().map(|asked| asked.line).collect();
    assert_eq!(asked.iter().filter(|line| line.ends_with("/records")).count(), 3, "nothing is repeated: {asked:?}");
    assert!(asked.last().is_some_and(|line| line.starts_with("DELETE /v1/topics/bench-")), "{asked:?}");
}

/// As in the container of a node, whose environment says of which cluster it is and that it asks for keys.
#[test]
fn the_server_of_a_run_is_alone_and_asks_nobody_whatever_the_environment_says_of_another() {
    let folder = tempfile::tempdir().expect("a folder");
    let (log, config) = (folder.path().join("log"), folder.path().join("sagamq.toml"));
    std::fs::write(&config, "authentication = \"keys\"\n").expect("written");
    let mut command = sagamq();
    command
        .args(["bench", "produce", "--own-server", "--requests", "3", "--warmup", "0", "--duration", "10s", "--data-dir"])
        .arg(folder.path());
    command.env("SAGAMQ_LOG", format!("file://{}", log.display())).env("SAGAMQ_NODE", "a").env("SAGAMQ_CONFIG", &config);
    command.env("SAGAMQ_AUTHENTICATION", "keys").env("SAGAMQ_CLUSTER_LEASE", "10s").env("SAGAMQ_SYNC_INTERVAL", "100ms");
    run_command(command).expect(0);
    assert!(!log.exists(), "the cluster knows nothing of it");
}

//! The comparison as a test, with short times: the queue accepts and completes everything, the chain cannot while a service is away.

use serde_json::Value;
use std::path::Path;
use std::process::Command;

#[test]
fn the_queue_completes_what_it_accepts_and_the_chain_turns_away_what_it_cannot_do() {
    let program = Path::new(env!("CARGO_BIN_EXE_sagamq-chain"));
    let sagamq = program.with_file_name(format!("sagamq{}", std::env::consts::EXE_SUFFIX));
    assert!(sagamq.is_file(), "{} is not built; `make test` builds it first", sagamq.display());
    let folder = tempfile::tempdir().expect("a folder");
    let json = folder.path().join("figures.json");
    let args = ["--rate", "50", "--around", "0.5", "--trouble", "1", "--outage", "1.5", "--json"];
    let output = Command::new(program).args(args).arg(&json).arg("--sagamq").arg(&sagamq).output().expect("it runs");
    assert!(output.status.success(), "{output:?}");
    let figures: Vec<Value> = serde_json::from_slice(&std::fs::read(&json).expect("figures")).expect("JSON");
    assert_eq!(figures.len(), 8);
    for figure in &figures {
        let fate = |name: &str| figure["fate"][name].as_u64().expect("a count");
        assert!(fate("accepted") <= fate("offered") && fate("completed") <= fate("offered"), "{figure}");
        if figure["way"] == "queue" {
            assert_eq!(
                (fate("accepted"), fate("completed"), fate("lost"), fate("half_done")),
                (fate("offered"), fate("offered"), 0, 0),
                "{figure}"
            );
        }
    }
    let outage =
        figures.iter().find(|figure| figure["way"] == "calls" && figure["what"].as_str().is_some_and(|what| what.contains("away")));
    let outage = &outage.expect("a row")["fate"];
    assert!(outage["accepted"].as_u64() < outage["offered"].as_u64(), "nobody can be served by a service that is away: {outage}");
    assert!(outage["half_done"].as_u64() > Some(0), "what the services before it did stands: {outage}");
}

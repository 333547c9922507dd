//! What a node refuses to go on with: a log that is another one or lost its end, and a directory that belongs elsewhere.

use super::node::Node;
use sagamq_api::TopicName;
use sagamq_api::record::ProduceRecord;
use sagamq_api::topic::TopicConfig;
use sagamq_tests::ServerProcess;
use sagamq_tests::server::{binary, ended, free_address, is_left_out_over_a_cluster};
use std::process::Command;

fn topic() -> TopicName {
    "orders".parse().expect("legal")
}

/// Starts what must refuse to, and gives what it says.
fn refused(node: &Node, more: &[&str]) -> String {
    // What it says goes to who waits for it.
    let output = ended(node.command(more));
    let says = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{says}");
    says
}

async fn with_a_record(node: &mut Node) {
    node.is_active().await;
    node.client().create_topic(&topic(), TopicConfig::default()).await.expect("created");
    node.client().produce(&topic(), vec![ProduceRecord::text("a")], None).await.expect("stored");
    assert!(node.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_gone_or_another_one_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut one = Node::start(folder.path(), "one");
    with_a_record(&mut one).await;
    let log = folder.path().join("log");
    std::fs::rename(&log, folder.path().join("gone")).expect("it can be moved");
    let says = refused(&one, &[]);
    assert!(says.contains("is empty") && says.contains("--accept-data-loss"), "{says}");
    // Another cluster's log in its place.
    let mut other = Node::start(folder.path(), "other");
    with_a_record(&mut other).await;
    let says = refused(&one, &[]);
    assert!(says.contains("another cluster"), "{says}");
    // The right one is taken.
    std::fs::rename(&log, folder.path().join("of-the-other")).expect("it can be moved");
    std::fs::rename(folder.path().join("gone"), &log).expect("it can be moved");
    one.start_again();
    one.is_active().await;
    one.client().describe_topic(&topic()).await.expect("it is there");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_of_a_server_that_is_alone_and_one_of_a_cluster_are_not_mistaken_for_each_other() {
    if is_left_out_over_a_cluster("it begins with a server that is alone") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let mut one = Node::start(folder.path(), "one");
    with_a_record(&mut one).await;
    let alone = ended(ServerProcess::command(one.data(), free_address()));
    let says = String::from_utf8_lossy(&alone.stderr).into_owned();
    assert_eq!(alone.status.code(), Some(1), "{says}");
    assert!(says.contains("copy of a cluster's log"), "{says}");
    let mut server = ServerProcess::start().await;
    server.client().create_topic(&topic(), TopicConfig::default()).await.expect("created");
    server.terminate().await;
    let node = Node::prepare_on(folder.path(), "alone", &server.data());
    let says = refused(&node, &[]);
    assert!(says.contains("cluster init"), "{says}");
}

#[test]
fn who_only_looks_at_a_cluster_makes_no_folder_for_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = format!("file://{}/mistyped", folder.path().display());
    for words in [&["status"][..], &["drain", "one"][..]] {
        let mut command = Command::new(binary("sagamq"));
        command.arg("cluster").args(words).args(["--log", &log]);
        let run = ended(command);
        let says = String::from_utf8_lossy(&run.stderr).into_owned();
        assert_eq!(run.status.code(), Some(2), "{words:?}: {says}");
        assert!(says.contains("there is no folder"), "{words:?}: {says}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).expect("read").count(), 0);
}

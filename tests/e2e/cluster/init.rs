//! A server that ran alone becomes a cluster, and the command shows how it stands with it.

use super::node::Node;
use sagamq_api::TopicName;
use sagamq_api::record::ProduceRecord;
use sagamq_api::topic::TopicConfig;
use sagamq_tests::ServerProcess;
use sagamq_tests::server::{binary, ended, eventually, is_left_out_over_a_cluster};
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};

fn cluster(arguments: &[&str], folder: &Path) -> Output {
    let mut command = Command::new(binary("sagamq"));
    command.args(["cluster"]).args(arguments).args(["--log", &format!("file://{}", folder.join("log").display()), "--output", "json"]);
    ended(command)
}

fn status(folder: &Path) -> Value {
    let output = cluster(&["status"], folder);
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_data_of_a_server_that_ran_alone_is_what_its_cluster_begins_with() {
    if is_left_out_over_a_cluster("it begins with a server that is alone") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let topic: TopicName = "orders".parse().expect("legal");
    let mut server = ServerProcess::start_with(&[("SAGAMQ_SHARDS", "3".to_owned())]).await;
    server.client().create_topic(&topic, TopicConfig::default()).await.expect("created");
    let records = || (0..30).map(|n| ProduceRecord::text(n.to_string()).with_key(n.to_string())).collect();
    let first = server.client().produce(&topic, records(), Some("first")).await.expect("stored");
    server.terminate().await;
    let nothing = cluster(&["status"], folder.path());
    assert_eq!(nothing.status.code(), Some(2), "there is no folder, and none is made: {nothing:?}");
    let data = server.data();
    let made = cluster(&["init", "--from", data.to_str().expect("text")], folder.path());
    assert!(made.status.success(), "{made:?}");
    let again = cluster(&["init", "--from", data.to_str().expect("text")], folder.path());
    assert_eq!(again.status.code(), Some(1), "{again:?}");
    // Its own directory, and one that begins with nothing.
    let mut own = Node::prepare_on(folder.path(), "own", &data);
    own.start_again();
    own.is_active().await;
    let mut new = Node::start(folder.path(), "new");
    new.answers().await;
    // A node answers before it has said in the log that it stands by.
    let stands_by = |node: &Value| node["node"] == "new" && node["state"] == "standby";
    let shown = eventually("both are shown", async || {
        let shown = status(folder.path());
        (shown["nodes"].as_array().is_some_and(|nodes| nodes.iter().any(stands_by)) && shown["active"] == "own").then_some(shown)
    })
    .await;
    assert_eq!(shown["shards"].as_array().map(Vec::len), Some(3), "{shown}");
    assert!(own.terminate().await.success());
    new.is_active().await;
    let found = new.client().produce(&topic, records(), Some("first")).await.expect("answered");
    assert!(found.iter().all(|record| record.duplicate), "{found:?}");
    let places = |records: &[sagamq_api::topic::ProducedRecord]| records.iter().map(|r| (r.partition, r.offset)).collect::<Vec<_>>();
    assert_eq!(places(&first), places(&found));
}

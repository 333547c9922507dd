//! What an operator meets once: a disk that takes no more, a database that lost its end, a saga that cannot be undone.

use sagamq_api::queue::ReceiveRequest;
use sagamq_api::record::ProduceRecord;
use sagamq_api::saga::{Call, SagaState, StartSaga};
use sagamq_api::topic::{ReadQuery, TopicConfig};
use sagamq_api::{ErrorCode, GroupName, Offset, PartitionId, TopicName};
use sagamq_sdk::{CallError, Client, RetryPolicy, SagaWorker};
use sagamq_tests::ServerProcess;
use sagamq_tests::server::{binary, ended, eventually, is_left_out_over_a_cluster};
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Stdio};
use tokio_util::sync::CancellationToken;

fn topic(name: &str) -> TopicName {
    name.parse().expect("a legal name")
}

async fn one_partition(client: &Client, name: &TopicName) {
    client.create_topic(name, TopicConfig { partitions: 1, ..TopicConfig::default() }).await.expect("created");
}

async fn stored(client: &Client, name: &TopicName) -> u64 {
    client.describe_topic(name).await.expect("there").partitions[0].high_watermark.0
}

/// A server whose files cannot grow beyond this many KiB: a write behind that fails, as on a full disk.
fn with_small_files(server: &ServerProcess, kib: u32) -> Command {
    let mut command = Command::new("bash");
    // The signal is ignored, so that the write fails with an error instead of ending the process.
    command.arg("-c").arg(format!("trap '' XFSZ; ulimit -f {kib}; exec \"$0\" \"$@\"")).arg(binary("sagamq"));
    command.args(["serve", "--log-level", "error", "--listen", &server.address().to_string(), "--data-dir"]).arg(server.data());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_takes_no_more_stops_writes_not_reads_and_loses_nothing() {
    if is_left_out_over_a_cluster("it bounds the files of one process, and over a cluster another node would serve") {
        return;
    }
    let mut server = ServerProcess::start().await;
    let (client, name) = (server.client().with_retry(RetryPolicy::none()), topic("t"));
    one_partition(&client, &name).await;
    server.terminate().await;
    server.restart_as(with_small_files(&server, 4 * 1024)).await;
    let mut acknowledged = 0;
    // Incompressible enough, and more than the files can hold: it must fail on the way.
    let refused = loop {
        assert!(acknowledged < 1_000, "the limit on the size of files has no effect");
        let value: String = (0..20_000_u32).map(|n| char::from(b'a' + (n.wrapping_mul(2_654_435_761) >> 13) as u8 % 26)).collect();
        match client.produce(&name, vec![ProduceRecord::text(format!("{acknowledged} {value}"))], None).await {
            Ok(_) => acknowledged += 1,
            Err(error) => break error,
        }
    };
    assert!(refused.is_outcome_unknown(), "a failed write may have been stored: {refused}");
    let refused = client.produce(&name, vec![ProduceRecord::text("late")], None).await.expect_err("writes are stopped");
    assert_eq!(refused.code(), Some(ErrorCode::WritesStopped), "{refused}");
    client.ready().await.expect_err("the server is not ready");
    let first = ReadQuery { offset: Some(Offset(0)), max_records: Some(1), ..ReadQuery::default() };
    assert_eq!(client.read(&name, PartitionId(0), &first).await.expect("reads go on").records.len(), 1);
    server.kill();
    server.restart().await;
    let found = stored(&client, &name).await;
    assert!(found == acknowledged || found == acknowledged + 1, "{found} stored, {acknowledged} acknowledged, one in doubt");
}

/// Copies a data directory as it lies on the disk.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder").map(|entry| entry.expect("an entry")) {
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("copied");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_lost_its_newest_writes_is_refused_until_the_loss_is_accepted() {
    if is_left_out_over_a_cluster(
        "a copy of the directory takes the place of the directory, which a node compares with its log and not with its own guard",
    ) {
        return;
    }
    let mut server = ServerProcess::start().await;
    let (client, name) = (server.client(), topic("t"));
    one_partition(&client, &name).await;
    client.produce(&name, vec![ProduceRecord::text("old")], None).await.expect("produced");
    server.terminate().await;
    let backup = tempfile::tempdir().expect("a folder");
    copy(&server.data(), backup.path());
    server.restart().await;
    client.produce(&name, vec![ProduceRecord::text("new")], None).await.expect("produced");
    server.terminate().await;
    // The database of before beside the guard of now: what a disk that loses writes leaves.
    let guard = std::fs::read(server.data().join("commit-guard")).expect("the guard");
    std::fs::remove_dir_all(server.data()).expect("removed");
    copy(backup.path(), &server.data());
    std::fs::write(server.data().join("commit-guard"), guard).expect("written");
    let refused = ended(ServerProcess::command(&server.data(), server.address()));
    let says = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{says}");
    assert!(says.contains("--accept-data-loss"), "it says what can be done: {says}");
    let mut accept = ServerProcess::command(&server.data(), server.address());
    accept.arg("--accept-data-loss");
    server.restart_as(accept).await;
    assert_eq!(stored(&client, &name).await, 1, "what is left is there");
    client.produce(&name, vec![ProduceRecord::text("newer")], None).await.expect("it goes on");
    server.terminate().await;
    server.restart().await;
    assert_eq!(stored(&client, &name).await, 2, "the loss has to be accepted once");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_received_with_auto_ack_is_not_delivered_again_after_kill_9() {
    let mut server = ServerProcess::start().await;
    let (client, name, group): (_, _, GroupName) = (server.client(), topic("t"), "g".parse().expect("legal"));
    one_partition(&client, &name).await;
    client.produce(&name, ["a", "b", "c"].map(ProduceRecord::text).to_vec(), None).await.expect("produced");
    let two = ReceiveRequest { max_records: Some(2), auto_ack: true, ..ReceiveRequest::default() };
    assert_eq!(client.receive(&name, &group, &two).await.expect("received").deliveries.len(), 2);
    server.kill();
    server.restart().await;
    let rest = client.receive(&name, &group, &ReceiveRequest::default()).await.expect("received").deliveries;
    assert_eq!(rest.iter().map(|delivery| (delivery.record.offset.0, delivery.attempt)).collect::<Vec<_>>(), [(2, 1)]);
}

const DEFINITION: &str = "\
saga: trip
version: 1
key: ${ input.id }
defaults:
  compensate_retry: { initial: 10ms, factor: 1, max: 10ms, attempts: 2 }
services:
  hotel: { topic: hotel.commands }
steps:
  - id: room
    call: hotel.reserve
    compensate: hotel.cancel
  - id: seat
    call: hotel.seat
    compensate: hotel.cancel
";

#[tokio::test(flavor = "multi_thread")]
async fn a_saga_whose_compensation_runs_out_of_attempts_is_blocked_and_stays_so_over_kill_9() {
    let mut server = ServerProcess::start().await;
    let client = server.client();
    client.sagas().publish(DEFINITION).await.expect("published");
    let stop = CancellationToken::new();
    let worker = SagaWorker::builder(client.clone(), topic("hotel.commands"))
        .on("reserve", async |_: Call| Ok::<Value, CallError>(json!({})))
        .on("seat", async |_: Call| Err::<Value, _>(CallError::refused("SOLD_OUT", "no seat is left")))
        .on("cancel", async |_: Call| Err::<Value, _>(CallError::unknown("DOWN", "the hotel does not answer")))
        .build();
    let worker = tokio::spawn(worker.run(stop.clone()));
    let start = StartSaga { saga: "trip".parse().expect("legal"), version: None, mode: None, input: json!({ "id": "1" }).into() };
    let id = client.sagas().start(&start).await.expect("started").id;
    let blocked = async |client: &Client| {
        eventually("the saga is blocked", async || {
            client.sagas().get(id).await.ok().filter(|saga| saga.summary.state == SagaState::Blocked)
        })
        .await
    };
    let saga = blocked(&client).await;
    assert_eq!(saga.failures.iter().filter(|failure| failure.failure.code == "DOWN").count(), 2, "each error is kept: {saga:?}");
    stop.cancel();
    worker.await.expect("no panic").expect("ends well");
    server.kill();
    server.restart().await;
    assert_eq!(blocked(&client).await, saga, "nothing of it changes by itself");
}

//! A pipeline of two stages, the broker and the workers of which are killed again and again: each input has each of its outputs once, without a
//! store of the workers' own.

use sagamq_api::pipeline::{AckWithRecordsRequest, ProduceTo};
use sagamq_api::queue::ReceiveRequest;
use sagamq_api::record::ProduceRecord;
use sagamq_api::topic::{ReadQuery, TopicConfig};
use sagamq_api::{ErrorCode, GroupName, Offset, TopicName};
use sagamq_sdk::{CancellationToken, Client};
use sagamq_tests::ServerProcess;
use sagamq_tests::fate::{Fate, SEED};
use sagamq_tests::server::eventually;
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

const BROKER: &str = "SAGAMQ_TEST_BROKER";
const CAME: &str = "SAGAMQ_TEST_CAME";
const ORDERS: usize = 400;
const KILLS: u64 = 24;

fn name(text: &str) -> TopicName {
    text.parse().expect("legal")
}

/// The worker: of each order it makes two lines and an invoice, and of each line a parcel.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "is started by the test of kills, in a process of its own"]
async fn worker() {
    let (Ok(broker), Ok(came)) = (std::env::var(BROKER), std::env::var(CAME)) else { return };
    let fate = Fate::of_this_process();
    let client = Client::new(&broker).expect("an address");
    let came = Arc::new(OpenOptions::new().create(true).append(true).open(came).expect("a file"));
    let group: GroupName = "workers".parse().expect("legal");
    let first = client.consumer(name("orders"), group.clone()).lease(Duration::from_secs(2)).wait_for_topic(true);
    let first = first.process(CancellationToken::new(), move |delivery| {
        let (fate, came) = (fate.clone(), Arc::clone(&came));
        async move {
            let order = delivery.record.text().unwrap_or_default();
            writeln!(&*came, "{order}")?;
            fate.one_in(40);
            let line = |n: u32| ProduceRecord::text(format!("{order}/{n}")).with_key(format!("{order}/{n}"));
            let invoice = ProduceRecord::text(order.clone());
            Ok(vec![ProduceTo::new(name("lines"), [line(1), line(2)]), ProduceTo::new(name("invoices"), [invoice])])
        }
    });
    let second = client.consumer(name("lines"), group).lease(Duration::from_secs(2)).wait_for_topic(true);
    let second = second.process(CancellationToken::new(), |delivery| async move {
        let line = delivery.record.text().unwrap_or_default();
        Ok(vec![ProduceTo::new(name("parcels"), [ProduceRecord::text(line)])])
    });
    let (first, second) = tokio::join!(first, second);
    first.and(second).expect("the consumers run until they are killed");
}

fn start_worker(broker: &str, came: &std::path::Path, seed: Option<u64>) -> Child {
    let program = std::env::current_exe().expect("this test");
    let mut command = Command::new(program);
    command.args(["pipeline::worker", "--exact", "--ignored", "--nocapture"]);
    command.env(BROKER, broker).env(CAME, came).envs(seed.map(|seed| (SEED, seed.to_string()))).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("it starts")
}

/// How often each value is in a topic.
async fn stored(client: &Client, topic: &TopicName) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for partition in client.describe_topic(topic).await.expect("there").partitions {
        let mut from = Offset(0);
        while from < partition.high_watermark {
            let query = ReadQuery { offset: Some(from), max_records: Some(1_000), ..ReadQuery::default() };
            let answer = client.read(topic, partition.partition, &query).await.expect("read");
            from = answer.next_offset;
            for record in &answer.records {
                *found.entry(record.text().expect("text")).or_insert(0) += 1;
            }
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_under_kills_has_each_output_of_each_input_once() {
    let mut server = ServerProcess::start().await;
    let client = server.client();
    for (topic, partitions) in [("orders", 8), ("lines", 8), ("invoices", 3), ("parcels", 5)] {
        client.create_topic(&name(topic), TopicConfig { partitions, delivery_limit: 0, ..TopicConfig::default() }).await.expect("created");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let came = folder.path().join("came");
    let orders = (0..ORDERS).map(|n| ProduceRecord::text(format!("order-{n}")).with_key(n.to_string())).collect();
    client.produce(&name("orders"), orders, Some("orders")).await.expect("produced");
    let mut worker = start_worker(&server.url(), &came, Some(0));
    for kill in 1..=KILLS {
        tokio::time::sleep(Duration::from_millis(120 + kill * 37 % 200)).await;
        // The worker dies by itself as well, in the middle of a handler.
        if kill % 3 == 0 {
            server.kill();
            server.restart().await;
        } else {
            let _ = worker.kill();
        }
        if worker.try_wait().expect("asked").is_some() || kill % 3 != 0 {
            let _ = worker.wait();
            worker = start_worker(&server.url(), &came, Some(kill));
        }
    }
    let _ = worker.kill();
    let _ = worker.wait();
    let mut worker = start_worker(&server.url(), &came, None);
    let group: GroupName = "workers".parse().expect("legal");
    eventually("everything is through", async || {
        if worker.try_wait().expect("asked").is_some() {
            worker = start_worker(&server.url(), &came, None);
        }
        let lag = async |topic: &str| client.describe_group(&name(topic), &group).await.ok().map(|of| of.lag_records);
        let is_done = lag("orders").await? == 0 && lag("lines").await? == 0;
        let parcels = stored(&client, &name("parcels")).await.len();
        (is_done && parcels >= 2 * ORDERS).then_some(())
    })
    .await;
    let _ = worker.kill();
    let _ = worker.wait();
    let handled = std::fs::read_to_string(&came).expect("text").lines().count();
    println!("inputs {ORDERS}, kills {KILLS} and those of the workers by themselves, handlers begun {handled}");
    println!("topic      wanted  lost  repeated  effects");
    for (topic, wanted) in [("lines", 2 * ORDERS), ("invoices", ORDERS), ("parcels", 2 * ORDERS)] {
        let found = stored(&client, &name(topic)).await;
        let repeated: usize = found.values().map(|times| times - 1).sum();
        println!("{topic:<10} {wanted:>6} {:>5} {repeated:>9} {:>8}", wanted - found.len().min(wanted), found.values().sum::<usize>());
        assert_eq!((found.len(), repeated), (wanted, 0), "{topic}");
    }
    assert!(handled > ORDERS, "some handlers ran again, or the kills hit nothing: {handled}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_receipt_over_plain_http_produces_nothing() {
    let server = ServerProcess::start().await;
    let client = server.client();
    for topic in ["in", "out"] {
        client.create_topic(&name(topic), TopicConfig { partitions: 1, ..TopicConfig::default() }).await.expect("created");
    }
    let group: GroupName = "g".parse().expect("legal");
    client.produce(&name("in"), vec![ProduceRecord::text("a"), ProduceRecord::text("b")], None).await.expect("produced");
    let leased = client.receive(&name("in"), &group, &ReceiveRequest::default()).await.expect("received").deliveries;
    let request = |receipt: &str, text: &str| AckWithRecordsRequest {
        receipts: vec![receipt.to_owned()],
        produce: vec![ProduceTo::new(name("out"), [ProduceRecord::text(text)])],
    };
    let acked = client.ack_with_records(&name("in"), &group, &request(&leased[0].receipt, "made")).await.expect("acknowledged");
    assert_eq!((acked.duplicate, acked.produced[0].records[0].offset), (false, Some(Offset(0))));
    let again = client.ack_with_records(&name("in"), &group, &request(&leased[0].receipt, "made")).await.expect("answered");
    assert!(again.duplicate);
    let other = client.ack_with_records(&name("in"), &group, &request(&leased[0].receipt, "other")).await.expect_err("other records");
    assert_eq!(other.code(), Some(ErrorCode::IdempotencyKeyReused), "{other}");
    client.ack(&name("in"), &group, vec![leased[1].receipt.clone()]).await.expect("acknowledged");
    let stale = client.ack_with_records(&name("in"), &group, &request(&leased[1].receipt, "made")).await.expect_err("settled");
    assert_eq!(stale.code(), Some(ErrorCode::ReceiptExpired), "{stale}");
    let http = reqwest::Client::new();
    let post = async |body: serde_json::Value| {
        let url = format!("{}/v1/topics/in/groups/g:ack-with-records", server.url());
        http.post(url).json(&body).send().await.expect("answered").json::<serde_json::Value>().await.expect("JSON")
    };
    for (bad, code) in [
        (serde_json::json!({ "receipts": [], "produce": [] }), "INVALID_REQUEST"),
        (serde_json::json!({ "receipts": ["x"], "produce": [{ "topic": "out", "records": [{ "value": 1 }] }] }), "INVALID_RECEIPT"),
        (serde_json::json!({ "receipts": ["x"], "records": [] }), "INVALID_REQUEST"),
    ] {
        assert_eq!(post(bad.clone()).await["code"], code, "{bad}");
    }
    assert_eq!(stored(&client, &name("out")).await.into_iter().collect::<Vec<_>>(), [("made".to_owned(), 1)]);
}

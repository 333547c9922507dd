//! Stream groups through the SDK: partitions come and go, single ones pause, places are sought, instances come back.

use sagamq_api::record::ProduceRecord;
use sagamq_api::stream::{SeekPosition, StreamSeek};
use sagamq_api::topic::{ReadQuery, TopicConfig};
use sagamq_api::{ErrorCode, GroupName, Offset, PartitionId, TopicName};
use sagamq_sdk::{Client, Rebalance, StreamConsumer, TopicPartition};
use sagamq_tests::ServerProcess;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;

const PARTITIONS: u32 = 4;
const EACH: u32 = 10;

fn topic() -> TopicName {
    "prices".parse().expect("a legal name")
}

fn group() -> GroupName {
    "shop".parse().expect("a legal name")
}

fn at(partition: u32) -> TopicPartition {
    TopicPartition { topic: topic(), partition: PartitionId(partition) }
}

/// A server whose members hear quickly of what changes, with ten records in each of four partitions.
async fn server() -> ServerProcess {
    let mut server = ServerProcess::start().await;
    server.kill();
    let mut command = ServerProcess::command(&server.data(), server.address());
    command.args(["--stream-heartbeat", "100ms"]);
    server.restart_as(command).await;
    let client = server.client();
    client.create_topic(&topic(), TopicConfig { partitions: PARTITIONS, ..TopicConfig::default() }).await.expect("made");
    produce(&client).await;
    server
}

async fn produce(client: &Client) {
    let record = |n: u32| ProduceRecord { partition: Some(PartitionId(n % PARTITIONS)), ..ProduceRecord::text(n.to_string()) };
    client.produce(&topic(), (0..PARTITIONS * EACH).map(record).collect(), None).await.expect("produced");
}

/// Polls until so many records came, and a moment longer for those that should not. How many of each partition.
async fn read(consumer: &mut StreamConsumer, wanted: u32) -> BTreeMap<u32, u32> {
    let (mut read, deadline) = (BTreeMap::new(), Instant::now() + Duration::from_secs(60));
    while read.values().sum::<u32>() < wanted {
        assert!(Instant::now() < deadline, "{wanted} records should come, and these did: {read:?}");
        let batch = consumer.poll(Duration::from_millis(200)).await.expect("polled");
        for record in batch.into_iter().flat_map(|batch| batch.records) {
            *read.entry(record.partition.0).or_default() += 1;
        }
    }
    let more = consumer.poll(Duration::from_millis(300)).await.expect("polled");
    assert!(more.is_none(), "nothing more comes: {more:?}");
    read
}

/// Polls both until the first has so many partitions and the second the rest.
async fn until_divided(first: &mut StreamConsumer, second: &mut StreamConsumer, of_first: usize) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while first.assigned().count() != of_first || second.assigned().count() != PARTITIONS as usize - of_first {
        assert!(Instant::now() < deadline, "{:?} and {:?}", first.assigned().collect::<Vec<_>>(), second.assigned().collect::<Vec<_>>());
        for consumer in [&mut *first, &mut *second] {
            consumer.poll(Duration::from_millis(50)).await.expect("polled");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_reads_pauses_resumes_seeks_and_commits() {
    let server = server().await;
    let client = server.client();
    let mut consumer = client.stream_consumer(group(), vec![topic()]).build();
    consumer.pause([at(1)]);
    let read_first = read(&mut consumer, 3 * EACH).await;
    assert_eq!(read_first, [(0, EACH), (2, EACH), (3, EACH)].into(), "what is paused is not read, and stays the member's");
    assert_eq!(consumer.assigned().count(), 4);
    consumer.resume([at(1)]);
    assert_eq!(read(&mut consumer, EACH).await, [(1, EACH)].into());
    consumer.commit().await.expect("committed");
    assert_eq!(client.describe_stream_group(&group()).await.expect("there").lag_records, 0);
    assert!(consumer.seek(&at(2), Offset(7)) && !consumer.seek(&at(9), Offset(0)));
    assert_eq!(read(&mut consumer, EACH - 7).await, [(2, EACH - 7)].into());
    // The whole group is moved while it reads, and begins anew.
    let seek =
        StreamSeek { topic: Some(topic()), partition: Some(PartitionId(3)), position: Some(SeekPosition::Start), ..StreamSeek::default() };
    client.stream_seek(&group(), &seek).await.expect("moved");
    assert_eq!(read(&mut consumer, EACH).await, [(3, EACH)].into());
    consumer.close().await.expect("left");
    let left = client.describe_stream_group(&group()).await.expect("there");
    assert_eq!((left.lag_records, left.members.len()), (0, 0), "what was returned is committed at the end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_with_more_partitions_than_it_fetches_at_a_time_reads_the_last_of_them_while_the_first_are_quiet() {
    const MANY: u32 = 40;
    let server = ServerProcess::start().await;
    let client = server.client();
    let many: TopicName = "many".parse().expect("a legal name");
    client.create_topic(&many, TopicConfig { partitions: MANY, ..TopicConfig::default() }).await.expect("made");
    let mut consumer = client.stream_consumer(group(), vec![many.clone()]).build();
    let deadline = Instant::now() + Duration::from_secs(60);
    while consumer.assigned().count() < MANY as usize {
        assert!(Instant::now() < deadline, "{} are assigned", consumer.assigned().count());
        assert_eq!(consumer.poll(Duration::from_millis(50)).await.expect("polled"), None, "nothing is there");
    }
    for partition in [MANY - 1, 33, MANY - 2] {
        let record = ProduceRecord { partition: Some(PartitionId(partition)), ..ProduceRecord::text("x") };
        client.produce(&many, vec![record], None).await.expect("produced");
        assert_eq!(read(&mut consumer, 1).await, [(partition, 1)].into());
    }
    consumer.close().await.expect("left");
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_move_when_they_are_handed_back_and_everybody_is_told() {
    let server = server().await;
    let client = server.client();
    let told: Arc<Mutex<Vec<Rebalance>>> = Arc::default();
    let tell = Arc::clone(&told);
    let listen = move |change| {
        tell.lock().expect("no panic").push(change);
        std::future::ready(())
    };
    let mut first = client.stream_consumer(group(), vec![topic()]).on_rebalance(listen).build();
    read(&mut first, PARTITIONS * EACH).await;
    let mut second = client.stream_consumer(group(), vec![topic()]).build();
    until_divided(&mut first, &mut second, 2).await;
    let changes = told.lock().expect("no panic").clone();
    let [Rebalance::Assigned(all), Rebalance::Revoked(revoked)] = &changes[..] else { panic!("{changes:?}") };
    assert_eq!((all.len(), revoked.iter().collect::<BTreeSet<_>>()), (4, second.assigned().collect()));
    assert!(second.holdings().all(|(_, holding)| holding.start == Offset(EACH.into())), "what the first one had read is committed");
    produce(&client).await;
    assert_eq!(read(&mut second, 2 * EACH).await.len(), 2);
    assert_eq!(read(&mut first, 2 * EACH).await.len(), 2);
    first.close().await.expect("left");
    let deadline = Instant::now() + Duration::from_secs(60);
    while second.assigned().count() < 4 {
        assert!(Instant::now() < deadline);
        second.poll(Duration::from_millis(50)).await.expect("polled");
    }
    assert!(second.holdings().all(|(_, holding)| holding.next == Offset((2 * EACH).into())), "nothing is read twice");
    second.close().await.expect("left");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_comes_back_to_its_partitions_and_the_process_before_is_fenced() {
    let server = server().await;
    let client = server.client();
    let instance = |name: &str| client.stream_consumer(group(), vec![topic()]).instance(name.parse().expect("a legal name"));
    let (mut first, mut second) = (instance("a").build(), instance("b").build());
    until_divided(&mut first, &mut second, 2).await;
    let of_first: Vec<TopicPartition> = first.assigned().cloned().collect();
    let of_second: Vec<TopicPartition> = second.assigned().cloned().collect();
    // It leaves to come back, and does.
    first.close().await.expect("left");
    second.poll(Duration::from_millis(500)).await.expect("polled");
    assert_eq!(second.assigned().cloned().collect::<Vec<_>>(), of_second, "its partitions wait for it");
    let mut again = instance("a").build();
    until_divided(&mut again, &mut second, 2).await;
    assert_eq!(again.assigned().cloned().collect::<Vec<_>>(), of_first);
    // Another process takes its place while it is still there: what it has read since cannot be committed.
    produce(&client).await;
    let mut other = instance("a").build();
    let deadline = Instant::now() + Duration::from_secs(60);
    while other.assigned().count() < 2 {
        assert!(Instant::now() < deadline);
        other.poll(Duration::from_millis(50)).await.expect("polled");
    }
    let refused = loop {
        assert!(Instant::now() < deadline, "it reads what is fetched already, and cannot commit it");
        if again.holdings().any(|(_, holding)| holding.next != holding.committed) {
            break again.commit().await;
        }
        if let Err(error) = again.poll(Duration::from_millis(50)).await {
            break Err(error);
        }
    };
    assert_eq!(refused.expect_err("fenced").code(), Some(ErrorCode::Fenced));
    // It does not take the place back: the two would fight for ever.
    while let Ok(batch) = again.poll(Duration::from_millis(50)).await {
        assert!(Instant::now() < deadline, "it hears that it was replaced: {batch:?}");
    }
    other.poll(Duration::from_millis(500)).await.expect("still there");
    assert_eq!(other.assigned().count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_deleted_keeps_no_other_from_being_committed() {
    let server = server().await;
    let client = server.client();
    // It comes first by name: what is behind it is committed all the same.
    let gone: TopicName = "gone".parse().expect("a legal name");
    client.create_topic(&gone, TopicConfig { partitions: 1, ..TopicConfig::default() }).await.expect("made");
    client.produce(&gone, vec![ProduceRecord::text("x")], None).await.expect("produced");
    let mut consumer = client.stream_consumer(group(), vec![topic(), gone.clone()]).build();
    read(&mut consumer, PARTITIONS * EACH + 1).await;
    client.delete_topic(&gone).await.expect("deleted");
    consumer.close().await.expect("what is gone needs no offset");
    let left = client.describe_stream_group(&group()).await.expect("there");
    assert_eq!((left.lag_records, left.partitions.len()), (0, PARTITIONS as usize));
}

#[tokio::test(flavor = "multi_thread")]
async fn records_are_processed_within_their_traces_and_a_failure_stands_before_its_record() {
    const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let server = ServerProcess::start().await;
    let client = server.client();
    let (from, to): (TopicName, TopicName) = ("traced".parse().expect("legal"), "told".parse().expect("legal"));
    for topic in [&from, &to] {
        client.create_topic(topic, TopicConfig { partitions: 1, ..TopicConfig::default() }).await.expect("made");
    }
    let records = ["a", "b", "c"].map(|value| match value {
        "b" => ProduceRecord::text(value).with_header("traceparent", TRACE),
        _ => ProduceRecord::text(value),
    });
    client.produce(&from, records.into(), None).await.expect("produced");
    let mut consumer = client.stream_consumer(group(), vec![from.clone()]).build();
    let (seen, deadline) = (Arc::new(Mutex::new(Vec::new())), Instant::now() + Duration::from_secs(60));
    let mut failures = Vec::new();
    while seen.lock().expect("no panic").last().is_none_or(|last| last != "c") {
        assert!(Instant::now() < deadline, "{seen:?}");
        let Some(batch) = consumer.poll(Duration::from_millis(200)).await.expect("polled") else { continue };
        let handled = consumer.process(batch, |record| {
            let (client, to, seen) = (client.clone(), to.clone(), Arc::clone(&seen));
            async move {
                let text = record.text().expect("text");
                let is_first = {
                    let mut seen = seen.lock().expect("no panic");
                    seen.push(text.clone());
                    seen.iter().filter(|known| **known == text).count() == 1
                };
                if text == "b" && is_first {
                    return Err(record.offset);
                }
                client.produce(&to, vec![ProduceRecord::text(text)], None).await.expect("told");
                Ok(())
            }
        });
        failures.extend(handled.await.err());
        consumer.commit().await.expect("committed");
        let committed = consumer.holdings().next().expect("its partition").1.committed;
        assert!(!failures.is_empty() && committed == Offset(if seen.lock().expect("no panic").len() == 2 { 1 } else { 3 }), "{committed}");
    }
    assert_eq!((&seen.lock().expect("no panic")[..], &failures[..]), (&["a", "b", "b", "c"].map(str::to_owned)[..], &[Offset(1)][..]));
    let told = client.read(&to, PartitionId(0), &ReadQuery::default()).await.expect("read").records;
    let traces: Vec<_> = told.iter().map(|record| (record.text().expect("text"), record.headers.get("traceparent"))).collect();
    assert_eq!(
        traces,
        [("a".to_owned(), None), ("b".to_owned(), Some(TRACE)), ("c".to_owned(), None)],
        "what a handler produces is caused by its record"
    );
    consumer.close().await.expect("left");
}

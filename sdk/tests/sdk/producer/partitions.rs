//! To which partitions records go.

use super::*;

/// A server with one topic of so many partitions, which stores everything from offset 10 on.
fn topic_of(partitions: Arc<AtomicU64>) -> impl Fn(Seen) -> std::future::Ready<Answer> + Send + Sync + 'static {
    move |seen: Seen| {
        let count = partitions.load(Ordering::SeqCst);
        std::future::ready(match &seen.method[..] {
            "GET" => described(count),
            _ if seen.path.split_once("?partitions=").is_some_and(|(_, said)| said != count.to_string()) => {
                Answer::Problem(ErrorCode::PartitionsChanged)
            }
            _ if u64::from(batch(&seen).0.0) >= count => Answer::Problem(ErrorCode::PartitionNotFound),
            _ => places(&seen, 10),
        })
    }
}

#[tokio::test]
async fn binary_records_go_where_their_keys_hash_to_and_keep_their_order() {
    let partitions = Arc::new(AtomicU64::new(7));
    let server = Server::start(topic_of(Arc::clone(&partitions))).await;
    let producer = server.client().producer("orders".parse().expect("legal")).max_in_flight(1).build();
    let key = |n: usize| format!("k{}", n % 5);
    let keyed = records(0..40).enumerate().map(|(n, record)| record.with_key(key(n)));
    let named = ProduceRecord::text("named").with_key("k0").with_partition(PartitionId(6));
    let free = ProduceRecord { timestamp_ms: Some(77), ..ProduceRecord::text("free") };
    soon(producer.send_all(keyed.chain([named, free]))).await.expect("stored");
    let mut by_partition: HashMap<PartitionId, Vec<StoredRecord>> = HashMap::new();
    for seen in posts(&server) {
        by_partition.entry(batch(&seen).0).or_default().extend(stored_records(&seen));
    }
    let text = |record: &StoredRecord| String::from_utf8(record.payload.value.clone().expect("a value").into()).expect("text");
    let (free, keyed): (Vec<StoredRecord>, Vec<StoredRecord>) =
        by_partition.values().flatten().cloned().partition(|record| record.payload.key.is_none());
    assert_eq!(free.iter().map(|record| (text(record), record.timestamp_ms)).collect::<Vec<_>>(), [("free".to_owned(), 77)]);
    assert!(keyed.iter().all(|record| record.timestamp_ms == -1), "the broker gives the time");
    for partition in 0..7 {
        let is_its_own = |n: &usize| partition_of(key(*n).as_bytes(), 7).0 == partition;
        let mut expected: Vec<String> = (0..40).filter(is_its_own).map(|n| n.to_string()).collect();
        expected.extend((partition == 6).then(|| "named".to_owned()));
        let of = by_partition.get(&PartitionId(partition)).map(Vec::as_slice).unwrap_or_default();
        let found: Vec<String> = of.iter().filter(|record| record.payload.key.is_some()).map(text).collect();
        assert_eq!(found, expected, "partition {partition}");
    }
    assert_eq!(server.seen().iter().filter(|seen| seen.method == "GET").count(), 1, "asked once how many partitions there are");
    // Partitions are added, or the topic is made anew with fewer: the producer hears of it, asks again and sends the same records elsewhere.
    for count in [9, 2] {
        partitions.store(count, Ordering::SeqCst);
        let before = server.seen().len();
        let stored = soon(producer.send_all((0..5).map(|n| ProduceRecord::text("again").with_key(key(n))))).await.expect("stored");
        assert!(stored.iter().all(|place| place.offset.is_some_and(|offset| offset.0 >= 10)));
        let asked = server.seen().split_off(before);
        assert_eq!(asked.iter().filter(|seen| seen.method == "GET").count(), 1, "{count}");
        let sent: Vec<Seen> = asked.into_iter().filter(|seen| seen.path.ends_with(&format!("?partitions={count}"))).collect();
        assert_eq!(sent.iter().map(|seen| values(seen).len()).sum::<usize>(), 5, "{count}");
        for seen in sent {
            let home =
                |record: &StoredRecord| partition_of(record.payload.key.as_deref().expect("a key"), u32::try_from(count).expect("few"));
            assert!(stored_records(&seen).iter().all(|record| home(record) == batch(&seen).0), "{count}");
        }
    }
    // Whoever has named a partition that is not there is told so.
    let named = soon(producer.send(ProduceRecord::text("named").with_partition(PartitionId(6)))).await.expect_err("it is gone");
    assert_eq!(named.code(), Some(ErrorCode::PartitionNotFound));
}

#[tokio::test]
async fn each_record_of_a_binary_batch_hears_its_own_place_and_time() {
    let server = Server::start(|seen| std::future::ready(places(&seen, 10))).await;
    let producer = producer(&server.client());
    let timed = |n: usize| ProduceRecord { timestamp_ms: Some(n as i64), ..ProduceRecord::text(n.to_string()) };
    // The first travels alone, the others together: timed and timeless ones in turn, so in batches of two.
    let all = (0..9).map(|n| if n / 2 % 2 == 0 { timed(n) } else { ProduceRecord::text(n.to_string()) });
    let stored = soon(producer.send_all(all)).await.expect("stored");
    let times: Vec<i64> = stored.iter().map(|place| place.timestamp_ms).collect();
    assert_eq!(times, [0, 1, 0, 0, 4, 5, 0, 0, 8]);
    for seen in posts(&server) {
        let of = stored_records(&seen);
        assert!(of.iter().all(|record| (record.timestamp_ms == -1) == (of[0].timestamp_ms == -1)));
    }
}

/// What could go anywhere is no reason for a request to each partition.
#[tokio::test]
async fn records_without_a_key_gather_while_a_request_for_another_partition_is_under_way() {
    let gate = Arc::new(Semaphore::new(0));
    let (open, stores) = (Arc::clone(&gate), Arc::new(topic_of(Arc::new(AtomicU64::new(8)))));
    let server = Server::start(move |seen| {
        let (gate, stores) = (Arc::clone(&gate), Arc::clone(&stores));
        async move {
            if seen.method == "POST" && !values(&seen).contains(&"bound".to_owned()) {
                gate.acquire().await.expect("open").forget();
            }
            stores(seen).await
        }
    })
    .await;
    let producer = server.client().producer("orders".parse().expect("legal")).compression(Compression::None).build();
    let first = producer.enqueue(ProduceRecord::text("first")).await.expect("room");
    until("the first record travels alone", || posts(&server).len() == 1).await;
    let mut rest = Vec::new();
    for record in records(0..100) {
        rest.push(producer.enqueue(record).await.expect("room"));
    }
    // A record that names a partition has nothing to wait for. The next one but one is neither that of the first record nor where the others gather.
    let of_first = batch(&posts(&server)[0]).0.0;
    let named = ProduceRecord::text("bound").with_partition(PartitionId((of_first + 2) % 8));
    soon(producer.send(named)).await.expect("stored at once");
    let is_free = |seen: &Seen| !values(seen).contains(&"bound".to_owned());
    assert_eq!(posts(&server).iter().filter(|seen| is_free(seen)).count(), 1, "100 records that came meanwhile wait");
    open.add_permits(1_000);
    soon(first).await.expect("stored");
    assert!(soon(join_all(rest)).await.into_iter().all(|place| place.is_ok()));
    assert_eq!(posts(&server).iter().filter(|seen| is_free(seen)).count(), 2);
}

/// Enough for a request of its own does not wait.
#[tokio::test]
async fn records_without_a_key_that_fill_batches_go_to_several_partitions_at_once() {
    let gate = Arc::new(Semaphore::new(0));
    let (open, stores) = (Arc::clone(&gate), Arc::new(topic_of(Arc::new(AtomicU64::new(8)))));
    let server = Server::start(move |seen| {
        let (gate, stores) = (Arc::clone(&gate), Arc::clone(&stores));
        async move {
            if seen.method == "POST" {
                gate.acquire().await.expect("open").forget();
            }
            stores(seen).await
        }
    })
    .await;
    let producer = server.client().producer("orders".parse().expect("legal")).batch_records_max(8).build();
    let mut pending = Vec::new();
    for record in records(0..80) {
        pending.push(producer.enqueue(record).await.expect("room"));
    }
    until("many are under way", || posts(&server).len() >= 8).await;
    let partitions: std::collections::HashSet<PartitionId> = posts(&server).iter().map(|seen| batch(seen).0).collect();
    assert!(partitions.len() > 4, "{partitions:?}");
    open.add_permits(1_000);
    assert!(soon(join_all(pending)).await.into_iter().all(|place| place.is_ok()));
    assert!(posts(&server).iter().filter(|seen| values(seen).len() >= 4).count() >= 8, "batches are full, but for the first ones");
}

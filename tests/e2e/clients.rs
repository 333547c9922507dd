//! The SDK's producer and consumer before a real broker that is killed under them.

use sagamq_api::{GroupName, TopicName};
use sagamq_sdk::api::topic::TopicConfig;
use sagamq_sdk::{CancellationToken, Client, HandlerError, ProduceRecord, RetryPolicy};
use sagamq_tests::ServerProcess;
use sagamq_tests::server::eventually;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Far beyond what the test needs: only a hang meets it.
const LIMIT: Duration = Duration::from_secs(300);

const RECORDS: usize = 2_000;

/// That of consumers whose process dies: short enough that its end can be waited for, and long enough that none is lost because the machine
/// stands still for some seconds.
const LEASE: Duration = Duration::from_secs(10);

async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LIMIT, wait).await.unwrap_or_else(|_| panic!("it never came true: {what}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_record_is_stored_once_and_handled_over_kill_9_of_the_broker_and_the_poison_one_is_a_dead_letter() {
    let mut server = ServerProcess::start().await;
    let (topic, group): (TopicName, GroupName) = ("orders".parse().expect("legal"), "billing".parse().expect("legal"));
    let policy = RetryPolicy { attempts: 10_000, deadline: LIMIT, ..RetryPolicy::default() };
    let client = server.client().with_retry(policy);
    let config = TopicConfig { delivery_limit: 8, backoff_initial_ms: 0, backoff_max_ms: 0, ..TopicConfig::default() };
    client.create_topic(&topic, config).await.expect("created");

    let handled: Arc<Mutex<BTreeMap<String, usize>>> = Arc::default();
    let shutdown = CancellationToken::new();
    let counts = Arc::clone(&handled);
    let consumer = client.consumer(topic.clone(), group.clone()).lease(Duration::from_secs(10)).stop_timeout(LIMIT);
    let consuming = tokio::spawn(consumer.run(shutdown.clone(), move |delivery| {
        let counts = Arc::clone(&counts);
        async move {
            let value = delivery.record.text().ok_or_else(|| HandlerError::terminate("no text"))?;
            if value == "poison" {
                return Err(HandlerError::terminate("poison"));
            }
            *counts.lock().expect("no panic").entry(value).or_default() += 1;
            Ok(())
        }
    }));

    let producer = client.producer(topic.clone()).batch_records_max(50).delivery_timeout(LIMIT).build();
    let sending = tokio::spawn({
        let producer = producer.clone();
        async move {
            let poison = ProduceRecord::text("poison").with_key("poison");
            let records = (0..RECORDS).map(|n| ProduceRecord::text(n.to_string()).with_key(format!("k{}", n % 7)));
            producer.send_all(records.chain([poison])).await.expect("stored in the end")
        }
    });
    for round in 1..=2 {
        until("some are handled", || handled.lock().expect("no panic").len() >= round * RECORDS / 4).await;
        server.kill();
        server.restart().await;
    }
    let places = tokio::time::timeout(LIMIT, sending).await.expect("it ends").expect("no panic");
    producer.close().await.expect("open");
    let different: BTreeSet<_> = places.iter().map(|place| (place.partition, place.offset)).collect();
    assert_eq!(different.len(), RECORDS + 1, "a retried batch is never stored twice");
    let in_order = |n: usize| places.iter().take(RECORDS).skip(n).step_by(7).map(|place| place.offset).collect::<Vec<_>>();
    assert!((0..7).all(|n| in_order(n).is_sorted()), "the records of a key keep the order of their sends");

    until("all are handled", || handled.lock().expect("no panic").len() == RECORDS).await;
    let settled = async {
        loop {
            let description = client.describe_group(&topic, &group).await.expect("there");
            if (description.lag_records, description.dead_letters) == (0, 1) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LIMIT, settled).await.expect("every record is settled");
    shutdown.cancel();
    tokio::time::timeout(LIMIT, consuming).await.expect("it ends").expect("no panic").expect("a clean stop");
    assert_eq!(server.client().describe_group(&topic, &group).await.expect("there").in_flight, 0, "nothing is left leased to nobody");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_gives_back_what_was_not_begun_without_counting_a_delivery() {
    let server = ServerProcess::start().await;
    let (client, topic, group): (_, TopicName, GroupName) = (server.client(), "work".parse().expect("legal"), "g".parse().expect("legal"));
    client.create_topic(&topic, TopicConfig { partitions: 1, ..TopicConfig::default() }).await.expect("created");
    client.produce(&topic, (0..8).map(|n| ProduceRecord::text(n.to_string())).collect(), None).await.expect("stored");
    for _ in 0..10 {
        let (shutdown, begun) = (CancellationToken::new(), Arc::new(tokio::sync::Notify::new()));
        let (stop, signal) = (shutdown.clone(), Arc::clone(&begun));
        let consumer = client.consumer(topic.clone(), group.clone()).concurrency(1).prefetch(7).stop_timeout(Duration::ZERO);
        let running = tokio::spawn(consumer.run(shutdown, move |delivery| {
            let signal = Arc::clone(&signal);
            async move {
                signal.notify_one();
                if delivery.record.offset.0 > 0 { std::future::pending().await } else { Ok(()) }
            }
        }));
        tokio::time::timeout(LIMIT, begun.notified()).await.expect("one begins");
        stop.cancel();
        tokio::time::timeout(LIMIT, running).await.expect("it ends").expect("no panic").expect("a clean stop");
    }
    let letters = client.dead_letters(&topic, &group, &Default::default()).await.expect("listed").dead_letters;
    assert!(letters.iter().all(|letter| letter.attempts > 0) && letters.len() <= 2, "only what was begun is counted: {letters:?}");
}

/// A record that kills its process, again and again: its neighbours, with which nobody had begun, are none the worse for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_kills_its_process_becomes_a_dead_letter_and_costs_its_neighbours_no_attempt() {
    let server = ServerProcess::start().await;
    let (client, topic, group): (_, TopicName, GroupName) = (server.client(), "work".parse().expect("legal"), "g".parse().expect("legal"));
    let config = TopicConfig { partitions: 1, delivery_limit: 3, backoff_initial_ms: 1, backoff_max_ms: 1, ..TopicConfig::default() };
    client.create_topic(&topic, config).await.expect("created");
    client.produce(&topic, (0..8).map(|n| ProduceRecord::text(n.to_string())).collect(), None).await.expect("stored");
    let mut deaths = 0;
    let begun = loop {
        let (begin, mut begins) = tokio::sync::mpsc::unbounded_channel();
        let (url, work, workers) = (server.url(), topic.clone(), group.clone());
        // A runtime of its own stands for the process: when it is shut down, nobody gives anything back.
        let process = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        process.spawn(async move {
            let consumer = Client::new(&url).expect("an address").consumer(work, workers).concurrency(1).prefetch(7).lease(LEASE);
            consumer
                .run(CancellationToken::new(), move |delivery| {
                    let told = begin.send((delivery.record.offset.0, delivery.attempt, delivery.returned));
                    async move {
                        told.expect("somebody listens");
                        if delivery.record.offset.0 == 0 { std::future::pending().await } else { Ok(()) }
                    }
                })
                .await
        });
        let mut begun = Vec::new();
        let is_poisoned = loop {
            match tokio::time::timeout(LIMIT, begins.recv()).await.expect("in time").expect("it runs") {
                (0, ..) => break true,
                other => begun.push(other),
            }
            if begun.len() == 7 {
                break false;
            }
        };
        if is_poisoned {
            assert!(begun.is_empty(), "the oldest comes first: {begun:?}");
            // Whatever the process had asked for beside it is there.
            eventually("neighbours are held as well, at first", async || {
                let in_flight = client.describe_group(&topic, &group).await.expect("there").in_flight;
                (deaths > 0 || in_flight == 8).then_some(())
            })
            .await;
            deaths += 1;
            process.shutdown_background();
            eventually("the leases run out", async || {
                (client.describe_group(&topic, &group).await.expect("there").in_flight == 0).then_some(())
            })
            .await;
        } else {
            process.shutdown_background();
            break begun;
        }
    };
    assert_eq!(deaths, 5, "twice nobody could say that it had begun; then three attempts");
    let letters = client.dead_letters(&topic, &group, &Default::default()).await.expect("listed").dead_letters;
    assert_eq!(letters.iter().map(|letter| (letter.origin_offset.0, letter.attempts)).collect::<Vec<_>>(), [(0, 3)]);
    assert!(begun.iter().all(|(_, attempt, _)| *attempt == 1), "nobody had begun with them: {begun:?}");
}

/// The same with as many handlers as there are records, which take a second each: whoever is in the middle of its work when the process dies has
/// not failed.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_kills_its_process_at_once_makes_no_dead_letters_of_those_that_run_beside_it() {
    let server = ServerProcess::start().await;
    let (client, topic, group): (_, TopicName, GroupName) = (server.client(), "work".parse().expect("legal"), "g".parse().expect("legal"));
    let config = TopicConfig { partitions: 1, delivery_limit: 2, backoff_initial_ms: 1, backoff_max_ms: 1, ..TopicConfig::default() };
    client.create_topic(&topic, config).await.expect("created");
    client.produce(&topic, (0..8).map(|n| ProduceRecord::text(n.to_string())).collect(), None).await.expect("stored");
    let is_over = async || {
        // The first receive makes the group.
        let described = client.describe_group(&topic, &group).await;
        described.is_ok_and(|described| described.lag_records == 0 && described.in_flight == 0)
    };
    let mut deaths = 0;
    while !is_over().await {
        let (url, work, workers) = (server.url(), topic.clone(), group.clone());
        let (kill, mut kills) = tokio::sync::mpsc::unbounded_channel();
        // A runtime of its own stands for the process: when it is shut down, nobody gives anything back.
        let process = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        process.spawn(async move {
            let consumer = Client::new(&url).expect("an address").consumer(work, workers).concurrency(8).lease(LEASE);
            consumer
                .run(CancellationToken::new(), move |delivery| {
                    let kill = kill.clone();
                    async move {
                        if delivery.record.offset.0 == 0 {
                            let _ = kill.send(());
                            return std::future::pending().await;
                        }
                        tokio::time::sleep(Duration::from_secs(1)).await;
                        Ok(())
                    }
                })
                .await
        });
        let is_killed = async {
            loop {
                tokio::select! {
                    Some(()) = kills.recv() => return true,
                    () = tokio::time::sleep(Duration::from_millis(50)) => if is_over().await { return false },
                }
            }
        };
        deaths += u32::from(tokio::time::timeout(LIMIT, is_killed).await.expect("it dies, or all is settled"));
        process.shutdown_background();
        eventually("the leases run out", async || {
            (client.describe_group(&topic, &group).await.expect("there").in_flight == 0).then_some(())
        })
        .await;
    }
    let letters = client.dead_letters(&topic, &group, &Default::default()).await.expect("listed").dead_letters;
    assert_eq!(letters.iter().map(|letter| (letter.origin_offset.0, letter.attempts)).collect::<Vec<_>>(), [(0, 2)]);
    assert_eq!(deaths, 4, "twice nobody could say that it had begun; then two attempts");
}

//! Whatever is produced and compacted, in any order: the last value of each key is the same.

use super::{Table, check_disk, compacted, gone, key_of, keyed, table};
use crate::common::{Says as _, TestBroker};
use core::time::Duration;
use proptest::prelude::*;
use sagamq_api::topic::{CleanupPolicy, TopicConfig};
use sagamq_broker::NewRecord;
use sagamq_broker::env::{Clock as _, ManualClock};
use sagamq_broker::storage::memory::MemoryStorage;

/// What a user does, and what time does.
#[derive(Clone, Debug)]
enum Step {
    Produce { keys: Vec<(u8, bool)>, is_large: bool },
    Pass { minutes: u64 },
    Compact,
    Retain,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let keys = proptest::collection::vec((0..6_u8, prop::bool::weighted(0.2)), 1..8);
    prop_oneof![
        5 => (keys, prop::bool::weighted(0.2)).prop_map(|(keys, is_large)| Step::Produce { keys, is_large }),
        2 => (0..50_u64).prop_map(|minutes| Step::Pass { minutes }),
        3 => Just(Step::Compact),
        1 => Just(Step::Retain),
        1 => Just(Step::Restart),
    ]
}

async fn play(steps: Vec<Step>, deletes: bool) {
    let storage = MemoryStorage::new();
    let policy = if deletes { CleanupPolicy::DeleteAndCompact } else { CleanupPolicy::Compact };
    let config = TopicConfig { cleanup_policy: policy, retention_ms: 4 * 3_600_000, retention_bytes: 2 << 20, ..compacted() };
    let mut test = TestBroker::with_topic(storage.clone(), "t", config).await;
    let mut produced: Vec<(String, Option<String>)> = Vec::new();
    for step in steps {
        match step {
            Step::Produce { keys, is_large } => {
                let padding = if is_large { "x".repeat(200 << 10) } else { String::new() };
                let records: Vec<NewRecord> = keys
                    .iter()
                    .map(|(key, is_gone)| {
                        let (key, value) = (format!("k{key}"), (!is_gone).then(|| format!("{} {padding}", produced.len())));
                        let record = value.as_deref().map_or_else(|| gone(&key), |value| keyed(&key, value));
                        produced.push((key, value));
                        record
                    })
                    .collect();
                let placed = test.produce("t", records, None).await;
                assert_eq!(placed[0].offset.expect("stored").0 as usize, produced.len() - keys.len());
            }
            Step::Pass { minutes } => test.clock.advance(Duration::from_secs(minutes * 60)),
            Step::Compact => drop(test.compacts().await),
            Step::Retain => drop(test.broker.apply_retention().await.expect("applied")),
            Step::Restart => {
                test.broker.shutdown().await;
                test = TestBroker::try_open(storage.clone(), ManualClock::at(test.clock.now_ms())).expect("opens");
            }
        }
        let start = test.log_start("t");
        let all = test.records_from(start).await;
        for record in &all {
            let (key, value) = &produced[usize::try_from(record.offset.0).expect("small")];
            assert_eq!((&key_of(record), &record.text()), (key, value), "what is there is what was produced, at its offset");
        }
        let now = table(&all);
        let mut expected = Table::new();
        for (offset, (key, value)) in (0..).zip(&produced).filter(|(offset, _)| *offset >= start) {
            expected.insert(key.clone(), (offset, value.clone()));
        }
        for (key, last) in &expected {
            match now.get(key) {
                Some(found) => assert_eq!(found, last, "the newest record of {key}"),
                None => assert!(last.1.is_none(), "{key} is there, or is said to be gone"),
            }
        }
        assert!(now.keys().all(|key| expected.contains_key(key)), "nothing comes back");
        // Whoever begins anywhere comes to the same: a key is as it was, or was last told of before.
        for from in [1, 2].map(|third| start + third * (produced.len() as u64 - start) / 3) {
            // What lies in memory may say of a key that it is gone when the disk says nothing of it any more.
            let values = |table: &Table| -> Table {
                let living = table.iter().filter(|(_, (offset, value))| *offset >= from && value.is_some());
                living.map(|(key, last)| (key.clone(), last.clone())).collect()
            };
            assert_eq!(values(&table(&test.records_from(from).await)), values(&now), "from {from}");
        }
        check_disk(&storage, &test);
    }
    test.broker.shutdown().await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_last_value_of_each_key_is_the_same_whatever_is_compacted(steps in proptest::collection::vec(step(), 1..30), deletes: bool) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(play(steps, deletes));
    }
}

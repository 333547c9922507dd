//! A crash at any write of a compaction.

use super::{HOUR, Table, check_disk, compacted, gone, keyed, table};
use crate::common::{START_MS, TestBroker, topic};
use sagamq_broker::env::{Clock as _, ManualClock};
use sagamq_broker::storage::crash::{CrashStorage, FailedWrite};

/// Large enough that there are several pieces; compacts in between, until a write fails. What was acknowledged, by offset.
async fn run(storage: CrashStorage) -> (Vec<(u64, String, Option<String>)>, u64) {
    let (mut stored, clock) = (Vec::new(), ManualClock::at(START_MS));
    let Ok(test) = TestBroker::try_open(storage, clock.clone()) else { return (stored, START_MS) };
    let _ = test.broker.create_topic(&topic("t"), compacted()).await;
    let padding = "x".repeat(200 << 10);
    for n in 0..9_u64 {
        let (key, value) = (format!("k{}", n % 4), (n != 5).then(|| format!("{n} {padding}")));
        let record = value.as_deref().map_or_else(|| gone(&key), |value| keyed(&key, value));
        if let Ok(placed) = test.broker.produce(&topic("t"), vec![record], None).await {
            stored.push((placed[0].offset.expect("stored").0, key, value));
        }
        clock.advance(HOUR);
        if n % 3 == 2 {
            // A failure shows in what comes next.
            let _ = test.broker.compact().await;
        }
    }
    test.broker.shutdown().await;
    (stored, clock.now_ms())
}

#[tokio::test]
async fn a_crash_at_any_write_loses_no_key() {
    let whole = CrashStorage::new();
    let (stored, _) = run(whole.clone()).await;
    assert_eq!(stored.len(), 9);
    let writes = whole.writes();
    for at in 1..=writes {
        for leaves in [FailedWrite::NothingApplied, FailedWrite::Applied, FailedWrite::AppliedNotSynced] {
            let storage = CrashStorage::new();
            storage.fail_write(at, leaves);
            let (stored, now_ms) = run(storage.clone()).await;
            for image in [storage.after_power_cut(), storage.after_kill()] {
                let case = format!("write {at} of {writes} left {leaves:?}");
                let test = TestBroker::try_open(image.clone(), ManualClock::at(now_ms)).unwrap_or_else(|error| panic!("{case}: {error}"));
                test.broker.create_topic(&topic("t"), compacted()).await.expect("made, or there");
                for compacts in [false, true] {
                    if compacts {
                        test.compacts().await;
                    }
                    let now = table(&test.records_from(0).await);
                    let last: Table = stored.iter().map(|(offset, key, value)| (key.clone(), (*offset, value.clone()))).collect();
                    for (key, (offset, value)) in &last {
                        match now.get(key) {
                            // A write that failed may have left a record that nobody was told of.
                            Some((found, text)) => {
                                assert!(found > offset || (found, text) == (offset, value), "{case}: {key} is at {found}")
                            }
                            None => assert!(value.is_none(), "{case}: {key} is lost, and was at {offset}"),
                        }
                    }
                }
                check_disk(&image, &test);
                test.broker.shutdown().await;
            }
        }
    }
}

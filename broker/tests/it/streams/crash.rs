//! A group whose broker crashes at any write.

use super::*;

/// What was answered before a crash.
#[derive(Default)]
struct Heard {
    committed: BTreeMap<u32, u64>,
    /// The highest epoch that anybody was told.
    epoch: u64,
    members: Vec<Member>,
}

/// Joins, commits, hands over and leaves until a write fails.
async fn run(storage: CrashStorage) -> Heard {
    let mut heard = Heard::default();
    let Ok(test) = TestBroker::try_open(storage, ManualClock::at(START_MS)) else { return heard };
    if test.broker.create_topic(&topic("t"), partitions(3)).await.is_err() {
        return heard;
    }
    let record = |n: u32| NewRecord::of("x").with_partition(PartitionId(n % 3));
    let _ = test.broker.produce(&topic("t"), (0..30).map(record).collect(), None).await;
    let (mut first, mut second) = (Member::new("first", &["t"]), Member::new("second", &["t"]));
    for round in 1..5_u64 {
        for member in [&mut first, &mut second] {
            let _ = member.beat(&test, "g").await;
            for assigned in member.assigned.clone() {
                let partition = assigned.partition.0;
                if member.commit(&test, "g", &[("t", partition, round)]).await.is_ok() {
                    heard.committed.insert(partition, round);
                }
            }
            heard.epoch = heard.epoch.max(member.epoch);
        }
    }
    test.broker.shutdown().await;
    heard.members = vec![first, second];
    heard
}

#[tokio::test]
async fn a_crash_at_any_write_loses_no_commit_and_gives_no_epoch_twice() {
    let whole = CrashStorage::new();
    let heard = run(whole.clone()).await;
    assert_eq!((heard.committed.len(), heard.members.len()), (3, 2));
    assert!(heard.members.iter().all(|member| !member.assigned.is_empty()), "both read");
    let writes = whole.writes();
    assert!(writes > 15, "the run writes often enough to be worth crashing: {writes}");
    for at in 1..=writes {
        for leaves in [FailedWrite::NothingApplied, FailedWrite::Applied, FailedWrite::AppliedNotSynced] {
            let storage = CrashStorage::new();
            storage.fail_write(at, leaves);
            let heard = run(storage.clone()).await;
            for image in [storage.after_power_cut(), storage.after_kill()] {
                let case = format!("write {at} of {writes} left {leaves:?}");
                let test = TestBroker::open(image);
                if !heard.committed.is_empty() {
                    let stands = offsets(&test, "g").await;
                    for (&partition, &offset) in &heard.committed {
                        assert!(
                            stands[&("t".to_owned(), partition)] >= offset,
                            "{case}: {partition} was committed at {offset}, stands {stands:?}"
                        );
                    }
                }
                // Who was told something before may go on; who is new never gets an epoch that somebody else was told.
                test.broker.create_topic(&topic("t"), partitions(3)).await.expect("made, or there");
                for mut member in heard.members.iter().filter(|member| member.epoch > 0).cloned() {
                    let before = member.epoch;
                    member.beat(&test, "g").await.unwrap_or_else(|error| panic!("{case}: {error}"));
                    assert!(member.epoch >= before, "{case}");
                }
                let mut third = Member::new("third", &["t"]);
                third.beat(&test, "g").await.expect("joined");
                assert!(third.epoch > heard.epoch, "{case}: epoch {} was told before", third.epoch);
            }
        }
    }
}

//! Answers that are lost: what stands is read back, and only what nobody can know is unknown.

use super::*;
use crate::objects::faults::{Fault, Storage};

async fn three(storage: &Storage) -> (ObjectLog, Pos) {
    let log = ObjectLog::new(storage.objects());
    let places = append_all(&log, SHARD, &["1", "2", "3"]).await;
    (log, places[2])
}

#[tokio::test]
async fn an_entry_whose_answer_is_lost_is_ours_when_it_is_read_back() {
    for faults in [
        &[Fault::AnswerLost][..],
        &[Fault::Twice],
        &[Fault::RequestLost, Fault::AnswerLost],
        &[Fault::Meets],
        &[Fault::Held, Fault::RequestLost, Fault::None],
    ] {
        let storage = Storage::new();
        let (log, last) = three(&storage).await;
        storage.fail_writes(faults);
        assert_eq!(log.append(SHARD, last, bytes("4")).await, Ok(Pos(4)), "{faults:?}");
        assert!(storage.is_done(), "{faults:?} came about");
        // Its row goes on, and what was held back meets what stands.
        assert_eq!(log.append(SHARD, Pos(4), bytes("5")).await, Ok(Pos(5)));
        assert_eq!(storage.release().await, 0);
        assert_eq!(texts(&ObjectLog::new(storage.objects()), SHARD, 0).await, ["1", "2", "3", "4", "5"], "{faults:?}");
    }
}

#[tokio::test]
async fn the_same_content_of_another_writer_is_a_conflict() {
    let storage = Storage::new();
    let (one, last) = three(&storage).await;
    let other = ObjectLog::new(storage.objects());
    assert_eq!(other.append(SHARD, last, bytes("same")).await, Ok(Pos(4)));
    for faults in [&[][..], &[Fault::RequestLost], &[Fault::AnswerLost], &[Fault::Twice]] {
        storage.fail_writes(faults);
        assert_eq!(one.append(SHARD, last, bytes("same")).await, Err(AppendError::Conflict), "{faults:?}");
        assert!(storage.is_done());
    }
    assert_eq!(texts(&one, SHARD, 3).await, ["same"]);
}

#[tokio::test]
async fn the_same_content_of_the_same_writer_is_a_conflict_too() {
    let storage = Storage::new();
    let (log, last) = three(&storage).await;
    assert_eq!(log.append(SHARD, last, bytes("same")).await, Ok(Pos(4)));
    assert_eq!(log.append(SHARD, last, bytes("same")).await, Err(AppendError::Conflict), "a second append is not the first one");
}

#[tokio::test]
async fn without_any_answer_it_is_unknown_and_may_stand_later_at_its_place_alone() {
    let storage = Storage::new();
    let (log, last) = three(&storage).await;
    storage.fail_writes(&[Fault::Held; 50]);
    let append = log.append(SHARD, last, bytes("late")).await;
    assert!(matches!(append, Err(AppendError::Unknown(_))), "{append:?}");
    assert!(!storage.is_done(), "it gave up, and not for want of faults");
    storage.heal();
    assert_eq!(texts(&log, SHARD, 3).await, Vec::<String>::new(), "not yet");
    assert_eq!(storage.release().await, 1, "of all attempts one comes to stand");
    assert_eq!(texts(&log, SHARD, 3).await, ["late"]);
    assert_eq!(log.append(SHARD, last, bytes("next")).await, Err(AppendError::Conflict), "the caller has to read it first");
    assert_eq!(log.append(SHARD, Pos(4), bytes("next")).await, Ok(Pos(5)));
}

#[tokio::test]
async fn what_comes_late_meets_what_stands() {
    let storage = Storage::new();
    let (log, last) = three(&storage).await;
    storage.fail_writes(&[Fault::Held; 50]);
    assert!(matches!(log.append(SHARD, last, bytes("late")).await, Err(AppendError::Unknown(_))));
    storage.heal();
    let other = ObjectLog::new(storage.objects());
    assert_eq!(other.append(SHARD, last, bytes("claim")).await, Ok(Pos(4)));
    assert_eq!(storage.release().await, 0);
    assert_eq!(texts(&log, SHARD, 3).await, ["claim"]);
}

#[tokio::test]
async fn a_refusal_is_known_unless_an_attempt_before_it_is_not() {
    let storage = Storage::new();
    let (log, last) = three(&storage).await;
    storage.fail_writes(&[Fault::Refused]);
    assert!(matches!(log.append(SHARD, last, bytes("4")).await, Err(AppendError::NotStored(_))));
    assert!(storage.is_done());
    let mut faults = vec![Fault::Refused; 50];
    faults[0] = Fault::Held;
    storage.fail_writes(&faults);
    let append = log.append(SHARD, last, bytes("4")).await;
    assert!(matches!(append, Err(AppendError::Unknown(_))), "the first attempt may still come: {append:?}");
    storage.heal();
    assert_eq!(storage.release().await, 1, "and it does");
    assert_eq!(texts(&log, SHARD, 3).await, ["4"]);
}

#[tokio::test]
async fn an_append_that_is_given_up_ends_the_row() {
    let storage = Storage::new();
    let (log, last) = three(&storage).await;
    storage.fail_writes(&[Fault::Held; 50]);
    let given_up = tokio::time::timeout(core::time::Duration::from_millis(1), log.append(SHARD, last, bytes("4"))).await;
    assert!(given_up.is_err(), "the caller went away");
    storage.heal();
    assert_eq!(storage.release().await, 1);
    assert_eq!(log.append(SHARD, Pos(4), bytes("5")).await, Ok(Pos(5)));
    let first = entry::Head::parse(&storage.content(&key(SHARD, 5)).expect("it stands")).expect("an entry");
    assert!(first.is_first, "it is not known to be behind an own entry");
}

#[tokio::test]
async fn a_mark_that_cannot_be_read_leaves_an_append_unknown() {
    let storage = Storage::new();
    let (_, last) = three(&storage).await;
    let newcomer = ObjectLog::new(storage.objects());
    assert_eq!(newcomer.bounds(SHARD).await.map(|bounds| bounds.last), Ok(last));
    storage.fail_reads(&[Fault::None, Fault::Refused]);
    let append = newcomer.append(SHARD, last, bytes("4")).await;
    assert!(matches!(append, Err(AppendError::Unknown(_))), "{append:?}");
    assert_eq!(texts(&newcomer, SHARD, 3).await, ["4"]);
}

#[tokio::test]
async fn reads_are_asked_again() {
    let storage = Storage::new();
    let (log, _) = three(&storage).await;
    storage.fail_reads(&[Fault::AnswerLost; 3]);
    assert_eq!(texts(&log, SHARD, 0).await, ["1", "2", "3"]);
    assert!(storage.is_done());
    storage.fail_reads(&[Fault::AnswerLost; 500]);
    assert!(matches!(log.read(SHARD, Pos::START, 1000).await, Err(ReadError::Unavailable(_))));
    assert!(matches!(log.bounds(SHARD).await, Err(ReadError::Unavailable(_))));
    assert!(matches!(log.trim(SHARD, Pos(1)).await, Err(ReadError::Unavailable(_))));
}

#[tokio::test]
async fn a_trim_may_die_anywhere_and_the_next_one_ends_it() {
    for changes in 0.. {
        let storage = Storage::new();
        let (log, _) = three(&storage).await;
        append_all(&ObjectLog::new(storage.objects()), SHARD, &["4", "5", "6", "7"]).await;
        storage.dies_after(Some(changes));
        let trimmed = log.trim(SHARD, Pos(6)).await.is_ok();
        storage.dies_after(None);
        let other = ObjectLog::new(storage.objects());
        let after = other.bounds(SHARD).await.expect("it answers").trimmed;
        let expected = if changes == 0 { 0 } else { 6 };
        assert_eq!(after, Pos(expected), "the mark comes before anything is deleted: {changes} changes");
        assert_eq!(texts(&other, SHARD, after.0).await.len(), 7 - expected as usize, "all behind the mark is there");
        other.trim(SHARD, Pos(6)).await.expect("it answers");
        let left: Vec<u64> = (1..=7).filter(|place| storage.has(&key(SHARD, *place))).collect();
        assert_eq!(left, [1, 4, 7], "{changes} changes");
        if trimmed {
            assert!(changes >= 5, "a mark, four objects, a mark");
            return;
        }
    }
}

#[tokio::test]
async fn of_many_shards_that_are_read_at_the_same_time_few_entries_are_asked_for() {
    let storage = Storage::new();
    let writer = ObjectLog::new(storage.objects());
    let (shards, entries) = (20, 40);
    for shard in 0..shards {
        for place in 0..entries {
            writer.append(LogName::Shard(shard), Pos(place), bytes("entry")).await.expect("it is taken");
        }
    }
    let reader = ObjectLog::new(storage.objects());
    for shard in 0..shards {
        reader.bounds(LogName::Shard(shard)).await.expect("it answers");
    }
    storage.asked();
    // Nothing is known of their size.
    storage.fail_reads(&[Fault::Slow; 1_000]);
    let mut first = Box::pin(reader.read(LogName::Shard(0), Pos::START, 1 << 20));
    assert!(futures_util::poll!(&mut first).is_pending());
    assert_eq!(storage.asked(), 4);
    drop(first);
    storage.heal();
    for shard in 0..shards {
        assert_eq!(reader.read(LogName::Shard(shard), Pos::START, 1 << 20).await.map(|read| read.len()), Ok(40));
    }
    storage.asked();
    storage.fail_reads(&[Fault::Slow; 1_000]);
    let mut all =
        Box::pin(futures_util::future::join_all((0..shards).map(|shard| reader.read(LogName::Shard(shard), Pos::START, 1 << 20))));
    assert!(futures_util::poll!(&mut all).is_pending());
    assert!((1..=READS_AT_ONCE).contains(&storage.asked()), "as many as there are places");
    // Who lives is asked all the same.
    let mut members = Box::pin(reader.read(LogName::Members, Pos::START, 1 << 20));
    assert!(futures_util::poll!(&mut members).is_pending());
    assert_eq!(storage.asked(), 1);
}

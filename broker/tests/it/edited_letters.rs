//! Dead letters that are delivered edited, or so many a second.

use crate::common::{Says as _, TestBroker, group, one_partition, topic, within};
use core::time::Duration;
use sagamq_api::headers::dead_letter;
use sagamq_api::limits::{EDITED_BYTES_MAX, EDITED_RECORDS_MAX};
use sagamq_api::queue::{
    DeadLetterQuery, EmptyReason, GroupSeek, LetterEdit, ReceiveRequest, RedriveLimit, RedriveRequest, RedriveResponse, TerminateRequest,
};
use sagamq_api::record::ProduceRecord;
use sagamq_api::stream::SeekPosition;
use sagamq_api::topic::TopicConfigChange;
use sagamq_api::{Offset, PartitionId};
use sagamq_broker::storage::Storage;
use sagamq_broker::storage::crash::{CrashStorage, FailedWrite};
use sagamq_broker::storage::memory::MemoryStorage;
use sagamq_broker::{Delivered, NewRecord, RedriveError};

/// A group that has given up all of its records.
async fn given_up(storage: impl Storage, records: usize) -> TestBroker {
    let test = TestBroker::with_topic(storage, "t", one_partition()).await;
    let record = |n: usize| NewRecord::of(format!("bad {n}")).with_key(format!("key {n}")).with_header("trace", n.to_string());
    test.produce("t", (0..records).map(record).collect(), None).await;
    let deliveries = test.receive_with("t", "g", &ReceiveRequest { max_records: Some(1_000), ..ReceiveRequest::default() }).await;
    assert_eq!(deliveries.len(), records);
    terminate(&test, &deliveries).await;
    test
}

async fn terminate(test: &TestBroker, deliveries: &[Delivered]) {
    let receipts = deliveries.iter().map(|delivery| delivery.receipt.clone()).collect();
    let terminate = TerminateRequest { receipts, reason: "no number".to_owned() };
    test.broker.terminate(&topic("t"), &group("g"), &terminate).await.expect("given up");
}

/// All that is due: a receive may give less, because pollers know only about how much there is.
async fn all_due(test: &TestBroker) -> Vec<Delivered> {
    let mut all = Vec::new();
    loop {
        let some = test.receive("t", "g").await;
        if some.is_empty() {
            return all;
        }
        all.extend(some);
    }
}

fn edit(value: &str) -> LetterEdit {
    let value_base64 = ProduceRecord::bytes(value).value_base64;
    LetterEdit { value_base64, ..LetterEdit::default() }
}

async fn redrive(test: &TestBroker, letter: u64, edit: LetterEdit) -> Result<RedriveResponse, RedriveError> {
    let request =
        RedriveRequest { partition: Some(PartitionId(0)), offsets: vec![Offset(letter)], edit: Some(edit), ..RedriveRequest::default() };
    test.broker.redrive(&topic("t"), &group("g"), &request).await
}

fn header<'a>(delivered: &'a Delivered, name: &str) -> Option<&'a str> {
    delivered.record.payload.headers.get(name)
}

#[tokio::test]
async fn an_edited_record_is_delivered_to_its_group_until_it_is_settled_and_says_where_it_comes_from() {
    let storage = MemoryStorage::new();
    let test = given_up(storage.clone(), 2).await;
    assert_eq!(redrive(&test, 1, edit("good 1")).await.expect("redriven").redriven, 1);
    let headers = Some([("a", "b")].into_iter().collect());
    assert_eq!(redrive(&test, 0, LetterEdit { headers, ..LetterEdit::default() }).await.expect("redriven").redriven, 1);
    drop(test);
    let test = TestBroker::open(storage.clone());
    let delivered = all_due(&test).await;
    let [first, second] = &delivered[..] else { panic!("{}", delivered.len()) };
    assert_eq!((first.record.text().as_deref(), header(first, "a"), header(first, "trace")), (Some("bad 0"), Some("b"), None));
    assert_eq!((second.record.text().as_deref(), header(second, "trace")), (Some("good 1"), Some("1")));
    assert_eq!((second.record.offset, second.attempt, second.record.payload.key.as_deref()), (Offset(1), 1, Some(&b"key 1"[..])));
    for (name, expected) in [
        (dead_letter::ORIGIN_OFFSET, "1"),
        (dead_letter::CAUSE, "terminated"),
        (dead_letter::REASON, "no number"),
        (dead_letter::GROUP, "g"),
    ] {
        assert_eq!(header(second, name), Some(expected), "{name}");
    }
    assert!(header(second, dead_letter::EDITED_AT).is_some());
    // It is this group's alone, and the log has what was produced.
    assert_eq!(test.receive("t", "other").await[1].record.text().as_deref(), Some("bad 1"));
    assert_eq!(test.values("t", 0).await, ["bad 0", "bad 1"]);
    // Given up again it is what was delivered; acknowledged it is forgotten.
    terminate(&test, &delivered[1..]).await;
    test.ack("t", "g", &delivered[..1]).await;
    let letters = test.broker.dead_letters(&topic("t"), &group("g"), &DeadLetterQuery::default()).await.expect("listed").dead_letters;
    assert_eq!(letters.iter().map(|letter| letter.record.text()).collect::<Vec<_>>(), [Some("good 1".to_owned())]);
    assert_eq!(test.broker.redrive(&topic("t"), &group("g"), &RedriveRequest::default()).await.expect("redriven").redriven, 1);
    let again = all_due(&test).await;
    assert_eq!((again.len(), again[0].record.text().as_deref()), (1, Some("good 1")), "what was given up comes again");
    let sought = GroupSeek { position: Some(SeekPosition::Start), ..GroupSeek::default() };
    test.broker.seek_group(&topic("t"), &group("g"), &sought).await.expect("moved");
    let texts: Vec<_> = all_due(&test).await.iter().map(|delivered| delivered.record.text().expect("text")).collect();
    assert_eq!(texts, ["bad 0", "bad 1"], "who begins anew gets what was produced");
}

#[tokio::test]
async fn a_dead_letter_does_not_tell_the_reason_of_an_earlier_one_of_its_record() {
    let test = given_up(MemoryStorage::new(), 1).await;
    let change = TopicConfigChange { delivery_limit: Some(1), ..TopicConfigChange::default() };
    test.broker.update_topic(&topic("t"), change).await.expect("changed");
    assert_eq!(redrive(&test, 0, edit("good")).await.expect("redriven").redriven, 1);
    let delivered = all_due(&test).await;
    let reasons: Vec<_> = delivered.iter().map(|delivered| header(delivered, dead_letter::REASON)).collect();
    assert_eq!(reasons, [Some("no number")], "who gets it is told why it was edited");
    // Nobody says anything: its only lease runs out.
    test.clock.advance(Duration::from_secs(31));
    let dead = async {
        loop {
            assert!(test.receive("t", "g").await.is_empty(), "delivered once and no more");
            let letters = test.broker.dead_letters(&topic("t"), &group("g"), &DeadLetterQuery::default()).await.expect("listed");
            if !letters.dead_letters.is_empty() {
                return letters.dead_letters;
            }
        }
    };
    let letters = within("it is a dead letter", dead).await;
    let told: Vec<_> = letters.iter().map(|letter| (letter.cause.as_str(), letter.reason.as_deref(), letter.record.text())).collect();
    assert_eq!(told, [("delivery_limit", None, Some("good".to_owned()))]);
    let headers = &letters[0].record.payload.headers;
    assert!(headers.get(dead_letter::EDITED_AT).is_some(), "it is what was edited");
}

#[tokio::test]
async fn what_is_no_edit_of_one_letter_is_refused_and_bounds_say_so() {
    let test = given_up(MemoryStorage::new(), EDITED_RECORDS_MAX + 2).await;
    let many = RedriveRequest { edit: Some(edit("x")), ..RedriveRequest::default() };
    let refused = test.broker.redrive(&topic("t"), &group("g"), &many).await;
    assert!(matches!(refused, Err(RedriveError::Parameter(_))), "{refused:?}");
    let bad = redrive(&test, 0, LetterEdit { value_base64: Some("*".to_owned()), ..LetterEdit::default() }).await;
    assert!(matches!(bad, Err(RedriveError::Payload(_))), "{bad:?}");
    let ours = LetterEdit { headers: Some([(dead_letter::ORIGIN_OFFSET, "7")].into_iter().collect()), ..LetterEdit::default() };
    assert!(matches!(redrive(&test, 0, ours).await, Err(RedriveError::Parameter(_))));
    let large = redrive(&test, 0, edit(&"x".repeat(1024 * 1024))).await;
    assert!(matches!(large, Err(RedriveError::TooLarge { .. })), "{large:?}");
    // One of almost the bound, and no second one.
    assert_eq!(redrive(&test, 0, edit(&"x".repeat(EDITED_BYTES_MAX - 1_000))).await.expect("redriven").redriven, 1);
    let full = redrive(&test, 1, edit(&"x".repeat(2_000))).await.expect("answered");
    assert_eq!((full.redriven, full.limit), (0, Some(RedriveLimit::EditedLimit)));
    let received = test.receive("t", "g").await;
    test.ack("t", "g", &received).await;
    for letter in 1..=EDITED_RECORDS_MAX as u64 {
        assert_eq!(redrive(&test, letter, edit("small")).await.expect("redriven").redriven, 1, "{letter}");
    }
    let full = redrive(&test, EDITED_RECORDS_MAX as u64 + 1, edit("small")).await.expect("answered");
    assert_eq!((full.redriven, full.remaining, full.limit), (0, 1, Some(RedriveLimit::EditedLimit)));
}

#[tokio::test]
async fn a_redrive_with_a_rate_brings_so_many_back_in_a_second() {
    let test = given_up(MemoryStorage::new(), 10).await;
    let request = RedriveRequest { per_second: Some(4), ..RedriveRequest::default() };
    assert_eq!(test.broker.redrive(&topic("t"), &group("g"), &request).await.expect("redriven").redriven, 10);
    let mut came = Vec::new();
    for _ in 0..4 {
        let received = all_due(&test).await;
        came.push(received.len());
        test.ack("t", "g", &received).await;
        if came.len() == 1 {
            let empty = test.broker.receive(&topic("t"), &group("g"), &ReceiveRequest::default()).await.expect("received");
            assert_eq!(empty.empty_reason, Some(EmptyReason::AllDelayed));
        }
        test.clock.advance(Duration::from_secs(1));
    }
    assert_eq!(came, [1, 4, 4, 1]);
    let none = RedriveRequest { per_second: Some(0), ..RedriveRequest::default() };
    assert!(test.broker.redrive(&topic("t"), &group("g"), &none).await.is_err());
}

#[tokio::test]
async fn a_crash_at_the_write_of_an_edit_leaves_the_letter_or_delivers_the_edit() {
    for leaves in [FailedWrite::NothingApplied, FailedWrite::Applied, FailedWrite::AppliedNotSynced] {
        let storage = CrashStorage::new();
        let test = given_up(storage.clone(), 1).await;
        storage.fail_write(1, leaves);
        redrive(&test, 0, edit("good")).await.expect_err("the write failed");
        drop(test);
        for image in [storage.after_power_cut(), storage.after_kill()] {
            let test = TestBroker::open(image);
            let letters = test.broker.dead_letters(&topic("t"), &group("g"), &DeadLetterQuery::default()).await.expect("listed");
            let delivered: Vec<_> = test.receive("t", "g").await.iter().filter_map(|delivered| delivered.record.text()).collect();
            match letters.dead_letters.len() {
                1 => assert!(delivered.is_empty(), "{leaves:?}: {delivered:?}"),
                _ => assert_eq!(delivered, ["good"], "{leaves:?}"),
            }
        }
    }
}

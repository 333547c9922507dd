//! Messages from shard to shard: seen when they are durable, each taken once and in order, whatever crashes between.

use crate::common::{START_MS, TestBroker, within};
use core::ops::ControlFlow;
use core::time::Duration;
use proptest::prelude::*;
use sagamq_broker::env::ManualClock;
use sagamq_broker::ids::ShardId;
use sagamq_broker::storage::crash::{CrashStorage, FailedWrite};
use sagamq_broker::storage::keys::{Channel, MetaKey};
use sagamq_broker::storage::{Direction, Durability, Family, Mutation, Storage};
use sagamq_broker::{Inbox, Message, NotNext, OpenError, ShardEmbedder, SubmitError, WriteError};

/// Bytes of one look into an inbox: a few messages.
const LOOK_BYTES: usize = 16;

/// Keys of all messages that are stored.
pub(crate) fn messages(storage: &impl Storage) -> Vec<Vec<u8>> {
    let mut keys = Vec::new();
    for shard in 0..4 {
        let range = ShardId(shard).messages(Channel::Embedder);
        let visit = &mut |key: &[u8], _: &[u8]| {
            keys.push(key.to_vec());
            ControlFlow::Continue(())
        };
        storage.scan(Family::Meta, &range.start..&range.end, Direction::Forward, visit).expect("reads");
    }
    keys
}

/// Sends number `n`, and keeps with the commit how many were sent.
async fn send(from: &ShardEmbedder, to: u16, n: u64) -> Result<(), SubmitError> {
    let mut commit = from.begin();
    commit.put(&[b's', u8::try_from(to).expect("small")], n.to_be_bytes().to_vec());
    commit.send(to, n.to_string().into_bytes());
    Ok(from.submit(commit).await?.durable().await?)
}

/// Takes a message, and keeps with the commit what it said: how many messages of the pair have taken effect.
async fn take(to: &ShardEmbedder, message: &Message) -> Result<(), SubmitError> {
    let n: u64 = core::str::from_utf8(&message.body).expect("text").parse().expect("a number");
    let mut commit = to.begin();
    commit.take(message.from, message.sequence);
    let key = [b't', u8::try_from(message.from).expect("small")];
    commit.put(&key, n.to_be_bytes().to_vec());
    commit.put(&[&key[..], &message.sequence.to_be_bytes()].concat(), n.to_be_bytes().to_vec());
    Ok(to.submit(commit).await?.durable().await?)
}

fn count(of: &ShardEmbedder, what: u8, peer: u16) -> u64 {
    let row = of.get(&[what, u8::try_from(peer).expect("small")]).expect("reads");
    row.map_or(0, |row| u64::from_be_bytes(row[..].try_into().expect("a number")))
}

/// What each message of a pair said, in the order of their numbers.
fn effects(of: &ShardEmbedder, from: u16) -> Vec<u64> {
    let mut said = Vec::new();
    of.scan(&[b't', u8::try_from(from).expect("small")], None, &mut |key, value| {
        if key.len() > 2 {
            said.push(u64::from_be_bytes(value.try_into().expect("a number")));
        }
        ControlFlow::Continue(())
    })
    .expect("scans");
    said
}

/// Delivers what waits until nothing does.
async fn deliver_all(to: &ShardEmbedder) -> Result<(), SubmitError> {
    let inbox = to.inbox();
    while let Some((from, _)) = inbox.waiting().next() {
        for message in inbox.read(from, 0, LOOK_BYTES).expect("reads") {
            take(to, &message).await?;
        }
    }
    Ok(())
}

fn numbers(inbox: &Inbox, from: u16, after: u64) -> Vec<u64> {
    inbox.read(from, after, usize::MAX).expect("reads").into_iter().map(|message| message.sequence).collect()
}

fn lanes(test: &TestBroker) -> (ShardEmbedder, ShardEmbedder) {
    (test.broker.embedder(1), test.broker.embedder(2))
}

#[tokio::test]
async fn messages_come_in_order_with_their_numbers_wake_the_receiver_and_survive() {
    let storage = CrashStorage::new();
    let test = TestBroker::open(storage.clone());
    let (one, two) = lanes(&test);
    let mut inbox = two.inbox();
    let mut commit = one.begin();
    for body in ["a", "b", "c"] {
        commit.send(2, body.as_bytes().to_vec());
    }
    commit.send(1, b"to myself".to_vec());
    commit.unforced();
    assert!(!commit.is_empty());
    one.submit(commit).await.expect("submitted").durable().await.expect("durable");
    within("the bell", inbox.changed()).await;
    assert_eq!((inbox.waiting().collect::<Vec<_>>(), one.inbox().waiting().collect::<Vec<_>>()), (vec![(1, 3)], vec![(1, 1)]));
    let test = TestBroker::open(storage.after_power_cut());
    let (one, two) = lanes(&test);
    let inbox = two.inbox();
    let found = inbox.read(1, 0, usize::MAX).expect("reads");
    let said = |message: &Message| (message.from, message.sequence, message.sent_at_ms, message.body.clone());
    let expected = [(1, "a"), (2, "b"), (3, "c")].map(|(sequence, body)| (1, sequence, START_MS, body.into()));
    assert_eq!(found.iter().map(said).collect::<Vec<_>>(), expected);
    assert_eq!((numbers(&inbox, 1, 1), numbers(&inbox, 1, 3), numbers(&inbox, 3, 0)), (vec![2, 3], vec![], vec![]));
    assert_eq!(inbox.read(1, 0, 2).expect("reads").len(), 2, "as many as fit");
    assert_eq!(inbox.read(1, 0, 0).expect("reads").len(), 1, "and always the first");
    send(&one, 2, 4).await.expect("sent");
    assert_eq!(numbers(&inbox, 1, 0), [1, 2, 3, 4], "numbers go on after a restart");
}

#[tokio::test]
async fn only_the_next_message_is_taken_and_nothing_of_another_commit_happens() {
    let test = TestBroker::open(CrashStorage::new());
    let (one, two) = lanes(&test);
    for n in 1..=3 {
        send(&one, 2, n).await.expect("sent");
    }
    let found = two.inbox().read(1, 0, usize::MAX).expect("reads");
    let refused = async |message: &Message| match take(&two, message).await {
        Err(SubmitError::NotNext(NotNext { from: 1, sequence, next })) => (sequence, next),
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(&found[1]).await, (2, 1), "others come first");
    take(&two, &found[0]).await.expect("the first");
    assert_eq!(refused(&found[0]).await, (1, 2), "it was taken");
    assert_eq!(effects(&two, 1), [1]);
    let mut both = two.begin();
    both.take(1, 2);
    both.take(1, 3);
    both.put(b"both", Vec::new());
    let submitted = two.submit(both).await.expect("in order");
    assert_eq!(refused(&found[2]).await, (3, 4), "it is known before it is durable");
    submitted.durable().await.expect("durable");
    assert_eq!(two.inbox().waiting().count(), 0);
}

#[tokio::test]
async fn a_message_whose_write_failed_is_never_seen_and_one_that_a_kill_left_is_synced_before_it_is_seen() {
    let storage = CrashStorage::new();
    let test = TestBroker::open(storage.clone());
    let (one, two) = lanes(&test);
    send(&one, 2, 1).await.expect("sent");
    storage.fail_write(1, FailedWrite::AppliedNotSynced);
    let failed = send(&one, 2, 2).await;
    assert!(matches!(failed, Err(SubmitError::Write(WriteError::Failed(_)))), "{failed:?}");
    assert_eq!(numbers(&two.inbox(), 1, 0), [1], "it may not be there after a power cut");
    let killed = storage.after_kill();
    let test = TestBroker::open(killed.clone());
    assert_eq!(numbers(&test.broker.embedder(2).inbox(), 1, 0), [1, 2]);
    let cut = TestBroker::open(killed.after_power_cut());
    assert_eq!(numbers(&cut.broker.embedder(2).inbox(), 1, 0), [1, 2], "what was seen stays");
    let cut = TestBroker::open(storage.after_power_cut());
    assert_eq!(numbers(&cut.broker.embedder(2).inbox(), 1, 0), [1]);
}

#[tokio::test]
async fn a_sender_lets_go_of_what_was_taken_and_its_numbers_go_on() {
    let storage = CrashStorage::new();
    let test = TestBroker::open(storage.clone());
    let (one, two) = lanes(&test);
    for n in 1..=3 {
        send(&one, 2, n).await.expect("sent");
    }
    let first = two.inbox().read(1, 0, 0).expect("reads");
    take(&two, &first[0]).await.expect("the first");
    within("the first is gone", async {
        while messages(&storage).len() > 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    assert_eq!(messages(&storage)[0], MetaKey::Message(Channel::Embedder, ShardId(1), ShardId(2), 2).encode());
    deliver_all(&two).await.expect("delivered");
    within("all are gone", async {
        while !messages(&storage).is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let test = TestBroker::open(storage.after_kill());
    let (one, two) = lanes(&test);
    send(&one, 2, 4).await.expect("sent");
    assert_eq!((numbers(&two.inbox(), 1, 0), two.inbox().taken(1)), (vec![4], 3));
}

/// Sends in both directions and takes, until a write fails.
async fn run(storage: CrashStorage) {
    let Ok(test) = TestBroker::try_open(storage, ManualClock::at(START_MS)) else { return };
    let (one, two) = lanes(&test);
    for n in 1..=4 {
        let _ = send(&one, 2, n).await;
        let _ = send(&two, 1, n).await;
        if n % 2 == 0 {
            let _ = deliver_all(&two).await;
        }
    }
    let _ = deliver_all(&one).await;
    test.broker.shutdown().await;
}

/// Restarts, goes on to the end, and looks that what was sent took effect once, in order.
async fn look(storage: CrashStorage, case: &str) {
    let test = TestBroker::open(storage.clone());
    let (one, two) = lanes(&test);
    for (from, to) in [(&one, &two), (&two, &one)] {
        let sent = count(from, b's', to.shard());
        deliver_all(to).await.expect("delivered");
        assert_eq!(effects(to, from.shard()), (1..=sent).collect::<Vec<_>>(), "{case}: {sent} were sent");
        send(from, to.shard(), sent + 1).await.expect("sent");
        deliver_all(to).await.expect("delivered");
        assert_eq!(effects(to, from.shard()), (1..=sent + 1).collect::<Vec<_>>(), "{case}: no number is given again");
    }
    test.broker.shutdown().await;
    assert!(TestBroker::try_open(storage.after_power_cut(), ManualClock::at(START_MS)).is_ok(), "{case}: and opens again");
}

#[tokio::test]
async fn a_crash_at_any_write_loses_no_message_and_repeats_none() {
    let whole = CrashStorage::new();
    run(whole.clone()).await;
    look(whole.after_kill(), "no crash").await;
    let writes = whole.writes();
    assert!(writes > 15, "the run writes often enough to be worth crashing: {writes}");
    for at in 1..=writes {
        for leaves in [FailedWrite::NothingApplied, FailedWrite::Applied, FailedWrite::AppliedNotSynced] {
            let storage = CrashStorage::new();
            storage.fail_write(at, leaves);
            run(storage.clone()).await;
            look(storage.after_power_cut(), &format!("power cut at write {at} of {writes}, which left {leaves:?}")).await;
            look(storage.after_kill(), &format!("kill at write {at} of {writes}, which left {leaves:?}")).await;
        }
    }
}

#[tokio::test]
async fn what_contradicts_itself_is_refused() {
    let storage = CrashStorage::new();
    let test = TestBroker::open(storage.clone());
    let (one, two) = lanes(&test);
    for n in 1..=4 {
        send(&one, 2, n).await.expect("sent");
    }
    let first = two.inbox().read(1, 0, 0).expect("reads");
    take(&two, &first[0]).await.expect("the first");
    test.broker.shutdown().await;
    let key = |sequence| MetaKey::Message(Channel::Embedder, ShardId(1), ShardId(2), sequence).encode();
    let (outgoing, incoming) = (
        MetaKey::Outgoing(Channel::Embedder, ShardId(1), ShardId(2)).encode(),
        MetaKey::Incoming(Channel::Embedder, ShardId(2), ShardId(1)).encode(),
    );
    let put = |key: &[u8], value: &[u8]| Mutation::Put { family: Family::Meta, key: key.to_vec(), value: value.to_vec().into() };
    let delete = |key: Vec<u8>| Mutation::Delete { family: Family::Meta, key };
    let numbers = |sent: u64, gone: u64| [sent.to_be_bytes(), gone.to_be_bytes()].concat();
    for (what, damage) in [
        ("the last is gone", delete(key(4))),
        ("one that nobody sent", put(&key(5), &[0; 9])),
        ("nobody knows of any", delete(outgoing.clone())),
        ("no row", put(&outgoing, &[0; 15])),
        ("more are gone than there were", put(&outgoing, &numbers(4, 5))),
        ("more were sent", put(&outgoing, &numbers(5, 1))),
        ("more were taken than sent", put(&incoming, &5_u64.to_be_bytes())),
        ("no number", put(&incoming, &[0; 7])),
        ("a message without a time", put(&key(4), &[0; 7])),
        ("no message", put(&key(4)[..12], &[0; 9])),
    ] {
        let damaged = storage.after_kill();
        damaged.write(&[damage], Durability::Synced).expect("written");
        let opened = TestBroker::try_open(damaged, ManualClock::at(START_MS));
        assert!(matches!(&opened, Err(OpenError::Damaged(_))), "{what}: {:?}", opened.err());
    }
    let opened = TestBroker::try_open(storage.after_kill(), ManualClock::at(START_MS)).expect("opens without damage");
    assert_eq!(opened.broker.embedder(2).inbox().waiting().collect::<Vec<_>>(), [(1, 3)]);
}

/// What happens to two shards and the pump between them.
#[derive(Clone, Copy, Debug)]
enum Happening {
    /// Shard 1 or 2 sends to the other.
    Send(bool),
    /// A message between them is delivered, so many behind the first that waits; the receiver may have taken it long ago.
    Deliver(bool, u64),
    /// The one before the last that was taken is delivered again.
    Again(bool),
    Kill,
    PowerCut,
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        6 => any::<bool>().prop_map(Happening::Send),
        8 => (any::<bool>(), 0..3_u64).prop_map(|(to_two, skip)| Happening::Deliver(to_two, skip)),
        2 => any::<bool>().prop_map(Happening::Again),
        1 => Just(Happening::Kill),
        1 => Just(Happening::PowerCut),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_lossy_pump_between_two_shards_applies_each_message_once_and_in_order(
        happenings in proptest::collection::vec(happening(), 1..60)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        runtime.block_on(async {
            let mut storage = CrashStorage::new();
            let mut test = TestBroker::open(storage.clone());
            let mut sent = [0; 2];
            for happening in happenings {
                let (one, two) = lanes(&test);
                let towards = |to_two| if to_two { (&one, &two) } else { (&two, &one) };
                match happening {
                    Happening::Send(to_two) => {
                        let (from, to) = towards(to_two);
                        sent[usize::from(to_two)] += 1;
                        send(from, to.shard(), sent[usize::from(to_two)]).await.expect("sent");
                    }
                    Happening::Deliver(to_two, skip) => {
                        let (from, to) = towards(to_two);
                        let inbox = to.inbox();
                        let found = inbox.read(from.shard(), inbox.taken(from.shard()) + skip, usize::MAX).expect("reads");
                        let Some(message) = found.first() else { continue };
                        assert_eq!(take(to, message).await.is_ok(), skip == 0, "{message:?}");
                    }
                    Happening::Again(to_two) => {
                        let (from, to) = towards(to_two);
                        let sequence = to.inbox().taken(from.shard());
                        let again = Message { from: from.shard(), sequence, sent_at_ms: 0, body: "0".into() };
                        take(to, &again).await.expect_err("it was taken");
                    }
                    Happening::Kill | Happening::PowerCut => {
                        let left = if matches!(happening, Happening::Kill) { storage.after_kill() } else { storage.after_power_cut() };
                        test.broker.shutdown().await;
                        storage = left;
                        test = TestBroker::open(storage.clone());
                    }
                }
            }
            let (one, two) = lanes(&test);
            for (from, to, sent) in [(&one, &two, sent[1]), (&two, &one, sent[0])] {
                deliver_all(to).await.expect("delivered");
                assert_eq!(effects(to, from.shard()), (1..=sent).collect::<Vec<_>>());
            }
            test.broker.shutdown().await;
        });
    }
}

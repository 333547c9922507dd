//! The audit log: an entry is there if, and only if, its change is, over crashes at every write; and nobody gets at it by the doors of topics.

use crate::common::{Says as _, TestBroker, group, one_partition, topic, within};
use core::time::Duration;
use sagamq_api::PartitionId;
use sagamq_api::access::{CreateKey, KeyQuota, KeyState, RotateKey};
use sagamq_api::audit::{AUDIT_TOPIC, AuditEntry, AuditOutcome, AuditQuery};
use sagamq_api::queue::{DiscardRequest, GroupSeek, PurgeRequest, ReceiveRequest, StartPosition, TerminateRequest};
use sagamq_api::stream::SeekPosition;
use sagamq_api::topic::{ReadQuery, TopicConfig, TopicConfigChange};
use sagamq_broker::audit::{Act, Note};
use sagamq_broker::storage::Storage;
use sagamq_broker::storage::crash::{CrashStorage, FailedWrite};
use sagamq_broker::storage::memory::MemoryStorage;
use sagamq_broker::{Broker, Due, NewRecord};
use std::collections::BTreeSet;

/// How long entries are kept in these tests.
const KEPT: Duration = Duration::from_secs(30 * 86_400);

/// Partitions of the topic, one on each shard.
const PARTITIONS: u32 = 4;

/// Somebody's request for an operation.
fn ann(operation: &'static str) -> Act {
    Act::of_request("key:ann".to_owned(), operation, Some(format!("request-{operation}")), None)
}

async fn entries(broker: &Broker) -> Vec<AuditEntry> {
    let mut query = AuditQuery { limit: Some(1_000), ..AuditQuery::default() };
    let mut all = Vec::new();
    loop {
        match broker.audit(&query).await {
            Ok(page) => {
                all.extend(page.entries);
                query.after = Some(page.next);
                if !page.has_more {
                    return all;
                }
            }
            // The run did not come as far as to have one.
            Err(_) => return all,
        }
    }
}

/// What ann did, in short.
fn said(entry: &AuditEntry) -> String {
    let partition = entry.on.get("partition").map(|partition| format!(" {partition}")).unwrap_or_default();
    format!("{} {}{partition}", entry.operation, entry.outcome)
}

/// All that ann does, until something fails: a write that is stopped stops everything behind it.
async fn run(storage: impl Storage) -> Option<()> {
    let test = TestBroker::try_open(storage, sagamq_broker::env::ManualClock::at(crate::common::START_MS)).ok()?;
    let done = steps(&test.broker).await;
    test.broker.shutdown().await;
    done
}

async fn steps(broker: &Broker) -> Option<()> {
    broker.keep_audit(KEPT).await.ok()?;
    let (t, g) = (topic("t"), group("g"));
    let acting = |operation| broker.acting(ann(operation));
    let config = TopicConfig { partitions: PARTITIONS, ..TopicConfig::default() };
    acting("topic.create").create_topic(&t, config).await.ok()?;
    let change = TopicConfigChange { retention_ms: Some(77_000), ..TopicConfigChange::default() };
    acting("topic.update").update_topic(&t, change).await.ok()?;
    acting("group.receive").ensure_group(&t, &g, StartPosition::Earliest).await.ok()?;
    for partition in 0..PARTITIONS {
        let record = NewRecord { partition: Some(PartitionId(partition)), ..NewRecord::of("x") };
        broker.produce(&t, vec![record], None).await.ok()?;
    }
    acting("group.pause").pause_group(&t, &g, true).await.ok()?;
    acting("group.purge").purge_group(&t, &g, &PurgeRequest::default()).await.ok()?;
    let later = NewRecord { due: Some(Due::After(3_600_000)), ..NewRecord::of("later") };
    let scheduled = broker.produce(&t, vec![later], None).await.ok()?;
    let schedule = scheduled[0].schedule?;
    acting("schedule.cancel").cancel_schedule(&t, schedule).await.ok()?;
    let key = |name: &str| CreateKey {
        name: name.parse().expect("legal"),
        roles: vec!["admin".parse().expect("a role")],
        expires_in_ms: None,
        quota: KeyQuota::default(),
    };
    acting("key.create").create_key(key("bob")).await.ok()?;
    acting("key.rotate").rotate_key(&"bob".parse().expect("legal"), RotateKey { grace_ms: Some(0) }).await.ok()?;
    let quota = KeyQuota { requests_per_second: Some(7), bytes_per_second: None };
    acting("key.limit").limit_key(&"bob".parse().expect("legal"), quota).await.ok()?;
    acting("key.revoke").revoke_key(&"bob".parse().expect("legal")).await.ok()?;
    acting("producer.register").register_producer(&"p".parse().expect("legal")).await.ok()?;
    acting("producer.forget").forget_producer(&"p".parse().expect("legal")).await.ok()?;
    acting("group.delete").delete_group(&t, &g).await.ok()?;
    acting("topic.delete").delete_topic(&t).await.ok()?;
    Some(())
}

/// What the entries say is so.
#[derive(Debug, Default, PartialEq)]
struct State {
    has_topic: bool,
    is_changed: bool,
    has_group: bool,
    is_paused: bool,
    /// Partitions of which nothing is left for the group.
    purged: BTreeSet<u32>,
    /// Whether it was rotated, and limited.
    key: Option<(KeyState, bool, bool)>,
    has_producer: bool,
}

impl State {
    fn of(entries: &[AuditEntry]) -> Self {
        let mut state = Self::default();
        for entry in entries.iter().filter(|entry| entry.actor == "key:ann") {
            match (entry.operation.as_str(), entry.outcome) {
                ("topic.create", AuditOutcome::Created) => state.has_topic = true,
                ("topic.update", AuditOutcome::Changed) => state.is_changed = true,
                ("group.receive", AuditOutcome::Created) => state.has_group = true,
                ("group.pause", AuditOutcome::Done) => state.is_paused = true,
                ("group.purge", AuditOutcome::Done) => drop(state.purged.insert(entry.on["partition"].parse().expect("a number"))),
                ("schedule.cancel", AuditOutcome::Deleted) => {}
                ("key.create", AuditOutcome::Created) => state.key = Some((KeyState::Active, false, false)),
                ("key.rotate", AuditOutcome::Changed) => state.key = Some((KeyState::Active, true, false)),
                ("key.limit", AuditOutcome::Changed) => state.key = Some((KeyState::Active, true, true)),
                ("key.revoke", AuditOutcome::Deleted) => state.key = Some((KeyState::Revoked, true, true)),
                ("producer.register", AuditOutcome::Created) => state.has_producer = true,
                ("producer.forget", AuditOutcome::Deleted) => state.has_producer = false,
                ("group.delete", AuditOutcome::Deleted) => (state.has_group, state.is_paused, state.purged) = Default::default(),
                ("topic.delete", AuditOutcome::Deleted) => (state.has_topic, state.is_changed) = Default::default(),
                other => panic!("nobody did that: {other:?}"),
            }
        }
        // At one time the entries of other shards may be told behind that of the deletion.
        if !state.has_group {
            state.purged.clear();
        }
        state
    }

    async fn is(broker: &Broker) -> Self {
        let (t, g) = (topic("t"), group("g"));
        let described = broker.describe_topic(&t).ok();
        let mut state = Self {
            has_topic: described.is_some(),
            is_changed: described.is_some_and(|topic| topic.config.retention_ms == 77_000),
            key: broker.keys().into_iter().next().map(|key| (key.state, key.rotated_at_ms.is_some(), !key.quota.is_the_servers())),
            has_producer: !broker.named_producers().is_empty(),
            ..Self::default()
        };
        if let Ok(group) = broker.describe_group(&t, &g).await {
            (state.has_group, state.is_paused) = (true, group.paused);
            let with_records =
                |partition: &u32| broker.describe_topic(&t).expect("it is there").partitions[*partition as usize].high_watermark.0 > 0;
            let lag = |partition: u32| group.partitions.iter().find(|of| of.partition.0 == partition).map_or(0, |of| of.lag_records);
            state.purged = (0..PARTITIONS).filter(with_records).filter(|partition| lag(*partition) == 0).collect();
        }
        state
    }
}

#[tokio::test]
async fn no_change_is_there_without_its_entry_and_no_entry_without_its_change_over_a_crash_at_any_write() {
    let whole = CrashStorage::new();
    assert_eq!(run(whole.clone()).await, Some(()));
    let (writes, mut seen) = (whole.writes(), BTreeSet::new());
    assert!(writes > 20, "the run writes often enough to be worth crashing: {writes}");
    for at in 1..=writes {
        for leaves in [FailedWrite::NothingApplied, FailedWrite::Applied, FailedWrite::AppliedNotSynced] {
            let storage = CrashStorage::new();
            storage.fail_write(at, leaves);
            run(storage.clone()).await;
            for image in [storage.after_power_cut(), storage.after_kill()] {
                let test = TestBroker::open(image);
                let entries = entries(&test.broker).await;
                seen.extend(entries.iter().map(said));
                assert_eq!(State::of(&entries), State::is(&test.broker).await, "write {at} of {writes} left {leaves:?}: {entries:#?}");
                test.broker.shutdown().await;
            }
        }
    }
    for wanted in [
        "topic.create created",
        "group.purge done 3",
        "key.rotate changed",
        "key.limit changed",
        "group.delete deleted",
        "producer.forget deleted",
    ] {
        assert!(seen.contains(wanted), "{wanted} was seen: {seen:?}");
    }
}

#[tokio::test]
async fn an_entry_says_who_did_what_to_what_and_what_it_was_before() {
    let storage = MemoryStorage::new();
    assert_eq!(run(storage.clone()).await, Some(()));
    let test = TestBroker::open(storage);
    let all = entries(&test.broker).await;
    let of = |operation: &str| all.iter().filter(|entry| entry.operation == operation).collect::<Vec<_>>();
    let [created] = of("topic.create")[..] else { panic!("one: {all:#?}") };
    assert_eq!(
        (created.actor.as_str(), created.outcome, created.request_id.as_deref()),
        ("key:ann", AuditOutcome::Created, Some("request-topic.create"))
    );
    assert_eq!((created.on["topic"].as_str(), created.at_ms >= crate::common::START_MS), ("t", true));
    assert!(created.before.is_none() && created.after.as_ref().is_some_and(|after| after.as_str().contains("\"partitions\":4")));
    let [updated] = of("topic.update")[..] else { panic!("one: {all:#?}") };
    assert!(updated.before.as_ref().is_some_and(|before| !before.as_str().contains("77000")), "{updated:?}");
    assert!(updated.after.as_ref().is_some_and(|after| after.as_str().contains("77000")), "{updated:?}");
    assert_eq!(of("group.purge").len(), PARTITIONS as usize, "each partition is a commit");
    let [deleted] = of("topic.delete")[..] else { panic!("one: {all:#?}") };
    assert!(deleted.before.is_some() && deleted.outcome == AuditOutcome::Deleted);
    // Found by who, by what, by on what, and page by page.
    let asked = async |query: AuditQuery| test.broker.audit(&query).await.expect("it is kept").entries;
    assert_eq!(asked(AuditQuery { operation: Some("key.*".to_owned()), ..AuditQuery::default() }).await.len(), 4);
    assert_eq!(asked(AuditQuery { actor: Some("config".to_owned()), ..AuditQuery::default() }).await.len(), 1, "its own beginning");
    assert_eq!(asked(AuditQuery { on: Some("key=bob".to_owned()), ..AuditQuery::default() }).await.len(), 4);
    assert_eq!(asked(AuditQuery { since_ms: Some(u64::MAX >> 2), ..AuditQuery::default() }).await.len(), 0);
    let (mut after, mut paged) = (None, Vec::new());
    loop {
        let page = test.broker.audit(&AuditQuery { after, limit: Some(1), ..AuditQuery::default() }).await.expect("it is kept");
        assert!(page.entries.len() <= 1);
        after = Some(page.next);
        if page.entries.is_empty() {
            break;
        }
        paged.extend(page.entries);
    }
    assert_eq!(paged.len(), all.len());
    assert!(paged.iter().map(|entry| &entry.id).collect::<BTreeSet<_>>().len() == all.len(), "no two have one id");
    for wrong in ["x", "1", "1.2.3.99999"] {
        let query = AuditQuery { after: Some(wrong.to_owned()), ..AuditQuery::default() };
        assert!(test.broker.audit(&query).await.is_err(), "{wrong}");
    }
}

#[tokio::test]
async fn whoever_waits_hears_of_the_next_entry() {
    let test = TestBroker::open(MemoryStorage::new());
    test.broker.keep_audit(KEPT).await.expect("kept");
    let next = test.broker.audit(&AuditQuery::default()).await.expect("kept").next;
    let broker = test.broker.clone();
    let query = AuditQuery { after: Some(next), actor: Some("key:ann".to_owned()), wait_ms: Some(20_000), ..AuditQuery::default() };
    let waiting = tokio::spawn(async move { broker.audit(&query).await });
    test.broker.acting(ann("topic.create")).create_topic(&topic("t"), one_partition()).await.expect("made");
    let heard = within("the entry", waiting).await.expect("no panic").expect("kept").entries;
    assert_eq!(heard.iter().map(said).collect::<Vec<_>>(), ["topic.create created"]);
}

#[tokio::test]
async fn nobody_gets_at_the_log_by_the_doors_of_topics() {
    let storage = MemoryStorage::new();
    let test = TestBroker::open(storage.clone());
    let name = topic(AUDIT_TOPIC);
    let refused = test.broker.create_topic(&name, one_partition()).await.expect_err("the name is kept");
    assert!(refused.to_string().contains("audit log"), "{refused}");
    test.broker.keep_audit(KEPT).await.expect("kept");
    let acting = test.broker.acting(ann("topic.create"));
    acting.create_topic(&topic("t"), one_partition()).await.expect("made");
    for broker in [&test.broker, &acting] {
        assert!(broker.create_topic(&name, one_partition()).await.is_err());
        assert!(broker.delete_topic(&name).await.is_err());
        assert!(broker.describe_topic(&name).is_err());
        assert!(broker.update_topic(&name, TopicConfigChange { retention_ms: Some(1), ..TopicConfigChange::default() }).await.is_err());
        assert!(broker.produce(&name, vec![NewRecord::of("forged")], None).await.is_err());
        assert!(broker.read(&name, PartitionId(0), &ReadQuery::default()).await.is_err());
        assert!(broker.receive(&name, &group("g"), &ReceiveRequest::default()).await.is_err());
        assert!(broker.ensure_group(&name, &group("g"), StartPosition::Earliest).await.is_err());
        assert!(broker.own_topic(&name).await.is_err());
        assert!(broker.topics().iter().all(|topic| topic.name != name));
    }
    // Also after a restart, and when it is not kept any more: what was written stays to be read.
    let before = entries(&test.broker).await;
    test.broker.shutdown().await;
    let again = TestBroker::open(storage);
    assert!(!again.broker.keeps_audit() && again.broker.topics().len() == 1);
    assert_eq!(entries(&again.broker).await, before);
    again.broker.acting(ann("topic.delete")).delete_topic(&topic("t")).await.expect("deleted");
    assert_eq!(entries(&again.broker).await, before, "nothing is written that is not to be kept");
    assert!(again.broker.create_topic(&name, one_partition()).await.is_err());
}

#[tokio::test]
async fn entries_go_when_their_time_is_over_and_a_change_of_that_time_is_an_entry() {
    let storage = MemoryStorage::new();
    let test = TestBroker::open(storage.clone());
    test.broker.keep_audit(Duration::from_secs(3_600)).await.expect("kept");
    test.broker.acting(ann("topic.create")).create_topic(&topic("t"), one_partition()).await.expect("made");
    test.clock.advance(Duration::from_secs(3_000));
    test.broker.acting(ann("topic.delete")).delete_topic(&topic("t")).await.expect("deleted");
    test.clock.advance(Duration::from_secs(1_000));
    test.broker.apply_retention().await.expect("applied");
    assert_eq!(entries(&test.broker).await.iter().map(said).collect::<Vec<_>>(), ["topic.delete deleted"]);
    test.broker.keep_audit(KEPT).await.expect("kept");
    let newest = entries(&test.broker).await.pop().expect("it is there");
    assert_eq!((newest.actor.as_str(), newest.outcome), ("config", AuditOutcome::Changed));
    let text = |text: Option<&sagamq_api::JsonText>| text.map(|text| text.as_str().to_owned()).unwrap_or_default();
    assert_eq!(
        (text(newest.before.as_ref()), text(newest.after.as_ref())),
        (r#"{"retention_ms":3600000}"#.to_owned(), r#"{"retention_ms":2592000000}"#.to_owned())
    );
}

#[tokio::test]
async fn a_place_to_go_on_is_one_of_this_log_and_what_retention_has_taken_is_passed_over() {
    let test = TestBroker::open(MemoryStorage::new());
    test.broker.keep_audit(Duration::from_secs(3_600)).await.expect("kept");
    let at = |offset: u64, shards: usize| Some(vec![offset.to_string(); shards].join("."));
    let shards = usize::from(test.broker.shards());
    for after in [Some("x".to_owned()), at(0, shards + 1), at(0, shards - 1), at(1_000, shards)] {
        let query = AuditQuery { after: after.clone(), ..AuditQuery::default() };
        let refused = test.broker.audit(&query).await.expect_err("it is none").to_string();
        assert!(refused.contains("`after`"), "{after:?}: {refused}");
    }
    let both = AuditQuery { after: at(0, shards), since_ms: Some(1), ..AuditQuery::default() };
    assert!(test.broker.audit(&both).await.is_err());
    test.clock.advance(Duration::from_secs(4_000));
    test.broker.apply_retention().await.expect("applied");
    test.broker.acting(ann("topic.create")).create_topic(&topic("t"), one_partition()).await.expect("made");
    let query = AuditQuery { after: at(0, shards), ..AuditQuery::default() };
    let page = test.broker.audit(&query).await.expect("it goes on behind what is gone");
    assert_eq!(page.entries.iter().map(said).collect::<Vec<_>>(), ["topic.create created"]);
}

/// Whoever asks for what is nowhere does not have all of the log read for one answer.
#[tokio::test]
async fn so_many_entries_are_looked_at_for_an_answer_and_it_says_that_there_may_be_more() {
    let test = TestBroker::open(MemoryStorage::new());
    test.broker.keep_audit(KEPT).await.expect("kept");
    let note = || Note::of(&ann("x"), AuditOutcome::Done, &[]);
    for _ in 0..101 {
        let notes = (0..100).map(|_| test.broker.write_note(note()));
        futures_util::future::try_join_all(notes).await.expect("written");
    }
    let query = AuditQuery { actor: Some("key:nobody".to_owned()), ..AuditQuery::default() };
    let page = test.broker.audit(&query).await.expect("kept");
    assert!(page.entries.is_empty() && page.has_more, "{page:?}");
    let rest = test.broker.audit(&AuditQuery { after: Some(page.next), ..query }).await.expect("kept");
    assert!(rest.entries.is_empty() && !rest.has_more, "{rest:?}");
}

#[tokio::test]
async fn what_changes_nothing_makes_no_entry() {
    let test = TestBroker::open(MemoryStorage::new());
    test.broker.keep_audit(KEPT).await.expect("kept");
    let broker = test.broker.acting(ann("x"));
    let (t, g) = (topic("t"), group("g"));
    broker.create_topic(&t, one_partition()).await.expect("made");
    broker.ensure_group(&t, &g, StartPosition::Earliest).await.expect("made");
    let before = entries(&test.broker).await.len();
    broker.create_topic(&t, one_partition()).await.expect("there");
    broker.ensure_group(&t, &g, StartPosition::Earliest).await.expect("there");
    broker.pause_group(&t, &g, false).await.expect("it is not paused");
    broker.update_topic(&t, TopicConfigChange::default()).await.expect("nothing changes");
    broker.discard(&t, &g, &DiscardRequest { all: true, ..DiscardRequest::default() }).await.expect("there are none");
    broker.produce(&t, vec![NewRecord::of("x")], None).await.expect("produced");
    let received = broker.receive(&t, &g, &ReceiveRequest::default()).await.expect("received").deliveries;
    assert!(broker.delete_topic(&topic("none")).await.is_err());
    assert_eq!(entries(&test.broker).await.len(), before);
    // And what does, one each, with what came of it.
    let receipts = received.iter().map(|delivery| delivery.receipt.clone()).collect();
    assert_eq!(received[0].record.text().as_deref(), Some("x"));
    broker.terminate(&t, &g, &TerminateRequest { receipts, reason: "bad".to_owned() }).await.expect("terminated");
    assert_eq!(entries(&test.broker).await.len(), before, "settling is a consumer's work");
    broker.discard(&t, &g, &DiscardRequest { all: true, ..DiscardRequest::default() }).await.expect("discarded");
    let seek = GroupSeek { position: Some(SeekPosition::Start), ..GroupSeek::default() };
    broker.seek_group(&t, &g, &seek).await.expect("moved");
    let results: Vec<String> = entries(&test.broker).await[before..]
        .iter()
        .filter_map(|entry| entry.result.as_ref())
        .map(|text| text.as_str().to_owned())
        .collect();
    assert_eq!(results, [r#"{"records":1}"#, r#"{"offset":0,"skipped":0,"again":1}"#]);
}

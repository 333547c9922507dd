//! Nodes that cannot take over at once: the log stops to answer in the middle of it, or the node is told to end.

use super::super::copy::CopyOf;
use super::super::hindered::{Call, Hindered};
use super::super::members::view::NodeState;
use super::super::tests::{SHARDS, active, join, parts, put, rows, settings, write};
use super::super::{Active, Lease, Status};
use super::*;
use crate::log::memory::{Flavour, MemoryLog};
use crate::log::{CommitLog as _, LogName};
use crate::node::BootClock;
use sagamq_broker::ids::ShardId;
use sagamq_broker::storage::Family;
use sagamq_broker::storage::memory::MemoryStorage;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// A node that is connected to the log by this one.
async fn join_over(hindered: Hindered, log: &MemoryLog, storage: &MemoryStorage, settings: NodeSettings) -> Standby {
    let parts = parts(log, storage, settings);
    let cluster = Cluster { log: Arc::new(hindered), ..parts.cluster };
    Standby::join(NodeParts { cluster, ..parts }).await.expect("it joins")
}

async fn takes_over(standby: &mut Standby) -> Active {
    let active = tokio::time::timeout(Duration::from_secs(60), standby.until_active()).await.expect("it takes over in the end");
    active.expect("the log can be read").expect("it is not to end")
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_could_not_claim_its_shards_in_time_takes_over_later_with_all_of_them() {
    let log = MemoryLog::new(Flavour::Conditional);
    let (own, others) = (MemoryStorage::new(), MemoryStorage::new());
    let one = active(&log, &own, "one").await;
    // From the moment that the term is claimed nothing is answered, until the node has given up what it could not claim.
    let is_deaf = AtomicBool::new(false);
    let gives_up = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&gives_up);
    let hindered = Hindered::new(&log, move |name, call| {
        let was_deaf = is_deaf.load(Ordering::Relaxed);
        if call.says("claims") && count.load(Ordering::Relaxed) == 0 {
            is_deaf.store(true, Ordering::Relaxed);
        }
        if was_deaf && call.says("resigned") {
            count.fetch_add(1, Ordering::Relaxed);
            is_deaf.store(false, Ordering::Relaxed);
        }
        was_deaf && (name == LogName::Members || matches!(call, Call::Append(_) | Call::Read | Call::Bounds | Call::Trim))
    });
    // Its lease is over soon, and so is what it waits for then.
    let brief = NodeSettings { lease: Duration::from_millis(400), claim_after: Duration::from_millis(500), ..settings("other") };
    let mut other = join_over(hindered, &log, &others, brief).await;
    write(&one, vec![put(0, "a", "1"), put(1, "b", "2")]).await.expect("written");
    one.end().await;
    let other = takes_over(&mut other).await;
    assert_eq!(gives_up.load(Ordering::Relaxed), 1, "the first attempt failed");
    assert_eq!(rows(&others), rows(&own), "it has what was committed before");
    write(&other, (0..SHARDS).map(|shard| put(shard, "c", "3")).collect()).await.expect("it has every shard");
    let third = MemoryStorage::new();
    join(&log, &third, "third").await;
    assert_eq!(rows(&third), rows(&others));
    other.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_read_for_a_claim_that_failed_is_folded_all_the_same() {
    let log = MemoryLog::new(Flavour::Conditional);
    let (own, others) = (MemoryStorage::new(), MemoryStorage::new());
    let one = active(&log, &own, "one").await;
    // The claim meets the commit, which is read, and is refused behind it.
    let mut appends = 0;
    let hindered = Hindered::new(&log, move |name, call| {
        appends += u32::from(name == LogName::Shard(0) && matches!(call, Call::Append(_)));
        appends == 2 && name == LogName::Shard(0) && matches!(call, Call::Append(_))
    });
    let standby = join(&log, &MemoryStorage::new(), "other").await;
    let cluster = Cluster { log: Arc::new(hindered), ..standby.cluster.clone() };
    let of = CopyOf { shard: 0, of: standby.of, me: standby.me.clone(), storage: Arc::new(others.clone()), cluster };
    let mut copy = of.open().await.expect("it opens");
    copy.follow().await.expect("the log answers");
    write(&one, vec![put(0, "a", "1")]).await.expect("written");
    let lease = Lease::new(Arc::new(BootClock), Duration::ZERO);
    copy.claim(&lease).await.expect_err("the log refuses the claim, and the lease is over");
    copy.follow().await.expect("the log answers");
    let found = others.get(Family::Saga, &ShardId(0).saga(b"a")).expect("memory");
    assert_eq!(found.as_deref(), Some(&b"1"[..]));
    one.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_refuses_claims_is_not_asked_again_and_again_without_a_pause() {
    let log = MemoryLog::new(Flavour::Conditional);
    let asked = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&asked);
    let hindered = Hindered::new(&log, move |name, call| {
        let is_claim = name != LogName::Members && matches!(call, Call::Append(_));
        count.fetch_add(u32::from(is_claim), Ordering::Relaxed);
        is_claim
    });
    let standby = join_over(hindered, &log, &MemoryStorage::new(), settings("one")).await;
    let lease = Lease::new(Arc::new(BootClock), Duration::from_secs(3_600));
    lease.renew(BootClock.now());
    let mut copy = standby.copies.into_iter().next().expect("it has shards");
    let claims = tokio::time::timeout(Duration::from_secs(3), copy.claim(&lease)).await;
    assert!(claims.is_err(), "nobody else has it, so it goes on: {claims:?}");
    // 20, 40, 80 and so on up to a second, in the place of 50 all the time.
    let asked = asked.load(Ordering::Relaxed);
    assert!((1..=12).contains(&asked), "{asked} claims");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_told_to_end_while_it_takes_over_gives_the_term_back() {
    let log = MemoryLog::new(Flavour::Conditional);
    let hindered = Hindered::new(&log, |name, call| name != LogName::Members && matches!(call, Call::Append(_)));
    let mut standby = join_over(hindered, &log, &MemoryStorage::new(), settings("one")).await;
    let mut shown = standby.shown();
    tokio::select! {
        _ = standby.until_active() => panic!("no shard can be claimed"),
        claimed = shown.wait_for(|shown| shown.term == 1) => drop(claimed.expect("it stands by")),
    }
    standby.leave().await;
    let status = Status::read(Arc::new(log.clone())).await.expect("memory");
    assert!(status.members.holder().is_some_and(|holder| holder.has_resigned), "{:?}", status.members);
    let last = log.bounds(LogName::Members).await.expect("memory").last;
    let mut other = join(&log, &MemoryStorage::new(), "other").await;
    takes_over(&mut other).await.end().await;
    let heartbeats = log.entries(LogName::Members).into_iter().filter(|entry| entry.pos > last);
    let texts: Vec<_> = heartbeats.map(|entry| String::from_utf8_lossy(&entry.bytes).into_owned()).collect();
    assert!(texts.iter().all(|text| text.contains("\"node\":\"other\"")), "the first one says nothing more: {texts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_ends_says_so_also_when_others_speak_at_the_same_time() {
    let log = MemoryLog::new(Flavour::Conditional);
    let one = active(&log, &MemoryStorage::new(), "one").await;
    let mut other = join(&log, &MemoryStorage::new(), "other").await;
    // It has said that it stands by, and then read nothing for some heartbeats.
    let stands_by = async {
        while !Status::read(Arc::new(log.clone())).await.expect("memory").members.nodes().contains_key("other") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        _ = other.until_active() => panic!("the active one lives"),
        () = stands_by => {}
    }
    let last = log.bounds(LogName::Members).await.expect("memory").last;
    while log.bounds(LogName::Members).await.expect("memory").last.0 < last.0 + 3 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    other.leave().await;
    let status = Status::read(Arc::new(log.clone())).await.expect("memory");
    assert_eq!(status.members.nodes()["other"].state, NodeState::Gone);
    one.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_that_cannot_be_read_does_not_stop_the_others() {
    let log = MemoryLog::new(Flavour::Conditional);
    let (own, others) = (MemoryStorage::new(), MemoryStorage::new());
    let one = active(&log, &own, "one").await;
    let is_deaf = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&is_deaf);
    let hindered = Hindered::new(&log, move |name, _| name == LogName::Shard(0) && flag.load(Ordering::Relaxed));
    let mut other = join_over(hindered, &log, &others, settings("other")).await;
    is_deaf.store(true, Ordering::Relaxed);
    write(&one, (0..SHARDS).map(|shard| put(shard, "a", "1")).collect()).await.expect("written");
    let folded = async {
        while rows(&others).len() < usize::from(SHARDS) - 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        _ = other.until_active() => panic!("the active one lives"),
        folded = tokio::time::timeout(Duration::from_secs(60), folded) => folded.expect("the others are folded"),
    }
    assert!(rows(&others).iter().all(|(_, key, _)| ShardId::of_key(key) != Some(ShardId(0))));
    one.end().await;
}

//! A crash at every write of a run of transactions: whatever is left behind, every transaction ends, and all of its branches end alike.

mod common;

use common::branches::{Kept, Say};
use common::shop::Shop;
use common::{LIMIT, Node};
use core::time::Duration;
use sagamq_api::transaction::{Outcome, TransactionState};
use sagamq_broker::storage::crash::{CrashStorage, FailedWrite};
use serde_json::json;
use std::sync::Arc;
use uuid::Uuid;

/// The call of a service that is answered otherwise the first time, and with which status.
type Mishap = Option<(&'static str, u16)>;

/// Orders with their definitions, and what the services say to one of their calls the first time. The orders of `alone` have one branch, which
/// commits without a vote.
const ORDERS: [(&str, &str, Mishap); 6] = [
    ("shop", "good", None),
    ("shop", "refused", Some(("sell", 409))),
    ("shop", "lost", Some(("charge", 500))),
    ("shop", "silent", Some(("commit", 503))),
    ("alone", "one", None),
    ("alone", "unheard", Some(("commit_one_phase", 503))),
];

/// Runs as far as the storage allows. True if every order was accepted and is at its end.
async fn run(storage: CrashStorage, shop: &Shop) -> bool {
    let Ok(node) = Node::open(Arc::new(storage)).await else { return false };
    let is_done = async {
        node.sagas.publish(&shop.text).await.ok()?;
        let alone = shop.clone().with("money.charge", "stock.charge").with("saga: shop", "saga: alone");
        node.sagas.publish(&alone.text).await.ok()?;
        for (saga, order, _) in ORDERS {
            let id = node.start(saga, json!({ "order": order })).await.ok()?.id;
            while !node.sagas.transaction(id).await.ok()?.summary.status.state.is_final() {
                if node.broker.writes_stopped().is_some() {
                    return None;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
        // After a failed write the storage may show what that write left behind and a power cut takes away: its outcome is unknown.
        node.broker.writes_stopped().is_none().then_some(())
    };
    let is_done = tokio::time::timeout(LIMIT, is_done).await.expect("every transaction ends, or a write fails").is_some();
    node.close().await;
    is_done
}

async fn check(storage: CrashStorage, shop: &Shop, case: &str) {
    let node = Node::open(Arc::new(storage)).await.expect("what a run left can be opened");
    for (saga, order, _) in ORDERS {
        let again = node.start(saga, json!({ "order": order })).await.expect("the key is known");
        assert!(again.duplicate, "{case}: {order} was started once");
        // What a power cut took of its end is told again.
        let ended = node.transaction(again.id, |transaction| transaction.summary.status.state.is_final()).await;
        let state = ended.summary.status.state;
        let (outcome, is_known) = node.decided(again.id).await;
        let expected = if state == TransactionState::Committed { Outcome::Committed } else { Outcome::RolledBack };
        assert_eq!((outcome, is_known), (expected, true), "{case}: {order}");
        // A service of which a power cut took that it was ever called is told nothing: it asks.
        for service in [&shop.stock, &shop.money] {
            if service.kept(again.id) == Some(Kept::Prepared) {
                service.keep(again.id, Some(if outcome == Outcome::Committed { Kept::Committed } else { Kept::RolledBack }));
            }
        }
        let ended_alike = |kept: Option<Kept>| match state {
            TransactionState::Committed => kept == Some(Kept::Committed) || (saga == "alone" && kept.is_none()),
            _ => kept != Some(Kept::Committed) && kept != Some(Kept::Prepared),
        };
        let id: Uuid = again.id;
        let kept = (shop.stock.kept(id), shop.money.kept(id));
        assert!(kept.0.is_some() || state == TransactionState::Aborted, "{case}: {order} is {state}, and was never called");
        assert!(ended_alike(kept.0) && ended_alike(kept.1), "{case}: {order} is {state}, and kept is {kept:?}");
    }
    node.close().await;
}

async fn shop() -> Shop {
    let shop = Shop::open().await;
    for (_, order, said) in ORDERS {
        if let Some((word, status)) = said {
            let service = if matches!(word, "sell" | "commit_one_phase") { &shop.stock } else { &shop.money };
            service.says_to(order, word, Say::After(status, json!({ "code": "AS_THE_TEST_ASKS" })));
        }
    }
    shop
}

#[derive(Clone, Copy, Debug)]
enum Restart {
    Kill,
    PowerCut,
}

async fn crash_at(write: u64, leaves: FailedWrite, restart: Restart) {
    let case = format!("write {write} leaves {leaves:?}, {restart:?}");
    let (storage, shop) = (CrashStorage::new(), shop().await);
    storage.fail_write(write, leaves);
    let is_done = run(storage.clone(), &shop).await;
    let left = match restart {
        Restart::Kill => storage.after_kill(),
        Restart::PowerCut => storage.after_power_cut(),
    };
    if !is_done {
        assert!(run(left.clone(), &shop).await, "{case}: after the restart everything comes to its end");
    }
    check(left, &shop, &case).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_crash_at_any_write_leaves_no_transaction_half_done() {
    let (storage, shop) = (CrashStorage::new(), shop().await);
    assert!(run(storage.clone(), &shop).await, "without a crash everything comes to its end");
    let writes = storage.writes();
    check(storage.after_power_cut(), &shop, "no crash").await;
    assert!(writes > 20, "there are writes to crash at: {writes}");
    let left_behind = [
        (FailedWrite::NothingApplied, Restart::PowerCut),
        (FailedWrite::Applied, Restart::Kill),
        (FailedWrite::AppliedNotSynced, Restart::PowerCut),
        (FailedWrite::AppliedNotSynced, Restart::Kill),
    ];
    let mut running = tokio::task::JoinSet::new();
    for write in 1..=writes {
        for (leaves, restart) in left_behind {
            if running.len() >= 8 {
                running.join_next().await.expect("one runs").expect("no case fails");
            }
            running.spawn(crash_at(write, leaves, restart));
        }
    }
    while let Some(case) = running.join_next().await {
        case.expect("no case fails");
    }
}

//! A crash at every write of a run of transactions: whatever is left behind, every transaction ends, and all of its branches end alike.

use crate::branches::{Kept, Say};
use crate::common::Node;
use crate::common::stage::{ALL_LEFT, Play, at_every_write};
use crate::shop::Shop;
use core::time::Duration;
use sagamq_api::transaction::{Outcome, TransactionState};
use serde_json::json;
use tokio_util::sync::CancellationToken;
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

impl Play for Shop {
    async fn run(&self, node: &Node, _: &CancellationToken) -> Option<()> {
        node.sagas.publish(&self.text).await.ok()?;
        let alone = self.clone().with("money.charge", "stock.charge").with("saga: shop", "saga: alone");
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
        Some(())
    }

    async fn check(&self, node: &Node, case: &str) {
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
            for service in [&self.stock, &self.money] {
                if service.kept(again.id) == Some(Kept::Prepared) {
                    service.keep(again.id, Some(if outcome == Outcome::Committed { Kept::Committed } else { Kept::RolledBack }));
                }
            }
            let ended_alike = |kept: Option<Kept>| match state {
                TransactionState::Committed => kept == Some(Kept::Committed) || (saga == "alone" && kept.is_none()),
                _ => kept != Some(Kept::Committed) && kept != Some(Kept::Prepared),
            };
            let id: Uuid = again.id;
            let kept = (self.stock.kept(id), self.money.kept(id));
            assert!(kept.0.is_some() || state == TransactionState::Aborted, "{case}: {order} is {state}, and was never called");
            assert!(ended_alike(kept.0) && ended_alike(kept.1), "{case}: {order} is {state}, and kept is {kept:?}");
        }
    }
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

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_crash_at_any_write_leaves_no_transaction_half_done() {
    at_every_write(shop, 21, |_| ALL_LEFT).await;
}

//! A shop whose orders are run in two phases by two services.

use crate::branches::Service;
use crate::common::{LIMIT, Node};
use core::time::Duration;
use sagamq_api::saga::SagaState;
use sagamq_api::transaction::{Outcome, TransactionDescription};
use sagamq_broker::storage::Storage;
use serde_json::json;
use std::sync::Arc;
use uuid::Uuid;

/// The services, and the text of the definition that calls them.
#[derive(Clone, Debug)]
pub(crate) struct Shop {
    pub(crate) stock: Service,
    pub(crate) money: Service,
    pub(crate) text: String,
}

impl Shop {
    /// Services at addresses of their own.
    pub(crate) async fn open() -> Self {
        let (stock, money) = (Service::default(), Service::default());
        let text = definition(&stock.serve(0).await, &money.serve(0).await);
        Self { stock, money, text }
    }

    /// The same with other text in the definition.
    pub(crate) fn with(mut self, from: &str, to: &str) -> Self {
        assert!(self.text.contains(from), "{from} is in {}", self.text);
        self.text = self.text.replace(from, to);
        self
    }

    /// A node on the storage, which has the definition.
    pub(crate) async fn node(&self, storage: Arc<dyn Storage>) -> Node {
        let node = Node::open(storage).await.expect("it opens");
        node.sagas.publish(&self.text).await.expect("legal");
        node
    }
}

fn definition(stock: &str, money: &str) -> String {
    format!(
        r#"
saga: shop
version: 1
mode: 2pc
key: ${{ input.order }}
timeout: 50s
defaults:
  timeout: 20s
  retry: {{ initial: 5ms, factor: 2, max: 20ms }}
  compensate_retry: {{ initial: 5ms, factor: 2, max: 20ms, attempts: 5 }}
services:
  stock: {{ http: "{stock}" }}
  money: {{ http: "{money}" }}
steps:
  - id: reserve
    call: stock.reserve
    with: {{ order: "${{ input.order }}" }}
  - id: charge
    call: money.charge
    with: {{ order: "${{ input.order }}" }}
  - id: sell
    call: stock.sell
    with: {{ by: "${{ steps.charge.output.by }}" }}
output: {{ sold: "${{ steps.sell.output.by }}" }}
"#
    )
}

impl Node {
    /// Starts an order.
    pub(crate) async fn order(&self, order: &str) -> Uuid {
        self.start("shop", json!({ "order": order })).await.expect("started").id
    }

    /// Waits until a transaction is as wanted.
    pub(crate) async fn transaction(&self, id: Uuid, wanted: impl Fn(&TransactionDescription) -> bool) -> TransactionDescription {
        let waited = tokio::time::timeout(LIMIT, async {
            loop {
                let transaction = self.sagas.transaction(id).await.expect("the transaction is there");
                if wanted(&transaction) {
                    return transaction;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        });
        match waited.await {
            Ok(transaction) => transaction,
            Err(_) => panic!("the transaction does not get there: {:?}", self.sagas.transaction(id).await),
        }
    }

    /// Waits until a transaction is at its end, or an operator has to look.
    pub(crate) async fn ended(&self, id: Uuid) -> TransactionDescription {
        self.transaction(id, |transaction| {
            transaction.summary.status.state.is_final() || transaction.summary.saga_state == SagaState::Blocked
        })
        .await
    }

    /// What a participant of this node's data is told.
    pub(crate) async fn decided(&self, id: Uuid) -> (Outcome, bool) {
        let told = self.sagas.outcome(id, self.broker.cluster()).await.expect("it can be said");
        (told.outcome, told.known)
    }
}

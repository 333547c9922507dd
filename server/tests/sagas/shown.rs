//! What services are shown in two phases: actions, votes and decisions alike, also where a worker has the branch; and whom an answer may name.

use crate::branches::Say;
use crate::common::{LIMIT, Node};
use crate::shop::Shop;
use core::time::Duration;
use sagamq_api::audit::AuditQuery;
use sagamq_api::saga::HistoryQuery;
use sagamq_api::service::PutService;
use sagamq_api::transaction::TransactionState;
use sagamq_broker::audit::Act;
use sagamq_broker::env::SystemClock;
use sagamq_broker::storage::crash::CrashStorage;
use sagamq_saga::{OrchestratorConfig, SecretSource, SecretText};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// A node that has a secret.
async fn with_secret(shop: &Shop) -> Node {
    let environment = BTreeMap::from([("TOKEN".to_owned(), SecretText::new(b"of-the-stock"))]);
    let config = OrchestratorConfig { secrets: SecretSource { directory: None, environment }, ..OrchestratorConfig::default() };
    let node = Node::open_with(Arc::new(CrashStorage::new()), Arc::new(SystemClock), config).await.expect("it opens");
    node.sagas.publish(&shop.text).await.expect("legal");
    node
}

/// From now on calls to the service `stock`, which is at this address, show it.
async fn show_at(node: &Node, url: String) {
    let headers = BTreeMap::from([("authorization".to_owned(), "Bearer ${secret:token}".to_owned())]);
    let service = PutService { endpoints: vec![url], headers, ..PutService::default() };
    node.sagas.put_service("stock".parse().expect("legal"), service).await.expect("legal");
}

/// A node whose service `stock` is shown a secret.
async fn open(shop: &Shop) -> Node {
    let node = with_secret(shop).await;
    show_at(&node, shop.stock.serve(0).await).await;
    node
}

#[tokio::test]
async fn what_is_set_later_is_not_shown_to_a_worker_that_a_definition_led_to() {
    let shop = Shop::open().await;
    let node = with_secret(&shop).await;
    let (worker, gate) = (shop.stock.serve(1).await, Arc::new(Semaphore::new(0)));
    shop.stock.says("reserve", Say::At(worker));
    shop.money.says("charge", Say::Held(Arc::clone(&gate)));
    let id = node.order("1").await;
    node.transaction(id, |_| !shop.money.calls().is_empty()).await;
    show_at(&node, shop.stock.serve(2).await).await;
    gate.add_permits(1);
    assert_eq!(node.ended(id).await.summary.status.state, TransactionState::Committed);
    let workers: Vec<usize> = shop.stock.calls().iter().map(|(worker, _)| *worker).collect();
    assert_eq!((workers, shop.stock.shown()), (vec![0, 1, 1, 1], vec![String::new(); 4]), "it is the branch's, and not the operator's");
    let after = node.order("2").await;
    assert_eq!(node.ended(after).await.summary.status.state, TransactionState::Committed);
    assert_eq!(shop.stock.shown()[4..], ["Bearer of-the-stock"; 4], "what begins there is shown it");
    node.close().await;
}

#[tokio::test]
async fn votes_and_decisions_are_shown_what_actions_are_also_at_the_worker_that_has_the_branch() {
    let shop = Shop::open().await;
    let node = open(&shop).await;
    let worker = shop.stock.serve(1).await;
    shop.stock.says("reserve", Say::At(worker));
    let id = node.order("1").await;
    assert_eq!(node.ended(id).await.summary.status.state, TransactionState::Committed);
    let workers: Vec<usize> = shop.stock.calls().iter().map(|(worker, _)| *worker).collect();
    assert_eq!((shop.stock.words(id), workers), (["reserve", "sell", "prepare", "commit"].map(str::to_owned).to_vec(), vec![0, 1, 1, 1]));
    assert_eq!(shop.stock.shown(), ["Bearer of-the-stock"; 4]);
    assert!(shop.money.shown().iter().all(String::is_empty), "the other service is shown nothing: {:?}", shop.money.shown());
    node.close().await;
}

#[tokio::test]
async fn a_worker_is_not_where_its_secret_could_be_read_on_its_way() {
    let shop = Shop::open().await;
    let node = open(&shop).await;
    // Nobody is there: with another reason the transaction would not say this one.
    shop.stock.says("reserve", Say::At("http://192.0.2.1:9".to_owned()));
    let done = node.ended(node.order("1").await).await;
    let why = done.summary.failure.as_ref().map_or("", |failure| failure.code.as_str());
    assert_eq!((done.summary.status.state, why), (TransactionState::Aborted, "SECRET_UNAVAILABLE"), "{done:?}");
    node.close().await;
}

#[tokio::test]
async fn an_address_that_repeats_the_secret_is_none_and_is_not_kept() {
    let shop = Shop::open().await;
    let node = open(&shop).await;
    let worker = shop.stock.serve(1).await;
    shop.stock.says("reserve", Say::At(format!("{worker}/2pc/of-the-stock")));
    let id = node.order("1").await;
    let done = node.ended(id).await;
    let why = done.summary.failure.as_ref().map_or("", |failure| failure.code.as_str());
    assert_eq!((done.summary.status.state, why), (TransactionState::Aborted, "BRANCH_ADDRESS_INVALID"), "{done:?}");
    let history = node.sagas.history(id, HistoryQuery::default()).await.expect("it has one");
    assert!(!format!("{done:?}{history:?}").contains("of-the-stock"), "{done:?}\n{history:?}");
    node.close().await;
}

/// A worker was named while nothing was shown to its service; that it may be reached in the clear is asked again when something is.
#[tokio::test]
async fn what_is_set_later_is_not_shown_to_a_worker_in_the_clear() {
    let shop = Shop::open().await;
    let node = with_secret(&shop).await;
    let put = PutService { endpoints: vec![shop.stock.serve(0).await], ..PutService::default() };
    node.sagas.put_service("stock".parse().expect("legal"), put).await.expect("legal");
    let gate = Arc::new(Semaphore::new(0));
    // Nobody is there: with another reason the call would not be sent for that one.
    shop.stock.says("reserve", Say::At("http://192.0.2.1:9".to_owned()));
    shop.money.says("charge", Say::Held(Arc::clone(&gate)));
    let id = node.order("1").await;
    node.transaction(id, |_| !shop.money.calls().is_empty()).await;
    show_at(&node, shop.stock.serve(2).await).await;
    gate.add_permits(1);
    let not_sent = async {
        loop {
            let history = node.sagas.history(id, HistoryQuery::default()).await.expect("it has one");
            if let Some(event) = history.events.iter().find(|event| event.r#type == "call_not_sent") {
                return event.data.to_value()["failure"]["code"].clone();
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    assert_eq!(tokio::time::timeout(LIMIT, not_sent).await.expect("it is told"), "SECRET_UNAVAILABLE");
    node.close().await;
}

/// Headers that have no secret are for the service alone all the same: who they are shown to stands in the log, and not what they say.
#[tokio::test]
async fn the_audit_log_names_headers_and_says_nothing_of_what_is_in_them() {
    let shop = Shop::open().await;
    let node = with_secret(&shop).await;
    node.broker.keep_audit(Duration::from_secs(86_400)).await.expect("it is kept");
    let operator = node.sagas.acting(Act::of_request("key:ann".to_owned(), "service.set", None, None));
    for value in ["shop-7f3a", "shop-99b0"] {
        let headers = BTreeMap::from([("x-team".to_owned(), value.to_owned())]);
        let service = PutService { endpoints: vec!["https://stock.example".to_owned()], headers, ..PutService::default() };
        operator.put_service("stock".parse().expect("legal"), service).await.expect("legal");
    }
    operator.delete_service("stock".parse().expect("legal")).await.expect("it is there");
    let told = node.broker.audit(&AuditQuery { on: Some("service=stock".to_owned()), ..AuditQuery::default() }).await.expect("it is kept");
    let text = format!("{:?}", told.entries);
    assert!(told.entries.len() == 3 && text.contains("x-team") && text.contains("https://stock.example"), "{text}");
    assert!(!text.contains("shop-7f3a") && !text.contains("shop-99b0"), "{text}");
    node.close().await;
}

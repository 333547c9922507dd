//! Bulk repair over real processes: ten thousand blocked sagas, and the server killed in the middle.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use sagamq_api::repair::{PreviewQuery, RepairDescription, RepairFilter, RepairOutcome, RepairResultsQuery, RepairState, StartRepair};
use sagamq_api::saga::{OperateSaga, SagaState, SagaVerb, StartSaga};
use sagamq_sdk::{Client, RetryPolicy};
use sagamq_tests::ServerProcess;
use serde_json::{Value, json};
use std::collections::{BTreeSet, HashMap};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Longest time for anything here: generous, because this is no test of speed.
const PATIENCE: Duration = Duration::from_secs(600);

const SAGAS: u64 = 10_000;

/// Starts that are under way at a time.
const STARTERS: u64 = 32;

/// A service whose refunds are refused as long as it is down; it keeps which attempts of a refund each order has seen.
#[derive(Clone, Debug, Default)]
struct Bank(Arc<Mutex<Books>>);

#[derive(Debug, Default)]
struct Books {
    is_up: bool,
    refunds: HashMap<String, BTreeSet<u64>>,
}

async fn answer(State(bank): State<Bank>, Path(operation): Path<String>, Json(call): Json<Value>) -> (StatusCode, Json<Value>) {
    let mut books = bank.0.lock().expect("no panic while it is held");
    let refused = |code: &str| (StatusCode::CONFLICT, Json(json!({ "code": code, "message": "" })));
    match operation.as_str() {
        "refund" => {
            let key = call["key"].as_str().expect("a call names its key").to_owned();
            let epoch = call["epoch"].as_u64().expect("a call names its attempt");
            books.refunds.entry(key).or_default().insert(epoch);
            if books.is_up { (StatusCode::OK, Json(json!({}))) } else { refused("BANK_DOWN") }
        }
        "ship" => refused("NO_STOCK"),
        _ => (StatusCode::OK, Json(json!({}))),
    }
}

impl Bank {
    async fn serve(&self) -> String {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let routes = Router::new().route("/{operation}", post(answer)).with_state(self.clone());
        tokio::spawn(async { axum::serve(listener, routes).await.expect("it serves") });
        format!("http://{address}")
    }

    fn is_up(&self) {
        self.0.lock().expect("no panic while it is held").is_up = true;
    }

    /// How many orders have seen so many different attempts of their refund.
    fn orders_by_attempts(&self) -> HashMap<usize, usize> {
        let books = self.0.lock().expect("no panic while it is held");
        let mut counts = HashMap::new();
        for attempts in books.refunds.values() {
            *counts.entry(attempts.len()).or_default() += 1;
        }
        counts
    }
}

/// Starts all sagas and waits until each is blocked.
async fn blocked(client: &Client, bank: &str) {
    let definition = format!(
        "saga: order\nversion: 1\nkey: ${{ input.id }}\nservices: {{ bank: {{ http: \"{bank}\" }} }}\n\
         defaults:\n  compensate_retry: {{ initial: 1ms, max: 1ms, attempts: 1 }}\n\
         steps:\n  - {{ id: charge, call: bank.charge, compensate: bank.refund }}\n  - {{ id: ship, call: bank.ship, compensate: none }}\n"
    );
    client.sagas().publish(&definition).await.expect("published");
    let starters = (0..STARTERS).map(|starter| {
        let client = client.clone();
        tokio::spawn(async move {
            for id in (starter..SAGAS).step_by(usize::try_from(STARTERS).expect("small")) {
                let input = json!({ "id": format!("order-{id}") }).into();
                let start = StartSaga { saga: "order".parse().expect("legal"), version: None, mode: None, input };
                let saga = client.sagas().start(&start).await.expect("started").id;
                while client.sagas().get(saga).await.expect("it is there").summary.state != SagaState::Blocked {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        })
    });
    for starter in starters.collect::<Vec<_>>() {
        starter.await.expect("no panic");
    }
}

async fn until(client: &Client, id: uuid::Uuid, wanted: impl Fn(&RepairDescription) -> bool) -> RepairDescription {
    let waited = tokio::time::timeout(PATIENCE, async {
        loop {
            let repair = client.repairs().get(id).await.expect("it is there");
            if wanted(&repair) {
                return repair;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    waited.await.expect("the repair gets there in time")
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_blocked_sagas_are_repaired_over_kills_each_once_and_with_a_truthful_result() {
    let mut server = ServerProcess::start().await;
    let patient = RetryPolicy { attempts: 1000, deadline: Duration::from_secs(100), ..RetryPolicy::default() };
    let client = server.client().with_retry(patient);
    let bank = Bank::default();
    blocked(&client, &bank.serve().await).await;
    assert_eq!(bank.orders_by_attempts(), HashMap::from([(1, 10_000)]));
    bank.is_up();
    let operate = OperateSaga {
        verb: SagaVerb::Retry { item: None, step: None },
        reason: Some("the bank is back".to_owned()),
        actor: Some("ann".to_owned()),
    };
    let request = StartRepair {
        key: Some("bank outage".to_owned()),
        filter: Some(RepairFilter { state: Some(SagaState::Blocked), failure: Some("BANK_DOWN".to_owned()), ..RepairFilter::default() }),
        ids: None,
        operate,
        rate: Some(10_000),
        max_sagas: None,
        patience_ms: Some(600_000),
    };
    let preview = client.repairs().preview(&request, &PreviewQuery { limit: Some(5) }).await.expect("shown");
    assert_eq!((preview.sagas.len(), preview.has_more), (5, true));
    assert_eq!(bank.orders_by_attempts(), HashMap::from([(1, 10_000)]), "a preview calls nobody");
    let id = client.repairs().start(&request).await.expect("started").repair.id;
    for part in 1..=3 {
        until(&client, id, |repair| repair.results.sum() >= SAGAS * part / 5).await;
        server.kill();
        server.restart().await;
    }
    assert!(client.repairs().start(&request).await.expect("answered").duplicate, "the key stands for the one repair");
    let ended = until(&client, id, |repair| repair.state.is_final()).await;
    assert_eq!((ended.state, ended.found, ended.results.done), (RepairState::Done, SAGAS, SAGAS), "{ended:?}");
    let (mut sagas, mut query) = (BTreeSet::new(), RepairResultsQuery { limit: Some(1_000), ..RepairResultsQuery::default() });
    loop {
        let page = client.repairs().results(id, &query).await.expect("a page");
        for result in page.results {
            assert_eq!((result.repaired.outcome, result.repaired.state), (RepairOutcome::Done, Some(SagaState::Compensated)));
            assert!(sagas.insert(result.saga), "{} has one result", result.saga);
        }
        query.after = page.next;
        if query.after.is_none() {
            break;
        }
    }
    assert_eq!(sagas.len(), 10_000);
    assert_eq!(bank.orders_by_attempts(), HashMap::from([(2, 10_000)]), "each was told once: one attempt more");
}

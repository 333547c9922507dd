//! Why an instance does not move, what is wrong now, and a history in pages.

use crate::common::{LIMIT, Node, ORDER, refused, reply_to, succeeded};
use sagamq_api::saga::{
    CallOutcome, Failure, HistoryQuery, IncidentQuery, Operation, SagaDescription, SagaQuery, SagaState, WaitCode, Waits,
};
use sagamq_broker::storage::crash::CrashStorage;
use sagamq_saga::HistoryError;
use serde_json::json;
use std::sync::Arc;
use uuid::Uuid;

/// As [`ORDER`], but no attempt and no saga is given up while a test looks.
fn patient() -> String {
    ORDER.replace("timeout: 2s", "timeout: 30m").replace("timeout: 1m", "timeout: 7d")
}

async fn open(text: &str) -> Node {
    let node = Node::open(Arc::new(CrashStorage::new())).await.expect("it opens");
    node.sagas.publish(text).await.expect("a legal definition");
    node
}

async fn start(node: &Node, order: &str) -> Uuid {
    node.start("order", json!({"order": order, "behave": ""})).await.expect("started").id
}

async fn waits(node: &Node, id: Uuid) -> Waits {
    let saga = node.sagas.get(id).await.expect("it is there");
    let shown = saga.summary.waits.expect("it is not at its end");
    let rows = node.sagas.list(SagaQuery { state: Some(saga.summary.state), ..SagaQuery::default() }).await.expect("a page").sagas;
    let row = rows.into_iter().find(|row| row.id == id).expect("it is listed");
    assert_eq!(row.waits.as_ref(), Some(&shown), "a listing says the same");
    shown
}

/// Waits until the reason has this code.
async fn until(node: &Node, id: Uuid, code: WaitCode) -> Waits {
    let is_so = |saga: &SagaDescription| saga.summary.waits.as_ref().is_some_and(|waits| waits.code == code);
    node.until(id, is_so).await;
    waits(node, id).await
}

fn unknown(code: &str) -> CallOutcome {
    CallOutcome::Unknown { failure: Failure { code: code.to_owned(), message: "nobody knows".to_owned() }, retry_after_ms: None }
}

#[tokio::test]
async fn a_saga_says_why_it_does_not_move_at_every_place_of_a_call() {
    let node = open(&patient()).await;
    let id = start(&node, "1").await;
    let queued = waits(&node, id).await;
    assert_eq!((queued.code, queued.attempt, queued.operation), (WaitCode::InQueue, Some(1), Some(Operation::Action)));
    assert!(queued.message.contains("`reserve` lies in its queue since 20"), "{}", queued.message);
    let (call, _) = node.next_command("stock.commands").await;
    let called = waits(&node, id).await;
    assert_eq!(called.code, WaitCode::Called);
    assert_eq!(called.next_at_ms, called.since_ms.map(|since_ms| since_ms + 30 * 60_000), "the time of its run begins with the hand-out");
    node.sagas.complete(reply_to(&call, CallOutcome::Ongoing { retry_after_ms: None })).await.expect("taken");
    assert_eq!(waits(&node, id).await.code, WaitCode::ParticipantWorks);
    let failure = Failure { code: "LOST".to_owned(), message: "nobody knows".to_owned() };
    let later = CallOutcome::Unknown { failure, retry_after_ms: Some(600_000) };
    node.sagas.complete(reply_to(&call, later)).await.expect("taken");
    let retry = waits(&node, id).await;
    assert_eq!((retry.code, retry.attempt), (WaitCode::RetryWaits, Some(1)));
    assert_eq!(retry.failure.as_ref().map(|failure| failure.code.as_str()), Some("LOST"));
    assert!(retry.message.contains("for attempt 2") && retry.message.contains("LOST"), "{}", retry.message);
    let saga = node.sagas.get(id).await.expect("it is there");
    assert_eq!(retry.next_at_ms, saga.steps[0].due_at_ms, "the next try");
    assert_eq!(saga.steps[0].waits, Some(retry));
    assert_eq!(saga.steps[1].waits, None, "its turn has not come");
    // One failed attempt is no incident yet.
    assert!(node.sagas.incidents(IncidentQuery::default()).await.expect("told").incidents.is_empty());
    node.close().await;
}

#[tokio::test]
async fn what_is_at_its_end_waits_for_nothing() {
    let node = open(ORDER).await;
    let id = start(&node, "1").await;
    let (call, _) = node.next_command("stock.commands").await;
    node.sagas.complete(reply_to(&call, refused())).await.expect("taken");
    let saga = node.at_rest(id).await;
    assert_eq!((saga.summary.state, saga.summary.waits), (SagaState::Failed, None));
    node.close().await;
}

#[tokio::test]
async fn a_participant_that_cannot_be_reached_is_said_and_is_an_incident() {
    // Bound, so that nobody else gets the port, and not listening.
    let held = tokio::net::TcpSocket::new_v4().expect("a socket");
    held.bind("127.0.0.1:0".parse().expect("an address")).expect("a port");
    let unreachable = held.local_addr().expect("it has an address");
    let text = patient().replace("stock: { topic: stock.commands }", &format!("stock: {{ http: \"http://{unreachable}\" }}"));
    let node = open(&text).await;
    let id = start(&node, "1").await;
    let said = until(&node, id, WaitCode::ParticipantUnreachable).await;
    assert!(said.message.contains("cannot reach the participant") && said.since_ms.is_some(), "{said:?}");
    let incidents = node.sagas.incidents(IncidentQuery::default()).await.expect("told");
    let [incident] = &incidents.incidents[..] else { panic!("{incidents:?}") };
    let step = incident.step.as_ref().map(ToString::to_string);
    assert_eq!((incident.count, incident.blocked, step.as_deref()), (1, 0, Some("reserve")));
    assert_eq!((Some(incident.oldest_since_ms), incident.examples.as_slice()), (said.since_ms, [id].as_slice()));
    node.close().await;
}

#[tokio::test]
async fn incidents_are_what_is_blocked_and_what_is_tried_again_and_again() {
    let text = patient().replace("attempts: 50", "attempts: 1");
    let node = open(&text).await;
    // Two whose compensation does not come about.
    let mut blocked = Vec::new();
    for order in ["1", "2"] {
        let id = start(&node, order).await;
        let (call, _) = node.next_command("stock.commands").await;
        node.sagas.complete(reply_to(&call, succeeded())).await.expect("taken");
        let (call, _) = node.next_command("money.commands").await;
        node.sagas.complete(reply_to(&call, refused())).await.expect("taken");
        let (call, _) = node.next_command("stock.commands").await;
        assert_eq!(call.attempt.operation, Operation::Compensation);
        node.sagas.complete(reply_to(&call, unknown("STOCK_DOWN"))).await.expect("taken");
        assert_eq!(node.at_rest(id).await.summary.state, SagaState::Blocked);
        blocked.push(id);
    }
    let said = waits(&node, blocked[0]).await;
    assert_eq!((said.code, said.next_at_ms), (WaitCode::Blocked, None));
    assert!(said.message.contains("compensation of `reserve`") && said.message.contains("STOCK_DOWN"), "{}", said.message);
    // One that is tried on.
    let retrying = start(&node, "3").await;
    for _ in 0..3 {
        let (call, _) = node.next_command("stock.commands").await;
        node.sagas.complete(reply_to(&call, unknown("SLOW"))).await.expect("taken");
    }
    let (_, _) = node.next_command("stock.commands").await;
    let list = node.sagas.incidents(IncidentQuery::default()).await.expect("told");
    assert_eq!((list.instances, list.left_out, list.quarantined), (3, 0, 0));
    let [stuck, slow] = &list.incidents[..] else { panic!("{list:?}") };
    assert_eq!((stuck.code.as_str(), stuck.count, stuck.blocked, stuck.operation), ("STOCK_DOWN", 2, 2, Some(Operation::Compensation)));
    assert_eq!((slow.code.as_str(), slow.count, slow.blocked, slow.operation), ("SLOW", 1, 0, Some(Operation::Action)));
    assert_eq!((slow.examples.as_slice(), slow.version), ([retrying].as_slice(), 1));
    assert!(stuck.oldest_since_ms <= stuck.newest_since_ms && stuck.oldest_age_ms >= stuck.newest_age_ms);
    let mut examples = stuck.examples.clone();
    examples.sort();
    blocked.sort();
    assert_eq!(examples, blocked);
    let one = node.sagas.incidents(IncidentQuery { limit: Some(1), ..IncidentQuery::default() }).await.expect("told");
    assert_eq!((one.incidents.len(), one.left_out, one.instances), (1, 1, 3));
    let other = IncidentQuery { saga: Some("return".parse().expect("legal")), ..IncidentQuery::default() };
    assert!(node.sagas.incidents(other).await.expect("told").incidents.is_empty());
    assert!(node.sagas.incidents(IncidentQuery { limit: Some(0), ..IncidentQuery::default() }).await.is_err());
    node.close().await;
}

#[tokio::test]
async fn a_history_comes_in_pages() {
    let node = open(ORDER).await;
    let id = start(&node, "1").await;
    let (call, _) = node.next_command("stock.commands").await;
    node.sagas.complete(reply_to(&call, refused())).await.expect("taken");
    tokio::time::timeout(LIMIT, node.at_rest(id)).await.expect("it ends");
    let whole = node.sagas.history(id, HistoryQuery::default()).await.expect("it has one");
    assert!(whole.events.len() > 3 && whole.next.is_none());
    let (mut query, mut events) = (HistoryQuery { after: None, limit: Some(2) }, Vec::new());
    loop {
        let page = node.sagas.history(id, query).await.expect("a page");
        assert!(page.events.len() <= 2);
        events.extend(page.events);
        query.after = page.next;
        if query.after.is_none() {
            break;
        }
    }
    assert_eq!(events, whole.events);
    let behind = HistoryQuery { after: Some(1_000), limit: None };
    assert_eq!(node.sagas.history(id, behind).await.expect("nothing is there yet").events, []);
    for limit in [0, 1_001] {
        let query = HistoryQuery { after: None, limit: Some(limit) };
        assert!(matches!(node.sagas.history(id, query).await, Err(HistoryError::Limit(found)) if found == limit));
    }
    let nobody = node.sagas.history(Uuid::from_u128(1), HistoryQuery::default()).await;
    assert!(matches!(nobody, Err(HistoryError::Instance(_))), "{nobody:?}");
    node.close().await;
}

//! One request: retries, keys, codes, unknown outcomes.

use crate::support::{Answer, Server, nobody, quick, soon};
use sagamq_sdk::api::batch::{NewBatch, Record, frame};
use sagamq_sdk::api::headers::APPLICATION_DELIVERIES;
use sagamq_sdk::api::queue::{DeadLetterQuery, DiscardRequest, Lease, LeasesHead, ReceiveRequest, RedriveRequest, write_head};
use sagamq_sdk::api::record::ProduceRecord;
use sagamq_sdk::api::topic::{ReadQuery, TopicConfig, TopicConfigChange};
use sagamq_sdk::api::{ErrorCode, Offset, PartitionId, TopicName};
use sagamq_sdk::{Client, ClientError, RetryPolicy};
use serde_json::json;
use std::time::Duration;

fn topic() -> TopicName {
    "orders".parse().expect("legal")
}

fn stored() -> Answer {
    Answer::Json(200, json!({"records": [{"partition": 1, "offset": 7, "timestamp_ms": 5, "duplicate": false}]}))
}

#[tokio::test]
async fn a_retried_produce_is_the_same_request_with_the_same_key() {
    let server =
        Server::with_answers(vec![Answer::Break, Answer::Problem(ErrorCode::Overloaded), Answer::Text(502, "<html>"), stored()]).await;
    let places = soon(server.client().produce(&topic(), vec![ProduceRecord::text("a")], None)).await.expect("stored at last");
    assert_eq!((places[0].partition, places[0].offset), (PartitionId(1), Some(Offset(7))));

    let seen = server.seen();
    assert_eq!(seen.len(), 4);
    assert_eq!((seen[0].method.as_str(), seen[0].path.as_str()), ("POST", "/v1/topics/orders/records"));
    assert!(!seen[0].header("idempotency-key").is_empty(), "the client draws a key");
    for again in &seen {
        assert_eq!(again.header("idempotency-key"), seen[0].header("idempotency-key"));
        assert_eq!(again.header("x-request-id"), seen[0].header("x-request-id"));
        assert_eq!(again.text, seen[0].text);
    }
    soon(server.client().produce(&topic(), vec![ProduceRecord::text("a")], None)).await.expect("stored");
    assert_ne!(server.seen()[4].header("idempotency-key"), seen[0].header("idempotency-key"), "another produce, another key");
}

#[tokio::test]
async fn of_several_servers_the_one_that_serves_is_asked_with_the_same_request() {
    let (_held, gone) = nobody();
    let ending = Server::with_answers(vec![Answer::RetryAfter(ErrorCode::ShuttingDown, "3600")]).await;
    let serving = Server::with_answers(vec![stored(), stored()]).await;
    let servers = format!("{gone},{},{}", ending.url, serving.url);
    let client = Client::builder(&servers).retry(quick(4)).build().expect("addresses");
    assert_eq!(client.url(), gone);
    soon(client.produce(&topic(), vec![ProduceRecord::text("a")], None)).await.expect("stored at last");
    assert_eq!(client.url(), serving.url);
    let (refused, taken) = (ending.seen(), serving.seen());
    assert_eq!((refused.len(), taken.len()), (1, 1));
    assert_eq!(refused[0].header("idempotency-key"), taken[0].header("idempotency-key"));
    assert_eq!(refused[0].text, taken[0].text);
    soon(client.produce(&topic(), vec![ProduceRecord::text("b")], None)).await.expect("stored");
    assert_eq!((ending.seen().len(), serving.seen().len()), (1, 2), "whoever serves is asked first from then on");
}

#[tokio::test]
async fn a_topic_s_configuration_is_changed_by_what_is_named() {
    let described = json!({"name": "orders", "config": {"retention_ms": 0}, "created_at_ms": 1, "partitions": []});
    let server = Server::with_answers(vec![Answer::Break, Answer::Json(200, described)]).await;
    let change = TopicConfigChange { retention_ms: Some(0), ..TopicConfigChange::default() };
    let topic = soon(server.client().update_topic(&topic(), change)).await.expect("changed at last");
    assert_eq!(topic.config.retention_ms, 0);
    for seen in server.seen() {
        assert_eq!((seen.method.as_str(), seen.path.as_str()), ("PATCH", "/v1/topics/orders"));
        assert_eq!(seen.json, json!({"config": {"retention_ms": 0}}));
    }
}

#[tokio::test]
async fn the_caller_s_key_is_sent_and_one_that_cannot_be_a_header_is_refused_before_anything_is_sent() {
    let server = Server::with_answers(vec![stored()]).await;
    soon(server.client().produce(&topic(), vec![ProduceRecord::text("a")], Some("order-1"))).await.expect("stored");
    assert_eq!(server.seen()[0].header("idempotency-key"), "order-1");
    let error = soon(server.client().produce(&topic(), vec![ProduceRecord::text("a")], Some("a\nb"))).await.expect_err("no header");
    assert!(matches!(error, ClientError::InvalidRequest { .. }), "{error}");
    assert!(!error.is_outcome_unknown() && !error.is_retryable());
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn records_with_keys_of_their_own_keep_them_and_the_others_get_one_that_stays() {
    let server = Server::with_answers(vec![Answer::Break, stored()]).await;
    let records = vec![ProduceRecord::text("a").with_idempotency_key("mine"), ProduceRecord::text("b")];
    soon(server.client().produce(&topic(), records, None)).await.expect("stored");
    let seen = server.seen();
    assert_eq!(seen[0].header("idempotency-key"), "", "a key of the request would compete with the records' own");
    assert_eq!(seen[0].json["records"][0]["idempotency_key"], "mine");
    assert!(seen[0].json["records"][1]["idempotency_key"].is_string());
    assert_eq!(seen[0].text, seen[1].text);
}

#[tokio::test]
async fn the_server_s_retry_after_is_waited_for() {
    let server = Server::with_answers(vec![Answer::RetryAfter(ErrorCode::Overloaded, "1"), stored()]).await;
    let begun = tokio::time::Instant::now();
    soon(server.client().produce(&topic(), vec![ProduceRecord::text("a")], None)).await.expect("stored");
    // The policy alone would wait 5 ms at most.
    assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());

    let server = Server::with_answers(vec![Answer::RetryAfter(ErrorCode::Overloaded, "3600"), stored()]).await;
    let error = soon(server.client().produce(&topic(), vec![ProduceRecord::text("a")], None)).await.expect_err("too long");
    assert_eq!(error.code(), Some(ErrorCode::Overloaded), "a wait beyond the deadline is not begun");
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn a_server_that_never_answers_leaves_the_outcome_unknown_and_one_that_is_not_there_does_not() {
    let server = Server::with_answers(vec![Answer::Break]).await;
    let error = soon(server.client().produce(&topic(), vec![ProduceRecord::text("a")], None)).await.expect_err("no answer");
    assert!(error.is_outcome_unknown() && error.is_retryable(), "{error}");
    assert!(matches!(error.last(), ClientError::Transport { attempts: 6, .. }), "{error:?}");
    assert_eq!(server.seen().len(), 6);
    assert_eq!(error.idempotency_key(), Some(server.seen()[0].header("idempotency-key")), "the drawn key is the caller's to repeat with");
    assert!(error.to_string().contains(error.idempotency_key().expect("a key")), "{error}");

    let (_held, nobody) = nobody();
    let client = Client::builder(nobody).retry(quick(3)).build().expect("an address");
    let error = soon(client.produce(&topic(), vec![ProduceRecord::text("a")], None)).await.expect_err("nobody there");
    assert!(!error.is_outcome_unknown() && error.is_retryable(), "{error}");
    assert!(matches!(error, ClientError::Transport { attempts: 3, .. }), "{error:?}");
}

#[tokio::test]
async fn a_request_that_hangs_is_given_up_and_its_outcome_is_unknown() {
    let server = Server::start(|_| std::future::pending::<Answer>()).await;
    let client = Client::builder(&server.url).request_timeout(Duration::from_secs(1)).retry(quick(2)).build().expect("an address");
    let error = soon(client.produce(&topic(), vec![ProduceRecord::text("a")], None)).await.expect_err("no answer");
    assert!(error.is_outcome_unknown(), "{error}");
    assert!(matches!(error.last(), ClientError::Transport { attempts: 2, .. }), "{error:?}");
}

#[tokio::test]
async fn a_later_not_now_does_not_hide_that_an_earlier_attempt_may_have_stored() {
    let server = Server::with_answers(vec![Answer::Break, Answer::Problem(ErrorCode::Overloaded)]).await;
    let error = soon(server.client().produce(&topic(), vec![ProduceRecord::text("a")], None)).await.expect_err("never");
    assert!(error.is_outcome_unknown(), "{error}");
    let server = Server::with_answers(vec![Answer::Problem(ErrorCode::Overloaded)]).await;
    let error = soon(server.client().produce(&topic(), vec![ProduceRecord::text("a")], None)).await.expect_err("never");
    assert!(!error.is_outcome_unknown(), "refused each time: {error}");
}

#[tokio::test]
async fn unknown_stays_unknown_whoever_refuses_a_later_attempt() {
    let refusals = [
        Answer::Text(403, "a proxy says no"),
        Answer::Text(404, "no such host"),
        Answer::Problem(ErrorCode::TopicNotFound),
        Answer::Problem(ErrorCode::ShuttingDown),
    ];
    for refusal in refusals {
        let server = Server::with_answers(vec![Answer::Break, refusal.clone()]).await;
        let error = soon(server.client().produce(&topic(), vec![ProduceRecord::text("a")], Some("order-1"))).await.expect_err("refused");
        assert!(error.is_outcome_unknown(), "{refusal:?}: {error}");
        assert_eq!(error.idempotency_key(), Some("order-1"));
        assert_eq!(error.code(), error.last().code(), "what was said last is there too");
        let server = Server::with_answers(vec![Answer::Break, refusal.clone()]).await;
        let ack = soon(server.client().ack(&topic(), &"g".parse().expect("legal"), vec!["r".into()])).await.expect_err("refused");
        assert!(ack.is_outcome_unknown(), "{refusal:?}: {ack}");
        let server = Server::with_answers(vec![refusal]).await;
        let error = soon(server.client().produce(&topic(), vec![ProduceRecord::text("a")], None)).await.expect_err("refused");
        assert!(!error.is_outcome_unknown() && error.idempotency_key().is_none(), "nothing was stored: {error}");
    }
    let server = Server::with_answers(vec![Answer::Break, Answer::Problem(ErrorCode::TopicNotFound)]).await;
    let error = soon(server.client().describe_topic(&topic())).await.expect_err("no topic");
    assert!(!error.is_outcome_unknown(), "what only reads is never in doubt: {error}");
}

#[tokio::test]
async fn a_fault_inside_the_server_is_tried_again_where_the_server_recognises_the_request() {
    let server = Server::with_answers(vec![Answer::Problem(ErrorCode::Internal), stored()]).await;
    let produced = soon(server.client().produce(&topic(), vec![ProduceRecord::text("a")], None)).await.expect("stored");
    assert_eq!(produced.idempotency_key, server.seen()[0].header("idempotency-key"));
    assert_eq!(server.seen().len(), 2);
    let server = Server::with_answers(vec![Answer::Problem(ErrorCode::Internal)]).await;
    let error = soon(server.client().topics()).await.expect_err("a fault");
    assert_eq!((error.code(), server.seen().len()), (Some(ErrorCode::Internal), 1));
}

#[tokio::test]
async fn a_key_that_was_drawn_can_be_repeated_with_also_beside_records_with_keys_of_their_own() {
    let server = Server::with_answers(vec![Answer::Break]).await;
    let client = Client::builder(&server.url).retry(RetryPolicy::none()).build().expect("an address");
    let records = || vec![ProduceRecord::text("a").with_idempotency_key("mine"), ProduceRecord::text("b")];
    let error = soon(client.produce(&topic(), records(), None)).await.expect_err("lost");
    let key = error.idempotency_key().expect("the drawn one").to_owned();
    soon(client.produce(&topic(), records(), Some(&key))).await.expect_err("lost");
    let seen = server.seen();
    assert_eq!(seen[0].text, seen[1].text, "the same keys again");
    assert_eq!((seen[0].header("idempotency-key"), seen[1].header("idempotency-key")), ("", ""));
}

#[tokio::test]
async fn a_redrive_whose_answer_was_lost_is_not_answered_with_what_is_left() {
    let group = "g".parse().expect("legal");
    let nothing_left = Answer::Json(200, json!({"redriven": 0, "remaining": 0}));
    let server = Server::with_answers(vec![Answer::Break, nothing_left.clone()]).await;
    let error = soon(server.client().redrive(&topic(), &group, &RedriveRequest::default())).await.expect_err("lost");
    assert!(error.is_outcome_unknown(), "{error}");
    assert_eq!(server.seen().len(), 1);
    let server = Server::with_answers(vec![Answer::Problem(ErrorCode::Overloaded), nothing_left]).await;
    soon(server.client().redrive(&topic(), &group, &RedriveRequest::default())).await.expect("a refused one did nothing and is repeated");
    let server = Server::with_answers(vec![Answer::Break, Answer::Json(200, json!({"discarded": 0, "remaining": 0}))]).await;
    let all = DiscardRequest { all: true, ..DiscardRequest::default() };
    let error = soon(server.client().discard(&topic(), &group, &all)).await.expect_err("lost");
    assert!(error.is_outcome_unknown(), "{error}");
    assert_eq!(server.verbs("discard")[0].json, json!({"all": true}));
}

#[tokio::test]
async fn leased_records_are_asked_for_in_binary_form_and_given_back_if_they_cannot_be_read() {
    let mut whole = Vec::new();
    let lease = |receipt: &str| Lease { receipt: receipt.to_owned(), attempt: 2, returned: 0, lease_until_ms: 9, handed_out_ago_ms: None };
    let head = LeasesHead { leases: vec![lease("r1"), lease("r2")], empty_reason: None };
    write_head(&mut whole, |out| serde_json::to_writer(out, &head).expect("memory"));
    let records = ["a", "b"].map(|text| ProduceRecord::text(text).into_payload().expect("a payload"));
    let records = records.map(|payload| Record { timestamp_ms: 5, payload });
    whole.extend_from_slice(&frame(Some(PartitionId(3))));
    whole.extend_from_slice(NewBatch::encode(&records).expect("fits").bytes());
    let mut damaged = whole.clone();
    *damaged.last_mut().expect("bytes") ^= 1;
    let settled = json!({"results": [{"status": "done"}, {"status": "done"}]});
    let answers =
        vec![Answer::Bytes(APPLICATION_DELIVERIES, whole), Answer::Bytes(APPLICATION_DELIVERIES, damaged), Answer::Json(200, settled)];
    let server = Server::with_answers(answers).await;
    let (client, group) = (server.client(), "g".parse().expect("legal"));
    let read = soon(client.receive(&topic(), &group, &ReceiveRequest::default())).await.expect("read").deliveries;
    let found: Vec<_> = read.iter().map(|of| (&*of.receipt, of.attempt, of.record.partition.0, of.record.text().expect("text"))).collect();
    assert_eq!(found, [("r1", 2, 3, "a".to_owned()), ("r2", 2, 3, "b".to_owned())]);
    let error = soon(client.receive(&topic(), &group, &ReceiveRequest::default())).await.expect_err("damaged");
    assert!(matches!(error, ClientError::Decode { .. }) && format!("{error:?}").contains("hecksum"), "{error:?}");
    let seen = server.seen();
    assert_eq!(seen[0].header("accept"), APPLICATION_DELIVERIES);
    assert_eq!((seen[2].verb(), &seen[2].json["receipts"], &seen[2].json["not_begun"]), ("nack", &json!(["r1", "r2"]), &json!(true)));
}

#[tokio::test]
async fn records_of_an_answer_that_cannot_be_read_are_given_back() {
    let server = Server::start(|seen| {
        let answer = match seen.verb() {
            "receive" => Answer::Json(200, json!({"deliveries": [{"receipt": "r1", "from": "a newer server"}, {"receipt": "r2"}]})),
            _ => Answer::Json(200, json!({"results": [{"status": "done"}, {"status": "done"}]})),
        };
        async move { answer }
    })
    .await;
    let group = "g".parse().expect("legal");
    let error = soon(server.client().receive(&topic(), &group, &ReceiveRequest::default())).await.expect_err("unreadable");
    assert!(matches!(error, ClientError::Decode { .. }), "{error:?}");
    assert_eq!(server.verbs("nack")[0].json, json!({"receipts": ["r1", "r2"], "not_begun": true}));
}

#[tokio::test]
async fn each_attempt_is_authorised_anew_and_a_provider_that_fails_sends_nothing() {
    let server = Server::with_answers(vec![Answer::Text(503, "the proxy is away"), stored()]).await;
    let (asked, answers) = (std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0)), ["Bearer one", "Bearer two"]);
    let counter = std::sync::Arc::clone(&asked);
    let provider = move || {
        let turn = counter.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        async move { answers.get(turn).map(|&value| value.to_owned()).ok_or_else(|| std::io::Error::other("no token left")) }
    };
    let client = Client::builder(&server.url).retry(quick(2)).authorization(provider).header("x-api-key", "k").build().expect("usable");
    soon(client.produce(&topic(), vec![ProduceRecord::text("a")], None)).await.expect("stored");
    let error = soon(client.produce(&topic(), vec![ProduceRecord::text("a")], None)).await.expect_err("no token");
    assert!(matches!(error, ClientError::Credentials { .. }) && !error.is_outcome_unknown() && error.is_retryable(), "{error:?}");
    assert!(error.to_string().contains("no token left"), "{error}");
    let seen = server.seen();
    assert_eq!(seen.iter().map(|seen| seen.header("authorization")).collect::<Vec<_>>(), answers);
    assert!(seen.iter().all(|seen| seen.header("x-api-key") == "k"));
    let client = Client::builder(&server.url).bearer_token("fixed").build().expect("usable");
    soon(client.produce(&topic(), vec![ProduceRecord::text("a")], None)).await.expect("stored");
    assert_eq!(server.seen()[2].header("authorization"), "Bearer fixed");
}

#[tokio::test]
async fn a_refusal_is_a_code_and_is_not_repeated() {
    for code in [ErrorCode::TopicNotFound, ErrorCode::RecordTooLarge, ErrorCode::IdempotencyKeyReused, ErrorCode::StorageCorrupt] {
        let server = Server::with_answers(vec![Answer::Problem(code), stored()]).await;
        let error = soon(server.client().produce(&topic(), vec![ProduceRecord::text("a")], None)).await.expect_err("refused");
        assert_eq!(error.code(), Some(code));
        assert_eq!(error.is_outcome_unknown(), code.is_outcome_unknown());
        assert!(error.to_string().contains(code.as_str()), "{error}");
        assert_eq!(server.seen().len(), 1);
    }
}

#[tokio::test]
async fn an_answer_that_cannot_be_read_says_so() {
    let server = Server::with_answers(vec![Answer::Text(200, "hello")]).await;
    let error = soon(server.client().topics()).await.expect_err("no JSON");
    assert!(matches!(error, ClientError::Decode { .. }), "{error:?}");
    let server = Server::with_answers(vec![Answer::Text(403, "no entry")]).await;
    let error = soon(server.client().topics()).await.expect_err("no problem document");
    assert!(matches!(&error, ClientError::UnexpectedAnswer { status: 403, body, .. } if body == "no entry"), "{error:?}");
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn a_delete_whose_answer_was_lost_succeeds_when_the_topic_is_gone() {
    let server = Server::with_answers(vec![Answer::Break, Answer::Problem(ErrorCode::TopicNotFound)]).await;
    soon(server.client().delete_topic(&topic())).await.expect("the first attempt deleted it");
    let server = Server::with_answers(vec![Answer::Problem(ErrorCode::TopicNotFound)]).await;
    let error = soon(server.client().delete_topic(&topic())).await.expect_err("there was none");
    assert_eq!(error.code(), Some(ErrorCode::TopicNotFound));
}

#[tokio::test]
async fn an_auto_acknowledged_receive_is_not_repeated_once_its_records_may_be_gone() {
    let group = "g".parse().expect("legal");
    let request = ReceiveRequest { auto_ack: true, ..ReceiveRequest::default() };
    let server = Server::with_answers(vec![Answer::Break]).await;
    let error = soon(server.client().receive(&topic(), &group, &request)).await.expect_err("lost");
    assert!(error.is_outcome_unknown());
    assert_eq!(server.seen().len(), 1);

    let empty = Answer::Json(200, json!({"deliveries": [], "empty_reason": "caught_up"}));
    let server = Server::with_answers(vec![Answer::Problem(ErrorCode::Overloaded), empty]).await;
    soon(server.client().receive(&topic(), &group, &request)).await.expect("a refused one took nothing and is repeated");
}

#[tokio::test]
async fn paths_queries_and_bodies_are_those_of_the_wire() {
    let description = json!({"name": "orders", "config": {}, "created_at_ms": 1, "partitions": []});
    let server = Server::start(move |seen| {
        let answer = match (seen.method.as_str(), seen.path.as_str()) {
            ("POST", "/v1/topics") => Answer::Json(200, description.clone()),
            ("GET", path) if path.contains("/partitions/3/") => {
                Answer::Json(200, json!({"records": [], "next_offset": 9, "log_start_offset": 0, "high_watermark": 9}))
            }
            ("GET", path) if path.contains("dead-letters") => Answer::Json(200, json!({"dead_letters": []})),
            ("GET", "/healthz") => Answer::Json(200, json!({})),
            _ => Answer::Problem(ErrorCode::ShuttingDown),
        };
        async move { answer }
    })
    .await;
    let client = server.client();
    soon(client.create_topic(&topic(), TopicConfig { partitions: 3, ..TopicConfig::default() })).await.expect("made");
    let query = ReadQuery { offset: Some(Offset(9)), wait_ms: Some(0), ..ReadQuery::default() };
    let read = soon(client.read(&topic(), PartitionId(3), &query)).await.expect("read");
    assert_eq!(read.next_offset, Offset(9));
    let group = "g".parse().expect("legal");
    soon(client.dead_letters(&topic(), &group, &DeadLetterQuery::default())).await.expect("listed");
    soon(client.health()).await.expect("alive");
    let error = soon(client.ready()).await.expect_err("not ready");
    assert_eq!(error.code(), Some(ErrorCode::ShuttingDown));

    let seen = server.seen();
    assert_eq!(seen[0].json["config"]["partitions"], 3);
    assert_eq!(seen[0].header("content-type"), "application/json");
    // Batches have no bound of their own, and hundreds of records are asked for as such.
    assert_eq!(seen[1].path, "/v1/topics/orders/partitions/3/records?offset=9&max_records=100&wait_ms=0");
    assert_eq!(seen[1].header("accept"), "application/vnd.sagamq.batch");
    assert_eq!(seen[2].path, "/v1/topics/orders/groups/g/dead-letters");
    assert_eq!(seen.len(), 5, "readiness is asked once, although SHUTTING_DOWN is retryable");
}

#[tokio::test]
async fn connections_are_used_again() {
    let server = Server::with_answers(vec![stored()]).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let target = server.url.trim_start_matches("http://").to_owned();
    let connections = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counter = std::sync::Arc::clone(&connections);
    let relay = tokio::spawn(async move {
        while let Ok((mut inward, _)) = listener.accept().await {
            counter.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            let mut outward = tokio::net::TcpStream::connect(&target).await.expect("the server");
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut inward, &mut outward).await });
        }
    });
    let client = Client::builder(url).retry(RetryPolicy::none()).build().expect("an address");
    for _ in 0..20 {
        soon(client.clone().produce(&topic(), vec![ProduceRecord::text("a")], None)).await.expect("stored");
    }
    relay.abort();
    assert_eq!(connections.load(std::sync::atomic::Ordering::SeqCst), 1, "20 requests one after the other over one connection");
}

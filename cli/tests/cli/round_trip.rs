//! The client's commands against a real server: what is produced can be consumed, acknowledged, given up and brought back.

use crate::serve::Process;
use crate::support::run_with_stdin;
use sagamq_api::queue::{ReceiveRequest, TerminateRequest};

#[test]
fn records_go_in_and_come_out() {
    let directory = tempfile::tempdir().expect("a directory");
    let server = Process::start(directory.path());
    server.run(&["topic", "create", "orders", "--partitions", "2"]).expect(0);
    let lines: String = (0..1_000).map(|n| format!("order {n}\n")).collect();
    let produce = ["produce", "orders", "--idempotency-key", "import", "--output", "json", "--server", &server.url];
    let first = run_with_stdin(&produce, lines.as_bytes()).expect(0).json();
    let again = run_with_stdin(&produce, lines.as_bytes()).expect(0).json();
    let records = |document: &serde_json::Value| document["records"].as_array().expect("records").clone();
    assert_eq!(records(&first).len(), 1_000);
    for (first, again) in records(&first).iter().zip(records(&again)) {
        assert_eq!((&first["partition"], &first["offset"]), (&again["partition"], &again["offset"]));
        assert_eq!((&first["duplicate"], &again["duplicate"]), (&false.into(), &true.into()));
    }
    let mut values: Vec<String> = server.run(&["consume", "orders", "--value-only"]).expect(0).stdout.lines().map(str::to_owned).collect();
    let mut wanted: Vec<String> = lines.lines().map(str::to_owned).collect();
    values.sort();
    wanted.sort();
    assert_eq!(values, wanted);
    let group = server.run(&["consume", "orders", "--group", "billing", "--value-only"]).expect(0).stdout;
    assert_eq!(group.lines().count(), 1_000);
    let described = server.run(&["group", "describe", "orders", "billing", "--output", "json"]).expect(0).json();
    assert_eq!((&described["lag_records"], &described["in_flight"]), (&0.into(), &0.into()), "all is acknowledged: {described}");
    server.run(&["topic", "delete", "orders"]).expect(0);
    server.run(&["topic", "describe", "orders"]).expect(4);
}

#[test]
fn a_topic_is_changed_while_it_is_in_use_and_lets_its_old_records_go() {
    let directory = tempfile::tempdir().expect("a directory");
    let server = Process::start(directory.path());
    let made = server.run(&["topic", "create", "orders", "--partitions", "1", "--retention", "1d", "--output", "json"]).expect(0).json();
    assert_eq!((&made["config"]["retention_ms"], &made["config"]["retention_bytes"]), (&86_400_000.into(), &0.into()));
    server.run(&["produce", "orders", "--value", "old"]).expect(0);
    let update = [
        "topic",
        "update",
        "orders",
        "--retention",
        "1s",
        "--retention-bytes",
        "1GiB",
        "--delivery-limit",
        "9",
        "--durability",
        "interval",
    ];
    server.run(&update).expect(0);
    let text = server.run(&["topic", "describe", "orders"]).expect(0).stdout;
    assert!(text.lines().any(|line| line.starts_with("Retention") && line.contains("1s, at most 1.00 GiB a partition")), "{text}");
    assert!(text.lines().any(|line| line.starts_with("Durability") && line.ends_with("interval")), "{text}");
    let changed = server.run(&["topic", "describe", "orders", "--output", "json"]).expect(0).json();
    assert_eq!((&made["config"]["durability"], &changed["config"]["durability"]), (&"sync".into(), &"interval".into()));
    let config = &changed["config"];
    assert_eq!((&config["retention_ms"], &config["retention_bytes"]), (&1_000.into(), &(1_u64 << 30).into()));
    assert_eq!((&config["delivery_limit"], &config["dedup_window_ms"]), (&9.into(), &made["config"]["dedup_window_ms"]));
    server.run(&["topic", "update", "orders"]).expect(2);
    server.run(&["topic", "update", "orders", "--durability", "fsync"]).expect(2);
    server.run(&["topic", "update", "orders", "--retention", "1ms"]).expect(1);
    server.run(&["topic", "update", "nobody", "--retention", "1d"]).expect(4);
    server.run(&["topic", "update", "orders", "--retention", "0"]).expect(0);
    let text = server.run(&["topic", "describe", "orders"]).expect(0).stdout;
    assert!(text.lines().any(|line| line.starts_with("Retention") && line.contains("1.00 GiB a partition")), "{text}");
}

#[test]
fn dead_letters_are_listed_and_brought_back() {
    let directory = tempfile::tempdir().expect("a directory");
    let server = Process::start(directory.path());
    server.run(&["topic", "create", "orders", "--partitions", "1"]).expect(0);
    server.run(&["produce", "orders", "--value", "poison", "--key", "k"]).expect(0);
    // Looking at a record does not count as a delivery, however often.
    for _ in 0..7 {
        let taken = server.run(&["consume", "orders", "--group", "g", "--no-ack", "--max", "1", "--output", "json"]).expect(0).json();
        assert_eq!((&taken["value"], &taken["attempt"]), (&"poison".into(), &1.into()));
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let client = sagamq_sdk::Client::new(&server.url).expect("an address");
        let (topic, group) = ("orders".parse().expect("a name"), "g".parse().expect("a name"));
        let taken = client.receive(&topic, &group, &ReceiveRequest::default()).await.expect("it is there");
        let receipts = taken.deliveries.into_iter().map(|delivery| delivery.receipt).collect();
        let request = TerminateRequest { receipts, reason: "cannot be read".into() };
        client.terminate(&topic, &group, request).await.expect("it is settled");
    });
    let list = server.run(&["dlq", "list", "orders", "g", "--output", "json"]).expect(0).json();
    assert_eq!(list["dead_letters"][0]["cause"], "terminated", "{list}");
    assert_eq!(list["dead_letters"][0]["reason"], "cannot be read", "{list}");
    let redriven = server.run(&["dlq", "redrive", "orders", "g", "--output", "json"]).expect(0).json();
    assert_eq!(redriven, serde_json::json!({ "redriven": 1, "remaining": 0 }));
    assert_eq!(
        server.run(&["consume", "orders", "--group", "g", "--wait", "10s", "--max", "1", "--value-only"]).expect(0).stdout,
        "poison\n"
    );
    let group = server.run(&["group", "list", "orders"]).expect(0).stdout;
    assert!(group.lines().any(|line| line.starts_with("g ")), "{group}");
    server.run(&["group", "delete", "orders", "g"]).expect(0);
}

#[test]
fn a_saga_is_published_started_watched_and_cancelled() {
    let directory = tempfile::tempdir().expect("a directory");
    let server = Process::start(&directory.path().join("data"));
    let definition = directory.path().join("checkout.yaml");
    let text = "\
saga: checkout
version: 1
key: ${ input.order_id }
services:
  orders: { topic: orders.commands }
steps:
  - id: create
    call: orders.create
    with: { order_id: \"${ input.order_id }\" }
    compensate: orders.reject
";
    std::fs::write(&definition, text).expect("a file");
    let file = definition.to_str().expect("text");
    server.run(&["saga", "lint", file]).expect(0);
    server.run(&["saga", "publish", file]).expect(0);
    server.run(&["saga", "publish", file]).expect(0);
    assert_eq!(server.run(&["saga", "definitions", "checkout"]).expect(0).stdout, text);
    let start = ["saga", "start", "checkout", "--input", "{\"order_id\": \"o-1\"}", "--output", "json"];
    let started = server.run(&start).expect(0).json();
    let again = server.run(&start).expect(0).json();
    assert_eq!((&started["duplicate"], &again["duplicate"], &started["id"]), (&false.into(), &true.into(), &again["id"]));
    server.run(&["saga", "start", "checkout", "--input", "{}"]).expect(1);
    let id = started["id"].as_str().expect("an id");
    // Nobody works on the command, so the saga goes on until it is cancelled.
    let waited = server.run(&["saga", "start", "checkout", "--input", "{\"order_id\": \"o-1\"}", "--wait", "--timeout", "50ms"]).expect(3);
    assert!(waited.stderr.contains("WAIT_ELAPSED"), "{}", waited.stderr);
    let listed = server.run(&["saga", "list", "--saga", "checkout", "--key", "o-1", "--output", "json"]).expect(0).json();
    assert_eq!(listed["sagas"][0]["id"], id, "{listed}");
    let history = server.run(&["saga", "history", id, "--output", "json"]).expect(0).json();
    assert!(history["events"].as_array().is_some_and(|events| !events.is_empty()), "{history}");
    server.run(&["saga", "cancel", id, "--reason", "customer called"]).expect(0);
    let saga = server.run(&["saga", "get", id, "--output", "json"]).expect(0).json();
    let state = saga["state"].as_str().expect("a state");
    assert!(["COMPENSATING", "COMPENSATED", "FAILED"].contains(&state), "it is being undone, or was never done: {saga}");
    assert_eq!(saga["failure"]["code"], "CANCELLED", "{saga}");
    server.run(&["saga", "get", "00000000-0000-0000-0000-000000000001"]).expect(4);
}

#[test]
fn a_service_has_the_address_that_was_set_for_its_name_and_without_one_nothing_starts() {
    let directory = tempfile::tempdir().expect("a directory");
    let definition = directory.path().join("parcels.yaml");
    let text = "saga: parcels\nversion: 1\nkey: ${ input.id }\nservices: { carriers: {} }\nsteps: [{ id: book, call: carriers.book, compensate: none }]\n";
    std::fs::write(&definition, text).expect("written");
    let server = Process::start(&directory.path().join("data"));
    server.run(&["saga", "publish", definition.to_str().expect("text")]).expect(0);
    let start = ["saga", "start", "parcels", "--input", r#"{"id":"1"}"#, "--output", "json"];
    let refused = server.run(&start).expect(1).error();
    assert_eq!((&refused["code"], &refused["status"]), (&"SERVICE_WITHOUT_ADDRESS".into(), &409.into()), "{refused}");
    server.run(&["service", "get", "carriers"]).expect(4);
    let wrong = server.run(&["service", "set", "carriers", "ftp://carriers", "--output", "json"]).expect(1).error();
    assert_eq!(wrong["code"], "INVALID_REQUEST", "{wrong}");
    server.run(&["service", "set", "carriers", "http://127.0.0.1:9/", "--eject-for", "1h"]).expect(0);
    // As durable as all else: `kill -9`, and a new start.
    drop(server);
    let server = Process::start(&directory.path().join("data"));
    let listed = server.run(&["service", "list", "--output", "json"]).expect(0).json();
    assert_eq!(
        (&listed["services"][0]["endpoints"][0]["url"], &listed["services"][0]["eject_ms"]),
        (&"http://127.0.0.1:9".into(), &3_600_000.into())
    );
    server.run(&start).expect(0);
    server.run(&["service", "delete", "carriers"]).expect(0);
    server.run(&["service", "delete", "carriers"]).expect(4);
}

#[test]
fn a_stream_group_is_read_described_moved_and_deleted() {
    let directory = tempfile::tempdir().expect("a directory");
    let server = Process::start(directory.path());
    server.run(&["topic", "create", "prices", "--partitions", "1"]).expect(0);
    let lines: String = (0..100).map(|n| format!("{n}\n")).collect();
    run_with_stdin(&["produce", "prices", "--server", &server.url], lines.as_bytes()).expect(0);
    let consume = |more: &[&str]| {
        let args = [&["consume", "prices", "--stream-group", "shop", "--wait", "3s", "--value-only"][..], more].concat();
        server.run(&args).expect(0).stdout
    };
    assert_eq!(consume(&[]).lines().count(), 100);
    assert_eq!(consume(&[]), "", "all is committed");
    let described = server.run(&["group", "stream", "describe", "shop", "--output", "json"]).expect(0).json();
    assert_eq!((&described["lag_records"], &described["members"]), (&serde_json::json!(0), &serde_json::json!([])));
    assert!(server.run(&["group", "stream", "list"]).expect(0).stdout.contains("prices"));
    server.run(&["group", "stream", "seek", "shop", "--topic", "prices", "--partition", "0", "--to", "start"]).expect(0);
    let again = consume(&["--max", "7"]);
    assert_eq!(again.lines().count(), 7, "what is not wanted is not committed");
    let stands = server.run(&["group", "stream", "offsets", "shop", "--output", "json"]).expect(0).json();
    assert_eq!(stands["offsets"][0]["offset"], 7);
    server.run(&["group", "stream", "seek", "shop", "--to", "end"]).expect(0);
    assert_eq!(consume(&[]), "");
    let wrong = server.run(&["consume", "prices", "--group", "shop"]);
    assert!(wrong.expect(1).stderr.contains("is a stream group"));
    server.run(&["group", "stream", "delete", "shop"]).expect(0);
    assert!(!server.run(&["group", "stream", "list"]).expect(0).stdout.contains("shop"));
}

//! Answers: a table for people, the wire's document for programs.

use crate::support::{Scripted, json, problem, run, run_unread};
use axum::response::IntoResponse as _;
use sagamq_api::ErrorCode;
use sagamq_api::queue::{DeadLetter, DeadLetterList, GroupDescription, GroupList, GroupPartitionDescription};
use sagamq_api::record::{ConsumedRecord, Payload};
use sagamq_api::topic::{HotKey, PartitionDescription, TopicConfig, TopicDescription, TopicList};
use sagamq_api::{Offset, PartitionId};
use serde::Serialize;

fn topic() -> TopicDescription {
    TopicDescription {
        name: "orders".parse().expect("a name"),
        config: TopicConfig { partitions: 1, ..TopicConfig::default() },
        created_at_ms: 0,
        partitions: vec![PartitionDescription {
            partition: PartitionId(0),
            log_start_offset: Offset(2),
            high_watermark: Offset(12),
            bytes: 3 << 20,
            records_per_second: 12.5,
            bytes_per_second: 2048.0,
        }],
        hottest_keys: vec![HotKey::new(b"eu", 0.42), HotKey::new(&[0xff], 0.1)],
    }
}

fn group() -> GroupDescription {
    GroupDescription {
        name: "billing".parse().expect("a name"),
        paused: true,
        lag_records: 7,
        lag_seconds: 90.0,
        in_flight: 3,
        waiting_for_key: 0,
        delayed: 2,
        dead_letters: 1,
        trimmed_unsettled: 4,
        dead_letter_topic: "orders.billing.dlq".into(),
        partitions: vec![GroupPartitionDescription {
            partition: PartitionId(0),
            ack_floor: Offset(5),
            next_offset: Offset(8),
            high_watermark: Offset(12),
            lag_records: 7,
            lag_seconds: 90.0,
            in_flight: 3,
            waiting_for_key: 0,
            delayed: 2,
            dead_letters: 1,
            trimmed_unsettled: 4,
        }],
    }
}

/// The JSON is the server's document, field by field; the table holds these words.
fn check(args: &[&str], document: &impl Serialize, words: &[&str]) {
    let server = Scripted::answering(document);
    let json = server.run(&[args, &["--output", "json"]].concat()).expect(0).json();
    assert_eq!(json, serde_json::to_value(document).expect("a document"), "{args:?}");
    let table = server.run(args).expect(0).stdout;
    for word in words {
        assert!(table.contains(word), "{args:?}: {word} is missing in\n{table}");
    }
    assert!(!table.contains(['│', '\u{1b}']), "plain when nobody looks:\n{table}");
    assert!(table.lines().all(|line| line == line.trim_end()), "no blanks at the ends of lines:\n{table}");
}

#[test]
fn topics() {
    check(&["topic", "list"], &TopicList { topics: vec![topic()] }, &["TOPIC", "orders", "10", "1970-01-01 00:00:00.000Z"]);
    check(
        &["topic", "describe", "orders"],
        &topic(),
        &["1.00 MiB", "1d", "1s to 5m", "7d", "3.00 MiB", "LOG START", "12.5/s", "2.00 KiB/s", "`eu` 42%"],
    );
    check(&["topic", "create", "orders"], &topic(), &["orders"]);
    check(&["topic", "update", "orders", "--retention", "7d"], &topic(), &["orders", "Retention"]);
}

#[test]
fn groups() {
    check(&["group", "list", "orders"], &GroupList { groups: vec![group()] }, &["billing", "7", "1m 30s"]);
    check(
        &["group", "describe", "orders", "billing"],
        &group(),
        &["7 records", "orders.billing.dlq", "4 records that were not settled", "ACK FLOOR"],
    );
}

#[test]
fn dead_letters() {
    let letter = DeadLetter {
        cause: "delivery_limit".into(),
        reason: Some("no such customer".into()),
        attempts: 5,
        origin_offset: Offset(4),
        dead_at_ms: 0,
        record: ConsumedRecord::new(PartitionId(0), Offset(1), 0, Payload::default()),
    };
    let list = DeadLetterList { dead_letters: vec![letter], next_cursor: None };
    check(&["dlq", "list", "orders", "billing"], &list, &["delivery_limit", "no such customer", "ORIGIN OFFSET"]);
}

#[test]
fn columns_can_be_cut_by_other_programs() {
    let table = Scripted::answering(&TopicList { topics: vec![topic(), topic()] }).run(&["topic", "list"]).expect(0).stdout;
    let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines.len(), 3, "a heading and a line each:\n{table}");
    assert_eq!(lines[1][..3], ["orders", "1", "10"]);
}

#[test]
fn a_reader_who_has_gone_makes_no_success_of_what_failed() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("bad.yaml");
    std::fs::write(&file, "saga: a\n").expect("a file");
    let file = file.to_str().expect("text");
    run(&["saga", "lint", file]).expect(1);
    run_unread(&["saga", "lint", file], b"").expect(1);

    // One of two records is stored.
    let stored = serde_json::json!({ "batches": [{ "partition": 0, "offset": 0, "records": 1, "timestamp_ms": 0, "duplicate": false }] });
    let server = Scripted::new(move |asked| if asked.line.starts_with("POST ") { json(&stored) } else { json(&topic()) });
    for format in ["table", "json"] {
        let args = ["produce", "orders", "--json", "--output", format, "--server", &server.url];
        let unread = run_unread(&args, b"{\"value\": 1}\nnonsense\n").expect(1);
        assert!(unread.stderr.contains("line 2 is no record"), "{}", unread.stderr);
    }

    // The first file is refused, and a second one is not tried: both are told, to nobody.
    let server = Scripted::new(|_| problem(ErrorCode::DefinitionVersionExists));
    let unread = run_unread(&["saga", "publish", file, file, "--server", &server.url], b"").expect(1);
    assert!(unread.stderr.contains("DEFINITION_VERSION_EXISTS"), "{}", unread.stderr);

    let server = Scripted::answering(&TopicList { topics: vec![topic()] });
    assert_eq!(run_unread(&["topic", "list", "--server", &server.url], b"").expect(0).stderr, "", "who has enough is no error");
}

#[test]
fn a_secret_that_is_told_once_and_that_nobody_has_read_is_no_success() {
    let key = serde_json::json!({ "name": "shop", "begins": "sq_1", "roles": ["produce"], "state": "active", "created_at_ms": 0 });
    let server = Scripted::answering(&serde_json::json!({ "secret": "sq_s3cret", "key": key }));
    for args in [&["key", "create", "shop", "--role", "produce"][..], &["key", "rotate", "shop"]] {
        for format in ["table", "json"] {
            let unread = run_unread(&[args, &["--output", format, "--server", &server.url]].concat(), b"").expect(1);
            assert!(unread.stderr.contains("sagamq key rotate shop") && !unread.stderr.contains("sq_s3cret"), "{}", unread.stderr);
        }
    }
}

#[test]
fn schedules_that_are_cancelled_are_a_document_for_programs() {
    let server = Scripted::new(|_| http::StatusCode::NO_CONTENT.into_response());
    let (first, second) = ("5-1-2-3", "6-1-2-3");
    let ids = [first, second];
    let args = [&["schedule", "cancel", "orders"], &ids[..]].concat();
    let json = server.run(&[&args[..], &["--output", "json"]].concat()).expect(0).json();
    assert_eq!(json, serde_json::json!({ "topic": "orders", "cancelled": ids }));
    assert!(server.run(&args).expect(0).stdout.contains("2 schedules"));
}

//! What the commands ask of the server, and what they do with its answers.

use crate::support::{Asked, Scripted, json, problem, sagamq, until, wait};
use axum::response::Response;
use bytes::BytesMut;
use rustix::process::{Pid, Signal, kill_process};
use sagamq_api::ErrorCode;
use sagamq_api::batch::{Batch, Compression, take_framed};
use sagamq_api::headers::APPLICATION_BATCH;
use sagamq_api::queue::{Delivery, EmptyReason, ReceiveResponse, SettleResponse, SettleResult, SettleStatus};
use sagamq_api::record::{ConsumedRecord, Payload, ProduceRecord};
use sagamq_api::topic::{
    PartitionDescription, ProduceBatchesResponse, ProduceRequest, ProduceResponse, ProducedBatch, ProducedRecord, ReadResponse,
    TopicConfig, TopicDescription,
};
use sagamq_api::{JsonText, Offset, PartitionId};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader};
use std::process::{ChildStdout, Stdio};
use std::time::Duration;

/// A record as a request has it.
#[derive(Debug, PartialEq)]
struct Sent {
    payload: Payload,
    /// As it was named; a binary batch does not tell that from the one of a key.
    partition: Option<PartitionId>,
    idempotency_key: Option<String>,
}

fn sent(record: ProduceRecord) -> Sent {
    let (partition, idempotency_key) = (record.partition, record.idempotency_key.clone());
    Sent { payload: record.into_payload().expect("a record"), partition, idempotency_key }
}

/// The records of a produce request, and of a binary one how many each batch has.
fn records_of(asked: &Asked) -> (Vec<Sent>, Option<Vec<usize>>) {
    if asked.headers.get("content-type").is_none_or(|of| of != APPLICATION_BATCH) {
        let request: ProduceRequest = serde_json::from_value(asked.json()).expect("a produce request");
        return (request.records.into_iter().map(sent).collect(), None);
    }
    let (mut body, mut all, mut counts) = (BytesMut::from(&asked.body[..]), Vec::new(), Vec::new());
    while let Some((_, bytes)) = take_framed(&mut body).expect("whole batches") {
        let records = Batch::parse(bytes.freeze()).and_then(|batch| batch.records()).expect("a sound batch");
        counts.push(records.len());
        all.extend(records.into_iter().map(|record| Sent { payload: record.payload, partition: None, idempotency_key: None }));
    }
    (all, Some(counts))
}

fn is_produce(asked: &Asked) -> bool {
    asked.line.starts_with("POST ")
}

/// Answers a produce request whose records are stored in partition 0 from here on, and tells how far they reach.
fn store(asked: &Asked, next: &mut u64) -> Response {
    let (records, batches) = records_of(asked);
    let mut place = |records: usize| {
        *next += records as u64;
        *next - records as u64
    };
    let Some(batches) = batches else {
        let of = |_| {
            let offset = Some(Offset(place(1)));
            ProducedRecord { partition: PartitionId(0), offset, schedule: None, timestamp_ms: 0, duplicate: false }
        };
        return json(&ProduceResponse { records: records.into_iter().map(of).collect() });
    };
    let of = |records: usize| ProducedBatch {
        partition: PartitionId(0),
        offset: Offset(place(records)),
        records: u32::try_from(records).expect("few"),
        timestamp_ms: 0,
        duplicate: false,
    };
    json(&ProduceBatchesResponse { batches: batches.into_iter().map(of).collect() })
}

/// Stores everything in partition 0, in order, of a topic that has no other.
fn storing() -> Scripted {
    let mut next = 0;
    Scripted::new(move |asked| if is_produce(asked) { store(asked, &mut next) } else { one_partition() })
}

fn one_partition() -> Response {
    json(&json!({ "name": "orders", "config": { "partitions": 1 }, "created_at_ms": 0, "partitions": [] }))
}

fn produced(server: &Scripted) -> Vec<Sent> {
    server.asked().iter().filter(|asked| is_produce(asked)).flat_map(|asked| records_of(asked).0).collect()
}

#[test]
fn each_line_is_a_record_with_the_flags_on_it() {
    let server = storing();
    let args = ["produce", "orders", "--key", "k", "--header", "a=1", "--partition", "0", "--idempotency-key", "import"];
    let run = server.run_with_stdin(&args, b"one\r\ntwo\n\nlast").expect(0);
    assert!(run.stderr.contains("4 records stored"), "{run:?}");
    let records = produced(&server);
    let wanted = |value: &str, line: u64| {
        let record = ProduceRecord::text(value).with_key("k").with_header("a", "1").with_partition(PartitionId(0));
        sent(record.with_idempotency_key(format!("import/{line}")))
    };
    assert_eq!(records, [wanted("one", 1), wanted("two", 2), wanted("", 3), wanted("last", 4)]);
}

#[test]
fn records_are_compressed_as_they_are_to_be() {
    let line = [b"the same again and again, ".repeat(100), b"\n".to_vec()].concat();
    for (args, compression) in
        [(&[][..], Compression::Lz4), (&["--compression", "zstd"], Compression::Zstd), (&["--compression", "none"], Compression::None)]
    {
        let server = storing();
        server.run_with_stdin(&[&["produce", "orders"], args].concat(), &line).expect(0);
        let asked = server.asked();
        let body = &asked.iter().find(|asked| is_produce(asked)).expect("it was sent").body;
        let (_, batch) = take_framed(&mut BytesMut::from(&body[..])).expect("whole").expect("there is one");
        assert_eq!(Batch::parse(batch.freeze()).and_then(|batch| batch.header().compression()), Ok(compression));
        assert_eq!(produced(&server).len(), 1);
    }
    storing().run(&["produce", "orders", "--value", "v", "--compression", "gzip"]).expect(2);
}

#[test]
fn bytes_that_are_no_text_arrive_as_they_are() {
    let server = storing();
    server.run_with_stdin(&["produce", "orders"], b"\xff\xfe\n").expect(0);
    assert_eq!(produced(&server), [sent(ProduceRecord::bytes([0xff, 0xfe]))]);
}

#[test]
fn a_single_value_has_the_idempotency_key_itself() {
    let server = storing();
    let json = server.run(&["produce", "orders", "--value", "v", "--idempotency-key", "order-1", "--output", "json"]).expect(0).json();
    assert_eq!(json, json!({ "records": [{ "partition": 0, "offset": 0, "timestamp_ms": 0, "duplicate": false }] }));
    assert_eq!(produced(&server), [sent(ProduceRecord::text("v").with_idempotency_key("order-1"))]);
}

#[test]
fn what_a_json_record_says_itself_is_stronger_than_a_flag() {
    let server = storing();
    let stdin = b"{\"value\": {\"id\": 1}, \"key\": \"own\"}\n{\"value\": 2}\n";
    server.run_with_stdin(&["produce", "orders", "--json", "--key", "flag"], stdin).expect(0);
    let json = |text: &str| JsonText::parse(text.as_bytes()).expect("JSON");
    let wanted = |text: &str, key: &str| sent(ProduceRecord { value: Some(json(text)), ..ProduceRecord::default() }.with_key(key));
    assert_eq!(produced(&server), [wanted(r#"{"id": 1}"#, "own"), wanted("2", "flag")]);
}

#[test]
fn a_bad_line_stops_the_rest_and_says_which_and_what_is_stored() {
    let server = storing();
    let run = server.run_with_stdin(&["produce", "orders", "--json"], b"{\"value\": 1}\n{\"val\": 2}\n{\"value\": 3}\n").expect(1);
    assert!(run.stderr.contains("line 2") && run.stderr.contains("1 record stored"), "{}", run.stderr);
    assert_eq!(produced(&server).len(), 1, "what was read before is stored, what stands behind is not");
}

#[test]
fn a_refused_record_is_named_by_its_line() {
    let server = Scripted::refusing(ErrorCode::TopicNotFound);
    let run = server.run_with_stdin(&["produce", "orders"], b"one\ntwo\n").expect(4);
    assert!(run.stderr.contains("line 1") && run.stderr.contains("(TOPIC_NOT_FOUND)"), "{}", run.stderr);
    assert_eq!(run.stdout, "");
}

/// Refuses records with the value `bad`, and stores all others.
fn choosy() -> Scripted {
    let mut next = 0;
    Scripted::new(move |asked| {
        if !is_produce(asked) {
            return one_partition();
        }
        if records_of(asked).0.iter().any(|record| record.payload.value.as_deref() == Some(b"bad")) {
            return problem(ErrorCode::RecordTooLarge);
        }
        store(asked, &mut next)
    })
}

#[test]
fn a_refused_line_tells_what_became_of_the_others_and_how_to_go_on() {
    let server = choosy();
    let stdin = b"1\n2\nbad\n4\n5\n6\n7\n";
    let run = server.run_with_stdin(&["produce", "orders", "--batch-records", "1"], stdin).expect(1);
    // How many were read before the refusal came differs; the fates of all must add up.
    let stored = produced(&server).len() - 1;
    let told = if stored > 2 {
        format!("stored: 1-2, 4{}", if stored > 3 { format!("-{}", stored + 1) } else { String::new() })
    } else {
        "stored: 1-2".into()
    };
    let behind = stored + 2;
    assert!(run.stderr.contains(&format!("{told}; not stored: 3; not sent: from {behind} on")), "{}", run.stderr);
    assert!(run.stderr.contains("line 3 (") && run.stderr.contains(&format!("sed -n '3p;{behind},$p'")), "{}", run.stderr);
    let error = choosy().run_with_stdin(&["produce", "orders", "--idempotency-key", "k", "--output", "json"], b"bad\n").expect(1).error();
    assert!(error["detail"].as_str().is_some_and(|detail| detail.contains("not stored: 1; not sent: from 2 on")), "{error}");
    assert!(error["help"].as_str().is_some_and(|help| help.contains("run the same command again")), "{error}");
}

#[test]
fn batches_are_as_large_as_was_asked() {
    let server = storing();
    let lines: String = (0..250).map(|n| format!("{n}\n")).collect();
    server.run_with_stdin(&["produce", "orders", "--batch-records", "100"], lines.as_bytes()).expect(0);
    assert_eq!(produced(&server).len(), 250);
    for asked in server.asked().iter().filter(|asked| is_produce(asked)) {
        assert!(records_of(asked).0.len() <= 100);
    }
}

fn record(partition: u32, offset: u64, value: &str) -> ConsumedRecord {
    let payload = ProduceRecord::text(value).into_payload().expect("a record");
    ConsumedRecord::new(PartitionId(partition), Offset(offset), 0, payload)
}

/// The description of a topic of so many partitions with three records each.
fn described(partitions: u32) -> Response {
    let partition = |n| PartitionDescription {
        partition: PartitionId(n),
        log_start_offset: Offset(0),
        high_watermark: Offset(3),
        bytes: 0,
        records_per_second: 0.0,
        bytes_per_second: 0.0,
    };
    json(&TopicDescription {
        name: "orders".parse().expect("a name"),
        config: TopicConfig::default(),
        created_at_ms: 0,
        partitions: (0..partitions).map(partition).collect(),
        hottest_keys: Vec::new(),
    })
}

/// A topic of two partitions with three records each, at most two in an answer.
fn log(asked: &Asked) -> Response {
    if !asked.line.contains("/partitions/") {
        return described(2);
    }
    let number = |before: &str| {
        let text = asked.line.split_once(before)?.1;
        text.split(|c: char| !c.is_ascii_digit()).next()?.parse::<u64>().ok()
    };
    let (partition, offset) = (number("/partitions/").expect("a partition"), number("?offset=").unwrap_or(0));
    let Ok(partition @ (0 | 1)) = u32::try_from(partition) else { return problem(ErrorCode::PartitionNotFound) };
    let end = (offset + 2).min(3);
    json(&ReadResponse {
        records: (offset..end).map(|offset| record(partition, offset, &format!("{partition}-{offset}"))).collect(),
        next_offset: Offset(end),
        log_start_offset: Offset(0),
        high_watermark: Offset(3),
    })
}

#[test]
fn all_partitions_are_read_to_their_ends() {
    let values = Scripted::new(log).run(&["consume", "orders", "--value-only"]).expect(0).stdout;
    assert_eq!(values, "0-0\n0-1\n0-2\n1-0\n1-1\n1-2\n");
}

#[test]
fn who_follows_hears_of_partitions_that_are_added_and_reads_them_from_their_beginning() {
    let mut looks = 0;
    let server = Scripted::new(move |asked| {
        if !asked.line.contains("/partitions/") {
            looks += 1;
            return described(if looks == 1 { 2 } else { 3 });
        }
        if asked.line.contains("/partitions/2/") {
            let records = vec![record(2, 0, "2-0")];
            return json(&ReadResponse { records, next_offset: Offset(1), log_start_offset: Offset(0), high_watermark: Offset(1) });
        }
        if asked.line.contains("offset=3") {
            // A poll that waits, and gets nothing.
            std::thread::sleep(Duration::from_millis(50));
        }
        log(asked)
    });
    let values = server.run(&["consume", "orders", "--value-only", "--follow", "--from-beginning", "--max", "7"]).expect(0).stdout;
    let mut lines: Vec<&str> = values.lines().collect();
    assert_eq!(lines.pop(), Some("2-0"));
    lines.sort_unstable();
    assert_eq!(lines, ["0-0", "0-1", "0-2", "1-0", "1-1", "1-2"]);
}

#[test]
fn reading_begins_and_ends_where_it_was_told_to() {
    let consume = |args: &[&str]| Scripted::new(log).run(&[&["consume", "orders", "--value-only"], args].concat());
    assert_eq!(consume(&["--partition", "1", "--offset", "2"]).expect(0).stdout, "1-2\n");
    assert_eq!(consume(&["--max", "4"]).expect(0).stdout, "0-0\n0-1\n0-2\n1-0\n");
    assert_eq!(consume(&["--follow", "--from-beginning", "--partition", "0", "--max", "3"]).expect(0).stdout, "0-0\n0-1\n0-2\n");
    let missing = consume(&["--partition", "7"]).expect(4);
    assert!(missing.stderr.contains("(PARTITION_NOT_FOUND)"), "{}", missing.stderr);
}

#[test]
fn a_time_is_passed_on_for_the_first_read_only() {
    let server = Scripted::new(log);
    server.run(&["consume", "orders", "--partition", "0", "--timestamp", "1970-01-01T00:00:01Z"]).expect(0);
    let reads: Vec<String> = server.asked().into_iter().map(|asked| asked.line).filter(|line| line.contains("/partitions/")).collect();
    assert!(reads[0].contains("timestamp_ms=1000"), "{reads:?}");
    assert!(reads[1..].iter().all(|line| line.contains("offset=") && !line.contains("timestamp_ms")), "{reads:?}");
}

#[test]
fn each_record_is_a_json_document_on_a_line_of_its_own() {
    let stdout = Scripted::new(log).run(&["consume", "orders", "--partition", "0", "--output", "json"]).expect(0).stdout;
    let records: Vec<ConsumedRecord> = stdout.lines().map(|line| serde_json::from_str(line).expect("a record")).collect();
    assert_eq!(records, (0..3).map(|offset| record(0, offset, &format!("0-{offset}"))).collect::<Vec<_>>());
}

/// Delivers the batches one after the other, then nothing; settles with this status.
fn group(batches: Vec<Vec<Delivery>>, status: SettleStatus) -> Scripted {
    let mut batches = VecDeque::from(batches);
    Scripted::new(move |asked| {
        if asked.line.ends_with(":receive") {
            let deliveries = batches.pop_front().unwrap_or_default();
            let empty_reason = deliveries.is_empty().then_some(EmptyReason::CaughtUp);
            return json(&ReceiveResponse { deliveries, empty_reason });
        }
        assert!(asked.line.ends_with(":ack") || asked.line.ends_with(":nack"), "{}", asked.line);
        let receipts = asked.json()["receipts"].as_array().expect("receipts").len();
        let result = SettleResult { status, code: None, lease_until_ms: None };
        json(&SettleResponse { results: vec![result; receipts] })
    })
}

fn delivery(offset: u64) -> Delivery {
    Delivery {
        receipt: format!("receipt-{offset}"),
        attempt: 1,
        returned: 0,
        lease_until_ms: 0,
        handed_out_ago_ms: None,
        record: record(0, offset, &format!("v{offset}")),
    }
}

fn acknowledged(server: &Scripted) -> Vec<Value> {
    let acks = server.asked().into_iter().filter(|asked| asked.line.ends_with(":ack"));
    acks.flat_map(|asked| asked.json()["receipts"].as_array().expect("receipts").clone()).collect()
}

#[test]
fn a_member_of_a_group_acknowledges_what_it_printed() {
    let server = group(vec![vec![delivery(0), delivery(1)], vec![delivery(2)]], SettleStatus::Done);
    let run = server.run(&["consume", "orders", "--group", "billing", "--value-only"]).expect(0);
    assert_eq!(run.stdout, "v0\nv1\nv2\n");
    assert!(run.stderr.contains("every record is settled"), "{}", run.stderr);
    assert_eq!(acknowledged(&server), ["receipt-0", "receipt-1", "receipt-2"]);
}

#[test]
fn the_group_s_options_reach_the_server() {
    let server = group(vec![vec![delivery(0)]], SettleStatus::Done);
    let args = ["consume", "orders", "--group", "g", "--max", "1", "--wait", "2s", "--lease", "1m", "--start", "latest", "--no-ack"];
    server.run(&args).expect(0);
    let asked = server.asked();
    assert_eq!(asked.len(), 2, "enough after the first record");
    assert_eq!((acknowledged(&server), given_back(&server)), (vec![], vec![json!("receipt-0")]));
    let wanted = json!({ "max_records": 1, "wait_ms": 2_000, "lease_ms": 60_000, "auto_ack": false, "not_begun": true, "start": "latest" });
    assert_eq!(asked[0].json(), wanted);
}

/// Receipts that were given back as if their records had never been delivered.
fn given_back(server: &Scripted) -> Vec<Value> {
    let nacks = server.asked().into_iter().filter(|asked| asked.line.ends_with(":nack"));
    let nacks = nacks.inspect(|asked| assert_eq!(asked.json()["not_begun"], true, "the delivery must not count"));
    nacks.flat_map(|asked| asked.json()["receipts"].as_array().expect("receipts").clone()).collect()
}

#[test]
fn what_is_only_looked_at_is_given_back_at_the_end() {
    let server = group(vec![vec![delivery(0), delivery(1)], vec![delivery(2)]], SettleStatus::Done);
    let run = server.run(&["consume", "orders", "--group", "billing", "--no-ack", "--value-only"]).expect(0);
    assert_eq!(run.stdout, "v0\nv1\nv2\n");
    assert_eq!((acknowledged(&server), given_back(&server).len()), (vec![], 3));
    let asked = server.asked();
    assert_eq!(asked.iter().filter(|asked| asked.line.ends_with(":receive")).count(), 3, "they are not delivered to itself again");
    assert!(asked.last().is_some_and(|asked| asked.line.ends_with(":nack")));
}

/// Starts a member of a group whose stdout is a pipe that nobody has read from yet.
fn member(server: &Scripted, more: &[&str]) -> (std::process::Child, BufReader<ChildStdout>) {
    let args = ["consume", "orders", "--group", "billing", "--value-only", "--server", &server.url];
    let mut child = sagamq().args(args).args(more).stdout(Stdio::piped()).spawn().expect("the binary runs");
    let stdout = BufReader::new(child.stdout.take().expect("it is piped"));
    (child, stdout)
}

#[test]
fn what_nobody_read_from_the_pipe_is_given_back_and_not_acknowledged() {
    let server = group(vec![(0..100).map(delivery).collect(), vec![delivery(100)]], SettleStatus::Done);
    let (mut child, mut stdout) = member(&server, &[]);
    for number in 0..3 {
        let mut line = String::new();
        stdout.read_line(&mut line).expect("a line");
        assert_eq!(line, format!("v{number}\n"));
    }
    assert!(stdout.buffer().is_empty(), "records come one by one, so that none is taken that is not wanted");
    // As `head -3` does.
    drop(stdout);
    assert!(wait(&mut child).success(), "a reader that has enough is no error");
    assert_eq!(acknowledged(&server), ["receipt-0", "receipt-1", "receipt-2"]);
    assert_eq!(given_back(&server).len(), 97, "each of the others goes back, and no more are leased");
}

#[test]
fn an_interrupt_settles_what_was_read_and_gives_the_rest_back() {
    let server = group(vec![(0..100).map(delivery).collect()], SettleStatus::Done);
    let (mut child, mut stdout) = member(&server, &["--follow"]);
    let mut line = String::new();
    stdout.read_line(&mut line).expect("a line");
    // Nobody reads the second one, so the command waits; that it was written says that the first one is known to be read.
    let is_written = || (rustix::io::ioctl_fionread(stdout.get_ref()).expect("a pipe") > 0).then_some(());
    until(is_written).expect("the second line is written");
    kill_process(Pid::from_child(&child), Signal::INT).expect("it runs");
    assert!(wait(&mut child).success(), "Ctrl-C is how a reader that follows ends");
    assert_eq!((acknowledged(&server), given_back(&server).len()), (vec![json!("receipt-0")], 99));
}

#[test]
fn an_acknowledgement_that_came_too_late_is_no_success() {
    let server = group(vec![vec![delivery(0)]], SettleStatus::Failed);
    let run = server.run(&["consume", "orders", "--group", "billing"]).expect(1);
    assert!(run.stderr.contains("not acknowledged") && run.stderr.contains("delivered again"), "{}", run.stderr);
}

#[test]
fn redrive_goes_on_until_none_is_left_and_not_for_ever() {
    let mut left = 1_500_u64;
    let server = Scripted::new(move |asked| {
        let page = asked.json()["max_records"].as_u64().expect("a bound").min(left);
        left -= page;
        let next = if left > 0 { json!("more") } else { json!(null) };
        json(&json!({ "redriven": page, "remaining": left, "next_cursor": next }))
    });
    let run = server.run(&["dlq", "redrive", "orders", "billing"]).expect(0);
    assert!(run.stdout.contains("1500 records will be delivered again, 0 left"), "{}", run.stdout);
    // Records that die again at once: as many are there as before.
    let server = Scripted::new(|_| json(&json!({ "redriven": 10, "remaining": 10, "next_cursor": "more" })));
    assert_eq!(server.run(&["dlq", "redrive", "orders", "billing", "--output", "json"]).expect(0).json()["redriven"], 20);
    let server = Scripted::new(|asked| json(&json!({ "redriven": asked.json()["max_records"], "remaining": 100, "next_cursor": "more" })));
    assert_eq!(server.run(&["dlq", "redrive", "orders", "billing", "--max", "7", "--output", "json"]).expect(0).json()["redriven"], 7);
}

#[test]
fn discard_says_what_it_means_and_goes_on_page_by_page() {
    let mut left = 1_500_u64;
    let server = Scripted::new(move |asked| {
        let page = asked.json()["max_records"].as_u64().expect("a bound").min(left);
        left -= page;
        let next = if left > 0 { json!("more") } else { json!(null) };
        json(&json!({ "discarded": page, "remaining": left, "next_cursor": next }))
    });
    let run = server.run(&["dlq", "discard", "orders", "billing", "--all"]).expect(0);
    assert!(run.stdout.contains("1500 dead letters discarded, 0 left"), "{}", run.stdout);
    let asked = server.asked();
    assert_eq!(asked.len(), 2);
    assert!(asked[0].line.ends_with("/groups/billing:discard"), "{}", asked[0].line);
    assert_eq!(asked[1].json(), json!({ "all": true, "max_records": 500, "cursor": "more" }));

    let server = Scripted::answering(&json!({ "discarded": 2, "remaining": 3 }));
    let named = ["dlq", "discard", "orders", "billing", "--partition", "0", "--offset", "3", "--offset", "4", "--output", "json"];
    assert_eq!(server.run(&named).expect(0).json()["discarded"], 2);
    assert_eq!(server.asked()[0].json(), json!({ "partition": 0, "offsets": [3, 4], "max_records": 1_000 }));
    for unclear in [&[][..], &["--max", "3"], &["--offset", "3"], &["--all", "--cause", "terminated"], &["--all", "--partition", "0"]] {
        server.run(&[&["dlq", "discard", "orders", "billing"], unclear].concat()).expect(2);
    }
    assert_eq!(server.asked().len(), 1, "what is unclear is not asked");
}

#[test]
fn dead_letters_are_listed_over_pages_up_to_the_limit_and_it_says_where_to_go_on() {
    let letter = |offset: u64| {
        let record = json!({ "partition": 0, "offset": offset, "timestamp_ms": 0, "value": "x" });
        json!({ "cause": "terminated", "attempts": 1, "origin_offset": offset, "dead_at_ms": 0, "record": record })
    };
    let of_2_500 = || {
        Scripted::new(move |asked| {
            let query: std::collections::HashMap<&str, &str> =
                asked.line.split_once('?').expect("a query").1.split('&').filter_map(|pair| pair.split_once('=')).collect();
            let from = query.get("cursor").map_or(0, |cursor| cursor.parse().expect("its own cursor"));
            // A page may be shorter than was asked for: it is bounded in bytes as well.
            let to = 2_500.min(from + 700.min(query["max_records"].parse::<u64>().expect("a bound")));
            let next = if to < 2_500 { json!(to.to_string()) } else { json!(null) };
            json(&json!({ "dead_letters": (from..to).map(letter).collect::<Vec<_>>(), "next_cursor": next }))
        })
    };
    let listed = |args: &[&str]| {
        let list = of_2_500().run(&[&["dlq", "list", "orders", "billing", "--output", "json"], args].concat()).expect(0).json();
        (list["dead_letters"].as_array().map_or(0, Vec::len), list["next_cursor"].clone())
    };
    assert_eq!(listed(&[]), (100, json!("100")));
    assert_eq!(listed(&["--limit", "1600"]), (1_600, json!("1600")));
    assert_eq!(listed(&["--limit", "1600", "--cursor", "1600"]), (900, json!(null)));
    assert_eq!(listed(&["--all"]), (2_500, json!(null)));
    let table = of_2_500().run(&["dlq", "list", "orders", "billing", "--limit", "3"]).expect(0);
    assert!(table.stderr.contains("--cursor 3"), "{}", table.stderr);
    assert_eq!(table.stdout.lines().count(), 4, "a heading and three rows: {}", table.stdout);
}

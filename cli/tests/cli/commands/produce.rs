//! Producing from lines.

use super::*;

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

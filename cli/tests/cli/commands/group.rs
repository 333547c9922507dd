//! As a member of a queue group, and its dead letters.

use super::*;

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

//! Reading by offset.

use super::*;

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

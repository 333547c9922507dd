//! `sagamq bench` against real servers, for a second: its books balance, it tells what it could not do, and failures are counted.

use sagamq_tests::ServerProcess;
use sagamq_tests::server::{binary, is_left_out_over_a_cluster, wait_until};
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

/// Every run of these tests, beside its duration, and what they look at before.
const SHORT: [&str; 4] = ["--warmup", "200ms", "--connections", "4"];

/// Durations of which the first one does. In a time that is long enough a busy machine gets something done.
const DURATIONS: [&str; 4] = ["1s", "5s", "25s", "125s"];

/// Ends by itself long before, when everything is done.
const UNTIL_IT_IS_DONE: &str = "10m";

fn command(server: &str, args: &[&str], json: &Path) -> Command {
    let mut command = Command::new(binary("sagamq"));
    command.args(["bench"]).args(args).args(["--server", server, "--json"]).arg(json);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

async fn run(server: &str, args: &[&str]) -> (Output, Value) {
    let folder = tempfile::tempdir().expect("a folder");
    let json = folder.path().join("result.json");
    let mut command = command(server, args, &json);
    let output = tokio::task::spawn_blocking(move || command.output().expect("it runs")).await.expect("no panic");
    let text = std::fs::read_to_string(&json).unwrap_or_else(|error| panic!("no result ({error}): {output:?}"));
    (output, serde_json::from_str(&text).expect("JSON"))
}

/// As [`run`], for the first of the [`DURATIONS`] in which something was measured of everything.
async fn run_for_as_long_as_it_takes(server: &str, args: &[&str]) -> (Output, Value, &'static str) {
    let mut last = None;
    for duration in DURATIONS {
        let (output, report) = run(server, &[args, &["--duration", duration]].concat()).await;
        let is_measured = has_records(&report);
        last = Some((output, report, duration));
        if is_measured {
            break;
        }
    }
    last.expect("there are durations")
}

fn has_records(report: &Value) -> bool {
    report["results"].as_array().is_some_and(|results| results.iter().all(|measured| measured["records"].as_f64() > Some(0.0)))
}

/// What must hold of every result without failures.
fn consistent(output: &Output, report: &Value) {
    assert!(output.status.success(), "{output:?}");
    assert_eq!(report["faults"], serde_json::json!([]), "{report}");
    for measured in report["results"].as_array().expect("results") {
        let number = |name: &str| measured[name].as_f64().unwrap_or_else(|| panic!("{name}: {measured}"));
        assert!(number("records") > 0.0 && number("seconds") > 0.0, "{measured}");
        let rate = number("records") / number("seconds");
        assert!((rate - number("records_per_second")).abs() <= rate * 1e-9, "{measured}");
        let latency = |name: &str| measured["latency_ms"][name].as_f64().expect("a latency");
        let quantiles = ["p50", "p90", "p99", "p99_9", "max"].map(latency);
        assert!(quantiles.is_sorted() && quantiles[0] > 0.0, "{measured}");
        let timeline = measured["timeline"].as_array().expect("a timeline");
        assert!(!timeline.is_empty(), "{measured}");
        assert_eq!(measured["errors"], serde_json::json!({}), "{measured}");
    }
}

/// What is there beside the orchestrator's own.
async fn topics(server: &ServerProcess) -> Vec<String> {
    let topics = server.client().topics().await.expect("listed").topics;
    topics.into_iter().map(|topic| topic.name.to_string()).filter(|name| !name.starts_with("saga.")).collect()
}

#[tokio::test]
async fn each_benchmark_balances_its_books_and_removes_its_topic() {
    let server = ServerProcess::start().await;
    for args in [
        &["produce", "--keys", "10", "--batch", "10"][..],
        &["produce", "--values", "same", "--idempotent"],
        &["produce", "--durability", "memory"],
        &["produce", "--values", "orders", "--compression", "zstd", "--keys", "10"],
        &["consume", "--records", "2000", "--compression", "lz4", "--values", "orders", "--size", "100"],
        &["produce", "--encoding", "json", "--keys", "10", "--batch", "10"],
        &["latency", "--rate", "200", "--partitions", "4"],
        &["latency", "--rate", "200", "--partitions", "4", "--encoding", "json", "--keys", "5"],
        &["consume", "--records", "2000"],
        &["consume", "--records", "2000", "--by", "auto-ack"],
        &["consume", "--records", "2000", "--by", "stream", "--partitions", "4"],
        &["consume", "--records", "2000", "--by", "read"],
    ] {
        let args = [args, &SHORT].concat();
        let (output, report) = match args[0] {
            "consume" => run(&server.url(), &[&args[..], &["--duration", UNTIL_IT_IS_DONE]].concat()).await,
            _ => {
                let (output, report, _) = run_for_as_long_as_it_takes(&server.url(), &args).await;
                (output, report)
            }
        };
        consistent(&output, &report);
        let durability = if args.contains(&"memory") { "memory" } else { "sync" };
        assert_eq!(report["settings"]["durability"], durability, "{args:?}");
        assert_eq!(topics(&server).await, Vec::<String>::new(), "{args:?}: {output:?}");
        if args[0] == "consume" {
            assert_eq!((&report["results"][0]["records"], &report["ended"]), (&2_000.into(), &"drained".into()), "{args:?}: {report}");
        }
        if args[0] == "latency" {
            let records = |index: usize| {
                let measured = &report["results"][index];
                measured["records"].as_u64().expect("a count") + measured["warmup_records"].as_u64().expect("a count")
            };
            assert_eq!((records(1), records(2)), (records(0), records(0)), "every record came to both: {report}");
        }
    }
}

#[tokio::test]
async fn sagas_come_to_their_end() {
    let server = ServerProcess::start().await;
    let (output, report, _) = run_for_as_long_as_it_takes(&server.url(), &[&["sagas"][..], &SHORT].concat()).await;
    consistent(&output, &report);
    assert_eq!(report["results"][0]["unit"], "sagas");
}

#[tokio::test]
async fn an_open_loop_keeps_its_rate_or_says_that_it_could_not() {
    let server = ServerProcess::start().await;
    let args = ["produce", "--rate", "500", "--batch", "10", "--warmup", "0"];
    let (output, report, duration) = run_for_as_long_as_it_takes(&server.url(), &args).await;
    consistent(&output, &report);
    let schedule = &report["schedule"];
    let (due, sent) = (schedule["due"].as_u64().expect("a count"), schedule["sent"].as_u64().expect("a count"));
    let seconds: u64 = duration.trim_end_matches('s').parse().expect("seconds");
    assert!(due == 50 * seconds || due == 50 * seconds + 1, "50 requests a second for {duration}: {schedule}");
    assert_eq!(schedule["not_sent"], due - sent, "{schedule}");
    if schedule["kept"] == true {
        let rate = report["results"][0]["records_per_second"].as_f64().expect("a rate");
        assert!((250.0..=510.0).contains(&rate), "{report}");
    }
    // One connection cannot send a million requests a second.
    let args = ["produce", "--rate", "1000000", "--batch", "1", "--connections", "1", "--warmup", "0"];
    let (output, report, _) = run_for_as_long_as_it_takes(&server.url(), &args).await;
    consistent(&output, &report);
    assert_eq!(report["schedule"]["kept"], false);
    assert!(report["schedule"]["not_sent"].as_u64().expect("a count") > 0);
    assert!(String::from_utf8_lossy(&output.stdout).contains("BEHIND"), "{output:?}");
}

#[tokio::test]
async fn a_server_that_dies_meanwhile_is_counted_and_fails_the_run() {
    if is_left_out_over_a_cluster("another node goes on, so the load does not give up") {
        return;
    }
    let mut server = ServerProcess::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let json = folder.path().join("result.json");
    let args = ["produce", "--duration", "60s", "--warmup", "0", "--connections", "4", "--retry-for", "0"];
    let mut bench = command(&server.url(), &args, &json).spawn().expect("it runs");
    let client = server.client();
    sagamq_tests::server::eventually("records are there", async || {
        let topics = client.topics().await.ok()?.topics;
        topics.iter().flat_map(|topic| &topic.partitions).any(|partition| partition.high_watermark.0 > 0).then_some(())
    })
    .await;
    server.kill();
    let status = wait_until("it gives up", || bench.try_wait().expect("it can be asked")).await;
    assert_eq!(status.code(), Some(1));
    let report: Value = serde_json::from_str(&std::fs::read_to_string(&json).expect("a result")).expect("JSON");
    assert_eq!(report["ended"], "gave_up");
    let errors = report["results"][0]["errors"].as_object().expect("errors by code");
    assert!(errors.get("UNREACHABLE").and_then(Value::as_u64).is_some_and(|count| count > 0), "{errors:?}");
    assert!(report["results"][0]["records"].as_u64().is_some_and(|count| count > 0), "what was stored before is told: {report}");
}

#[tokio::test]
async fn a_server_of_its_own_and_its_data_go_with_the_run_and_the_disk_and_a_plot_stand_beside() {
    let folder = tempfile::tempdir().expect("a folder");
    let (json, plot, data) = (folder.path().join("result.json"), folder.path().join("plot.svg"), folder.path().join("data"));
    std::fs::create_dir(&data).expect("a folder");
    let run = async |duration: &str| {
        // Nobody listens where the run would look without a server of its own.
        let args = [&["produce", "--own-server", "--duration", duration][..], &SHORT].concat();
        let mut command = command("http://127.0.0.1:1", &args, &json);
        command.arg("--data-dir").arg(&data).arg("--plot").arg(&plot);
        let output = tokio::task::spawn_blocking(move || command.output().expect("it runs")).await.expect("no panic");
        let report: Value = serde_json::from_str(&std::fs::read_to_string(&json).expect("a result")).expect("JSON");
        (output, report)
    };
    let mut durations = DURATIONS.into_iter();
    let (duration, output, report) = loop {
        let duration = durations.next().expect("something was measured in the longest one");
        let (output, report) = run(duration).await;
        if has_records(&report) || !output.status.success() {
            break (duration, output, report);
        }
    };
    consistent(&output, &report);
    assert_eq!((&report["own_server"], &report["disk"]["write_bytes"]), (&true.into(), &102_400.into()));
    assert!(report["disk"]["requests_a_write"].as_f64().is_some_and(|ratio| ratio > 0.0), "{report}");
    assert_eq!(std::fs::read_dir(&data).expect("it is there").count(), 0, "data and probe are removed");
    let svg = std::fs::read_to_string(&plot).expect("a plot");
    assert!(svg.contains("latency by percentile") && svg.contains("99%"), "{}", svg.len());
    let measured = Duration::from_millis(report["settings"]["duration_ms"].as_u64().expect("a duration"));
    assert_eq!(format!("{}s", measured.as_secs()), duration);
}

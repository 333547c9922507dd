//! The result of a run for people.

use crate::bench::board::Errors;
use crate::bench::report::{Latency, Measured, Report};
use crate::output::{NONE, Output, human};
use std::fmt::Write as _;

pub(super) fn report(output: Output, report: &Report) -> String {
    let rows = report.results.iter().map(row);
    let header = ["WHAT", "RATE", "MB/S", "P50 MS", "P90 MS", "P99 MS", "P99.9 MS", "MAX MS", "ERRORS"];
    let mut text = format!("{}\n", output.table(header, rows));
    let mut line = |said: String| writeln!(text, "{said}").expect("a string takes it");
    for measured in &report.results {
        for (errors, when) in [(&measured.errors, "while it was measured"), (&measured.warmup_errors, "before it was measured")] {
            if !errors.is_empty() {
                line(format!("{}, failed {when}: {}", measured.what, by_code(errors)));
            }
        }
    }
    for measured in report.results.iter().filter(|measured| measured.failed() > 0) {
        line(format!("{}, the longest time without an answer: {} ms", measured.what, number(measured.silence_max_ms)));
    }
    if let Some(kept) = &report.schedule {
        let asked = number(kept.asked_per_second);
        let unit = report.results.first().map_or("records", |measured| measured.unit);
        line(if kept.kept {
            let late = number(kept.late_max_ms);
            format!("schedule: kept {asked} {unit}/s; the latest request was sent {late} ms after it was due, which counts as latency")
        } else {
            format!(
                "schedule: BEHIND: {} of {} requests that were due for {asked} {unit}/s were never sent, because every connection was busy; \
                 ask for less, or give it more --connections",
                kept.not_sent, kept.due
            )
        });
    }
    if let Some(disk) = &report.disk {
        let (writes, mb, ratio) = (number(disk.writes_per_second), number(disk.mb_per_second), disk.requests_a_write);
        let size = human::size(disk.disk.write_bytes);
        line(format!("disk alone: {writes} appends of {size} with fdatasync a second ({mb} MB/s); {ratio:.2} requests for each"));
    }
    if report.ended != "duration" {
        line(format!("ended: {}", ended(report.ended)));
    }
    for fault in &report.faults {
        line(format!("FAULT: {fault}"));
    }
    for note in &report.notes {
        line(format!("note: {note}"));
    }
    text
}

fn ended(code: &str) -> &str {
    match code {
        "count" => "as many requests as were asked for were sent",
        "drained" => "everything was read",
        "interrupted" => "it was interrupted",
        "gave_up" => "no request succeeded for 5 s, or for 30 s of several servers",
        other => other,
    }
}

fn row(measured: &Measured) -> [String; 9] {
    let Latency { p50, p90, p99, p99_9, max, .. } = measured.latency_ms;
    let latency = |value: f64| if measured.requests == 0 { NONE.to_owned() } else { format!("{value:.2}") };
    [
        measured.what.clone(),
        format!("{} {}/s", number(measured.records_per_second), measured.unit),
        if measured.bytes == 0 { NONE.to_owned() } else { format!("{:.2}", measured.mb_per_second) },
        latency(p50),
        latency(p90),
        latency(p99),
        latency(p99_9),
        latency(max),
        measured.failed().to_string(),
    ]
}

fn by_code(errors: &Errors) -> String {
    errors.iter().map(|(code, count)| format!("{count} x {code}")).collect::<Vec<_>>().join(", ")
}

/// Without digits that say nothing.
pub(super) fn number(value: f64) -> String {
    if value >= 100.0 || value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

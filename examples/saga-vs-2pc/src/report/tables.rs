//! The figures as Markdown.

use super::Report;
use crate::cells::Measured;
use std::fmt::Write as _;

/// Every cell in a table of its factor.
#[must_use]
pub fn tables(report: &Report) -> String {
    let mut text = String::new();
    let mut factors: Vec<&str> = Vec::new();
    for cell in &report.cells {
        if !factors.contains(&cell.factor.as_str()) {
            factors.push(&cell.factor);
        }
    }
    for factor in factors {
        writeln!(
            text,
            "### {factor}\n\n| value | form | load | done/s | done | undone | known p50 | p99 | p99.9 ms | undone: known p50 | all undone \
             p50 ms | lock held p50 | p99 ms | waited p99 ms | messages | syncs: services | coordinator |\n\
             |---|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|"
        )
        .expect("a string takes it");
        for cell in report.cells.iter().filter(|cell| cell.factor == factor) {
            row(&mut text, cell);
        }
        text.push('\n');
    }
    faults(&mut text, report);
    anomalies(&mut text, report);
    text
}

fn faults(text: &mut String, report: &Report) {
    table(
        text,
        "coordinator killed",
        "form | away s | orders | branches that held locks | touches of others | stalled | waited p99 ms | rows blocked ms | settled after ms | done | undone",
        report.blocking.iter().map(|one| {
            format!(
                "{} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {}",
                one.form,
                one.away_s,
                one.transactions,
                one.branches_holding,
                one.others,
                one.others_stalled,
                number(one.others_waited.p99_ms),
                number(one.rows_blocked_ms),
                number(one.settled_ms),
                one.done,
                one.undone
            )
        }),
    );
    table(
        text,
        "faults",
        "form | orders | done | known to be done within 1 s, % | known p50 | p99 | p99.9 ms",
        report.weathered.iter().map(|one| {
            let (known, percent) = (&one.known, number(one.served_percent));
            let (p50, p99, p999) = (number(known.p50_ms), number(known.p99_ms), number(known.p999_ms));
            format!("{} | {} | {} | {percent} | {p50} | {p99} | {p999}", one.form, one.orders, one.done)
        }),
    );
    table(
        text,
        "faults, one by one",
        "form | who | what | s | orders meanwhile | done within 1 s, % | known p50 | max ms | settled after ms | touches of others | stalled",
        report.weathered.iter().flat_map(|one| &one.episodes).map(|one| {
            format!(
                "{} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {}",
                one.form,
                one.who,
                one.fault.name(),
                one.seconds,
                one.orders,
                number(one.served_percent),
                number(one.known.p50_ms),
                number(one.known.max_ms),
                number(one.repair_ms),
                one.others,
                one.others_stalled
            )
        }),
    );
}

fn anomalies(text: &mut String, report: &Report) {
    table(
        text,
        "what a reader sees",
        "form | done | undone | looks | dirty | torn",
        report
            .seen
            .iter()
            .map(|one| format!("{} | {} | {} | {} | {} | {}", one.form, one.done, one.undone, one.looks, one.dirty, one.torn)),
    );
    table(
        text,
        "read, then write",
        "form | done | undone | updates lost",
        report.lost.iter().map(|one| format!("{} | {} | {} | {}", one.form, one.done, one.undone, one.lost)),
    );
    table(
        text,
        "the rush",
        "form | customers | pieces | left | credits | orders | turned away though pieces were there | seconds | paid beyond the pieces | for ms",
        report.rush.iter().map(|one| {
            format!(
                "{} | {} | {} | {} | {} | {} | {} | {} | {} | {}",
                one.form,
                one.customers,
                one.pieces,
                one.left,
                one.credits,
                one.orders,
                one.turned_away,
                number(one.seconds),
                one.oversold_most,
                number(one.oversold_ms)
            )
        }),
    );
    table(
        text,
        "code of a service",
        "service | saga: handlers | lines | states | 2PC: handlers | lines | states",
        report.code.iter().map(|one| {
            let (saga, two_phase) = (&one.saga, &one.two_phase);
            let sagas = format!("{} | {} | {} | {}", one.service, saga.handlers, saga.lines, saga.states);
            format!("{sagas} | {} | {} | {}", two_phase.handlers, two_phase.lines, two_phase.states)
        }),
    );
}

fn table(text: &mut String, title: &str, head: &str, rows: impl Iterator<Item = String>) {
    let rows: Vec<String> = rows.collect();
    if rows.is_empty() {
        return;
    }
    let line = "|---".repeat(head.matches('|').count() + 1);
    writeln!(text, "### {title}\n\n| {head} |\n{line}|").expect("a string takes it");
    for row in rows {
        writeln!(text, "| {row} |").expect("a string takes it");
    }
    text.push('\n');
}

fn row(text: &mut String, cell: &Measured) {
    let ms = |value: f64, count: u64| if count == 0 { String::new() } else { number(value) };
    let (done, undone) = (&cell.known_done, &cell.known_undone);
    writeln!(
        text,
        "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
        cell.value,
        cell.form,
        cell.arrival,
        number(cell.done_per_second),
        cell.done,
        cell.undone,
        ms(done.p50_ms, done.count),
        ms(done.p99_ms, done.count),
        ms(done.p999_ms, done.count),
        ms(undone.p50_ms, undone.count),
        ms(cell.finished_undone.p50_ms, undone.count),
        ms(cell.lock_hold.p50_ms, cell.lock_hold.count),
        ms(cell.lock_hold.p99_ms, cell.lock_hold.count),
        ms(cell.lock_wait.p99_ms, cell.lock_wait.count),
        number(cell.messages),
        number(cell.service_syncs),
        number(cell.coordinator_syncs),
    )
    .expect("a string takes it");
}

/// A figure with three digits that count.
pub(super) fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

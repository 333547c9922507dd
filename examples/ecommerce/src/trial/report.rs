//! What is told on the terminal at the end.

use super::audit::Audit;
use super::books::Books;
use super::cluster::Takeover;
use super::kills::Kill;
use super::occurred::Occurrence;
use super::run::Ran;
use super::site::PAYMENT;
use super::traffic::{End, Outcome};
use crate::mode::Mode;
use crate::service::{BranchCounts, CallCounts};
use sagamq_api::saga::StepState;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

/// Findings that are shown one by one.
const FINDINGS_SHOWN: usize = 20;

/// What happened, as text.
pub(super) fn report(ran: &Ran, books: &Books, mode: Mode) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write_outcomes(&mut text, &ran.outcome);
    if matches!(mode, Mode::Saga | Mode::Classic) {
        let _ = write_steps(&mut text, &ran.outcome);
    }
    let _ = write_troubles(&mut text, ran, books, mode);
    let _ = write_speed(&mut text, &ran.outcome, ran.took);
    text
}

/// What must have occurred, and what the audit found, as text.
pub(super) fn verdict(audit: &Audit, must_occur: &[Occurrence]) -> String {
    let mut text = String::new();
    let _ = write_occurrences(&mut text, must_occur);
    let _ = write_audit(&mut text, audit);
    let missing = must_occur.iter().filter(|it| it.times == 0).count();
    let _ = match (audit.findings.len(), missing) {
        (0, 0) => writeln!(text, "\nThe books balance, order by order."),
        (0, missing) => writeln!(text, "\nThe books balance, but {missing} things that had to occur did not: nothing is proved."),
        (wrong, _) => writeln!(text, "\nThe books DO NOT balance: {wrong} entries are wrong."),
    };
    text
}

fn write_outcomes(text: &mut String, outcome: &Outcome) -> std::fmt::Result {
    let mut outcomes: BTreeMap<(String, &str), usize> = BTreeMap::new();
    for ended in &outcome.ended {
        *outcomes.entry((ended.state(), ended.why().unwrap_or_default())).or_default() += 1;
    }
    writeln!(text, "\nORDERS BY OUTCOME")?;
    for ((state, why), count) in &outcomes {
        writeln!(text, "  {count:>7}  {state:<12} {why}")?;
    }
    writeln!(text, "  {:>7}  {:<12} INVALID_ORDER (refused at the door)", outcome.refused, "REFUSED")
}

fn write_steps(text: &mut String, outcome: &Outcome) -> std::fmt::Result {
    #[derive(Default)]
    struct Counts {
        compensated: usize,
        retries: u32,
    }
    let mut steps: Vec<(String, Counts)> = Vec::new();
    let sagas = outcome.ended.iter().filter_map(|ended| match &ended.end {
        End::Saga(saga) => Some(saga),
        End::Book(_) => None,
    });
    for step in sagas.flat_map(|saga| &saga.steps) {
        let index = steps.iter().position(|(id, _)| id == step.id.as_str()).unwrap_or_else(|| {
            steps.push((step.id.to_string(), Counts::default()));
            steps.len() - 1
        });
        let counts = &mut steps[index].1;
        counts.compensated += usize::from(step.state == StepState::Compensated);
        counts.retries += step.attempts.saturating_sub(1) + step.compensation_attempts.saturating_sub(1);
    }
    writeln!(text, "\nBY STEP              undone   calls that were tried again")?;
    for (id, counts) in &steps {
        writeln!(text, "  {id:<17} {:>7}   {:>7}", counts.compensated, counts.retries)?;
    }
    Ok(())
}

fn write_troubles(text: &mut String, ran: &Ran, books: &Books, mode: Mode) -> std::fmt::Result {
    writeln!(text, "\nWHAT WENT WRONG")?;
    for kill in &ran.kills {
        write_kill(text, kill)?;
        if let Some(in_doubt) = kill.in_doubt {
            writeln!(text, "           {in_doubt} branches were in doubt meanwhile, with their locks")?;
        }
    }
    let since = |service: &str| {
        let is_restarted = service == PAYMENT && ran.kills.iter().any(|kill| kill.who == PAYMENT);
        if is_restarted { " (since its restart)" } else { "" }
    };
    match mode {
        Mode::Saga | Mode::Classic | Mode::Choreography => {
            let what = if mode == Mode::Choreography { "events and requests" } else { "calls" };
            for (service, counts) in &books.calls {
                let CallCounts { calls, repeated, .. } = counts;
                writeln!(text, "  {service}: {calls} {what}, {repeated} of them repetitions that changed nothing{}", since(service))?;
            }
            let (forgotten, closed) = (books.provider.forgotten, books.provider.closed_unused);
            writeln!(
                text,
                "  provider: {forgotten} requests came again although they had been answered; {closed} keys were closed unused"
            )?;
        }
        Mode::TwoPhase => {
            for (service, counts) in &books.calls {
                let BranchCounts { calls, lost, resolved } = counts.branches;
                writeln!(
                    text,
                    "  {service}: {calls} calls of transactions, {lost} answers lost on purpose, {resolved} branches in doubt ended by asking{}",
                    since(service)
                )?;
            }
        }
    }
    writeln!(text, "  {} orders were sent again by their customers because there was no answer", ran.outcome.sent_again)
}

fn write_kill(text: &mut String, kill: &Kill) -> std::fmt::Result {
    let Kill { who, ended, .. } = kill;
    let (at, next) = (kill.at.as_secs_f64(), kill.next_order.as_secs_f64());
    if let Some(Takeover { lost, by, new, joined }) = kill.takeover {
        writeln!(text, "  {at:>5.1} s  {lost}, the active node, lost for good with its disk (kill -9) when {ended} orders had ended;")?;
        writeln!(
            text,
            "           nobody served for {:.2} s, then {} did, next order ended {next:.2} s after the kill;",
            by.silent.as_secs_f64(),
            by.name
        )?;
        return writeln!(
            text,
            "           {new} came in its place: {} ms after its start on an empty disk it stood by",
            joined.as_millis()
        );
    }
    let left = if kill.down.is_zero() { String::new() } else { format!(", left dead for {:.1} s", kill.down.as_secs_f64()) };
    writeln!(text, "  {at:>5.1} s  kill -9 {who} when {ended} orders had ended{left};")?;
    writeln!(text, "           ready {} ms after its start, next order ended {next:.2} s after the kill", kill.ready.as_millis())
}

fn write_speed(text: &mut String, outcome: &Outcome, took: Duration) -> std::fmt::Result {
    let at = |percent| outcome.within(percent).as_millis();
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate = outcome.ended.len() as f64 / took.as_secs_f64().max(0.001);
    writeln!(text, "\nSPEED, outages included")?;
    writeln!(text, "  {} orders in {:.1} s: {rate:.0} a second", outcome.ended.len(), took.as_secs_f64())?;
    writeln!(
        text,
        "  from the customer's request to the end: half within {} ms, 90 % within {} ms, 99 % within {} ms",
        at(50),
        at(90),
        at(99)
    )
}

/// How the nodes of the broker stand at the end, as text.
pub(super) fn nodes(status: &str, stepped_down: usize) -> String {
    let mut text = "NODES at the end, by `sagamq cluster status`\n".to_owned();
    for line in status.lines() {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {line}");
    }
    if stepped_down > 0 {
        let _ =
            writeln!(text, "  {stepped_down} times a node lost its term without being killed, ended (exit code 6), and was started again");
    }
    text
}

fn write_occurrences(text: &mut String, must_occur: &[Occurrence]) -> std::fmt::Result {
    if !must_occur.is_empty() {
        writeln!(text, "WHAT HAD TO OCCUR")?;
    }
    for Occurrence { what, times } in must_occur {
        let mark = if *times > 0 { "ok   " } else { "NEVER" };
        writeln!(text, "  {mark} {times:>6}  {what}")?;
    }
    Ok(())
}

fn write_audit(text: &mut String, audit: &Audit) -> std::fmt::Result {
    writeln!(text, "\nTHE BOOKS, entry by entry against what the orders came to")?;
    for (book, compared) in &audit.compared {
        let wrong = audit.findings.iter().filter(|finding| finding.book == *book).count();
        let mark = if wrong == 0 { "ok   " } else { "WRONG" };
        writeln!(
            text,
            "  {mark}  {book:<28} {compared:>7} compared{}",
            if wrong == 0 { String::new() } else { format!(", {wrong} wrong") }
        )?;
    }
    for finding in audit.findings.iter().take(FINDINGS_SHOWN) {
        writeln!(text, "  WRONG  {}, {}: {}", finding.book, finding.whose, finding.says)?;
    }
    match audit.findings.len().saturating_sub(FINDINGS_SHOWN) {
        0 => Ok(()),
        more => writeln!(text, "  … and {more} more"),
    }
}

//! What is told on the terminal, before and after.

use super::faults::Kill;
use super::ledger::{Check, Ledger};
use super::plan::Plan;
use super::traffic::Outcome;
use super::{DemoArgs, faults};
use sagamq_api::saga::{SagaState, StepState};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

/// What is going to happen, and why it is worth watching.
pub(super) fn introduction(args: &DemoArgs, plan: &Plan) -> String {
    format!(
        "\
SagaMQ demo: {orders} orders through a shop of four services (seed {seed})

  Order, payment, inventory and shipping are four processes with four databases. No transaction spans them; the saga
  `checkout` does: it reserves stock, a place on a truck and money, then takes the money, and undoes everything if one says no.

  On the way
    - customers order too much, to places that are not served, on empty or stolen cards, or send nonsense ({invalid} orders);
    - {lost:.1} % of all replies are lost after their effect was committed: the call comes again and must not count twice;
    - the payment service is killed (kill -9) and stays down for {outage} s: orders wait, none is lost;
    - the broker is killed (kill -9) and started again on its data: what was acknowledged is there, every saga goes on.
  At the end the books of all four are compared. Not one cent and not one mug may be missing.
",
        orders = plan.orders.len(),
        seed = args.seed,
        invalid = plan.invalid(),
        lost = args.lose_replies * 100.0,
        outage = faults::OUTAGE.as_secs(),
    )
}

/// The report, as text.
pub(super) fn report(outcome: &Outcome, kills: &[Kill], ledger: &Ledger, checks: &[Check], took: Duration) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write_outcomes(&mut text, outcome);
    let _ = write_steps(&mut text, outcome);
    let _ = write_kills(&mut text, outcome, kills, ledger);
    let _ = write_speed(&mut text, outcome, took);
    let _ = write_checks(&mut text, checks);
    text
}

fn write_outcomes(text: &mut String, outcome: &Outcome) -> std::fmt::Result {
    let mut outcomes: BTreeMap<(SagaState, String), usize> = BTreeMap::new();
    for ended in &outcome.ended {
        let summary = &ended.saga.summary;
        let why = summary.failure.as_ref().map_or_else(String::new, |failure| failure.code.clone());
        *outcomes.entry((summary.state, why)).or_default() += 1;
    }
    writeln!(text, "\nORDERS BY OUTCOME")?;
    for ((state, why), count) in &outcomes {
        writeln!(text, "  {count:>7}  {state:<12} {why}")?;
    }
    writeln!(text, "  {:>7}  {:<12} INVALID_ORDER (no saga was started)", outcome.refused, "REFUSED")
}

fn write_steps(text: &mut String, outcome: &Outcome) -> std::fmt::Result {
    #[derive(Default)]
    struct Counts {
        compensated: usize,
        retries: u32,
    }
    let mut steps: Vec<(String, Counts)> = Vec::new();
    for step in outcome.ended.iter().flat_map(|ended| &ended.saga.steps) {
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

fn write_kills(text: &mut String, outcome: &Outcome, kills: &[Kill], ledger: &Ledger) -> std::fmt::Result {
    writeln!(text, "\nWHAT WENT WRONG")?;
    for kill in kills {
        let Kill { who, ended, .. } = kill;
        let left = if kill.down.is_zero() { String::new() } else { format!(", left dead for {:.1} s", kill.down.as_secs_f64()) };
        writeln!(text, "  {:>5.1} s  kill -9 {who} when {ended} orders had ended{left};", kill.at.as_secs_f64())?;
        let (ready, next) = (kill.ready.as_millis(), kill.next_order.as_secs_f64());
        writeln!(text, "           ready {ready} ms after its start, next order ended {next:.2} s after the kill")?;
    }
    for (service, counts) in &ledger.calls {
        let since = if *service == super::site::PAYMENT { " (since its restart)" } else { "" };
        writeln!(text, "  {service}: {} calls, {} of them repetitions that changed nothing{since}", counts.calls, counts.repeated)?;
    }
    writeln!(text, "  {} orders were sent again by their customers because there was no answer", outcome.sent_again)
}

fn write_speed(text: &mut String, outcome: &Outcome, took: Duration) -> std::fmt::Result {
    let mut times: Vec<u64> =
        outcome.ended.iter().map(|ended| &ended.saga.summary).map(|it| it.updated_at_ms.saturating_sub(it.started_at_ms)).collect();
    times.sort_unstable();
    let at = |percent: usize| times.get((times.len() * percent / 100).min(times.len().saturating_sub(1))).copied().unwrap_or(0);
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate = outcome.ended.len() as f64 / took.as_secs_f64().max(0.001);
    writeln!(text, "\nSPEED, outages included")?;
    writeln!(text, "  {} sagas in {:.1} s: {rate:.0} a second", outcome.ended.len(), took.as_secs_f64())?;
    writeln!(text, "  from start to end: half within {} ms, 90 % within {} ms, 99 % within {} ms", at(50), at(90), at(99))
}

fn write_checks(text: &mut String, checks: &[Check]) -> std::fmt::Result {
    writeln!(text, "\nTHE BOOKS")?;
    for check in checks {
        let mark = if check.holds() { "ok   " } else { "WRONG" };
        let sides = if check.holds() { check.left.clone() } else { format!("{} is not {}", check.left, check.right) };
        writeln!(text, "  {mark}  {:<52} {sides}", check.says)?;
    }
    let wrong = checks.iter().filter(|check| !check.holds()).count();
    match wrong {
        0 => writeln!(text, "\nThe books balance."),
        wrong => writeln!(text, "\nThe books DO NOT balance: {wrong} of {} equations are wrong.", checks.len()),
    }
}

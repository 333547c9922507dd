//! The atomicity drill: coordinator and participants of two-phase commit are killed at every point of a transaction, one run at a time.
//!
//! After each run everything must be decided, everywhere alike and as the coordinator says, all books must balance, and no prepared
//! transaction may be left.

mod case;
mod play;
mod tally;

use super::audit::{Audit, Finding};
use super::books;
use super::occurred::Occurrence;
use super::plan::Plan;
use super::site::Site;
use super::traffic::{End, Ended, Outcome};
use super::{SiteArgs, TrialError, run};
use crate::domain::Money;
use crate::inventory::{NewRepack, Repack};
use crate::mode::Mode;
use crate::provider::NewCard;
use case::Work;
use indicatif::{ProgressBar, ProgressStyle};
use play::{CARD, Done, IN_STOCK, Played, REPACK, REPACKED, SOLD_OUT};
use sagamq_api::saga::SagaState;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use tokio::time::Instant;

/// Pieces that come in: enough for every run.
const PIECES: u64 = 1_000_000;

/// How often a run is played whose point is not reached: an action is asked for once, so one that takes too long on a busy machine ends
/// its transaction before.
const TRIES: u32 = 8;

/// The transaction with one branch, as it lies beside the sources.
const REPACK_2PC: &str = include_str!("../../../sagas/repack-2pc.yaml");

/// What is in the one wallet.
const RICH: Money = Money(100_000_000_000);

/// Options of the atomicity drill.
#[derive(Clone, Debug, clap::Args)]
pub struct AtomicArgs {
    /// Runs, each with a kill
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub runs: u64,
    /// Give up after so many seconds
    #[arg(long, default_value_t = 3_600, value_name = "SECONDS")]
    pub time_limit: u64,
    /// Those of everything that runs the shop.
    #[command(flatten)]
    pub site: SiteArgs,
}

/// Runs the drill. All processes are gone when this returns.
///
/// # Errors
/// [`TrialError`]; [`TrialError::Failed`] when a transaction was not atomic, a book is wrong, or a kill never came about.
pub async fn run(args: AtomicArgs) -> Result<(), TrialError> {
    let cases = case::draw(args.site.seed, usize::try_from(args.runs).unwrap_or(usize::MAX));
    let mut plan = Plan { mode: Mode::TwoPhase, ..Plan::default() };
    plan.stock = [(IN_STOCK.to_owned(), PIECES), (SOLD_OUT.to_owned(), 0), (REPACKED.to_owned(), 0)].into();
    plan.cards = [(CARD.to_owned(), NewCard { limit: RICH, ..NewCard::default() })].into();
    println!("{}", introduction(&args));
    let limit = Duration::from_secs(args.time_limit);
    run::trial(&args.site, 0.0, &plan, async |site| {
        run::open(&site, &plan).await?;
        run::publish(&site, REPACK_2PC).await?;
        let sagas = site.client()?.sagas();
        let (mut plan, mut outcome, mut played) = (plan.clone(), Outcome::default(), Vec::new());
        let (began, bar) = (Instant::now(), progress_bar(cases.len()));
        let mut to_play: VecDeque<_> = cases.iter().map(|&case| (case, TRIES - 1)).collect();
        while let Some((case, tries_left)) = to_play.pop_front() {
            let number = played.len();
            let left = limit.saturating_sub(began.elapsed());
            let next = play::play(&site, &sagas, case, format!("run-{number:04}"));
            let next = tokio::time::timeout(left, next).await;
            let run = next.map_err(|_| TrialError::TimeLimit { limit, ended: number, orders: cases.len() })??;
            if !run.is_reached && tries_left > 0 {
                to_play.push_front((case, tries_left - 1));
                bar.inc_length(1);
            }
            match &run.done {
                Done::Order(order) => {
                    plan.orders.push(order.clone());
                    let end = End::Saga(Box::new(run.saga.clone()));
                    outcome.ended.push(Ended { order: order.clone(), end, took: run.settled, stands: None });
                }
                Done::Repack(repack) if run.saga.summary.state == SagaState::Completed => {
                    // As if the pieces had come in as what they are now.
                    *plan.stock.entry(repack.from.clone()).or_default() -= repack.pieces;
                    *plan.stock.entry(repack.to.clone()).or_default() += repack.pieces;
                }
                Done::Repack(_) => {}
            }
            bar.inc(1);
            let disagreement = disagreement(&run);
            played.push(run);
            let mut audit = close(&site, &plan, &outcome, &played).await?;
            audit.findings.extend(disagreement);
            if !audit.findings.is_empty() {
                bar.finish_and_clear();
                println!("Run {number} went wrong: {case:?}");
                return run::verdict(&audit, &[]);
            }
        }
        bar.finish_and_clear();
        println!("{}", tally::table(&played));
        println!(
            "{} of {} planned kills, in {} runs and {:.0} s. After each: every branch decided alike, nothing prepared left.",
            played.iter().filter(|run| run.is_reached).count(),
            cases.len(),
            played.len(),
            began.elapsed().as_secs_f64()
        );
        let audit = close(&site, &plan, &outcome, &played).await?;
        run::verdict(&audit, &must_occur(&played))
    })
    .await
}

/// Collects the books and audits them: those of orders, and what was repacked.
async fn close(site: &Site, plan: &Plan, outcome: &Outcome, played: &[Played]) -> Result<Audit, TrialError> {
    const BOOK: &str = "repacked";
    let (books, mut audit) = run::close(site, plan, outcome).await?;
    let (mut must_be, mut transactions) = (BTreeMap::new(), Vec::new());
    for run in played {
        let Done::Repack(NewRepack { repack_id, from, to, pieces }) = &run.done else { continue };
        transactions.push((run.saga.summary.id, run.saga.summary.state));
        if run.saga.summary.state == SagaState::Completed {
            let row = Repack { from: from.clone(), to: to.clone(), pieces: *pieces, packed: true };
            must_be.insert(repack_id.clone(), row);
        }
    }
    audit.same(BOOK, "at the inventory", books.inventory.repacks, must_be);
    let mut known: Vec<_> = books::of_definition(site, REPACK).await?.into_iter().map(|it| (it.id, it.state)).collect();
    known.sort_unstable();
    transactions.sort_unstable();
    audit.same(BOOK, "transactions", known, transactions);
    Ok(audit)
}

/// A run in which the transaction came to something else than the point that was reached allows: nobody is told to commit what is rolled
/// back after all, and nobody to roll back what is committed.
fn disagreement(run: &Played) -> Option<Finding> {
    let state = run.saga.summary.state;
    let must = run.case.commits().filter(|_| run.is_reached);
    let is_right = state.is_final() && must.is_none_or(|commits| commits == (state == SagaState::Completed));
    (!is_right).then(|| Finding { book: "outcomes", whose: run.saga.summary.key.clone(), says: format!("{state} after {:?}", run.case) })
}

fn must_occur(played: &[Played]) -> Vec<Occurrence> {
    let occurrence = |what: &str, times: usize| Occurrence { what: what.to_owned(), times: times as u64 };
    let runs = |holds: &dyn Fn(&Played) -> bool| played.iter().filter(|run| run.is_reached && holds(run)).count();
    let committed = |run: &Played| run.saga.summary.state == SagaState::Completed;
    let is_alone = |run: &Played| run.case.work == Work::Repack;
    let mut all = vec![
        occurrence("kills", runs(&|_| true)),
        occurrence("transactions that committed although somebody was killed", runs(&committed)),
        occurrence("transactions that were rolled back", runs(&|run| !committed(run))),
        occurrence("runs in which a branch was seen in doubt", runs(&|run| !run.in_doubt.is_zero())),
        // Zero is what must not be: a plan of which every kind of kill came about.
        occurrence("every kind of kill that was planned came about", usize::from(tally::never_killed(played) == 0)),
    ];
    // A short drill may have drawn none.
    if played.iter().any(is_alone) {
        all.push(occurrence("kills around the one branch that has the decision", runs(&is_alone)));
    }
    all
}

fn introduction(args: &AtomicArgs) -> String {
    format!(
        "\
SagaMQ atomicity drill: {runs} transactions, most over four services and some at one (seed {seed})

  In each, one process is killed (kill -9) at a point of two-phase commit: the coordinator, or a participant, before, during and after
  its work, its vote, its commit and its rollback, or around the decision of the one branch that has it. It is started again on its data, and nobody helps: prepared branches ask the
  coordinator. Then all branches must have come to the same, the books must balance, and nothing may be prepared any more.
",
        runs = args.runs,
        seed = args.site.seed,
    )
}

fn progress_bar(runs: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("  {bar:40} {pos} of {len} runs, {elapsed}").expect("the template is legal");
    ProgressBar::new(runs as u64).with_style(style)
}

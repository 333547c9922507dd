//! The followers drill: services that only hear what others tell are away, and then slow, while orders go through; then they catch up.

use super::audit::Audit;
use super::occurred::Occurrence;
use super::plan::{ORDERS_MIN, Plan, Trouble};
use super::site::{NOTIFICATIONS, STATUS, Site};
use super::traffic::{Ended, Outcome};
use super::{TrialArgs, TrialError, books, run};
use crate::mode::Mode;
use crate::status::Stage;
use sagamq_api::saga::SagaState;
use std::time::Duration;
use tokio::time::Instant;

/// Nothing goes wrong but the followers.
const NO_TROUBLE: Trouble = Trouble { doubts_each: 0, doubt_share: 0.0 };

/// How long a slow follower takes for an event: long enough to be behind when the last order ends, however slow the machine is.
pub(super) const SLOW_MS: u64 = 500;

/// Longest time until the followers have caught up.
const LIMIT: Duration = Duration::from_secs(120);

/// Pause between two looks whether they have.
const LOOK: Duration = Duration::from_millis(100);

/// Options of the followers drill.
#[derive(Clone, Debug, clap::Args)]
pub struct FollowersArgs {
    /// Orders to draw
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(ORDERS_MIN..=100_000))]
    pub orders: u64,
    /// How orders are sold
    #[arg(long, value_enum, default_value_t)]
    pub mode: Mode,
    /// Those that demo and drills share.
    #[command(flatten)]
    pub trial: TrialArgs,
}

/// Runs the drill. All processes are gone when this returns.
///
/// # Errors
/// [`TrialError`]; [`TrialError::Failed`] when an order waited for a follower, or a follower has missed something.
pub async fn run(args: FollowersArgs) -> Result<(), TrialError> {
    let plan = Plan::draw(args.trial.site.seed, args.orders, NO_TROUBLE).in_mode(args.mode);
    println!(
        "\
SagaMQ followers drill: {} orders, mode {} (seed {})

  The notification service and the order-status read model hear of orders by queue groups of their own. While the first half of the orders
  goes through, neither runs. Then both are started, and take {SLOW_MS} ms for each event, while the second half goes through. No order
  may wait for them, and in the end both must know everything.
",
        plan.orders.len(),
        plan.mode,
        args.trial.site.seed,
    );
    run::trial(&args.trial.site, args.trial.lose_replies, &plan, async |site| {
        run::open(&site, &plan).await?;
        let (mut first, mut second) = (plan.clone(), plan.clone());
        second.orders = first.orders.split_off(plan.orders.len() / 2);
        let away = run::traffic(&args.trial, &site, &first, &[]).await?;
        let known_away = known(&away.outcome).len();
        println!("  {} orders have ended while both were away: half within {} ms.", known_away, away.outcome.within(50).as_millis());
        for follower in [NOTIFICATIONS, STATUS] {
            site.restart(follower).await?;
        }
        let slow = run::traffic(&args.trial, &site, &second, &[]).await?;
        let behind = (known(&slow.outcome).len() + known_away).saturating_sub(books::mails(&site).await?.len());
        println!("  {} more while both were slow: half within {} ms.", slow.outcome.ended.len(), slow.outcome.within(50).as_millis());
        println!("  The notification service is {behind} orders behind.");
        let outcome = away.outcome.with(slow.outcome);
        let (took, heard) = catch_up(&site, &outcome).await?;
        println!("  Both had caught up {:.1} s later.\n", took.as_secs_f64());
        let (_, mut audit) = run::close(&site, &plan, &outcome).await?;
        audit.add(heard);
        let must_occur = [
            Occurrence { what: "orders that ended while the followers were away".to_owned(), times: known_away as u64 },
            Occurrence { what: "orders that ended before a slow follower knew of it".to_owned(), times: behind as u64 },
        ];
        run::verdict(&audit, &must_occur)
    })
    .await
}

/// Orders of which the order service has told the end. A transaction that was rolled back has left nothing to tell.
fn known(outcome: &Outcome) -> Vec<&Ended> {
    let is_told = |it: &&Ended| it.saga().is_none_or(|saga| saga.state != SagaState::Failed);
    outcome.ended.iter().filter(is_told).collect()
}

/// Waits until both followers know of every end, and says how long that took. What they never hear of, the audit names.
async fn catch_up(site: &Site, outcome: &Outcome) -> Result<(Duration, Audit), TrialError> {
    let began = Instant::now();
    loop {
        let mut looked = Audit::default();
        let (mails, statuses) = (books::mails(site).await?, books::statuses(site).await?);
        for it in known(outcome) {
            let id = it.order.order_id.as_str();
            let (what, stage) = if it.is_completed() { ("completed", Stage::Completed) } else { ("rejected", Stage::Rejected) };
            looked.same("notifications", id, mails.contains_key(&format!("{id}/{what}")), true);
            looked.same("order status", id, statuses.get(id).map(|status| status.stage), Some(stage));
        }
        if looked.findings.is_empty() || began.elapsed() > LIMIT {
            return Ok((began.elapsed(), looked));
        }
        tokio::time::sleep(LOOK).await;
    }
}

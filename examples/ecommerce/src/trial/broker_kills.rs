//! The kills drill: the broker is killed again and again, every few seconds, while orders go through all five services.

use super::kills::{How, Strike};
use super::occurred::Occurrence;
use super::plan::{ORDERS_MIN, Plan, Trouble};
use super::site::BROKER;
use super::{TrialArgs, TrialError, branches, report, run};
use crate::mode::Mode;
use std::time::Duration;

/// Some doubt as well, so that kills meet it.
const TROUBLE: Trouble = Trouble { doubts_each: 1, doubt_share: 0.02 };

/// Kills are spread over the first so many percent of the orders, so that the last one meets orders too.
const PERCENT: usize = 95;

/// Options of the drill.
#[derive(Clone, Debug, clap::Args)]
pub struct BrokerKillsArgs {
    /// Orders to draw
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(ORDERS_MIN..=1_000_000))]
    pub orders: u64,
    /// How often the broker is killed
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u8).range(1..=95))]
    pub kills: u8,
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
/// [`TrialError`]; [`TrialError::Failed`] when a book is wrong, an order has not ended, or a kill did not come.
pub async fn run(args: BrokerKillsArgs) -> Result<(), TrialError> {
    let plan = Plan::draw(args.trial.site.seed, args.orders, TROUBLE).in_mode(args.mode);
    let strikes = strikes(args.kills.into());
    println!(
        "\
SagaMQ kills drill: {} orders through a shop of five services, mode {}, the broker is killed {} times (seed {})

  Each kill is a SIGKILL in the middle of the work; the broker is started again on its data at once. In the end every order has ended, every
  customer has paid exactly for what was sent to him, and nothing is left reserved.
",
        plan.orders.len(),
        plan.mode,
        strikes.len(),
        args.trial.site.seed,
    );
    run::trial(&args.trial.site, args.trial.lose_replies, &plan, async |site| {
        run::open(&site, &plan).await?;
        let ran = run::traffic(&args.trial, &site, &plan, &strikes).await?;
        if args.mode == Mode::TwoPhase {
            branches::until_nobody_is_in_doubt(&site).await?;
        }
        let (books, audit) = run::close(&site, &plan, &ran.outcome).await?;
        println!("{}", report::report(&ran, &books, plan.mode));
        let all_came = ran.kills.len() == strikes.len();
        let must_occur = [Occurrence { what: format!("{} kills of the broker", strikes.len()), times: u64::from(all_came) }];
        run::verdict(&audit, &must_occur)
    })
    .await
}

/// Spread evenly over the orders.
fn strikes(kills: usize) -> Vec<Strike> {
    let at = |number: usize| Strike { who: BROKER, at_percent: (number + 1) * PERCENT / (kills + 1), down: Duration::ZERO, how: How::Kill };
    (0..kills).map(at).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kills_are_spread_over_the_orders() {
        let at: Vec<_> = strikes(4).iter().map(|strike| strike.at_percent).collect();
        assert_eq!(at, [19, 38, 57, 76]);
        assert!(strikes(95).iter().all(|strike| strike.at_percent < PERCENT));
    }
}

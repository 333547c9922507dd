//! The doubt drill: the provider takes the money and its answer is lost, in every kind of step, while everybody is killed.

use super::kills::{How, Strike};
use super::occurred::Occurrence;
use super::plan::{ORDERS_MIN, Plan, Trouble};
use super::site::{BROKER, PAYMENT, PROVIDER};
use super::{TrialArgs, TrialError, occurred, report, run};
use crate::provider::{Fault, Purpose};
use std::time::Duration;

/// Who is killed when: each twice, so that a kill also meets what an earlier one left in doubt.
const STRIKES: [Strike; 6] = [
    Strike { who: PAYMENT, at_percent: 10, down: Duration::ZERO, how: How::Kill },
    Strike { who: PROVIDER, at_percent: 25, down: Duration::from_secs(1), how: How::Kill },
    Strike { who: BROKER, at_percent: 40, down: Duration::ZERO, how: How::Kill },
    Strike { who: PAYMENT, at_percent: 55, down: Duration::from_secs(2), how: How::Kill },
    Strike { who: PROVIDER, at_percent: 70, down: Duration::ZERO, how: How::Kill },
    Strike { who: BROKER, at_percent: 80, down: Duration::from_secs(1), how: How::Kill },
];

/// Every kind of doubt for certain, and a third of all other orders by chance.
const TROUBLE: Trouble = Trouble { doubts_each: 3, doubt_share: 0.33 };

/// Options of the doubt drill.
#[derive(Clone, Debug, clap::Args)]
pub struct DoubtArgs {
    /// Orders to draw
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(2 * ORDERS_MIN..=1_000_000))]
    pub orders: u64,
    /// Those that demo and drills share.
    #[command(flatten)]
    pub trial: TrialArgs,
}

/// Runs the drill. All processes are gone when this returns.
///
/// # Errors
/// [`TrialError`]; [`TrialError::Failed`] when a customer paid for anything but what was sent to him, or a kind of doubt did not occur.
pub async fn run(args: DoubtArgs) -> Result<(), TrialError> {
    let plan = Plan::draw(args.trial.site.seed, args.orders, TROUBLE);
    println!(
        "\
SagaMQ doubt drill: {} orders, {} doubts planned (seed {})

  The payment provider is another company's system. In {} kinds of step it does what it is asked for and the answer does not come, in
  {} ways; payment service, provider and broker are killed twice each. In the end every customer has paid exactly for what was
  sent to him, or has it back.
",
        plan.orders.len(),
        plan.faults.len(),
        args.trial.site.seed,
        Purpose::ALL.len(),
        Fault::ALL.len(),
    );
    run::trial(&args.trial.site, args.trial.lose_replies, &plan, async |site| {
        run::open(&site, &plan).await?;
        let ran = run::traffic(&args.trial, &site, &plan, &STRIKES).await?;
        let (books, audit) = run::close(&site, &plan, &ran.outcome).await?;
        println!("{}", report::report(&ran, &books, plan.mode));
        let mut must_occur = occurred::doubts_by_kind(&books);
        must_occur.extend([PAYMENT, PROVIDER, BROKER].map(|who| Occurrence {
            what: format!("kills of {who}"),
            times: ran.kills.iter().filter(|kill| kill.who == who).count() as u64,
        }));
        run::verdict(&audit, &must_occur)
    })
    .await
}

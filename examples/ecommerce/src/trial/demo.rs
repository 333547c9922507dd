//! The demo: an ordinary bad day of the shop.

use super::kills::Strike;
use super::plan::{ORDERS_MIN, Plan, Trouble};
use super::site::{BROKER, PAYMENT};
use super::{TrialArgs, TrialError, occurred, report, run};
use std::time::Duration;

/// How long the payment service stays down.
const OUTAGE: Duration = Duration::from_secs(3);

/// Who is killed when.
const STRIKES: [Strike; 2] =
    [Strike { who: PAYMENT, at_percent: 30, down: OUTAGE }, Strike { who: BROKER, at_percent: 60, down: Duration::ZERO }];

const TROUBLE: Trouble = Trouble { doubts_each: 1, doubt_share: 0.02 };

/// Options of the demo.
#[derive(Clone, Debug, clap::Args)]
pub struct DemoArgs {
    /// Orders to draw
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(ORDERS_MIN..=1_000_000))]
    pub orders: u64,
    /// Those that demo and drills share.
    #[command(flatten)]
    pub trial: TrialArgs,
}

/// Runs the demo. All processes are gone when this returns.
///
/// # Errors
/// [`TrialError`]; [`TrialError::Failed`] when everything ran and a book is wrong, or something that must occur did not.
pub async fn run(args: DemoArgs) -> Result<(), TrialError> {
    let plan = Plan::draw(args.trial.seed, args.orders, TROUBLE);
    println!("{}", introduction(&args, &plan));
    run::trial(&args.trial, &plan, async |site| {
        run::open(&site, &plan).await?;
        let ran = run::traffic(&args.trial, &site, &plan, &STRIKES).await?;
        let (books, audit) = run::close(&site, &plan, &ran.outcome).await?;
        println!("{}", report::report(&ran, &books));
        let mut must_occur = occurred::of_a_bad_day(&ran.outcome, &books);
        must_occur.extend(occurred::doubts_by_purpose(&books));
        run::verdict(&audit, &must_occur)
    })
    .await
}

/// What is going to happen, and why it is worth watching.
fn introduction(args: &DemoArgs, plan: &Plan) -> String {
    format!(
        "\
SagaMQ demo: {orders} orders through a shop of five services (seed {seed})

  Order, payment, inventory, shipping and loyalty are five processes with five databases; the money is at a payment provider that is
  in none of them. No transaction spans them. The saga `checkout` does: it reserves stock, a place on a truck and money, takes the
  money, sends the parcel, and undoes everything if one says no. Points for customers come by events.

  On the way
    - customers order too much, to places that are not served, on empty or stolen cards, send nonsense ({invalid} orders), change
      their minds ({cancelled}), or never confirm the payment;
    - {lost:.1} % of all replies are lost after their effect was committed: the call comes again and must not count twice;
    - the provider takes money and its answer is lost, late or wrong ({faults} planned);
    - some requests hang until their order was undone, and arrive after all;
    - the payment service is killed (kill -9) and stays down for {outage} s: orders wait, none is lost;
    - the broker is killed (kill -9) and started again on its data: what was acknowledged is there, every saga goes on.
  At the end the books are audited, order by order, card by card, article by article. Not one cent and not one mug may be missing.
",
        orders = plan.orders.len(),
        seed = args.trial.seed,
        invalid = plan.invalid(),
        cancelled = plan.cancelled.len(),
        lost = args.trial.lose_replies * 100.0,
        faults = plan.faults.len(),
        outage = OUTAGE.as_secs(),
    )
}

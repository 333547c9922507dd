//! The demo: an ordinary bad day of the shop.

use super::kills::{How, Strike};
use super::nodes::{NodesArgs, NodesPlan};
use super::plan::{ORDERS_MIN, Plan, Trouble};
use super::site::{BROKER, INVENTORY, PAYMENT};
use super::{TrialArgs, TrialError, branches, occurred, report, run};
use crate::mode::Mode;
use std::time::Duration;

/// How long the payment service stays down.
const OUTAGE: Duration = Duration::from_secs(3);

/// Who is killed when, unless orders are sold by transactions.
const STRIKES: [Strike; 2] = [
    Strike { who: PAYMENT, at_percent: 30, down: OUTAGE, how: How::Kill },
    Strike { who: BROKER, at_percent: 60, down: Duration::ZERO, how: How::Kill },
];

/// The same if they are sold by transactions, each while somebody's branch is prepared and waits for the decision.
const STRIKES_2PC: [Strike; 3] = [
    Strike { who: PAYMENT, at_percent: 30, down: OUTAGE, how: How::KillWhileInDoubt(PAYMENT) },
    Strike { who: INVENTORY, at_percent: 50, down: Duration::ZERO, how: How::LoseDecision },
    Strike { who: BROKER, at_percent: 60, down: Duration::ZERO, how: How::KillWhileInDoubt(INVENTORY) },
];

const TROUBLE: Trouble = Trouble { doubts_each: 1, doubt_share: 0.02 };

/// Options of the demo.
#[derive(Clone, Debug, clap::Args)]
pub struct DemoArgs {
    /// Orders to draw
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(ORDERS_MIN..=1_000_000))]
    pub orders: u64,
    /// How orders are sold
    #[arg(long, value_enum, default_value_t)]
    pub mode: Mode,
    /// Whether the broker is one server.
    #[command(flatten)]
    pub nodes: NodesArgs,
    /// Those that demo and drills share.
    #[command(flatten)]
    pub trial: TrialArgs,
}

/// Runs the demo. All processes are gone when this returns.
///
/// # Errors
/// [`TrialError`]; [`TrialError::Failed`] when everything ran and a book is wrong, or something that must occur did not.
pub async fn run(args: DemoArgs) -> Result<(), TrialError> {
    let plan = Plan::draw(args.trial.site.seed, args.orders, TROUBLE).in_mode(args.mode);
    let nodes = args.nodes.plan()?;
    let (introduction, strikes) = match args.mode {
        Mode::Saga => (introduction(&args, &plan, nodes.as_ref(), SAGA), &STRIKES[..]),
        Mode::Classic => (introduction(&args, &plan, nodes.as_ref(), CLASSIC), &STRIKES[..]),
        Mode::Choreography => (introduction(&args, &plan, nodes.as_ref(), CHOREOGRAPHY), &STRIKES[..]),
        Mode::TwoPhase => (introduction_2pc(&args, &plan, nodes.as_ref()), &STRIKES_2PC[..]),
    };
    println!("{introduction}");
    run::trial_over(&args.trial.site, nodes.as_ref(), args.trial.lose_replies, &plan, async |site| {
        run::open(&site, &plan).await?;
        let ran = run::traffic(&args.trial, &site, &plan, strikes).await?;
        if args.mode == Mode::TwoPhase {
            branches::until_nobody_is_in_doubt(&site).await?;
        }
        let (books, audit) = run::close(&site, &plan, &ran.outcome).await?;
        println!("{}", report::report(&ran, &books, plan.mode));
        let mut must_occur = match args.mode {
            Mode::Saga => [occurred::of_a_bad_day(&ran.outcome, &books), occurred::doubts_by_purpose(&books)].concat(),
            Mode::Classic => occurred::of_a_bad_day_in_four_steps(&ran.outcome, &books),
            Mode::Choreography => {
                [occurred::of_a_bad_day_without_sagas(&ran.outcome, &books), occurred::doubts_by_purpose(&books)].concat()
            }
            Mode::TwoPhase => occurred::of_transactions(&ran, &books),
        };
        if let Some(cluster) = site.cluster() {
            println!("{}", report::nodes(&cluster.status().await?, cluster.stepped_down()));
            must_occur.extend(occurred::of_a_lost_node(&ran));
        }
        run::verdict(&audit, &must_occur)
    })
    .await
}

/// What ties the services together.
const SAGA: &str = "\
No transaction spans them. The saga `checkout` does: it reserves stock, a place on a truck and money, takes the
  money, sends the parcel, and undoes everything if one says no. Points for customers come by events.";
const CLASSIC: &str = "\
No transaction spans them. The saga `checkout-classic` does, in the four steps of the text books: create the
  order, reserve stock, take the money, send the parcel. Each can be undone until the end, and is if a later one says no.";
const CHOREOGRAPHY: &str = "\
Nothing spans them, and nobody orders them about: each service hears what the others tell, does its part in
  its own database, and tells what it did. Nobody but the books knows how far an order is.";

/// What the broker is, as the introduction's end of a paragraph.
fn broker(nodes: Option<&NodesPlan>) -> String {
    let Some(NodesPlan { count, log }) = nodes else { return String::new() };
    let place = log.as_deref().unwrap_or("a folder");
    let stays = if log.is_some() { ", which stays there" } else { "" };
    format!(
        "
  The broker is a cluster of {count} nodes over a log in {place}{stays}. One node is active, the others stand by.
  Services and customers know the addresses of all of them, and find the one that serves.
"
    )
}

/// What befalls the broker.
const fn broker_dies(nodes: Option<&NodesPlan>) -> &'static str {
    match nodes {
        None => "the broker is killed (kill -9) and started again on its data: what was acknowledged is there, every order goes on",
        Some(_) => {
            "the active node is killed (kill -9) for good, and its disk with all data is gone: another node takes over, 7 s after the last
      that it heard of it (cluster_claim_after, as it is by default), with all that was acknowledged; a new node joins with an empty disk"
        }
    }
}

/// The same while a transaction is under way.
const fn broker_dies_in_doubt(nodes: Option<&NodesPlan>) -> &'static str {
    match nodes {
        None => "the broker is killed (kill -9) while a branch of the inventory has voted and waits: it keeps its locks, and asks",
        Some(_) => {
            "the active node is killed (kill -9) for good and its disk with all data is gone, while a branch of the inventory has voted and
      waits: it keeps its locks, and asks the node that takes over after 7 s (cluster_claim_after, as it is by default)"
        }
    }
}

/// What is going to happen, and why it is worth watching.
fn introduction(args: &DemoArgs, plan: &Plan, nodes: Option<&NodesPlan>, ties: &str) -> String {
    format!(
        "\
SagaMQ demo: {orders} orders through a shop of five services (seed {seed})

  Order, payment, inventory, shipping and loyalty are five processes with five databases; the money is at a payment provider that is
  in none of them. {ties}
{broker}
  On the way
    - customers order too much, to places that are not served, on empty or stolen cards, send nonsense ({invalid} orders), change
      their minds ({cancelled}), or never confirm the payment;
    - {lost:.1} % of all replies or acknowledgements are lost after their effect was committed: what comes again must not count twice;
    - the provider takes money and its answer is lost, late or wrong ({faults} planned);
    - some requests hang until their order was undone, and arrive after all;
    - the payment service is killed (kill -9) and stays down for {outage} s: orders wait, none is lost;
    - {broker_dies}.
  At the end the books are audited, order by order, card by card, article by article. Not one cent and not one mug may be missing.
",
        orders = plan.orders.len(),
        seed = args.trial.site.seed,
        invalid = plan.invalid(),
        cancelled = plan.cancelled.len(),
        lost = args.trial.lose_replies * 100.0,
        faults = plan.faults.len(),
        outage = OUTAGE.as_secs(),
        broker = broker(nodes),
        broker_dies = broker_dies(nodes),
    )
}

/// The same for transactions.
fn introduction_2pc(args: &DemoArgs, plan: &Plan, nodes: Option<&NodesPlan>) -> String {
    format!(
        "\
SagaMQ demo: {orders} orders through a shop of four services, each in one transaction (seed {seed})

  Order, payment, inventory and shipping are processes with databases of their own. The transaction `checkout-2pc` spans them, by
  two-phase commit: all of them commit, or none. Customers pay from wallets in the payment service's database: the payment provider, which
  is another company's, cannot promise to take money without taking it. Points for customers come by events.
{broker}
  On the way
    - customers order too much, to places that are not served, on empty or stolen cards, or send nonsense ({invalid} orders);
    - {lost:.1} % of all answers are lost: an action without an answer ends its transaction, a vote or a decision is asked for again;
    - the payment service is killed (kill -9) with a branch that has voted, and stays down for {outage} s;
    - a decision to commit is lost on its way to the inventory, which has to ask;
    - {broker_dies}.
  At the end the books are audited, order by order, wallet by wallet, article by article, and nothing may be prepared any more.
",
        orders = plan.orders.len(),
        seed = args.trial.site.seed,
        invalid = plan.invalid(),
        lost = args.trial.lose_replies * 100.0,
        outage = OUTAGE.as_secs(),
        broker = broker(nodes),
        broker_dies = broker_dies_in_doubt(nodes),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        demo: DemoArgs,
    }

    #[test]
    fn a_demo_over_nodes_says_which_of_them_is_lost_and_where_the_log_is() {
        let demo = Cli::try_parse_from(["demo", "--orders", "100"]).expect("legal").demo;
        let plan = Plan::draw(7, demo.orders, TROUBLE);
        let alone = introduction(&demo, &plan, None, SAGA);
        assert!(alone.contains("the broker is killed (kill -9) and started again on its data") && !alone.contains("node"), "{alone}");
        for (log, says) in
            [(None, "3 nodes over a log in a folder."), (Some("s3://b/demo-1".to_owned()), "s3://b/demo-1, which stays there")]
        {
            let nodes = NodesPlan { count: 3, log };
            for text in [introduction(&demo, &plan, Some(&nodes), SAGA), introduction_2pc(&demo, &plan, Some(&nodes))] {
                assert!(text.contains(says) && text.contains("the active node is killed (kill -9) for good"), "{text}");
                assert!(!text.contains("the broker is killed"), "{text}");
            }
        }
    }
}

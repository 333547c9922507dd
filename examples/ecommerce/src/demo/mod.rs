//! The demo: the whole shop as real processes, thousands of orders, two kills, and the books at the end.

mod faults;
mod ledger;
mod plan;
mod process;
mod report;
mod site;
mod traffic;

use indicatif::{ProgressBar, ProgressStyle};
use ledger::Ledger;
use plan::Plan;
use sagamq_sdk::ClientError;
use serde::Serialize;
use site::{BROKER, PAYMENT, Site, Workplace};
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// The definition, as it lies beside the sources.
const CHECKOUT: &str = include_str!("../../sagas/checkout.yaml");

/// The address of shipping in the definition; the demo puts the real one there.
const SHIPPING_ADDRESS: &str = "http://127.0.0.1:7104";

/// Options of the demo.
#[derive(Clone, Debug, clap::Args)]
pub struct DemoArgs {
    /// Orders to draw
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub orders: u64,
    /// Seed that stock, cards and orders are drawn from
    #[arg(long, default_value_t = 7)]
    pub seed: u64,
    /// The program `sagamq` [default: the one beside this program]
    #[arg(long, value_name = "PATH")]
    pub sagamq: Option<PathBuf>,
    /// Orders under way at the same time
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub in_flight: u64,
    /// Share of replies (0 to 1) that are lost after their effect was committed
    #[arg(long, default_value_t = 0.01, value_name = "SHARE")]
    pub lose_replies: f64,
    /// Give up after so many seconds
    #[arg(long, default_value_t = 600, value_name = "SECONDS")]
    pub time_limit: u64,
    /// Leave data and logs where they are
    #[arg(long)]
    pub keep: bool,
}

/// Why the demo did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// There is no broker to start.
    #[error("there is no program {}; build it with `make build`, or name it with --sagamq", path.display())]
    NoBroker {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// A process cannot be started.
    #[error("{name} cannot be started ({}): {source}", program.display())]
    Start {
        /// Its name.
        name: &'static str,
        /// Its program.
        program: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// A process ended although nobody killed it.
    #[error("{name} ended by itself ({status}); the end of its log:\n{log}")]
    Died {
        /// Its name.
        name: &'static str,
        /// How.
        status: ExitStatus,
        /// Its last lines.
        log: String,
    },
    /// A process does not answer.
    #[error("{name} did not answer for {} s; the end of its log:\n{log}", waited.as_secs())]
    NotReady {
        /// Its name.
        name: &'static str,
        /// How long.
        waited: Duration,
        /// Its last lines.
        log: String,
    },
    /// The orders did not end in time.
    #[error("after {} s only {ended} of {orders} orders had ended: giving up (--time-limit)", limit.as_secs())]
    TimeLimit {
        /// The limit.
        limit: Duration,
        /// Orders that had ended.
        ended: usize,
        /// Orders in all.
        orders: usize,
    },
    /// Somebody pressed Ctrl-C.
    #[error("interrupted")]
    Interrupted,
    /// A service answered what it must not.
    #[error("{0}")]
    WrongAnswer(String),
    /// The books do not balance.
    #[error("{wrong} equations of the books are wrong")]
    Unbalanced {
        /// How many.
        wrong: usize,
    },
    /// The broker refused something.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A service cannot be reached.
    #[error(transparent)]
    Http(#[from] reqwest::Error),
    /// Files, processes.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A task of the demo panicked.
    #[error(transparent)]
    Panicked(#[from] tokio::task::JoinError),
}

/// Runs the demo. All processes are gone when this returns.
///
/// # Errors
/// [`DemoError`]; [`DemoError::Unbalanced`] when everything ran and the books are wrong.
pub async fn run(args: DemoArgs) -> Result<(), DemoError> {
    let mut workplace = Workplace::new()?;
    let plan = Plan::draw(args.seed, usize::try_from(args.orders).unwrap_or(usize::MAX));
    println!("{}", report::introduction(&args, &plan));
    let site = Arc::new(Site::prepare(&args, workplace.path())?);
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let result = tokio::select! {
        result = play(&args, &plan, &site) => result,
        died = site.watch() => Err(died),
        _ = tokio::signal::ctrl_c() => Err(DemoError::Interrupted),
        _ = terminate.recv() => Err(DemoError::Interrupted),
    };
    site.stop().await?;
    // Whoever has to find out what went wrong needs the data and the logs.
    if args.keep || !matches!(result, Ok(()) | Err(DemoError::Interrupted)) {
        println!("Data and logs are in {}", workplace.path().display());
        workplace.keep();
    }
    result
}

async fn play(args: &DemoArgs, plan: &Plan, site: &Arc<Site>) -> Result<(), DemoError> {
    site.start().await?;
    put(site, "inventory", "stock", &plan.stock).await?;
    put(site, PAYMENT, "cards", &plan.cards).await?;
    let definition = CHECKOUT.replace(SHIPPING_ADDRESS, &site.url("shipping"));
    let published = site.client()?.sagas().publish(&definition).await?;
    println!(
        "Broker at {}, four services beside it, saga `{}` version {} published.\n",
        site.url(BROKER),
        published.name,
        published.version
    );

    let orders = plan.orders.len() - plan.invalid();
    let bar = progress_bar(orders);
    let (progress, seen) = watch::channel(0);
    let began = Instant::now();
    let say = |line: String| bar.suspend(|| println!("  [{:5.1} s] {line}", began.elapsed().as_secs_f64()));
    let in_flight = usize::try_from(args.in_flight).unwrap_or(usize::MAX);
    let traffic = async {
        let ended = traffic::run(Arc::clone(site), plan.orders.clone(), in_flight, progress).await;
        ended.map(|outcome| (outcome, began.elapsed()))
    };
    let limit = Duration::from_secs(args.time_limit);
    let all = tokio::time::timeout(limit, async {
        tokio::try_join!(traffic, faults::run(site, orders, seen.clone(), say), show(&bar, seen.clone()))
    });
    let ((outcome, took), kills, ()) = all.await.map_err(|_| DemoError::TimeLimit { limit, ended: *seen.borrow(), orders })??;
    bar.finish_and_clear();

    let ledger = Ledger::collect(site, &outcome).await?;
    let checks = ledger.checks(plan, &outcome);
    println!("{}", report::report(&outcome, &kills, &ledger, &checks, took));
    match checks.iter().filter(|check| !check.holds()).count() {
        0 => Ok(()),
        wrong => Err(DemoError::Unbalanced { wrong }),
    }
}

/// Moves the bar until the traffic is over.
async fn show(bar: &ProgressBar, mut seen: watch::Receiver<usize>) -> Result<(), DemoError> {
    while seen.changed().await.is_ok() {
        bar.set_position(*seen.borrow_and_update() as u64);
    }
    Ok(())
}

fn progress_bar(orders: usize) -> ProgressBar {
    let style =
        ProgressStyle::with_template("  {bar:40} {pos} of {len} orders ended, {per_sec}, {elapsed}").expect("the template is legal");
    ProgressBar::new(orders as u64).with_style(style)
}

async fn put<T: Serialize>(site: &Site, service: &str, path: &str, body: &T) -> Result<(), DemoError> {
    site.http().put(format!("{}/{path}", site.url(service))).json(body).send().await?.error_for_status()?;
    Ok(())
}

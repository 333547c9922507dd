//! One run of the shop: set up, traffic beside kills, books and audit.

use super::audit::{Audit, audit};
use super::books::{self, Books};
use super::kills::{self, Kill, Strike};
use super::nodes::NodesPlan;
use super::occurred::Occurrence;
use super::plan::Plan;
use super::report;
use super::site::{INVENTORY, ORDER, PAYMENT, PROVIDER, SHIPPING, Site, Workplace};
use super::traffic::{self, Outcome};
use super::{SiteArgs, TrialArgs, TrialError};
use super::{branches, events};
use crate::mode::Mode;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// The definitions, as they lie beside the sources.
const CHECKOUT: &str = include_str!("../../sagas/checkout.yaml");
const CHECKOUT_CLASSIC: &str = include_str!("../../sagas/checkout-classic.yaml");
const CHECKOUT_2PC: &str = include_str!("../../sagas/checkout-2pc.yaml");

/// The addresses of services in the definitions; the real ones are put there.
const ADDRESSES: [(&str, &str); 4] = [
    (ORDER, "http://127.0.0.1:7101"),
    (PAYMENT, "http://127.0.0.1:7102"),
    (INVENTORY, "http://127.0.0.1:7103"),
    (SHIPPING, "http://127.0.0.1:7104"),
];

/// Longest time for events to arrive after their orders have ended.
const EVENTS_LIMIT: Duration = Duration::from_secs(60);

/// Pause between two looks whether they have.
const LOOK: Duration = Duration::from_millis(100);

/// What traffic under kills came to.
pub(super) struct Ran {
    pub(super) outcome: Outcome,
    pub(super) kills: Vec<Kill>,
    pub(super) took: Duration,
}

/// Prepares the shop of `plan` with a broker that is one server, and plays `play` in it. All processes are gone when this returns.
pub(super) async fn trial<F: Future<Output = Result<(), TrialError>>>(
    args: &SiteArgs,
    lose_replies: f64,
    plan: &Plan,
    play: impl FnOnce(Arc<Site>) -> F,
) -> Result<(), TrialError> {
    trial_over(args, None, lose_replies, plan, play).await
}

/// [`trial`], with a broker of several nodes if `nodes` says so.
pub(super) async fn trial_over<F: Future<Output = Result<(), TrialError>>>(
    args: &SiteArgs,
    nodes: Option<&NodesPlan>,
    lose_replies: f64,
    plan: &Plan,
    play: impl FnOnce(Arc<Site>) -> F,
) -> Result<(), TrialError> {
    let mut workplace = Workplace::new()?;
    let (postgres, container) = args.server().await?;
    let site = Arc::new(Site::prepare(args, nodes, postgres.as_deref(), lose_replies, plan, workplace.path()).await?);
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let result = tokio::select! {
        result = play(Arc::clone(&site)) => result,
        died = site.watch() => Err(died),
        _ = tokio::signal::ctrl_c() => Err(TrialError::Interrupted),
        _ = terminate.recv() => Err(TrialError::Interrupted),
    };
    site.stop().await?;
    // Whoever has to find out what went wrong needs the data and the logs.
    if args.keep || !matches!(result, Ok(()) | Err(TrialError::Interrupted)) {
        println!("Data and logs are in {}", workplace.path().display());
        workplace.keep();
        if let Some(container) = container {
            container.keep();
        }
    } else if let Some(container) = container {
        container.remove().await;
    } else if let Some(databases) = site.databases() {
        databases.remove().await?;
    }
    result
}

/// Starts everything, fills stock and cards or wallets, plans what goes wrong, and publishes the definition.
pub(super) async fn open(site: &Site, plan: &Plan) -> Result<(), TrialError> {
    site.start().await?;
    put(site, INVENTORY, "stock", &plan.stock).await?;
    match plan.mode {
        Mode::Saga | Mode::Classic | Mode::Choreography => {
            put(site, PROVIDER, "cards", &plan.cards).await?;
            put(site, PROVIDER, "faults", &plan.faults).await?;
        }
        Mode::TwoPhase => put(site, PAYMENT, "wallets", &plan.wallets()).await?,
    }
    match plan.mode {
        Mode::Saga => publish(site, CHECKOUT).await,
        Mode::Classic => publish(site, CHECKOUT_CLASSIC).await,
        Mode::Choreography => {
            println!("Broker and services are up. There is nothing to publish.\n");
            Ok(())
        }
        Mode::TwoPhase => publish(site, CHECKOUT_2PC).await,
    }
}

/// Publishes a definition, with the addresses of the services put in.
pub(super) async fn publish(site: &Site, definition: &str) -> Result<(), TrialError> {
    let definition =
        ADDRESSES.iter().fold(definition.to_owned(), |definition, (service, address)| definition.replace(address, &site.url(service)));
    let published = site.client()?.sagas().publish(&definition).await?;
    println!("Broker and services are up, `{}` version {} is published.\n", published.name, published.version);
    Ok(())
}

/// Sends all orders of `plan` and strikes on the way.
pub(super) async fn traffic(args: &TrialArgs, site: &Arc<Site>, plan: &Plan, strikes: &[Strike]) -> Result<Ran, TrialError> {
    traffic_with(args, site, plan, strikes, async || Ok(())).await
}

/// [`traffic`], with something to do while a struck process is dead.
pub(super) async fn traffic_with(
    args: &TrialArgs,
    site: &Arc<Site>,
    plan: &Plan,
    strikes: &[Strike],
    meanwhile: impl AsyncFn() -> Result<(), TrialError>,
) -> Result<Ran, TrialError> {
    let orders = plan.orders.len() - plan.invalid();
    let bar = progress_bar(orders);
    let (progress, seen) = watch::channel(0);
    let began = Instant::now();
    let say = |line: String| bar.suspend(|| println!("  [{:5.1} s] {line}", began.elapsed().as_secs_f64()));
    let in_flight = args.in_flight.unwrap_or(match plan.mode {
        Mode::Saga | Mode::Classic | Mode::Choreography => 64,
        Mode::TwoPhase => 16,
    });
    let in_flight = usize::try_from(in_flight).unwrap_or(usize::MAX);
    let orders_sent = async {
        let ended = traffic::run(Arc::clone(site), plan, in_flight, progress).await;
        ended.map(|outcome| (outcome, began.elapsed()))
    };
    let limit = Duration::from_secs(args.time_limit);
    let all = tokio::time::timeout(limit, async {
        tokio::try_join!(orders_sent, kills::run(site, orders, strikes, meanwhile, seen.clone(), say), show(&bar, seen.clone()))
    });
    let ((outcome, took), kills, ()) = all.await.map_err(|_| TrialError::TimeLimit { limit, ended: *seen.borrow(), orders })??;
    bar.finish_and_clear();
    Ok(Ran { outcome, kills, took })
}

/// Waits for the events of all completed orders, then collects the books and audits them.
pub(super) async fn close(site: &Site, plan: &Plan, outcome: &Outcome) -> Result<(Books, Audit), TrialError> {
    if plan.mode == Mode::Choreography {
        return close_without_sagas(site, plan, outcome).await;
    }
    let completed = outcome.ended.iter().filter(|ended| ended.is_completed()).count();
    let began = Instant::now();
    // Should one never arrive, the audit says which.
    while books::loyalty(site).await?.given() < completed && began.elapsed() < EVENTS_LIMIT {
        tokio::time::sleep(LOOK).await;
    }
    let books = Books::collect(site, plan.mode).await?;
    let mut audit = audit(plan, &outcome.ended, outcome.refused, &books);
    if plan.mode == Mode::TwoPhase {
        let left = branches::in_doubt(site).await;
        audit.same("prepared transactions", "in the services", left, Some(Vec::new()));
        if let Some(databases) = site.databases() {
            audit.same("prepared transactions", "in pg_prepared_xacts", databases.prepared().await?, Vec::new());
        }
    }
    Ok((books, audit))
}

/// The same where nobody knows when all that follows from an order is done: its customer knows its end, and others may still give back what
/// they hold. So this waits until nothing is left to be heard, not even the end of an order's time, and looks until the books balance.
async fn close_without_sagas(site: &Site, plan: &Plan, outcome: &Outcome) -> Result<(Books, Audit), TrialError> {
    println!("  All orders have ended. Waiting until every event is heard, those of times that are over as well.\n");
    let began = Instant::now();
    loop {
        let is_quiet = events::are_all_heard(&site.client()?).await?;
        let is_over = began.elapsed() > EVENTS_LIMIT;
        if is_quiet || is_over {
            let books = Books::collect(site, plan.mode).await?;
            let mut audit = audit(plan, &outcome.ended, outcome.refused, &books);
            if audit.findings.is_empty() || is_over {
                audit.same("events", "all are heard", is_quiet, true);
                audit.same("events", "dead letters", events::dead_letters(&site.client()?).await?, 0);
                return Ok((books, audit));
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Prints what was found and what occurred, and says whether both are as they must be.
pub(super) fn verdict(audit: &Audit, must_occur: &[Occurrence]) -> Result<(), TrialError> {
    println!("{}", report::verdict(audit, must_occur));
    let missing = must_occur.iter().filter(|it| it.times == 0).count();
    match audit.findings.len() {
        0 if missing == 0 => Ok(()),
        wrong => Err(TrialError::Failed { wrong, missing }),
    }
}

/// Moves the bar until the traffic is over.
async fn show(bar: &ProgressBar, mut seen: watch::Receiver<usize>) -> Result<(), TrialError> {
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

async fn put<T: Serialize>(site: &Site, service: &str, path: &str, body: &T) -> Result<(), TrialError> {
    site.http().put(format!("{}/{path}", site.url(service))).json(body).send().await?.error_for_status()?;
    Ok(())
}

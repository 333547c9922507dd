//! The coordinator is killed when every participant has done its part and the coordinator does not know it yet: for two-phase commit
//! between the votes and the decision. Who is blocked, for how long, and what else stands still?
//!
//! The relay in front of shipping holds back the answers to the last message of each transaction, so the moment is no accident. While
//! the coordinator is away, others touch the same rows in local transactions of their own.

use super::measure::{Cell, LOCK_TIMEOUT, open};
use super::times::Times;
use super::{CellError, Desk};
use crate::books;
use crate::form::{Form, Mode};
use crate::load::{self, Arrival, End, Load, wall_us};
use crate::service::{RowKey, Touched};
use crate::site::{COORDINATOR, Cut, Site};
use crate::work::{Orders, Work, product};
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tokio::time::Instant;

/// Orders that are on their way when the coordinator dies, each of a product of its own.
const ORDERS: usize = 8;

/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(20);

/// What came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Blocking {
    /// The form's name.
    pub form: String,
    /// How long the coordinator was away, in seconds.
    pub away_s: f64,
    /// Transactions that were on their way.
    pub transactions: usize,
    /// Branches that held locks while it was away.
    pub branches_holding: usize,
    /// Local transactions of others on the same rows while it was away.
    pub others: u64,
    /// Of these, how many did not get their lock within its time.
    pub others_stalled: u64,
    /// How long the others waited.
    pub others_waited: Times,
    /// From the kill until the last of these rows could be touched again, in milliseconds.
    pub rows_blocked_ms: f64,
    /// From when the coordinator was started again until every transaction had ended, in milliseconds.
    pub settled_ms: f64,
    /// Transactions done in the end.
    pub done: usize,
    /// Transactions undone in the end.
    pub undone: usize,
}

/// Kills the coordinator for `away` in the middle of some orders.
///
/// # Errors
/// [`CellError`], also when the books do not balance.
pub async fn blocking(desk: &Desk, form: Form, away: Duration) -> Result<Blocking, CellError> {
    let work = Work::Orders(Orders { products: ORDERS, in_turn: true, ..Orders::default() });
    let mut cell = Cell::new("coordinator killed", format!("{away:?}"), form, work, Arrival::Once(ORDERS));
    for place in cell.places.iter_mut().filter(|place| place.name == "shipping") {
        place.round_trip = Some(Duration::ZERO);
    }
    desk.say(&cell);
    let mut site = open(desk, &cell).await?;
    let measured = run(&cell, &mut site, away, desk.seed).await;
    measured.map_err(|error| error.of(&cell, &mut site))
}

async fn run(cell: &Cell, site: &mut Site, away: Duration, seed: u64) -> Result<Blocking, CellError> {
    let (path, kind) = match cell.form.mode {
        Mode::Saga => ("/work/ship", "action"),
        Mode::TwoPhase => ("/2pc/prepare", "prepare"),
    };
    site.proxy("shipping").cut(Cut::AnswersTo(path));
    // Every product once, in turn, so that each order has its own row.
    let products = (0..ORDERS).map(|number| {
        let (_, mut input) = cell.work.inputs(seed).next_input();
        input["product"] = product(number).into();
        input["customer"] = crate::work::account(number).into();
        input
    });
    let inputs = cell.work.inputs(seed).again(products.collect(), 0);
    let load = Load { arrival: cell.arrival, warm: Duration::ZERO, span: away, count_max: ORDERS, drain: Duration::from_secs(120) };
    let client = site.client()?;
    let running = tokio::spawn(async move { load::run(&client, load, inputs).await });
    all_arrived(site, kind).await?;
    site.kill(COORDINATOR).await?;
    let killed = Instant::now();
    site.proxy("shipping").cut(Cut::Nothing);
    let branches_holding = site.stats().await?.iter().map(|stats| stats.open_branches).sum();
    let (mut waits, mut stalled) = (Vec::new(), 0);
    while killed.elapsed() < away {
        for touched in touch_all(site).await? {
            waits.push(touched.waited_us);
            stalled += u64::from(!touched.had);
        }
        tokio::time::sleep(LOOK * 5).await;
    }
    let back_us = wall_us();
    site.restart(COORDINATOR).await?;
    while touch_all(site).await?.iter().any(|touched| !touched.had) {
        tokio::time::sleep(LOOK).await;
    }
    // Without a single stall the rows were never blocked.
    let rows_blocked_ms = if stalled == 0 { 0.0 } else { killed.elapsed().as_secs_f64() * 1_000.0 };
    let loaded = running.await.expect("the load does not panic")?;
    let settled_us = loaded.ended.iter().map(|one| one.finished_us).max().unwrap_or(0).saturating_sub(back_us);
    site.check_alive()?;
    books::balance(site, &cell.work, &loaded.ended).await?;
    let count = |end| loaded.ended.iter().filter(|one| one.end == end).count();
    Ok(Blocking {
        form: cell.form.name().to_owned(),
        away_s: away.as_secs_f64(),
        transactions: ORDERS,
        branches_holding,
        others: waits.len() as u64,
        others_stalled: stalled,
        others_waited: Times::of(waits),
        rows_blocked_ms,
        settled_ms: settled_us as f64 / 1_000.0,
        done: count(End::Done),
        undone: count(End::Undone),
    })
}

/// Waits until the last service has had the last message of every transaction.
async fn all_arrived(site: &mut Site, kind: &str) -> Result<(), CellError> {
    let began = Instant::now();
    loop {
        let stats = site.stats().await?;
        let shipping = stats.last().expect("shipping is the last service");
        if shipping.calls.get(kind).copied().unwrap_or(0) >= ORDERS as u64 {
            // What the others were asked at the same time is answered in a moment.
            tokio::time::sleep(LOOK * 10).await;
            return Ok(());
        }
        site.check_alive()?;
        if began.elapsed() > Duration::from_secs(60) {
            return Err(CellError::NotSeen(format!("shipping was not asked for `{kind}` {ORDERS} times: {stats:?}")));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Touches every order's product at the same time.
async fn touch_all(site: &Site) -> Result<Vec<Touched>, CellError> {
    let mut touched = Vec::new();
    let asked = (0..ORDERS).map(|number| {
        let row = RowKey { key: format!("product/{}", product(number)) };
        async move { site.ask::<Touched>("stock", "touch", &row).await }
    });
    for one in join_all(asked).await {
        touched.push(one?);
    }
    assert!(touched.iter().all(|one| Duration::from_micros(one.waited_us) < LOCK_TIMEOUT * 30), "a wait for a lock has an end");
    Ok(touched)
}

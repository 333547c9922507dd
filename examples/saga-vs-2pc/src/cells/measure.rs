//! One cell: a form of the work on a site of its own, under one load, with its books balanced before its figures count.

use super::times::Times;
use super::{CellError, Desk};
use crate::books;
use crate::form::{Form, definition};
use crate::load::{self, Arrival, End, Ended, Load, Loaded};
use crate::service::Stats;
use crate::site::{Counted, Place, Site};
use crate::work::Work;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long a row's lock is waited for, unless a cell says otherwise: RocksDB's own default.
pub const LOCK_TIMEOUT: Duration = Duration::from_secs(1);

/// What is measured.
#[derive(Clone, Debug)]
pub struct Cell {
    /// The factor that differs from the base.
    pub factor: &'static str,
    /// Its value.
    pub value: String,
    /// The form.
    pub form: Form,
    /// The work.
    pub work: Work,
    /// The services, which may be far.
    pub places: Vec<Place>,
    /// How transactions arrive.
    pub arrival: Arrival,
    /// For how long, if not as long as all others.
    pub span: Option<Duration>,
    /// How long a row's lock is waited for.
    pub lock_timeout: Duration,
}

impl Cell {
    /// A cell with all services near.
    #[must_use]
    pub fn new(factor: &'static str, value: impl Into<String>, form: Form, work: Work, arrival: Arrival) -> Self {
        let places = work.places();
        Self { factor, value: value.into(), form, work, places, arrival, span: None, lock_timeout: LOCK_TIMEOUT }
    }
}

/// What a cell came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// The factor that differs from the base.
    pub factor: String,
    /// Its value.
    pub value: String,
    /// The form's name.
    pub form: String,
    /// How transactions arrived.
    pub arrival: String,
    /// Transactions that ended, those before the window included.
    pub transactions: u64,
    /// Of these, done.
    pub done: u64,
    /// Of these, undone.
    pub undone: u64,
    /// Why, by code.
    pub reasons: BTreeMap<String, u64>,
    /// Done in the window, a second.
    pub done_per_second: f64,
    /// Until the outcome was known, of those that were done.
    pub known_done: Times,
    /// The same of those that were undone.
    pub known_undone: Times,
    /// Until nothing was left to do, of those that were done.
    pub finished_done: Times,
    /// The same of those that were undone.
    pub finished_undone: Times,
    /// How long a local transaction held its locks on rows.
    pub lock_hold: Times,
    /// How long it waited for them.
    pub lock_wait: Times,
    /// Calls of the coordinator to services, a transaction, by kind.
    pub calls: BTreeMap<String, f64>,
    /// Messages between coordinator and services, a transaction: each call and each question of a participant is two.
    pub messages: f64,
    /// Forced writes of all services, a transaction, as their databases count them. Those that came together share one.
    pub service_syncs: f64,
    /// Forced writes of the coordinator, a transaction. Those that came together share one.
    pub coordinator_syncs: f64,
    /// How many programs wanted a processor just before, as the system says.
    pub load_average: f64,
}

/// A site with the work's rows and definition, before any load.
///
/// # Errors
/// [`CellError`].
pub(super) async fn open(desk: &Desk, cell: &Cell) -> Result<Site, CellError> {
    let site = Site::start(&desk.sagamq, &cell.places, cell.lock_timeout).await?;
    for (service, tables) in cell.work.rows() {
        site.fill(&service, &tables).await?;
    }
    let text = definition(cell.form, cell.work.key(), &cell.work.steps(), &site.addresses());
    site.client()?.sagas().publish(&text).await.map_err(|error| CellError::Definition { text, error: Box::new(error) })?;
    Ok(site)
}

/// What was counted up to some moment.
#[derive(Debug)]
pub(super) struct Before {
    stats: Vec<Stats>,
    counted: Counted,
    load_average: f64,
}

impl Before {
    pub(super) async fn look(site: &Site) -> Result<Self, CellError> {
        Ok(Self { stats: site.stats().await?, counted: site.counted().await?, load_average: load_average() })
    }
}

/// Measures a cell.
///
/// # Errors
/// [`CellError`], also when the books do not balance.
pub async fn measure(desk: &Desk, cell: &Cell) -> Result<Measured, CellError> {
    desk.say(cell);
    let mut site = open(desk, cell).await?;
    let measured = async {
        let before = Before::look(&site).await?;
        let loaded = load::run(&site.client()?, desk.load(cell), cell.work.inputs(desk.seed)).await?;
        site.check_alive()?;
        books::balance(&site, &cell.work, &loaded.ended).await?;
        summarise(cell, &site, &before, &loaded).await
    }
    .await;
    measured.map_err(|error: CellError| error.of(cell, &mut site))
}

/// The figures of a load.
pub(super) async fn summarise(cell: &Cell, site: &Site, before: &Before, loaded: &Loaded) -> Result<Measured, CellError> {
    let (stats, counted) = (site.stats().await?, site.counted().await?);
    let transactions = loaded.ended.len() as u64;
    let each = |count: f64| if transactions == 0 { 0.0 } else { count / transactions as f64 };
    let (from, to) = loaded.window_us;
    // What is sent at once is all of it.
    let is_counted = |one: &&Ended| matches!(cell.arrival, Arrival::Once(_)) || (from..=to).contains(&one.due_us);
    let of = |end: End| loaded.ended.iter().filter(is_counted).filter(move |one| one.end == end);
    let done_in_window = loaded.ended.iter().filter(|one| one.end == End::Done && (from..=to).contains(&one.finished_us)).count();
    let mut reasons = BTreeMap::new();
    for one in loaded.ended.iter().filter(|one| one.end != End::Done) {
        *reasons.entry(one.reason.clone().unwrap_or_else(|| "none".to_owned())).or_insert(0) += 1;
    }
    let mut calls: BTreeMap<String, f64> = BTreeMap::new();
    for (now, then) in stats.iter().zip(&before.stats) {
        for (kind, count) in &now.calls {
            let before = then.calls.get(kind).copied().unwrap_or(0);
            *calls.entry(kind.clone()).or_default() += (count - before) as f64;
        }
    }
    let questions = counted.questions - before.counted.questions;
    let messages = each(2.0 * (calls.values().sum::<f64>() + questions));
    let syncs: u64 = stats.iter().zip(&before.stats).map(|(now, then)| now.forced_writes - then.forced_writes).sum();
    let count = |end: End| loaded.ended.iter().filter(|one| one.end == end).count() as u64;
    Ok(Measured {
        factor: cell.factor.to_owned(),
        value: cell.value.clone(),
        form: cell.form.name().to_owned(),
        arrival: cell.arrival.name(),
        transactions,
        done: count(End::Done),
        undone: count(End::Undone),
        reasons,
        done_per_second: done_in_window as f64 / ((to - from) as f64 / 1e6),
        known_done: Times::of(of(End::Done).map(Ended::known_after_us)),
        known_undone: Times::of(of(End::Undone).map(Ended::known_after_us)),
        finished_done: Times::of(of(End::Done).map(Ended::finished_after_us)),
        finished_undone: Times::of(of(End::Undone).map(Ended::finished_after_us)),
        lock_hold: Times::of_counts(stats.iter().flat_map(|stats| stats.holds.iter().copied())),
        lock_wait: Times::of_counts(stats.iter().flat_map(|stats| stats.waits.iter().copied())),
        calls: calls.into_iter().map(|(kind, count)| (kind, each(count))).collect(),
        messages,
        service_syncs: each(syncs as f64),
        coordinator_syncs: each(counted.forced_writes - before.counted.forced_writes),
        load_average: before.load_average,
    })
}

impl Desk {
    /// The load of a cell.
    #[must_use]
    pub fn load(&self, cell: &Cell) -> Load {
        let span = cell.span.unwrap_or(match cell.arrival {
            Arrival::Open(_) => self.scale.open,
            Arrival::Closed(_) | Arrival::Once(_) => self.scale.closed,
        });
        let warm = if matches!(cell.arrival, Arrival::Once(_)) { Duration::ZERO } else { self.scale.warm };
        Load { arrival: cell.arrival, warm, span, count_max: 20_000, drain: Duration::from_secs(120) }
    }
}

fn load_average() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or(0.0)
}

//! One schedule of faults under an open load: services killed, services paused, one cut off, the coordinator killed. How many
//! orders had their outcome soon all the same, and how long after each fault everything was settled again.

use super::measure::{Cell, open};
use super::times::Times;
use super::{CellError, Desk};
use crate::books;
use crate::form::Form;
use crate::load::{self, Arrival, End, Ended, Load, wall_us};
use crate::service::{RowKey, Touched};
use crate::site::{COORDINATOR, Cut, Site};
use crate::work::{Orders, Work, account};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;

/// Orders a second.
const RATE: f64 = 12.0;

/// An order that is known to be done within this time was served.
const SOON: Duration = Duration::from_secs(1);

/// What goes wrong with a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// SIGKILL, and started again after the time.
    Killed,
    /// SIGSTOP, and SIGCONT after the time.
    Paused,
    /// No byte to it or from it.
    CutOff,
}

impl Fault {
    /// Its name for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Killed => "killed",
            Self::Paused => "paused",
            Self::CutOff => "cut off",
        }
    }
}

/// One fault of the schedule.
#[derive(Clone, Copy, Debug)]
pub struct Planned {
    /// When, from the beginning.
    at: Duration,
    /// Who.
    who: &'static str,
    /// What.
    fault: Fault,
    /// For how long.
    long: Duration,
}

/// What came of one fault.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Episode {
    /// The form's name.
    pub form: String,
    /// Who.
    pub who: String,
    /// What.
    pub fault: Fault,
    /// How long, in seconds.
    pub seconds: f64,
    /// Orders that should have been started meanwhile.
    pub orders: usize,
    /// Of these, those that were known to be done within a second, in percent.
    pub served_percent: f64,
    /// Until their outcome was known.
    pub known: Times,
    /// From the end of the fault until every order from before it had ended, in milliseconds.
    pub repair_ms: f64,
    /// Customers' accounts that others wanted to change meanwhile, and how many of them could not be had in time.
    pub others: usize,
    /// See [`Self::others`].
    pub others_stalled: usize,
}

/// The schedule: the same for every form.
#[must_use]
pub fn schedule(is_short: bool) -> Vec<Planned> {
    let s = Duration::from_secs;
    let planned = |at, who, fault, long| Planned { at: s(at), who, fault, long: s(long) };
    if is_short {
        return vec![planned(1, "stock", Fault::Killed, 2), planned(6, "shipping", Fault::CutOff, 3)];
    }
    vec![
        planned(3, "payments", Fault::Killed, 2),
        planned(12, "stock", Fault::Killed, 8),
        planned(27, "shipping", Fault::Paused, 5),
        planned(39, "payments", Fault::Paused, 10),
        planned(56, "stock", Fault::CutOff, 8),
        planned(71, COORDINATOR, Fault::Killed, 1),
    ]
}

/// How many orders there were and how many of them were done, over the whole schedule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Weathered {
    /// The form's name.
    pub form: String,
    /// All orders.
    pub orders: usize,
    /// Done in the end.
    pub done: usize,
    /// Known to be done within a second, in percent of all.
    pub served_percent: f64,
    /// Until the outcome was known, of all.
    pub known: Times,
    /// Fault by fault.
    pub episodes: Vec<Episode>,
}

/// Plays the schedule for one form.
///
/// # Errors
/// [`CellError`], also when the books do not balance.
pub async fn weather(desk: &Desk, form: Form, schedule: &[Planned]) -> Result<Weathered, CellError> {
    let work = Work::Orders(Orders { products: 20, customers: 50, ..Orders::default() });
    let mut cell = Cell::new("faults", "schedule", form, work, Arrival::Open(RATE));
    for place in &mut cell.places {
        place.round_trip = Some(Duration::ZERO);
    }
    desk.say(&cell);
    let site = Arc::new(Mutex::new(open(desk, &cell).await?));
    let weathered = play(&cell, &site, schedule, desk.seed).await;
    let mut site = site.lock().await;
    weathered.map_err(|error| error.of(&cell, &mut site))
}

async fn play(cell: &Cell, site: &Arc<Mutex<Site>>, schedule: &[Planned], seed: u64) -> Result<Weathered, CellError> {
    let span = schedule.iter().map(|planned| planned.at + planned.long).max().unwrap_or_default() + Duration::from_secs(4);
    let load = Load { arrival: cell.arrival, warm: Duration::ZERO, span, count_max: 20_000, drain: Duration::from_secs(180) };
    let client = site.lock().await.client()?;
    let inputs = cell.work.inputs(seed);
    let running = tokio::spawn(async move { load::run(&client, load, inputs).await });
    let began = tokio::time::Instant::now();
    let mut played = Vec::new();
    for planned in schedule {
        tokio::time::sleep_until(began + planned.at).await;
        let mut site = site.lock().await;
        let from_us = wall_us();
        strike(&mut site, planned).await?;
        let touched = touch_while(&site, planned.long, planned.who == "payments" && planned.fault != Fault::CutOff).await?;
        mend(&mut site, planned).await?;
        played.push((*planned, from_us, wall_us(), touched));
    }
    let loaded = running.await.expect("the load does not panic")?;
    let mut site = site.lock().await;
    site.check_alive()?;
    books::balance(&site, &cell.work, &loaded.ended).await?;
    let form = cell.form.name().to_owned();
    let episodes = played.into_iter().map(|(planned, from, to, touched)| episode(&form, planned, from, to, touched, &loaded.ended));
    Ok(Weathered {
        episodes: episodes.collect(),
        orders: loaded.ended.len(),
        done: loaded.ended.iter().filter(|one| one.end == End::Done).count(),
        served_percent: served(loaded.ended.iter()),
        known: Times::of(loaded.ended.iter().map(Ended::known_after_us)),
        form,
    })
}

async fn strike(site: &mut Site, planned: &Planned) -> Result<(), CellError> {
    match planned.fault {
        Fault::Killed => site.kill(planned.who).await?,
        Fault::Paused => site.pause(planned.who)?,
        Fault::CutOff => site.proxy(planned.who).cut(Cut::Everything),
    }
    Ok(())
}

async fn mend(site: &mut Site, planned: &Planned) -> Result<(), CellError> {
    match planned.fault {
        Fault::Killed => site.restart(planned.who).await?,
        Fault::Paused => site.resume(planned.who)?,
        Fault::CutOff => site.proxy(planned.who).cut(Cut::Nothing),
    }
    Ok(())
}

/// Changes customers' accounts as others would, for as long as the fault lasts: how many, and how many of them could not be had.
async fn touch_while(site: &Site, long: Duration, payments_are_away: bool) -> Result<(usize, usize), CellError> {
    let began = tokio::time::Instant::now();
    let (mut others, mut stalled) = (0, 0);
    while began.elapsed() < long {
        tokio::time::sleep((long - began.elapsed()).min(Duration::from_millis(40))).await;
        if !payments_are_away {
            let row = RowKey { key: format!("account/{}", account(others % 50)) };
            let touched: Touched = site.ask("payments", "touch", &row).await?;
            others += 1;
            stalled += usize::from(!touched.had);
        }
    }
    Ok((others, stalled))
}

fn episode(form: &str, planned: Planned, from: u64, to: u64, touched: (usize, usize), ended: &[Ended]) -> Episode {
    let within: Vec<&Ended> = ended.iter().filter(|one| (from..to).contains(&one.due_us)).collect();
    let last = ended.iter().filter(|one| one.due_us < to).map(|one| one.finished_us).max().unwrap_or(to);
    Episode {
        form: form.to_owned(),
        who: planned.who.to_owned(),
        fault: planned.fault,
        seconds: planned.long.as_secs_f64(),
        orders: within.len(),
        served_percent: served(within.iter().copied()),
        known: Times::of(within.iter().map(|one| one.known_after_us())),
        repair_ms: last.saturating_sub(to) as f64 / 1_000.0,
        others: touched.0,
        others_stalled: touched.1,
    }
}

fn served<'a>(ended: impl Iterator<Item = &'a Ended>) -> f64 {
    let (mut all, mut soon) = (0_u32, 0_u32);
    for one in ended {
        all += 1;
        // An order that is undone because of the fault has an answer, and is not served.
        soon += u32::from(one.end == End::Done && u128::from(one.known_after_us()) <= SOON.as_micros());
    }
    if all == 0 { 100.0 } else { 100.0 * f64::from(soon) / f64::from(all) }
}

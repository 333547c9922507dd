//! A whole run: cell after cell, then faults, anomalies and the rush.

use crate::cells::{self, Blocking, Cell, CellError, Desk, Lost, Measured, Rush, Scale, Seen, Weathered, forms};
use crate::form::{Form, Shape};
use crate::report::{Machine, Report, code};
use futures_util::future::join_all;
use indicatif::ProgressBar;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::Instant;

/// What a run is made of, and in which order.
struct Plan {
    cells: Vec<Cell>,
    /// Cells that mostly wait; those of one value run at the same time.
    long: Vec<Vec<Cell>>,
    /// Forms whose coordinator is killed.
    killed: Vec<Form>,
    /// Forms that go through the schedule of faults.
    weathered: Vec<Form>,
    /// Forms that are read while they run.
    read: Vec<Form>,
    /// Forms that sell to the rush.
    rushed: Vec<Form>,
}

impl Plan {
    fn of(scale: Scale, only: Option<&str>) -> Self {
        let wants = |factor: &str| only.is_none_or(|only| factor.contains(only));
        let lists = || forms().into_iter().filter(|form| form.shape == Shape::List).collect::<Vec<_>>();
        let these = |factor: &str, forms: Vec<Form>| if wants(factor) { forms } else { Vec::new() };
        let is_smoke = scale == Scale::SMOKE;
        let cells = if is_smoke { cells::smoke(scale) } else { cells::all(scale) };
        let long = if scale == Scale::FULL && wants("long") { cells::long() } else { Vec::new() };
        Self {
            cells: cells.into_iter().filter(|cell| wants(cell.factor)).collect(),
            long,
            killed: if is_smoke { Vec::new() } else { these("coordinator killed", lists()) },
            weathered: if is_smoke { Vec::new() } else { these("faults", lists()) },
            read: these("anomalies", lists()),
            rushed: these("rush", if is_smoke { lists() } else { forms() }),
        }
    }

    fn len(&self) -> usize {
        let long: usize = self.long.iter().map(Vec::len).sum();
        self.cells.len() + long + self.killed.len() + self.weathered.len() + self.read.len() * 2 + self.rushed.len()
    }
}

/// Measures everything of a scale, or the factors whose names contain `only`.
///
/// # Errors
/// The first cell that has no figures: a process died, a transaction did not end, or the books do not balance.
pub async fn run(sagamq: PathBuf, scale: Scale, only: Option<&str>, machine: Machine) -> Result<Report, CellError> {
    let plan = Plan::of(scale, only);
    let desk = Desk::new(sagamq, scale, plan.len());
    let began = Instant::now();
    let measured = measure(&desk, &plan).await?;
    let long = long(&desk, &plan).await?;
    let away = if scale == Scale::FULL { 10 } else { 3 };
    let mut blocking: Vec<Blocking> = Vec::new();
    for &form in &plan.killed {
        blocking.push(step(&desk.bar, cells::blocking(&desk, form, Duration::from_secs(away)).await)?);
    }
    let mut weathered: Vec<Weathered> = Vec::new();
    let schedule = cells::schedule(scale != Scale::FULL);
    for &form in &plan.weathered {
        weathered.push(step(&desk.bar, cells::weather(&desk, form, &schedule).await)?);
    }
    let (mut seen, mut lost): (Vec<Seen>, Vec<Lost>) = (Vec::new(), Vec::new());
    for &form in &plan.read {
        seen.push(step(&desk.bar, cells::seen(&desk, form, scale.closed).await)?);
        lost.push(step(&desk.bar, cells::lost(&desk, form).await)?);
    }
    let mut rush: Vec<Rush> = Vec::new();
    let (customers, pieces) = if scale == Scale::SMOKE { (40, 4) } else { (1_000, 100) };
    for &form in &plan.rushed {
        rush.push(step(&desk.bar, cells::rush(&desk, form, customers, pieces).await)?);
    }
    desk.bar.finish_and_clear();
    let cells = [measured, long].concat();
    let (scale, seconds) = (scale.name.to_owned(), began.elapsed().as_secs_f64());
    Ok(Report { machine, scale, seconds, cells, blocking, weathered, seen, lost, rush, code: code() })
}

async fn measure(desk: &Desk, plan: &Plan) -> Result<Vec<Measured>, CellError> {
    let mut measured = Vec::new();
    for cell in &plan.cells {
        measured.push(step(&desk.bar, cells::measure(desk, cell).await)?);
    }
    Ok(measured)
}

async fn long(desk: &Desk, plan: &Plan) -> Result<Vec<Measured>, CellError> {
    let mut measured = Vec::new();
    for beside in &plan.long {
        for one in join_all(beside.iter().map(|cell| cells::measure(desk, cell))).await {
            measured.push(step(&desk.bar, one)?);
        }
    }
    Ok(measured)
}

fn step<T>(bar: &ProgressBar, result: Result<T, CellError>) -> Result<T, CellError> {
    bar.inc(1);
    result
}

/// The server's program beside this one, unless it is said.
///
/// # Errors
/// When this program has no path.
pub fn sagamq(said: Option<&Path>) -> std::io::Result<PathBuf> {
    let beside = || Ok(std::env::current_exe()?.with_file_name(format!("sagamq{}", std::env::consts::EXE_SUFFIX)));
    said.map_or_else(beside, |path| Ok(path.to_owned()))
}

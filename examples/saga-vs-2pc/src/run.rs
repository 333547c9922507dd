//! A whole run: faults, anomalies and the rush, then cell after cell.

use crate::cells::{self, Cell, CellError, Desk, Scale, forms};
use crate::form::{Form, Shape};
use crate::report::{Machine, Report};
use futures_util::future::join_all;
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

/// Why a run did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A cell has no figures: a process died, a transaction did not end, or the books do not balance.
    #[error(transparent)]
    Cell(#[from] CellError),
    /// The figures cannot be kept.
    #[error("the figures cannot be kept: {0}")]
    Keep(#[from] std::io::Error),
}

/// Measures everything of a scale, or the factors whose names contain `only`. `keep` is given what is there so far, again and again.
///
/// # Errors
/// [`RunError`], with the first thing that went wrong.
pub async fn run(
    sagamq: PathBuf,
    scale: Scale,
    only: Option<&str>,
    machine: Machine,
    keep: impl Fn(&Report) -> std::io::Result<()>,
) -> Result<Report, RunError> {
    let plan = Plan::of(scale, only);
    let desk = Desk::new(sagamq, scale, plan.len());
    let mut report = Report::new(machine, scale.name);
    let began = Instant::now();
    let step = |report: &mut Report| {
        desk.bar.inc(1);
        report.seconds = began.elapsed().as_secs_f64();
        keep(report)
    };
    // What takes long and says most comes first.
    let away = Duration::from_secs(if scale == Scale::FULL { 10 } else { 3 });
    for &form in &plan.killed {
        report.blocking.push(cells::blocking(&desk, form, away).await?);
        step(&mut report)?;
    }
    let schedule = cells::schedule(scale != Scale::FULL);
    for &form in &plan.weathered {
        report.weathered.push(cells::weather(&desk, form, &schedule).await?);
        step(&mut report)?;
    }
    for &form in &plan.read {
        report.seen.push(cells::seen(&desk, form, scale.closed).await?);
        step(&mut report)?;
        report.lost.push(cells::lost(&desk, form).await?);
        step(&mut report)?;
    }
    let (customers, pieces) = match scale.name {
        "smoke" => (40, 4),
        "quick" => (200, 20),
        _ => (1_000, 100),
    };
    for &form in &plan.rushed {
        report.rush.push(cells::rush(&desk, form, customers, pieces).await?);
        step(&mut report)?;
    }
    for beside in &plan.long {
        for one in join_all(beside.iter().map(|cell| cells::measure(&desk, cell))).await {
            report.cells.push(one?);
            step(&mut report)?;
        }
    }
    for cell in &plan.cells {
        report.cells.push(cells::measure(&desk, cell).await?);
        step(&mut report)?;
    }
    desk.bar.finish_and_clear();
    Ok(report)
}

/// The server's program beside this one, unless it is said.
///
/// # Errors
/// When this program has no path.
pub fn sagamq(said: Option<&Path>) -> std::io::Result<PathBuf> {
    let beside = || Ok(std::env::current_exe()?.with_file_name(format!("sagamq{}", std::env::consts::EXE_SUFFIX)));
    said.map_or_else(beside, |path| Ok(path.to_owned()))
}

//! What is measured, cell by cell: one factor at a time around a named base, then faults, anomalies and the customers' rush.

mod anomalies;
mod blocking;
mod factors;
mod faults;
mod measure;
mod rush;
mod times;

pub use anomalies::{Lost, Seen, lost, seen};
pub use blocking::{Blocking, blocking};
pub use factors::{all, forms, long, smoke};
pub use faults::{Episode, Fault, Planned, Weathered, schedule, weather};
pub use measure::{Cell, LOCK_TIMEOUT, Measured, measure};
pub use rush::{Rush, rush};
pub use times::Times;

use crate::books::BooksError;
use crate::load::LoadError;
use crate::site::{Site, SiteError};
use indicatif::{ProgressBar, ProgressStyle};
use sagamq_sdk::ClientError;
use std::path::PathBuf;
use std::time::Duration;

/// How much is measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    /// Its name.
    pub name: &'static str,
    /// What is sent before anything counts.
    pub warm: Duration,
    /// How long a closed load counts.
    pub closed: Duration,
    /// How long an open load counts.
    pub open: Duration,
    /// Transactions a second of an open load.
    pub rate: f64,
    /// Whether only the value of each factor is measured that is the farthest from the base.
    pub ends_only: bool,
}

impl Scale {
    /// All of it.
    pub const FULL: Self = Self {
        name: "full",
        warm: Duration::from_secs(1),
        closed: Duration::from_secs(3),
        open: Duration::from_secs(5),
        rate: 30.0,
        ends_only: false,
    };
    /// A look, in about two minutes.
    pub const QUICK: Self = Self {
        name: "quick",
        warm: Duration::from_millis(300),
        closed: Duration::from_millis(1_200),
        open: Duration::from_millis(1_500),
        rate: 30.0,
        ends_only: true,
    };
    /// A test that it works.
    pub const SMOKE: Self = Self {
        name: "smoke",
        warm: Duration::from_millis(100),
        closed: Duration::from_millis(400),
        open: Duration::from_millis(400),
        rate: 20.0,
        ends_only: true,
    };
}

/// What every cell needs.
#[derive(Debug)]
pub struct Desk {
    /// The server's program.
    pub sagamq: PathBuf,
    /// How much is measured.
    pub scale: Scale,
    /// The seed of every input.
    pub seed: u64,
    /// Where progress is shown.
    pub bar: ProgressBar,
}

/// Why a cell has no figures.
#[derive(Debug, thiserror::Error)]
pub enum CellError {
    /// Its site.
    #[error(transparent)]
    Site(#[from] SiteError),
    /// Its load.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// Its books.
    #[error(transparent)]
    Books(#[from] BooksError),
    /// The coordinator.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Its definition is refused.
    #[error("the definition is refused: {error}\n{text}")]
    Definition {
        /// The text.
        text: String,
        /// Why.
        #[source]
        error: Box<ClientError>,
    },
    /// It was promised and did not come.
    #[error("{0}")]
    NotSeen(String),
    /// Which cell it was.
    #[error("{cell}: {source}{kept}")]
    Of {
        /// Factor, value and form.
        cell: String,
        /// What went wrong.
        #[source]
        source: Box<CellError>,
        /// Where the data is.
        kept: String,
    },
}

impl CellError {
    /// Says which cell it was.
    fn named(self, cell: &Cell) -> Self {
        let cell = format!("{} {}, {}", cell.factor, cell.value, cell.form.name());
        Self::Of { cell, source: Box::new(self), kept: String::new() }
    }

    /// Says which cell it was, and keeps its data.
    fn of(self, cell: &Cell, site: &mut Site) -> Self {
        let kept = format!(" (data and logs are in {})", site.keep().display());
        Self::Of { cell: format!("{} {}, {}", cell.factor, cell.value, cell.form.name()), source: Box::new(self), kept }
    }
}

impl Desk {
    /// A desk that shows `cells` cells to come.
    ///
    /// # Panics
    /// Never: the template is legal.
    #[must_use]
    pub fn new(sagamq: PathBuf, scale: Scale, cells: usize) -> Self {
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed} {msg}").expect("the template is legal");
        Self { sagamq, scale, seed: 7, bar: ProgressBar::new(cells as u64).with_style(style) }
    }

    fn say(&self, cell: &Cell) {
        self.bar.set_message(format!("{} {}, {}, {}", cell.factor, cell.value, cell.form.name(), cell.arrival.name()));
    }
}

//! What is told: the machine, every figure as JSON, tables as Markdown, and plots.

mod code;
mod machine;
mod plots;
mod tables;

pub use code::{ServiceCode, code};
pub use machine::Machine;
pub use plots::{PlotError, plots};
pub use tables::tables;

use crate::cells::{Blocking, Lost, Measured, Rush, Seen, Weathered};
use serde::{Deserialize, Serialize};

/// Everything that a run found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// What it ran on.
    pub machine: Machine,
    /// How much was measured.
    pub scale: String,
    /// How long all of it took, in seconds.
    pub seconds: f64,
    /// The cells.
    pub cells: Vec<Measured>,
    /// Coordinators that were killed when everybody waited for them.
    pub blocking: Vec<Blocking>,
    /// The schedule of faults.
    pub weathered: Vec<Weathered>,
    /// What a reader saw.
    pub seen: Vec<Seen>,
    /// Updates that rest on an earlier read.
    pub lost: Vec<Lost>,
    /// Customers who buy at once.
    pub rush: Vec<Rush>,
    /// The code of each service.
    pub code: Vec<ServiceCode>,
}

impl Report {
    /// A report without figures.
    #[must_use]
    pub fn new(machine: Machine, scale: &str) -> Self {
        Self {
            machine,
            scale: scale.to_owned(),
            seconds: 0.0,
            cells: Vec::new(),
            blocking: Vec::new(),
            weathered: Vec::new(),
            seen: Vec::new(),
            lost: Vec::new(),
            rush: Vec::new(),
            code: code(),
        }
    }
}

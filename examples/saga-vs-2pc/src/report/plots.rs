//! Plots as SVG: bars of each form over the values of a factor.

use super::Report;
use crate::cells::Measured;
use plotters::backend::SVGBackend;
use plotters::chart::{ChartBuilder, SeriesLabelPosition};
use plotters::drawing::IntoDrawingArea as _;
use plotters::element::Rectangle;
use plotters::style::{BLACK, Color as _, RGBColor, WHITE};
use std::path::Path;

/// The size of a plot.
const SIZE: (u32, u32) = (900, 480);

/// A colour for each form, in the order in which they appear; told apart in grey and by people who do not see red beside green.
const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(86, 180, 233),
    RGBColor(213, 94, 0),
    RGBColor(240, 178, 66),
    RGBColor(0, 120, 90),
    RGBColor(204, 121, 167),
];

/// Why a plot was not drawn.
#[derive(Debug, thiserror::Error)]
#[error("the plot {name} cannot be drawn: {reason}")]
pub struct PlotError {
    name: String,
    reason: String,
}

/// What a plot shows of a cell.
struct Plot {
    name: &'static str,
    title: &'static str,
    factor: &'static str,
    /// Whether of the open loads; else of the closed ones.
    open: bool,
    unit: &'static str,
    pick: fn(&Measured) -> f64,
}

const PLOTS: [Plot; 9] = [
    Plot {
        name: "contention-throughput",
        title: "Orders done, by contention",
        factor: "contention",
        open: false,
        unit: "orders/s",
        pick: |cell| cell.done_per_second,
    },
    Plot {
        name: "contention-aborts",
        title: "Orders undone, by contention",
        factor: "contention",
        open: false,
        unit: "% of all",
        pick: aborts,
    },
    Plot {
        name: "contention-hold",
        title: "Locks held, 99th percentile, by contention",
        factor: "contention",
        open: false,
        unit: "ms",
        pick: |cell| cell.lock_hold.p99_ms,
    },
    Plot {
        name: "snapper-throughput",
        title: "Transfers over four accounts done, by Zipf's exponent",
        factor: "snapper",
        open: false,
        unit: "transfers/s",
        pick: |cell| cell.done_per_second,
    },
    Plot {
        name: "snapper-aborts",
        title: "Transfers undone, by Zipf's exponent",
        factor: "snapper",
        open: false,
        unit: "% of all",
        pick: aborts,
    },
    Plot {
        name: "participants-latency",
        title: "Outcome known, median, by participants",
        factor: "participants",
        open: true,
        unit: "ms",
        pick: |cell| cell.known_done.p50_ms,
    },
    Plot {
        name: "round-trip-latency",
        title: "Outcome known, median, by round trip",
        factor: "round trip",
        open: true,
        unit: "ms",
        pick: |cell| cell.known_done.p50_ms,
    },
    Plot {
        name: "duration-throughput",
        title: "Orders done, by duration of a step",
        factor: "duration",
        open: false,
        unit: "orders/s",
        pick: |cell| cell.done_per_second,
    },
    Plot {
        name: "refused-at",
        title: "Until all is undone, median, by the step that refuses",
        factor: "refused at",
        open: false,
        unit: "ms",
        pick: |cell| cell.finished_undone.p50_ms,
    },
];

fn aborts(cell: &Measured) -> f64 {
    100.0 * cell.undone as f64 / (cell.transactions.max(1)) as f64
}

/// Draws every plot that has figures into `folder`. Their names.
///
/// # Errors
/// [`PlotError`].
pub fn plots(report: &Report, folder: &Path) -> Result<Vec<String>, PlotError> {
    let mut drawn = Vec::new();
    for plot in &PLOTS {
        let cells: Vec<&Measured> =
            report.cells.iter().filter(|cell| cell.factor == plot.factor && cell.arrival.starts_with("open") == plot.open).collect();
        if !cells.is_empty() {
            let bars = cells.iter().map(|cell| (cell.value.clone(), cell.form.clone(), (plot.pick)(cell))).collect();
            draw(&folder.join(format!("{}.svg", plot.name)), plot.title, plot.unit, &bars)?;
            drawn.push(plot.name.to_owned());
        }
    }
    Ok(drawn)
}

/// Bars: for each value of the factor one a form.
fn draw(path: &Path, title: &str, unit: &str, bars: &Vec<(String, String, f64)>) -> Result<(), PlotError> {
    let failed = |reason: String| PlotError { name: path.display().to_string(), reason };
    let (mut values, mut forms): (Vec<&String>, Vec<&String>) = (Vec::new(), Vec::new());
    let mut highest = 0.0_f64;
    for (value, form, height) in bars {
        if !values.contains(&value) {
            values.push(value);
        }
        if !forms.contains(&form) {
            forms.push(form);
        }
        highest = highest.max(*height);
    }
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    area.fill(&WHITE).map_err(|error| failed(error.to_string()))?;
    let top = if highest > 0.0 { highest * 1.15 } else { 1.0 };
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 22))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(70)
        .build_cartesian_2d(0.0..values.len() as f64, 0.0..top)
        .map_err(|error| failed(error.to_string()))?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(WHITE)
        .y_desc(unit)
        .x_labels(values.len() * 2 + 1)
        .x_label_formatter(&|at| {
            // A label in the middle of each value's bars, none at their edges.
            let is_middle = (at.fract() - 0.5).abs() < 1e-6;
            let value = values.iter().enumerate().find(|(number, _)| is_middle && (*number as f64 + 0.5 - at).abs() < 1e-6);
            value.map(|(_, value)| (*value).clone()).unwrap_or_default()
        })
        .label_style(("sans-serif", 15))
        .draw()
        .map_err(|error| failed(error.to_string()))?;
    let width = 0.8 / forms.len() as f64;
    for (number, form) in forms.iter().enumerate() {
        let colour = COLOURS[number % COLOURS.len()];
        let of_form = bars.iter().filter(|(_, of, _)| of == *form).map(|(value, _, height)| {
            let place = values.iter().position(|known| *known == value).expect("every value is listed") as f64;
            let left = place + 0.1 + width * number as f64;
            Rectangle::new([(left, 0.0), (left + width * 0.92, *height)], colour.filled())
        });
        chart
            .draw_series(of_form)
            .map_err(|error| failed(error.to_string()))?
            .label((*form).clone())
            .legend(move |(x, y)| Rectangle::new([(x, y - 6), (x + 12, y + 6)], colour.filled()));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.85))
        .border_style(BLACK.mix(0.3))
        .label_font(("sans-serif", 15))
        .draw()
        .map_err(|error| failed(error.to_string()))?;
    area.present().map_err(|error| failed(error.to_string()))
}

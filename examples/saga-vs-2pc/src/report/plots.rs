//! Plots as SVG: bars of each form over the values of a factor.

use super::Report;
use super::tables::number;
use crate::cells::Measured;
use crate::form::{Form, Mode, Shape};
use plotters::backend::SVGBackend;
use plotters::chart::{ChartBuilder, SeriesLabelPosition};
use plotters::drawing::IntoDrawingArea as _;
use plotters::element::Rectangle;
use plotters::style::{BLACK, Color as _, RGBColor, WHITE};
use std::path::Path;

/// The size of a plot.
const SIZE: (u32, u32) = (900, 480);

/// Colours that are told apart in grey and by people who do not see red beside green.
const COLOURS: [(Form, RGBColor); 6] = [
    (Form::LIST_SAGA, RGBColor(0, 114, 178)),
    (Form::PARALLEL_SAGA, RGBColor(86, 180, 233)),
    (Form { mode: Mode::Saga, shape: Shape::Diamond }, RGBColor(0, 120, 90)),
    (Form::LIST_2PC, RGBColor(213, 94, 0)),
    (Form::PARALLEL_2PC, RGBColor(240, 178, 66)),
    (Form { mode: Mode::TwoPhase, shape: Shape::Diamond }, RGBColor(204, 121, 167)),
];

/// A form has the same colour in every plot.
fn colour_of(name: &str) -> RGBColor {
    COLOURS.iter().find(|(form, _)| form.name() == name).map_or(BLACK, |&(_, colour)| colour)
}

/// Why a plot was not drawn.
#[derive(Debug, thiserror::Error)]
#[error("the plot {name} cannot be drawn: {reason}")]
pub struct PlotError {
    name: String,
    reason: String,
}

/// A bar: the value of the factor, the form, the height.
type Bar = (String, String, f64);

/// A plot.
struct Plot {
    name: &'static str,
    title: &'static str,
    unit: &'static str,
    bars: Vec<Bar>,
}

/// Whether a plot is of the open loads or of the closed ones.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    Open,
    Closed,
}

/// Bars of a factor's cells.
fn cells(report: &Report, factor: &str, of: Of, pick: fn(&Measured) -> f64) -> Vec<Bar> {
    let is_of = |cell: &&Measured| cell.factor == factor && cell.arrival.starts_with("open") == (of == Of::Open);
    report.cells.iter().filter(is_of).map(|cell| (cell.value.clone(), cell.form.clone(), pick(cell))).collect()
}

fn aborts(cell: &Measured) -> f64 {
    100.0 * cell.undone as f64 / (cell.transactions.max(1)) as f64
}

fn known(cell: &Measured) -> f64 {
    cell.known_done.p50_ms
}

fn rate(cell: &Measured) -> f64 {
    cell.done_per_second
}

fn all(report: &Report) -> Vec<Plot> {
    let plot = |name, title, unit, bars| Plot { name, title, unit, bars };
    let blocked = report.blocking.iter().map(|one| (format!("away {} s", one.away_s), one.form.clone(), one.rows_blocked_ms / 1_000.0));
    let served = report.weathered.iter().flat_map(|one| &one.episodes);
    let served = served.map(|one| (format!("{} {} {} s", one.who, one.fault.name(), one.seconds), one.form.clone(), one.served_percent));
    vec![
        plot("contention-throughput", "Orders done, by contention", "orders/s", cells(report, "contention", Of::Closed, rate)),
        plot("contention-aborts", "Orders undone, by contention", "% of all", cells(report, "contention", Of::Closed, aborts)),
        plot(
            "contention-hold",
            "Locks held, 99th percentile, by contention",
            "ms",
            cells(report, "contention", Of::Closed, |cell| cell.lock_hold.p99_ms),
        ),
        plot(
            "snapper-throughput",
            "Transfers over four accounts done, by Zipf's exponent",
            "transfers/s",
            cells(report, "snapper", Of::Closed, rate),
        ),
        plot("snapper-aborts", "Transfers undone, by Zipf's exponent", "% of all", cells(report, "snapper", Of::Closed, aborts)),
        plot("participants-latency", "Outcome known, median, by participants", "ms", cells(report, "participants", Of::Open, known)),
        plot("round-trip-latency", "Outcome known, median, by round trip", "ms", cells(report, "round trip", Of::Open, known)),
        plot(
            "unequal-latency",
            "Outcome known, median, with services at 1, 5, 20 and 80 ms",
            "ms",
            cells(report, "unequal", Of::Closed, known),
        ),
        plot("duration-throughput", "Orders done, by duration of the last step", "orders/s", cells(report, "duration", Of::Closed, rate)),
        plot(
            "refused-at",
            "Until all is undone, median, by the step that refuses",
            "ms",
            cells(report, "refused at", Of::Closed, |cell| cell.finished_undone.p50_ms),
        ),
        plot("blocked", "Rows blocked while the coordinator is away", "s", blocked.collect()),
        plot("faults", "Orders done within 1 s, among those of each fault", "%", served.collect()),
    ]
}

/// Draws every plot that has figures into `folder`. Their names.
///
/// # Errors
/// [`PlotError`].
pub fn plots(report: &Report, folder: &Path) -> Result<Vec<String>, PlotError> {
    let mut drawn = Vec::new();
    for plot in all(report).into_iter().filter(|plot| !plot.bars.is_empty()) {
        draw(&folder.join(format!("{}.svg", plot.name)), &plot)?;
        drawn.push(plot.name.to_owned());
    }
    Ok(drawn)
}

/// Bars: for each value of the factor one a form.
fn draw(path: &Path, plot: &Plot) -> Result<(), PlotError> {
    let bars = &plot.bars;
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
    // Room above the bars for the names of the forms.
    let inner = f64::from(SIZE.1 - 90);
    let top = if highest > 0.0 { highest * inner / (inner - 20.0 - 24.0 * forms.len() as f64) } else { 1.0 };
    // A character is about half as wide as it is high.
    let longest = values.iter().map(|value| value.chars().count()).max().unwrap_or(1).max(1);
    let room = f64::from(SIZE.0 - 100) / values.len().max(1) as f64;
    let label_size = (room / (0.55 * longest as f64)).clamp(9.0, 15.0);
    let mut chart = ChartBuilder::on(&area)
        .caption(plot.title, ("sans-serif", 22))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(70)
        .build_cartesian_2d(0.0..values.len() as f64, 0.0..top)
        .map_err(|error| failed(error.to_string()))?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .y_desc(plot.unit)
        .max_light_lines(0)
        .y_label_formatter(&|height| if *height == 0.0 { "0".to_owned() } else { number(*height) })
        .x_labels(values.len() * 2 + 1)
        .x_label_formatter(&|at| {
            // A label in the middle of each value's bars, none at their edges.
            let is_middle = (at.fract() - 0.5).abs() < 1e-6;
            let value = values.iter().enumerate().find(|(number, _)| is_middle && (*number as f64 + 0.5 - at).abs() < 1e-6);
            value.map(|(_, value)| (*value).clone()).unwrap_or_default()
        })
        .label_style(("sans-serif", 15))
        .x_label_style(("sans-serif", label_size))
        .draw()
        .map_err(|error| failed(error.to_string()))?;
    let width = 0.8 / forms.len() as f64;
    for (number, form) in forms.iter().enumerate() {
        let colour = colour_of(form);
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

//! Curves as SVG: panels below each other, over time or over percentiles, each with its unit.

use super::board::Moment;
use super::report::{Measured, Report};
use plotters::backend::SVGBackend;
use plotters::chart::ChartBuilder;
use plotters::coord::Shift;
use plotters::drawing::{DrawingArea, IntoDrawingArea as _};
use plotters::element::{PathElement, Text};
use plotters::style::{BLACK, Color as _, RGBColor, WHITE};
use std::path::Path;

/// Width of a plot, and height of each panel.
const SIZE: (u32, u32) = (900, 320);

/// Colours that are told apart in grey and by people who do not see red beside green.
const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 120, 90),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(240, 178, 66),
];

/// Room for the names of the curves, right of them.
const NAMES: u32 = 210;

/// Smallest value that a logarithmic axis shows.
const SMALLEST: f64 = 0.001;

/// Why a plot was not drawn.
#[derive(Debug, thiserror::Error)]
#[error("the plot cannot be drawn: {0}")]
pub struct PlotError(String);

/// How an axis is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// Evenly, from 0.
    Linear,
    /// Each factor of ten takes as much room.
    Logarithmic,
    /// Percentiles: each further nine takes as much room.
    Nines,
}

impl Scale {
    fn place(self, value: f64) -> f64 {
        match self {
            Self::Linear => value,
            Self::Logarithmic => value.max(SMALLEST).log10(),
            Self::Nines => -(1.0 - value / 100.0).max(1e-9).log10(),
        }
    }

    fn label(self, place: f64) -> String {
        let is_whole = (place - place.round()).abs() < 1e-6;
        match self {
            Self::Linear => number(place),
            Self::Logarithmic => number(10.0_f64.powf(place)),
            Self::Nines if is_whole => format!("{}%", (100.0 - 100.0 * 10.0_f64.powf(-place.round())).max(0.0)),
            Self::Nines => String::new(),
        }
    }
}

/// A number with as many digits as matter.
fn number(value: f64) -> String {
    let size = value.abs();
    if size >= 1e6 {
        format!("{}M", trimmed(value / 1e6, 1))
    } else if size >= 1e4 {
        format!("{}k", trimmed(value / 1e3, 1))
    } else if size >= 10.0 {
        trimmed(value, 0)
    } else {
        trimmed(value, if size >= 1.0 { 1 } else { 3 })
    }
}

fn trimmed(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// A curve.
#[derive(Clone, Debug)]
pub struct Curve {
    /// What it is.
    pub name: String,
    /// Its points by the horizontal axis.
    pub points: Vec<(f64, f64)>,
}

/// A panel of curves that have one unit.
#[derive(Clone, Debug)]
pub struct Panel {
    /// What is shown.
    pub title: String,
    /// The horizontal axis: what it is, and how it is divided.
    pub x: (String, Scale),
    /// The vertical axis.
    pub y: (String, Scale),
    /// The curves; those without a point are left out.
    pub curves: Vec<Curve>,
}

/// Draws panels below each other into a file.
///
/// # Errors
/// [`PlotError`] when there is nothing to draw or the file cannot be written.
pub fn draw(path: &Path, panels: &[Panel]) -> Result<(), PlotError> {
    let panels: Vec<&Panel> = panels.iter().filter(|panel| panel.curves.iter().any(|curve| !curve.points.is_empty())).collect();
    if panels.is_empty() {
        return Err(PlotError("nothing was measured".to_owned()));
    }
    let height = SIZE.1 * u32::try_from(panels.len()).unwrap_or(1);
    let area = SVGBackend::new(path, (SIZE.0, height)).into_drawing_area();
    area.fill(&WHITE).map_err(failed)?;
    for (panel, part) in panels.iter().zip(area.split_evenly((panels.len(), 1))) {
        draw_panel(panel, &part)?;
    }
    area.present().map_err(failed)
}

fn failed(error: impl std::fmt::Display) -> PlotError {
    PlotError(error.to_string())
}

/// The ends of an axis that shows all of these places.
fn ends(scale: Scale, places: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = places.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), place| (low.min(place), high.max(place)));
    let (low, high) = match scale {
        Scale::Linear => (low.min(0.0), high),
        Scale::Logarithmic => (low.floor(), high.ceil()),
        Scale::Nines => (low, high.ceil()),
    };
    (low, if high > low { high } else { low + 1.0 })
}

fn draw_panel(panel: &Panel, area: &DrawingArea<SVGBackend<'_>, Shift>) -> Result<(), PlotError> {
    let (x, y) = (panel.x.1, panel.y.1);
    let places = |pick: fn(&(f64, f64)) -> f64, scale: Scale| {
        panel.curves.iter().flat_map(|curve| &curve.points).map(move |point| scale.place(pick(point)))
    };
    let (left, right) = ends(x, places(|point| point.0, x));
    let (bottom, top) = ends(y, places(|point| point.1, y));
    // A line at the very top is hard to see.
    let top = if y == Scale::Linear { top * 1.08 } else { top };
    let mut chart = ChartBuilder::on(area)
        .caption(&panel.title, ("sans-serif", 20))
        .margin(12)
        .margin_right(NAMES)
        .x_label_area_size(38)
        .y_label_area_size(70)
        .build_cartesian_2d(left..right, bottom..top)
        .map_err(failed)?;
    chart
        .configure_mesh()
        .max_light_lines(0)
        .bold_line_style(BLACK.mix(0.12))
        .x_desc(&panel.x.0)
        .y_desc(&panel.y.0)
        .x_labels(11)
        .y_labels(6)
        .x_label_formatter(&|place| x.label(*place))
        .y_label_formatter(&|place| y.label(*place))
        .label_style(("sans-serif", 14))
        .draw()
        .map_err(failed)?;
    let named = panel.curves.iter().filter(|curve| !curve.points.is_empty()).enumerate();
    for (number, curve) in named {
        let style = COLOURS[number % COLOURS.len()].stroke_width(2);
        let points: Vec<(f64, f64)> = curve.points.iter().map(|&(at, value)| (x.place(at), y.place(value))).collect();
        chart.draw_series(std::iter::once(PathElement::new(points, style))).map_err(failed)?;
        // In pixels of the panel.
        let (left, middle) = (i32::try_from(SIZE.0 - NAMES + 14).unwrap_or(0), 60 + 22 * i32::try_from(number).unwrap_or(0));
        area.draw(&PathElement::new(vec![(left, middle), (left + 16, middle)], style)).map_err(failed)?;
        area.draw(&Text::new(curve.name.clone(), (left + 22, middle - 7), ("sans-serif", 13))).map_err(failed)?;
    }
    Ok(())
}

/// The panels of a run: latency by percentile, rate over time, latency over time.
#[must_use]
pub fn panels(report: &Report) -> Vec<Panel> {
    let time = || ("seconds".to_owned(), Scale::Linear);
    let unit = report.results.first().map_or("records", |measured| measured.unit);
    let over_time = |pick: fn(&Moment) -> f64, of: &str, is_shown: fn(&Moment) -> bool| -> Vec<Curve> {
        let curve = |measured: &Measured| Curve {
            name: format!("{}{of}", measured.what),
            points: measured.timeline.iter().filter(|moment| is_shown(moment)).map(|moment| (moment.at_seconds, pick(moment))).collect(),
        };
        report.results.iter().map(curve).collect()
    };
    let by_percentile = report.results.iter().map(|measured| Curve { name: measured.what.clone(), points: measured.percentiles.clone() });
    // Where nothing was answered there is no latency.
    let has_latency: fn(&Moment) -> bool = |moment| moment.max_ms > 0.0;
    let mut late = over_time(|moment| moment.p99_ms, ", p99", has_latency);
    late.extend(over_time(|moment| moment.max_ms, ", max", has_latency));
    // What was received of the last answers after the end is no rate.
    let end = report.results.first().map_or(0.0, |measured| measured.seconds) + 0.25;
    let mut rates = over_time(|moment| moment.records_per_second, "", |_| true);
    rates.iter_mut().for_each(|curve| curve.points.retain(|point| point.0 <= end));
    let milliseconds = || ("ms".to_owned(), Scale::Logarithmic);
    vec![
        Panel {
            title: format!("sagamq bench {}: latency by percentile", report.bench),
            x: ("percentile".to_owned(), Scale::Nines),
            y: milliseconds(),
            curves: by_percentile.collect(),
        },
        Panel { title: "Rate".to_owned(), x: time(), y: (format!("{unit}/s"), Scale::Linear), curves: rates },
        Panel { title: "Latency over time".to_owned(), x: time(), y: milliseconds(), curves: late },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_name_what_lies_on_them() {
        let labels =
            |scale: Scale, values: &[f64]| -> Vec<String> { values.iter().map(|&value| scale.label(scale.place(value))).collect() };
        assert_eq!(labels(Scale::Nines, &[0.0, 90.0, 99.0, 99.9, 99.99, 50.0]), ["0%", "90%", "99%", "99.9%", "99.99%", ""]);
        assert_eq!(labels(Scale::Logarithmic, &[0.1, 1.0, 10.0, 1_000.0]), ["0.1", "1", "10", "1000"]);
        assert_eq!(labels(Scale::Linear, &[0.0, 2.5, 30.0, 250_000.0, 1_500_000.0]), ["0", "2.5", "30", "250k", "1.5M"]);
    }

    #[test]
    fn panels_without_points_are_left_out_and_nothing_at_all_is_an_error() {
        let panel = |points: Vec<(f64, f64)>| Panel {
            title: "Title".into(),
            x: ("seconds".into(), Scale::Linear),
            y: ("ms".into(), Scale::Logarithmic),
            curves: vec![Curve { name: "curve".into(), points }],
        };
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("plot.svg");
        assert!(draw(&path, &[panel(vec![])]).is_err());
        draw(&path, &[panel(vec![(0.0, 1.0), (1.0, 0.0)]), panel(vec![]), panel(vec![(5.0, 5.0)])]).expect("drawn");
        let svg = std::fs::read_to_string(&path).expect("it is there");
        assert_eq!(svg.matches("Title").count(), 2);
        assert!(svg.contains("height=\"640\"") && svg.contains("curve"), "{svg}");
    }
}

//! The four styles beside each other: the same orders, the same services, and what each style costs. The figures of
//! `docs/four-styles.md`.

mod counted;
mod fraud;
mod measure;

use super::{SiteArgs, TrialArgs, TrialError};
use crate::mode::Mode;
use fraud::Change;
use measure::Figures;
use std::fmt::Write as _;

/// Options of the comparison.
#[derive(Clone, Debug, clap::Args)]
pub struct StylesArgs {
    /// Those of everything that runs the shop.
    #[command(flatten)]
    pub site: SiteArgs,
    /// Orders of each style
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(100..=100_000))]
    pub orders: u64,
    /// Orders under way at the same time, where it is measured how many can be sold
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    pub in_flight: u64,
    /// How much longer shipping takes, in milliseconds, where it is measured what a slow service does
    #[arg(long, default_value_t = 200, value_name = "MILLISECONDS")]
    pub slow_ms: u64,
    /// Give up a style after so many seconds
    #[arg(long, default_value_t = 600, value_name = "SECONDS")]
    pub time_limit: u64,
}

impl StylesArgs {
    /// The options of traffic with so many orders under way, in which nothing is lost.
    fn traffic(&self, in_flight: u64) -> TrialArgs {
        TrialArgs { site: self.site.clone(), in_flight: Some(in_flight), lose_replies: 0.0, time_limit: self.time_limit }
    }
}

/// Measures each style on a shop of its own and prints the tables. All processes are gone when this returns.
///
/// # Errors
/// [`TrialError`].
pub async fn run(args: StylesArgs) -> Result<(), TrialError> {
    println!("SagaMQ styles: {} good orders in each of {} styles (seed {})\n", args.orders, Mode::ALL.len(), args.site.seed);
    let mut all = Vec::new();
    for mode in Mode::ALL {
        println!("{mode}");
        all.push(measure::measure(&args, mode).await?);
    }
    println!("{}", table(&args, &all));
    println!("{}", fraud_table());
    Ok(())
}

/// One line of a table: its name, and what a style has there.
type Line<T> = (String, fn(&T) -> String);

fn table(args: &StylesArgs, all: &[Figures]) -> String {
    let ms = |name: &str| format!("{name}, ms");
    let lines: [Line<Figures>; 14] = [
        (ms("one order at a time: half end within"), |it| millis(it.alone.half)),
        (ms("one order at a time: 99 % within"), |it| millis(it.alone.most)),
        (format!("{} at a time: orders a second", args.in_flight), |it| format!("{:.0}", it.busy.a_second)),
        ("the same: of all orders, undone".to_owned(), |it| format!("{:.1} %", it.busy.undone_percent)),
        (ms("the same: half end within"), |it| millis(it.busy.half)),
        (ms("the same: 99 % within"), |it| millis(it.busy.most)),
        (format!("shipping takes {} ms longer, {} at a time: orders a second", args.slow_ms, args.in_flight), |it| {
            format!("{:.0}", it.slow.a_second)
        }),
        (ms("the same: half end within"), |it| millis(it.slow.half)),
        ("the same: of all orders, undone".to_owned(), |it| format!("{:.1} %", it.slow.undone_percent)),
        ("records in topics, an order".to_owned(), |it| format!("{:.1}", it.each.records)),
        ("requests to the broker, an order".to_owned(), |it| format!("{:.1}", it.each.requests)),
        ("calls and events that services handle, an order".to_owned(), |it| format!("{:.1}", it.each.handled)),
        ("syncs of the broker, and of all services, an order".to_owned(), |it| {
            format!("{:.1} + {:.1}", it.each.broker_syncs, it.each.service_syncs)
        }),
        ("requests to find out where an order is".to_owned(), |it| it.asked.to_string()),
    ];
    markdown(Mode::ALL.map(|mode| mode.to_string()).as_slice(), all, &lines)
}

fn fraud_table() -> String {
    let changes = Mode::ALL.map(|mode| Change::of(fraud::patch(mode)));
    let service = Change::of(fraud::SERVICE);
    let lines: [Line<Change>; 3] = [
        ("files touched".to_owned(), |it| it.files.to_string()),
        ("lines added and removed".to_owned(), |it| format!("+{} -{}", it.added, it.removed)),
        ("services whose code changes".to_owned(), |it| it.services.len().to_string()),
    ];
    let table = markdown(Mode::ALL.map(|mode| mode.to_string()).as_slice(), &changes, &lines);
    format!(
        "A fraud check before the money is taken. Its own service is the same in all styles: {} lines in {} files.\n\n{table}",
        service.added, service.files
    )
}

fn markdown<T>(columns: &[String], all: &[T], lines: &[Line<T>]) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(text, "| | {} |\n|---|{}", columns.join(" | "), "---|".repeat(columns.len()));
    for (name, of) in lines {
        let cells: Vec<String> = all.iter().map(of).collect();
        let _ = writeln!(text, "| {name} | {} |", cells.join(" | "));
    }
    text
}

fn millis(time: std::time::Duration) -> String {
    format!("{:.1}", time.as_secs_f64() * 1_000.0)
}

//! `sagamq-compare`: measures the same work as sagas and as two-phase commits, and is itself the services that take part.

use clap::{Parser, Subcommand};
use sagamq_example_saga_vs_2pc::cells::Scale;
use sagamq_example_saga_vs_2pc::report::{self, Machine, Report};
use sagamq_example_saga_vs_2pc::run;
use sagamq_example_saga_vs_2pc::service::{self, ServiceArgs};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The same work as sagas and as two-phase commits, measured
#[derive(Debug, Parser)]
#[command(name = "sagamq-compare", version, max_term_width = 120)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure, and write figures, tables and plots
    Run(RunArgs),
    /// Draw plots and write tables again from figures that were kept
    Draw {
        /// The folder with `result.json`
        folder: PathBuf,
    },
    /// Be one of the services; started by `run`
    Service(ServiceArgs),
}

#[derive(Debug, clap::Args)]
struct RunArgs {
    /// Only the value of each factor that is the farthest from the base, and short: about two minutes
    #[arg(long)]
    quick: bool,
    /// Only the smallest grid, to see that everything works: a few seconds
    #[arg(long, conflicts_with = "quick")]
    smoke: bool,
    /// Only factors whose name contains this
    #[arg(long)]
    only: Option<String>,
    /// Where the results go
    #[arg(long, default_value = "target/compare")]
    out: PathBuf,
    /// The server's program; without it the one beside this
    #[arg(long)]
    sagamq: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let result: Result<(), Box<dyn Error>> = match Cli::parse().command {
        Command::Run(args) => compare(&args).await,
        Command::Draw { folder } => draw(&folder),
        Command::Service(args) => service::run(&args).await.map_err(Into::into),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sagamq-compare: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn compare(args: &RunArgs) -> Result<(), Box<dyn Error>> {
    let scale = match (args.quick, args.smoke) {
        (true, _) => Scale::QUICK,
        (_, true) => Scale::SMOKE,
        _ => Scale::FULL,
    };
    let sagamq = run::sagamq(args.sagamq.as_deref())?;
    std::fs::create_dir_all(&args.out)?;
    let machine = Machine::look(&args.out)?;
    let result = args.out.join("result.json");
    let keep = |report: &Report| std::fs::write(&result, serde_json::to_vec_pretty(report)?);
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    // Dropped in the middle, a run kills its processes; ended by a signal it would leave them behind.
    let report = tokio::select! {
        report = Box::pin(run::run(sagamq, scale, args.only.as_deref(), machine, keep)) => report?,
        _ = tokio::signal::ctrl_c() => return Err("interrupted; what was measured by then is kept".into()),
        _ = terminate.recv() => return Err("told to stop; what was measured by then is kept".into()),
    };
    draw(&args.out)?;
    println!("{} cells in {:.0} s, all books balance.", report.cells.len(), report.seconds);
    Ok(())
}

fn draw(folder: &Path) -> Result<(), Box<dyn Error>> {
    let report: Report = serde_json::from_slice(&std::fs::read(folder.join("result.json"))?)?;
    std::fs::write(folder.join("tables.md"), report::tables(&report))?;
    let drawn = report::plots(&report, folder)?;
    println!("result.json, tables.md and {} plots are in {}", drawn.len(), folder.display());
    Ok(())
}

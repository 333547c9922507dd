//! `sagamq-chain`: every scenario over both ways, as a table.

use clap::Parser;
use sagamq_example_queue_vs_chain::run::{Fate, Way, run};
use sagamq_example_queue_vs_chain::scenario::{Scenario, Times};
use sagamq_example_queue_vs_chain::server::Server;
use sagamq_example_queue_vs_chain::service;
use serde_json::json;
use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Four services in a row, calling each other or over the queue: what becomes of orders under a slow service, an outage and a burst
#[derive(Debug, Parser)]
#[command(name = "sagamq-chain", version, max_term_width = 120)]
struct Cli {
    /// Orders a second; each service can do 800
    #[arg(long, default_value_t = 300.0)]
    rate: f64,
    /// Seconds before and after the trouble
    #[arg(long, default_value_t = 5.0)]
    around: f64,
    /// Seconds that a service is slow, or a burst lasts
    #[arg(long, default_value_t = 15.0)]
    trouble: f64,
    /// Seconds that a service is away
    #[arg(long, default_value_t = 60.0)]
    outage: f64,
    /// Write the figures into this file
    #[arg(long)]
    json: Option<PathBuf>,
    /// The server's program; without it the one beside this
    #[arg(long)]
    sagamq: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match compare(&Cli::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("the queue lost orders that it had accepted");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Prints the table; whether the queue lost nothing.
async fn compare(cli: &Cli) -> Result<bool, Box<dyn Error>> {
    let seconds = |seconds: f64| Duration::try_from_secs_f64(seconds).map_err(|_| format!("{seconds} is no number of seconds"));
    if !(1.0..=2_000.0).contains(&cli.rate) {
        return Err("--rate must be between 1 and 2000".into());
    }
    let times =
        Times { before: seconds(cli.around)?, trouble: seconds(cli.trouble)?, outage: seconds(cli.outage)?, after: seconds(cli.around)? };
    let program = match &cli.sagamq {
        Some(program) => program.clone(),
        None => std::env::current_exe()?.with_file_name(format!("sagamq{}", std::env::consts::EXE_SUFFIX)),
    };
    let server = Server::start(&program).await?;
    let work = service::WORK.as_millis();
    println!("{} orders a second; each service does {} at a time, {work} ms each.\n", cli.rate, service::PLACES);
    println!("| what happens | way | offered | accepted | completed | accepted and lost | half done | p50 ms | p99 ms | drained after s |");
    println!("|---|---|---:|---:|---:|---:|---:|---:|---:|---:|");
    let (mut figures, mut is_ok) = (Vec::new(), true);
    for scenario in Scenario::ALL {
        for (name, way) in
            [("calls", Way::Chain), ("queue", Way::Queue { url: server.url.clone(), run: format!("chain-{scenario:?}").to_lowercase() })]
        {
            let fate = run(&way, scenario, &times, cli.rate).await?;
            println!("{}", row(&scenario.says(&times), name, &fate));
            figures.push(json!({ "what": scenario.says(&times), "way": name, "fate": fate.json() }));
            is_ok &= name != "queue" || (fate.lost == 0 && fate.accepted == fate.offered);
        }
    }
    if let Some(path) = &cli.json {
        std::fs::write(path, serde_json::to_string_pretty(&figures)? + "\n")?;
    }
    Ok(is_ok)
}

fn row(what: &str, way: &str, fate: &Fate) -> String {
    let Fate { offered, accepted, completed, lost, half_done, p50_ms, p99_ms, drain_seconds } = fate;
    format!(
        "| {what} | {way} | {offered} | {accepted} | {completed} | {lost} | {half_done} | {p50_ms:.0} | {p99_ms:.0} | {drain_seconds:.1} |"
    )
}

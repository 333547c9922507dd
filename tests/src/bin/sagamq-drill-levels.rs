//! `make drill-levels`: workers are killed between the effect and what settles it, the server beside them, and a table says what each level of
//! delivery lost, repeated and did.

use sagamq_tests::levels::{Plan, Way, run, table, work};
use std::path::Path;
use std::process::ExitCode;

const USAGE: &str = "usage: sagamq-drill-levels [RECORDS] [DEATHS] [SEED]";

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [first, way, url, folder, records] = &arguments[..]
        && first == "worker"
    {
        let (Some(way), Ok(records)) = (Way::named(way), records.parse()) else { return usage() };
        return match work(way, url, Path::new(folder), records).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{}: {error}", way.name());
                ExitCode::FAILURE
            }
        };
    }
    let Ok(numbers) = arguments.iter().map(|argument| argument.parse::<u64>()).collect::<Result<Vec<_>, _>>() else { return usage() };
    let number = |at: usize, default| numbers.get(at).copied().unwrap_or(default);
    let plan = Plan { records: number(0, 400), deaths: number(1, 20), kills: 6, seed: number(2, 1) };
    let program = std::env::current_exe().expect("this program has a path");
    let (rows, kills) = run(&program, plan).await;
    print!("{}", table(&rows));
    let faults: Vec<String> = rows.iter().flat_map(sagamq_tests::levels::Row::faults).collect();
    for fault in &faults {
        eprintln!("WRONG: {fault}");
    }
    println!("\nThe server was killed {kills} times. {}", if faults.is_empty() { "passed" } else { "FAILED" });
    if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn usage() -> ExitCode {
    eprintln!("{USAGE}");
    ExitCode::from(2)
}

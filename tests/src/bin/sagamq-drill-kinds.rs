//! The drill of every kind of step: sagas with all of them, under SIGKILL of the broker and of the services, and an audit of each saga against the books.

use sagamq_tests::kinds::{Plan, run, serve};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

/// What must have occurred, or the drill has shown nothing about it.
const MUST_OCCUR: [&str; 33] = [
    "saga COMPLETED",
    "saga COMPENSATED",
    "saga FAILED",
    "saga BLOCKED",
    "sub-saga COMPLETED",
    "sub-saga COMPENSATED",
    "step SUCCEEDED",
    "step SKIPPED",
    "step FAILED",
    "step COMPENSATED",
    "step COMPENSATION_FAILED",
    "item SUCCEEDED",
    "item FAILED",
    "item COMPENSATED",
    "item COMPENSATION_FAILED",
    "items side by side",
    "list of none",
    "lock waited for",
    "lock held over steps",
    "key passed on at a service",
    "lock broken",
    "LOCK_TIMEOUT",
    "LOCK_DEADLOCK",
    "lock had again",
    "action fenced",
    "compensation fenced",
    "undone late",
    "signal taken by its step",
    "signal missed",
    "records told",
    "broker killed",
    "stock killed",
    "bank killed",
];

/// `sagamq-drill-kinds [SAGAS] [SECONDS BETWEEN KILLS] [SEED]`: 10,000 sagas and 5 s unless said otherwise. The broker is killed every other time; time says
/// nothing in the first 5 s after its start, so with less than 3 s no saga that sleeps would ever wake.
#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [service, name, url, folder, address, seed] = arguments.iter().map(String::as_str).collect::<Vec<_>>()[..]
        && service == "service"
    {
        let (address, seed) = (address.parse().expect("an address"), seed.parse().expect("a number"));
        return match serve(name, url, Path::new(folder), address, seed).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("the service `{name}` ended: {error}");
                ExitCode::FAILURE
            }
        };
    }
    let mut numbers = arguments.iter().map(|argument| argument.parse::<u64>().expect("numbers: sagas, seconds between kills, seed"));
    let (sagas, every, seed) = (numbers.next().unwrap_or(10_000), numbers.next().unwrap_or(5), numbers.next().unwrap_or(1));
    assert!(
        every >= 3,
        "kills must be 3 s apart at least: a server that never lives for longer than its grace after a restart wakes nobody"
    );
    let plan = Plan { sagas, in_flight: 64, every: Duration::from_secs(every), kills: u32::MAX, seed };
    println!("{plan:?}");
    let outcome = run(&std::env::current_exe().expect("a program has a path"), plan).await;
    println!("{sagas} sagas in {:.1} s\n\n{}", outcome.took.as_secs_f64(), outcome.table());
    for wrong in &outcome.wrong {
        println!("WRONG: {wrong}");
    }
    let missing = outcome.missing(&MUST_OCCUR);
    for what in &missing {
        println!("NEVER OCCURRED, so nothing is shown about it: {what}");
    }
    println!("{} wrong, {} never occurred", outcome.wrong.len(), missing.len());
    if outcome.wrong.is_empty() && missing.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

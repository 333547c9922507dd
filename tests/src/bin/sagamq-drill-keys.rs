//! The drill of order by key: many members of a queue group join, leave and die at random while the server is killed, and a checker looks at what they
//! handled.

use sagamq_tests::ServerProcess;
use sagamq_tests::key_churn::{Plan, run};
use std::process::ExitCode;
use std::time::Duration;

/// `sagamq-drill-keys [SECONDS] [MEMBERS] [SEED]`: 300 seconds and 50 members unless said otherwise.
#[tokio::main]
async fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<u64>().expect("numbers: seconds, members, seed"));
    let (seconds, members, seed) = (arguments.next().unwrap_or(300), arguments.next().unwrap_or(50), arguments.next().unwrap_or(1));
    let members = usize::try_from(members).expect("a number of members");
    let kills = u32::try_from(seconds / 30).expect("a few");
    let plan = Plan { members, partitions: 16, keys: 200, time: Duration::from_secs(seconds), rate: 2, kills, seed };
    println!("{plan:?}");
    let mut server = ServerProcess::start().await;
    let outcome = run(&mut server, plan).await;
    println!("{} records, {} begun (with repetitions), {} given back as failed", outcome.records, outcome.begun, outcome.failed);
    println!("{} members left, {} died with records in their hands, the server was killed {kills} times", outcome.left, outcome.died);
    for violation in &outcome.violations {
        println!("VIOLATION: {violation}");
    }
    println!("{} violations", outcome.violations.len());
    if outcome.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

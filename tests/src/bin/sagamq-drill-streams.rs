//! The drill of stream groups: many members join, leave and die at random while the server is killed, and a checker looks at all that they saw.

use sagamq_tests::ServerProcess;
use sagamq_tests::stream_churn::{Plan, run, server_command};
use std::process::ExitCode;
use std::time::Duration;

/// `sagamq-drill-streams [SECONDS] [MEMBERS] [SEED]`: 300 seconds and 50 members unless said otherwise.
#[tokio::main]
async fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<u64>().expect("numbers: seconds, members, seed"));
    let (seconds, members, seed) = (arguments.next().unwrap_or(300), arguments.next().unwrap_or(50), arguments.next().unwrap_or(1));
    let members = usize::try_from(members).expect("a number of members");
    let kills = u32::try_from(seconds / 30).expect("a few");
    let plan = Plan { members, partitions: 32, time: Duration::from_secs(seconds), rate: 1_000, kills, seed };
    println!("{plan:?}");
    let mut server = ServerProcess::start().await;
    server.kill();
    server.restart_as(server_command(&server)).await;
    let outcome = run(&mut server, plan).await;
    println!("{} records, {} processed (with repetitions), by {} holdings", outcome.records, outcome.processed, outcome.holdings);
    println!("{} commits accepted; {} late ones of the dead, {} refused as fenced", outcome.accepted, outcome.late, outcome.refused);
    println!("{} members left, {} died, the server was killed {kills} times", outcome.left, outcome.died);
    for violation in &outcome.violations {
        println!("VIOLATION: {violation}");
    }
    println!("{} violations", outcome.violations.len());
    if outcome.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

//! `make drill-disk`: fills the disk of a server from within and from outside, and gives it room again. The exit code says whether all is well.

use core::time::Duration;
use sagamq_tests::disk_drill::{Outcome, Plan, run};

/// The drill takes less than a minute; on a machine that is busy, longer.
const TIME_MAX: Duration = Duration::from_secs(15 * 60);

#[tokio::main]
async fn main() {
    match tokio::time::timeout(TIME_MAX, run(Plan::FULL)).await {
        Ok(Outcome::Run(table, is_good)) => {
            print!("{table}");
            std::process::exit(i32::from(!is_good));
        }
        Ok(Outcome::NotRun(reason)) => println!("NOT RUN: the disk drill, because {reason}"),
        Err(_) => {
            eprintln!("the drill did not end within {} minutes", TIME_MAX.as_secs() / 60);
            std::process::exit(1);
        }
    }
}

//! `make bench-memory`: the server's memory with ten million records, a hundred groups and a thousand polls that wait.

use sagamq_tests::bench_memory::{Options, run};
use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    match Options::from_args(std::env::args().skip(1)) {
        Ok(options) => {
            let (report, is_good) = run(&options).await;
            print!("{report}");
            if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(message) => {
            eprintln!("{message}");
            ExitCode::from(2)
        }
    }
}

//! `make soak`: half of the peak for half an hour, and whether memory, disk, stalls and lag stay as they must.

use sagamq_tests::soak::{Options, run};
use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    let options = match Options::from_args(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(message) => {
            eprintln!("{message}");
            return ExitCode::from(2);
        }
    };
    let soaked = run(&options).await;
    print!("{}", soaked.markdown());
    eprintln!("written: soak.json and soak.svg in {}", options.out.display());
    if soaked.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

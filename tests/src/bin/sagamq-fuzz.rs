//! `make fuzz`: definitions, expressions and inputs that nobody would write, until the time is over or one of them does harm.

use sagamq_tests::fuzz::{Options, again, run};
use std::process::ExitCode;

fn main() -> ExitCode {
    let options = match Options::from_args(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(message) => {
            eprintln!("{message}");
            return ExitCode::from(2);
        }
    };
    if let (Some(file), Some(target)) = (&options.again, options.target) {
        return match again(target, file) {
            Ok(reached) => {
                println!("it does no harm: {reached}");
                ExitCode::SUCCESS
            }
            Err(error) => {
                eprintln!("{}: {error}", file.display());
                ExitCode::from(2)
            }
        };
    }
    match run(&options) {
        Ok(fuzzed) if fuzzed.harmful.is_empty() => ExitCode::SUCCESS,
        Ok(fuzzed) => {
            println!("try it again: sagamq-fuzz --target T --again {}", fuzzed.harmful[0].display());
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{}: {error}", options.folder.display());
            ExitCode::from(2)
        }
    }
}

//! `make drill-cluster`: a cluster of three nodes under load, and everything that happens to it.

use sagamq_sdk::CancellationToken;
use sagamq_tests::cluster_drill::{Event, Options, run};
use sagamq_tests::kinds::serve;
use std::path::Path;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

/// Where `scripts/with-s3` tells of its bucket.
const BUCKET: &str = "SAGAMQ_TEST_S3";

/// Nothing was run, and nothing has failed.
const NOT_RUN: u8 = 75;

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
    let options = match Options::from_args(arguments.into_iter(), std::env::var(BUCKET).ok()) {
        Ok(options) => options,
        Err(message) => {
            eprintln!("{message}");
            return ExitCode::from(2);
        }
    };
    println!("{options:?}");
    if !options.namespaces {
        println!("without network namespaces: nodes are not cut off from each other, and share the machine's network");
    }
    let left_out: Vec<&str> = Event::ALL.into_iter().filter(|event| !options.possible().contains(event)).map(Event::name).collect();
    if !left_out.is_empty() {
        println!("left out: {}", left_out.join(", "));
    }
    let program = std::env::current_exe().expect("a program has a path");
    let ends = CancellationToken::new();
    let mut told_to_end = signal(SignalKind::terminate()).expect("signals can be listened to");
    let drill = run(&program, &options, &ends);
    tokio::pin!(drill);
    // What is dropped ends its processes.
    let outcome = loop {
        tokio::select! {
            outcome = &mut drill => break outcome,
            _ = tokio::signal::ctrl_c(), if !ends.is_cancelled() => {
                eprintln!("it ends behind this event, with its audit; SIGTERM ends it at once");
                ends.cancel();
            }
            _ = told_to_end.recv() => return ExitCode::from(143),
        }
    };
    let outcome = match outcome {
        Ok(outcome) => outcome,
        Err(why) => {
            println!("NOT RUN: the drill of the cluster, because {why} (--no-namespaces does without them)");
            return ExitCode::from(NOT_RUN);
        }
    };
    println!("{} in {:.0} s\n\n{}", outcome.summary(), outcome.took.as_secs_f64(), outcome.tables());
    for wrong in &outcome.wrong {
        println!("{wrong}");
    }
    for what in outcome.missing() {
        println!("NEVER OCCURRED, so nothing is shown about it: {what}");
    }
    println!("{}", outcome.summary());
    if outcome.is_good() {
        return ExitCode::SUCCESS;
    }
    println!("the same once more: sagamq-drill-cluster {}", options.again());
    ExitCode::FAILURE
}

//! `make bench-security`: what keys, TLS and tracing cost, in turns.

use sagamq_tests::bench_security::{Options, run};

#[tokio::main]
async fn main() {
    let options = Options::from_args(std::env::args().skip(1)).unwrap_or_else(|message| {
        eprintln!("{message}");
        std::process::exit(2);
    });
    print!("{}", run(&options).await);
}

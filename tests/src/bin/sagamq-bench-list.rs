//! `make bench-list`: how long a page of sagas takes by each filter, with very many of them.

use sagamq_tests::bench_list::{Options, run};

#[tokio::main]
async fn main() {
    let options = Options::from_args(std::env::args().skip(1)).unwrap_or_else(|message| {
        eprintln!("{message}");
        std::process::exit(2);
    });
    print!("{}", run(&options).await);
}

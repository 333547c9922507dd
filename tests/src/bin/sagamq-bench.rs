//! `make bench`: first figures of a real server process, each beside the speed of the same disk in the same run.

use sagamq_tests::bench::{Options, run};

#[tokio::main]
async fn main() {
    let options = Options::from_args(std::env::args().skip(1)).unwrap_or_else(|message| {
        eprintln!("{message}");
        std::process::exit(2);
    });
    print!("{}", run(&options).await);
}

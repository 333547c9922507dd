//! `make bench-log`: what the log costs the disk, and how fast it is read and given back.

use sagamq_tests::bench_log::{Options, run};

fn main() {
    let options = Options::from_args(std::env::args().skip(1)).unwrap_or_else(|message| {
        eprintln!("{message}");
        std::process::exit(2);
    });
    print!("{}", run(&options));
}

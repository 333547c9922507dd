//! `make bench-sagas BENCH_ARGS="--before path/to/sagamq"`: sagas on an older server and this one, in turns.

use sagamq_tests::bench_sagas::{Options, Role, run};

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(role) = Role::from_args(&arguments) {
        return role.play().await;
    }
    let options = Options::from_args(arguments.into_iter()).unwrap_or_else(|message| {
        eprintln!("{message}");
        std::process::exit(2);
    });
    print!("{}", run(&options).await);
}

//! The binary `sagamq`. Everything is in the library of this crate, so that tests can reach it.

fn main() -> std::process::ExitCode {
    sagamq::run(std::env::args_os()).into()
}

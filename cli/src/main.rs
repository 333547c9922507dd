//! The binary `sagamq`. Everything is in the library of this crate, so that tests can reach it.

use sagamq::exit::leave;

/// One allocator for Rust and for RocksDB's C++ (`docs/decisions/0016-allocator.md`): the C library's keeps what large bodies leave.
#[cfg(all(unix, not(target_env = "musl")))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ! {
    #[cfg(target_arch = "x86_64")]
    if let Some(reason) = sagamq::processor::lacks() {
        eprintln!("error: {reason}");
        leave(sagamq::exit::Exit::Failed.code());
    }
    leave(sagamq::run(std::env::args_os()).code())
}

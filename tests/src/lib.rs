//! What the end-to-end tests, the drills and the benchmarks share: real `sagamq` processes that can be killed and started again.

pub mod bench_compare;
pub mod bench_list;
pub mod bench_log;
pub mod bench_memory;
pub mod bench_open;
pub mod bench_sagas;
pub mod bench_wire;
pub mod disk_drill;
pub mod fate;
pub mod fuzz;
pub mod key_churn;
pub mod kinds;
pub mod levels;
mod measure;
pub mod memory;
pub mod server;
pub mod soak;
pub mod stream_churn;

pub use server::ServerProcess;

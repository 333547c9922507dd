//! What the end-to-end tests, the drills and the benchmarks share: real `sagamq` processes that can be killed and started again.

pub mod balancer;
pub mod bench_cluster;
pub mod bench_compare;
pub mod bench_list;
pub mod bench_log;
pub mod bench_memory;
pub mod bench_open;
pub mod bench_sagas;
pub mod bench_security;
pub mod bench_wire;
pub mod cluster_drill;
pub mod disk_drill;
pub mod fate;
pub mod fuzz;
pub mod key_churn;
pub mod kinds;
pub mod levels;
mod measure;
pub mod memory;
mod nodes;
pub mod otlp;
pub mod server;
pub mod soak;
pub mod stream_churn;

pub use server::ServerProcess;

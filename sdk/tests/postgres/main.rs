//! Tests of the SDK's parts for PostgreSQL, against a real server: `scripts/with-postgres` starts one and names it in
//! `SAGAMQ_TEST_POSTGRES`. Without that variable each of them is skipped, and the first one says so.

mod barrier;
mod barrier_model;
mod barrier_overlap;
mod migrations;
#[path = "../model/barrier.rs"]
mod model;
mod server;

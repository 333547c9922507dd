//! Tests of the SDK's parts for PostgreSQL, against a real server: `scripts/with-postgres` starts one and names it in
//! `SAGAMQ_TEST_POSTGRES`. Without that variable each of them is skipped, and the first one says so.

mod barrier;
mod barrier_model;
mod barrier_overlap;
mod branch;
mod branch_kill;
mod branch_trouble;
mod inbox;
mod migrations;
#[path = "../model/barrier.rs"]
mod model;
mod outbox;
#[cfg(all(feature = "participant", feature = "conformance"))]
mod participant;
#[cfg(all(feature = "participant", feature = "conformance"))]
#[path = "../model/participant.rs"]
mod participant_model;
mod server;
mod server_crash;
#[expect(dead_code, reason = "it serves the tests of the client as well")]
#[path = "../sdk/support.rs"]
mod support;

//! Many running sagas: what they take of memory, and how long it takes until they go on after a SIGKILL.

use super::case::metric;
use super::definitions::over_nobody;
use super::role::Role;
use super::side::Side;
use crate::measure::now;
use crate::server::eventually;
use std::time::Duration;

/// What is measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Many {
    /// Resident memory with all of them running.
    pub(super) memory_mib: f64,
    pub(super) ready_seconds: f64,
    /// From the start of the process until the last is taken over.
    pub(super) resumed_seconds: f64,
}

pub(super) async fn measure(side: &Side, count: u32) -> Many {
    let mut server = side.start().await;
    server.client().sagas().publish(&over_nobody()).await.expect("published");
    while metric(&server, "sagamq_sagas_started_total").await < f64::from(count) {
        let (server, saga) = (server.address(), "bench-nobody".to_owned());
        side.ask(&Role::Starters { server, saga, at_a_time: 16, seconds: 1.0, wait_ms: 0, key: None }).await;
    }
    let started = metric(&server, "sagamq_sagas_started_total").await;
    eprintln!("{started} sagas run");
    #[expect(clippy::cast_precision_loss, reason = "kibibytes as a figure")]
    let memory_mib = server.memory_kib() as f64 / 1024.0;
    server.kill();
    let began = now();
    let ready = server.restart().await;
    eventually("all sagas are resumed", async || (metric(&server, "sagamq_sagas_recovered_total").await >= started).then_some(())).await;
    let resumed: Duration = began.elapsed();
    Many { memory_mib, ready_seconds: ready.as_secs_f64(), resumed_seconds: resumed.as_secs_f64() }
}

//! What is left to others: sagas over HTTP alone, beside a business key that everybody starts, and beside a service that hangs.

use super::case::{listening, metric};
use super::definitions::over_http;
use super::role::Role;
use super::side::Side;
use crate::server::{eventually, free_address};
use std::time::Duration;

/// Sagas that wait for the service that hangs.
const HANGING: f64 = 500.0;

pub(super) async fn measure(side: &Side, span: Duration) -> Vec<(String, f64)> {
    let (server, quick, hanging) = (side.start().await, free_address(), free_address());
    let _services = [side.play(&Role::Static { address: quick }), side.play(&Role::Hanging { address: hanging })];
    listening(quick).await;
    listening(hanging).await;
    for (name, address) in [("bench-others", quick), ("bench-hanging", hanging)] {
        server.client().sagas().publish(&over_http(name, &format!("http://{address}"))).await.expect("published");
    }
    let starters = |saga: &str, at_a_time: u32, span: Duration, wait_ms: u64, key: Option<&str>| Role::Starters {
        server: server.address(),
        saga: saga.to_owned(),
        at_a_time,
        seconds: span.as_secs_f64(),
        wait_ms,
        key: key.map(str::to_owned),
    };
    let others = starters("bench-others", 8, span, 60_000, None);
    let rate = async || {
        let [count, _, _, took] = side.ask(&others).await[..] else { panic!("starters print four numbers") };
        count / took
    };
    side.ask(&starters("bench-others", 8, span / 4, 60_000, None)).await;
    let alone = rate().await;
    // The same starts of one key, and as many of different keys that end as well: what the load itself costs is not the key's fault.
    let beside_load = {
        let _load = side.play(&starters("bench-others", 1, span * 2, 0, None));
        rate().await
    };
    let beside_key = {
        let _load = side.play(&starters("bench-others", 1, span * 2, 0, Some("hot")));
        rate().await
    };
    let load = side.play(&starters("bench-hanging", 4, span, 0, None));
    eventually("sagas wait for the service that hangs", async || {
        let active = metric(&server, "sagamq_sagas_started_total{saga=\"bench-hanging\"").await;
        (active >= HANGING).then_some(())
    })
    .await;
    drop(load);
    let beside_hanging = rate().await;
    vec![
        ("others over HTTP, 8 at a time, alone: completed/s".to_owned(), alone),
        ("others over HTTP, 8 at a time, beside starts of different keys: completed/s".to_owned(), beside_load),
        ("others over HTTP, 8 at a time, beside starts of one hot key: completed/s".to_owned(), beside_key),
        ("others over HTTP, 8 at a time, beside 500 sagas at a service that hangs: completed/s".to_owned(), beside_hanging),
    ]
}

//! A restart after `kill -9` with 100,000 records and 1,000 running sagas on disk: until the server is ready again.

use crate::ServerProcess;
use crate::bench::{produce, sagas};
use futures_util::future::join_all;
use sagamq_api::record::ProduceRecord;
use sagamq_api::saga::{SagaQuery, SagaState, StartSaga};
use sagamq_api::topic::TopicConfig;
use serde_json::json;
use std::time::Duration;

/// Records on disk.
const RECORDS: usize = 100_000;
/// Sagas that have begun and wait for a worker that does not run.
const SAGAS: u32 = 1_000;

/// How long the restart took.
pub(crate) async fn measure() -> Duration {
    let mut server = ServerProcess::start().await;
    let client = server.client();
    client.create_topic(&produce::topic(), TopicConfig { partitions: 16, ..TopicConfig::default() }).await.expect("made");
    for _ in 0..RECORDS / 1_000 {
        let records = vec![ProduceRecord::text("x".repeat(produce::RECORD_BYTES)); 1_000];
        client.produce(&produce::topic(), records, None).await.expect("produced");
    }
    client.sagas().publish(sagas::DEFINITION).await.expect("published");
    for chunk in 0..SAGAS / 50 {
        let input = |n: u32| json!({ "id": format!("{n}") }).into();
        let start = |n: u32| StartSaga { saga: "bench".parse().expect("legal"), version: None, mode: None, input: input(n) };
        let starts = join_all((0..50).map(|n| {
            let (sagas, start) = (client.sagas(), start(chunk * 50 + n));
            async move { sagas.start(&start).await.expect("started") }
        }));
        starts.await;
    }
    server.kill();
    let took = server.restart().await;
    let query = SagaQuery { state: Some(SagaState::Running), limit: Some(1000), ..SagaQuery::default() };
    let running = server.client().sagas().list(&query).await.expect("listed").sagas.len();
    assert_eq!(running, SAGAS as usize, "every saga is still there");
    took
}

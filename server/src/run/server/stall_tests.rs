//! Clients of HTTP/2 that leave answers where they are: what is kept for them is given free, and whoever takes it slowly gets all of it.

use super::{Front, Parts, ServeConfig};
use crate::run::connections::{self, Serving};
use crate::{HttpConfig, QuotaLimits};
use prometheus_client::registry::Registry;
use sagamq_api::topic::TopicConfig;
use sagamq_broker::env::{ManualClock, Random};
use sagamq_broker::storage::memory::MemoryStorage;
use sagamq_broker::{Broker, BrokerConfig, NewRecord};
use sagamq_saga::OrchestratorConfig;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;

/// Far beyond what a test needs: only a hang meets it.
const LIMIT: Duration = Duration::from_secs(60);

/// Memory for all answers with records together.
const READ_BYTES_MAX: usize = 1 << 20;

/// A server with a topic that fills an answer, on which a client may take nothing for so long.
async fn server(stall_max: Duration) -> (Parts, Front, JoinHandle<()>) {
    let mut registry = Registry::default();
    let config =
        BrokerConfig { shards: 1, read_bytes_max: READ_BYTES_MAX, read_wait: Duration::from_millis(50), ..BrokerConfig::default() };
    let (storage, clock) = (Arc::new(MemoryStorage::new()), Arc::new(ManualClock::at(1_000_000)));
    let broker = Broker::open(storage, config, clock, Random::from_seed(1), &mut registry).expect("opens");
    let topic = "t".parse().expect("a name");
    broker.create_topic(&topic, TopicConfig { partitions: 1, ..TopicConfig::default() }).await.expect("made");
    for _ in 0..20 {
        let payload = sagamq_api::record::Payload { value: Some(vec![b'x'; 50_000].into()), ..Default::default() };
        broker.produce(&topic, vec![NewRecord { payload, ..NewRecord::default() }], None).await.expect("stored");
    }
    let (interface, sagas) = (HttpConfig::default(), OrchestratorConfig::default());
    let parts = Parts::over(broker, registry, interface, QuotaLimits::default(), sagas, None).await.expect("opens");
    let config = ServeConfig { listen: "127.0.0.1:0".parse().expect("an address"), ..ServeConfig::default() };
    let front = Front::open(&config).await.expect("a free port");
    let serving = Serving {
        places: front.places.clone(),
        application: parts.application.clone(),
        tls: None,
        idle_max: LIMIT,
        stall_max,
        closing: front.closing.clone(),
        metrics: parts.connections.clone(),
    };
    let served = tokio::spawn(connections::serve(Arc::clone(&front.listener), serving));
    (parts, front, served)
}

/// A client with one connection on which it takes so many bytes of an answer, and the rest when it wants it.
fn client(window: u32) -> reqwest::Client {
    let builder = reqwest::Client::builder().tls_certs_only([]).http2_prior_knowledge().http2_initial_stream_window_size(window);
    builder.build().expect("a client")
}

const RECORDS: &str = "/v1/topics/t/partitions/0/records?max_records=20&max_bytes=1048576";

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_an_answer_where_it_is_and_goes_on_asking_keeps_others_from_nothing() {
    let (parts, front, served) = server(Duration::from_secs(1)).await;
    let url = front.url();
    let slow = client(1_000);
    // One answer after the other, of which it takes nothing more, until there is no memory for another.
    let mut held = Vec::new();
    loop {
        let answer = slow.get(format!("{url}{RECORDS}")).send().await.expect("answered");
        if answer.status() == 429 {
            break;
        }
        assert!(answer.status() == 200 && held.len() < 200, "{answer:?}");
        held.push(answer);
    }
    let asks_on = {
        let url = url.clone();
        tokio::spawn(async move {
            loop {
                // On the connection from before, as long as there is one.
                let _ = slow.get(format!("{url}/healthz")).send().await;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
    };
    let other = reqwest::Client::builder().tls_certs_only([]).build().expect("a client");
    let reads = async {
        loop {
            let answer = other.get(format!("{url}{RECORDS}")).send().await.expect("answered");
            let status = answer.status();
            answer.bytes().await.expect("whole");
            if status == 200 {
                return;
            }
            assert_eq!(status, 429);
        }
    };
    tokio::time::timeout(LIMIT, reads).await.expect("the memory is given free, or nobody reads any more");
    asks_on.abort();
    drop(held);
    front.closing.cancel();
    served.await.expect("it ends");
    parts.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_an_answer_slowly_gets_all_of_it() {
    let (parts, front, served) = server(Duration::from_secs(2)).await;
    let mut answer = client(65_535).get(format!("{}{RECORDS}", front.url())).send().await.expect("answered");
    let mut length = 0;
    while let Some(piece) = answer.chunk().await.expect("it does not break") {
        length += piece.len();
        tokio::time::sleep(Duration::from_millis(400)).await;
    }
    assert!(length > 100_000, "more than it takes at once: {length}");
    front.closing.cancel();
    served.await.expect("it ends");
    parts.shutdown().await;
}

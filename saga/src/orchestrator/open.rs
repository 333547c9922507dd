//! Opening: definitions are loaded, every lane is folded, and then the tasks start.

use super::definitions::Definitions;
use super::lane::{HttpCaller, Lane, LaneHandle, LaneParts, RecoveryError, read_replies, recover};
use super::publish::{Compiler, ensure_lane_topic, mark_hand_outs};
use super::quarantine::Quarantine;
use super::{Inner, OrchestratorConfig, SagaError};
use crate::metrics::Metrics;
use crate::participant::http::HttpParticipants;
use crate::participant::http_calls::HttpCalls;
use crate::store::{LaneStore, StoreError};
use prometheus_client::registry::Registry;
use sagamq_api::TopicName;
use sagamq_api::saga::REPLY_TOPIC;
use sagamq_broker::Broker;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Why an orchestrator cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The reply topic cannot be used.
    #[error("the reply topic cannot be used: {0}")]
    ReplyTopic(SagaError),
    /// Definitions cannot be read.
    #[error("the saga definitions cannot be read: {0}")]
    Definitions(#[from] StoreError),
    /// A lane cannot start.
    #[error("lane {lane} of the sagas cannot start: {reason}")]
    Lane {
        /// The lane.
        lane: u16,
        /// Why.
        reason: RecoveryError,
    },
    /// The client for HTTP participants cannot be made.
    #[error("the HTTP client for participants cannot be made: {0}")]
    HttpClient(#[from] reqwest::Error),
}

pub(super) async fn open(broker: Broker, config: OrchestratorConfig, registry: &mut Registry) -> Result<Inner, OpenError> {
    let metrics = Arc::new(Metrics::register(registry));
    let replies: TopicName = REPLY_TOPIC.parse().expect("a constant that is a legal name");
    ensure_lane_topic(&broker, &replies).await.map_err(OpenError::ReplyTopic)?;
    let definitions = load_definitions(&LaneStore(broker.embedder(0)), &metrics)?;
    let http = HttpParticipants::new(&config, broker.clock(), broker.random())?;
    let quarantine = Quarantine::default();
    for topic in definitions.topics() {
        mark_hand_outs(&broker, &topic);
    }
    let (tasks, shutdown) = (TaskTracker::new(), CancellationToken::new());
    let mut lanes = Vec::new();
    for lane in 0..broker.shards() {
        let store = LaneStore(broker.embedder(lane));
        let recovered = recover(store.clone(), definitions.clone()).await.map_err(|reason| OpenError::Lane { lane, reason })?;
        metrics.quarantined.inc_by(i64::try_from(recovered.quarantined.len()).expect("instances in memory are countable"));
        let (handle, inputs) = LaneHandle::channel(broker.liveness().clone());
        let caller = HttpCaller {
            http: http.clone(),
            calls: HttpCalls::default(),
            lane: handle.clone(),
            tasks: tasks.clone(),
            shutdown: shutdown.clone(),
        };
        let parts = LaneParts {
            store: store.clone(),
            clock: broker.clock(),
            random: broker.random(),
            definitions: definitions.clone(),
            caller,
            metrics: Arc::clone(&metrics),
            liveness: broker.liveness().clone(),
            quarantine: quarantine.clone(),
            restart_grace: config.restart_grace,
            tasks: tasks.clone(),
            shutdown: shutdown.clone(),
        };
        let cursor = recovered.reply_cursor;
        let life = broker.liveness().guard(format!("lane {lane}"));
        tasks.spawn(Lane::new(parts, recovered).run(inputs, life));
        let life = broker.liveness().guard(format!("the reader of replies of lane {lane}"));
        tasks.spawn(read_replies(store.0, replies.clone(), cursor, handle.clone(), shutdown.clone(), life));
        lanes.push(handle);
    }
    Ok(Inner {
        broker,
        definitions,
        lanes,
        quarantine,
        http,
        compiler: Compiler::default(),
        publishing: tokio::sync::Mutex::new(()),
        tasks,
        shutdown,
    })
}

/// A definition that cannot be read is left out and reported: its instances are set aside, all others run.
fn load_definitions(store: &LaneStore, metrics: &Metrics) -> Result<Definitions, StoreError> {
    let definitions = Definitions::default();
    for found in store.definitions()? {
        if !definitions.load(found) {
            metrics.definitions_unreadable.inc();
        }
    }
    Ok(definitions)
}

//! Opening: definitions are loaded, every lane is folded, and then the tasks start.

use super::compiler::Compiler;
use super::definitions::Definitions;
use super::door::{Inner, Orchestrator};
use super::given::Given;
use super::lane::{Lane, LaneHandle, LaneParts, RecoveryError, Search, pump, read_replies, recover, release_replies};
use super::lifecycle::{Lifecycle, event_topic};
use super::quarantine::Quarantine;
use super::retentions::Retentions;
use super::search::search;
use super::sweep::Sweeper;
use super::topics::{LaneTopicError, Use, command_topics, ensure_lane_topic, hold_commands, mark_hand_outs, reply_topic};
use crate::config::OrchestratorConfig;
use crate::metrics::{MessagesWaiting, Metrics};
use crate::participant::Hold;
use crate::participant::http::{Expiries, HttpCaller, HttpParticipants, Services};
use crate::store::{ControlStore, LaneStore, StoreError};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use prometheus_client::registry::Registry;
use sagamq_api::{Offset, TopicName};
use sagamq_broker::{Broker, EmbedError};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::mpsc::{self, UnboundedReceiver};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Lanes that are folded at a time.
const RECOVERIES_AT_ONCE: usize = 8;

/// Why an orchestrator cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The reply topic cannot be used.
    #[error("the reply topic cannot be used: {0}")]
    ReplyTopic(LaneTopicError),
    /// The topic of events cannot be used.
    #[error("the topic of events cannot be used: {0}")]
    EventTopic(LaneTopicError),
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

impl Orchestrator {
    /// Takes over what the broker's data directory holds, and runs it. Metrics go into `registry`.
    ///
    /// # Errors
    /// When the reply topic cannot be used, or storage fails. A damaged instance is no error: it is set aside.
    pub async fn open(broker: Broker, config: OrchestratorConfig, registry: &mut Registry) -> Result<Self, OpenError> {
        let (inner, searched) = open(broker, config, registry).await?;
        let inner = Arc::new(inner);
        let life = inner.broker.liveness().guard("the search for the sagas of repairs".to_owned());
        inner.tasks.spawn(search(Arc::downgrade(&inner), searched, inner.shutdown.clone(), life));
        let orchestrator = Self::of(inner);
        orchestrator.tell_unmatched();
        Ok(orchestrator)
    }
}

async fn open(
    broker: Broker,
    config: OrchestratorConfig,
    registry: &mut Registry,
) -> Result<(Inner, UnboundedReceiver<Search>), OpenError> {
    let metrics = Arc::new(Metrics::register(registry, broker.clock()));
    registry.register_collector(Box::new(MessagesWaiting::of(&broker)));
    let replies = reply_topic();
    ensure_lane_topic(&broker, &replies, Use::Once).await.map_err(OpenError::ReplyTopic)?;
    if config.lifecycle_events {
        ensure_lane_topic(&broker, &event_topic(), Use::Anybody).await.map_err(OpenError::EventTopic)?;
    }
    let definitions = load_definitions(&ControlStore::of(&broker), &metrics)?;
    let retentions = Retentions::load(&ControlStore::of(&broker))?;
    let services = Services::new(config.participant_connect_timeout);
    services.register(registry);
    for (name, service) in ControlStore::of(&broker).services()? {
        services.learn(&name, Some(service));
    }
    let http = HttpParticipants::new(&config, services.clone(), broker.clock(), broker.random())?;
    let quarantine = Quarantine::default();
    let hold = Hold::new(config.hold);
    metrics.open_max.set(i64::try_from(config.open_max).unwrap_or(i64::MAX));
    metrics.held.set(i64::from(config.hold));
    if config.hold {
        tracing::warn!("sagas are held: nobody is called until they are released");
    }
    let topics = command_topics(&broker);
    for topic in &topics {
        mark_hand_outs(&broker, topic);
        hold_commands(&broker, topic, config.hold);
    }
    let (tasks, shutdown) = (TaskTracker::new(), CancellationToken::new());
    let expiries = Expiries::register(services.clone(), config.secrets.clone(), registry);
    tasks.spawn(expiries.watch(shutdown.clone(), broker.liveness().guard("the look at certificates")));
    let recovering = stream::iter(0..broker.shards()).map(|lane| {
        let store = LaneStore(broker.embedder(lane));
        let recovering = recover(store.clone(), definitions.clone(), topics.clone());
        async move { recovering.await.map(|recovered| (lane, store, recovered)).map_err(|reason| OpenError::Lane { lane, reason }) }
    });
    let recovered: Vec<_> = recovering.buffered(RECOVERIES_AT_ONCE).try_collect().await?;
    let (searches, searched) = mpsc::unbounded_channel();
    let mut lanes = Vec::new();
    for (lane, store, recovered) in recovered {
        metrics.quarantined.inc_by(i64::try_from(recovered.quarantined.len()).expect("instances in memory are countable"));
        let (handle, inputs) = LaneHandle::channel(broker.liveness().clone());
        let caller = HttpCaller::new(http.clone(), handle.report(), hold.clone(), tasks.clone(), shutdown.clone());
        let parts = LaneParts {
            store: store.clone(),
            clock: broker.clock(),
            random: broker.random(),
            definitions: definitions.clone(),
            http: caller,
            metrics: Arc::clone(&metrics),
            liveness: broker.liveness().clone(),
            quarantine: quarantine.clone(),
            restart_grace: config.restart_grace,
            open_max: config.open_max.div_ceil(usize::from(broker.shards())),
            hold: hold.clone(),
            cluster: broker.cluster(),
            lifecycle: Lifecycle::new(config.lifecycle_events, broker.cluster()),
            lanes: broker.shards(),
            searches: searches.clone(),
            tracer: broker.tracer().clone(),
            tasks: tasks.clone(),
            shutdown: shutdown.clone(),
        };
        let cursor = recovered.reply_cursor;
        release_read(&store, &replies, cursor);
        let life = broker.liveness().guard(format!("lane {lane}"));
        tasks.spawn(Lane::new(parts, recovered).run(inputs, life));
        let life = broker.liveness().guard(format!("the pump of lane {lane}"));
        tasks.spawn(pump(store.0.inbox(), handle.downgrade(), shutdown.clone(), life));
        let life = broker.liveness().guard(format!("the reader of replies of lane {lane}"));
        tasks.spawn(read_replies(store.0, replies.clone(), cursor, handle.downgrade(), shutdown.clone(), life));
        lanes.push(handle);
    }
    let sweeper = Sweeper {
        stores: (0..broker.shards()).map(|lane| LaneStore(broker.embedder(lane))).collect(),
        lanes: lanes.clone(),
        definitions: definitions.clone(),
        retentions: retentions.clone(),
        clock: broker.clock(),
        swept: HashMap::new(),
        repair_retention_ms: u64::try_from(config.repair_retention.as_millis()).unwrap_or(u64::MAX),
        repairs_swept_at: None,
    };
    tasks.spawn(sweeper.run(shutdown.clone(), broker.liveness().guard("the sweeper of sagas")));
    let inner = Inner {
        broker,
        definitions,
        lanes,
        quarantine,
        retentions,
        http,
        hold,
        metrics,
        compiler: Compiler::default(),
        verify_states_max: config.verify_states_max,
        given: Given::default(),
        publishing: Arc::default(),
        configuring: Arc::default(),
        services,
        tasks,
        shutdown,
    };
    Ok((inner, searched))
}

/// Lets retention have what the lane needs no more: replies that it has read, and what it tells others, which it never reads.
fn release_read(store: &LaneStore, replies: &TopicName, cursor: Offset) {
    release_replies(&store.0, replies, cursor);
    match store.0.release(&event_topic(), Offset(u64::MAX)) {
        // It is made when somebody wants the events.
        Ok(()) | Err(EmbedError::TopicNotFound(_)) => {}
        Err(error) => tracing::warn!(%error, "events of sagas are not taken when their time is over"),
    }
}

/// A definition that cannot be read is left out and reported: its instances are set aside, all others run.
fn load_definitions(control: &ControlStore, metrics: &Metrics) -> Result<Definitions, StoreError> {
    let definitions = Definitions::default();
    for found in control.definitions()? {
        metrics.published(&found.name);
        if definitions.learn(found).is_err() {
            metrics.definitions_unreadable.inc();
        }
    }
    for activation in control.activations()? {
        definitions.activated(activation);
    }
    Ok(definitions)
}

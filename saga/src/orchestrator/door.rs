//! [`Orchestrator`]: what it holds, and how it finds the lane of an instance and ends.

use super::compiler::Compiler;
use super::definitions::Definitions;
use super::error::InstanceError;
use super::given::Given;
use super::lane::LaneHandle;
use super::quarantine::Quarantine;
use super::retentions::Retentions;
use crate::metrics::Metrics;
use crate::participant::Hold;
use crate::participant::http::{HttpParticipants, Services};
use crate::protocol::{lane_of, lane_of_key};
use crate::store::LaneStore;
use core::fmt::Display;
use sagamq_api::SagaName;
use sagamq_api::audit::AuditOutcome;
use sagamq_broker::Broker;
use sagamq_broker::audit::{Act, Note};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

/// A running orchestrator; clones are the same one. It ends with [`Orchestrator::shutdown`], before its broker does. Beside it is the broker,
/// for whoever acts here.
#[derive(Clone, Debug)]
pub struct Orchestrator(pub(super) Arc<Inner>, Broker);

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) broker: Broker,
    pub(super) definitions: Definitions,
    pub(super) lanes: Vec<LaneHandle>,
    pub(super) compiler: Compiler,
    pub(super) quarantine: Quarantine,
    pub(super) retentions: Retentions,
    pub(super) http: HttpParticipants,
    pub(super) services: Services,
    pub(super) hold: Hold,
    pub(super) metrics: Arc<Metrics>,
    pub(super) given: Given,
    /// States that are looked at before a definition is published; 0: none, unless the request asks for it.
    pub(super) verify_states_max: usize,
    /// Held while a definition is published.
    pub(super) publishing: Arc<tokio::sync::Mutex<()>>,
    /// Held while the address of a service is changed.
    pub(super) configuring: Arc<tokio::sync::Mutex<()>>,
    pub(super) tasks: TaskTracker,
    pub(super) shutdown: CancellationToken,
}

impl Orchestrator {
    pub(super) fn of(inner: Arc<Inner>) -> Self {
        let broker = inner.broker.clone();
        Self(inner, broker)
    }

    /// The same orchestrator, for what somebody does: what he changes is written down in the audit log, if it is kept.
    #[must_use]
    pub fn acting(&self, act: Act) -> Self {
        Self(Arc::clone(&self.0), self.1.acting(act))
    }

    /// The same orchestrator, for whoever is called so (`key:NAME`, `token:SUBJECT`): the calls that are leased are leased to him.
    #[must_use]
    pub fn held_by(&self, principal: &str) -> Self {
        Self(Arc::clone(&self.0), self.1.held_by(principal))
    }

    /// What is to be written down with a change that somebody makes.
    pub(super) fn note(&self, outcome: AuditOutcome, on: &[(&str, &dyn Display)]) -> Note {
        self.broker().note(outcome, on)
    }

    /// The broker, for whoever acts here.
    pub(super) fn broker(&self) -> &Broker {
        &self.1
    }

    /// Takes no more requests, lets what was decided become durable, and ends. Calls in progress are made again after the next start.
    pub async fn shutdown(&self) {
        self.0.shutdown.cancel();
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }

    pub(super) fn lane(&self, id: Uuid) -> Result<&LaneHandle, InstanceError> {
        self.0.lanes.get(usize::from(lane_of(id))).ok_or(InstanceError::NotFound(id))
    }

    pub(super) fn store(&self, lane: u16) -> LaneStore {
        LaneStore(self.0.broker.embedder(lane))
    }

    /// The lane of a business key: the same on every node, for all time.
    pub(super) fn lane_of_key(&self, saga: &SagaName, key: &str) -> u16 {
        lane_of_key(saga, key, self.0.broker.shards())
    }
}

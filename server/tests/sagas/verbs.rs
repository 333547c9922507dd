//! A node with one service and one definition, and what operators do to its sagas over HTTP.

use crate::api::Api;
use crate::common::Node;
use crate::service::Service;
use sagamq_api::saga::SagaState;
use sagamq_broker::env::{Clock, SystemClock};
use sagamq_broker::storage::crash::CrashStorage;
use serde_json::{Value, json};
use std::sync::Arc;
use uuid::Uuid;

/// The node, and who speaks to it.
pub(crate) struct World {
    pub(crate) node: Node,
    pub(crate) api: Api,
    pub(crate) service: Service,
    pub(crate) storage: CrashStorage,
    /// The time of the next node that is opened.
    pub(crate) clock: Arc<dyn Clock>,
}

impl World {
    /// Opens a node and publishes the definition, in which `AGENCY` stands for the service's address.
    pub(crate) async fn open(definition: &str) -> Self {
        let (storage, service) = (CrashStorage::new(), Service::default());
        let node = Node::open(Arc::new(storage.clone())).await.expect("it opens");
        let world = Self { api: Api::of(&node).await, node, service, storage, clock: Arc::new(SystemClock) };
        let text = definition.replace("AGENCY", &world.service.serve().await);
        let (status, published) = world.api.post("/v1/saga-definitions", text).await;
        assert_eq!(status, 201, "{published}");
        world
    }

    /// Goes on with what a crash leaves.
    pub(crate) async fn after(self, storage: CrashStorage) -> Self {
        self.node.close().await;
        let node = Node::open_at(Arc::new(storage.clone()), Arc::clone(&self.clock)).await.expect("it opens again");
        Self { api: Api::of(&node).await, node, storage, ..self }
    }

    /// Waits until the saga is in this state.
    pub(crate) async fn until(&self, id: Uuid, state: SagaState) -> Value {
        self.node.until(id, |saga| saga.summary.state == state).await;
        self.api.get(&format!("/v1/sagas/{id}")).await.1
    }

    pub(crate) async fn verb(&self, id: Uuid, verb: &str, body: Value) -> (u16, Value) {
        self.api.post(&format!("/v1/sagas/{id}:{verb}"), body.to_string()).await
    }

    /// A verb that is possible and is news.
    pub(crate) async fn done(&self, id: Uuid, verb: &str, body: Value) -> Value {
        let (status, answer) = self.verb(id, verb, body).await;
        assert_eq!((status, &answer["duplicate"]), (200, &json!(false)), "{answer}");
        answer["saga"].clone()
    }
}

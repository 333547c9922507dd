//! Topics and groups that sagas need: they cannot be deleted, and publishing makes what is missing.

mod common;

use common::{Node, ORDER};
use sagamq_api::saga::REPLY_TOPIC;
use sagamq_api::{GroupName, TopicName};
use sagamq_broker::storage::keys::MetaKey;
use sagamq_broker::storage::memory::MemoryStorage;
use sagamq_broker::storage::{Durability, Family, Mutation, Storage as _};
use sagamq_broker::{DeleteGroupError, TopicError};
use std::sync::Arc;

fn topic(name: &str) -> TopicName {
    name.parse().expect("a legal name")
}

fn workers() -> GroupName {
    "workers".parse().expect("a legal name")
}

#[tokio::test]
async fn topics_and_groups_of_sagas_cannot_be_deleted() {
    let storage = MemoryStorage::new();
    for restart in [false, true] {
        let node = Node::open(Arc::new(storage.clone())).await.expect("opens");
        if !restart {
            node.sagas.publish(ORDER).await.expect("a legal definition");
        }
        for name in ["stock.commands", "money.commands", REPLY_TOPIC] {
            let kept = node.broker.delete_topic(&topic(name)).await;
            assert!(matches!(kept, Err(TopicError::Owned(_))), "{name}, restart: {restart}: {kept:?}");
        }
        let kept = node.broker.delete_group(&topic("stock.commands"), &workers()).await;
        assert!(matches!(kept, Err(DeleteGroupError::InUse { .. })), "restart: {restart}: {kept:?}");
        node.close().await;
    }
}

#[tokio::test]
async fn publishing_again_makes_topics_that_are_missing() {
    let storage = MemoryStorage::new();
    let node = Node::open(Arc::new(storage.clone())).await.expect("opens");
    assert!(node.sagas.publish(ORDER).await.expect("a legal definition").1);
    node.close().await;
    // No way leads here but damage, or a version that let them be deleted.
    let gone = [MetaKey::topics(), MetaKey::groups()].map(|range| Mutation::DeleteRange { family: Family::Meta, range });
    storage.write(&gone, Durability::Synced).expect("written");

    let node = Node::open(Arc::new(storage)).await.expect("opens");
    assert!(node.broker.describe_topic(&topic("stock.commands")).is_err());
    assert!(!node.sagas.publish(ORDER).await.expect("the same text").1);
    for name in ["stock.commands", "money.commands"] {
        node.broker.describe_group(&topic(name), &workers()).await.expect("made");
        assert!(matches!(node.broker.delete_topic(&topic(name)).await, Err(TopicError::Owned(_))), "{name}");
    }
    node.close().await;
}

//! Topics and groups that sagas need: they cannot be deleted, and publishing makes what is missing.

use crate::common::{Node, ORDER};
use sagamq_api::limits::DEFINITION_BYTES_MAX;
use sagamq_api::saga::REPLY_TOPIC;
use sagamq_api::{GroupName, TopicName};
use sagamq_broker::storage::keys::MetaKey;
use sagamq_broker::storage::memory::MemoryStorage;
use sagamq_broker::storage::{Durability, Family, Mutation, Storage as _};
use sagamq_broker::{DeleteGroupError, TopicError};
use sagamq_saga::{PublishError, UsedTopic, Uses};
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

#[tokio::test]
async fn what_a_text_would_use_is_known_before_it_is_published() {
    let node = Node::open(Arc::new(MemoryStorage::new())).await.expect("opens");
    let text = "saga: sale\nversion: 1\nkey: ${ input.n }\nservices:\n  shop: { topic: shop.commands }\nsteps:\n  - { id: sell, call: shop.sell, \
                timeout: 5s, compensate: none, emit: { topic: sold, value: 1 } }\n  - { id: rate, saga: rating, with: { n: \"${ input.n }\" }, compensate: none }\n";
    let used = |name: &str, is_for_sagas| UsedTopic { name: topic(name), is_for_sagas };
    let mut uses = Uses {
        saga: "sale".parse().expect("a legal name"),
        sub_sagas: vec!["rating".parse().expect("a legal name")],
        topics: vec![used("shop.commands", false), used("sold", false)],
    };
    assert_eq!(node.sagas.uses(text).await.expect("legal"), uses);
    assert!(node.broker.describe_topic(&topic("shop.commands")).is_err(), "nothing was made");
    let rating = "saga: rating\nversion: 1\nkey: ${ input.n }\nservices:\n  shop: { http: http://127.0.0.1:9/ }\nsteps:\n  - { id: ask, call: \
                  shop.ask, timeout: 5s, compensate: none }\n";
    node.sagas.publish(rating).await.expect("legal");
    node.sagas.publish(text).await.expect("legal");
    uses.topics = vec![used("shop.commands", true), used("sold", true)];
    assert_eq!(node.sagas.uses(text).await.expect("legal"), uses);
    // It is a topic that sagas write to, and not one that their workers read.
    let commands = text.replace("shop.commands", "sold").replace(", emit: { topic: sold, value: 1 }", "");
    assert_eq!(node.sagas.uses(&commands).await.expect("legal").topics, [used("sold", false)]);
    let faults = node.sagas.uses(&text.replace("key:", "kye:")).await.expect_err("a fault");
    assert!(matches!(faults, PublishError::InvalidDefinition(_)), "{faults}");
    let padded = format!("{text}# {}\n", "x".repeat(DEFINITION_BYTES_MAX));
    assert!(matches!(node.sagas.uses(&padded).await, Err(PublishError::TooLarge(_))));
    node.close().await;
}

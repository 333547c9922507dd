//! The turns in an instance's life that others hear of: as CloudEvents 1.0 in the topic `saga.events`, in the commit of the instance itself.
//!
//! In the *binary* mode of the specification's binding to Kafka: the attributes are headers (`ce_type` and so on), and the value is the data
//! alone. So readers choose by headers without parsing, and the record says that its value is JSON, which the structured mode's media type
//! would not.

use crate::protocol::{Instance, lane_of};
use crate::trace::Causes;
use jiff::Timestamp;
use sagamq_api::TopicName;
use sagamq_api::headers::{APPLICATION_JSON, CONTENT_TYPE, cloud_event};
use sagamq_api::record::{Headers, Payload};
use sagamq_api::saga::{EVENT_TOPIC, SagaState};
use sagamq_broker::ShardCommit;
use sagamq_broker::spans::Tracer;
use uuid::Uuid;

/// Tells the turns of one lane's instances, if that is wanted.
#[derive(Clone, Debug)]
pub(super) struct Lifecycle {
    topic: Option<TopicName>,
    /// The data that the events are of.
    source: String,
}

/// The topic of the events.
pub(super) fn event_topic() -> TopicName {
    EVENT_TOPIC.parse().expect("a constant that is a legal name")
}

impl Lifecycle {
    pub(super) fn new(is_wanted: bool, cluster: Uuid) -> Self {
        Self { topic: is_wanted.then(event_topic), source: format!("urn:uuid:{cluster}") }
    }

    /// Adds an event for each turn to the commit; gives how many records that are. `before` is the instance without what the commit does; it
    /// does not matter if that starts it.
    pub(super) fn tell(&self, commit: &mut ShardCommit, before: Option<&Instance>, after: &Instance, tracer: &Tracer) -> usize {
        let Some(topic) = &self.topic else { return 0 };
        let before = before.filter(|before| before.head().events > 0).map(Instance::state);
        let mut told = 0;
        for turn in turns(before, after.state()) {
            match commit.append(topic, self.event(turn, after, tracer)) {
                Ok(()) => told += 1,
                // The saga goes on: whoever listens has no topic to listen to.
                Err(error) => tracing::error!(%topic, lane = lane_of(after.head().id), %error, "a turn of a saga is not told"),
            }
        }
        told
    }

    fn event(&self, turn: &str, instance: &Instance, tracer: &Tracer) -> Payload {
        let (head, mut headers) = (instance.head(), Headers::default());
        let id = head.id.to_string();
        let at = i64::try_from(head.updated_at_ms).ok().and_then(|millis| Timestamp::from_millisecond(millis).ok()).unwrap_or_default();
        headers.set(cloud_event::SPECVERSION, "1.0");
        // The number of the event behind which it is so, with the turn: no two of an instance have the same.
        headers.set(cloud_event::ID, format!("{id}/{}/{turn}", head.events));
        headers.set(cloud_event::SOURCE, self.source.clone());
        headers.set(cloud_event::TYPE, format!("sagamq.saga.{turn}"));
        headers.set(cloud_event::SUBJECT, id.clone());
        headers.set(cloud_event::TIME, at.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string());
        headers.set(CONTENT_TYPE, APPLICATION_JSON);
        if let Some(saga) = Causes::of(tracer, head).saga() {
            saga.put_if_absent(&mut headers);
        }
        let value = serde_json::to_vec(&instance.summary()).expect("a summary has text keys only");
        Payload { key: Some(id.into()), value: Some(value.into()), headers }
    }
}

/// What became of an instance, in the order in which it is told; `None`: it was not there.
fn turns(before: Option<SagaState>, after: SagaState) -> Vec<&'static str> {
    let mut turns = Vec::new();
    if before.is_none() {
        turns.push("started");
    }
    if before == Some(after) {
        return turns;
    }
    match (before, after) {
        (Some(SagaState::Blocked), _) if !after.is_final() => turns.push("unblocked"),
        (Some(SagaState::Paused), _) if !after.is_final() => turns.push("resumed"),
        _ => {}
    }
    match after {
        SagaState::Completed => turns.push("completed"),
        SagaState::Compensated => turns.push("compensated"),
        SagaState::Failed => turns.push("failed"),
        SagaState::Terminated => turns.push("terminated"),
        SagaState::Blocked => turns.push("blocked"),
        SagaState::Paused => turns.push("paused"),
        SagaState::Pending | SagaState::Running | SagaState::Waiting | SagaState::Compensating | SagaState::Quarantined => {}
    }
    turns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_turn_is_told_once_and_going_on_is_none() {
        use SagaState::{Blocked, Compensated, Compensating, Completed, Failed, Paused, Running, Terminated, Waiting};
        for (before, after, told) in [
            (None, Running, &["started"][..]),
            (None, Failed, &["started", "failed"]),
            (Some(Running), Waiting, &[]),
            (Some(Running), Compensating, &[]),
            (Some(Running), Running, &[]),
            (Some(Completed), Completed, &[]),
            (Some(Running), Completed, &["completed"]),
            (Some(Compensating), Compensated, &["compensated"]),
            (Some(Compensating), Blocked, &["blocked"]),
            (Some(Blocked), Compensating, &["unblocked"]),
            (Some(Blocked), Blocked, &[]),
            (Some(Blocked), Terminated, &["terminated"]),
            (Some(Blocked), Paused, &["unblocked", "paused"]),
            (Some(Running), Paused, &["paused"]),
            (Some(Paused), Running, &["resumed"]),
            (Some(Paused), Blocked, &["resumed", "blocked"]),
        ] {
            assert_eq!(turns(before, after), told, "{before:?} to {after:?}");
        }
    }
}

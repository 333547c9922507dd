//! Every HTTP route, for the server's routers and for the SDK alike.
//!
//! A resource has custom verbs behind a colon (`/v1/topics/{topic}/groups/{group}:receive`), Google's style. Names cannot hold
//! a colon, so the last one of a path always begins the verb.

use crate::ids::ScheduleId;
use crate::names::{GroupName, KeyName, ProducerName, SagaName, ServiceName, TopicName};

/// Liveness: the process answers.
pub const HEALTHZ: &str = "/healthz";
/// Readiness: the broker takes reads and writes.
pub const READYZ: &str = "/readyz";
/// Prometheus metrics.
pub const METRICS: &str = "/metrics";
/// The OpenAPI description of this interface.
pub const OPENAPI: &str = "/openapi.json";

/// The audit log: `GET` reads.
pub const AUDIT: &str = "/v1/audit";

/// API keys: `GET` lists, `POST` makes one.
pub const KEYS: &str = "/v1/keys";
/// One of them: verbs `rotate`, `revoke`.
pub const KEY: &str = "/v1/keys/{key}";

/// Topics: `GET` lists, `POST` creates.
pub const TOPICS: &str = "/v1/topics";
/// Producers that have a name: `GET` lists, `POST` registers one.
pub const PRODUCERS: &str = "/v1/producers";
/// One of them: `DELETE` takes its name away.
pub const PRODUCER: &str = "/v1/producers/{producer}";
/// One topic: `GET` describes, `PATCH` changes its configuration, `DELETE` deletes.
pub const TOPIC: &str = "/v1/topics/{topic}";
/// `POST` produces records.
pub const RECORDS: &str = "/v1/topics/{topic}/records";
/// CloudEvents to a topic.
pub const EVENTS: &str = "/v1/topics/{topic}/events";
/// `GET` reads records of one partition.
pub const PARTITION_RECORDS: &str = "/v1/topics/{topic}/partitions/{partition}/records";
/// Records that wait for their time: `GET` lists.
pub const SCHEDULES: &str = "/v1/topics/{topic}/schedules";
/// One of them: `DELETE` cancels.
pub const SCHEDULE: &str = "/v1/topics/{topic}/schedules/{schedule}";
/// `GET` lists the groups of a topic.
pub const GROUPS: &str = "/v1/topics/{topic}/groups";
/// One group: `GET` describes, `DELETE` deletes; verbs `receive`, `ack`, `ack-with-records`, `nack`, `extend`, `terminate`, `redrive`,
/// `discard`, `pause`, `resume`, `purge`, `seek`.
pub const GROUP: &str = "/v1/topics/{topic}/groups/{group}";
/// `GET` lists the group's dead letters that were neither redriven nor discarded.
pub const DEAD_LETTERS: &str = "/v1/topics/{topic}/groups/{group}/dead-letters";

/// Stream groups: `GET` lists.
pub const STREAM_GROUPS: &str = "/v1/stream-groups";
/// One stream group: `GET` describes, `DELETE` deletes; verbs `heartbeat`, `commit`, `seek`.
pub const STREAM_GROUP: &str = "/v1/stream-groups/{group}";
/// `GET`: how far a stream group has come.
pub const STREAM_OFFSETS: &str = "/v1/stream-groups/{group}/offsets";

/// Saga definitions: `GET` lists, `POST` publishes YAML; verb `lint`.
pub const SAGA_DEFINITIONS: &str = "/v1/saga-definitions";
/// One definition: `GET`, the newest version or `?version=`.
pub const SAGA_DEFINITION: &str = "/v1/saga-definitions/{saga}";
/// Which versions of a definition new sagas take: `GET`, `PUT`.
pub const SAGA_ACTIVATION: &str = "/v1/saga-definitions/{saga}/activation";
/// The versions of a saga definition, with their instances: `GET`.
pub const SAGA_VERSIONS: &str = "/v1/saga-definitions/{saga}/versions";
/// How long sagas at their end are kept: `GET`; `PUT` sets what holds for definitions without a rule of their own.
pub const SAGA_RETENTION: &str = "/v1/saga-retention";
/// How long sagas of one definition are kept: `PUT`, `DELETE`.
pub const SAGA_RETENTION_OF: &str = "/v1/saga-retention/{saga}";
/// Saga instances: `GET` lists, `POST` starts; verb `release`.
pub const SAGAS: &str = "/v1/sagas";
/// Sagas in trouble, by what they are in: `GET`.
pub const SAGA_INCIDENTS: &str = "/v1/sagas/incidents";
/// One instance: `GET` describes; verbs `cancel`, `pause`, `resume`, `terminate`, `retry`, `skip`, `resolve`, `edit-input`, `rerun`,
/// and `preview` of each.
pub const SAGA: &str = "/v1/sagas/{id}";
/// `GET`: the events of one instance.
pub const SAGA_HISTORY: &str = "/v1/sagas/{id}/history";
/// Calls to participants: verb `complete`.
pub const SAGA_CALLS: &str = "/v1/saga-calls";

/// Services that have an address of their own: `GET` lists.
pub const SERVICES: &str = "/v1/services";
/// One service: `GET` describes, `PUT` says where it is, `DELETE` forgets that.
pub const SERVICE: &str = "/v1/services/{service}";
/// Semantic locks that sagas hold: `GET`; verb `break`.
pub const SAGA_LOCKS: &str = "/v1/saga-locks";
/// Repairs of many sagas: `GET` lists, `POST` starts; verb `preview`.
pub const SAGA_REPAIRS: &str = "/v1/saga-repairs";
/// One repair: `GET` describes; verbs `pause`, `resume`, `cancel`.
pub const SAGA_REPAIR: &str = "/v1/saga-repairs/{id}";
/// `GET`: what became of each saga of a repair.
pub const SAGA_REPAIR_RESULTS: &str = "/v1/saga-repairs/{id}/results";

/// Transactions, the instances that run in two phases: `GET` lists.
pub const TRANSACTIONS: &str = "/v1/transactions";
/// One transaction: `GET` describes; verb `resolve`.
pub const TRANSACTION: &str = "/v1/transactions/{id}";
/// `GET`: the events of one transaction.
pub const TRANSACTION_HISTORY: &str = "/v1/transactions/{id}/history";
/// `GET`: what was decided about one transaction, for participants that have prepared.
pub const TRANSACTION_OUTCOME: &str = "/v1/transactions/{id}/outcome";

/// Stands for the colon in front of a verb, because routers match whole segments. No name can be it, and a client's path that holds it
/// has no route: each verb has one path.
pub const VERB_SEGMENT: &str = "/~/";

/// The path of a custom verb in the router: `{path}:{verb}` is matched as `{path}/~/{verb}`.
#[must_use]
pub fn routed(path: &str, verb: &str) -> String {
    format!("{path}{VERB_SEGMENT}{verb}")
}

/// Rewrites a requested path for the router: `/v1/a/b:verb` becomes `/v1/a/b/~/verb`; a path without a verb is `None`.
#[must_use]
pub fn rewrite_verb(path: &str) -> Option<String> {
    let (resource, verb) = path.rsplit_once(':')?;
    let is_verb = !verb.is_empty() && verb.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
    (is_verb && path.starts_with("/v1/")).then(|| routed(resource, verb))
}

/// The path that the router gets for a requested one.
#[must_use]
pub fn for_router(path: &str) -> Option<String> {
    // Nothing is below this one, so it has no route.
    if path.contains(VERB_SEGMENT) { Some(VERB_SEGMENT.to_owned()) } else { rewrite_verb(path) }
}

/// The path of a verb of one API key.
#[must_use]
pub fn key_verb(key: &KeyName, verb: &str) -> String {
    format!("{KEYS}/{key}:{verb}")
}

/// The path of one topic.
#[must_use]
pub fn topic(topic: &TopicName) -> String {
    format!("{TOPICS}/{topic}")
}

/// The path of one producer that has a name.
#[must_use]
pub fn producer(producer: &ProducerName) -> String {
    format!("{PRODUCERS}/{producer}")
}

/// The path of one service.
#[must_use]
pub fn service(service: &ServiceName) -> String {
    format!("{SERVICES}/{service}")
}

/// The path of CloudEvents to a topic.
#[must_use]
pub fn events(topic: &TopicName) -> String {
    format!("{TOPICS}/{topic}/events")
}

/// The path of a topic's records.
#[must_use]
pub fn records(topic: &TopicName) -> String {
    format!("{TOPICS}/{topic}/records")
}

/// The path of a partition's records.
#[must_use]
pub fn partition_records(topic: &TopicName, partition: crate::PartitionId) -> String {
    format!("{TOPICS}/{topic}/partitions/{partition}/records")
}

/// The path of a topic's records that wait for their time.
#[must_use]
pub fn schedules(topic: &TopicName) -> String {
    format!("{TOPICS}/{topic}/schedules")
}

/// The path of one of them.
#[must_use]
pub fn schedule(topic: &TopicName, schedule: ScheduleId) -> String {
    format!("{TOPICS}/{topic}/schedules/{schedule}")
}

/// The path of a topic's groups.
#[must_use]
pub fn groups(topic: &TopicName) -> String {
    format!("{TOPICS}/{topic}/groups")
}

/// The path of one group.
#[must_use]
pub fn group(topic: &TopicName, group: &GroupName) -> String {
    format!("{TOPICS}/{topic}/groups/{group}")
}

/// The path of a verb of one group.
#[must_use]
pub fn group_verb(topic: &TopicName, group: &GroupName, verb: &str) -> String {
    format!("{TOPICS}/{topic}/groups/{group}:{verb}")
}

/// The path of a group's dead letters.
#[must_use]
pub fn dead_letters(topic: &TopicName, group: &GroupName) -> String {
    format!("{TOPICS}/{topic}/groups/{group}/dead-letters")
}

/// The path of one stream group.
#[must_use]
pub fn stream_group(group: &GroupName) -> String {
    format!("{STREAM_GROUPS}/{group}")
}

/// The path of a verb of one stream group.
#[must_use]
pub fn stream_group_verb(group: &GroupName, verb: &str) -> String {
    format!("{STREAM_GROUPS}/{group}:{verb}")
}

/// The path of how far a stream group has come.
#[must_use]
pub fn stream_offsets(group: &GroupName) -> String {
    format!("{STREAM_GROUPS}/{group}/offsets")
}

/// The path of one saga definition.
#[must_use]
pub fn saga_definition(saga: &SagaName) -> String {
    format!("{SAGA_DEFINITIONS}/{saga}")
}

/// The path of which versions of a definition new sagas take.
#[must_use]
pub fn saga_activation(saga: &SagaName) -> String {
    format!("{SAGA_DEFINITIONS}/{saga}/activation")
}

/// The path of the versions of one saga definition.
#[must_use]
pub fn saga_versions(saga: &SagaName) -> String {
    format!("{SAGA_DEFINITIONS}/{saga}/versions")
}

/// The path of the retention of one saga definition.
#[must_use]
pub fn saga_retention(saga: &SagaName) -> String {
    format!("{SAGA_RETENTION}/{saga}")
}

/// The path of one saga instance.
#[must_use]
pub fn saga(id: uuid::Uuid) -> String {
    format!("{SAGAS}/{id}")
}

/// The path of a verb of one saga instance.
#[must_use]
pub fn saga_verb(id: uuid::Uuid, verb: &str) -> String {
    format!("{SAGAS}/{id}:{verb}")
}

/// The path of the events of one saga instance.
#[must_use]
pub fn saga_history(id: uuid::Uuid) -> String {
    format!("{SAGAS}/{id}/history")
}

/// The path of one repair.
#[must_use]
pub fn saga_repair(id: uuid::Uuid) -> String {
    format!("{SAGA_REPAIRS}/{id}")
}

/// The path of the results of one repair.
#[must_use]
pub fn saga_repair_results(id: uuid::Uuid) -> String {
    format!("{SAGA_REPAIRS}/{id}/results")
}

/// The path of one transaction.
#[must_use]
pub fn transaction(id: uuid::Uuid) -> String {
    format!("{TRANSACTIONS}/{id}")
}

/// The path of the events of one transaction.
#[must_use]
pub fn transaction_history(id: uuid::Uuid) -> String {
    format!("{TRANSACTIONS}/{id}/history")
}

/// The path of what was decided about one transaction.
#[must_use]
pub fn transaction_outcome(id: uuid::Uuid) -> String {
    format!("{TRANSACTIONS}/{id}/outcome")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verb_becomes_a_segment_of_its_own() {
        assert_eq!(rewrite_verb("/v1/topics/t/groups/g:receive").as_deref(), Some("/v1/topics/t/groups/g/~/receive"));
        assert_eq!(rewrite_verb("/v1/topics/t/groups/g"), None);
        assert_eq!(rewrite_verb("/v1/topics/t/groups/g:"), None);
        assert_eq!(rewrite_verb("/healthz:x"), None);
    }

    #[test]
    fn a_verb_has_no_second_path() {
        assert_eq!(for_router("/v1/topics/t/groups/g:receive"), rewrite_verb("/v1/topics/t/groups/g:receive"));
        assert_eq!(for_router("/v1/topics/t/groups/g/~/receive").as_deref(), Some("/~/"));
        assert_eq!(for_router("/v1/topics/t/groups/g/~/x:receive").as_deref(), Some("/~/"));
        assert_eq!(for_router("/v1/topics/-/groups/-"), None, "a name of its own");
        assert!("~".parse::<TopicName>().is_err() && "~".parse::<GroupName>().is_err() && "~".parse::<SagaName>().is_err());
    }
}

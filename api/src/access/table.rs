//! The table: every operation of the interface and what it needs. The one place: the server decides by it, the tests walk it, and the table
//! of the documentation is made of it.

use super::operation::{Need, Operation, Place};
use super::role::Role;

const PRODUCE: Need = Need::OneOf(&[Role::Produce]);
const CONSUME: Need = Need::OneOf(&[Role::Consume]);
const MANAGE: Need = Need::OneOf(&[Role::Manage]);
const OPERATE: Need = Need::OneOf(&[Role::Operate]);
const ADMIN: Need = Need::OneOf(&[Role::Admin]);

const TOPIC: Place = Place::Path("topic");
const GROUP: Place = Place::Path("group");
const SAGA: Place = Place::Path("saga");
const ASKED_SAGA: Place = Place::Query("saga");

/// Every operation of the interface. What is not in it needs `admin` for everything.
pub const OPERATIONS: &[Operation] = &[
    // The server.
    server("GET", "/healthz", Need::Nothing),
    server("GET", "/readyz", Need::Nothing),
    server("GET", "/openapi.json", Need::Nothing),
    server("GET", "/metrics", OPERATE),
    server("GET", "/v1/keys", ADMIN),
    server("POST", "/v1/keys", ADMIN),
    server("POST", "/v1/keys/{key}:rotate", ADMIN),
    server("POST", "/v1/keys/{key}:revoke", ADMIN),
    // Topics and their records.
    groups("GET", "/v1/topics", Need::AnyRole, Place::Seen, Place::Whichever),
    topics("POST", "/v1/topics", MANAGE, Place::Later),
    groups("GET", "/v1/topics/{topic}", Need::AnyRole, TOPIC, Place::Whichever),
    topics("PATCH", "/v1/topics/{topic}", MANAGE, TOPIC),
    topics("DELETE", "/v1/topics/{topic}", MANAGE, TOPIC),
    // Into `saga.replies` also `consume` for all sagas: a reply record answers whichever call it names.
    topics("POST", "/v1/topics/{topic}/records", PRODUCE, TOPIC),
    // Whoever may consume a topic for one group may read it by offset: it has all of its records anyway.
    waits(groups("GET", "/v1/topics/{topic}/partitions/{partition}/records", CONSUME, TOPIC, Place::Whichever)),
    topics("GET", "/v1/topics/{topic}/schedules", Need::OneOf(&[Role::Produce, Role::Operate]), TOPIC),
    topics("DELETE", "/v1/topics/{topic}/schedules/{schedule}", Need::OneOf(&[Role::Produce, Role::Operate]), TOPIC),
    // Names of producers are matched as topics are: one who may produce to `orders*` may be the producer `orders-writer`.
    topics("GET", "/v1/producers", OPERATE, Place::Every),
    topics("POST", "/v1/producers", PRODUCE, Place::Later),
    topics("DELETE", "/v1/producers/{producer}", Need::OneOf(&[Role::Produce, Role::Operate]), Place::Path("producer")),
    // Queue groups.
    groups("GET", "/v1/topics/{topic}/groups", Need::AnyRole, TOPIC, Place::Seen),
    groups("GET", "/v1/topics/{topic}/groups/{group}", Need::AnyRole, TOPIC, GROUP),
    groups("DELETE", "/v1/topics/{topic}/groups/{group}", MANAGE, TOPIC, GROUP),
    waits(groups("POST", "/v1/topics/{topic}/groups/{group}:receive", CONSUME, TOPIC, GROUP)),
    groups("POST", "/v1/topics/{topic}/groups/{group}:ack", CONSUME, TOPIC, GROUP),
    // And `produce` for each topic of its records.
    groups("POST", "/v1/topics/{topic}/groups/{group}:ack-with-records", CONSUME, TOPIC, GROUP),
    groups("POST", "/v1/topics/{topic}/groups/{group}:nack", CONSUME, TOPIC, GROUP),
    groups("POST", "/v1/topics/{topic}/groups/{group}:extend", CONSUME, TOPIC, GROUP),
    groups("POST", "/v1/topics/{topic}/groups/{group}:terminate", CONSUME, TOPIC, GROUP),
    groups("GET", "/v1/topics/{topic}/groups/{group}/dead-letters", Need::OneOf(&[Role::Consume, Role::Operate]), TOPIC, GROUP),
    groups("POST", "/v1/topics/{topic}/groups/{group}:redrive", OPERATE, TOPIC, GROUP),
    groups("POST", "/v1/topics/{topic}/groups/{group}:discard", OPERATE, TOPIC, GROUP),
    groups("POST", "/v1/topics/{topic}/groups/{group}:pause", OPERATE, TOPIC, GROUP),
    groups("POST", "/v1/topics/{topic}/groups/{group}:resume", OPERATE, TOPIC, GROUP),
    groups("POST", "/v1/topics/{topic}/groups/{group}:purge", OPERATE, TOPIC, GROUP),
    groups("POST", "/v1/topics/{topic}/groups/{group}:seek", OPERATE, TOPIC, GROUP),
    // Stream groups: the role must be for each topic that the group reads, and for each that a member asks for.
    groups("GET", "/v1/stream-groups", Need::AnyRole, Place::Seen, Place::Seen),
    groups("GET", "/v1/stream-groups/{group}", Need::AnyRole, Place::Later, GROUP),
    groups("DELETE", "/v1/stream-groups/{group}", MANAGE, Place::Later, GROUP),
    groups("GET", "/v1/stream-groups/{group}/offsets", Need::AnyRole, Place::Later, GROUP),
    groups("POST", "/v1/stream-groups/{group}:heartbeat", CONSUME, Place::Later, GROUP),
    groups("POST", "/v1/stream-groups/{group}:commit", CONSUME, Place::Later, GROUP),
    groups("POST", "/v1/stream-groups/{group}:seek", OPERATE, Place::Later, GROUP),
    // Saga definitions.
    sagas("GET", "/v1/saga-definitions", Need::AnyRole, Place::Seen),
    sagas("POST", "/v1/saga-definitions", MANAGE, Place::Later),
    sagas("POST", "/v1/saga-definitions:lint", Need::AnyRole, Place::Whichever),
    sagas("GET", "/v1/saga-definitions/{saga}", Need::AnyRole, SAGA),
    sagas("GET", "/v1/saga-definitions/{saga}/activation", Need::AnyRole, SAGA),
    sagas("PUT", "/v1/saga-definitions/{saga}/activation", MANAGE, SAGA),
    sagas("GET", "/v1/saga-definitions/{saga}/versions", Need::AnyRole, SAGA),
    sagas("GET", "/v1/saga-retention", Need::OneOf(&[Role::Manage, Role::Operate]), Place::Every),
    sagas("PUT", "/v1/saga-retention", MANAGE, Place::Every),
    sagas("PUT", "/v1/saga-retention/{saga}", MANAGE, SAGA),
    sagas("DELETE", "/v1/saga-retention/{saga}", MANAGE, SAGA),
    // Sagas.
    sagas("GET", "/v1/sagas", Need::AnyRole, ASKED_SAGA),
    sagas("POST", "/v1/sagas", PRODUCE, Place::Later),
    sagas("GET", "/v1/sagas/incidents", Need::AnyRole, ASKED_SAGA),
    waits(sagas("GET", "/v1/sagas/{id}", Need::AnyRole, Place::Later)),
    sagas("GET", "/v1/sagas/{id}/history", Need::AnyRole, Place::Later),
    sagas("POST", "/v1/sagas/{id}:signal", PRODUCE, Place::Later),
    sagas("POST", "/v1/sagas:signal", PRODUCE, Place::Later),
    sagas("POST", "/v1/sagas/{id}:cancel", OPERATE, Place::Later),
    sagas("POST", "/v1/sagas/{id}:pause", OPERATE, Place::Later),
    sagas("POST", "/v1/sagas/{id}:resume", OPERATE, Place::Later),
    sagas("POST", "/v1/sagas/{id}:terminate", OPERATE, Place::Later),
    sagas("POST", "/v1/sagas/{id}:retry", OPERATE, Place::Later),
    sagas("POST", "/v1/sagas/{id}:skip", OPERATE, Place::Later),
    sagas("POST", "/v1/sagas/{id}:resolve", OPERATE, Place::Later),
    sagas("POST", "/v1/sagas/{id}:edit-input", OPERATE, Place::Later),
    sagas("POST", "/v1/sagas/{id}:rerun", OPERATE, Place::Later),
    sagas("POST", "/v1/sagas/{id}:preview", OPERATE, Place::Later),
    sagas("POST", "/v1/sagas:release", OPERATE, Place::Every),
    // And `consume` for the group `workers` of each topic that it asks for calls of, and of the topic that a call it replies to was sent to; a call that
    // no worker does takes `operate` for the saga.
    sagas("POST", "/v1/saga-calls:complete", CONSUME, Place::Later),
    // Where services are: what the server calls.
    sagas("GET", "/v1/services", Need::OneOf(&[Role::Manage, Role::Operate]), Place::Every),
    sagas("GET", "/v1/services/{service}", Need::OneOf(&[Role::Manage, Role::Operate]), Place::Every),
    sagas("PUT", "/v1/services/{service}", MANAGE, Place::Every),
    sagas("DELETE", "/v1/services/{service}", MANAGE, Place::Every),
    // Repairs of many sagas.
    sagas("GET", "/v1/saga-repairs", OPERATE, Place::Every),
    sagas("POST", "/v1/saga-repairs", OPERATE, Place::Every),
    sagas("POST", "/v1/saga-repairs:preview", OPERATE, Place::Every),
    sagas("GET", "/v1/saga-repairs/{id}", OPERATE, Place::Every),
    sagas("GET", "/v1/saga-repairs/{id}/results", OPERATE, Place::Every),
    sagas("POST", "/v1/saga-repairs/{id}:pause", OPERATE, Place::Every),
    sagas("POST", "/v1/saga-repairs/{id}:resume", OPERATE, Place::Every),
    sagas("POST", "/v1/saga-repairs/{id}:cancel", OPERATE, Place::Every),
    // Semantic locks: their keys are those of all definitions.
    sagas("GET", "/v1/saga-locks", OPERATE, Place::Every),
    sagas("POST", "/v1/saga-locks:break", OPERATE, Place::Every),
    // Transactions.
    sagas("GET", "/v1/transactions", Need::AnyRole, ASKED_SAGA),
    sagas("GET", "/v1/transactions/{id}", Need::AnyRole, Place::Later),
    sagas("GET", "/v1/transactions/{id}/history", Need::AnyRole, Place::Later),
    sagas("GET", "/v1/transactions/{id}/outcome", Need::AnyRole, Place::Later),
    sagas("POST", "/v1/transactions/{id}:resolve", OPERATE, Place::Later),
];

const fn server(method: &'static str, path: &'static str, need: Need) -> Operation {
    Operation { method, path, need, topic: Place::Nowhere, group: Place::Nowhere, saga: Place::Nowhere, waits: false }
}

const fn topics(method: &'static str, path: &'static str, need: Need, topic: Place) -> Operation {
    groups(method, path, need, topic, Place::Nowhere)
}

const fn groups(method: &'static str, path: &'static str, need: Need, topic: Place, group: Place) -> Operation {
    Operation { method, path, need, topic, group, saga: Place::Nowhere, waits: false }
}

const fn sagas(method: &'static str, path: &'static str, need: Need, saga: Place) -> Operation {
    Operation { method, path, need, topic: Place::Nowhere, group: Place::Nowhere, saga, waits: false }
}

const fn waits(operation: Operation) -> Operation {
    Operation { waits: true, ..operation }
}

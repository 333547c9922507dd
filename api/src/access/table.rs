//! The table: every operation of the interface and what it needs. The one place: the server decides by it, the tests walk it, and the table
//! of the documentation is made of it.

use super::operation::{Effect, Need, Operation, Place};
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
    server(looks("server.health"), "GET", "/healthz", Need::Nothing),
    server(looks("server.ready"), "GET", "/readyz", Need::Nothing),
    server(looks("server.openapi"), "GET", "/openapi.json", Need::Nothing),
    server(looks("server.metrics"), "GET", "/metrics", OPERATE),
    // What was done: it tells of everything, so the role must be for everything.
    waits(server(looks("audit.read"), "GET", "/v1/audit", OPERATE)),
    server(looks("key.list"), "GET", "/v1/keys", ADMIN),
    server(changes("key.create"), "POST", "/v1/keys", ADMIN),
    server(changes("key.rotate"), "POST", "/v1/keys/{key}:rotate", ADMIN),
    server(changes("key.limit"), "POST", "/v1/keys/{key}:limit", ADMIN),
    server(changes("key.revoke"), "POST", "/v1/keys/{key}:revoke", ADMIN),
    // Topics and their records.
    groups(looks("topic.list"), "GET", "/v1/topics", Need::AnyRole, Place::Seen, Place::Whichever),
    topics(changes("topic.create"), "POST", "/v1/topics", MANAGE, Place::Later),
    groups(looks("topic.describe"), "GET", "/v1/topics/{topic}", Need::AnyRole, TOPIC, Place::Whichever),
    topics(changes("topic.update"), "PATCH", "/v1/topics/{topic}", MANAGE, TOPIC),
    topics(changes("topic.delete"), "DELETE", "/v1/topics/{topic}", MANAGE, TOPIC),
    // Into `saga.replies` also `consume` for all sagas: a reply record answers whichever call it names.
    topics(data("record.produce"), "POST", "/v1/topics/{topic}/records", PRODUCE, TOPIC),
    topics(data("event.produce"), "POST", "/v1/topics/{topic}/events", PRODUCE, TOPIC),
    // Whoever may consume a topic for one group may read it by offset: it has all of its records anyway.
    waits(groups(looks("record.read"), "GET", "/v1/topics/{topic}/partitions/{partition}/records", CONSUME, TOPIC, Place::Whichever)),
    topics(looks("schedule.list"), "GET", "/v1/topics/{topic}/schedules", Need::OneOf(&[Role::Produce, Role::Operate]), TOPIC),
    topics(
        changes("schedule.cancel"),
        "DELETE",
        "/v1/topics/{topic}/schedules/{schedule}",
        Need::OneOf(&[Role::Produce, Role::Operate]),
        TOPIC,
    ),
    // Names of producers are matched as topics are: one who may produce to `orders*` may be the producer `orders-writer`.
    topics(looks("producer.list"), "GET", "/v1/producers", OPERATE, Place::Every),
    topics(changes("producer.register"), "POST", "/v1/producers", PRODUCE, Place::Later),
    topics(
        changes("producer.forget"),
        "DELETE",
        "/v1/producers/{producer}",
        Need::OneOf(&[Role::Produce, Role::Operate]),
        Place::Path("producer"),
    ),
    // Queue groups.
    groups(looks("group.list"), "GET", "/v1/topics/{topic}/groups", Need::AnyRole, TOPIC, Place::Seen),
    groups(looks("group.describe"), "GET", "/v1/topics/{topic}/groups/{group}", Need::AnyRole, TOPIC, GROUP),
    groups(changes("group.delete"), "DELETE", "/v1/topics/{topic}/groups/{group}", MANAGE, TOPIC, GROUP),
    waits(groups(may_make("group.receive"), "POST", "/v1/topics/{topic}/groups/{group}:receive", CONSUME, TOPIC, GROUP)),
    groups(data("group.ack"), "POST", "/v1/topics/{topic}/groups/{group}:ack", CONSUME, TOPIC, GROUP),
    // And `produce` for each topic of its records.
    groups(data("group.ack-with-records"), "POST", "/v1/topics/{topic}/groups/{group}:ack-with-records", CONSUME, TOPIC, GROUP),
    groups(data("group.nack"), "POST", "/v1/topics/{topic}/groups/{group}:nack", CONSUME, TOPIC, GROUP),
    groups(data("group.extend"), "POST", "/v1/topics/{topic}/groups/{group}:extend", CONSUME, TOPIC, GROUP),
    groups(data("group.terminate"), "POST", "/v1/topics/{topic}/groups/{group}:terminate", CONSUME, TOPIC, GROUP),
    groups(
        looks("dead-letter.list"),
        "GET",
        "/v1/topics/{topic}/groups/{group}/dead-letters",
        Need::OneOf(&[Role::Consume, Role::Operate]),
        TOPIC,
        GROUP,
    ),
    groups(changes("group.redrive"), "POST", "/v1/topics/{topic}/groups/{group}:redrive", OPERATE, TOPIC, GROUP),
    groups(changes("group.discard"), "POST", "/v1/topics/{topic}/groups/{group}:discard", OPERATE, TOPIC, GROUP),
    groups(changes("group.pause"), "POST", "/v1/topics/{topic}/groups/{group}:pause", OPERATE, TOPIC, GROUP),
    groups(changes("group.resume"), "POST", "/v1/topics/{topic}/groups/{group}:resume", OPERATE, TOPIC, GROUP),
    groups(changes("group.purge"), "POST", "/v1/topics/{topic}/groups/{group}:purge", OPERATE, TOPIC, GROUP),
    groups(changes("group.seek"), "POST", "/v1/topics/{topic}/groups/{group}:seek", OPERATE, TOPIC, GROUP),
    // Stream groups: the role must be for each topic that the group reads, and for each that a member asks for.
    groups(looks("stream-group.list"), "GET", "/v1/stream-groups", Need::AnyRole, Place::Seen, Place::Seen),
    groups(looks("stream-group.describe"), "GET", "/v1/stream-groups/{group}", Need::AnyRole, Place::Later, GROUP),
    groups(changes("stream-group.delete"), "DELETE", "/v1/stream-groups/{group}", MANAGE, Place::Later, GROUP),
    groups(looks("stream-group.offsets"), "GET", "/v1/stream-groups/{group}/offsets", Need::AnyRole, Place::Later, GROUP),
    groups(may_make("stream-group.heartbeat"), "POST", "/v1/stream-groups/{group}:heartbeat", CONSUME, Place::Later, GROUP),
    groups(data("stream-group.commit"), "POST", "/v1/stream-groups/{group}:commit", CONSUME, Place::Later, GROUP),
    groups(changes("stream-group.seek"), "POST", "/v1/stream-groups/{group}:seek", OPERATE, Place::Later, GROUP),
    // Saga definitions.
    sagas(looks("definition.list"), "GET", "/v1/saga-definitions", Need::AnyRole, Place::Seen),
    sagas(changes("definition.publish"), "POST", "/v1/saga-definitions", MANAGE, Place::Later),
    sagas(looks("definition.lint"), "POST", "/v1/saga-definitions:lint", Need::AnyRole, Place::Whichever),
    sagas(looks("definition.describe"), "GET", "/v1/saga-definitions/{saga}", Need::AnyRole, SAGA),
    sagas(looks("definition.activation"), "GET", "/v1/saga-definitions/{saga}/activation", Need::AnyRole, SAGA),
    sagas(changes("definition.activate"), "PUT", "/v1/saga-definitions/{saga}/activation", MANAGE, SAGA),
    sagas(looks("definition.versions"), "GET", "/v1/saga-definitions/{saga}/versions", Need::AnyRole, SAGA),
    sagas(looks("saga-retention.list"), "GET", "/v1/saga-retention", Need::OneOf(&[Role::Manage, Role::Operate]), Place::Every),
    sagas(changes("saga-retention.set-default"), "PUT", "/v1/saga-retention", MANAGE, Place::Every),
    sagas(changes("saga-retention.set"), "PUT", "/v1/saga-retention/{saga}", MANAGE, SAGA),
    sagas(changes("saga-retention.unset"), "DELETE", "/v1/saga-retention/{saga}", MANAGE, SAGA),
    // Sagas.
    sagas(looks("saga.list"), "GET", "/v1/sagas", Need::AnyRole, ASKED_SAGA),
    sagas(data("saga.start"), "POST", "/v1/sagas", PRODUCE, Place::Later),
    sagas(looks("saga.incidents"), "GET", "/v1/sagas/incidents", Need::AnyRole, ASKED_SAGA),
    waits(sagas(looks("saga.describe"), "GET", "/v1/sagas/{id}", Need::AnyRole, Place::Later)),
    sagas(looks("saga.history"), "GET", "/v1/sagas/{id}/history", Need::AnyRole, Place::Later),
    sagas(data("saga.signal"), "POST", "/v1/sagas/{id}:signal", PRODUCE, Place::Later),
    sagas(data("saga.signal-by-key"), "POST", "/v1/sagas:signal", PRODUCE, Place::Later),
    sagas(changes("saga.cancel"), "POST", "/v1/sagas/{id}:cancel", OPERATE, Place::Later),
    sagas(changes("saga.pause"), "POST", "/v1/sagas/{id}:pause", OPERATE, Place::Later),
    sagas(changes("saga.resume"), "POST", "/v1/sagas/{id}:resume", OPERATE, Place::Later),
    sagas(changes("saga.terminate"), "POST", "/v1/sagas/{id}:terminate", OPERATE, Place::Later),
    sagas(changes("saga.retry"), "POST", "/v1/sagas/{id}:retry", OPERATE, Place::Later),
    sagas(changes("saga.skip"), "POST", "/v1/sagas/{id}:skip", OPERATE, Place::Later),
    sagas(changes("saga.resolve"), "POST", "/v1/sagas/{id}:resolve", OPERATE, Place::Later),
    sagas(changes("saga.edit-input"), "POST", "/v1/sagas/{id}:edit-input", OPERATE, Place::Later),
    sagas(changes("saga.rerun"), "POST", "/v1/sagas/{id}:rerun", OPERATE, Place::Later),
    sagas(looks("saga.preview"), "POST", "/v1/sagas/{id}:preview", OPERATE, Place::Later),
    sagas(changes("saga.release"), "POST", "/v1/sagas:release", OPERATE, Place::Every),
    // And `consume` for the group `workers` of each topic that it asks for calls of, and of the topic that a call it replies to was sent to; a call that
    // no worker does takes `operate` for the saga.
    sagas(data("saga.complete-call"), "POST", "/v1/saga-calls:complete", CONSUME, Place::Later),
    // Where services are: what the server calls.
    sagas(looks("service.list"), "GET", "/v1/services", Need::OneOf(&[Role::Manage, Role::Operate]), Place::Every),
    sagas(looks("service.describe"), "GET", "/v1/services/{service}", Need::OneOf(&[Role::Manage, Role::Operate]), Place::Every),
    sagas(changes("service.set"), "PUT", "/v1/services/{service}", MANAGE, Place::Every),
    sagas(changes("service.remove"), "DELETE", "/v1/services/{service}", MANAGE, Place::Every),
    // Repairs of many sagas.
    sagas(looks("repair.list"), "GET", "/v1/saga-repairs", OPERATE, Place::Every),
    sagas(changes("repair.start"), "POST", "/v1/saga-repairs", OPERATE, Place::Every),
    sagas(looks("repair.preview"), "POST", "/v1/saga-repairs:preview", OPERATE, Place::Every),
    sagas(looks("repair.describe"), "GET", "/v1/saga-repairs/{id}", OPERATE, Place::Every),
    sagas(looks("repair.results"), "GET", "/v1/saga-repairs/{id}/results", OPERATE, Place::Every),
    sagas(changes("repair.pause"), "POST", "/v1/saga-repairs/{id}:pause", OPERATE, Place::Every),
    sagas(changes("repair.resume"), "POST", "/v1/saga-repairs/{id}:resume", OPERATE, Place::Every),
    sagas(changes("repair.cancel"), "POST", "/v1/saga-repairs/{id}:cancel", OPERATE, Place::Every),
    // Semantic locks: their keys are those of all definitions.
    sagas(looks("lock.list"), "GET", "/v1/saga-locks", OPERATE, Place::Every),
    sagas(changes("lock.break"), "POST", "/v1/saga-locks:break", OPERATE, Place::Every),
    // Transactions.
    sagas(looks("transaction.list"), "GET", "/v1/transactions", Need::AnyRole, ASKED_SAGA),
    sagas(looks("transaction.describe"), "GET", "/v1/transactions/{id}", Need::AnyRole, Place::Later),
    sagas(looks("transaction.history"), "GET", "/v1/transactions/{id}/history", Need::AnyRole, Place::Later),
    sagas(looks("transaction.outcome"), "GET", "/v1/transactions/{id}/outcome", Need::AnyRole, Place::Later),
    sagas(changes("transaction.resolve"), "POST", "/v1/transactions/{id}:resolve", OPERATE, Place::Later),
];

/// What an operation does, by its name.
type Named = (&'static str, Effect);

const fn looks(name: &'static str) -> Named {
    (name, Effect::Nothing)
}

const fn data(name: &'static str) -> Named {
    (name, Effect::Data)
}

const fn may_make(name: &'static str) -> Named {
    (name, Effect::MayMake)
}

const fn changes(name: &'static str) -> Named {
    (name, Effect::Change)
}

const fn server((name, effect): Named, method: &'static str, path: &'static str, need: Need) -> Operation {
    Operation { name, effect, method, path, need, topic: Place::Nowhere, group: Place::Nowhere, saga: Place::Nowhere, waits: false }
}

const fn topics(named: Named, method: &'static str, path: &'static str, need: Need, topic: Place) -> Operation {
    groups(named, method, path, need, topic, Place::Nowhere)
}

const fn groups(named: Named, method: &'static str, path: &'static str, need: Need, topic: Place, group: Place) -> Operation {
    Operation { topic, group, ..server(named, method, path, need) }
}

const fn sagas(named: Named, method: &'static str, path: &'static str, need: Need, saga: Place) -> Operation {
    Operation { saga, ..server(named, method, path, need) }
}

const fn waits(operation: Operation) -> Operation {
    Operation { waits: true, ..operation }
}

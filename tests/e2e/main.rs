//! End to end: real processes, real HTTP, real disks.

mod bad_input;
mod bench;
mod clients;
mod conformance;
mod dead_letters;
mod description;
mod disk;
mod durability;
mod edges;
mod fate;
mod floors;
mod inbox_outbox;
mod ordering;
mod queue_groups;
mod repairs;
mod retention;
mod sagas;
mod schedules;
mod stream_churn;
mod streams;
mod tidy;
mod tls;
mod tour;
mod transactions;
mod two_phase;
mod worker;

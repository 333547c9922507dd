//! The orchestrator through its door, on storage in memory and on the crash double; the language by its files; `verify` by definitions that are right and
//! wrong.

mod asleep;
mod audit_crash;
#[path = "../dsl/catalogue.rs"]
mod catalogue;
#[path = "../common/mod.rs"]
mod common;
mod crash;
mod deaths;
mod definitions;
mod dsl;
mod gate;
mod keys;
mod lifecycle;
mod lint_page;
mod listing;
mod locks_crash;
mod locks_lost;
mod next;
mod orchestrator;
mod payloads;
mod removal;
mod retention;
mod seeing;
mod sub_sagas_lost;
mod sweeps;
mod topics;
mod tracing;
mod verify;

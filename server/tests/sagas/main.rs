//! The orchestrator as clients and participants meet it: over its routes, and over the calls that it makes.

mod answers;
mod api;
mod audit;
mod branches;
#[path = "../../../saga/tests/common/mod.rs"]
mod common;
mod conditions;
mod each;
mod hold;
mod http;
mod inputs;
mod locks;
mod operate;
mod outage;
mod repair;
mod rerun;
mod service;
mod services;
mod shop;
mod shown;
mod signals;
mod sub_sagas;
mod transactions;
mod turns;
mod twopc;
mod verbs;

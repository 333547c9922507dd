//! `sagamq saga`.

mod files;
mod seeing;
mod verbs;

use crate::support::{Scripted, json, run};
use axum::response::IntoResponse as _;
use sagamq_api::{ErrorCode, Problem};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

pub(crate) const ID: &str = "00000000-0000-0000-0000-000000000001";

const GOOD: &str = "\
saga: checkout
version: 1
key: ${ input.order_id }
services:
  orders: { topic: orders.commands }
steps:
  - id: create
    call: orders.create
    with: { order_id: \"${ input.order_id }\" }
    compensate: orders.reject
";

const BAD: &str = "\
saga: checkout
version: 1
key: ${ input.order_id }
services:
  orders: { topic: orders.commands }
steps:
  - id: create
    call: payments.create
    compensate: orders.reject
  - id: create
    call: orders.finish
    colour: red
    compensate: none
";

fn file(text: &str) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("checkout.yaml");
    std::fs::write(&path, text).expect("a file");
    (directory, path)
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of text")
}

fn summary(state: &str) -> Value {
    json!({ "id": ID, "saga": "checkout", "version": 1, "key": "o-1", "state": state, "started_at_ms": 0, "updated_at_ms": 0, "events": 3 })
}

pub(crate) fn description(state: &str) -> Value {
    let mut description = summary(state);
    description["input"] = json!({ "order_id": "o-1" });
    description["steps"] =
        json!([{ "id": "create", "state": "SUCCEEDED", "attempts": 2, "compensation_attempts": 0, "output": { "n": 1 } }]);
    description["failures"] = json!([{
        "step": "create", "operation": "action", "epoch": 1, "at_ms": 0, "failure": { "code": "TIMED_OUT", "message": "no answer" }
    }]);
    description
}

/// A saga that is started by another one, and that other one.
const CHILD: &str = "saga: child\nversion: 1\ninput: { schema: { required: [order], properties: { order: { type: string } } } }\nkey: ${ input.order }\n\
    services: { a: { topic: t } }\nsteps:\n  - { id: one, call: a.do, compensate: a.undo }\n";
const PARENT: &str =
    "saga: parent\nversion: 1\nkey: ${ input.order }\nservices: {}\nsteps:\n  - id: start\n    saga: child\n    with: { ordre: x }\n";

//! A participant over HTTP for the conformance suite: a payment provider behind it that does as it is told once a key, its routes, its profile.

use axum::Router;
use axum::routing::get;
use sagamq_sdk::Call;
use sagamq_sdk::conformance::{CheckReport, Profile, Report, Verdict, run};
use sagamq_sdk::participant::ParticipantRouter;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

/// More than anybody has.
pub(crate) const TOO_MUCH: i64 = 1_000_000;

/// Another system: it remembers keys, and closes them.
#[derive(Debug, Default)]
pub(crate) struct Provider {
    charges: Mutex<(BTreeMap<String, i64>, BTreeSet<String>)>,
}

impl Provider {
    /// Takes money once a key. `false`: the key is closed.
    pub(crate) fn charge(&self, key: &str, amount: i64) -> bool {
        let mut charges = self.charges.lock().expect("no panic");
        if charges.1.contains(key) {
            return false;
        }
        charges.0.insert(key.to_owned(), amount);
        true
    }

    /// Gives back what was taken under the key, under which nothing is taken any more.
    pub(crate) fn undo(&self, key: &str) {
        let mut charges = self.charges.lock().expect("no panic");
        charges.0.remove(key);
        charges.1.insert(key.to_owned());
    }

    /// What is taken.
    pub(crate) fn taken(&self) -> i64 {
        self.charges.lock().expect("no panic").0.values().sum()
    }
}

pub(crate) fn amount(call: &Call) -> i64 {
    call.arguments.to_value()["amount"].as_i64().expect("a number")
}

pub(crate) fn asks_for(call: &Call, what: &str) -> bool {
    call.arguments.to_value()[what] == true
}

/// Serves a participant until the test ends; its base URL. `count` tells what is in force.
pub(crate) async fn serve<F: Future<Output = i64> + Send>(
    participant: ParticipantRouter,
    count: impl Fn() -> F + Clone + Send + Sync + 'static,
) -> String {
    let probe = get(move || async move { count().await.to_string() });
    let routes = Router::new().nest("/saga", participant.build()).route("/count", probe);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move { axum::serve(listener, routes).await.expect("it serves") });
    url
}

/// Judges the action and its compensation with these arguments besides the usual ones. Every check runs and passes, but these.
pub(crate) async fn conforms(url: &str, action: &str, compensation: &str, more: &Value, not_run: &[&str]) {
    let mut profile = json!({
        "operation": action, "compensation": compensation, "arguments": { "amount": 3 }, "refused": { "amount": TOO_MUCH },
        "probe": { "url": format!("{url}/count") },
    });
    let fields = profile.as_object_mut().expect("an object");
    fields.extend(more.as_object().expect("an object").clone());
    let profile: Profile = serde_json::from_value(profile).expect("a profile");
    let report: Report = run(&format!("{url}/saga"), &profile).await.expect("it is there");
    let with = |verdict: Verdict| {
        let checks = report.checks.iter().filter(|check| check.verdict == verdict);
        checks.map(|check: &CheckReport| check.check.as_str()).collect::<Vec<_>>()
    };
    assert_eq!((with(Verdict::Fail), with(Verdict::NotRun)), (vec![], not_run.to_vec()), "{action}: {report:#?}");
}

/// A provider that is shared.
pub(crate) fn provider() -> Arc<Provider> {
    Arc::default()
}

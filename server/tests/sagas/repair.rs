//! Repairs over real HTTP: many sagas are told a verb as a job, over kills and power cuts; each has a truthful result, and none is told twice.

use crate::common::LIMIT;
use crate::verbs::World;
use core::time::Duration;
use sagamq_api::saga::{HistoryQuery, SagaState};
use sagamq_broker::env::{Clock, ManualClock, SystemClock};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use uuid::Uuid;

const TRIP: &str = r#"
saga: trip
version: 1
key: ${ input.trip }
services: { agency: { http: "AGENCY" } }
defaults:
  retry: { initial: 1h, max: 1h, attempts: 5 }
  compensate_retry: { initial: 1ms, max: 2ms, attempts: 2 }
steps:
  - id: flight
    call: agency.fly
    with: { trip: "${ input.trip }" }
    compensate: { call: agency.unfly, with: { trip: "${ input.trip }" } }
  - id: pay
    call: agency.pay
    with: { trip: "${ input.trip }" }
    compensate: none
"#;

impl World {
    /// Trips whose payment was refused, and whose flight cannot be undone.
    async fn blocked_trips(&self, count: usize) -> Vec<Uuid> {
        self.service.refuse(&["pay", "unfly"]);
        let mut ids = Vec::new();
        for trip in 0..count {
            ids.push(self.node.start("trip", json!({"trip": trip.to_string()})).await.expect("started").id);
        }
        for id in &ids {
            assert_eq!(self.node.at_rest(*id).await.summary.state.to_string(), "BLOCKED");
        }
        self.service.refuse(&[]);
        ids
    }

    async fn start_repair(&self, request: Value) -> Value {
        let (status, answer) = self.api.post("/v1/saga-repairs", request.to_string()).await;
        assert_eq!(status, 201, "{answer}");
        answer["repair"].clone()
    }

    async fn repair(&self, id: &Value) -> Value {
        let (status, repair) = self.api.get(&format!("/v1/saga-repairs/{}", id.as_str().expect("an id"))).await;
        assert_eq!(status, 200, "{repair}");
        repair
    }

    async fn repair_until(&self, id: &Value, wanted: impl Fn(&Value) -> bool) -> Value {
        let waited = tokio::time::timeout(LIMIT, async {
            loop {
                let repair = self.repair(id).await;
                if wanted(&repair) {
                    return repair;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        match waited.await {
            Ok(repair) => repair,
            Err(_) => panic!("the repair does not get there: {}", self.repair(id).await),
        }
    }

    async fn ended(&self, id: &Value) -> Value {
        self.repair_until(id, |repair| repair["state"] == "DONE" || repair["state"] == "CANCELLED").await
    }

    /// Every result, by saga; none has two.
    async fn results(&self, id: &Value) -> BTreeMap<String, Value> {
        let (mut all, mut after) = (BTreeMap::new(), 0);
        loop {
            let path = format!("/v1/saga-repairs/{}/results?limit=7&after={after}", id.as_str().expect("an id"));
            let (status, page) = self.api.get(&path).await;
            assert_eq!(status, 200, "{page}");
            for result in page["results"].as_array().expect("a list") {
                let saga = result["saga"].as_str().expect("an id").to_owned();
                assert!(all.insert(saga, result.clone()).is_none(), "a saga has one result: {result}");
            }
            match page["next"].as_u64() {
                Some(next) if next > after => after = next,
                _ => return all,
            }
        }
    }

    async fn repair_verb(&self, id: &Value, verb: &str) -> (u16, Value) {
        self.api.post(&format!("/v1/saga-repairs/{}:{verb}", id.as_str().expect("an id")), json!({"actor": "ann"}).to_string()).await
    }
}

fn retry_blocked() -> Value {
    json!({"filter": {"saga": "trip", "state": "BLOCKED"}, "operate": {"verb": "retry", "reason": "the agency is back", "actor": "ann"}})
}

#[tokio::test]
async fn blocked_sagas_are_repaired_and_each_has_a_truthful_result() {
    let world = World::open(TRIP).await;
    let ids = world.blocked_trips(30).await;
    world.service.is_stubborn("unfly", "3");
    world.service.is_stubborn("unfly", "17");
    let (status, preview) = world.api.post("/v1/saga-repairs:preview?limit=4", retry_blocked().to_string()).await;
    assert_eq!((status, preview["sagas"].as_array().map(Vec::len), &preview["has_more"]), (200, Some(4), &json!(true)), "{preview}");
    let first = &preview["sagas"][0];
    assert_eq!((&first["saga"]["state"], &first["preview"]["end"]), (&json!("BLOCKED"), &json!("COMPENSATED")), "{preview}");
    assert_eq!(first["preview"]["calls"][0]["call"], "unfly", "{preview}");
    assert_eq!(world.service.attempts("unfly", "0"), 2, "a preview calls nobody");

    let mut request = retry_blocked();
    request["key"] = json!("agency outage");
    let repair = world.start_repair(request.clone()).await;
    let id = &repair["id"];
    let ended = world.ended(id).await;
    assert_eq!(
        (&ended["state"], &ended["found"], &ended["results"]["done"], &ended["results"]["blocked"]),
        (&json!("DONE"), &json!(30), &json!(28), &json!(2)),
        "{ended}"
    );
    let results = world.results(id).await;
    assert_eq!(results.keys().cloned().collect::<BTreeSet<_>>(), ids.iter().map(Uuid::to_string).collect());
    for (trip, saga) in ids.iter().enumerate() {
        let (result, is_stubborn) = (&results[&saga.to_string()], [3, 17].contains(&trip));
        let expected = if is_stubborn { ("blocked", "BLOCKED", json!("NOT_TODAY")) } else { ("done", "COMPENSATED", Value::Null) };
        assert_eq!(
            (&result["outcome"], &result["state"], &result["code"]),
            (&json!(expected.0), &json!(expected.1), &expected.2),
            "{result}"
        );
        let now = world.node.sagas.get(*saga).await.expect("it is there").summary.state.to_string();
        assert_eq!(now, expected.1);
        assert_eq!(world.service.attempts("unfly", &trip.to_string()), if is_stubborn { 4 } else { 3 });
    }
    let (_, blocked) = world.api.get(&format!("/v1/saga-repairs/{}/results?outcome=blocked", id.as_str().expect("an id"))).await;
    assert_eq!((blocked["results"].as_array().map(Vec::len), blocked.get("next")), (Some(2), None));
    // The key stands for this repair, also at its end.
    let (status, again) = world.api.post("/v1/saga-repairs", request.to_string()).await;
    assert_eq!((status, &again["duplicate"], &again["repair"]["id"]), (200, &json!(true), id), "{again}");
    request["rate"] = json!(7);
    let (status, conflict) = world.api.post("/v1/saga-repairs", request.to_string()).await;
    assert_eq!((status, &conflict["code"]), (409, &json!("REPAIR_KEY_CONFLICT")), "{conflict}");
    let (_, list) = world.api.get("/v1/saga-repairs?state=DONE").await;
    assert_eq!((list["repairs"].as_array().map(Vec::len), &list["repairs"][0]["id"]), (Some(1), id), "{list}");
    let history = world.node.sagas.history(ids[0], HistoryQuery::default()).await.expect("it is there");
    assert!(serde_json::to_string(&history).expect("JSON").contains("the agency is back"), "who and why are in the history of each");
    world.node.close().await;
}

#[tokio::test]
async fn a_repair_goes_on_over_kills_and_power_cuts_and_tells_no_saga_twice() {
    let mut world = World::open(TRIP).await;
    let ids = world.blocked_trips(60).await;
    let mut request = retry_blocked();
    request["rate"] = json!(60);
    let repair = world.start_repair(request).await;
    let id = &repair["id"];
    let answered = |repair: &Value| {
        ["done", "blocked", "refused", "not_moved", "gone", "no_match"]
            .map(|name| repair["results"][name].as_u64().expect("a number"))
            .iter()
            .sum::<u64>()
    };
    for (crash, least) in [6, 15, 24, 33, 42].into_iter().enumerate() {
        world.repair_until(id, |repair| answered(repair) >= least).await;
        let left = if crash % 2 == 0 { world.storage.after_kill() } else { world.storage.after_power_cut() };
        world = world.after(left).await;
    }
    let ended = world.ended(id).await;
    assert_eq!((&ended["found"], &ended["results"]["done"]), (&json!(60), &json!(60)), "{ended}");
    assert_eq!(world.results(id).await.len(), 60);
    for trip in 0..ids.len() {
        // Another retry would have been refused, or made an attempt more: the verb was applied once.
        assert_eq!(world.service.attempts("unfly", &trip.to_string()), 3, "trip {trip}");
    }
    world.node.close().await;
}

#[tokio::test]
async fn a_repair_is_paused_resumed_and_cancelled_and_what_is_in_progress_goes_on() {
    let mut world = World::open(TRIP).await;
    world.blocked_trips(40).await;
    // Time goes on only while the repair is looked at, and between two looks one saga begins at most.
    let clock = ManualClock::at(SystemClock.now_ms());
    world.clock = Arc::new(clock.clone());
    let same = world.storage.clone();
    let world = world.after(same).await;
    let looks = |is_there: bool| {
        clock.advance(Duration::from_millis(5));
        is_there
    };
    let mut request = retry_blocked();
    request["rate"] = json!(20);
    let repair = world.start_repair(request).await;
    let id = &repair["id"];
    world.repair_until(id, |repair| looks(repair["results"]["done"].as_u64() >= Some(3))).await;
    let (status, paused) = world.repair_verb(id, "pause").await;
    assert_eq!((status, &paused["state"]), (200, &json!("PAUSED")));
    let still = world.repair_until(id, |repair| looks(repair["in_progress"] == 0)).await;
    for _ in 0..60 {
        looks(true);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let later = world.repair(id).await;
    assert_eq!((&later["results"], &later["waiting"]), (&still["results"], &still["waiting"]), "nothing begins while it is paused");
    let world = {
        let left = world.storage.after_kill();
        world.after(left).await
    };
    assert_eq!(world.repair(id).await["state"], "PAUSED", "also after a kill");
    let (status, resumed) = world.repair_verb(id, "resume").await;
    assert_eq!((status, &resumed["state"]), (200, &json!("RUNNING")));
    let before = still["results"]["done"].as_u64();
    world.repair_until(id, |repair| looks(repair["results"]["done"].as_u64() > before)).await;
    let (status, cancelled) = world.repair_verb(id, "cancel").await;
    assert_eq!(status, 200, "{cancelled}");
    let ended = world.repair_until(id, |repair| looks(repair["state"] == "CANCELLED")).await;
    let done = ended["results"]["done"].as_u64().expect("a number");
    assert!(done < 40, "{ended}");
    let (_, left) = world.api.get("/v1/sagas?state=BLOCKED").await;
    assert_eq!(left["sagas"].as_array().map(Vec::len), Some(40 - usize::try_from(done).expect("small")), "the others are as they were");
    assert_eq!(world.repair_verb(id, "resume").await.1["code"], "REPAIR_STATE_CONFLICT");
    assert_eq!(world.repair_verb(&json!(Uuid::nil()), "pause").await.1["code"], "REPAIR_NOT_FOUND");
    world.node.close().await;
}

#[tokio::test]
async fn what_is_not_done_says_why() {
    let world = World::open(TRIP).await;
    let ids = world.blocked_trips(2).await;
    world.service.refuse(&[]);
    // At its end, not there, and one that waits for an hour and is to be skipped where it does not stand.
    let finished = world.node.start("trip", json!({"trip": "fine"})).await.expect("started").id;
    world.node.at_rest(finished).await;
    let gone = {
        let mut bytes = *finished.as_bytes();
        bytes[15] ^= 1;
        Uuid::from_bytes(bytes)
    };
    let request = json!({"ids": [ids[0], finished, gone], "operate": {"verb": "retry"}});
    let repair = world.start_repair(request).await;
    let ended = world.ended(&repair["id"]).await;
    assert_eq!(
        (&ended["results"]["done"], &ended["results"]["refused"], &ended["results"]["gone"]),
        (&json!(1), &json!(1), &json!(1)),
        "{ended}"
    );
    let results = world.results(&repair["id"]).await;
    assert_eq!(results[&finished.to_string()]["code"], "SAGA_STATE_CONFLICT");
    assert_eq!(results[&gone.to_string()]["outcome"], "gone");
    // A filter by the failure of the step that a saga stands at.
    let by = |filter: Value| json!({"filter": filter, "operate": {"verb": "terminate"}});
    for nobody in [
        json!({"failure": "OTHER"}),
        json!({"step": "pay"}),
        json!({"saga": "trip", "version": 2}),
        json!({"state": "BLOCKED", "unchanged_for_ms": 3_600_000}),
    ] {
        let repair = world.start_repair(by(nobody)).await;
        assert_eq!(world.ended(&repair["id"]).await["found"], 0);
    }
    let repair = world.start_repair(by(json!({"failure": "NOT_TODAY", "step": "flight"}))).await;
    let ended = world.ended(&repair["id"]).await;
    assert_eq!((&ended["found"], &ended["results"]["done"]), (&json!(1), &json!(1)), "{ended}");
    assert_eq!(world.node.sagas.get(ids[1]).await.expect("it is there").summary.state.to_string(), "TERMINATED");
    for (request, code) in [
        (json!({"operate": {"verb": "retry"}}), "INVALID_REQUEST"),
        (json!({"filter": {}, "operate": {"verb": "retry"}}), "INVALID_REQUEST"),
        (json!({"filter": {"state": "BLOCKED"}, "operate": {"verb": "skip"}}), "INVALID_REQUEST"),
        (json!({"ids": [Uuid::max()], "operate": {"verb": "retry"}}), "SAGA_NOT_FOUND"),
    ] {
        let (_, refused) = world.api.post("/v1/saga-repairs", request.to_string()).await;
        assert_eq!(refused["code"], code, "{request}: {refused}");
    }
    world.node.close().await;
}

#[tokio::test]
async fn a_saga_that_does_not_move_on_in_time_is_not_called_done() {
    let world = World::open(TRIP).await;
    // Nobody listens there, so what is retried waits on.
    let text = "
saga: far
version: 1
key: ${ input.trip }
services: { nobody: { topic: nobody.commands } }
steps:
  - { id: go, call: nobody.go, compensate: none }
";
    assert_eq!(world.api.post("/v1/saga-definitions", text.to_owned()).await.0, 201);
    let id = world.node.start("far", json!({"trip": "1"})).await.expect("started").id;
    let request = json!({"ids": [id], "operate": {"verb": "cancel", "reason": "too far"}});
    let repair = world.start_repair(request).await;
    let ended = world.ended(&repair["id"]).await;
    assert_eq!(ended["results"]["done"], 1, "a call that nobody has is withdrawn at once: {ended}");
    let id = world.node.start("far", json!({"trip": "2"})).await.expect("started").id;
    let (call, _) = world.node.next_command("nobody.commands").await;
    assert_eq!(call.attempt.instance, id);
    let request = json!({"ids": [id], "operate": {"verb": "cancel", "reason": "too far"}, "patience_ms": 200});
    let repair = world.start_repair(request).await;
    let ended = world.ended(&repair["id"]).await;
    assert_eq!(ended["results"]["not_moved"], 1, "somebody has the call: {ended}");
    let results = world.results(&repair["id"]).await;
    let message = results[&id.to_string()]["message"].as_str().expect("why").to_owned();
    assert!(message.contains("when its time was over"), "{message}");
    world.node.close().await;
}

/// Trips that ended without their payment, which certainly did not happen.
async fn unpaid(world: &World, trips: core::ops::Range<usize>) -> Vec<Uuid> {
    world.service.answers("pay", 503);
    let mut ids = Vec::new();
    for trip in trips {
        let id = world.node.start("trip", json!({"trip": trip.to_string()})).await.expect("started").id;
        world.until(id, SagaState::Waiting).await;
        world.done(id, "terminate", json!({})).await;
        world.done(id, "resolve", json!({"step": "pay", "outcome": "failed"})).await;
        ids.push(id);
    }
    ids
}

#[tokio::test]
async fn a_rerun_is_done_when_it_has_done_its_step_and_else_the_result_says_why() {
    let mut world = World::open(TRIP).await;
    let ids = unpaid(&world, 0..4).await;
    world.service.refuse(&[]);
    world.service.is_stubborn("pay", "1");
    for operation in ["pay", "unfly"] {
        world.service.is_stubborn(operation, "2");
    }
    // Somebody was faster with this one.
    world.done(ids[3], "rerun", json!({"from": "pay"})).await;
    let request = json!({"filter": {"saga": "trip", "state": "TERMINATED"}, "operate": {"verb": "rerun", "from": "pay"}});
    let repair = world.start_repair(request).await;
    let ended = world.ended(&repair["id"]).await;
    let counts = &ended["results"];
    assert_eq!((&counts["done"], &counts["not_moved"], &counts["blocked"]), (&json!(2), &json!(1), &json!(1)), "{ended}");
    let results = world.results(&repair["id"]).await;
    for (trip, outcome, state, code) in [
        (0, "done", "COMPLETED", Value::Null),
        (1, "not_moved", "COMPENSATED", json!("NOT_TODAY")),
        (2, "blocked", "BLOCKED", json!("NOT_TODAY")),
        (3, "done", "COMPLETED", Value::Null),
    ] {
        let (result, origin) = (&results[&ids[trip].to_string()], world.node.sagas.get(ids[trip]).await.expect("it is there"));
        let rerun = origin.summary.rerun_as.expect("it was rerun");
        assert_eq!((&result["outcome"], &result["state"], &result["code"]), (&json!(outcome), &json!(state), &code), "{result}");
        assert_eq!(result["rerun_as"], json!(rerun), "{result}");
        assert_eq!(world.node.sagas.get(rerun).await.expect("it is there").summary.state.to_string(), state, "as it is");
    }
    let message = results[&ids[1].to_string()]["message"].as_str().expect("why").to_owned();
    assert!(message.contains("the rerun is COMPENSATED") && message.contains("NOT_TODAY"), "{message}");

    // One that waits when its time is over; and one whose result comes after a power cut.
    for (patience_ms, cut) in [(200, false), (60_000, true)] {
        let id = unpaid(&world, if cut { 11..12 } else { 10..11 }).await[0];
        let operate = json!({"verb": "rerun", "from": "pay"});
        let repair = world.start_repair(json!({"ids": [id], "operate": operate, "patience_ms": patience_ms})).await;
        if cut {
            world.node.until(id, |saga| saga.summary.rerun_as.is_some()).await;
            let rerun = world.node.sagas.get(id).await.expect("it is there").summary.rerun_as.expect("looked at");
            world.until(rerun, SagaState::Waiting).await;
            assert_eq!(world.repair(&repair["id"]).await["state"], "RUNNING", "nothing is known yet");
            let left = world.storage.after_power_cut();
            world = world.after(left).await;
            world.service.refuse(&[]);
            world.done(rerun, "retry", json!({})).await;
        }
        let ended = world.ended(&repair["id"]).await;
        let expected = if cut { "done" } else { "not_moved" };
        assert_eq!(ended["results"][expected], 1, "{ended}");
    }
    world.node.close().await;
}

#[tokio::test]
async fn the_same_repair_in_other_words_is_the_same_and_so_is_a_rerun() {
    let world = World::open(TRIP).await;
    let ids = unpaid(&world, 0..2).await;
    world.service.refuse(&[]);
    let body =
        |input: &str| format!(r#"{{"key": "k", "ids": ["{}"], "operate": {{"verb": "rerun", "from": "pay", "input": {input}}}}}"#, ids[0]);
    let (status, first) = world.api.post("/v1/saga-repairs", body(r#"{"trip": "0", "n": 1}"#)).await;
    assert_eq!(status, 201, "{first}");
    world.ended(&first["repair"]["id"]).await;
    let (status, again) = world.api.post("/v1/saga-repairs", body(r#"{ "n":1,"trip":"0" }"#)).await;
    assert_eq!((status, &again["duplicate"]), (200, &json!(true)), "{again}");
    let (status, other) = world.api.post("/v1/saga-repairs", body(r#"{"trip": "0", "n": 2}"#)).await;
    assert_eq!((status, &other["code"]), (409, &json!("REPAIR_KEY_CONFLICT")), "{other}");
    let rerun = |input: &str| format!(r#"{{"from": "pay", "input": {input}}}"#);
    let path = format!("/v1/sagas/{}:rerun", ids[1]);
    let (status, first) = world.api.post(&path, rerun(r#"{"trip": "1", "n": 1}"#)).await;
    assert_eq!((status, &first["duplicate"]), (200, &json!(false)), "{first}");
    let (status, again) = world.api.post(&path, rerun(r#"{ "n":1, "trip":"1" }"#)).await;
    assert_eq!((status, &again["duplicate"]), (200, &json!(true)), "{again}");
    let (status, other) = world.api.post(&path, rerun(r#"{"trip": "1", "n": 2}"#)).await;
    assert_eq!((status, &other["code"]), (409, &json!("SAGA_HANDED_OVER")), "{other}");
    world.node.close().await;
}

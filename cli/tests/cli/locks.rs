//! `sagamq saga locks` and `sagamq saga lock`.

use crate::serve::Process;
use crate::support::{LIMIT, Scripted, json, problem, run};
use rustix::process::Signal;
use sagamq_api::ErrorCode;
use sagamq_api::saga::StartSaga;
use sagamq_sdk::Client;
use serde_json::{Value, json};

const HOLDER: &str = "00000000-0000-0000-0000-000000000001";
const NEXT: &str = "00000000-0000-0000-0000-000000000002";

fn locks() -> Value {
    let waiters = json!([{ "saga_id": NEXT, "since_ms": 2_000 }]);
    json!({ "locks": [{ "key": "sku/1 a", "held_by": HOLDER, "token": 17, "since_ms": 1_000, "waiting": 3, "waiters": waiters }] })
}

#[test]
fn locks_are_listed_with_who_holds_them_and_who_is_next() {
    let server = Scripted::answering(&locks());
    let shown =
        server.run(&["saga", "locks", "--key", "sku/1 a", "--of", HOLDER, "--contended", "--limit", "5", "--after", "b"]).expect(0).stdout;
    for part in ["sku/1 a", HOLDER, "17", "3", NEXT] {
        assert!(shown.contains(part), "{part} is missing in\n{shown}");
    }
    let asked = server.asked();
    assert_eq!(asked[0].line, format!("GET /v1/saga-locks?key=sku%2F1+a&saga_id={HOLDER}&contended=true&after=b&limit=5"));
    let mut page = locks();
    page["next"] = json!("sku/1 a");
    let more = Scripted::answering(&page).run(&["saga", "locks"]).expect(0);
    assert!(more.stderr.contains("--after 'sku/1 a'"), "{more:?}");
    assert_eq!(Scripted::answering(&locks()).run(&["saga", "locks", "--output", "json"]).expect(0).json()["locks"][0]["token"], 17);
}

/// Tells who holds the lock, and that it was taken away.
fn breaking() -> Scripted {
    Scripted::new(|asked| {
        let broken = json!({ "key": "sku/1", "taken_from": HOLDER, "token": 17, "held_by": NEXT });
        json(&if asked.line.starts_with("GET") { locks() } else { broken })
    })
}

#[test]
fn a_lock_is_taken_from_who_holds_it_when_the_command_is_given_and_from_nobody_else() {
    let server = breaking();
    let said = server.run(&["saga", "lock", "break", "sku/1", "--reason", "counted", "--actor", "ann"]).expect(0).stdout;
    assert!(said.contains(HOLDER) && said.contains(NEXT), "{said}");
    let asked = server.asked();
    let lines: Vec<&str> = asked.iter().map(|asked| asked.line.as_str()).collect();
    assert_eq!(lines, ["GET /v1/saga-locks?key=sku%2F1", "POST /v1/saga-locks:break"]);
    // However often it is sent, the next one who has it keeps it.
    assert_eq!(asked[1].json(), json!({ "key": "sku/1", "token": 17, "actor": "ann", "reason": "counted" }));
    let named = breaking();
    named.run(&["saga", "lock", "break", "sku/1", "--lock-token", "9", "--reason", "counted"]).expect(0);
    let asked = named.asked();
    assert_eq!((asked.len(), &asked[0].json()["token"]), (1, &json!(9)));
    let nobody =
        Scripted::new(|asked| if asked.line.starts_with("GET") { json(&json!({ "locks": [] })) } else { problem(ErrorCode::LockNotHeld) });
    assert!(nobody.run(&["saga", "lock", "break", "sku/1", "--reason", "counted"]).expect(4).stderr.contains("LOCK_NOT_HELD"));
    run(&["saga", "lock", "break", "sku/1"]).expect(2);
}

const LOCKED: &str = "saga: locked\nversion: 1\nkey: ${ input.n }\nservices:\n  shop: { topic: shop.commands }\nsteps:\n  - id: sell\n    call: shop.sell\n    \
                      timeout: 1h\n    compensate: none\n    lock: \"sku/${ input.n }\"\n";

#[tokio::test(flavor = "multi_thread")]
async fn the_log_says_who_took_a_lock_away_also_where_nobody_is_asked() {
    let directory = tempfile::tempdir().expect("a directory");
    let server = Process::start(directory.path());
    let sagas = Client::new(&server.url).expect("an address").sagas();
    sagas.publish(LOCKED).await.expect("legal");
    for (n, actor) in [(1, None), (2, Some("ann"))] {
        let request =
            StartSaga { saga: "locked".parse().expect("a name"), version: None, mode: None, input: serde_json::json!({ "n": n }).into() };
        sagas.start(&request).await.expect("started");
        let key = format!("sku/{n}");
        let held = tokio::time::timeout(LIMIT, async {
            loop {
                let listed = server.run(&["saga", "locks", "--key", &key, "--output", "json"]).expect(0).json();
                if let Some(token) = listed["locks"][0]["token"].as_u64() {
                    return token.to_string();
                }
            }
        });
        let token = held.await.expect("it is held");
        let said = ["saga", "lock", "break", &key, "--lock-token", &token, "--reason", "counted by hand"];
        let by = actor.map(|actor| ["--actor", actor]);
        server.run(&[&said[..], by.as_ref().map_or(&[], |by| &by[..])].concat()).expect(0);
    }
    server.signal(Signal::TERM);
    let (_, log) = server.ended();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("a lock is taken away")).collect();
    assert_eq!(lines.len(), 2, "{log}");
    let actors: Vec<Value> =
        lines.iter().map(|line| serde_json::from_str::<Value>(line).expect("the log is JSON here")["actor"].clone()).collect();
    assert_eq!(actors, ["anonymous", "ann"], "{lines:?}");
}

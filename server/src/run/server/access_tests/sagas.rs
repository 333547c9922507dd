//! What may be done with a saga that is named by its id, and in whose name.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_role_for_another_saga_and_a_lesser_one_for_this_are_not_the_role_for_this() {
    let guarded = Guarded::start().await;
    let key = guarded.key("a", &["operate:saga=other", "consume:saga=mine"]).await;
    let before = guarded.state().await;
    for verb in ["cancel", "pause", "retry", "terminate"] {
        let answer = guarded.ask(&key, "POST", &format!("/v1/sagas/{}:{verb}", guarded.instance), "{}").await;
        assert_eq!((answer.status, &answer.body["code"]), (StatusCode::FORBIDDEN, &json!("FORBIDDEN")), "{verb}: {}", answer.body);
    }
    assert_eq!(guarded.state().await, before);
    guarded.parts.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn histories_name_the_key_that_acted_and_beside_it_whom_the_request_says() {
    let guarded = Guarded::start().await;
    let operator = guarded.key("night-shift", &["operate:saga=mine"]).await;
    let id = guarded.instance;
    let paused = guarded.ask(&operator, "POST", &format!("/v1/sagas/{id}:pause"), r#"{"reason":"look","actor":"ann"}"#).await;
    assert_eq!(paused.status, StatusCode::OK, "{}", paused.body);
    guarded.ask(&operator, "POST", &format!("/v1/sagas/{id}:resume"), "{}").await;
    let history = guarded.ask(&operator, "GET", &format!("/v1/sagas/{id}/history"), "").await.body.to_string();
    assert!(history.contains(r#""key:night-shift (ann)""#) && history.contains(r#""key:night-shift""#), "{history}");
    assert!(!history.contains("sq_"), "{history}");
    guarded.parts.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_is_taken_away_in_the_name_of_the_key() {
    const LOCKED: &str = "saga: locked\nversion: 1\nkey: ${ input.n }\ntimeout: 1h\nservices:\n  shop: { topic: shop.commands }\nsteps:\n  - id: sell\n    \
                          call: shop.sell\n    compensate: none\n    lock: shelf\n";
    let guarded = Guarded::holding(false).await;
    let operator = guarded.key("night-shift", &["operate"]).await;
    guarded.parts.orchestrator.publish(LOCKED).await.expect("legal");
    let start = StartSaga { saga: "locked".parse().expect("a name"), version: None, mode: None, input: json!({ "n": 1 }).into() };
    let id = guarded.parts.orchestrator.start(start).await.expect("started").id;
    let break_it = || guarded.ask(&operator, "POST", "/v1/saga-locks:break", r#"{"key":"shelf","reason":"counted","actor":"ann"}"#);
    let waited = tokio::time::timeout(core::time::Duration::from_secs(60), async {
        while break_it().await.status != StatusCode::OK {
            tokio::time::sleep(core::time::Duration::from_millis(2)).await;
        }
        loop {
            let history = guarded.ask(&operator, "GET", &format!("/v1/sagas/{id}/history"), "").await.body;
            let event = history["events"].as_array().and_then(|events| events.iter().find(|event| event["type"] == "lock_broken"));
            if let Some(event) = event {
                return event["data"]["actor"].clone();
            }
            tokio::time::sleep(core::time::Duration::from_millis(2)).await;
        }
    });
    assert_eq!(waited.await.expect("it is held, and taken away"), json!("key:night-shift (ann)"));
    guarded.parts.shutdown().await;
}

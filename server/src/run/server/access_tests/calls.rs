//! Who may be given a call, and who may answer it.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn replies_to_calls_need_the_right_to_their_saga_and_calls_that_to_their_topic() {
    let guarded = Guarded::start().await;
    let worker = guarded.key("worker", &["consume:saga=other", "consume:topic=shop.commands,group=workers"]).await;
    let call = |id: Uuid| json!({ "instance": id, "step": "sell", "operation": "action", "epoch": 1, "reply": { "outcome": "succeeded" } });
    let complete = async |body: Value| guarded.ask(&worker, "POST", "/v1/saga-calls:complete", &body.to_string()).await;
    let missing = Uuid::from_u128(9);
    // What is another's is told like what is not there.
    let (foreign, nothing) = (complete(call(guarded.instance)).await.body, complete(call(missing)).await.body);
    assert_eq!((&foreign["code"], &nothing["code"]), (&json!("SAGA_NOT_FOUND"), &json!("SAGA_NOT_FOUND")));
    let detail = |body: &Value, id: Uuid| body["detail"].as_str().expect("a text").replace(&id.to_string(), "ID");
    assert_eq!(detail(&foreign, guarded.instance), detail(&nothing, missing));
    let several = complete(json!({ "calls": [call(missing), call(guarded.instance)] })).await;
    assert_eq!(several.body.to_string().matches("SAGA_NOT_FOUND").count(), 2, "{}", several.body);
    let none = complete(json!({ "calls": [call(missing), call(missing)] })).await;
    assert_eq!(none.status, StatusCode::OK);
    assert_eq!(none.body.to_string().matches("SAGA_NOT_FOUND").count(), 2, "{}", none.body);
    let foreign = complete(json!({ "calls": [], "next": { "topics": ["pay.commands"], "max": 1 } })).await;
    assert_eq!(foreign.body["code"], "FORBIDDEN", "{}", foreign.body);
    let own = complete(json!({ "calls": [], "next": { "topics": ["shop.commands"], "max": 1 } })).await;
    assert_ne!(own.body["code"], "FORBIDDEN", "{}", own.body);
    guarded.parts.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_answers_the_calls_of_its_own_topic_and_no_others() {
    let guarded = Guarded::start().await;
    let definition = "saga: order\nversion: 1\nkey: ${ input.n }\nservices:\n  stock: { topic: stock.commands }\n  bank: { topic: bank.commands }\n  \
                      web: { http: http://127.0.0.1:9/ }\nsteps:\n  - id: reserve\n    call: stock.reserve\n    timeout: 10s\n    compensate: \
                      bank.undo\n  - id: charge\n    call: bank.charge\n    timeout: 10s\n    compensate: none\n  - id: show\n    call: web.show\n    \
                      timeout: 10s\n    compensate: none\n";
    guarded.parts.orchestrator.publish(definition).await.unwrap_or_else(|error| panic!("{error:?}"));
    let start = StartSaga { saga: "order".parse().expect("a name"), version: None, mode: None, input: json!({ "n": 1 }).into() };
    let id = guarded.parts.orchestrator.start(start).await.expect("started").id;
    // As the documentation recommends.
    let worker = guarded.key("stock", &["consume:topic=stock.commands,group=workers", "consume:saga=*"]).await;
    let all = guarded.key("all", &["consume"]).await;
    let operator = guarded.key("operator", &["consume:saga=order", "operate:saga=order"]).await;
    let answer = async |key: &str, step: &str, operation: &str, is_many: bool| {
        let call = json!({ "instance": id, "step": step, "operation": operation, "epoch": 1, "reply": { "outcome": "succeeded" } });
        let body = if is_many { json!({ "calls": [call] }) } else { call };
        guarded.ask(key, "POST", "/v1/saga-calls:complete", &body.to_string()).await.body
    };
    for is_many in [false, true] {
        for (step, operation, needs) in
            [("charge", "action", "bank.commands"), ("reserve", "compensation", "bank.commands"), ("show", "action", "`operate`")]
        {
            let refused = answer(&worker, step, operation, is_many).await;
            assert_eq!(refused["code"], "FORBIDDEN", "{step} {operation}: {refused}");
            assert!(refused["detail"].as_str().is_some_and(|detail| detail.contains(needs)), "{refused}");
            let let_through = answer(&operator, step, operation, is_many).await;
            assert_ne!(let_through["code"], "FORBIDDEN", "{step}: {let_through}");
        }
        assert_eq!(
            answer(&all, "show", "action", is_many).await["code"],
            "FORBIDDEN",
            "whoever consumes everything is not called over HTTP"
        );
        for (key, step) in [(&worker, "reserve"), (&all, "charge")] {
            let own = answer(key, step, "action", is_many).await;
            assert!(!own.to_string().contains("FORBIDDEN") && !own.to_string().contains("SAGA_NOT_FOUND"), "{step}: {own}");
        }
        assert!(answer(&worker, "none", "action", is_many).await.to_string().contains("INVALID_REQUEST"), "it is told that there is none");
    }
    guarded.parts.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_are_leased_to_one_worker_are_no_other_s() {
    let guarded = Guarded::holding(false).await;
    let definition = DEFINITION.replace("saga: mine", "saga: called").replace("http: http://127.0.0.1:9/", "topic: shop.commands");
    guarded.parts.orchestrator.publish(&definition).await.expect("legal");
    let roles = ["consume:topic=shop.commands,group=workers", "consume:saga=*"];
    let (mine, other) = (guarded.key("worker", &roles).await, guarded.key("another", &roles).await);
    // One call is leased when it is looked for, and one while it is waited for.
    for (n, is_there) in [(1, true), (2, false)] {
        let input = json!({ "n": n }).into();
        let start = StartSaga { saga: "called".parse().expect("a name"), version: None, mode: None, input };
        let start = async || {
            guarded.parts.orchestrator.start(start).await.expect("started");
        };
        let body = json!({ "calls": [], "next": { "topics": ["shop.commands"], "max": 1, "wait_ms": 20_000 } }).to_string();
        let key = format!("poll-{n}");
        let poll = async |secret: &str| guarded.ask_once(secret, &key, "/v1/saga-calls:complete", &body).await.body;
        let found = if is_there {
            start().await;
            poll(&mine).await
        } else {
            tokio::join!(poll(&mine), start()).0
        };
        let receipt = found["next"][0]["receipt"].as_str().unwrap_or_else(|| panic!("no call: {found}")).to_owned();
        // Under the same key of a request, the same worker gets the same again, and no other does.
        assert_eq!(poll(&mine).await["next"][0]["receipt"], receipt.as_str());
        let body = json!({ "calls": [], "next": { "topics": ["shop.commands"], "max": 1 } }).to_string();
        let others = guarded.ask_once(&other, &key, "/v1/saga-calls:complete", &body).await.body;
        assert!(others.get("code").is_none() && others.get("next").is_none(), "nothing is left for it: {others}");
        let extend = json!({ "receipts": [receipt], "lease_ms": 60_000 }).to_string();
        let path = "/v1/topics/shop.commands/groups/workers:extend";
        assert_eq!(guarded.ask(&other, "POST", path, &extend).await.body["code"], "RECEIPT_OF_ANOTHER");
        let extended = guarded.ask(&mine, "POST", path, &extend).await.body;
        assert_eq!(extended["results"][0]["status"], "done", "{extended}");
    }
    guarded.parts.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_waits_for_calls_is_cut_off_with_its_key() {
    let guarded = Guarded::start().await;
    let definition = DEFINITION.replace("saga: mine", "saga: called").replace("http: http://127.0.0.1:9/", "topic: shop.commands");
    guarded.parts.orchestrator.publish(&definition).await.expect("legal");
    let worker = guarded.key("worker", &["consume:topic=shop.commands,group=workers", "consume:saga=*"]).await;
    let body = json!({ "calls": [], "next": { "topics": ["shop.commands"], "max": 1, "wait_ms": 20_000 } }).to_string();
    let poll = guarded.ask(&worker, "POST", "/v1/saga-calls:complete", &body);
    let revoke = async {
        // Whether the poll has begun or not makes no difference: it is refused or cut off.
        tokio::task::yield_now().await;
        guarded.parts.broker.revoke_key(&"worker".parse().expect("a name")).await.expect("revoked");
    };
    // Far less than it would wait.
    let (answer, ()) =
        tokio::time::timeout(core::time::Duration::from_secs(10), async { tokio::join!(poll, revoke) }).await.expect("it ends");
    assert_eq!(answer.body["code"], "UNAUTHENTICATED", "{}", answer.body);
    guarded.parts.shutdown().await;
}

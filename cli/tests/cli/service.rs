//! `sagamq service`.

use crate::support::{Scripted, json, run};
use sagamq_api::ErrorCode;
use serde_json::{Value, json};

fn payments() -> Value {
    json!({
        "name": "payments", "eject_after": 2, "eject_ms": 60_000, "updated_at_ms": 0,
        "max_in_flight": 10, "calls_per_second": 50, "break_after": 5, "break_ms": 30_000,
        "headers": { "authorization": "Bearer ${secret:payment_token}" }, "tls": { "ca": "payment-ca" }, "definitions": ["checkout*"],
        "breaker": "OPEN", "tried_again_in_ms": 12_000, "in_flight": 3, "held_back": 7,
        "endpoints": [
            { "url": "http://10.0.0.7:8080", "state": "UP", "failures": 0 },
            { "url": "http://10.0.0.8:8080", "state": "EJECTED", "failures": 3, "ejected_for_ms": 42_000 },
        ],
    })
}

#[test]
fn an_address_is_set_with_all_that_can_be_said_of_it() {
    let server = Scripted::answering(&payments());
    let args = ["service", "set", "payments", "http://10.0.0.7:8080", "http://10.0.0.8:8080", "--eject-after", "2", "--eject-for", "1m"];
    let bounds = ["--max-in-flight", "10", "--calls-per-second", "50", "--break-after", "5", "--break-for", "30s"];
    let shows = ["--header", "authorization: Bearer ${secret:payment_token}", "--header", "x-team:shop", "--allow-plain-http"];
    let tls = ["--tls-ca", "payment-ca", "--tls-cert", "payment-client", "--tls-key", "payment-key", "--definition", "checkout*"];
    let args: Vec<&str> = args.into_iter().chain(bounds).chain(shows).chain(tls).collect();
    let shown = server.run(&args).expect(0).stdout;
    for part in [
        "payments",
        "after 2 connection failures in a row, for 1m",
        "http://10.0.0.8:8080",
        "EJECTED",
        "42s",
        "checkout*",
        "authorization: Bearer ${secret:payment_token}",
        "authorities payment-ca",
        "not for secrets",
        "at most 10",
        "at most 50 a second",
        "after 5 calls in a row",
        "OPEN, tried again in 12s, 3 of 10 run, 7 held back",
    ] {
        assert!(shown.contains(part), "{part} is missing in\n{shown}");
    }
    let asked = &server.asked()[0];
    assert_eq!(asked.line, "PUT /v1/services/payments");
    let body: Value = serde_json::from_slice(&asked.body).expect("JSON");
    let wanted = json!({ "endpoints": ["http://10.0.0.7:8080", "http://10.0.0.8:8080"], "eject_after": 2, "eject_ms": 60_000,
        "max_in_flight": 10, "calls_per_second": 50, "break_after": 5, "break_ms": 30_000,
        "headers": { "authorization": "Bearer ${secret:payment_token}", "x-team": "shop" }, "allow_plain_http": true, "definitions": ["checkout*"],
        "tls": { "ca": "payment-ca", "certificate": "payment-client", "key": "payment-key" } });
    assert_eq!(body, wanted);
    server.run(&["service", "set", "payments", "http://p"]).expect(0);
    let body: Value = serde_json::from_slice(&server.asked()[1].body).expect("JSON");
    assert_eq!(body, json!({ "endpoints": ["http://p"] }), "what is not said has the server's default");
    run(&["service", "set", "payments"]).expect(2);
    assert!(run(&["service", "set", "payments", "http://p", "--break-for", "1s"]).expect(2).stderr.contains("--break-after"));
    let refused = run(&["service", "set", "payments", "http://p", "--header", "s3cr3t-without-a-name"]).expect(2).stderr;
    assert!(refused.contains("NAME: VALUE") && !refused.contains("s3cr3t"), "{refused}");
    run(&["service", "set", "pay ments", "http://p"]).expect(2);
}

#[test]
fn services_are_listed_shown_and_forgotten() {
    let server = Scripted::answering(&json!({ "services": [payments()] }));
    let shown = server.run(&["service", "list"]).expect(0).stdout;
    assert!(shown.contains("http://10.0.0.7:8080") && shown.contains("EJECTED") && shown.contains("7 held back"), "{shown}");
    assert_eq!(server.run(&["service", "list", "--output", "json"]).expect(0).json()["services"][0]["name"], "payments");
    let server = Scripted::answering(&payments());
    assert_eq!(server.run(&["service", "get", "payments", "--output", "json"]).expect(0).json(), payments());
    assert_eq!(server.asked()[0].line, "GET /v1/services/payments");
    let server = Scripted::new(|_| json(&Value::Null));
    server.run(&["service", "delete", "payments"]).expect(0);
    assert_eq!(server.asked()[0].line, "DELETE /v1/services/payments");
    let server = Scripted::refusing(ErrorCode::ServiceNotFound);
    server.run(&["service", "get", "payments"]).expect(4);
}

//! `sagamq service`.

use crate::support::{Scripted, json, run};
use sagamq_api::ErrorCode;
use serde_json::{Value, json};

fn payments() -> Value {
    json!({
        "name": "payments", "eject_after": 2, "eject_ms": 60_000, "updated_at_ms": 0,
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
    let shown = server.run(&args).expect(0).stdout;
    for part in ["payments", "after 2 connection failures in a row, for 1m", "http://10.0.0.8:8080", "EJECTED", "42s"] {
        assert!(shown.contains(part), "{part} is missing in\n{shown}");
    }
    let asked = &server.asked()[0];
    assert_eq!(asked.line, "PUT /v1/services/payments");
    let body: Value = serde_json::from_slice(&asked.body).expect("JSON");
    let wanted = json!({ "endpoints": ["http://10.0.0.7:8080", "http://10.0.0.8:8080"], "eject_after": 2, "eject_ms": 60_000 });
    assert_eq!(body, wanted);
    server.run(&["service", "set", "payments", "http://p"]).expect(0);
    let body: Value = serde_json::from_slice(&server.asked()[1].body).expect("JSON");
    assert_eq!(body, json!({ "endpoints": ["http://p"] }), "what is not said has the server's default");
    run(&["service", "set", "payments"]).expect(2);
    run(&["service", "set", "pay ments", "http://p"]).expect(2);
}

#[test]
fn services_are_listed_shown_and_forgotten() {
    let server = Scripted::answering(&json!({ "services": [payments()] }));
    let shown = server.run(&["service", "list"]).expect(0).stdout;
    assert!(shown.contains("http://10.0.0.7:8080") && shown.contains("EJECTED"), "{shown}");
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

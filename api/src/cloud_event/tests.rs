//! Every form of an event is the same event, and no record loses anything.

use super::{CloudEvent, EventError, PARTITION_KEY, Place, RECORD_TYPE};
use crate::headers::cloud_event;
use crate::ids::{Offset, PartitionId};
use crate::limits::{PRODUCE_RECORDS_MAX, RECORD_HEADERS_MAX};
use crate::record::{Headers, Payload};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};
use uuid::Uuid;

fn place(topic: &crate::TopicName) -> Place<'_> {
    Place { cluster: Uuid::from_u128(7), topic, partition: PartitionId(3), offset: Offset(9), timestamp_ms: 1_500 }
}

fn shown(payload: Payload) -> CloudEvent {
    let topic = "orders".parse().expect("legal");
    CloudEvent::of_record(place(&topic), payload)
}

/// What is added on the way out.
fn without_own(mut event: CloudEvent) -> CloudEvent {
    event.extensions.retain(|name, _| !name.starts_with("sagamq"));
    event
}

fn from_http(event: &CloudEvent) -> Result<CloudEvent, EventError> {
    let headers: Vec<(String, String)> = event.http_headers().collect();
    let headers = headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    CloudEvent::from_http(headers, event.data_content_type.as_deref(), event.data.clone().unwrap_or_default())
}

#[test]
fn data_in_json_are_kept_as_their_text_and_others_as_their_bytes() {
    for (of, data, bytes) in [
        (None, r#""data":{"n": 1.0e400,"n":12345678901234567890123}"#, &br#"{"n": 1.0e400,"n":12345678901234567890123}"#[..]),
        (Some("application/json"), r#""data":"text""#, br#""text""#),
        (Some("application/vnd.order+json; v=1"), r#""data":[1, 2]"#, b"[1, 2]"),
        (Some("text/plain"), r#""data":"a \"b\"""#, br#"a "b""#),
        (Some("image/png"), r#""data_base64":"AP8=""#, &[0, 255]),
        (Some("application/json"), r#""data":null"#, b"null"),
    ] {
        let of_json = of.map(|of| format!(r#","datacontenttype":"{of}""#)).unwrap_or_default();
        let text = format!(r#"{{"specversion":"1.0","id":"1","source":"/s","type":"t"{of_json},{data}}}"#);
        let event = CloudEvent::from_json(text.as_bytes()).expect("legal");
        assert_eq!(event.data.as_deref(), Some(bytes), "{text}");
        assert_eq!(event.data_content_type.as_deref(), Some(of.unwrap_or("application/json")));
        let again = serde_json::to_string(&without_own(shown(event.clone().into_payload()))).expect("JSON");
        assert_eq!(CloudEvent::from_json(again.as_bytes()).expect("legal"), event);
        assert!(again.contains(data), "{data} in {again}");
    }
}

#[test]
fn what_is_wrong_is_said() {
    let good = json!({ "specversion": "1.0", "id": "1", "source": "/s", "type": "t" });
    let with = |name: &str, value: Value| {
        let mut event = good.clone();
        match value {
            Value::String(ref text) if text == "-" => drop(event.as_object_mut().expect("an object").remove(name)),
            value => event[name] = value,
        }
        CloudEvent::from_json(event.to_string().as_bytes()).expect_err("wrong").to_string()
    };
    for (name, value, says) in [
        ("specversion", json!("-"), "no `specversion`"),
        ("specversion", json!("0.3"), "the specversion `0.3`"),
        ("id", json!("-"), "no `id`"),
        ("id", json!(""), "no `id`"),
        ("source", json!("a b"), "a URI has no spaces"),
        ("type", json!(null), "no `type`"),
        ("time", json!("yesterday"), "RFC 3339"),
        ("time", json!("2026-11-30T12:00:00"), "RFC 3339"),
        ("subject", json!(""), "no `subject`"),
        ("subject", json!("a\nb"), "control character"),
        ("Color", json!("red"), "no name of an attribute"),
        (&*"x".repeat(61), json!("red"), "no name of an attribute"),
        ("n", json!(1.5), "no integer of 32 bits"),
        ("n", json!([1]), "a list or an object"),
        ("data_base64", json!("#"), "no base64"),
    ] {
        let said = with(name, value.clone());
        assert!(said.contains(says), "{name} = {value}: {said}");
    }
    let both = r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","data":1,"data_base64":""}"#;
    let twice = r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","id":"2"}"#;
    let no_string = r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","datacontenttype":"text/plain","data":1}"#;
    let nested = format!(r#"{{"specversion":"1.0","id":"1","source":"/s","type":"t","data":{}{}}}"#, "[".repeat(100), "]".repeat(100));
    for (text, says) in [
        (both, "cannot both"),
        (twice, "`id` twice"),
        (no_string, "is a string"),
        (&nested, "nests too deep"),
        ("[1]", "no JSON object"),
        ("", "no JSON object"),
    ] {
        let said = CloudEvent::from_json(text.as_bytes()).expect_err("wrong").to_string();
        assert!(said.contains(says), "{text}: {said}");
    }
    let of =
        |headers: &[(&str, &[u8])]| CloudEvent::from_http(headers.iter().copied(), None, Bytes::new()).map_err(|error| error.to_string());
    let required: [(&str, &[u8]); 4] = [("ce-specversion", b"1.0"), ("ce-id", b"1"), ("ce-source", b"/s"), ("ce-type", b"t")];
    assert_eq!(of(&required).expect("legal"), CloudEvent::new("1", "/s", "t"));
    for (name, value, says) in [
        ("ce-subject", &b"%4"[..], "two hexadecimal digits"),
        ("ce-subject", b"\xff", "no UTF-8"),
        ("ce-id", b"2", "`id` twice"),
        ("ce-datacontenttype", b"text/plain", "the header content-type"),
        ("ce-data", b"x", "no name of an attribute"),
    ] {
        let said = of(&[&required[..], &[(name, value)]].concat()).expect_err("wrong");
        assert!(said.contains(says), "{name}: {said}");
    }
}

#[test]
fn a_list_says_which_of_its_events_is_wrong() {
    let text = r#"[{"specversion":"1.0","id":"1","source":"/s","type":"t"},{"specversion":"1.0","id":"2","source":"/s"}]"#;
    let list = CloudEvent::list_from_json(text.as_bytes()).expect("a list");
    assert_eq!(list, [Ok(CloudEvent::new("1", "/s", "t")), Err(EventError::Missing("type"))]);
    assert!(CloudEvent::list_from_json(b"{}").is_err());
    // What one request may have is counted while it is read.
    let event = r#"{"specversion":"1.0","id":"1","source":"/s","type":"t"}"#;
    let many = |count: usize| CloudEvent::list_from_json(format!("[{}]", vec![event; count].join(",")).as_bytes());
    assert_eq!(many(PRODUCE_RECORDS_MAX).expect("as many as may be").len(), PRODUCE_RECORDS_MAX);
    assert!(many(PRODUCE_RECORDS_MAX + 1).is_err_and(|error| error.to_string().contains("more than 10000 events")));
    let attributes: Vec<String> = (0..=RECORD_HEADERS_MAX).map(|n| format!(r#""a{n}":1"#)).collect();
    let required = r#""specversion":"1.0","id":"1","source":"/s","type":"t""#;
    let said = CloudEvent::from_json(format!("{{{required},{}}}", attributes.join(",")).as_bytes()).expect_err("too many").to_string();
    assert!(said.contains(&format!("more than {RECORD_HEADERS_MAX} attributes")), "{said}");
}

#[test]
fn a_record_holds_it_as_the_binding_to_kafka_says() {
    let event = CloudEvent { time: Some("2026-11-30T12:00:00.123456Z".to_owned()), ..CloudEvent::new("1", "/shop", "order.placed") };
    let payload = event.with_partition_key("k").with_data("application/json", "{}").into_payload();
    let headers: Vec<(&str, &str)> = payload
        .headers
        .iter()
        .map(|header| (header.name.as_str(), core::str::from_utf8(header.value.as_ref().expect("one")).expect("text")))
        .collect();
    let wanted = [
        (cloud_event::SPECVERSION, "1.0"),
        (cloud_event::ID, "1"),
        (cloud_event::SOURCE, "/shop"),
        (cloud_event::TYPE, "order.placed"),
        (cloud_event::TIME, "2026-11-30T12:00:00.123456Z"),
        ("ce_partitionkey", "k"),
        ("content-type", "application/json"),
    ];
    assert_eq!(headers, wanted);
    assert_eq!((payload.key.as_deref(), payload.value.as_deref()), (Some(&b"k"[..]), Some(&b"{}"[..])));
}

#[test]
fn any_record_can_be_shown_as_an_event_with_all_that_it_has() {
    let mut headers = Headers::default();
    headers.push("traceparent", Some("00-1-2-01".into()));
    headers.push("X-Shop", Some("a".into()));
    headers.push("twice", Some("1".into()));
    headers.push("twice", Some("2".into()));
    headers.push("bytes", Some(Bytes::from_static(&[255])));
    headers.push("none", None);
    headers.push("id", Some("7".into()));
    let key = Bytes::from_static(&[0xc3, 0x28]);
    let event = shown(Payload { key: Some(key.clone()), value: Some("hello".into()), headers });
    event.check().expect("legal");
    let json: Value = serde_json::to_value(&event).expect("JSON");
    assert_eq!(
        (&json["id"], &json["source"], &json["type"]),
        (&json!("orders/3/9"), &json!(format!("urn:uuid:{}", Uuid::from_u128(7))), &json!(RECORD_TYPE))
    );
    assert_eq!(
        (&json["time"], &json["data"], &json["datacontenttype"]),
        (&json!("1970-01-01T00:00:01.5Z"), &json!("hello"), &json!("text/plain"))
    );
    assert_eq!((&json["traceparent"], &json["sagamqpartition"], &json["sagamqoffset"]), (&json!("00-1-2-01"), &json!("3"), &json!("9")));
    assert_eq!(json["sagamqkey"], json!(STANDARD.encode(&key)));
    let kept: Headers = serde_json::from_str(json["sagamqheaders"].as_str().expect("text")).expect("headers");
    let kept: Vec<&str> = kept.iter().map(|header| header.name.as_str()).collect();
    assert_eq!(kept, ["X-Shop", "twice", "twice", "bytes", "none", "id"]);
    // Nor can a record say where it lies, or what else is said of it on the way out.
    let attributes = [("ce_specversion", "1.0"), ("ce_id", "1"), ("ce_source", "/s"), ("ce_type", "t"), ("ce_other", "o")];
    let forged = ["ce_sagamqoffset", "ce_sagamqreceipt", "ce_sagamqkey", "ce_sagamqheaders"].map(|name| (name, "forged"));
    let event = shown(Payload { headers: attributes.into_iter().chain(forged).collect(), ..Payload::default() });
    let mut kept: Headers = serde_json::from_str(&event.extensions["sagamqheaders"]).expect("headers");
    for (name, _) in forged {
        assert_eq!(kept.get(name), Some("forged"));
        kept.remove(name);
    }
    assert!(kept.is_empty(), "{kept:?}");
    let names: Vec<&str> = event.extensions.keys().map(String::as_str).collect();
    assert_eq!(names, ["other", "sagamqheaders", "sagamqoffset", "sagamqpartition", "sagamqtime"]);
    assert_eq!(event.extensions["sagamqoffset"], "9");
    let plain =
        shown(Payload { headers: [("sagamqoffset", "forged"), ("sagamqreceipt", "forged")].into_iter().collect(), ..Payload::default() });
    let kept: Headers = serde_json::from_str(&plain.extensions["sagamqheaders"]).expect("headers");
    assert_eq!((kept.get("sagamqoffset"), kept.get("sagamqreceipt")), (Some("forged"), Some("forged")));
    assert!(plain.extensions["sagamqoffset"] == "9" && !plain.extensions.contains_key("sagamqreceipt"), "{plain:?}");
    let empty = shown(Payload::default());
    empty.check().expect("legal");
    assert_eq!((empty.data, empty.data_content_type), (None, None));
}

fn text() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9 %\"äß\u{1f600}/:.-]{1,20}"
}

prop_compose! {
    fn event()(
        (id, event_type) in (text(), text()),
        source in "[a-zA-Z0-9/:.%ä-]{1,20}",
        subject in proptest::option::of(text()),
        extensions in proptest::collection::btree_map("x[a-z0-9]{0,9}", text(), 0..4),
        key in proptest::option::of(text()),
        data in proptest::option::of((prop_oneof![Just("application/json"), Just("text/plain"), Just("image/png"), Just("a/b+json")], proptest::collection::vec(any::<u8>(), 0..20))),
        is_json in any::<bool>(),
    ) -> CloudEvent {
        let mut event = CloudEvent { subject, extensions, ..CloudEvent::new(id, source, event_type) };
        if let Some(key) = key {
            event = event.with_partition_key(key);
        }
        match data {
            Some((of, bytes)) if is_json => event.with_data(of, format!("[{}, 1.0]", bytes.len())),
            Some((of, bytes)) => event.with_data(of, bytes),
            None => event,
        }
    }
}

proptest! {
    #[test]
    fn every_form_of_an_event_is_the_same_event(event in event()) {
        event.check().expect("legal");
        let json = serde_json::to_vec(&event).expect("JSON");
        prop_assert_eq!(&CloudEvent::from_json(&json).expect("legal"), &event);
        prop_assert_eq!(&from_http(&event).expect("legal"), &event);
        let payload = event.clone().into_payload();
        prop_assert_eq!(payload.key.as_deref(), event.extensions.get(PARTITION_KEY).map(|key| key.as_bytes()));
        let out = shown(payload);
        out.check().expect("legal");
        let json = serde_json::to_vec(&out).expect("JSON");
        // What was added says where it lies: it is not taken for a part of the event.
        prop_assert_eq!(CloudEvent::from_json(&json).expect("legal"), event);
    }

    #[test]
    fn no_record_is_shown_as_an_illegal_event(
        headers in proptest::collection::vec((prop_oneof!["ce_[a-z]{1,8}", Just("ce_id".to_owned()), Just("ce_type".to_owned()), Just("ce_source".to_owned()), Just("ce_specversion".to_owned()), Just("ce_time".to_owned()), Just("content-type".to_owned()), "[a-z-]{0,8}"], proptest::option::of(prop_oneof![Just(b"1.0".to_vec()), proptest::collection::vec(any::<u8>(), 0..6)])), 0..8),
        key in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..6)),
        value in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..9)),
    ) {
        let mut all = Headers::default();
        for (name, value) in headers {
            all.push(name, value.map(Bytes::from));
        }
        let event = shown(Payload { key: key.map(Bytes::from), value: value.clone().map(Bytes::from), headers: all });
        event.check().expect("legal");
        let json: Value = serde_json::to_value(&event).expect("JSON");
        let says_json = event.has_json();
        let back = match (&json["data"], json["data_base64"].as_str(), json.get("data").is_some()) {
            (_, Some(base64), _) => Some(STANDARD.decode(base64).expect("base64")),
            (Value::String(text), None, true) if !says_json => Some(text.clone().into_bytes()),
            (_, None, true) => value.clone(),
            (_, None, false) => None,
        };
        prop_assert_eq!(back, value);
    }
}

//! What goes into the log comes out again, and can be sent in again.

use super::{ConsumedRecord, Decoded, Headers, Payload, PayloadError, ProduceRecord, RecordIn, write};
use crate::headers::{APPLICATION_JSON, CONTENT_TYPE};
use crate::ids::{Offset, PartitionId};
use bytes::Bytes;
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

/// Over the wire in both directions, as a server and its clients do it.
fn round_trip(record: &ProduceRecord) -> ConsumedRecord {
    let sent: ProduceRecord = serde_json::from_str(&serde_json::to_string(record).expect("JSON")).expect("its own form");
    out_of(sent.into_payload().expect("legal"))
}

fn out_of(payload: Payload) -> ConsumedRecord {
    let mut written = b"{".to_vec();
    write::fields(&mut written, write::RecordOut { partition: PartitionId(0), offset: Offset(0), timestamp_ms: 0, payload: &payload });
    written.push(b'}');
    let out = ConsumedRecord::new(PartitionId(0), Offset(0), 0, payload);
    assert_eq!(String::from_utf8(written).expect("text"), serde_json::to_string(&out).expect("JSON"), "servers write the same");
    serde_json::from_str(&serde_json::to_string(&out).expect("JSON")).expect("its own form")
}

fn sent(json: &str) -> Payload {
    let payload = serde_json::from_str::<ProduceRecord>(json).expect("legal").into_payload().expect("legal");
    assert_eq!(read(json).expect("legal"), payload, "servers read the same");
    payload
}

/// As a server reads it.
fn read(json: &str) -> Result<Payload, PayloadError> {
    let body = Bytes::copy_from_slice(json.as_bytes());
    serde_json::from_slice::<RecordIn<'_>>(&body).expect("JSON").take_payload(&body, &mut Decoded::default())
}

/// What comes out, sent in again.
fn again(out: ConsumedRecord) -> Payload {
    let ConsumedRecord { key, key_base64, value, value_base64, headers, .. } = out;
    let record = ProduceRecord { key, key_base64, value, value_base64, headers, ..ProduceRecord::default() };
    sent(&serde_json::to_string(&record).expect("JSON"))
}

#[test]
fn json_is_stored_and_comes_back_as_its_very_text() {
    for text in [
        "12345678901234567890123",
        "12345678901234567890.5",
        "1E400",
        "-0.0",
        r#"{"b": 1, "a": [ true,  null ], "b": 2}"#,
        "[\n  1,\r\n\t2\n]",
        "null",
        r#""\u0041\/""#,
    ] {
        let json = r#"{"value": V, "headers": {"content-type": "application/json"}}"#.replace('V', text);
        let payload = sent(&json);
        assert_eq!(payload.value.as_deref(), Some(text.as_bytes()));
        assert_eq!(out_of(payload).value.expect("JSON").as_str(), text);
    }
    // Without the header a string is text, and anything else gets the header.
    assert_eq!(sent(r#"{"value":"\u0041"}"#), Payload { value: Some(Bytes::from_static(b"A")), ..Payload::default() });
    let number = sent(r#"{"value":1.50}"#);
    assert_eq!((number.value.as_deref(), number.headers.get(CONTENT_TYPE)), (Some(b"1.50".as_slice()), Some(APPLICATION_JSON)));
    // Another content type is left alone: what comes out is the text of the JSON.
    let other = sent(r#"{"value":{"a":1.0},"headers":{"content-type":"application/cloudevents+json"}}"#);
    assert_eq!(other.headers.len(), 1);
    assert_eq!(out_of(other).text().as_deref(), Some(r#"{"a":1.0}"#));
}

#[test]
fn what_cannot_stand_in_value_comes_back_as_base64() {
    let of = |header: &str, value: &[u8]| {
        let headers = [(CONTENT_TYPE, header)].into_iter().collect();
        out_of(Payload { value: Some(Bytes::copy_from_slice(value)), headers, ..Payload::default() })
    };
    let deep = format!("{}{}", "[".repeat(65), "]".repeat(65));
    for value in [b" 1".as_slice(), b"1\n", b"{", b"", b"\xff", deep.as_bytes()] {
        let out = of(APPLICATION_JSON, value);
        assert_eq!((out.value.as_ref(), out.value_bytes().expect("base64").as_deref()), (None, Some(value)));
    }
    assert_eq!(of("text/plain", b"{").text().as_deref(), Some("{"));
    assert_eq!(of(APPLICATION_JSON, &deep.as_bytes()[1..deep.len() - 1]).value_base64, None, "64 levels are within the bound");
    assert_eq!(of(APPLICATION_JSON, b" 1").json::<u8>().expect("white space is no matter to who reads it"), 1);
}

#[test]
fn no_value_and_null_are_two_things() {
    assert_eq!(sent("{}").value, None);
    assert_eq!(sent(r#"{"value":null}"#).value.as_deref(), Some(b"null".as_slice()));
    assert_eq!(serde_json::to_string(&round_trip(&ProduceRecord::json(&()).expect("JSON"))).expect("JSON").matches("null").count(), 1);
    assert!(round_trip(&ProduceRecord::default()).value.is_none());
    assert_eq!(round_trip(&ProduceRecord::default()).json::<Option<u8>>().expect("null"), None);
}

#[test]
fn strings_and_enums_of_strings_round_trip_as_json() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum State {
        Paid,
    }
    let json = |record: Result<ProduceRecord, _>| round_trip(&record.expect("JSON"));
    assert_eq!(json(ProduceRecord::json("7")).json::<String>().expect("a string"), "7");
    assert_eq!(json(ProduceRecord::json(&State::Paid)).json::<State>().expect("a state"), State::Paid);
    assert_eq!(json(ProduceRecord::json(&vec![1, 2])).json::<Vec<u8>>().expect("a list"), [1, 2]);
    assert_eq!(round_trip(&ProduceRecord::text(r#"{"a":1}"#)).json::<serde_json::Value>().expect("JSON as text")["a"], 1);
    assert_eq!(round_trip(&ProduceRecord::text("hi")).text().as_deref(), Some("hi"));
    assert_eq!(round_trip(&ProduceRecord::bytes([0xff])).value_base64.as_deref(), Some("/w=="));
}

#[test]
fn what_is_no_payload_is_refused_with_help() {
    let refused = |json: &str| {
        let error = serde_json::from_str::<ProduceRecord>(json).expect("JSON").into_payload().expect_err("refused");
        assert_eq!(read(json), Err(error.clone()), "servers say the same");
        error
    };
    assert_eq!(refused(r#"{"value":"a","value_base64":"YQ=="}"#), PayloadError::Both("value"));
    assert_eq!(refused(r#"{"key":"a","key_base64":"YQ=="}"#), PayloadError::Both("key"));
    assert!(matches!(refused(r#"{"key_base64":"*"}"#), PayloadError::Base64 { field: "key", .. }));
    assert!(matches!(refused(r#"{"value":"\ud800"}"#), PayloadError::NotText(_)));
    let deep = format!("{{\"value\":{}{}}}", "[".repeat(65), "]".repeat(65));
    let error = serde_json::from_str::<ProduceRecord>(&deep).expect_err("too deep").to_string();
    assert_eq!(serde_json::from_str::<RecordIn<'_>>(&deep).expect_err("too deep").to_string(), error);
    assert!(error.contains("65 levels") && error.contains("value_base64"), "{error}");
}

#[test]
fn one_line_a_record() {
    let mut record = round_trip(&serde_json::from_str(r#"{"value":[1,\n2]}"#.replace("\\n", "\n").as_str()).expect("legal"));
    let stored = again(record.clone());
    assert!(!record.is_one_line());
    record.make_one_line();
    assert!(!serde_json::to_string(&record).expect("JSON").contains('\n'));
    assert_eq!(again(record), stored);
}

fn json_text() -> impl Strategy<Value = String> {
    let space = || prop::sample::select(vec!["", "", " ", "\n", "\t \r\n"]);
    let leaf = prop_oneof![
        "-?(0|[1-9][0-9]{0,40})(\\.[0-9]{1,40})?([eE][+-]?[0-9]{1,4})?",
        prop::sample::select(vec!["null".to_owned(), "true".to_owned(), "false".to_owned()]),
        any::<String>().prop_map(|text| serde_json::to_string(&text).expect("JSON")),
        Just(r#""\u00e9\ud83d\ude00\/""#.to_owned()),
    ];
    leaf.prop_recursive(6, 40, 5, move |inner| {
        let item = (space(), inner, space()).prop_map(|(before, json, after)| format!("{before}{json}{after}"));
        let field = ("[a-b]", item.clone()).prop_map(|(name, item)| format!("\"{name}\":{item}"));
        prop_oneof![
            proptest::collection::vec(item, 0..5).prop_map(|items| format!("[{}]", items.join(","))),
            proptest::collection::vec(field, 0..5).prop_map(|fields| format!("{{{}}}", fields.join(","))),
        ]
    })
}

fn any_headers() -> impl Strategy<Value = Headers> {
    let content_type = prop::sample::select(vec![None, Some(APPLICATION_JSON), Some(APPLICATION_JSON), Some("text/plain")]);
    let others = proptest::collection::vec(("[a-b]", proptest::option::of(proptest::collection::vec(any::<u8>(), 0..4))), 0..3);
    (content_type, others).prop_map(|(content_type, others)| {
        let mut headers = Headers::default();
        content_type.into_iter().for_each(|value| headers.push(CONTENT_TYPE, Some(Bytes::from_static(value.as_bytes()))));
        others.into_iter().for_each(|(name, value)| headers.push(name, value.map(Bytes::from)));
        headers
    })
}

fn any_value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..40),
        any::<String>().prop_map(String::into_bytes),
        json_text().prop_map(String::into_bytes),
        (json_text(), prop::sample::select(vec![" ", "\n", "x"])).prop_map(|(json, end)| format!("{json}{end}").into_bytes()),
    ]
}

proptest! {
    #[test]
    fn whatever_comes_out_can_be_sent_in_again(
        value in proptest::option::of(any_value()),
        key in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..4)),
        headers in any_headers(),
    ) {
        let payload = Payload { key: key.map(Bytes::from), value: value.map(Bytes::from), headers };
        let out = out_of(payload.clone());
        prop_assert_eq!(&out.value_bytes().expect("its own form"), &payload.value);
        let stored = again(out.clone());
        prop_assert_eq!((&stored.key, &stored.value), (&payload.key, &payload.value));
        prop_assert_eq!(again(out_of(stored.clone())), stored, "the second time round the headers have their order as well");
        let mut line = out;
        line.make_one_line();
        prop_assert!(!serde_json::to_string(&line).expect("JSON").contains(['\n', '\r']));
        prop_assert_eq!(again(line).value, payload.value);
    }

    #[test]
    fn json_comes_back_as_it_was_sent(json in json_text()) {
        let out = out_of(sent(&format!("{{\"headers\":{{\"content-type\":\"application/json\"}},\"value\": {json} }}")));
        let value = out.value.expect("it is JSON");
        prop_assert_eq!(value.as_str(), json.as_str());
    }
}

#[test]
fn a_server_copies_no_text_that_stands_in_the_body_as_it_is() {
    let body = Bytes::from_static(br#"{"key":"k","value":"text","idempotency_key":"i\u0041"}"#);
    let mut record: RecordIn<'_> = serde_json::from_slice(&body).expect("legal");
    let key = record.idempotency_key.take().expect("there is one").into_bytes(&body);
    let payload = record.take_payload(&body, &mut Decoded::default()).expect("legal");
    assert_eq!(
        (payload.key.as_deref(), payload.value.as_deref(), key.as_ref()),
        (Some(b"k".as_slice()), Some(b"text".as_slice()), b"iA".as_slice())
    );
    for shared in [payload.key, payload.value].into_iter().flatten() {
        assert!(body.as_ptr_range().contains(&shared.as_ptr()));
    }
}

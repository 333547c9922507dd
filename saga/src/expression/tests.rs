//! What expressions give, and what they refuse.

use super::{CompileError, Outputs, SagaScope, Scope, Template};
use sagamq_api::saga::Failure;
use sagamq_api::{SagaName, StepId};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Renders a template over a fixed scope; an error as its text.
fn render(template: &Value) -> Result<Value, String> {
    let input = json!({
        "id": "o-1", "quantity": 3, "price": 9.5, "huge": u64::MAX, "whole": 2.0, "items": [{"sku": "a", "n": 1}, {"sku": "b", "n": 2}],
        "nothing": null, "z": 1, "a": {"y": 1, "b": 2}, "odd-key": 7,
    });
    let input = input.into();
    let pay: StepId = "pay".parse().expect("legal");
    let outputs = BTreeMap::from([(pay, json!({"receipt": "r-1", "cents": 950}).into())]);
    let (name, failure): (SagaName, _) = ("checkout".parse().expect("legal"), Failure { code: "NO".into(), message: "not today".into() });
    let saga = SagaScope { id: "i-1", name: &name, version: 7, key: "k" };
    let scope = Scope { input: &input, outputs: &outputs, failure: Some(&failure), saga: Some(saga) };
    let template = Template::compile(template).map_err(|errors| format!("{errors:?}"))?;
    template.render(&scope).map(|json| json.to_value()).map_err(|error| error.to_string())
}

fn value(text: &str) -> Value {
    render(&json!(text)).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn refused(text: &str) -> CompileError {
    Template::text(text).expect_err(text).remove(0)
}

#[test]
fn one_expression_gives_its_value_with_its_type() {
    assert_eq!(value("${ input.quantity }"), json!(3));
    assert_eq!(value("${input.quantity * 2}"), json!(6));
    assert_eq!(value("${ input.price * 2.0 }"), json!(19.0));
    assert_eq!(value("${ double(input.quantity) * input.price }"), json!(28.5));
    assert_eq!(value("${ input.nothing }"), Value::Null);
    assert_eq!(value("${ input.items }"), json!([{"sku": "a", "n": 1}, {"sku": "b", "n": 2}]));
    assert_eq!(value("${ input.items.map(i, i.sku) }"), json!(["a", "b"]));
    assert_eq!(value("${ input.quantity > 2 && steps.pay.output.cents == 950 }"), json!(true));
    assert_eq!(value("${ failure.code }"), json!("NO"));
    assert_eq!(value("${ failure.code == 'NO' ? failure.message : '' }"), json!("not today"));
    assert_eq!(value("${ [saga.id, saga.name, string(saga.version), saga.key] }"), json!(["i-1", "checkout", "7", "k"]));
    assert_eq!(value("${ saga.version }"), json!(7));
    assert_eq!(value("${ steps['pay'].output.receipt }"), json!("r-1"));
    assert_eq!(value("${ input['odd-key'] }"), json!(7));
    assert_eq!(value("${ type(input.quantity) == int }"), json!(true));
}

#[test]
fn numbers_come_out_as_they_went_in() {
    for text in ["${ input.huge }", "${ [input.huge][0] }"] {
        assert_eq!(value(text).to_string(), u64::MAX.to_string());
    }
    for text in ["${ input.whole }", "${ [input.whole][0] }"] {
        assert_eq!(value(text).to_string(), "2.0");
    }
    for text in ["${ input.quantity }", "${ [input.quantity][0] }"] {
        assert_eq!(value(text).to_string(), "3");
    }
}

#[test]
fn text_around_an_expression_makes_text() {
    assert_eq!(value("order ${ input.id }: ${ input.quantity } x ${input.price}"), json!("order o-1: 3 x 9.5"));
    assert_eq!(value(" ${ input.quantity }"), json!(" 3"));
    assert_eq!(value("${ input.nothing }!"), json!("null!"));
    assert_eq!(value("list ${ [1, 'a'] }"), json!("list [1,\"a\"]"));
    assert_eq!(value("$${ input.id } costs $5"), json!("${ input.id } costs $5"));
    assert_eq!(value(""), json!(""));
}

#[test]
fn trees_are_rendered_leaf_by_leaf_and_keep_their_order() {
    let template = json!({"z": "${ input.id }", "list": [1, "${ input.quantity }", null], "a": {"deep": "x ${ 1 + 1 }"}, "t": true});
    let rendered = render(&template).expect("renders");
    assert_eq!(rendered.to_string(), r#"{"z":"o-1","list":[1,3,null],"a":{"deep":"x 2"},"t":true}"#);
}

#[test]
fn maps_that_were_computed_are_sorted_so_that_every_evaluation_gives_the_same_bytes() {
    for _ in 0..20 {
        assert_eq!(value("${ {'c': 1, 'a': 2, 'b': {'y': 1, 'x': 2}} }").to_string(), r#"{"a":2,"b":{"x":2,"y":1},"c":1}"#);
    }
}

#[test]
fn absent_fields_are_errors_unless_they_are_asked_for() {
    for text in ["${ input.coupon }", "${ input.coupon + 'x' }", "${ steps.ship.output }", "${ [steps.ship.output] }", "${ input.id.x }"] {
        assert!(render(&json!(text)).is_err(), "{text}");
    }
    assert_eq!(value("${ has(input.coupon) ? input.coupon : 'none' }"), json!("none"));
    assert_eq!(value("${ input.?coupon.orValue('none') }"), json!("none"));
    assert_eq!(value("${ has(steps.ship.output) ? 1 : 2 }"), json!(2));
    assert_eq!(value("${ has(steps.pay.output) ? 1 : 2 }"), json!(1));
    assert_eq!(value("${ optional.of(input.id).orValue('x') }"), json!("o-1"));
}

#[test]
fn errors_name_the_expression_and_never_panic() {
    for text in [
        "${ 1 / 0 }",
        "${ 9223372036854775807 + 1 }",
        "${ input.quantity + input.price }",
        "${ b'x' }",
        "${ 0.0 / 0.0 }",
        "${ input.items[9] }",
    ] {
        let error = render(&json!(text)).expect_err(text);
        assert!(error.starts_with("`${ "), "{text}: {error}");
    }
}

#[test]
fn what_is_no_expression_is_refused_with_its_place() {
    assert_eq!(refused("${ input.a + }").offset, 12);
    assert_eq!(refused("x ${ input.a ] }").offset, 13);
    assert_eq!(refused("é ${ 'é' ] }").offset, 11, "in bytes");
    assert_eq!(refused("ab ${ ").offset, 3);
    assert_eq!(refused("${ shout(input.a) }").message, "there is no function `shout`");
    assert_eq!(refused("${}").message, "the expression is empty");
    let two = Template::compile(&json!(["${ + }", {"a": "${ ] } ${ ) }"}])).expect_err("three faults");
    assert_eq!(two.len(), 3, "all are found: {two:?}");
}

#[test]
fn bounds_hold_before_anything_can_grow() {
    assert!(refused(&format!("${{ {} }}", "a".repeat(3_000))).message.contains("bytes"));
    let deep = format!("${{ {}1{} }}", "(".repeat(900), ")".repeat(900));
    assert!(refused(&deep).message.contains("deep"), "{}", refused(&deep));
    let long = format!("${{ {}1 }}", "1+".repeat(900));
    assert!(refused(&long).message.contains("deep"), "{}", refused(&long));
    let path = format!("${{ input{} }}", ".a".repeat(900));
    assert!(refused(&path).message.contains("deep"), "{}", refused(&path));
    assert!(refused("${ [1].map(a, [1].map(b, [1].map(c, 1))) }").message.contains("loops"));
    let input = json!({"big": "x".repeat(100_000), "list": vec![0; 1_000]}).into();
    let template = Template::text("${ input.list.map(x, input.big) }").expect("compiles");
    let error = template.render(&Scope { input: &input, outputs: &(), failure: None, saga: None }).expect_err("100 MB");
    assert!(error.to_string().contains("bytes"), "{error}");
}

#[test]
fn references_are_found_without_the_names_that_loops_bind() {
    let template =
        Template::text("a ${ input.a.b } ${ input.l.map(x, x + steps.pay.output.y) } ${ has(failure.code) } ${ steps[input.k].output }");
    let template = template.expect("compiles");
    let found: Vec<_> = template.references().into_iter().map(|r| (r.root.as_str(), r.path.join("."), r.optional, r.offset)).collect();
    let expected = [
        ("input", "a.b", false, 5),
        ("input", "l", false, 20),
        ("steps", "pay.output.y", false, 39),
        ("failure", "code", true, 68),
        ("steps", "", false, 87),
        ("input", "k", false, 93),
    ];
    assert_eq!(found, expected.map(|(root, path, optional, offset)| (root, path.to_owned(), optional, offset)));
}

#[test]
fn places_are_in_bytes_behind_text_that_is_no_ascii() {
    let template = Template::text("ü ${ 'é' + input.a }").expect("compiles");
    assert_eq!(template.references()[0].offset, 13);
    assert_eq!(refused("ü ${ 'é' + shout(1) }").offset, 13);
}

#[test]
fn a_scope_and_a_template_can_be_used_from_any_thread() {
    fn shared<T: Send + Sync>() {}
    shared::<Template>();
    let nothing: &dyn Outputs = &();
    assert!(nothing.output(&"pay".parse().expect("legal")).is_none());
}

//! What expressions give, and what they refuse.

use super::{CompileError, Outputs, SagaScope, Scope, Template, metered_until};
use sagamq_api::saga::Failure;
use sagamq_api::{JsonText, SagaName, StepId};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

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
    let scope = Scope { input: &input, outputs: &outputs, failure: Some(&failure), saga: Some(saga), item: None };
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
    let error = template.render(&Scope { input: &input, outputs: &(), failure: None, saga: None, item: None }).expect_err("100 MB");
    assert!(error.to_string().contains("the expressions of a decision"), "{error}");
}

/// Renders one expression over this input, as text.
fn over(input: &str, expression: &str) -> Result<String, String> {
    let input = JsonText::parse(input.as_bytes()).expect("JSON");
    let template = Template::text(&format!("${{ {expression} }}")).expect("compiles");
    let scope = Scope { input: &input, outputs: &(), failure: None, saga: None, item: None };
    template.render(&scope).map(|json| json.as_str().to_owned()).map_err(|error| error.to_string())
}

#[test]
fn what_cannot_be_held_exactly_is_copied_and_never_computed_with() {
    let input = r#"{"big":100000000000000000001,"n":1,"price":19.99,"long":12345678901234567890.50,"l":[1E400,2],"half":"\ud800",
        "twice":{"a":1,"b":2,"a":3},"o":{"t":{"x":1,"x":1}},"yes":true}"#;
    assert_eq!(over(input, "input.big"), Ok("100000000000000000001".to_owned()));
    assert_eq!(over(input, "input.o.t"), Ok(r#"{"x":1,"x":1}"#.to_owned()));
    assert_eq!(over(input, "[input.big, input.long, input.half, input.o, input.n + 1]"), {
        Ok(r#"[100000000000000000001,12345678901234567890.50,"\ud800",{"t":{"x":1,"x":1}},2]"#.to_owned())
    });
    assert_eq!(over(input, "input.l.map(x, x)"), Ok("[1E400,2]".to_owned()));
    assert_eq!(over(input, "input.yes ? input.big : input.n"), Ok("100000000000000000001".to_owned()));
    assert_eq!(over(input, "size(input.l)"), Ok("2".to_owned()));
    assert_eq!(over(input, "has(input.big) ? input.price * 2.0 : 0.0"), Ok("39.98".to_owned()));
    for computed in [
        "input.big + 1",
        "1 + input.big",
        "input.long * 2.0",
        "input.big == input.big",
        "1 == input.big",
        "input.n != input.big",
        "input.big > 1",
        "1 < input.big",
        "-input.big",
        "input.big in [1]",
        "1 in input.l",
        "input.l == [1, 2]",
        "string(input.big)",
        "double(input.big)",
        "int(input.long)",
        "type(input.big) == int",
        "input.half + 'x'",
        "input.half.size()",
        "input.twice.b",
        "input.twice.b + 1",
        "has(input.twice.b)",
        "input.twice.?b.orValue(1)",
        "input.twice[?'b'].orValue(1)",
        "size(input.twice)",
        "input.o.t.x",
        "input.twice.map(k, k)",
        "{input.big: 1}",
        "[1, 2][?input.big].orValue(1)",
        "input.l.filter(x, x > 1)",
    ] {
        let error = over(input, computed).expect_err(computed);
        assert!(error.starts_with("`${ "), "{computed}: {error}");
    }
    assert!(over(input, "input.big == 1").expect_err("inexact").contains("only copied: 100000000000000000001"));
}

#[test]
fn a_loop_over_a_map_takes_the_same_way_every_time() {
    for _ in 0..20 {
        assert_eq!(over(r#"{"o":{"c":1,"a":2,"b":3,"d":4}}"#, "input.o.map(k, k)"), Ok(r#"["a","b","c","d"]"#.to_owned()));
    }
}

#[test]
fn no_expression_takes_more_than_its_budget() {
    let numbers = |n: u32| format!("{{\"l\":{:?},\"s\":\"{}\"}}", (0..n).collect::<Vec<_>>(), "x".repeat(100_000));
    // The lists are as long as the figures say, the loops as many as are allowed.
    for (n, long) in [
        (5_000, "input.l.all(x, input.l.exists(y, y == x))"),
        (7_000, "input.l.map(x, input.l.map(y, y)).size()"),
        (5_000, "input.l.all(x, input.l.exists(y, y < 0) || true)"),
        (5_000, "input.l.exists(x, input.l.exists(y, y / 0 == 1))"),
        (5_000, "input.l.exists_one(x, input.l.exists_one(y, y == 1))"),
        (5_000, "input.l.map(x, input.l.filter(y, true))"),
        (5_000, "input.l.map(x, input.s)"),
        (5_000, "input.l.map(x, {'a': [input.s]}).size()"),
        (5_000, "input.l.exists(x, input.s.matches('a{1000}'))"),
        (5_000, "input.l.all(x, input.s.contains('y' + string(x)) || true)"),
        (5_000, "input.l.all(x, input.l + input.l == input.l || true)"),
        (
            1,
            "[input.s + input.s + input.s].map(x, x + x).map(x, x + x).map(x, x + x).map(x, x + x).map(x, x + x).map(x, x + x).map(x, x + x)",
        ),
        (1, "[[input.s, input.s, input.s, input.s]].map(x, [x, x, x, x]).map(x, [x, x, x, x]).map(x, [x, x, x, x]).map(x, [x, x, x, x])"),
    ] {
        let error = over(&numbers(n), long).expect_err(long);
        assert!(error.contains("the expressions of a decision") || error.contains("bytes"), "{long}: {error}");
    }
    // Loops as they are meant, over hundreds of items, are far from it.
    let items = format!(r#"{{"l":[{}]}}"#, vec![r#"{"sku":"abc","n":2,"price":19.99}"#; 500].join(","));
    for short in [
        "input.l.map(i, i.price * double(i.n)).size()",
        "input.l.filter(i, i.sku.startsWith('a')).map(i, {'sku': i.sku, 'n': i.n + 1}).size()",
        "input.l.all(i, i.n > 1) ? 1 : 0",
        "input.l.map(i, i.sku.matches('^[a-z]+$')).size()",
    ] {
        assert!(over(&items, short).is_ok(), "{short}: {:?}", over(&items, short));
    }
}

#[test]
fn only_what_an_expression_looks_at_is_read() {
    let huge = format!(r#"{{"n":1,"o":{{"m":2,"rest":[{}]}},"rest":[{}]}}"#, vec!["{}"; 10_000].join(","), vec!["[]"; 700_000].join(","));
    assert_eq!(over(&huge, "input.n + input.o.m"), Ok("3".to_owned()));
    assert_eq!(over(&huge, "has(input.o.x) ? 1 : 2"), Ok("2".to_owned()));
    assert!(over(&huge, "size(input.rest)").expect_err("too much").contains("the expressions of a decision"));
}

#[test]
fn a_decision_that_is_stopped_ends() {
    let stop = Arc::new(AtomicBool::new(true));
    let stopped = metered_until(Some(stop), || over(r#"{"l":[1,2]}"#, "input.l.map(x, x + 1)"));
    assert!(stopped.expect_err("its time is over").contains("longer than"));
    assert!(over(r#"{"l":[1,2]}"#, "input.l.map(x, x + 1)").is_ok(), "the next one has its own time");
}

#[test]
fn the_budget_is_that_of_all_expressions_of_a_decision() {
    let list = format!(r#"{{"l":{:?}}}"#, (0..400).collect::<Vec<_>>());
    let once = || over(&list, "input.l.all(x, input.l.exists(y, y == x)) ? 1 : 0");
    assert_eq!(once(), Ok("1".to_owned()));
    let all = metered_until(None, || (0..20).map(|_| once()).collect::<Result<Vec<_>, _>>());
    assert!(all.expect_err("twenty are too many").contains("steps"));
}

#[test]
fn the_deepest_expression_fits_a_stack() {
    let mut deepest = "input.n".to_owned();
    while Template::text(&format!("${{ [{deepest}][0] }}")).is_ok() {
        deepest = format!("[{deepest}][0]");
    }
    let evaluate = move || over(r#"{"n":7}"#, &deepest);
    // An optimised build needs less than a quarter of a MiB for it; one that is not optimised needs several.
    let evaluated = std::thread::Builder::new().stack_size(16 * 1024 * 1024).spawn(evaluate).expect("a thread").join();
    assert_eq!(evaluated.expect("no overflow"), Ok("7".to_owned()));
}

/// A map is gone through in another order each time; what is said of it is the same.
#[test]
fn of_several_numbers_that_cannot_be_computed_with_the_first_one_is_told_each_time() {
    let input = r#"{"m":{"e":1e400,"c":18446744073709551617,"a":18446744073709551616,"d":2e400,"b":3e400}}"#;
    for _ in 0..50 {
        let error = over(input, "input.m == input.m").expect_err("none of them can be held");
        assert!(error.ends_with(": 18446744073709551616"), "{error}");
    }
}

#[test]
fn an_error_tells_kinds_and_numbers_and_never_a_text_or_the_order_of_a_map() {
    let input = r#"{"n":1,"m":{"id":7,"name":"secret","list":[1,2]},"l":["secret",2,3],"t":"secret","max":9223372036854775807}"#;
    let told = [
        ("input.n + input.m", "a map cannot be added to something"),
        ("input.m - input.l", ""),
        ("input.l + input.m", "a map cannot be added to something"),
        ("input.t * input.m", ""),
        ("{input.t: 1} + {'b': 2}", "a map cannot be added to something"),
        ("input.n + input.l", "`+` cannot be applied to 1 and a list of 3"),
        ("input.n < input.m", ""),
        ("input.m < input.t", ""),
        ("{input.m: 1}", "a map of 3 cannot be a key"),
        ("input.l[input.m]", ""),
        ("input.m[input.l]", ""),
        ("-input.m", ""),
        ("!input.m", ""),
        ("input.m ? 1 : 2", ""),
        ("input.m.startsWith(input.m)", ""),
        ("input.n in input.t", ""),
        ("int(input.m)", ""),
        ("input.l[7]", "the list has no item 7"),
        ("input.n / 0", "1 is divided by zero"),
        ("input.n % 0", "the remainder of 1 by zero"),
        ("input.max + input.n", "`+` of 9223372036854775807 and 1 overflows"),
        ("{'a': 1, 'a': 2}", "a key is there twice in a map: a text"),
    ];
    for (expression, expected) in told {
        let errors: Vec<String> = (0..20).map(|_| over(input, expression).expect_err(expression)).collect();
        assert!(errors.iter().all(|error| error == &errors[0]), "{expression}: {errors:?}");
        assert!(errors[0].contains(expected), "{expression}: {}", errors[0]);
        assert!(!errors[0].contains("secret") && !errors[0].contains("Map(") && !errors[0].contains("Int("), "{expression}: {}", errors[0]);
    }
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

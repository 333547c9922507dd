//! Reads the grammar: from a tree of anything to a draft, with a fault for all that is not as it should be.

use super::draft::{CallName, Compensate, Compensation, Defaults, Draft, Retry, Service, Step, Values};
use super::fields::{Fields, entries};
use super::given::Given;
use super::node::{Node, Value};
use super::report::Report;
use super::rule::Rule;
use super::span::At;
use super::{asleep, each, emit, invariants, lock, scalar, schema, sub_saga, values};
use crate::definition::{HttpTarget, Target};
use sagamq_api::limits::SAGA_STEPS_MAX;
use sagamq_api::saga::{Mode, REPLY_TOPIC};
use sagamq_api::{StepId, TopicName};

/// Most attempts of a call.
const ATTEMPTS_MAX: u32 = 10_000;

/// Largest factor of a backoff.
const FACTOR_MAX: f64 = 100.0;

/// The whole definition.
pub(crate) fn definition(node: &Node, report: &mut Report<'_>) -> Option<Draft> {
    let mut fields = Fields::open(node, "a saga", report)?;
    let name = fields.require("saga", "give the saga a name: `saga: order-fulfilment`", report);
    let name = name.and_then(|node| scalar::name(node, "the saga's name", report));
    let version = fields.require("version", "give it a version: `version: 1`", report);
    let version = version.and_then(|node| scalar::integer(node, "the version", 1, u32::MAX, report));
    let mode = fields.take("mode").map_or(Some(Mode::Saga), |node| mode(node, report));
    let input = fields.take("input").and_then(|node| schema::read(node, report));
    let key = fields.require("key", "name the business key: `key: ${ input.order_id }`", report);
    let key = key.and_then(|node| key_of(node, report));
    let timeout = fields.take("timeout").and_then(|node| scalar::duration(node, "the timeout", report));
    let defaults = fields.take("defaults").and_then(|node| defaults(node, report)).unwrap_or_default();
    let services = fields.require("services", "declare who is called: `services: { payments: { topic: payments.commands } }`", report);
    let services = services.map(|node| services_of(node, report)).unwrap_or_default();
    let steps = fields.require("steps", "a saga has at least one step", report);
    let steps = steps.map(|node| steps_of(node, report)).unwrap_or_default();
    let output = fields.take("output").and_then(|node| values::read(node, report));
    let verify = fields.take("verify").map(|node| invariants::read(node, report)).unwrap_or_default();
    fields.refuse("on_compensated", "watch the state of the instance instead", report);
    fields.finish(report);
    Some(Draft { name: name.map(|name| name.value), version, mode, input, key, timeout, defaults, services, steps, output, verify })
}

fn mode(node: &Node, report: &mut Report<'_>) -> Option<Mode> {
    let text = scalar::text(node, "the mode", report)?;
    let mode = text.value.parse().ok();
    if mode.is_none() {
        let message = format!("`{}` is no mode", text.value);
        report.add_with_help(Rule::WrongType, text.span, message, "write `saga`, or `2pc` for two-phase commit");
    }
    mode
}

fn key_of(node: &Node, report: &mut Report<'_>) -> Option<Values> {
    scalar::text(node, "the key", report)?;
    let key = values::read(node, report)?;
    if key.references.is_empty() {
        report.add_with_help(
            Rule::ConstantKey,
            node.span,
            "the key is the same for every input: only one instance could ever be started",
            "name what makes an instance unique: `key: ${ input.order_id }`",
        );
    }
    Some(key)
}

fn defaults(node: &Node, report: &mut Report<'_>) -> Option<Defaults> {
    let mut fields = Fields::open(node, "`defaults`", report)?;
    let retry = fields.take("retry").map(|node| retry(node, report)).unwrap_or_default();
    let compensate_retry = fields.take("compensate_retry").map(|node| self::retry(node, report)).unwrap_or_default();
    let timeout = fields.take("timeout").and_then(|node| scalar::duration(node, "the timeout", report));
    fields.finish(report);
    Some(Defaults { retry, compensate_retry, timeout })
}

fn services_of(node: &Node, report: &mut Report<'_>) -> Vec<Service> {
    let Value::Map(map) = &node.value else {
        let message = format!("`services` is a mapping of names to participants, but this is {}", node.kind());
        report.add_with_help(Rule::WrongType, node.span, message, "write `payments: { topic: payments.commands }`");
        return Vec::new();
    };
    let mut services = Vec::new();
    for (name, node) in entries(map, report) {
        if !is_word(name.value) {
            let message = format!("`{}` is no name of a service", name.value);
            report.add_with_help(Rule::BadName, name.span, message, "a name holds letters, digits, `_` and `-`, and begins with a letter");
        }
        let target = service(&name, node, report);
        services.push(Service { name: At::new(name.value.to_owned(), name.span), target });
    }
    services
}

fn service(name: &At<&str>, node: &Node, report: &mut Report<'_>) -> Option<At<Target>> {
    let mut fields = Fields::open(node, "a service", report)?;
    let topic = fields.take("topic");
    let http = fields.take("http");
    for planned in ["circuit_breaker", "rate_limit"] {
        fields.refuse(
            planned,
            "it is set for all definitions at once: `sagamq service set NAME URL --break-after 5 --calls-per-second 50`",
            report,
        );
    }
    for elsewhere in ["headers", "tls", "definitions"] {
        fields.refuse(
            elsewhere,
            "what a service is shown, and who may call it, is set by an operator: `sagamq service set NAME URL --header 'authorization: Bearer \
             ${secret:TOKEN}'`",
            report,
        );
    }
    fields.finish(report);
    match (topic, http) {
        (Some(node), None) => topic_of(node, report).map(|topic| At::new(Target::Topic(topic), node.span)),
        (None, Some(node)) => {
            let base = scalar::url(node, "the URL", report)?;
            let target = HttpTarget::Service { name: name.value.to_owned(), default: Some(base) };
            Some(At::new(Target::Http(target), node.span))
        }
        // Where it is, is said elsewhere, and may change.
        (None, None) => Some(At::new(Target::Http(HttpTarget::Service { name: name.value.to_owned(), default: None }), name.span)),
        (Some(_), Some(_)) => {
            let message = format!("the service `{}` has both a topic and a URL", name.value);
            report.add_with_help(
                Rule::BadService,
                name.span,
                message,
                "write `{ topic: payments.commands }` or `{ http: \"http://payments:8080\" }`",
            );
            None
        }
    }
}

fn topic_of(node: &Node, report: &mut Report<'_>) -> Option<TopicName> {
    let topic: At<TopicName> = scalar::name(node, "the topic", report)?;
    if topic.value.as_str() == REPLY_TOPIC {
        report.add(Rule::BadService, topic.span, format!("`{REPLY_TOPIC}` takes the replies and cannot take commands"));
        return None;
    }
    Some(topic.value)
}

fn steps_of(node: &Node, report: &mut Report<'_>) -> Vec<Step> {
    let Value::List(items) = &node.value else {
        let message = format!("`steps` is a list, but this is {}", node.kind());
        report.add_with_help(Rule::WrongType, node.span, message, "begin each step with a dash: `- id: pay`");
        return Vec::new();
    };
    if items.is_empty() {
        report.add(Rule::MissingField, node.span, "a saga has at least one step");
    }
    if let Some(first) = items.get(SAGA_STEPS_MAX) {
        report.add(Rule::TooManySteps, first.span, format!("the saga has {} steps, at most {SAGA_STEPS_MAX} are allowed", items.len()));
    }
    items.iter().take(SAGA_STEPS_MAX).filter_map(|item| step(item, report)).collect()
}

/// Keywords of steps that are planned, and what to do until then.
const PLANNED: [(&str, &str); 1] = [("wait_reply", "use `timeout`: a participant that works on keeps the attempt open until then")];

fn step(node: &Node, report: &mut Report<'_>) -> Option<Step> {
    let mut fields = Fields::open(node, "a step", report)?;
    let id = fields.require("id", "give the step a name: `id: pay`", report);
    let span = id.map_or(fields.span(), |id| id.span);
    let id: Option<At<StepId>> = id.and_then(|node| scalar::name(node, "the id", report));
    for (keyword, help) in PLANNED {
        fields.refuse(keyword, help, report);
    }
    let idle = asleep::idle(&mut fields, report);
    let saga = sub_saga::sub_saga(&mut fields, report);
    let call = if idle.is_some() || saga.is_some() {
        fields.take("call")
    } else {
        fields.require(
            "call",
            "name the service and its operation: `call: payments.authorize`, or write `sleep: 15m`, `wait_for: reviewed` or `saga: shipping`",
            report,
        )
    };
    let call = call.and_then(|node| call_name(node, report));
    let with = fields.take("with");
    let given = with.filter(|_| saga.is_some()).map(Given::of);
    let with = with.and_then(|node| arguments(node, report));
    let after = fields.take("after").and_then(|node| after(node, report));
    let timeout = fields.take("timeout").and_then(|node| scalar::duration(node, "the timeout", report));
    let queue_timeout = fields.take("queue_timeout").and_then(|node| scalar::duration(node, "the time in the queue", report));
    let retry = fields.take_entry("retry");
    let (retry_span, retry) = (retry.map(|(key, _)| key), retry.map(|(_, node)| self::retry(node, report)).unwrap_or_default());
    let compensate = fields.take("compensate").map_or(Compensate::Unsaid, |node| compensate(node, report));
    let pivot = fields.take_entry("pivot").and_then(|(key, node)| scalar::boolean(node, "`pivot`", report)?.then_some(key));
    let when = fields.take("when").and_then(|node| condition(node, report));
    let each = each::read(&mut fields, report);
    let emit = fields.take("emit").and_then(|node| emit::read(node, report));
    let lock = fields.take("lock").and_then(|node| lock::read(node, report));
    let optional = fields.take_entry("optional").and_then(|(key, node)| scalar::boolean(node, "`optional`", report)?.then_some(key));
    fields.finish(report);
    Some(Step {
        span,
        id: id.map(|id| id.value),
        call,
        idle,
        saga,
        with,
        given,
        after,
        timeout,
        queue_timeout,
        retry,
        retry_span,
        compensate,
        pivot,
        when,
        each,
        optional,
        emit,
        lock,
    })
}

/// What decides whether a step is done.
fn condition(node: &Node, report: &mut Report<'_>) -> Option<At<Values>> {
    const HELP: &str = "write one expression that is true or false: `when: ${ input.express }`";
    if node.text().is_none() {
        report.add_with_help(Rule::WrongType, node.span, format!("`when` is an expression, but this is {}", node.kind()), HELP);
        return None;
    }
    let values = values::read(node, report)?;
    if !values.template.is_expression() || values.template.is_never_bool() {
        report.add_with_help(Rule::BadCondition, node.span, "`when` is never true or false", HELP);
        return None;
    }
    if values.references.is_empty() {
        let help = "name what it depends on: `when: ${ input.express }`; a step that is always done needs no `when`";
        report.add_with_help(Rule::ConstantCondition, node.span, "the condition is the same for every instance", help);
    }
    Some(At::new(values, node.span))
}

fn arguments(node: &Node, report: &mut Report<'_>) -> Option<Values> {
    let is_expression = node.text().is_some_and(|text| text.value.trim_start().starts_with("${"));
    if !is_expression && !matches!(node.value, Value::Map(_)) {
        let message = format!("`with` is a mapping of arguments or one expression, but this is {}", node.kind());
        report.add_with_help(Rule::WrongType, node.span, message, "write `with: { order_id: \"${ input.order_id }\" }`");
        return None;
    }
    values::read(node, report)
}

fn after(node: &Node, report: &mut Report<'_>) -> Option<Vec<At<String>>> {
    let Value::List(items) = &node.value else {
        let help = node.text().map_or("write `after: [pay]`".to_owned(), |text| format!("write `after: [{}]`", text.value));
        report.add_with_help(Rule::WrongType, node.span, format!("`after` is a list of steps, but this is {}", node.kind()), help);
        return None;
    };
    let ids = items.iter().filter_map(|item| scalar::text(item, "an id in `after`", report));
    Some(ids.map(|id| At::new(id.value.to_owned(), id.span)).collect())
}

fn compensate(node: &Node, report: &mut Report<'_>) -> Compensate {
    match &node.value {
        Value::Text(text) if text == "none" => Compensate::Nothing,
        Value::Text(_) => {
            let call = call_name(node, report);
            let span = node.span;
            Compensate::Call(Box::new(Compensation { span, call, with: None, timeout: None, retry: Retry::default(), emit: None }))
        }
        Value::Map(_) => {
            let Some(mut fields) = Fields::open(node, "`compensate`", report) else { return Compensate::Nothing };
            let call = fields.require("call", "name the service and its operation: `call: payments.void`", report);
            let call = call.and_then(|node| call_name(node, report));
            let with = fields.take("with").and_then(|node| arguments(node, report));
            let timeout = fields.take("timeout").and_then(|node| scalar::duration(node, "the timeout", report));
            let retry = fields.take("retry").map(|node| retry(node, report)).unwrap_or_default();
            let emit = fields.take("emit").and_then(|node| emit::read(node, report));
            let span = fields.span();
            fields.finish(report);
            Compensate::Call(Box::new(Compensation { span, call, with, timeout, retry, emit }))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::List(_) => {
            let message = format!("`compensate` is a call, but this is {}", node.kind());
            report.add_with_help(Rule::WrongType, node.span, message, "write `service.operation`, `{ call: ..., with: ... }` or `none`");
            // It says something, so that it is not reported as missing as well.
            Compensate::Nothing
        }
    }
}

fn call_name(node: &Node, report: &mut Report<'_>) -> Option<CallName> {
    let text = scalar::text(node, "a call", report)?;
    match text.value.split_once('.') {
        Some((service, operation)) if is_word(service) && is_word(operation) => {
            Some(CallName { service: At::new(service.to_owned(), text.span), operation: operation.to_owned() })
        }
        _ => {
            let message = format!("`{}` is no call", text.value);
            report.add_with_help(Rule::BadCall, text.span, message, "write the service and its operation: `payments.authorize`");
            None
        }
    }
}

fn retry(node: &Node, report: &mut Report<'_>) -> Retry {
    let Some(mut fields) = Fields::open(node, "a retry policy", report) else { return Retry::default() };
    let initial = fields.take("initial").and_then(|node| scalar::duration(node, "the first backoff", report));
    let factor = fields.take("factor").and_then(|node| scalar::number(node, "the factor", 1.0, FACTOR_MAX, report));
    let max = fields.take("max").and_then(|node| scalar::duration(node, "the longest backoff", report));
    let attempts = fields.take("attempts").and_then(|node| attempts(node, report));
    let never_on = fields.take("never_on").and_then(|node| codes(node, report));
    fields.refuse("jitter", "the jitter is always full: leave it out", report);
    fields.refuse("then", "what happens after the last attempt is fixed: leave it out", report);
    fields.finish(report);
    Retry { initial, factor, max, attempts, never_on }
}

fn attempts(node: &Node, report: &mut Report<'_>) -> Option<At<u32>> {
    let unlimited = match &node.value {
        Value::Text(text) => matches!(text.to_ascii_lowercase().as_str(), "unlimited" | "infinite" | "forever" | "unbounded"),
        Value::Number(number) => number.value() == f64::INFINITY || number.integer() == Some(-1),
        Value::Null | Value::Bool(_) | Value::List(_) | Value::Map(_) => false,
    };
    if unlimited {
        let help = "give a number; after them the saga is compensated, or waits for an operator";
        report.add_with_help(Rule::UnlimitedRetry, node.span, "a retry must end", help);
        return None;
    }
    scalar::integer(node, "the number of attempts", 1, ATTEMPTS_MAX, report).map(|attempts| At::new(attempts, node.span))
}

fn codes(node: &Node, report: &mut Report<'_>) -> Option<At<Vec<String>>> {
    let Value::List(items) = &node.value else {
        report.add_with_help(
            Rule::WrongType,
            node.span,
            format!("`never_on` is a list of codes, but this is {}", node.kind()),
            "write `[OUT_OF_STOCK]`",
        );
        return None;
    };
    let codes = items.iter().filter_map(|item| scalar::text(item, "a failure code", report)).map(|code| code.value.to_owned()).collect();
    Some(At::new(codes, node.span))
}

fn is_word(text: &str) -> bool {
    text.len() <= sagamq_api::limits::NAME_BYTES_MAX
        && text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
}

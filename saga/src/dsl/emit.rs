//! Reads `emit`: what a step tells others, and where.

use super::draft::{Emit, Values};
use super::fields::{Fields, entries};
use super::node::{Node, Value};
use super::report::Report;
use super::rule::Rule;
use super::span::At;
use super::{scalar, values};
use sagamq_api::TopicName;
use sagamq_api::saga::{EVENT_TOPIC, REPLY_TOPIC};

/// Most headers of a record that is told, beside those it has anyway.
const HEADERS_MAX: usize = 32;

/// What the record has anyway; a header of the definition would be lost.
const OWN_PREFIX: &str = "saga-";

/// The record of a step.
pub(super) fn read(node: &Node, report: &mut Report<'_>) -> Option<Emit> {
    let mut fields = Fields::open(node, "`emit`", report)?;
    let topic = fields.require("topic", "name the topic: `topic: orders.events`", report).and_then(|node| topic_of(node, report));
    let key = fields.take("key").and_then(|node| text_of(node, "the key", report));
    let value = fields.require("value", "say what is told: `value: { order_id: \"${ input.order_id }\" }`", report);
    let value = value.and_then(|node| values::read(node, report));
    let headers = fields.take("headers").map(|node| headers_of(node, report)).unwrap_or_default();
    let span = fields.span();
    fields.finish(report);
    Some(Emit { span, topic, key, value, headers })
}

fn topic_of(node: &Node, report: &mut Report<'_>) -> Option<At<TopicName>> {
    let topic: At<TopicName> = scalar::name(node, "the topic", report)?;
    if [REPLY_TOPIC, EVENT_TOPIC].contains(&topic.value.as_str()) {
        report.add_with_help(
            Rule::BadEmit,
            topic.span,
            format!("`{}` belongs to the orchestrator", topic.value),
            "name a topic of your own",
        );
        return None;
    }
    Some(topic)
}

fn headers_of(node: &Node, report: &mut Report<'_>) -> Vec<(String, Values)> {
    let Value::Map(map) = &node.value else {
        report.add(Rule::WrongType, node.span, format!("`headers` is a mapping of names to texts, but this is {}", node.kind()));
        return Vec::new();
    };
    let fields = entries(map, report);
    if let Some((name, _)) = fields.get(HEADERS_MAX) {
        report.add(Rule::BadEmit, name.span, format!("a record that is told has at most {HEADERS_MAX} headers of its own"));
    }
    let header = |(name, node): (At<&str>, &Node)| {
        if name.value.starts_with(OWN_PREFIX) || name.value == sagamq_api::headers::saga::IDEMPOTENCY_KEY {
            let message = format!("the header `{}` is given to every such record", name.value);
            report.add_with_help(Rule::BadEmit, name.span, message, "name it otherwise");
        }
        Some((name.value.to_owned(), text_of(node, "a header", report)?))
    };
    fields.into_iter().filter_map(header).collect()
}

/// A text, with or without expressions.
fn text_of(node: &Node, what: &str, report: &mut Report<'_>) -> Option<Values> {
    scalar::text(node, what, report)?;
    values::read(node, report)
}

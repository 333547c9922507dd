//! Reads the text as YAML, within bounds, and goes on behind the commonest slip: an expression that had to be quoted.

use super::node::{Node, Raw};
use super::report::Report;
use super::rule::Rule;
use super::span::Span;
use crate::expression::expression_end;
use granit_parser::Parser;
use sagamq_api::limits::DEFINITION_BYTES_MAX;
use serde_saphyr::options::{DuplicateKeyPolicy, MergeKeyPolicy, NonFiniteFloatPolicy};
use serde_saphyr::{Error, Options, Spanned};

/// Deepest nesting. Reading and walking recurse that deep.
const DEPTH_MAX: usize = 32;

/// Most values of a text.
const NODES_MAX: usize = 100_000;

/// Most unquoted expressions that are reported in one run.
const RECOVERIES_MAX: usize = 20;

/// The help for an expression that YAML takes apart.
pub(crate) const QUOTE: &str = "quote this expression: '${ ... }'";

fn options() -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: DEPTH_MAX,
            max_nodes: NODES_MAX,
            max_events: 4 * NODES_MAX,
            max_aliases: 10_000,
            max_anchors: 1_000,
            enforce_alias_anchor_ratio: false,
            max_recorded_anchor_events: NODES_MAX,
            flow_nesting_limit: DEPTH_MAX,
        },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: NODES_MAX, max_replay_stack_depth: 16, },
        // A streamed map shows all its keys with this policy, so that every repeated one is reported.
        duplicate_keys: DuplicateKeyPolicy::LastWins,
        merge_keys: MergeKeyPolicy::AsOrdinary,
        strict_booleans: true,
        // Every tag is refused with its place, once the text is read.
        reject_unsupported_tags: false,
        non_finite_float_policy: NonFiniteFloatPolicy::PassThrough,
        with_snippet: false,
    }
}

/// The tree of the text; `None` when it has none, with the reason in the report.
pub(crate) fn read(report: &mut Report<'_>) -> Option<Node> {
    let source = report.source();
    if source.len() > DEFINITION_BYTES_MAX {
        let span = Span { offset: DEFINITION_BYTES_MAX, length: 0 };
        report.add(Rule::TooLarge, span, format!("the definition has {} bytes, at most {DEFINITION_BYTES_MAX} are allowed", source.len()));
        return None;
    }
    let mut text = source.to_owned();
    for _ in 0..RECOVERIES_MAX {
        let (span, error) = match parse(&text, report) {
            Ok(node) => {
                refuse_tags(&text, report);
                return Some(node);
            }
            Err(failed) => failed,
        };
        match quote_expression(&text, span, report) {
            Some((expression, mended)) => {
                let message = format!("YAML reads this expression as more than one value ({})", plain(&error));
                report.add_with_help(Rule::BadExpression, expression, message, QUOTE);
                text = mended;
            }
            None => {
                add_error(report, span, &error);
                return None;
            }
        }
    }
    None
}

fn parse(text: &str, report: &Report<'_>) -> Result<Node, (Span, Box<Error>)> {
    serde_saphyr::from_str_with_options::<Spanned<Raw>>(text, options()).map(|raw| Node::build(raw, text)).map_err(|error| {
        let offset = error.location().map_or(0, |location| {
            let number = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
            report.offset(number(location.line()), number(location.column()))
        });
        (Span { offset, length: 1 }, Box::new(error))
    })
}

/// A tag makes something else of a value than its text says: `!!binary` decodes it, `!!int` drops its zeros. A definition needs none.
fn refuse_tags(text: &str, report: &mut Report<'_>) {
    if !text.contains('!') {
        return;
    }
    // The text was read once, so its depth and size are within the bounds.
    for (_, span) in Parser::new_from_str(text).flatten() {
        if let Some(range) = span.tag_span().and_then(|tag| tag.byte_range()) {
            let message = format!("tags are not supported: `{}`", text.get(range.clone()).unwrap_or_default());
            let help = "leave it out; put the value into quotes if it is text";
            report.add_with_help(Rule::YamlSyntax, Span { offset: range.start, length: range.len() }, message, help);
        }
    }
}

fn add_error(report: &mut Report<'_>, span: Span, error: &Error) {
    let message = plain(error);
    // The parser reports its bounds through several kinds of errors, some of them nested; all say so in their text.
    if ["budget breached", "limit exceeded", "limit reached"].iter().any(|bound| message.contains(bound)) {
        let help = "a definition is small: nest less, and use fewer aliases";
        report.add_with_help(Rule::TooLarge, span, format!("the text passes a bound ({message})"), help);
    } else if matches!(error.without_snippet(), Error::MultipleDocuments { .. }) {
        report.add_with_help(Rule::YamlSyntax, span, "a second YAML document begins here", "put each saga into a file of its own");
    } else {
        report.add(Rule::YamlSyntax, span, message);
    }
}

/// The parser's message without the place, which a fault has already.
fn plain(error: &Error) -> String {
    let message = error.without_snippet().to_string();
    match message.find(" at line ") {
        Some(at) => message[..at].to_owned(),
        None => message,
    }
}

/// When the expressions in the faulty line are what YAML stumbles over: where the first of them stands, and the text with something
/// harmless of the same length in their place.
fn quote_expression(text: &str, fault: Span, report: &Report<'_>) -> Option<(Span, String)> {
    let start = text[..fault.offset].rfind('\n').map_or(0, |at| at + 1);
    let end = text[start..].find('\n').map_or(text.len(), |at| start + at);
    let mut mended = text.to_owned();
    let mut first = None;
    let mut at = start;
    while let Some(open) = text[at..end].find("${").map(|found| at + found) {
        let close = expression_end(&text[..end], open).unwrap_or(end);
        first.get_or_insert(Span { offset: open, length: close - open });
        mended.replace_range(open..close, &"x".repeat(close - open));
        at = close;
    }
    let first = first?;
    let still_there = parse(&mended, report).is_err_and(|(span, _)| (start..=end).contains(&span.offset));
    (!still_there).then_some((first, mended))
}

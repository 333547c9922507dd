//! Reads single values: names, durations, numbers, URLs. Each says what was wrong and what a right one looks like.

use super::node::{Node, Value};
use super::report::Report;
use super::rule::Rule;
use super::span::At;
use crate::duration::LONGEST;
use core::str::FromStr;
use core::time::Duration;
use sagamq_api::NameError;

/// Text.
pub(crate) fn text<'n>(node: &'n Node, what: &str, report: &mut Report<'_>) -> Option<At<&'n str>> {
    let text = node.text();
    if text.is_none() {
        let message = format!("{what} is text, but this is {}", node.kind());
        match &node.value {
            Value::Bool(_) | Value::Number(_) => {
                report.add_with_help(Rule::WrongType, node.span, message, "put it into quotes");
            }
            Value::Null | Value::Text(_) | Value::List(_) | Value::Map(_) => report.add(Rule::WrongType, node.span, message),
        }
    }
    text
}

/// A name with a rule of its own.
pub(crate) fn name<T: FromStr<Err = NameError>>(node: &Node, what: &str, report: &mut Report<'_>) -> Option<At<T>> {
    let text = text(node, what, report)?;
    match text.value.parse() {
        Ok(name) => Some(At::new(name, text.span)),
        Err(error) => {
            report.add(Rule::BadName, text.span, error.to_string());
            None
        }
    }
}

/// A boolean.
pub(crate) fn boolean(node: &Node, what: &str, report: &mut Report<'_>) -> Option<bool> {
    if let Value::Bool(b) = node.value {
        return Some(b);
    }
    report.add(Rule::WrongType, node.span, format!("{what} is `true` or `false`, but this is {}", node.kind()));
    None
}

/// A whole number within bounds.
pub(crate) fn integer(node: &Node, what: &str, min: u32, max: u32, report: &mut Report<'_>) -> Option<u32> {
    let range = if max == u32::MAX { format!("at least {min}") } else { format!("{min} to {max}") };
    match &node.value {
        Value::Number(number) if number.is_whole() => match number.integer().and_then(|number| u32::try_from(number).ok()) {
            Some(number) if (min..=max).contains(&number) => return Some(number),
            _ => report.add(Rule::BadNumber, node.span, format!("{what} is {range}, but this is {number}")),
        },
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::List(_) | Value::Map(_) => {
            report.add(Rule::WrongType, node.span, format!("{what} is a whole number, {range}, but this is {}", node.kind()));
        }
    }
    None
}

/// A number within bounds.
pub(crate) fn number(node: &Node, what: &str, min: f64, max: f64, report: &mut Report<'_>) -> Option<f64> {
    const HELP: &str = "write it as `2` or `1.5`";
    let number = match &node.value {
        Value::Number(number) if number.is_json() => number.value(),
        Value::Number(number) => {
            report.add_with_help(Rule::BadNumber, node.span, format!("{what} `{number}` is not written as JSON writes a number"), HELP);
            return None;
        }
        Value::Null | Value::Bool(_) | Value::Text(_) | Value::List(_) | Value::Map(_) => {
            report.add(Rule::WrongType, node.span, format!("{what} is a number, but this is {}", node.kind()));
            return None;
        }
    };
    if (min..=max).contains(&number) {
        return Some(number);
    }
    report.add(Rule::BadNumber, node.span, format!("{what} is {min} to {max}"));
    None
}

/// A duration: `200ms`, `15m`, `1h30m`, `7d`, or ISO 8601 (`PT15M`). A day has 24 hours.
pub(crate) fn duration(node: &Node, what: &str, report: &mut Report<'_>) -> Option<At<Duration>> {
    const HELP: &str = "write `200ms`, `15m`, `1h30m`, or `PT15M`";
    let Value::Text(text) = &node.value else {
        let help = match &node.value {
            Value::Number(number) if number.is_whole() => format!("add the unit: `{number}s`, `{number}ms`"),
            _ => HELP.to_owned(),
        };
        report.add_with_help(Rule::WrongType, node.span, format!("{what} is a duration, but this is {}", node.kind()), help);
        return None;
    };
    match parse_duration(text) {
        Ok(duration) => Some(At::new(duration, node.span)),
        Err(reason) => {
            report.add_with_help(Rule::BadDuration, node.span, format!("{what} `{text}` {reason}"), HELP);
            None
        }
    }
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    let duration = crate::duration::parse(text).map_err(|error| error.to_string())?;
    if duration < Duration::from_millis(1) {
        return Err("is shorter than 1ms".to_owned());
    }
    if duration > LONGEST {
        return Err("is longer than 365 days".to_owned());
    }
    Ok(duration)
}

/// The base URL of a service, without a slash at its end.
pub(crate) fn url(node: &Node, what: &str, report: &mut Report<'_>) -> Option<String> {
    const HELP: &str = "write it as `http://host:port/path`";
    let text = text(node, what, report)?;
    match base_url(text.value) {
        Ok(base) => Some(base),
        Err(reason) => {
            report.add_with_help(Rule::BadUrl, text.span, format!("{what} `{}` cannot be called: {reason}", text.value), HELP);
            None
        }
    }
}

/// The base URL in a text, without a slash at its end, or why it is none.
pub(crate) fn base_url(text: &str) -> Result<String, String> {
    let uri = text.parse::<http::Uri>().map_err(|error| error.to_string())?;
    match url_fault(&uri, text) {
        None => Ok(text.trim_end_matches('/').to_owned()),
        Some(reason) => Err(reason.to_owned()),
    }
}

fn url_fault(uri: &http::Uri, text: &str) -> Option<&'static str> {
    let authority = uri.authority().map(http::uri::Authority::as_str);
    match (uri.scheme_str(), authority) {
        (None, _) | (_, None) => Some("it has no scheme or no host"),
        (Some("http" | "https"), Some(authority)) if authority.contains('@') => Some("this is no place for a password"),
        (Some("http" | "https"), Some(_)) if uri.host().is_none_or(str::is_empty) => Some("it has no host"),
        (Some("http" | "https"), Some(_)) if uri.query().is_some() || text.contains('#') => {
            Some("it is a base; the operation's name is added, so it has no query and no fragment")
        }
        (Some("http" | "https"), Some(_)) => None,
        _ => Some("only http and https are"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_bounds() {
        let ms = |text: &str| parse_duration(text).map(|duration| duration.as_millis());
        assert_eq!((ms("1ms"), ms("365d")), (Ok(1), Ok(365 * 86_400_000)));
        for wrong in ["5", "0s", "-5s", "1mo", "366d", "10us"] {
            assert!(ms(wrong).is_err(), "{wrong} is refused");
        }
    }
}

//! Which metrics and labels a query in PromQL names. Whether it is one at all, promtool says (`make alerts`).

use std::collections::BTreeSet;

/// A metric that a query names, with its conditions on labels.
#[derive(Debug, PartialEq)]
pub(super) struct Selector {
    pub(super) metric: String,
    /// Label, operator, value.
    pub(super) matchers: Vec<(String, String, String)>,
}

/// All that a query names.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Query {
    pub(super) selectors: Vec<Selector>,
    /// Labels by which it groups and joins.
    pub(super) labels: BTreeSet<String>,
}

/// Words that stand where a metric could.
const WORDS: [&str; 13] =
    ["and", "or", "unless", "bool", "offset", "by", "without", "on", "ignoring", "group_left", "group_right", "inf", "nan"];

/// Words behind which labels stand in brackets.
const LABELS_FOLLOW: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];

impl Query {
    pub(super) fn parse(text: &str) -> Self {
        let (mut query, mut rest) = (Self::default(), text);
        while let Some(next) = rest.chars().next() {
            if next.is_ascii_alphabetic() || next == '_' || next == ':' {
                let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':').unwrap_or(rest.len());
                let word = &rest[..end];
                rest = rest[end..].trim_start();
                if LABELS_FOLLOW.contains(&word) {
                    if let Some(list) = rest.strip_prefix('(') {
                        let (list, behind) = list.split_once(')').expect("a list of labels ends");
                        query.labels.extend(list.split(',').map(str::trim).filter(|label| !label.is_empty()).map(str::to_owned));
                        rest = behind;
                    }
                } else if !WORDS.contains(&word) && !["(", "by ", "without "].iter().any(|next| rest.starts_with(next)) {
                    let matchers;
                    (matchers, rest) = matchers_of(rest);
                    query.selectors.push(Selector { metric: word.to_owned(), matchers });
                }
            } else if next == '[' {
                rest = rest.split_once(']').expect("a range ends").1;
            } else if next == '"' {
                rest = rest[1..].split_once('"').expect("a string ends").1;
            } else if next.is_ascii_digit() {
                // A number, or a duration with its unit.
                rest = rest.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '.');
            } else {
                rest = &rest[next.len_utf8()..];
            }
        }
        query
    }
}

/// `{a="b", c=~"d"}` if it is there, and what is behind it.
fn matchers_of(text: &str) -> (Vec<(String, String, String)>, &str) {
    let (mut found, Some(mut rest)) = (Vec::new(), text.strip_prefix('{')) else { return (Vec::new(), text) };
    loop {
        rest = rest.trim_start_matches([',', ' ', '\n']);
        if let Some(behind) = rest.strip_prefix('}') {
            return (found, behind);
        }
        let (label, behind) = rest.split_at(rest.find(['=', '!']).expect("an operator"));
        let (operator, behind) = behind.split_once('"').expect("a value begins");
        let (value, behind) = behind.split_once('"').expect("a value ends");
        found.push((label.trim().to_owned(), operator.trim().to_owned(), value.to_owned()));
        rest = behind;
    }
}

#[test]
fn a_query_is_taken_apart() {
    let text = r#"histogram_quantile(0.99, sum by (job, le) (rate(a_bucket{synced="true", route=~"/{x}|,"}[5m]))) > 0.5
        or (x:y:z unless b offset 10m) > on (slo) group_left () 2e3 * c{} and changes(d[$__rate_interval]) == bool 1"#;
    let query = Query::parse(text);
    let names: Vec<&str> = query.selectors.iter().map(|selector| selector.metric.as_str()).collect();
    assert_eq!(names, ["a_bucket", "x:y:z", "b", "c", "d"]);
    let matcher = |label: &str, operator: &str, value: &str| (label.to_owned(), operator.to_owned(), value.to_owned());
    assert_eq!(query.selectors[0].matchers, [matcher("synced", "=", "true"), matcher("route", "=~", "/{x}|,")]);
    assert_eq!(query.labels, ["job", "le", "slo"].map(str::to_owned).into());
}

//! The files of `monitoring/`: rules of Prometheus and the board of Grafana.

use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub(super) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

pub(super) fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A rule: what it records or alarms of.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) record: Option<String>,
    pub(super) alert: Option<String>,
    pub(super) expr: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) annotations: BTreeMap<String, String>,
}

/// Every rule of both files.
pub(super) fn rules() -> Vec<Rule> {
    let mut found = Vec::new();
    for path in ["monitoring/prometheus/alerts.rules.yml", "monitoring/prometheus/slo.rules.yml"] {
        let text = read(path);
        let file: Value = serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"));
        for group in file["groups"].as_array().expect("groups") {
            found.extend(group["rules"].as_array().expect("rules").iter().map(rule));
        }
    }
    found
}

fn rule(rule: &Value) -> Rule {
    let text = |name: &str| rule[name].as_str().map(str::to_owned);
    let table = |name: &str| {
        let fields = rule[name].as_object().into_iter().flatten();
        fields.map(|(name, value)| (name.clone(), value.as_str().expect("text").to_owned())).collect()
    };
    Rule {
        record: text("record"),
        alert: text("alert"),
        expr: text("expr").expect("every rule has one"),
        labels: table("labels"),
        annotations: table("annotations"),
    }
}

/// The board.
pub(super) fn board() -> Value {
    serde_json::from_str(&read("monitoring/grafana/sagamq.json")).expect("the board is JSON")
}

/// Every query of the board: of panels, annotations and variables.
pub(super) fn queries_of(board: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for panel in board["panels"].as_array().expect("panels") {
        let targets = panel["targets"].as_array().into_iter().flatten();
        found.extend(targets.map(|target| target["expr"].as_str().expect("a query").to_owned()));
    }
    let annotations = board["annotations"]["list"].as_array().expect("annotations");
    found.extend(annotations.iter().map(|annotation| annotation["expr"].as_str().expect("a query").to_owned()));
    for variable in board["templating"]["list"].as_array().expect("variables").iter().filter(|variable| variable["type"] == "query") {
        let query = variable["query"]["query"].as_str().expect("a query");
        assert_eq!(variable["definition"], query);
        found.push(query.to_owned());
    }
    found
}

/// The anchors of a document's headings, as GitHub makes them.
pub(super) fn anchors(text: &str) -> Vec<String> {
    let headings = text.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let kept = |c: char| match c {
        ' ' => Some('-'),
        c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c),
        _ => None,
    };
    headings.map(|heading| heading.to_lowercase().chars().filter_map(kept).collect()).collect()
}

//! What operators look at: every metric, label and value that board, rules and documents name is one that a real run shows, every alert has its
//! entry in the runbook, and the series of what is deleted go.

mod exposition;
mod files;
mod query;
mod run;

use exposition::Exposition;
use files::{anchors, board, queries_of, read, rules};
use query::{Query, Selector};
use run::Run;
use sagamq_server::QuotaLimits;
use sagamq_tests::server::eventually;
use std::collections::{BTreeMap, BTreeSet};

/// Labels that Prometheus adds to everything that it scrapes.
const SCRAPED: [&str; 2] = ["job", "instance"];

/// A metric as the table of the documents has it: its type and its labels.
type Documented = BTreeMap<String, (String, BTreeSet<String>)>;

/// The table of metrics.
fn documented() -> Documented {
    let text = read("docs/operations.md");
    let (_, section) = text.split_once("\n## Metrics\n").expect("it has the section");
    let section = section.split("\n## ").next().expect("there is always a first part");
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let words = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    let mut found = Documented::new();
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        for name in words(cells[0]) {
            let before = found.insert(name.clone(), (cells[1].to_owned(), words(cells[2]).into_iter().collect()));
            assert!(before.is_none(), "{name} is documented twice");
        }
    }
    found
}

/// The name that a series of this metric is stored under: that of its count, if it is a histogram.
fn series_name(metric: &str, of: &str) -> String {
    if of == "histogram" { format!("{metric}_count") } else { metric.to_owned() }
}

/// Everything that happens, and what `/metrics` shows of it.
async fn everything(documented: &Documented) -> Exposition {
    let quota = Run::over_tls(QuotaLimits { requests_per_second: 1, bytes_per_second: 0 }).await;
    let run = Run::start(QuotaLimits::default()).await;
    quota.too_much().await;
    run.nonsense().await;
    run.records().await;
    run.taken().await;
    run.sagas().await;
    run.transactions().await;
    let mut missing = Vec::new();
    let shown = eventually("everything is shown", async || {
        // What a partition gets is a rate: something has to come between two looks.
        run.produce("orders", serde_json::json!({ "value": "more" })).await;
        let shown = Exposition::parse(&run.metrics().await).and(Exposition::parse(&quota.metrics().await));
        let names = documented.iter().map(|(name, (of, _))| series_name(name, of));
        let still: Vec<String> = names.filter(|name| !shown.series.contains_key(name)).collect();
        if still != missing {
            println!("waits for {still:?}");
            missing = still;
        }
        missing.is_empty().then_some(shown)
    })
    .await;
    quota.end().await;
    run.end().await;
    shown
}

/// What is wrong with what a query names; `recorded` are the labels of what rules record.
fn faults(query: &Query, shown: &Exposition, recorded: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let (mut faults, mut known) = (Vec::new(), BTreeSet::from(SCRAPED.map(str::to_owned)));
    for Selector { metric, matchers } in &query.selectors {
        let labels: BTreeSet<String> = match metric.as_str() {
            // Of Prometheus itself.
            "up" => BTreeSet::new(),
            "ALERTS" => ["alertname", "alertstate", "severity"].map(str::to_owned).into(),
            name => match recorded.get(name).cloned().or_else(|| Some(shown.labels(name)?.into_iter().map(str::to_owned).collect())) {
                Some(labels) => labels,
                None => {
                    faults.push(format!("there is no {metric}"));
                    continue;
                }
            },
        };
        known.extend(labels.iter().cloned());
        for (label, operator, value) in matchers {
            if !labels.contains(label) && !SCRAPED.contains(&label.as_str()) {
                faults.push(format!("{metric} has no label {label}"));
            } else if operator == "=" && shown.series.contains_key(metric) && !shown.has(metric, label, value) {
                faults.push(format!("no {metric} has {label}=\"{value}\""));
            }
        }
    }
    faults.extend(query.labels.difference(&known).map(|label| format!("nothing in it has the label {label}")));
    faults
}

/// The labels of what rules record, found by what they are made of.
fn recorded(shown: &Exposition) -> BTreeMap<String, BTreeSet<String>> {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for rule in rules() {
        let Some(name) = rule.record else { continue };
        let query = Query::parse(&rule.expr);
        let mut labels: BTreeSet<String> = rule.labels.into_keys().chain(query.labels).collect();
        for selector in query.selectors {
            labels.extend(shown.labels(&selector.metric).into_iter().flatten().map(str::to_owned));
            labels.extend(found.get(&selector.metric).cloned().unwrap_or_default());
        }
        found.entry(name).or_default().extend(labels);
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn what_board_rules_and_documents_name_is_what_a_server_shows() {
    let documented = documented();
    assert!(documented.len() > 80, "{documented:?}");
    let shown = everything(&documented).await;
    // Both ways: what is documented is shown, with its type and these labels; what is shown is documented.
    for (name, (of, labels)) in &documented {
        let family = name.strip_suffix("_total").or(name.strip_suffix("_info")).unwrap_or(name);
        assert_eq!(shown.families.get(family), Some(of), "the type of {name}");
        let has = shown.labels(&series_name(name, of)).expect("it was waited for");
        assert_eq!(has, labels.iter().map(String::as_str).collect(), "the labels of {name}");
    }
    for family in shown.families.keys() {
        let is_told = ["", "_total", "_info"].iter().any(|suffix| documented.contains_key(&format!("{family}{suffix}")));
        assert!(is_told, "docs/operations.md does not have {family}");
    }
    let recorded = recorded(&shown);
    let mut wrong = Vec::new();
    let of_rules = rules().into_iter().map(|rule| (rule.alert.or(rule.record).expect("a name"), rule.expr));
    let of_board = queries_of(&board()).into_iter().map(|query| ("the board".to_owned(), query));
    for (whose, text) in of_rules.chain(of_board) {
        // `label_values(metric, label)` is of Grafana: the label stands where a metric does.
        let query = match text.strip_prefix("label_values(").and_then(|inner| inner.strip_suffix(')')?.rsplit_once(", ")) {
            Some((of, label)) => Query { labels: [label.to_owned()].into(), ..Query::parse(of) },
            None => Query::parse(&text),
        };
        assert!(!query.selectors.is_empty() || text.starts_with("vector("), "{whose}: {text}");
        wrong.extend(faults(&query, &shown, &recorded).into_iter().map(|fault| format!("{whose}: {fault}: {text}")));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_alert_has_a_severity_and_an_entry_in_the_runbook() {
    let text = read("docs/alerts.md");
    let (anchors, mut of_alerts) = (anchors(&text), BTreeSet::new());
    for rule in rules() {
        let Some(alert) = rule.alert else { continue };
        let severity = rule.labels.get("severity").map(String::as_str);
        assert!(matches!(severity, Some("page" | "ticket")), "{alert}: {severity:?}");
        for annotation in ["summary", "description"] {
            assert!(rule.annotations.get(annotation).is_some_and(|text| !text.is_empty()), "{alert} has no {annotation}");
        }
        let url = rule.annotations.get("runbook_url").unwrap_or_else(|| panic!("{alert} has no runbook"));
        let repository = option_env!("CARGO_PKG_REPOSITORY").filter(|url| !url.is_empty()).unwrap_or("https://github.com/sagamq/sagamq");
        let anchor = url.strip_prefix(&format!("{repository}/blob/main/docs/alerts.md#")).unwrap_or_else(|| panic!("{alert}: {url}"));
        assert!(anchors.iter().any(|found| found == anchor), "{alert}: docs/alerts.md has no heading for #{anchor}");
        assert!(alert.to_lowercase().starts_with(anchor), "{alert} has an entry of its own: {anchor}");
        of_alerts.insert(anchor.to_owned());
    }
    assert!(of_alerts.len() > 20, "{of_alerts:?}");
    for anchor in anchors.iter().filter(|anchor| anchor.starts_with("sagamq")) {
        assert!(of_alerts.contains(anchor), "docs/alerts.md has #{anchor}, and no alert leads there");
    }
    // Every alert is one of the tests of the rules, both silent and not.
    let tests = read("monitoring/prometheus/rules.test.yml");
    for alert in rules().into_iter().filter_map(|rule| rule.alert) {
        assert!(tests.contains(&format!("alertname: {alert}, exp_alerts: []")), "{alert} is never seen silent");
        assert!(tests.contains(&format!("alertname: {alert}\n        exp_alerts:\n")), "{alert} is never seen firing");
    }
}

#[test]
fn every_objective_has_a_budget_seven_windows_two_alerts_and_a_row_in_the_documents() {
    let rules = rules();
    let of = |name: &str| -> BTreeSet<String> {
        rules.iter().filter(|rule| rule.record.as_deref() == Some(name)).filter_map(|rule| rule.labels.get("slo").cloned()).collect()
    };
    let objectives = of("sagamq:slo_budget:ratio");
    assert_eq!(objectives.len(), 6);
    for window in ["5m", "30m", "1h", "2h", "6h", "1d", "3d"] {
        assert_eq!(of(&format!("sagamq:slo_errors:ratio_{window}")), objectives, "{window}");
        let of_window = rules.iter().filter(|rule| rule.record.as_deref() == Some(&format!("sagamq:slo_errors:ratio_{window}")));
        for rule in of_window {
            let ranges: BTreeSet<&str> = rule.expr.split('[').skip(1).filter_map(|rest| rest.split(']').next()).collect();
            assert_eq!(ranges, [window].into(), "{}", rule.expr);
        }
    }
    let text = read("docs/alerts.md");
    for objective in objectives {
        let alerts = rules.iter().filter(|rule| rule.alert.is_some() && rule.labels.get("slo") == Some(&objective));
        let severities: Vec<&str> = alerts.filter_map(|rule| rule.labels.get("severity").map(String::as_str)).collect();
        assert_eq!(severities, ["page", "ticket"], "{objective}");
        assert!(
            text.lines().any(|line| line.starts_with(&format!("| `{objective}` |"))),
            "docs/alerts.md does not say what {objective} is"
        );
    }
}

#[test]
fn the_board_can_be_imported() {
    let board = board();
    let panels = board["panels"].as_array().expect("panels");
    let ids: BTreeSet<u64> = panels.iter().map(|panel| panel["id"].as_u64().expect("an id")).collect();
    assert_eq!(ids.len(), panels.len(), "each panel has an id of its own");
    assert!(board["id"].is_null() && board["uid"] == "sagamq", "Grafana gives the id");
    let variables: Vec<&str> =
        board["templating"]["list"].as_array().expect("variables").iter().filter_map(|of| of["name"].as_str()).collect();
    assert_eq!(variables, ["datasource", "job", "instance", "topic", "group", "saga"]);
    let mut taken = BTreeSet::new();
    for panel in panels {
        let at = |name: &str| panel["gridPos"][name].as_u64().expect("a place");
        assert!(at("x") + at("w") <= 24, "{panel}");
        for cell in (at("x")..at("x") + at("w")).flat_map(|x| (at("y")..at("y") + at("h")).map(move |y| (x, y))) {
            assert!(taken.insert(cell), "two panels lie at {cell:?}: {panel}");
        }
        if panel["type"] == "row" {
            continue;
        }
        assert!(panel["description"].as_str().is_some_and(|text| text.len() > 10), "{panel}");
        for target in panel["targets"].as_array().expect("queries") {
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{target}");
            let text = target["expr"].as_str().expect("a query");
            assert!(text.contains("instance=~\"$instance\""), "every query follows the chosen instance: {text}");
        }
    }
    for query in queries_of(&board) {
        let used = query.split('$').skip(1).map(|rest| rest.split(|c: char| !c.is_ascii_lowercase() && c != '_').next().expect("a name"));
        for name in used {
            assert!(variables.contains(&name) || name == "__rate_interval", "{query} uses ${name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_series_of_what_is_deleted_go() {
    let run = Run::start(QuotaLimits::default()).await;
    run.records().await;
    run.taken().await;
    run.sagas().await;
    let names_in = |text: &str| -> BTreeSet<&'static str> {
        let labels = [
            "topic=\"orders\"",
            "group=\"billing\"",
            "group=\"search\"",
            "topic=\"clicks\"",
            "topic=\"prices\"",
            "service=\"shop\"",
            "service=\"bank\"",
        ];
        labels.into_iter().filter(|label| text.contains(label)).collect()
    };
    // The lag of groups is looked at every 15 s: until then nothing is to be seen going.
    eventually("all of them are shown", async || {
        let text = run.metrics().await;
        let is_looked_at = text.contains("sagamq_queue_lag_records{topic=\"orders\",group=\"billing\"}")
            && text.contains("sagamq_compacted_records_total");
        (names_in(&text).len() == 7 && is_looked_at).then_some(())
    })
    .await;
    for topic in ["orders", "clicks", "prices"] {
        eventually("no record is leased any more", async || run.try_delete(&format!("/v1/topics/{topic}")).await.then_some(())).await;
    }
    eventually("the member is gone", async || run.try_delete("/v1/stream-groups/search").await.then_some(())).await;
    run.delete("/v1/services/shop").await;
    run.delete("/v1/services/bank").await;
    let mut left = BTreeSet::new();
    eventually("all of them are gone", async || {
        let text = run.metrics().await;
        let now = names_in(&text);
        if now != left {
            println!("still there: {now:?}");
            left = now;
        }
        left.is_empty().then_some(())
    })
    .await;
    run.end().await;
}

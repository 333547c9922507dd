//! Reads the OpenMetrics text of our own register: what stands there and nothing that others might write.

use std::collections::BTreeMap;

/// A metric with its samples.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Family {
    pub(super) name: String,
    pub(super) help: String,
    pub(super) kind: Kind,
    pub(super) samples: Vec<Sample>,
}

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
    /// Labels about the process; its value is 1.
    Info,
}

/// One line.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sample {
    /// What stands behind the name of the metric: `_total`, `_bucket`, `_sum`, `_count`, `_info` or nothing.
    pub(super) suffix: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) value: f64,
}

/// Reads all of it. Lines that cannot be read are left out: they are none of ours.
pub(super) fn families(text: &str) -> Vec<Family> {
    let (mut families, mut help): (Vec<Family>, _) = (Vec::new(), ("", ""));
    for line in text.lines() {
        if let Some(said) = line.strip_prefix("# HELP ") {
            help = said.split_once(' ').unwrap_or((said, ""));
        } else if let Some(said) = line.strip_prefix("# TYPE ") {
            let Some((name, kind)) = said.split_once(' ') else { continue };
            let kind = match kind {
                "counter" => Kind::Counter,
                "histogram" => Kind::Histogram,
                "info" => Kind::Info,
                _ => Kind::Gauge,
            };
            let help = if help.0 == name { help.1.trim_end_matches('.').to_owned() } else { String::new() };
            families.push(Family { name: name.to_owned(), help, kind, samples: Vec::new() });
        } else if !line.starts_with('#')
            && let Some(family) = families.last_mut()
            && let Some(sample) = line.strip_prefix(&*family.name).and_then(sample)
        {
            family.samples.push(sample);
        }
    }
    families
}

/// The rest of a line behind the metric's name.
fn sample(rest: &str) -> Option<Sample> {
    let at = rest.find(['{', ' '])?;
    let (suffix, mut rest) = rest.split_at(at);
    let mut labels = BTreeMap::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        while !rest.starts_with('}') {
            let (name, value) = rest.split_once("=\"")?;
            let (value, behind) = quoted(value)?;
            labels.insert(name.to_owned(), value);
            rest = behind.strip_prefix(',').unwrap_or(behind);
        }
        rest = rest.strip_prefix('}')?;
    }
    // Behind the value an exemplar may stand.
    let value = rest.split_whitespace().next()?;
    Some(Sample { suffix: suffix.to_owned(), labels, value: value.parse().ok()? })
}

/// A text up to its quote, and what stands behind that.
fn quoted(text: &str) -> Option<(String, &str)> {
    let (mut value, mut chars) = (String::new(), text.char_indices());
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return Some((value, text.get(at + 1..)?)),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::encoding::EncodeLabelSet;
    use prometheus_client::encoding::text::encode;
    use prometheus_client::metrics::counter::Counter;
    use prometheus_client::metrics::family;
    use prometheus_client::metrics::gauge::Gauge;
    use prometheus_client::metrics::histogram::Histogram;
    use prometheus_client::metrics::info::Info;
    use prometheus_client::registry::Registry;

    #[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
    struct Labels {
        topic: String,
        of: u32,
    }

    #[test]
    fn what_a_register_writes_is_read_back() {
        let mut registry = Registry::default();
        let (counted, level): (family::Family<Labels, Counter>, Gauge) = Default::default();
        let took = Histogram::new([0.5, 1.0]);
        registry.register("sagamq_things", "Things {with} \"signs\"", counted.clone());
        registry.register("sagamq_level_bytes", "How high", level.clone());
        registry.register("sagamq_took_seconds", "How long", took.clone());
        registry.register("sagamq_build", "What it is", Info::new([("version", "1")]));
        counted.get_or_create_owned(&Labels { topic: "a b, e={}".to_owned(), of: 3 }).inc_by(7);
        level.set(-4);
        for seconds in [0.1, 0.7, 9.0] {
            took.observe(seconds);
        }
        let mut text = String::new();
        encode(&mut text, &registry).expect("it is written");
        let read = families(&text);
        let shape: Vec<(&str, &str, Kind, usize)> =
            read.iter().map(|family| (&*family.name, &*family.help, family.kind, family.samples.len())).collect();
        assert_eq!(
            shape,
            [
                ("sagamq_things", "Things {with} \"signs\"", Kind::Counter, 1),
                ("sagamq_level_bytes", "How high", Kind::Gauge, 1),
                ("sagamq_took_seconds", "How long", Kind::Histogram, 5),
                ("sagamq_build", "What it is", Kind::Info, 1),
            ]
        );
        let labels = [("of", "3"), ("topic", "a b, e={}")].map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        assert_eq!(read[0].samples[0], Sample { suffix: "_total".to_owned(), labels, value: 7.0 });
        assert_eq!(read[1].samples[0], Sample { suffix: String::new(), labels: BTreeMap::new(), value: -4.0 });
        let infinite = read[2].samples.iter().find(|sample| sample.labels.get("le").is_some_and(|le| le == "+Inf"));
        assert_eq!(infinite.map(|sample| sample.value), Some(3.0));
    }

    #[test]
    fn a_line_that_is_none_of_ours_is_left_out() {
        for line in ["", "x", "m{a=\"b", "m{a} 1", "m one", "other 1", "m{a=\"b\"}"] {
            assert_eq!(families(&format!("# TYPE m gauge\n{line}\n"))[0].samples, [], "{line}");
        }
        let escaped = families("# TYPE m gauge\nm{a=\"b\\\"c\\\\d\\ne\",f=\"g\"} 1\n");
        let labels: Vec<(&str, &str)> = escaped[0].samples[0].labels.iter().map(|(name, value)| (&**name, &**value)).collect();
        assert_eq!(labels, [("a", "b\"c\\d\ne"), ("f", "g")]);
        let with_exemplar = families("# TYPE m counter\nm_total{a=\"b\"} 5 # {trace_id=\"x\"} 1.0\n");
        assert_eq!(with_exemplar[0].samples[0].value, 5.0);
    }
}

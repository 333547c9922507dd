//! Metrics as OTLP has them.

use super::text::{Family, Kind, Sample};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use opentelemetry_proto::tonic::metrics::v1::{AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, Sum};
use std::collections::BTreeMap;

/// Largest whole number up to which every whole number is one of a `f64`.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

/// When what is exported began and when it is looked at, in nanoseconds since 1970.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    pub(super) start: u64,
    pub(super) now: u64,
}

/// The metric under its own name, with the unit that its name ends with.
pub(super) fn metric(family: Family, times: Times) -> Metric {
    let Family { name, help, kind, samples } = family;
    let cumulative = i32::from(AggregationTemporality::Cumulative);
    let points = |samples: Vec<Sample>| samples.into_iter().map(|sample| number(sample, times)).collect();
    let data = match kind {
        Kind::Counter => Data::Sum(Sum { data_points: points(samples), aggregation_temporality: cumulative, is_monotonic: true }),
        Kind::Gauge | Kind::Info => Data::Gauge(Gauge { data_points: points(samples) }),
        Kind::Histogram => Data::Histogram(Histogram { data_points: histograms(samples, times), aggregation_temporality: cumulative }),
    };
    let unit = unit(&name).to_owned();
    Metric { name, description: help, unit, metadata: Vec::new(), data: Some(data) }
}

/// Units as UCUM writes them.
fn unit(name: &str) -> &'static str {
    match name.rsplit('_').next() {
        Some("seconds") => "s",
        Some("bytes") => "By",
        Some("ratio") => "1",
        _ => "",
    }
}

fn number(Sample { labels, value, .. }: Sample, times: Times) -> NumberDataPoint {
    let is_whole = value.fract() == 0.0 && value.abs() < WHOLE_MAX;
    NumberDataPoint {
        attributes: attributes(labels),
        start_time_unix_nano: times.start,
        time_unix_nano: times.now,
        value: Some(if is_whole { Number::AsInt(value as i64) } else { Number::AsDouble(value) }),
        ..NumberDataPoint::default()
    }
}

/// Puts the lines of each histogram together again: those with the same labels.
fn histograms(samples: Vec<Sample>, times: Times) -> Vec<HistogramDataPoint> {
    let mut points: BTreeMap<BTreeMap<String, String>, HistogramDataPoint> = BTreeMap::new();
    for Sample { suffix, mut labels, value } in samples {
        let bound = labels.remove("le");
        let point = points.entry(labels).or_default();
        match (suffix.as_str(), bound) {
            ("_count", _) => point.count = value as u64,
            ("_sum", _) => point.sum = Some(value),
            ("_bucket", Some(bound)) => {
                // In the text each counts those before it as well.
                let before: u64 = point.bucket_counts.iter().sum();
                point.bucket_counts.push((value as u64).saturating_sub(before));
                if let Some(bound) = bound.parse().ok().filter(|bound: &f64| bound.is_finite()) {
                    point.explicit_bounds.push(bound);
                }
            }
            _ => {}
        }
    }
    let complete = |(labels, point)| HistogramDataPoint {
        attributes: attributes(labels),
        start_time_unix_nano: times.start,
        time_unix_nano: times.now,
        ..point
    };
    points.into_iter().map(complete).collect()
}

pub(super) fn attributes(labels: BTreeMap<String, String>) -> Vec<KeyValue> {
    let attribute =
        |(key, value)| KeyValue { key, value: Some(AnyValue { value: Some(Value::StringValue(value)) }), ..KeyValue::default() };
    labels.into_iter().map(attribute).collect()
}

#[cfg(test)]
mod tests {
    use super::super::text::families;
    use super::*;

    fn read(text: &str) -> Metric {
        metric(families(text).remove(0), Times { start: 1, now: 2 })
    }

    #[test]
    fn a_counter_is_a_sum_that_grows() {
        let metric = read("# HELP m_bytes All.\n# TYPE m_bytes counter\nm_bytes_total{a=\"b\"} 5\n");
        assert_eq!((&*metric.name, &*metric.unit, &*metric.description), ("m_bytes", "By", "All"));
        let Some(Data::Sum(sum)) = metric.data else { panic!("a sum") };
        assert!(sum.is_monotonic && sum.aggregation_temporality == i32::from(AggregationTemporality::Cumulative));
        let point = &sum.data_points[0];
        assert_eq!((point.value, point.start_time_unix_nano, point.time_unix_nano), (Some(Number::AsInt(5)), 1, 2));
        assert_eq!(point.attributes[0].key, "a");
    }

    #[test]
    fn a_gauge_keeps_its_fraction() {
        let Some(Data::Gauge(gauge)) = read("# TYPE m gauge\nm 0.25\n").data else { panic!("a gauge") };
        assert_eq!(gauge.data_points[0].value, Some(Number::AsDouble(0.25)));
    }

    #[test]
    fn a_histogram_counts_each_bucket_alone() {
        let lines = "m_sum{r=\"x\"} 9.5\nm_count{r=\"x\"} 6\nm_bucket{le=\"0.5\",r=\"x\"} 2\nm_bucket{le=\"1.0\",r=\"x\"} 5\nm_bucket{le=\"+Inf\",r=\"x\"} 6\n\
                     m_sum{r=\"y\"} 0.0\nm_count{r=\"y\"} 0\nm_bucket{le=\"+Inf\",r=\"y\"} 0\n";
        let Some(Data::Histogram(histogram)) = read(&format!("# TYPE m histogram\n{lines}")).data else { panic!("a histogram") };
        let [x, y] = &histogram.data_points[..] else { panic!("two: {histogram:?}") };
        assert_eq!((x.count, x.sum, &*x.bucket_counts, &*x.explicit_bounds), (6, Some(9.5), &[2, 3, 1][..], &[0.5, 1.0][..]));
        assert_eq!((y.count, &*y.bucket_counts, y.explicit_bounds.len()), (0, &[0][..], 0));
    }
}

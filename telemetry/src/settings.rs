//! What the variables of OpenTelemetry say, by the names that its specification gives them.
//!
//! Nothing is exported unless there is an endpoint: the specification's default, a collector on this machine, would send without being asked.

use core::fmt;
use core::str::FromStr;
use core::time::Duration;
use http::{HeaderName, HeaderValue};
use reqwest::Url;

/// Longest time between two exports of metrics.
const METRIC_INTERVAL_MAX: Duration = Duration::from_secs(24 * 3_600);

/// Longest time that an export may take.
const TIMEOUT_MAX: Duration = Duration::from_secs(300);

/// How telemetry is exported.
#[derive(Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where spans go; `None`: nowhere.
    pub traces: Option<Url>,
    /// Where metrics go; `None`: nowhere.
    pub metrics: Option<Url>,
    /// Headers of every export. They may be secrets.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// How long an export may take.
    pub timeout: Duration,
    /// Whether bodies are compressed with gzip.
    pub gzip: bool,
    /// What the program is called; `None`: as its attributes say, or by its own name.
    pub service_name: Option<String>,
    /// Which traces are recorded.
    pub sampling: Sampling,
    /// Time between two exports of metrics.
    pub metric_interval: Duration,
    /// Time between two exports of spans.
    pub span_delay: Duration,
    /// Most spans that wait to be exported; more are dropped.
    pub span_queue_max: usize,
    /// Most spans of one export.
    pub span_batch_max: usize,
}

/// Which traces are recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sampling {
    /// Whether a trace that comes from elsewhere is recorded if it is recorded there.
    pub is_parent_based: bool,
    /// How many of a million traces that begin here are recorded.
    pub per_million: u32,
}

/// Values that cannot be used: all of them, each with its variable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct Faults(pub Vec<String>);

impl Settings {
    /// Every variable that is looked at.
    pub const VARIABLES: [&str; 18] = [
        "OTEL_SDK_DISABLED",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
        "OTEL_EXPORTER_OTLP_PROTOCOL",
        "OTEL_EXPORTER_OTLP_HEADERS",
        "OTEL_EXPORTER_OTLP_TIMEOUT",
        "OTEL_EXPORTER_OTLP_COMPRESSION",
        "OTEL_TRACES_EXPORTER",
        "OTEL_METRICS_EXPORTER",
        "OTEL_SERVICE_NAME",
        "OTEL_RESOURCE_ATTRIBUTES",
        "OTEL_TRACES_SAMPLER",
        "OTEL_TRACES_SAMPLER_ARG",
        "OTEL_METRIC_EXPORT_INTERVAL",
        "OTEL_BSP_SCHEDULE_DELAY",
        "OTEL_BSP_MAX_QUEUE_SIZE",
        "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
    ];

    /// Reads the variables of this process. `None`: nothing is to be exported.
    ///
    /// # Errors
    /// [`Faults`].
    pub fn from_environment() -> Result<Option<Self>, Faults> {
        Self::read(|name| std::env::var(name).ok())
    }

    /// Reads variables; an empty one is as if it were not there. `None`: nothing is to be exported.
    ///
    /// # Errors
    /// [`Faults`]. `OTEL_RESOURCE_ATTRIBUTES` is left to OpenTelemetry, which skips what it cannot read.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, Faults> {
        let mut reader = Reader { variable: &variable, faults: Vec::new() };
        let settings = reader.settings();
        if reader.faults.is_empty() { Ok(settings) } else { Err(Faults(reader.faults)) }
    }
}

struct Reader<'a> {
    variable: &'a dyn Fn(&str) -> Option<String>,
    faults: Vec<String>,
}

impl Reader<'_> {
    fn settings(&mut self) -> Option<Settings> {
        let is_off = self.parsed("OTEL_SDK_DISABLED", "true or false", boolean).unwrap_or(false);
        let base = self.endpoint("OTEL_EXPORTER_OTLP_ENDPOINT");
        let is_exported = |exporter: &str| match exporter {
            "otlp" => Some(true),
            "none" => Some(false),
            _ => None,
        };
        let expected = "otlp or none";
        let (traces_wanted, metrics_wanted) = (
            self.parsed("OTEL_TRACES_EXPORTER", expected, is_exported).unwrap_or(true),
            self.parsed("OTEL_METRICS_EXPORTER", expected, is_exported).unwrap_or(true),
        );
        let below = |path: &str| base.clone().map(|base| joined(base, path));
        let traces = self.endpoint("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT").or_else(|| below("v1/traces")).filter(|_| traces_wanted);
        let metrics = self.endpoint("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT").or_else(|| below("v1/metrics")).filter(|_| metrics_wanted);
        self.parsed("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf, which is the only one", |text| (text == "http/protobuf").then_some(()));
        let gzip = self.parsed("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip or none", |text| match text {
            "gzip" => Some(true),
            "none" => Some(false),
            _ => None,
        });
        let timeout = self.millis("OTEL_EXPORTER_OTLP_TIMEOUT", TIMEOUT_MAX);
        let settings = Settings {
            traces,
            metrics,
            headers: self.headers("OTEL_EXPORTER_OTLP_HEADERS"),
            timeout: timeout.unwrap_or(Duration::from_secs(10)),
            gzip: gzip.unwrap_or(false),
            service_name: self.text("OTEL_SERVICE_NAME"),
            sampling: self.sampling(),
            metric_interval: self.millis("OTEL_METRIC_EXPORT_INTERVAL", METRIC_INTERVAL_MAX).unwrap_or(Duration::from_secs(60)),
            span_delay: self.millis("OTEL_BSP_SCHEDULE_DELAY", TIMEOUT_MAX).unwrap_or(Duration::from_secs(5)),
            span_queue_max: self.count("OTEL_BSP_MAX_QUEUE_SIZE").unwrap_or(16_384),
            span_batch_max: self.count("OTEL_BSP_MAX_EXPORT_BATCH_SIZE").unwrap_or(512),
        };
        (!is_off && (settings.traces.is_some() || settings.metrics.is_some())).then_some(settings)
    }

    fn text(&self, name: &str) -> Option<String> {
        (self.variable)(name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
    }

    fn parsed<T>(&mut self, name: &str, expected: &str, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        let text = self.text(name)?;
        let parsed = parse(&text);
        if parsed.is_none() {
            self.faults.push(format!("{name}: expected {expected}"));
        }
        parsed
    }

    fn endpoint(&mut self, name: &str) -> Option<Url> {
        // User and password would not be sent: keys of a collector are headers.
        let is_plain = |url: &Url| url.username().is_empty() && url.password().is_none();
        self.parsed(name, "an address such as http://collector:4318, without user and password", |text| {
            text.parse::<Url>().ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host() && is_plain(url))
        })
    }

    fn millis(&mut self, name: &str, max: Duration) -> Option<Duration> {
        let expected = format!("milliseconds, 1 to {}", max.as_millis());
        let within = |time: &Duration| !time.is_zero() && *time <= max;
        self.parsed(name, &expected, |text| text.parse().ok().map(Duration::from_millis).filter(within))
    }

    fn count(&mut self, name: &str) -> Option<usize> {
        self.parsed(name, "a number, 1 to 1000000", |text| text.parse().ok().filter(|count| (1..=1_000_000).contains(count)))
    }

    fn headers(&mut self, name: &str) -> Vec<(HeaderName, HeaderValue)> {
        let headers = self.parsed(name, "name=value pairs, divided by commas", |text| {
            text.split(',').filter(|pair| !pair.trim().is_empty()).map(header).collect::<Option<Vec<_>>>()
        });
        headers.unwrap_or_default()
    }

    fn sampling(&mut self) -> Sampling {
        let ratio = self.parsed("OTEL_TRACES_SAMPLER_ARG", "a number from 0 to 1", |text| {
            let ratio: f64 = text.parse().ok()?;
            // What is checked to lie between is a whole number of a million.
            (0.0..=1.0).contains(&ratio).then(|| (ratio * 1e6).round() as u32)
        });
        let expected = "always_on, always_off, traceidratio, parentbased_always_on, parentbased_always_off or parentbased_traceidratio";
        let sampling = self.parsed("OTEL_TRACES_SAMPLER", expected, |text| {
            let (is_parent_based, sampler) = text.strip_prefix("parentbased_").map_or((false, text), |sampler| (true, sampler));
            let per_million = match sampler {
                "always_on" => 1_000_000,
                "always_off" => 0,
                "traceidratio" => ratio.unwrap_or(1_000_000),
                _ => return None,
            };
            Some(Sampling { is_parent_based, per_million })
        });
        sampling.unwrap_or(Sampling { is_parent_based: true, per_million: 1_000_000 })
    }
}

/// As the specification has it: whatever is no `true` in any letters is false; but a misspelt one is told here.
fn boolean(text: &str) -> Option<bool> {
    bool::from_str(&text.to_ascii_lowercase()).ok()
}

/// The path of a signal below the path of the endpoint.
fn joined(mut base: Url, path: &str) -> Url {
    let below = format!("{}/{path}", base.path().trim_end_matches('/'));
    base.set_path(&below);
    base
}

fn header(pair: &str) -> Option<(HeaderName, HeaderValue)> {
    let (name, value) = pair.split_once('=')?;
    let mut value = HeaderValue::from_str(&percent_decoded(value.trim())?).ok()?;
    value.set_sensitive(true);
    Some((name.trim().parse().ok()?, value))
}

/// Values are written as in a URL, so that commas can stand in them.
fn percent_decoded(text: &str) -> Option<String> {
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text.bytes());
    while let Some(byte) = rest.next() {
        bytes.push(if byte == b'%' {
            let digits = [rest.next()?, rest.next()?];
            // A sign is none.
            digits.iter().all(u8::is_ascii_hexdigit).then_some(())?;
            u8::from_str_radix(core::str::from_utf8(&digits).ok()?, 16).ok()?
        } else {
            byte
        });
    }
    String::from_utf8(bytes).ok()
}

impl fmt::Debug for Settings {
    /// Without the headers' values, which may be secrets, and without what stands before the host of an address.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |url: &Option<Url>| url.as_ref().map(crate::told::shown);
        f.debug_struct("Settings")
            .field("traces", &shown(&self.traces))
            .field("metrics", &shown(&self.metrics))
            .field("headers", &self.headers.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>())
            .field("service_name", &self.service_name)
            .field("sampling", &self.sampling)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Option<Settings>, Faults> {
        Settings::read(|name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()))
    }

    fn some(variables: &[(&str, &str)]) -> Settings {
        let endpoint = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318")];
        read(&[&endpoint[..], variables].concat()).expect("legal").expect("an endpoint is there")
    }

    #[test]
    fn nothing_is_exported_unless_there_is_an_endpoint_and_it_is_not_forbidden() {
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318");
        for off in [&[][..], &[("OTEL_SERVICE_NAME", "shop")], &[endpoint, ("OTEL_SDK_DISABLED", "TRUE")], &[(endpoint.0, " ")]] {
            assert_eq!(read(off), Ok(None), "{off:?}");
        }
        assert_eq!(read(&[endpoint, ("OTEL_TRACES_EXPORTER", "none"), ("OTEL_METRICS_EXPORTER", "none")]), Ok(None));
        assert!(read(&[endpoint, ("OTEL_SDK_DISABLED", "false")]).expect("legal").is_some());
    }

    #[test]
    fn each_signal_has_its_path_below_the_endpoint_or_an_address_of_its_own() {
        let below = some(&[("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "https://metrics.example/otlp")]);
        assert_eq!(below.traces.expect("traces").as_str(), "http://collector:4318/v1/traces");
        assert_eq!(below.metrics.expect("metrics").as_str(), "https://metrics.example/otlp", "as it stands");
        let deep = read(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://h/a/")]).expect("legal").expect("an endpoint");
        assert_eq!(deep.traces.expect("traces").as_str(), "http://h/a/v1/traces");
        let one = read(&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://h/t")]).expect("legal").expect("an endpoint");
        assert_eq!((one.traces.is_some(), one.metrics), (true, None));
        assert_eq!(some(&[("OTEL_METRICS_EXPORTER", "none")]).metrics, None);
        assert_eq!(some(&[("OTEL_TRACES_EXPORTER", "none")]).traces, None);
    }

    #[test]
    fn every_variable_makes_a_difference() {
        let plain = some(&[]);
        for (name, value) in [
            ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20x, a=b"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "500"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
            ("OTEL_SERVICE_NAME", "shop"),
            ("OTEL_TRACES_SAMPLER", "always_off"),
            ("OTEL_METRIC_EXPORT_INTERVAL", "1000"),
            ("OTEL_BSP_SCHEDULE_DELAY", "100"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "7"),
            ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "7"),
        ] {
            assert_ne!(some(&[(name, value)]), plain, "{name}");
        }
        let headers = some(&[("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20x, a=b")]);
        assert_eq!(headers.headers[0].1.to_str().ok(), Some("Bearer x"));
        assert!(!format!("{headers:?}{:?}", headers.headers).contains("Bearer"), "neither here nor in what the library says of a request");
        let sampler = |sampler, arg| some(&[("OTEL_TRACES_SAMPLER", sampler), ("OTEL_TRACES_SAMPLER_ARG", arg)]).sampling;
        assert_eq!(sampler("traceidratio", "0.25"), Sampling { is_parent_based: false, per_million: 250_000 });
        assert_eq!(sampler("parentbased_traceidratio", "0"), Sampling { is_parent_based: true, per_million: 0 });
        assert_eq!(sampler("parentbased_always_on", ""), plain.sampling);
    }

    #[test]
    fn a_header_is_read_as_in_a_url_or_it_is_a_fault() {
        for wrong in ["a=%", "a=%4", "a=%+1", "a=%zz", "a b=c", "a=%0a"] {
            assert!(read(&[("OTEL_EXPORTER_OTLP_HEADERS", wrong)]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_fault_is_told_with_its_variable_and_without_its_value() {
        let faults = read(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://user:s3cret@collector:4318"),
            ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://s3cret@collector:4318"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "s3cret"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "zip"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "0"),
            ("OTEL_TRACES_EXPORTER", "zipkin"),
            ("OTEL_TRACES_SAMPLER", "sometimes"),
            ("OTEL_TRACES_SAMPLER_ARG", "1.5"),
            ("OTEL_METRIC_EXPORT_INTERVAL", "often"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
            ("OTEL_SDK_DISABLED", "maybe"),
        ]);
        let Err(Faults(faults)) = faults else { panic!("faults are expected") };
        assert_eq!(faults.len(), 13, "{faults:?}");
        assert!(!faults.concat().contains("s3cret"), "{faults:?}");
        assert!(faults.iter().any(|fault| fault == "OTEL_EXPORTER_OTLP_PROTOCOL: expected http/protobuf, which is the only one"));
    }
}

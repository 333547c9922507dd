//! What the process itself uses, under the names that Prometheus' clients have for it, at the moment somebody asks.

use super::open_files;
use core::fmt;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use rustix::time::{ClockId, clock_gettime};

/// The process. Where the system does not tell something of it, that is left out.
#[derive(Debug)]
pub(super) struct Process {
    started_s: f64,
}

impl Process {
    /// Shows it, and the version of the program. `now_ms`: in milliseconds since 1970.
    pub(super) fn register(registry: &mut Registry, now_ms: u64) {
        let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("sagamq_build", "The program that runs", build);
        #[expect(clippy::cast_precision_loss, reason = "a time in a gauge")]
        registry.register_collector(Box::new(Self { started_s: now_ms as f64 / 1_000.0 }));
    }
}

/// Seconds of all processors that the process has had.
fn cpu_seconds() -> f64 {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    #[expect(clippy::cast_precision_loss, reason = "a duration in a counter")]
    let seconds = used.tv_sec as f64 + used.tv_nsec as f64 / 1e9;
    seconds
}

/// Bytes of memory that are resident.
fn resident_bytes() -> Option<i64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let kib: i64 = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix("kB")?.trim().parse().ok())?;
    Some(kib * 1_024)
}

/// Files and connections that are open.
fn open_fds() -> Option<i64> {
    // One of them is the folder that is read.
    let count = std::fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1);
    i64::try_from(count).ok()
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut show = |name: &str, help: &str, of: MetricType, metric: &dyn EncodeMetric| {
            metric.encode(encoder.encode_descriptor(name, help, None, of)?)
        };
        let (help, cpu) = ("Time of all processors that the process has had", ConstCounter::new(cpu_seconds()));
        show("process_cpu_seconds", help, MetricType::Counter, &cpu)?;
        show("process_start_time_seconds", "When the process began, since 1970", MetricType::Gauge, &ConstGauge::new(self.started_s))?;
        if let Some(bytes) = resident_bytes() {
            show("process_resident_memory_bytes", "Memory that is resident", MetricType::Gauge, &ConstGauge::new(bytes))?;
        }
        if let Some(open) = open_fds() {
            show("process_open_fds", "Files and connections that are open", MetricType::Gauge, &ConstGauge::new(open))?;
        }
        let max = i64::try_from(open_files::files()).unwrap_or(i64::MAX);
        show("process_max_fds", "Files and connections that may be open", MetricType::Gauge, &ConstGauge::new(max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::encoding::text::encode;

    #[test]
    fn what_the_process_uses_is_shown_as_it_is_when_somebody_asks() {
        let mut registry = Registry::default();
        Process::register(&mut registry, 1_500);
        let shown = |name: &str| {
            let mut text = String::new();
            encode(&mut text, &registry).expect("it is written");
            let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse::<f64>().ok());
            value.unwrap_or_else(|| panic!("{name} is not in {text}"))
        };
        assert_eq!(shown("process_start_time_seconds"), 1.5);
        assert_eq!(shown(concat!("sagamq_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"}")), 1.0);
        let before = shown("process_open_fds");
        let open: Vec<_> = (0..50).map(|_| std::fs::File::open("/proc/self/status").expect("Linux has it")).collect();
        // Other tests open and close some meanwhile.
        assert!(shown("process_open_fds") > before + 25.0, "{before}");
        drop(open);
        assert!(shown("process_max_fds") >= shown("process_open_fds"));
        assert!(shown("process_resident_memory_bytes") > 1e6);
        let used = shown("process_cpu_seconds_total");
        let mut sum = 0_u64;
        while shown("process_cpu_seconds_total") < used + 0.01 {
            sum = (0..100_000).fold(sum, u64::wrapping_add);
        }
    }
}

//! How it stands with the disk.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// What is left of the disk, and who was refused for it.
#[derive(Clone, Debug, Default)]
pub(crate) struct DiskGauges {
    pub(crate) available_bytes: Gauge,
    pub(crate) reserve_bytes: Gauge,
    /// 1 while new records are refused.
    pub(crate) low: Gauge,
    pub(crate) refused_requests: Counter,
}

impl DiskGauges {
    pub(super) fn register(&self, registry: &mut Registry) {
        let help = "Bytes of the disk that are left, without those that are owed to what is in memory";
        registry.register("sagamq_disk_available_bytes", help, self.available_bytes.clone());
        registry.register("sagamq_disk_reserve_bytes", "Bytes of the disk that are kept free", self.reserve_bytes.clone());
        registry.register("sagamq_disk_low", "1 while new records and sagas are refused for want of disk, else 0", self.low.clone());
        let help = "Requests that were refused for want of disk";
        registry.register("sagamq_disk_refused_requests", help, self.refused_requests.clone());
    }
}

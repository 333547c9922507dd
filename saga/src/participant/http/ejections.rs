//! How often endpoints of services were left alone, and services as a whole, and came back.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use sagamq_api::ServiceName;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ServiceLabel {
    service: String,
}

/// The counters; clones are the same ones.
#[derive(Clone, Debug, Default)]
pub(super) struct Ejections {
    ejected: Family<ServiceLabel, Counter>,
    readmitted: Family<ServiceLabel, Counter>,
    broken: Family<ServiceLabel, Counter>,
    closed: Family<ServiceLabel, Counter>,
}

impl Ejections {
    pub(super) fn register(&self, registry: &mut Registry) {
        let ejected = self.ejected.clone();
        registry.register("sagamq_endpoint_ejections", "Endpoints that could not be reached and were left alone, by service", ejected);
        let readmitted = self.readmitted.clone();
        registry.register("sagamq_endpoint_readmissions", "Endpoints that had been left alone and answered again, by service", readmitted);
        let broken = "Services that nobody calls for a while, because too many calls in a row had no answer, by service";
        registry.register("sagamq_service_breaker_openings", broken, self.broken.clone());
        let closed = "Services that nobody had called for a while and that answered again, by service";
        registry.register("sagamq_service_breaker_closings", closed, self.closed.clone());
    }

    /// Removes the series of a service that has no address any more.
    pub(super) fn forget(&self, service: &ServiceName) {
        let label = ServiceLabel { service: service.to_string() };
        for family in [&self.ejected, &self.readmitted, &self.broken, &self.closed] {
            family.remove(&label);
        }
    }

    pub(super) fn ejected(&self, service: &ServiceName) {
        self.ejected.get_or_create(&ServiceLabel { service: service.to_string() }).inc();
    }

    pub(super) fn broken(&self, service: &ServiceName) {
        self.broken.get_or_create(&ServiceLabel { service: service.to_string() }).inc();
    }

    pub(super) fn closed(&self, service: &ServiceName) {
        self.closed.get_or_create(&ServiceLabel { service: service.to_string() }).inc();
    }

    pub(super) fn readmitted(&self, service: &ServiceName) {
        self.readmitted.get_or_create(&ServiceLabel { service: service.to_string() }).inc();
    }
}

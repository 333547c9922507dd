//! When the certificates run out that calls show, as metrics: looked at whether somebody calls or not.

use super::services::Services;
use crate::outgoing::{SecretSource, first_expiry_in_pem_s};
use core::time::Duration;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use sagamq_api::ServiceName;
use sagamq_broker::PartGuard;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// How often it is looked.
const LOOK_EVERY: Duration = Duration::from_secs(5);

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ServiceLabel {
    service: String,
}

/// Looks at the certificates of services.
#[derive(Debug)]
pub(crate) struct Expiries {
    services: Services,
    secrets: SecretSource,
    shown: Family<ServiceLabel, Gauge>,
}

impl Expiries {
    /// Of these services, whose secrets are there.
    pub(crate) fn register(services: Services, secrets: SecretSource, registry: &mut Registry) -> Self {
        let shown = Family::default();
        let help = "When the first of the certificates runs out that calls to a service show, in seconds since 1970";
        registry.register("sagamq_service_certificate_expiry_timestamp_seconds", help, Family::clone(&shown));
        Self { services, secrets, shown }
    }

    /// Looks until the end.
    pub(crate) async fn watch(self, shutdown: CancellationToken, life: PartGuard) {
        let (this, mut before) = (Arc::new(self), BTreeSet::new());
        loop {
            // Files are read: not on a thread that others wait for.
            let looking = Arc::clone(&this);
            let look = tokio::task::spawn_blocking(move || looking.look());
            let ends = look.await.expect("a look neither panics nor is aborted");
            let gone: Vec<ServiceName> = before.difference(&ends.keys().cloned().collect()).cloned().collect();
            for service in gone {
                this.shown.remove(&ServiceLabel { service: service.to_string() });
            }
            for (service, end_s) in &ends {
                this.shown.get_or_create_owned(&ServiceLabel { service: service.to_string() }).set(*end_s);
            }
            before = ends.into_keys().collect();
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
        life.ended();
    }

    /// When the certificates of each service end that has some which can be read. That they cannot is told by its calls.
    fn look(&self) -> BTreeMap<ServiceName, i64> {
        let certificates = self.services.certificates().into_iter();
        let ends = certificates.filter_map(|(service, secret)| {
            let text = self.secrets.read(&secret).ok()?;
            Some((service, first_expiry_in_pem_s(text.reveal())?))
        });
        ends.collect()
    }
}

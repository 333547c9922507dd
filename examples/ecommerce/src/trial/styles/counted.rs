//! What orders take: records, requests, syncs, as the broker and the services count them.

use crate::mode::Mode;
use crate::trial::site::{BROKER, INVENTORY, ORDER, PARTICIPANTS, PAYMENT, SHIPPING, Site};
use crate::trial::{TrialError, books};
use sagamq_api::routes;
use sagamq_api::saga::SagaQuery;

/// Everything so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counted {
    records: u64,
    requests: u64,
    handled: u64,
    broker_syncs: u64,
    service_syncs: u64,
}

/// The same for each order.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Each {
    pub(super) records: f64,
    pub(super) requests: f64,
    pub(super) handled: f64,
    pub(super) broker_syncs: f64,
    pub(super) service_syncs: f64,
}

impl Counted {
    /// Asks the broker and all services.
    pub(super) async fn look(site: &Site) -> Result<Self, TrialError> {
        let metrics = site.http().get(format!("{}{}", site.url(BROKER), routes::METRICS)).send().await?.error_for_status()?.text().await?;
        // Whoever waits for an order's end asks the broker in some styles, and the order service in others: it is left out.
        let is_counted = |line: &str| !line.contains(routes::SAGA) && !line.contains(routes::METRICS);
        let topics = site.client()?.topics().await?.topics;
        let mut counted = Self {
            records: topics.iter().flat_map(|topic| &topic.partitions).map(|partition| partition.high_watermark.0).sum(),
            requests: sum(&metrics, "sagamq_http_requests_total{", is_counted),
            broker_syncs: sum(&metrics, "sagamq_commit_seconds_count{", |line| line.contains("synced=\"true\"")),
            ..Self::default()
        };
        for service in PARTICIPANTS {
            let counts = books::counts(site, service).await?;
            counted.handled += counts.calls + counts.branches.calls;
            counted.service_syncs += counts.syncs;
        }
        Ok(counted)
    }

    /// What each of so many orders took.
    pub(super) fn since(&self, before: &Self, orders: usize) -> Each {
        #[expect(clippy::cast_precision_loss, reason = "a mean for people")]
        let each = |now: u64, then: u64| now.saturating_sub(then) as f64 / orders.max(1) as f64;
        Each {
            records: each(self.records, before.records),
            requests: each(self.requests, before.requests),
            handled: each(self.handled, before.handled),
            broker_syncs: each(self.broker_syncs, before.broker_syncs),
            service_syncs: each(self.service_syncs, before.service_syncs),
        }
    }
}

/// The sum of a metric's values over the lines that count.
fn sum(metrics: &str, name: &str, counts: impl Fn(&str) -> bool) -> u64 {
    let lines = metrics.lines().filter(|line| line.starts_with(name) && counts(line));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

/// How many requests it takes to find out how far this order is, and at which step. They are made, not believed.
pub(super) async fn requests_to_find(site: &Site, mode: Mode, order_id: &str) -> Result<usize, TrialError> {
    if let Some(definition) = mode.definition() {
        let sagas = site.client()?.sagas();
        let of_order = SagaQuery { saga: definition.parse().ok(), key: Some(order_id.to_owned()), ..SagaQuery::default() };
        let found = sagas.list(&of_order).await?.sagas;
        let saga = found.first().ok_or_else(|| TrialError::WrongAnswer(format!("the order `{order_id}` has no saga")))?;
        let steps = sagas.get(saga.id).await?.steps;
        return if steps.is_empty() { Err(TrialError::WrongAnswer("a saga without steps".to_owned())) } else { Ok(2) };
    }
    // The order book knows that it is pending. Who has done his part, each service knows of itself.
    let mut asked = 0;
    for (service, path) in
        [(ORDER, format!("orders/{order_id}")), (INVENTORY, "books".into()), (SHIPPING, "books".into()), (PAYMENT, "books".into())]
    {
        let answer = site.http().get(format!("{}/{path}", site.url(service))).send().await?.error_for_status()?.text().await?;
        asked += 1;
        if service != ORDER && !answer.contains(order_id) {
            return Err(TrialError::WrongAnswer(format!("{service} does not know the order `{order_id}`")));
        }
    }
    Ok(asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_summed_over_its_lines_and_over_no_other_s() {
        let metrics =
            "# HELP a_total x\na_total{route=\"/v1/sagas\"} 3\na_total{route=\"/v1/sagas/{id}\"} 40\na_total_more{} 7\nb_total{} 5\n";
        assert_eq!(sum(metrics, "a_total{", |line| !line.contains(routes::SAGA)), 3);
        assert_eq!(sum(metrics, "a_total{", |_| true), 43);
    }

    #[test]
    fn what_each_order_took_is_what_came_since() {
        let before = Counted { records: 10, ..Counted::default() };
        let each = Counted { records: 30, requests: 5, ..before }.since(&before, 10);
        assert!((each.records - 2.0).abs() < f64::EPSILON && (each.requests - 0.5).abs() < f64::EPSILON);
    }
}

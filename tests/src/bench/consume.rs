//! Queue consume: receive up to 100 records, acknowledge them, again; what was produced before is drained.

use crate::ServerProcess;
use crate::bench::{now, produce};
use sagamq_api::GroupName;
use sagamq_api::queue::ReceiveRequest;

/// Records that are drained at the most.
const RECORDS_MAX: usize = 50_000;

/// Records consumed and acknowledged durably, a second.
pub(crate) async fn measure(server: &ServerProcess, consumers: usize) -> f64 {
    let (topic, group): (_, GroupName) = (produce::topic(), format!("consumers-{consumers}").parse().expect("legal"));
    let began = now();
    let tasks: Vec<_> = (0..consumers)
        .map(|_| {
            let (client, topic, group) = (server.client(), topic.clone(), group.clone());
            tokio::spawn(async move {
                let mut consumed = 0;
                while consumed < RECORDS_MAX / consumers {
                    let request = ReceiveRequest { max_records: Some(100), ..ReceiveRequest::default() };
                    let deliveries = client.receive(&topic, &group, &request).await.expect("received").deliveries;
                    if deliveries.is_empty() {
                        break;
                    }
                    consumed += deliveries.len();
                    let receipts = deliveries.into_iter().map(|delivery| delivery.receipt).collect();
                    client.ack(&topic, &group, receipts).await.expect("acknowledged");
                }
                consumed
            })
        })
        .collect();
    let mut consumed = 0;
    for task in tasks {
        consumed += task.await.expect("no panic");
    }
    consumed as f64 / began.elapsed().as_secs_f64()
}

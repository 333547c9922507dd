//! The same services over the queue: each reads its topic as a group, works, and hands on with an idempotency key, so an order that comes twice
//! goes on once.

use crate::service::{PLACES, Service};
use sagamq_api::topic::TopicConfig;
use sagamq_api::{GroupName, TopicName};
use sagamq_sdk::api::record::ProduceRecord;
use sagamq_sdk::{CancellationToken, Client, ClientError, HandlerError};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// A service that was away looks again after this.
const AWAY: Duration = Duration::from_millis(100);

/// Four consumers in this process.
#[derive(Debug)]
pub struct Queue {
    client: Client,
    first: TopicName,
    stop: CancellationToken,
    consumers: JoinSet<Result<(), ClientError>>,
}

impl Queue {
    /// Makes a topic before each service, and lets them consume. `run` is part of the topics' names.
    ///
    /// # Errors
    /// What the server refuses.
    ///
    /// # Panics
    /// When there is no service.
    pub async fn start(url: &str, run: &str, services: &[Arc<Service>]) -> Result<Self, ClientError> {
        let client = Client::new(url)?;
        let topics: Vec<TopicName> = (0..services.len()).map(|number| format!("{run}.{number}").parse().expect("a legal name")).collect();
        for topic in &topics {
            client.create_topic(topic, TopicConfig::default()).await?;
        }
        let (stop, mut consumers) = (CancellationToken::new(), JoinSet::new());
        for (number, service) in services.iter().enumerate() {
            let next = topics.get(number + 1).cloned();
            consumers.spawn(consume(client.clone(), topics[number].clone(), next, Arc::clone(service), stop.clone()));
        }
        Ok(Self { client, first: topics.first().expect("there are services").clone(), stop, consumers })
    }

    /// Sends an order; whether it was accepted: then it is on disk.
    pub async fn order(&self, order: u64) -> bool {
        hand_on(&self.client, &self.first, order).await.is_ok()
    }

    /// Lets the consumers end.
    ///
    /// # Errors
    /// What a consumer could not go on from.
    pub async fn stop(mut self) -> Result<(), ClientError> {
        self.stop.cancel();
        while let Some(ended) = self.consumers.join_next().await {
            ended.expect("a consumer does not panic")?;
        }
        Ok(())
    }
}

async fn hand_on(client: &Client, topic: &TopicName, order: u64) -> Result<(), ClientError> {
    let record = ProduceRecord::text(order.to_string());
    client.produce(topic, vec![record], Some(&format!("order-{order}"))).await.map(drop)
}

/// Consumes until `stop`; while its service is away nobody does, as when its process is gone.
async fn consume(
    client: Client,
    topic: TopicName,
    next: Option<TopicName>,
    service: Arc<Service>,
    stop: CancellationToken,
) -> Result<(), ClientError> {
    let group: GroupName = "service".parse().expect("a legal name");
    while !stop.is_cancelled() {
        if service.is_away() {
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(AWAY) => {}
            }
            continue;
        }
        let here = stop.child_token();
        let (client, next, service) = (client.clone(), next.clone(), Arc::clone(&service));
        let consumer = client.consumer(topic.clone(), group.clone()).concurrency(PLACES).build();
        let going = here.clone();
        let handled = consumer.run(here, move |delivery| {
            let (client, next, service, going) = (client.clone(), next.clone(), Arc::clone(&service), going.clone());
            async move {
                let text = delivery.record.text().unwrap_or_default();
                let order: u64 = text.parse().map_err(|_| HandlerError::terminate("the record is no number of an order"))?;
                if let Err(error) = service.work(order).await {
                    // The process is gone with what it had: it comes again to the next one.
                    going.cancel();
                    return Err(HandlerError::retry_after(AWAY, error.to_string()));
                }
                if let Some(next) = next {
                    hand_on(&client, &next, order).await?;
                }
                Ok(())
            }
        });
        handled.await?;
    }
    Ok(())
}

//! The services' side of the choreography: consumers of the events that a service hears, and the pump of what it tells.

use super::participant::Participant;
use super::{CONCURRENCY, LEASE, STOP_TIMEOUT, ServiceArgs, ServiceError, all};
use crate::choreography::Desk;
use crate::events::{self, OrderEvent, Teller};
use crate::mishaps::Fate;
use crate::store::{Database, Inbox};
use sagamq_sdk::{CancellationToken, Client, ClientError, Delivery, HandlerError};
use std::sync::Arc;
use tokio::task::JoinSet;

/// Hears events and tells what came of them, until `shutdown`, if the service takes part in the choreography.
pub(super) async fn listen<P: Participant>(
    args: &ServiceArgs,
    participant: Arc<P>,
    fate: Arc<Fate>,
    shutdown: CancellationToken,
) -> Result<(), ServiceError> {
    if !args.choreography {
        return Ok(());
    }
    let client = Client::new(&args.server)?;
    let (of, hears) = participant.hears();
    client.create_topic(&of.topic(), events::topic_config()).await?;
    let mut consumers = JoinSet::new();
    for teller in hears {
        consumers.spawn(hear(client.clone(), *teller, of, Arc::clone(&participant), Arc::clone(&fate), shutdown.clone()));
    }
    let pump = participant.store().pump(client, shutdown);
    let told = async {
        pump.await;
        Ok(())
    };
    tokio::try_join!(all(consumers), told).map(drop)
}

/// Hears what `teller` tells, as the group of `of`.
async fn hear<P: Participant>(
    client: Client,
    teller: Teller,
    of: Teller,
    participant: Arc<P>,
    fate: Arc<Fate>,
    shutdown: CancellationToken,
) -> Result<(), ClientError> {
    let (topic, group) = (teller.topic(), of.group());
    let inbox = Inbox::new(&topic, &group);
    let consumer =
        client.consumer(topic.clone(), group).wait_for_topic(true).concurrency(CONCURRENCY).lease(LEASE).stop_timeout(STOP_TIMEOUT).build();
    let handle = move |delivery: Delivery| {
        let (participant, fate, inbox, topic) = (Arc::clone(&participant), Arc::clone(&fate), inbox.clone(), topic.clone());
        async move {
            let event = OrderEvent::of(&delivery)?;
            let store = participant.store().clone();
            if !fate.is_heard(&event, &store).await {
                return Err(HandlerError::retry("the event was lost on the way"));
            }
            fate.dawdle().await;
            let is_lost = fate.loses_acknowledgement(&topic, &delivery);
            let desk = move |database: &Database| participant.react(&Desk { database, inbox: &inbox, delivery: &delivery }, &event);
            store.with(desk).await?;
            if is_lost { Err(HandlerError::retry("the acknowledgement was lost on purpose")) } else { Ok(()) }
        }
    };
    consumer.run(shutdown, handle).await
}

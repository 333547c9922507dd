//! A service that is called by nobody: it hears events, by a queue group of its own, and answers questions about what it made of them.
//!
//! The group is what keeps it from holding up anybody else. It has its own place in the topic: whether it is slow, or away for a day, others
//! neither wait for it nor notice, and it goes on where it was.

use super::{LEASE, STOP_TIMEOUT, ServiceArgs, ServiceError, all, listen, stop_on_signal};
use crate::events::{OrderEvent, Teller};
use crate::mishaps::Fate;
use crate::store::{Database, Store, StoreError};
use axum::Router;
use axum::routing::get;
use sagamq_api::GroupName;
use sagamq_sdk::{Client, Delivery};
use std::sync::Arc;
use tokio::task::JoinSet;

/// What a follower does with an event. It may hear the same one again, and the events of an order in any order.
pub(super) type Take = fn(&Database, &OrderEvent) -> Result<(), StoreError>;

/// Hears what these tell, as `group`, and serves `routes`, until the process is told to stop.
///
/// # Errors
/// [`ServiceError`] when it cannot start, or when the server refuses it for good.
pub(crate) async fn follow(
    args: &ServiceArgs,
    group: &GroupName,
    tellers: &[Teller],
    store: Store,
    take: Take,
    routes: Router,
) -> Result<(), ServiceError> {
    let (client, fate, shutdown) = (Client::new(&args.server)?, Arc::new(Fate::new(&args.mishaps)), stop_on_signal()?);
    let mut consumers = JoinSet::new();
    for teller in tellers {
        let consumer = client.consumer(teller.topic(), group.clone()).wait_for_topic(true).lease(LEASE).stop_timeout(STOP_TIMEOUT);
        let (store, fate) = (store.clone(), Arc::clone(&fate));
        let handle = move |delivery: Delivery| {
            let (store, fate) = (store.clone(), Arc::clone(&fate));
            async move {
                let event = OrderEvent::of(&delivery)?;
                fate.dawdle().await;
                Ok(store.with(move |database| take(database, &event)).await?)
            }
        };
        consumers.spawn(consumer.run(shutdown.clone(), handle));
    }
    let routes = routes.route("/healthz", get(|| async { "ok" }));
    tokio::try_join!(all(consumers), listen(args.listen, routes, shutdown.clone())).map(drop)
}

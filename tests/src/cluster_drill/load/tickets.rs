//! [`Sale`]: tickets are sold by sagas, to more than there are tickets for.

use super::super::audit::{Purchase, look_at_tickets};
use super::super::wrong::Wrong;
use super::office::Office;
use super::{PATIENCE, Shared};
use futures_util::{StreamExt as _, TryStreamExt as _};
use sagamq_api::saga::{SagaState, StartSaga};
use sagamq_sdk::ClientError;
use serde_json::json;
use std::net::IpAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use uuid::Uuid;

const SAGA: &str = "tickets";
const DEFINITION: &str = include_str!("tickets.yaml");

/// How many buy at a time.
const AT_A_TIME: usize = 24;

/// How many sagas the audit asks for at a time.
const ASKED: usize = 16;

/// More come behind those who found nothing, as long as a ticket is left that was given back: so often at most.
const LAST: u32 = 200;

/// Tickets for sale.
pub(in super::super) struct Sale {
    shared: Arc<Shared>,
    office: Office,
    for_sale: u32,
    /// Those who may come.
    come: Arc<Semaphore>,
    offered: AtomicU32,
    bought: Arc<Mutex<Vec<(String, Uuid)>>>,
    tasks: JoinSet<()>,
}

impl Sale {
    /// Opens the office; nobody comes yet.
    pub(in super::super) async fn begin(
        shared: Arc<Shared>,
        at: IpAddr,
        folder: &Path,
        for_sale: u32,
        seed: u64,
    ) -> Result<Self, ClientError> {
        let office = Office::open(at, folder, shared.client.clone(), for_sale, seed).await;
        let definition = DEFINITION.replace("\"OFFICE\"", &format!("\"http://{}\"", office.address));
        shared.client.sagas().publish(&definition).await?;
        let (come, next) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicU32::new(0)));
        let bought: Arc<Mutex<Vec<(String, Uuid)>>> = Arc::default();
        let mut tasks = JoinSet::new();
        for _ in 0..AT_A_TIME {
            let (shared, come, next, bought) = (Arc::clone(&shared), Arc::clone(&come), Arc::clone(&next), Arc::clone(&bought));
            tasks.spawn(async move {
                while let Ok(permit) = come.acquire().await {
                    permit.forget();
                    let buyer = format!("buyer-{}", next.fetch_add(1, Ordering::SeqCst));
                    match buy(&shared, &buyer).await {
                        Ok(saga) => bought.lock().unwrap_or_else(PoisonError::into_inner).push((buyer, saga)),
                        Err(error) => shared.findings.wrong(Wrong::Other(format!("{buyer} gave up: {error}"))),
                    }
                }
            });
        }
        Ok(Self { shared, office, for_sale, come, offered: AtomicU32::new(0), bought, tasks })
    }

    /// So many more come.
    pub(in super::super) fn offer(&self, count: u32) {
        self.offered.fetch_add(count, Ordering::SeqCst);
        self.come.add_permits(count as usize);
    }

    /// How many have come to an end.
    pub(in super::super) fn served(&self) -> u32 {
        u32::try_from(self.bought.lock().unwrap_or_else(PoisonError::into_inner).len()).unwrap_or(u32::MAX)
    }

    /// Waits until all who came are served.
    pub(in super::super) async fn is_served(&self) -> bool {
        let served = async {
            while self.served() < self.offered.load(Ordering::SeqCst) {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, served).await.is_ok()
    }

    /// Serves the rest, and looks at all of it.
    pub(in super::super) async fn settle(mut self) -> Result<(), ClientError> {
        let findings = &self.shared.findings;
        let broken = |error| Wrong::Other(format!("the books of the office cannot be read: {error}"));
        for _ in 0..LAST {
            if !self.is_served().await {
                findings.wrong(Wrong::Other(format!("{} of {:?} who wanted tickets were served", self.served(), self.offered)));
                break;
            }
            match self.office.left() {
                Ok(0) => break,
                Ok(left) => self.offer(left),
                Err(error) => findings.wrong(broken(error)),
            }
        }
        self.tasks.abort_all();
        while self.tasks.join_next().await.is_some() {}
        let bought = std::mem::take(&mut *self.bought.lock().unwrap_or_else(PoisonError::into_inner));
        let sagas = self.shared.client.sagas();
        let shown = futures_util::stream::iter(bought).map(|(buyer, saga)| {
            let sagas = sagas.clone();
            async move { Ok::<_, ClientError>((buyer, sagas.get(saga).await?)) }
        });
        let shown: Vec<_> = shown.buffered(ASKED).try_collect().await?;
        let mut purchases = Vec::new();
        for (buyer, shown) in shown {
            let state = shown.summary.state;
            if !matches!(state, SagaState::Completed | SagaState::Compensated | SagaState::Failed) {
                findings.wrong(Wrong::Other(format!("{buyer}: saga {} is {state}", shown.summary.id)));
            }
            findings.occurred(format!("ticket saga {state}"));
            let told = shown.output.and_then(|output| u32::try_from(output.to_value()["ticket"].as_u64()?).ok());
            match self.office.of(&buyer) {
                Ok((holds, paid, refunded)) => {
                    purchases.push(Purchase { buyer, is_completed: state == SagaState::Completed, told, holds, paid, refunded });
                }
                Err(error) => findings.wrong(broken(error)),
            }
        }
        findings.add("who wanted a ticket", purchases.len() as u64);
        findings.add("tickets sold", purchases.iter().filter(|purchase| purchase.holds.is_some()).count() as u64);
        findings.all_wrong(look_at_tickets(&purchases, self.for_sale, true));
        Ok(())
    }
}

/// Starts the saga of a buyer, and waits for its end.
async fn buy(shared: &Shared, buyer: &str) -> Result<Uuid, ClientError> {
    let start = StartSaga { saga: SAGA.parse().expect("legal"), version: None, mode: None, input: json!({ "buyer": buyer }).into() };
    let sagas = shared.client.sagas();
    let saga = sagas.start(&start).await?.id;
    Ok(sagas.wait(saga, PATIENCE).await?.summary.id)
}

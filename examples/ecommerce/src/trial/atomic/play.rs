//! One run: an order, a kill at its point, and the way back to a shop in which everything is decided.

use super::case::{Case, Trouble, Work};
use crate::domain::{Line, NewOrder};
use crate::inventory::NewRepack;
use crate::service::checkpoint::{Place, Side, Verb};
use crate::trial::TrialError;
use crate::trial::branches;
use crate::trial::site::{BROKER, PARTICIPANTS, Site};
use crate::trial::traffic;
use sagamq_api::JsonText;
use sagamq_api::saga::{SagaDescription, StartSaga};
use sagamq_sdk::SagaClient;
use std::cell::Cell;
use std::convert::Infallible;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;
use uuid::Uuid;

/// The card that pays for everything, and what is bought: each run wants what the run before it has locked.
pub(super) const CARD: &str = "card-drill";
pub(super) const IN_STOCK: &str = "mug";
pub(super) const SOLD_OUT: &str = "poster";

/// What pieces in stock are repacked to.
pub(super) const REPACKED: &str = "book";

/// The definition by which that is done.
pub(super) const REPACK: &str = "repack-2pc";

/// Longest time until a run is decided everywhere. On a loaded machine slow is not wrong, but for ever is.
const LIMIT: Duration = Duration::from_secs(120);

/// Pause between two looks at who is in doubt.
const LOOK: Duration = Duration::from_millis(20);

/// What a run came to.
#[derive(Debug)]
pub(super) struct Played {
    pub(super) case: Case,
    pub(super) done: Done,
    /// The transaction at its end.
    pub(super) saga: SagaDescription,
    /// Whether the point was reached, and so the kill.
    pub(super) is_reached: bool,
    /// From the kill until the outcome was known and no branch was in doubt any more.
    pub(super) settled: Duration,
    /// The longest time for which a branch was seen in doubt, from when it was prepared.
    pub(super) in_doubt: Duration,
}

/// What the transaction of a run is for.
#[derive(Clone, Debug)]
pub(super) enum Done {
    Order(NewOrder),
    Repack(NewRepack),
}

impl Done {
    fn of(case: &Case, key: &str) -> Self {
        match case.work {
            Work::Order => {
                let sku = if case.trouble == Trouble::SoldOut { SOLD_OUT } else { IN_STOCK };
                let lines = vec![Line { sku: sku.to_owned(), quantity: 1 }];
                Self::Order(NewOrder { order_id: key.to_owned(), card: CARD.to_owned(), country: "DE".to_owned(), lines })
            }
            Work::Repack => {
                Self::Repack(NewRepack { repack_id: key.to_owned(), from: IN_STOCK.to_owned(), to: REPACKED.to_owned(), pieces: 1 })
            }
        }
    }

    /// Begins it. Gives its transaction.
    async fn begin(&self, site: &Site, sagas: &SagaClient) -> Result<Uuid, TrialError> {
        match self {
            Self::Order(order) => {
                let (accepted, _) = traffic::send(site, order).await?;
                let refused = || TrialError::WrongAnswer(format!("the good order `{}` was refused", order.order_id));
                accepted.and_then(|accepted| accepted.saga).ok_or_else(refused)
            }
            Self::Repack(repack) => {
                let (saga, input) = (REPACK.parse().expect("a legal name"), JsonText::of(repack).expect("it is JSON"));
                Ok(sagas.start(&StartSaga { saga, version: None, mode: None, input }).await?.id)
            }
        }
    }
}

/// Plays one run. Returns when its outcome is known and no branch of it is in doubt.
pub(super) async fn play(site: &Site, sagas: &SagaClient, case: Case, key: String) -> Result<Played, TrialError> {
    let done = Done::of(&case, &key);
    branches::hold(site, case.at, &case.place(&key)).await?;
    if let Trouble::LostBranch(other) = case.trouble {
        let place = Place { order_id: Some(key.clone()), verb: Verb::Prepare, side: Side::Before, skip: 0 };
        branches::hold(site, other, &place).await?;
    }
    let id = done.begin(site, sagas).await?;
    if let Trouble::LostBranch(other) = case.trouble
        && held_or_ended(site, sagas, other, id).await?
    {
        site.kill(other).await?;
        site.restart(other).await?;
    }
    let is_reached = held_or_ended(site, sagas, case.at, id).await?;
    let (killed, longest) = (Instant::now(), Cell::new(Duration::ZERO));
    let decided = async {
        if is_reached {
            strike(site, &case).await?;
        } else {
            branches::let_go(site, case.at).await?;
        }
        let saga = sagas.wait(id, LIMIT).await?;
        branches::until_nobody_is_in_doubt(site).await?;
        Ok::<_, TrialError>(saga)
    };
    let saga = tokio::select! {
        saga = decided => saga?,
        never = watch_doubts(site, &longest) => match never {},
    };
    Ok(Played { case, done, saga, is_reached, settled: killed.elapsed(), in_doubt: longest.get() })
}

/// Whether a call is held at `service` before the transaction ends.
async fn held_or_ended(site: &Site, sagas: &SagaClient, service: &str, id: Uuid) -> Result<bool, TrialError> {
    tokio::select! {
        held = branches::held(site, service) => held.map(|()| true),
        ended = sagas.wait(id, LIMIT) => { ended?; Ok(false) }
    }
}

/// The kill, and the new start.
async fn strike(site: &Site, case: &Case) -> Result<(), TrialError> {
    if case.point.lets_go() {
        branches::let_go(site, case.at).await?;
        // Not a wait for something to happen: the kill falls into what goes on by itself.
        tokio::time::sleep(case.delay).await;
    }
    site.kill(case.killed).await?;
    if case.killed == BROKER && !case.point.lets_go() {
        branches::let_go(site, case.at).await?;
    }
    site.restart(case.killed).await?;
    Ok(())
}

/// Looks again and again at who is in doubt, also while somebody is dead, and keeps the longest time.
async fn watch_doubts(site: &Site, longest: &Cell<Duration>) -> Infallible {
    loop {
        for service in PARTICIPANTS {
            for branch in branches::in_doubt_at(site, service).await.unwrap_or_default() {
                longest.set(longest.get().max(since(branch.prepared_at_ms)));
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn since(at_ms: u64) -> Duration {
    #[expect(clippy::disallowed_methods, reason = "what a service has written down is wall time")]
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.saturating_sub(Duration::from_millis(at_ms))
}

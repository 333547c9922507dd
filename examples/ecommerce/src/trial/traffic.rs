//! The customers: send orders, again if they got no answer, and watch each accepted one to its end, by its saga or in the order book.

use super::TrialError;
use super::plan::Plan;
use super::site::{ORDER, Site};
use crate::domain::NewOrder;
use crate::orders::api::Accepted;
use crate::orders::{Order, OrderState};
use reqwest::StatusCode;
use sagamq_api::saga::{SagaDescription, SagaState, SagaSummary};
use sagamq_sdk::SagaClient;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Pause before an order is sent again.
const AGAIN: Duration = Duration::from_millis(200);

/// How long one look at the order book waits for an order's end, in milliseconds.
const WAIT_MS: u64 = 5_000;

/// Longest time one order may take. The demo's own limit is reached first.
const SAGA_LIMIT: Duration = Duration::from_secs(3_600);

/// An order that came to its end.
#[derive(Clone, Debug)]
pub(super) struct Ended {
    /// What the customer sent.
    pub(super) order: NewOrder,
    /// What it came to.
    pub(super) end: End,
    /// How long its customer waited, from sending it.
    pub(super) took: Duration,
    /// The state that its books must show, if that is not the saga's.
    pub(super) stands: Option<SagaState>,
}

/// What an order came to, told by whoever knows it.
#[derive(Clone, Debug)]
pub(super) enum End {
    /// Its saga or transaction.
    Saga(Box<SagaDescription>),
    /// The order book, where there is no saga.
    Book(Order),
}

impl Ended {
    /// The saga or transaction, if there was one.
    pub(super) fn saga(&self) -> Option<&SagaSummary> {
        match &self.end {
            End::Saga(saga) => Some(&saga.summary),
            End::Book(_) => None,
        }
    }

    /// Whether the goods were paid and sent, so that all books must say so.
    pub(super) fn is_completed(&self) -> bool {
        match &self.end {
            End::Saga(saga) => self.stands.unwrap_or(saga.summary.state) == SagaState::Completed,
            End::Book(order) => order.state == OrderState::Completed,
        }
    }

    /// Whether nothing more becomes of it.
    pub(super) fn is_final(&self) -> bool {
        match &self.end {
            End::Saga(saga) => saga.summary.state.is_final() || self.stands.is_some(),
            End::Book(order) => order.state != OrderState::Pending,
        }
    }

    /// How it ended, in the words of whoever told it.
    pub(super) fn state(&self) -> String {
        match &self.end {
            End::Saga(saga) => saga.summary.state.to_string(),
            End::Book(order) => order.state.to_string(),
        }
    }

    /// Why nothing came of it.
    pub(super) fn why(&self) -> Option<&str> {
        match &self.end {
            End::Saga(saga) => saga.summary.failure.as_ref().map(|failure| failure.code.as_str()),
            End::Book(order) => order.reason.as_deref(),
        }
    }
}

/// What became of all orders.
#[derive(Clone, Debug, Default)]
pub(super) struct Outcome {
    /// Orders that were accepted, all at their end.
    pub(super) ended: Vec<Ended>,
    /// Orders that were refused at the door; no saga was started.
    pub(super) refused: usize,
    /// How often an order was sent again because there was no answer.
    pub(super) sent_again: u64,
}

/// Sends every order, at most `in_flight` at a time from the request to the end of the saga. `progress` counts ended orders.
pub(super) async fn run(site: Arc<Site>, plan: &Plan, in_flight: usize, progress: watch::Sender<usize>) -> Result<Outcome, TrialError> {
    let permits = Arc::new(Semaphore::new(in_flight.max(1)));
    let sagas = site.client()?.sagas();
    let mut tasks = JoinSet::new();
    let mut outcome = Outcome::default();
    for order in plan.orders.clone() {
        let permit = Arc::clone(&permits).acquire_owned().await.expect("the semaphore is never closed");
        let (site, sagas, progress) = (Arc::clone(&site), sagas.clone(), progress.clone());
        let cancels = plan.cancelled.contains(&order.order_id);
        tasks.spawn(async move {
            let result = follow(&site, &sagas, order, cancels).await;
            if matches!(&result, Ok((Some(_), _))) {
                progress.send_modify(|ended| *ended += 1);
            }
            drop(permit);
            result
        });
        while let Some(done) = tasks.try_join_next() {
            outcome.add(done??);
        }
    }
    while let Some(done) = tasks.join_next().await {
        outcome.add(done??);
    }
    Ok(outcome)
}

impl Outcome {
    /// In which time so many percent of the orders ended.
    pub(super) fn within(&self, percent: usize) -> Duration {
        let mut times: Vec<Duration> = self.ended.iter().map(|ended| ended.took).collect();
        times.sort_unstable();
        times.get((times.len() * percent / 100).min(times.len().saturating_sub(1))).copied().unwrap_or_default()
    }

    /// Both.
    pub(super) fn with(mut self, more: Self) -> Self {
        self.ended.extend(more.ended);
        Self { refused: self.refused + more.refused, sent_again: self.sent_again + more.sent_again, ..self }
    }

    fn add(&mut self, (ended, sent_again): (Option<Ended>, u64)) {
        self.sent_again += sent_again;
        match ended {
            Some(ended) => self.ended.push(ended),
            None => self.refused += 1,
        }
    }
}

async fn follow(site: &Site, sagas: &SagaClient, order: NewOrder, cancels: bool) -> Result<(Option<Ended>, u64), TrialError> {
    let began = Instant::now();
    let (accepted, sent_again) = send(site, &order).await?;
    let Some(accepted) = accepted else { return Ok((None, sent_again)) };
    if cancels {
        cancel(site, &order.order_id).await?;
    }
    let end = match accepted.saga {
        Some(saga) => End::Saga(Box::new(sagas.wait(saga, SAGA_LIMIT).await?)),
        None => End::Book(entered(site, &order.order_id).await?),
    };
    Ok((Some(Ended { order, end, took: began.elapsed(), stands: None }), sent_again))
}

/// Looks into the order book until this order is at its end.
async fn entered(site: &Site, order_id: &str) -> Result<Order, TrialError> {
    loop {
        let look = site.http().get(format!("{}/orders/{order_id}?wait_ms={WAIT_MS}", site.url(ORDER))).send().await;
        match look {
            Ok(answer) if answer.status().is_success() => {
                let order: Order = answer.json().await?;
                if order.state != OrderState::Pending {
                    return Ok(order);
                }
            }
            Ok(answer) if answer.status() == StatusCode::NOT_FOUND => {
                return Err(TrialError::WrongAnswer(format!("the accepted order `{order_id}` is not in the book")));
            }
            Ok(_) | Err(_) => tokio::time::sleep(AGAIN).await,
        }
    }
}

/// Cancels an order until there is an answer; it may be too late.
async fn cancel(site: &Site, order_id: &str) -> Result<(), TrialError> {
    loop {
        match site.http().post(format!("{}/orders/{order_id}/cancel", site.url(ORDER))).send().await {
            Ok(answer) if matches!(answer.status(), StatusCode::ACCEPTED | StatusCode::CONFLICT) => return Ok(()),
            Ok(answer) if answer.status() != StatusCode::SERVICE_UNAVAILABLE => {
                return Err(TrialError::WrongAnswer(format!("cancelling `{order_id}` was answered with {}", answer.status())));
            }
            Ok(_) | Err(_) => tokio::time::sleep(AGAIN).await,
        }
    }
}

/// Sends an order until there is an answer. Safe, because its id makes it the same order each time.
pub(super) async fn send(site: &Site, order: &NewOrder) -> Result<(Option<Accepted>, u64), TrialError> {
    let mut sent_again = 0;
    loop {
        match site.http().post(format!("{}/orders", site.url(ORDER))).json(order).send().await {
            Ok(answer) if answer.status() == StatusCode::ACCEPTED => {
                let accepted: Accepted = answer.json().await?;
                if accepted.order_id != order.order_id {
                    return Err(TrialError::WrongAnswer(format!("order `{}` was answered as `{}`", order.order_id, accepted.order_id)));
                }
                return Ok((Some(accepted), sent_again));
            }
            Ok(answer) if answer.status().is_client_error() => {
                let (status, body) = (answer.status(), answer.text().await.unwrap_or_default());
                return match order.total() {
                    Err(_) => Ok((None, sent_again)),
                    Ok(_) => Err(TrialError::WrongAnswer(format!("the good order `{}` was refused: {status} {body}", order.order_id))),
                };
            }
            Ok(answer) if answer.status() == StatusCode::INTERNAL_SERVER_ERROR => {
                let body = answer.text().await.unwrap_or_default();
                return Err(TrialError::WrongAnswer(format!("the order `{}` cannot be taken: {body}", order.order_id)));
            }
            Ok(_) | Err(_) => {
                sent_again += 1;
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

//! The way to the payment provider, and what is done when its answer does not come.

use crate::provider::{Answer, Charge, IDEMPOTENCY_KEY, Operation, Purpose, Request};
use crate::telemetry::outgoing;
use reqwest::{RequestBuilder, StatusCode, Url};
use sagamq_sdk::CallError;
use std::time::Duration;

/// How long an answer is waited for: shorter than the step's timeout, so that there is time to look it up.
const ANSWER: Duration = Duration::from_millis(700);

/// How long a look-up is waited for.
const LOOK_UP: Duration = Duration::from_millis(400);

/// The failure code of a request whose outcome is not known.
const DOUBT: &str = "PROVIDER_DOUBT";

/// A client of the provider.
#[derive(Clone, Debug)]
pub(super) struct Provider {
    http: reqwest::Client,
    base: String,
}

/// An answer, and how it was had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// The provider answered.
    Answered(Answer),
    /// It did not, and the look-up told.
    LookedUp(Answer),
}

impl Provider {
    /// A client of the provider at `url`.
    pub(super) fn new(url: &str) -> Result<Self, reqwest::Error> {
        // Nothing here speaks TLS, so the system's certificates are not needed.
        let http = reqwest::Client::builder().no_proxy().tls_certs_only([]).connect_timeout(LOOK_UP).build()?;
        Ok(Self { http, base: url.trim_end_matches('/').to_owned() })
    }

    /// Asks for `request` under `key`; when no answer comes, looks it up.
    ///
    /// # Errors
    /// Unknown when that does not help either. That nothing is found says nothing: the request may still be on its way.
    pub(super) async fn ask(&self, key: &str, request: &Request) -> Result<Told, CallError> {
        let post = self.http.post(format!("{}/requests", self.base)).headers(outgoing()).header(IDEMPOTENCY_KEY, key).json(request);
        let reason = match answer(post.timeout(ANSWER)).await {
            Ok(answer) => return Ok(Told::Answered(answer)),
            Err(reason) => reason,
        };
        let look = self.http.get(self.of_key("requests", key)?);
        match answer(look.timeout(LOOK_UP)).await {
            Ok(answer) => Ok(Told::LookedUp(answer)),
            Err(again) => {
                Err(CallError::unknown(DOUBT, format!("{} of {}: {reason}; looked up: {again}", request.purpose, request.order_id)))
            }
        }
    }

    /// What really came of the request with this key, after which nothing will come of it any more. Nothing: no money was moved.
    ///
    /// # Errors
    /// Unknown when the provider does not answer.
    pub(super) async fn close(&self, key: &str) -> Result<Option<Charge>, CallError> {
        let post = self.http.post(self.of_key("requests/close", key)?);
        match answer(post.timeout(ANSWER)).await {
            Ok(Answer::Done(charge)) => Ok(Some(charge)),
            Ok(Answer::Declined { .. } | Answer::Closed) => Ok(None),
            Ok(other @ (Answer::Unconfirmed | Answer::KeyReused)) => Err(CallError::unknown(DOUBT, format!("{other:?}"))),
            Err(reason) => Err(CallError::unknown(DOUBT, format!("closing {key}: {reason}"))),
        }
    }

    fn of_key(&self, path: &str, key: &str) -> Result<Url, CallError> {
        Ok(Url::parse_with_params(&format!("{}/{path}", self.base), [("key", key)])?)
    }
}

/// An answer in the provider's words. Anything else (a timeout, an error, a proxy's page) is none.
async fn answer(request: RequestBuilder) -> Result<Answer, String> {
    let response = request.send().await.map_err(|error| error.to_string())?;
    let (status, body) = (response.status(), response.bytes().await.map_err(|error| error.to_string())?);
    let told = matches!(
        status,
        StatusCode::OK | StatusCode::ACCEPTED | StatusCode::PAYMENT_REQUIRED | StatusCode::CONFLICT | StatusCode::UNPROCESSABLE_ENTITY
    );
    serde_json::from_slice(&body).ok().filter(|_| told).ok_or_else(|| format!("HTTP {status}"))
}

/// What is left to give back of a charge: what was really taken, not what somebody believes.
pub(super) fn give_back(charge: &Charge) -> Option<(Purpose, Operation)> {
    match charge.taken.checked_sub(charge.given_back) {
        Some(amount) if amount.0 > 0 => Some((Purpose::Refund, Operation::Refund { charge: charge.id.clone(), amount })),
        _ if charge.held.0 > 0 => Some((Purpose::Release, Operation::Release { charge: charge.id.clone() })),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Money;

    fn charge(held: u64, taken: u64, given_back: u64) -> Charge {
        let (held, taken, given_back) = (Money(held), Money(taken), Money(given_back));
        Charge { id: "k".into(), order_id: "o".into(), purpose: Purpose::Deposit, card: "c".into(), held, taken, given_back }
    }

    #[test]
    fn what_was_really_taken_is_given_back_and_nothing_twice() {
        let refund = |amount| Some((Purpose::Refund, Operation::Refund { charge: "k".into(), amount: Money(amount) }));
        assert_eq!(give_back(&charge(0, 300, 0)), refund(300));
        assert_eq!(give_back(&charge(0, 300, 100)), refund(200));
        assert_eq!(give_back(&charge(0, 300, 300)), None);
        assert_eq!(give_back(&charge(800, 0, 0)), Some((Purpose::Release, Operation::Release { charge: "k".into() })));
        assert_eq!(give_back(&charge(0, 0, 0)), None, "declined, or let go before");
    }
}

//! One call to an HTTP participant, from the search for an endpoint to the participant's word.
//!
//! It waits for an address, for an endpoint that is called, for a place among the calls there and for a connection as long as its attempt
//! lives, because until it is sent it had no effect; the time of its run begins when it is sent.

use super::address::{address_of, located};
use super::answer::{unknown, word_of};
use super::causes::describe;
use super::credentials::Ready;
use super::held::Held;
use super::kind::Kind;
use super::participants::{HttpParticipants, later, not_sent};
use super::progress::Progress;
use super::register::HttpCalls;
use super::services::{Choice, Chosen};
use crate::definition::{HttpTarget, RetryPolicy};
use crate::participant::headers::{HEADERS, call_headers, call_json};
use crate::protocol::codes;
use core::time::Duration;
use http::{HeaderMap, HeaderName, HeaderValue};
use reqwest::Response;
use sagamq_api::TraceContext;
use sagamq_api::headers::{TRACEPARENT, TRACESTATE};
use sagamq_api::saga::{Call, CallOutcome, Failure, HeldBy, ServiceBound};
use std::sync::Arc;

/// How long to wait before a participant that works on is asked again, if it does not say.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Shortest wait before a participant is asked again: `Retry-After: 0` must not become a busy loop.
const ASK_AGAIN_MIN: Duration = Duration::from_millis(50);

/// How long to wait before a secret is looked for again that is not there.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// How far a call is that has had no answer.
#[derive(Default)]
struct Search {
    /// Endpoints that could not be connected to since the last pause.
    in_vain: Vec<String>,
    /// Pauses after all of them were tried.
    pauses: u32,
    is_told: bool,
}

impl HttpParticipants {
    /// Calls until the participant has a word other than "ongoing", or the run's time is over. `report` hears of every word, and once if
    /// nothing can be sent; after the deadline it hears nothing, because the attempt's timer speaks then.
    pub(super) async fn perform<F: Future<Output = ()>>(
        &self,
        target: &HttpTarget,
        (call, cause): (&Call, Option<&TraceContext>),
        retry: &RetryPolicy,
        calls: &HttpCalls,
        report: impl Fn(Progress) -> F,
    ) {
        let attempt = &call.attempt;
        let kind = Kind::of(attempt.operation);
        let (mut search, mut stays): (Search, Option<String>) = (Search::default(), None);
        loop {
            let version = self.services.version();
            // What lets locks go is of a branch that was opened when it might be.
            if let (HttpTarget::Service { name, .. }, Kind::Work) = (target, kind)
                && let Some(failure) = self.services.forbids(name, &call.saga)
            {
                search.tell(failure, &report).await;
                self.pause_until(u64::MAX, version).await;
                continue;
            }
            let free = |base: &str| self.places(base, kind).available_permits();
            let mut chosen = match self.services.choose((target, kind), stays.as_deref(), &search.in_vain, free, self.now_ms()) {
                Choice::At(chosen) => chosen,
                Choice::Nowhere { failure, held, until_ms } => {
                    calls.hold(attempt, held.map(|by| Held { by, until_ms }));
                    search.tell(failure, &report).await;
                    self.pause_until(until_ms.unwrap_or(u64::MAX), version).await;
                    continue;
                }
            };
            if let Some(failure) = self.forbids(&chosen.base) {
                search.in_vain.push(chosen.base.clone());
                if self.services.others(target, &search.in_vain, self.now_ms()) == 0 {
                    search.tell(failure, &report).await;
                    search.in_vain.clear();
                    // Other settings need another process; another address does not.
                    self.pause_until(u64::MAX, version).await;
                }
                continue;
            }
            let throttle = self.services.throttle(target, kind);
            calls.hold(attempt, None);
            let held_by = |bound, limit| {
                let by = HeldBy { service: service_of(target).to_owned(), bound, limit };
                calls.hold(attempt, Some(Held { by, until_ms: None }));
            };
            let admitted = async {
                let own = match &throttle {
                    Some(throttle) => throttle.place(|limit| held_by(ServiceBound::MaxInFlight, limit.into())).await,
                    None => None,
                };
                let places = self.places(&chosen.base, kind);
                let place = match Arc::clone(&places).try_acquire_owned() {
                    Ok(place) => Ok(place),
                    Err(_) => {
                        held_by(ServiceBound::ParticipantCallsMax, self.calls_max());
                        places.acquire_owned().await
                    }
                };
                if let Some(throttle) = &throttle {
                    let waits = |limit: u32| held_by(ServiceBound::CallsPerSecond, limit.into());
                    throttle.turn(|| self.now_ms(), |until_ms| self.pause(until_ms), waits).await;
                }
                place.map(|place| (place, own))
            };
            let place = tokio::select! {
                biased;
                place = admitted => place,
                // Perhaps there is a better place to wait at.
                () = self.services.changed_since(version) => continue,
            };
            let Ok(place) = place else { return };
            let Ok(credentials) = self.services.still(target, &chosen, self.now_ms()) else { continue };
            let in_the_clear = |base: &str| credentials.as_ref().and_then(|credentials| credentials.forbid(base)).map(secret_unavailable);
            let ready = match in_the_clear(&chosen.base) {
                Some(failure) => Err(failure),
                None => self.ready(credentials.clone()).await,
            };
            let ready = match ready {
                Ok(ready) => ready,
                Err(failure) => {
                    drop((place, chosen));
                    search.tell(failure, &report).await;
                    // Not until something changes: what this call was to decide about its endpoint is left to another one, which has no secret either.
                    self.pause(self.after(LOOK_AGAIN)).await;
                    continue;
                }
            };
            let Some(sent_ms) = calls.begin(attempt, self.now_ms()) else {
                drop((place, chosen));
                // It is over, unless the decision that took it back does not come about.
                calls.restored(attempt).await;
                continue;
            };
            let deadline_ms = sent_ms.saturating_add(call.timeout_ms);
            let Some(left) = self.time_left(deadline_ms) else { return };
            let url = format!("{}/{}", chosen.base, call.call);
            let mut sent = Sent { http: self, chosen: &mut chosen, due_ms: due_ms(call, deadline_ms), is_open: true };
            let answer = match self.send(&url, (call, cause), (deadline_ms, left), &ready).await {
                Ok(response) => {
                    sent.chosen.connected();
                    let address = address_of(response.headers(), call, &ready, |base| self.forbids(base).or_else(|| in_the_clear(base)));
                    // An answer is one when its body is there.
                    let is_foreign = match target {
                        HttpTarget::Service { .. } => !sent.chosen.is_of_the_service(),
                        HttpTarget::Worker { is_foreign, .. } => *is_foreign,
                    };
                    Ok(located(word_of(response, attempt.operation, &ready).await, address, is_foreign))
                }
                Err(error) => Err(error),
            };
            sent.is_open = false;
            drop(sent);
            let base = chosen.base.clone();
            let progress = match answer {
                Err(error) if error.is_connect() => {
                    // What follows is counted from here, however long it takes until it is told.
                    let refused_ms = self.now_ms();
                    chosen.refused(refused_ms);
                    if let Some(was_seen) = calls.not_sent(attempt) {
                        drop(place);
                        search.in_vain.push(base);
                        if was_seen {
                            // Who saw it on its way takes it for sent.
                            search.is_told = true;
                            report(Progress::NotSent { failure: not_sent(&error), was_never_sent: true }).await;
                        }
                        if self.services.others(target, &search.in_vain, self.now_ms()) == 0 {
                            search.tell(not_sent(&error), &report).await;
                            let pause = search.pause(retry, self.jitter());
                            self.pause_until(later(refused_ms, pause), version).await;
                        }
                        continue;
                    }
                    unknown("NO_ANSWER", describe(&error), None)
                }
                Err(error) => {
                    // Time may have been over before there was a connection.
                    if !error.is_timeout() {
                        chosen.connected();
                    }
                    chosen.unanswered(self.now_ms());
                    unknown("NO_ANSWER", describe(&error), None)
                }
                Ok(word) => {
                    match &word {
                        Progress::Word { reply: CallOutcome::Unknown { .. }, .. } => chosen.unanswered(self.now_ms()),
                        Progress::Word { .. } | Progress::NotSent { .. } => chosen.answered(),
                    }
                    word
                }
            };
            drop(place);
            let Progress::Word { reply: CallOutcome::Ongoing { retry_after_ms }, .. } = progress else { return report(progress).await };
            calls.was_sent(attempt);
            report(progress).await;
            let pause = retry_after_ms.map_or(ASK_AGAIN, Duration::from_millis).max(ASK_AGAIN_MIN);
            self.pause(self.after(pause).min(deadline_ms)).await;
            stays = Some(base);
        }
    }

    /// Sends the request. Its body is made here, with a place in hand: what waits for one takes no more memory than its arguments.
    fn send(
        &self,
        url: &str,
        (call, cause): (&Call, Option<&TraceContext>),
        (deadline_ms, left): (u64, Duration),
        ready: &Ready,
    ) -> impl Future<Output = Result<Response, reqwest::Error>> {
        let call = Call { deadline_ms, ..call.clone() };
        let client = ready.client.as_ref().unwrap_or(&self.client);
        let request = client.post(url).timeout(left).body(call_json(&call)).build();
        let sending = request.map(|mut request| {
            // The library's own way puts each into a map of its own first.
            let headers = request.headers_mut();
            headers.reserve(HEADERS + ready.headers.len());
            headers.extend(ready.headers.clone());
            add_headers(headers, &call, cause);
            client.execute(request)
        });
        async move { sending?.await }
    }

    /// Waits until then, or until something has changed about services since that version.
    async fn pause_until(&self, until_ms: u64, version: u64) {
        tokio::select! {
            () = self.pause(until_ms) => {}
            () = self.services.changed_since(version) => {}
        }
    }
}

/// A call that is on its way. Its task ends with its attempt: if that was over because of the time, there was no answer in time.
struct Sent<'c> {
    http: &'c HttpParticipants,
    chosen: &'c mut Chosen,
    /// When its answer is late, in milliseconds since 1970.
    due_ms: u64,
    is_open: bool,
}

impl Drop for Sent<'_> {
    fn drop(&mut self) {
        let now_ms = self.http.now_ms();
        // A call that was given up before says nothing of the service: the transaction was rolled back, say, or the answer came another way.
        if self.is_open && self.due_ms <= now_ms {
            self.chosen.unanswered(now_ms);
        }
    }
}

/// When nobody waits for the answer any more. The time of a transaction is that of all its calls, and goes on while they wait to be sent.
fn due_ms(call: &Call, deadline_ms: u64) -> u64 {
    if call.transaction.is_some() { deadline_ms.min(call.deadline_ms) } else { deadline_ms }
}

impl Search {
    /// Tells once that nothing can be sent.
    async fn tell<F: Future<Output = ()>>(&mut self, failure: Failure, report: &impl Fn(Progress) -> F) {
        if !core::mem::replace(&mut self.is_told, true) {
            report(Progress::NotSent { failure, was_never_sent: false }).await;
        }
    }

    /// Every endpoint was tried in vain: how long to wait before they are tried again.
    fn pause(&mut self, retry: &RetryPolicy, jitter: f64) -> Duration {
        self.in_vain.clear();
        self.pauses += 1;
        retry.backoff(self.pauses, jitter).max(ASK_AGAIN_MIN)
    }
}

/// What it is called in what is told of it.
fn service_of(target: &HttpTarget) -> &str {
    match target {
        HttpTarget::Service { name, .. } => name,
        HttpTarget::Worker { base, .. } => base,
    }
}

fn secret_unavailable(message: String) -> Failure {
    Failure { code: codes::SECRET_UNAVAILABLE.to_owned(), message }
}

/// Adds the headers of a call, in the place of those that are there under their names.
fn add_headers(headers: &mut HeaderMap, call: &Call, cause: Option<&TraceContext>) {
    headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static(sagamq_api::headers::APPLICATION_JSON));
    let traceparent = cause.map(|cause| (TRACEPARENT, cause.traceparent()));
    let tracestate = cause.and_then(|cause| Some((TRACESTATE, cause.tracestate()?.to_owned())));
    for (name, value) in call_headers(call).into_iter().chain(traceparent).chain(tracestate) {
        // A business key may hold what a header cannot; the body has it all the same.
        if value.is_ascii()
            && let Ok(value) = HeaderValue::try_from(value)
        {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
}

//! [`Gate`]: what every request passes where keys are asked for.

use super::Authentication;
use super::caller::Caller;
use crate::web::problem::ApiError;
use axum::extract::{MatchedPath, Request};
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, Method};
use sagamq_api::access::{Effect, Need, OPERATIONS, Operation, Place, Role};
use sagamq_api::{ErrorCode, routes};
use sagamq_broker::access::{KeyRefused, Session};
use std::collections::HashMap;

/// What is in no table is for those who may do everything.
const UNLISTED: Operation = Operation {
    name: "unlisted",
    effect: Effect::Nothing,
    method: "",
    path: "",
    need: Need::OneOf(&[Role::Admin]),
    topic: Place::Nowhere,
    group: Place::Nowhere,
    saga: Place::Nowhere,
    waits: false,
};

/// What is no route: any key may hear so.
const NO_ROUTE: Operation = Operation { need: Need::Nothing, ..UNLISTED };

/// Finds out who asks, and lets pass who may.
#[derive(Debug)]
pub(crate) struct Gate {
    authentication: Option<Authentication>,
    /// By the template of the path as the router has it.
    operations: HashMap<String, Vec<&'static Operation>>,
}

impl Gate {
    pub(crate) fn new(authentication: Option<Authentication>) -> Self {
        let mut operations: HashMap<String, Vec<&'static Operation>> = HashMap::new();
        for operation in OPERATIONS {
            operations.entry(operation.routed()).or_default().push(operation);
        }
        Self { authentication, operations }
    }

    /// Whether keys are asked for.
    pub(crate) const fn asks_for_keys(&self) -> bool {
        self.authentication.is_some()
    }

    /// Who asks. Nothing is looked at but the head.
    pub(crate) fn identify(&self, request: &Request) -> Result<Caller, ApiError> {
        let Some(authentication) = &self.authentication else { return Ok(Caller::everybody()) };
        let operation = self.operation(request);
        // A page of a listed origin asks first whether it may ask, without a key; no route answers anything else to that.
        if request.method() == Method::OPTIONS || authentication.is_open(operation) {
            return Ok(Caller::everybody());
        }
        let session = authentication.session(presented(request.headers())?)?;
        Ok(Caller::with_session(session, operation, authentication.clone()))
    }

    /// Refuses who may not do it. The names that the head does not tell are asked for again by the handler.
    pub(crate) fn admit(&self, caller: &Caller, request: &Request) -> Result<(), ApiError> {
        if self.authentication.is_none() {
            return Ok(());
        }
        let template = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
        caller.admit(template, request.uri().path(), request.uri().query())
    }

    pub(in crate::web) fn operation(&self, request: &Request) -> &'static Operation {
        let Some(template) = request.extensions().get::<MatchedPath>() else { return &NO_ROUTE };
        let method = match *request.method() {
            Method::HEAD => "GET",
            ref method => method.as_str(),
        };
        let of_path = self.operations.get(template.as_str()).into_iter().flatten();
        of_path.copied().find(|operation| operation.method == method).unwrap_or(&UNLISTED)
    }
}

impl Authentication {
    /// Who shows this.
    fn session(&self, shown: &str) -> Result<Session, ApiError> {
        let now_ms = self.clock.now_ms();
        // No key has a dot, and each token has two.
        if let Some(tokens) = self.tokens.as_ref().filter(|_| shown.contains('.')) {
            return Session::by_token(tokens, shown, now_ms)
                .map_err(|error| refused(&format!("the token in the header `authorization` is not taken: {error}")));
        }
        let secret = shown.parse().map_err(|error| refused(&format!("the key in the header `authorization` cannot be one: {error}")))?;
        Session::by_key(&self.keys, &secret, now_ms).map_err(|error| unauthenticated(&error))
    }

    fn is_open(&self, operation: &Operation) -> bool {
        let is_open_route = operation.need == Need::Nothing && !operation.path.is_empty();
        is_open_route || (self.open_metrics && operation.path == routes::METRICS)
    }
}

/// What is shown in the head of a request.
fn presented(headers: &HeaderMap) -> Result<&str, ApiError> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Err(refused("the server asks for a key: send `authorization: Bearer sq_…` (--api-key, SAGAMQ_API_KEY or a profile)"));
    };
    if values.next().is_some() {
        return Err(refused("the header `authorization` is there more than once: send one key"));
    }
    let text = value.to_str().ok().and_then(|text| text.split_once(' '));
    let token = text.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, token)| token.trim());
    token.ok_or_else(|| refused("the header `authorization` has another form than `Bearer sq_…`"))
}

fn refused(detail: &str) -> ApiError {
    ApiError::new(ErrorCode::Unauthenticated, detail)
}

fn unauthenticated(error: &KeyRefused) -> ApiError {
    let help = match error {
        KeyRefused::Unknown => "see the keys with `sagamq key list`",
        KeyRefused::Revoked(_) | KeyRefused::Expired(_) => "ask for a new one (`sagamq key create`)",
        KeyRefused::Rotated(_) => "use the secret that the rotation gave",
    };
    ApiError::new(ErrorCode::Unauthenticated, format!("{error}: {help}"))
}

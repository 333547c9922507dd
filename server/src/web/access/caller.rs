//! [`Caller`]: who asks, for handlers.

use super::Authentication;
use crate::web::problem::ApiError;
use axum::body::{Body, HttpBody as _};
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use core::pin::Pin;
use futures_util::StreamExt as _;
use sagamq_api::access::{KeyQuota, Need, Operation, Part, Resource, Rights, Role};
use sagamq_api::{ErrorCode, GroupName, SagaName, TopicName};
use sagamq_broker::access::Session;
use std::sync::Arc;

/// Ends when whoever asks may not ask any more.
type Ended = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Who asks. A handler asks for what the head of its request could not tell: the names in the body, and what an id stands for.
#[derive(Clone, Debug)]
pub(crate) struct Caller(Option<Arc<WithSession>>);

#[derive(Debug)]
struct WithSession {
    session: Session,
    operation: &'static Operation,
    authentication: Authentication,
}

impl Caller {
    /// Where no keys are asked for: may do everything.
    pub(crate) const fn everybody() -> Self {
        Self(None)
    }

    pub(super) fn with_session(session: Session, operation: &'static Operation, authentication: Authentication) -> Self {
        Self(Some(Arc::new(WithSession { session, operation, authentication })))
    }

    /// Whether nobody was asked who he is.
    #[must_use]
    pub(crate) const fn is_everybody(&self) -> bool {
        self.0.is_none()
    }

    /// Whether it makes no difference at all what is asked for.
    #[must_use]
    pub(crate) fn is_admin(&self) -> bool {
        self.0.as_ref().is_none_or(|with| with.rights().is_admin())
    }

    /// Who asks, `key:NAME` or `token:SUBJECT`, if keys are asked for.
    #[must_use]
    pub(crate) fn principal(&self) -> Option<&str> {
        self.0.as_ref().map(|with| with.session.principal())
    }

    /// How much he may have, where his key says.
    #[must_use]
    pub(crate) fn quota(&self) -> KeyQuota {
        self.0.as_ref().map(|with| with.session.quota()).unwrap_or_default()
    }

    /// Who acts, for histories: who asks, and beside him whom the request says.
    #[must_use]
    pub(crate) fn actor(&self, said: Option<String>) -> Option<String> {
        let Some(principal) = self.principal() else { return said };
        Some(match said.filter(|said| !said.is_empty()) {
            Some(said) => format!("{principal} ({said})"),
            None => principal.to_owned(),
        })
    }

    /// Whether the request's operation may be done with this.
    #[must_use]
    pub(crate) fn may(&self, resource: &Resource<'_>) -> bool {
        self.0.as_ref().is_none_or(|with| with.rights().allows(with.operation.need, resource))
    }

    /// That the request's operation may be done with this.
    ///
    /// # Errors
    /// `FORBIDDEN`, with the right that is missing.
    pub(crate) fn require(&self, resource: &Resource<'_>) -> Result<(), ApiError> {
        self.0.as_ref().map_or(Ok(()), |with| with.require(with.operation.need, resource))
    }

    /// That something beside the request's operation may be done with this.
    ///
    /// # Errors
    /// `FORBIDDEN`, with the right that is missing.
    pub(crate) fn require_one_of(&self, roles: &'static [Role], resource: &Resource<'_>) -> Result<(), ApiError> {
        self.0.as_ref().map_or(Ok(()), |with| with.require(Need::OneOf(roles), resource))
    }

    /// Whether this may be looked at.
    #[must_use]
    pub(crate) fn may_see(&self, resource: &Resource<'_>) -> bool {
        self.0.as_ref().is_none_or(|with| with.rights().allows(Need::AnyRole, resource))
    }

    /// Whether something beside the request's operation may be done with this.
    #[must_use]
    pub(crate) fn may_as(&self, roles: &'static [Role], resource: &Resource<'_>) -> bool {
        self.0.as_ref().is_none_or(|with| with.rights().allows(Need::OneOf(roles), resource))
    }

    /// That records may be stored in a topic. One in the topic of replies answers a call of any saga, so that needs the right to answer
    /// those of all.
    ///
    /// # Errors
    /// `FORBIDDEN`, with the right that is missing.
    pub(crate) fn require_produce(&self, topic: &TopicName) -> Result<(), ApiError> {
        self.require_one_of(&[Role::Produce], &Resource::topic(topic.as_str()))?;
        Resource::answered_by_records_in(topic).map_or(Ok(()), |answered| self.require_one_of(&[Role::Consume], &answered))
    }

    /// As [`Caller::require`], with a topic.
    ///
    /// # Errors
    /// `FORBIDDEN`, with the right that is missing.
    pub(crate) fn require_topic(&self, topic: &TopicName) -> Result<(), ApiError> {
        self.require(&Resource::topic(topic.as_str()))
    }

    /// As [`Caller::require`], with a group of a topic.
    ///
    /// # Errors
    /// `FORBIDDEN`, with the right that is missing.
    pub(crate) fn require_group(&self, topic: &TopicName, group: &GroupName) -> Result<(), ApiError> {
        self.require(&Resource::group(topic.as_str(), group.as_str()))
    }

    /// As [`Caller::require`], with the sagas of a definition.
    ///
    /// # Errors
    /// `FORBIDDEN`, with the right that is missing.
    pub(crate) fn require_saga(&self, saga: &SagaName) -> Result<(), ApiError> {
        self.require(&Resource::saga(saga.as_str()))
    }

    /// Whether it makes a difference which saga the request is about: not for who may do it with all of them.
    #[must_use]
    pub(crate) fn is_limited_to_some_sagas(&self) -> bool {
        !self.may(&Resource::ALL_SAGAS)
    }

    /// Whether it makes a difference what the request is about.
    #[must_use]
    pub(crate) fn is_limited(&self) -> bool {
        !self.may(&Resource::SERVER)
    }

    /// Refuses a request with this path, as its head tells what it is about.
    pub(super) fn admit(&self, template: &str, path: &str, query: Option<&str>) -> Result<(), ApiError> {
        self.0.as_ref().map_or(Ok(()), |with| with.require(with.operation.need, &with.operation.resource(template, path, query)))
    }

    /// The answer; of a request that only waits, a refusal as soon as its key is not valid any more.
    pub(crate) async fn unless_cut_off<T>(&self, answer: impl Future<Output = T>) -> Result<T, ApiError> {
        unless(self.cut_off(), answer).await
    }

    /// As the cut-off of requests that wait, whatever the operation: for a request whose body makes it one that only waits.
    ///
    /// # Errors
    /// `UNAUTHENTICATED`, as soon as the key is not valid any more.
    pub(crate) async fn while_valid<T>(&self, answer: impl Future<Output = T>) -> Result<T, ApiError> {
        unless(self.0.as_ref().map(|with| with.ended()), answer).await
    }

    /// The body of the answer; if it comes piece by piece to a request that only waits, until its key is not valid any more.
    pub(crate) fn until_cut_off(&self, body: Body) -> Body {
        match self.cut_off() {
            Some(cut_off) if body.size_hint().exact().is_none() => Body::from_stream(body.into_data_stream().take_until(cut_off)),
            _ => body,
        }
    }

    /// When a request that only waits is to be cut off, if it is one.
    fn cut_off(&self) -> Option<Ended> {
        self.0.as_ref().filter(|with| with.operation.waits).map(|with| with.ended())
    }
}

/// The answer, or the refusal if that moment comes before it.
async fn unless<T>(ended: Option<Ended>, answer: impl Future<Output = T>) -> Result<T, ApiError> {
    let Some(ended) = ended else { return Ok(answer.await) };
    tokio::select! {
        biased;
        answer = answer => Ok(answer),
        () = ended => Err(ApiError::new(ErrorCode::Unauthenticated, "the key or token is not valid any more, so the request does not wait on")),
    }
}

impl WithSession {
    /// Ends when the key or token is not valid any more.
    fn ended(&self) -> Ended {
        Box::pin(self.session.clone().ended(Arc::clone(&self.authentication.clock)))
    }

    fn rights(&self) -> &Rights {
        self.session.rights()
    }

    fn require(&self, need: Need, resource: &Resource<'_>) -> Result<(), ApiError> {
        if self.rights().allows(need, resource) {
            return Ok(());
        }
        let Operation { method, path, .. } = self.operation;
        let asked = if path.is_empty() { "this".to_owned() } else { format!("{method} {path}") };
        let of = if is_vague(resource) { String::new() } else { format!(" for {resource}") };
        let who = self.session.principal();
        Err(ApiError::new(ErrorCode::Forbidden, format!("`{who}` may not do this: {asked} needs {need}{of}")))
    }
}

/// Whether the right can be named without what it is for.
fn is_vague(resource: &Resource<'_>) -> bool {
    *resource != Resource::SERVER
        && [resource.topic, resource.group, resource.saga].iter().all(|part| matches!(part, Part::None | Part::Some))
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        // Without it nobody has looked who asks: a route outside of the edge, which must not be.
        let missing = || ApiError::new(ErrorCode::Internal, "the route does not know who asks, so it answers nobody");
        parts.extensions.get::<Self>().cloned().ok_or_else(missing)
    }
}

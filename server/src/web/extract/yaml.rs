//! Bodies of YAML.

use super::media_type::{is_yaml, require_type};
use super::read::read_text;
use crate::web::admission::Ticket;
use crate::web::gzip::Encoding;
use crate::web::problem::ApiError;
use axum::extract::{FromRequest, Request};
use bytes::Bytes;
use sagamq_api::limits::DEFINITION_BYTES_MAX;

/// Largest body of YAML, in bytes: a little more than a definition may have, so that the answer can say so.
const YAML_BODY_BYTES_MAX: usize = 2 * DEFINITION_BYTES_MAX;

/// A body of YAML, with the content type of YAML.
#[derive(Clone, Debug)]
pub(crate) struct YamlBody(pub(crate) Bytes);

impl<S: Send + Sync> FromRequest<S> for YamlBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        require_type(&request, "YAML with `content-type: application/yaml`", is_yaml, &[Encoding::Gzip])?;
        let ticket = request.extensions().get::<Ticket>().cloned();
        read_text(request, YAML_BODY_BYTES_MAX, ticket.as_ref()).await.map(Self)
    }
}

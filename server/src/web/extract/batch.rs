//! Bodies of record batches.

use super::media_type::{essence, is_batch, require_type};
use super::read::read_body;
use crate::web::admission::Ticket;
use crate::web::problem::ApiError;
use axum::extract::{FromRequest, Request};
use axum::http::header::CONTENT_TYPE;
use bytes::{Bytes, BytesMut};
use sagamq_api::limits::BODY_BYTES_MAX;
use sagamq_broker::log::batch::{self, BatchHeader};

/// Record batches, with their content type. There is memory for what the largest of them is decompressed to.
#[derive(Clone, Debug)]
pub(crate) struct BatchBody {
    body: Bytes,
    /// What all compressed batches become together, at most.
    unpacked_bytes: usize,
    ticket: Option<Ticket>,
}

impl BatchBody {
    /// Its bytes, as the only one who has them if possible: else they are copied.
    pub(crate) fn take_bytes(&mut self) -> BytesMut {
        std::mem::take(&mut self.body).try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]))
    }

    /// What all compressed batches become together, at most, in bytes.
    pub(crate) fn unpacked_bytes(&self) -> usize {
        self.unpacked_bytes
    }

    /// All are checked, and nothing is kept of what they became.
    pub(crate) fn checked(&self) {
        if let Some(ticket) = &self.ticket {
            ticket.unpacked();
        }
    }
}

impl<S: Send + Sync> FromRequest<S> for BatchBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        require_type(&request, "record batches with `content-type: application/vnd.sagamq.batch`", is_batch, &[])?;
        let ticket = request.extensions().get::<Ticket>().cloned();
        let body = read_body(request, BODY_BYTES_MAX, ticket.as_ref()).await?;
        let compressed = batch::framed(&body).filter(|batch| BatchHeader::parse(batch).is_ok_and(|header| header.is_compressed()));
        let (mut largest, mut unpacked_bytes) = (0, 0_usize);
        for bytes in compressed.map(batch::sent_unpacked_bytes_max) {
            (largest, unpacked_bytes) = (bytes.max(largest), unpacked_bytes.saturating_add(bytes));
        }
        if let Some(ticket) = &ticket {
            ticket.unpack(largest).await?;
        }
        Ok(Self { body, unpacked_bytes, ticket })
    }
}

/// Whether a request says that its body is record batches.
pub(crate) fn says_batches(request: &Request) -> bool {
    request.headers().get(CONTENT_TYPE).and_then(|of| of.to_str().ok()).is_some_and(|of| is_batch(&essence(of)))
}

//! What the handlers of both barriers have in common.

use crate::worker::CallError;
use sagamq_api::JsonText;
use std::future::Future;
use std::pin::Pin;

/// A call that is being handled behind a barrier.
pub type Handling = Pin<Box<dyn Future<Output = Result<JsonText, CallError>> + Send>>;

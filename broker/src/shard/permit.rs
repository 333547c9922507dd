//! What records hold until they are durable.

use crate::topic::Dealing;
use tokio::sync::OwnedSemaphorePermit;

/// What the records of a request hold until they are durable, wherever they are on their way.
#[derive(Debug)]
pub(crate) struct Permit {
    /// Their share of the bound on bytes that are not durable.
    _bytes: OwnedSemaphorePermit,
    /// The numbers of partitions of their topics stay as they are: the records were dealt by these.
    _dealing: Vec<Dealing>,
}

impl Permit {
    pub(crate) fn new(bytes: OwnedSemaphorePermit, dealing: Vec<Dealing>) -> Self {
        Self { _bytes: bytes, _dealing: dealing }
    }
}

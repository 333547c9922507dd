//! What a produce was answered with.

use sagamq_api::topic::ProducedRecord;
use std::ops::Deref;

/// Where records were stored, in their order, and the key under which they were.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Produced {
    /// One place a record.
    pub records: Vec<ProducedRecord>,
    /// The key of the request, given or drawn. If records have keys of their own, each of the others had this and its place as its key.
    /// Producing the same records with it again stores nothing and gives the same places.
    pub idempotency_key: String,
}

impl Deref for Produced {
    type Target = [ProducedRecord];

    fn deref(&self) -> &[ProducedRecord] {
        &self.records
    }
}

impl IntoIterator for Produced {
    type Item = ProducedRecord;
    type IntoIter = std::vec::IntoIter<ProducedRecord>;

    fn into_iter(self) -> Self::IntoIter {
        self.records.into_iter()
    }
}

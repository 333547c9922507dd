//! Who waits for the end of an order.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;

/// Wakes those who wait for the end of an order. Cheap to clone. It remembers nothing: whoever is woken looks into the book.
#[derive(Clone, Debug, Default)]
pub(super) struct Ends(Arc<Mutex<HashMap<String, Arc<Notify>>>>);

impl Ends {
    /// What is notified when this order ends. Take [`Notify::notified`] of it before the last look into the book.
    pub(super) fn of(&self, order_id: &str) -> Arc<Notify> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(waiting.entry(order_id.to_owned()).or_default())
    }

    /// This order is at its end, and the book says so.
    pub(super) fn reached(&self, order_id: &str) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(those) = waiting.remove(order_id) {
            those.notify_waiters();
        }
    }
}

//! The services in two-phase commit: for each step one handler, within the branch of its transaction. Nothing is undone here: what is not
//! committed was never there.

pub mod bank;
pub mod metered;
pub mod orders;
pub mod payments;
pub mod shipping;
pub mod stock;

use super::meter::Meter;
use super::saga::reading;
use super::store::{Handler, Store};
use super::{Asked, Role};
use metered::Metered;
use sagamq_sdk::branch::BranchManager;
use sagamq_sdk::branch::rocks::{RocksBranches, RocksBranchesError};
use std::sync::Arc;
use std::time::Duration;

/// The handlers of a service by the names under which it is called.
#[must_use]
pub fn handlers(role: Role) -> &'static [(&'static str, Handler)] {
    match role {
        Role::Orders => &[("create", orders::create)],
        Role::Payments => &[("pay", payments::pay)],
        // A read that a later write rests on is the same code in both modes. What differs is who holds the row in between.
        Role::Stock => &[("deduct", stock::deduct), ("look", reading::look), ("set", reading::set)],
        Role::Shipping => &[("ship", shipping::ship)],
        Role::Bank => &[("book", bank::book)],
    }
}

/// The branches of a service, found again in its database, with whatever is counted of them.
///
/// # Errors
/// [`RocksBranchesError`].
pub fn branches(
    role: Role,
    store: &Arc<Store>,
    meter: &Arc<Meter>,
    lock_timeout: Duration,
) -> Result<Arc<dyn BranchManager>, RocksBranchesError> {
    // More than any load has on its way: a full table of branches is not what is measured.
    let mut builder = RocksBranches::builder().lock_timeout(lock_timeout).idle_timeout(Duration::from_secs(120)).open_max(8_192);
    for &(name, handler) in handlers(role) {
        let store = Arc::clone(store);
        builder = builder.on(name, move |transaction, call| {
            let asked = Asked::of(call);
            if let Some(pause) = asked.pause(call) {
                // A thread of the branch's own, which has not locked anything for this step yet.
                std::thread::sleep(pause);
            }
            if let Some(refusal) = asked.refusal(call) {
                return Err(refusal);
            }
            handler(&store.rows_of(transaction, call.attempt.instance), call)
        });
    }
    Ok(Arc::new(Metered::new(builder.open(Arc::clone(store.rocks()))?, Arc::clone(meter))))
}

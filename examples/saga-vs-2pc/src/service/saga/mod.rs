//! The services in saga mode: for each step an action, and a compensation that undoes it.

pub mod bank;
pub mod orders;
pub mod payments;
pub mod reading;
pub mod shipping;
pub mod stock;

use super::Role;
use super::store::Handler;

/// The handlers of a service by the names under which it is called.
#[must_use]
pub fn handlers(role: Role) -> &'static [(&'static str, Handler)] {
    match role {
        Role::Orders => &[("create", orders::create), ("cancel", orders::cancel)],
        Role::Payments => &[("pay", payments::pay), ("refund", payments::refund)],
        Role::Stock => &[("deduct", stock::deduct), ("restore", stock::restore), ("look", reading::look), ("set", reading::set)],
        Role::Shipping => &[("ship", shipping::ship), ("cancel_shipping", shipping::cancel_shipping)],
        Role::Bank => &[("book", bank::book), ("reverse", bank::reverse)],
    }
}

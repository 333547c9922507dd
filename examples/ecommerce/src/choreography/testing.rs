//! What the tests of the services' reactions share: a service's database that hears events, and what it tells.

use super::{Desk, Reactions};
use crate::domain::{Line, Money, NewOrder};
use crate::events::{OrderEvent, Parcel};
use crate::store::{Database, Inbox, testing};
use sagamq_api::PartitionId;
use sagamq_api::ids::Offset;
use sagamq_api::record::ConsumedRecord;
use sagamq_sdk::{Delivery, HandlerError};
use std::cell::RefCell;

/// An order of so many mugs.
pub(crate) fn order(id: &str, mugs: u32) -> NewOrder {
    let lines = vec![Line { sku: "mug".into(), quantity: mugs }];
    NewOrder { order_id: id.into(), card: "card".into(), country: "DE".into(), lines }
}

/// It, with a place on a truck.
pub(crate) fn parcel(id: &str, mugs: u32) -> Parcel {
    Parcel { order: order(id, mugs), postage: Money(490), tracking: format!("TRK-{id}") }
}

/// The delivery of an event that lies at this offset.
pub(crate) fn delivery(offset: u64, event: &OrderEvent) -> Delivery {
    let payload = event.record().expect("JSON").into_payload().expect("a payload");
    let record = ConsumedRecord::new(PartitionId(0), Offset(offset), 0, payload);
    Delivery { receipt: String::new(), attempt: 1, returned: 0, lease_until_ms: u64::MAX, handed_out_ago_ms: None, record }
}

/// A service with a new database.
pub(crate) struct Town {
    _directory: tempfile::TempDir,
    database: Database,
    reactions: &'static Reactions,
    told: RefCell<Vec<OrderEvent>>,
}

impl Town {
    pub(crate) fn new(reactions: &'static Reactions) -> Self {
        let (directory, database) = testing::store();
        Self { _directory: directory, database, reactions, told: RefCell::default() }
    }

    pub(crate) fn database(&self) -> &Database {
        &self.database
    }

    /// Everything that was told and is committed.
    pub(crate) fn told(&self) -> Vec<OrderEvent> {
        self.told.borrow().clone()
    }

    /// Hears the event at this offset; what it tells then.
    pub(crate) fn hears(&self, offset: u64, event: &OrderEvent) -> Vec<OrderEvent> {
        let before = self.told.borrow().len();
        self.try_hear(offset, event).expect("handled");
        self.told.borrow()[before..].to_vec()
    }

    /// The same for an event that must come again; why.
    pub(crate) fn fails(&self, offset: u64, event: &OrderEvent) -> String {
        self.try_hear(offset, event).expect_err("it is not handled").to_string()
    }

    fn try_hear(&self, offset: u64, event: &OrderEvent) -> Result<(), HandlerError> {
        let Reactions { of, hears, concerns, react } = self.reactions;
        assert!(hears.contains(&event.teller()) && concerns(event), "it never comes to {event:?}");
        let inbox = Inbox::new(&event.teller().topic(), &of.group());
        let delivery = delivery(offset, event);
        let told = RefCell::new(Vec::new());
        Desk { database: &self.database, inbox: &inbox, delivery: &delivery }.once(|rows| {
            *told.borrow_mut() = react(rows, event)?;
            Ok(told.borrow().clone())
        })?;
        self.told.borrow_mut().append(&mut told.borrow_mut());
        Ok(())
    }
}

//! Where something happens: at a step, or at one item of a step that fans out.

use sagamq_api::ids::ItemIndex;

/// A step by its index, or one of its items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The index of the step.
    pub step: usize,
    /// The item, if the step fans out.
    pub item: Option<ItemIndex>,
}

impl From<usize> for Place {
    fn from(step: usize) -> Self {
        Self { step, item: None }
    }
}

impl Place {
    /// An item of a step.
    pub(super) fn of_item(step: usize, item: usize) -> Self {
        Self { step, item: Some(ItemIndex(u32::try_from(item).expect("a step has few items"))) }
    }

    /// The index of the item, if it is one.
    pub(super) fn item_index(self) -> Option<usize> {
        self.item.map(|item| usize::try_from(item.0).expect("an index fits"))
    }
}

//! Repacking: pieces of one article become pieces of another. Two steps at this service alone, so a transaction of them has one branch.

use super::Stock;
use crate::store::{Effect, Row, Rows, arguments};
use sagamq_api::saga::Call;
use sagamq_sdk::CallError;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What transactions can call the service for.
pub(super) const CALLS: [(&str, Effect); 2] = [("unpack", unpack), ("pack", pack)];

/// What is to be repacked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewRepack {
    /// Its name.
    pub repack_id: String,
    /// The article that becomes less.
    pub from: String,
    /// The article that becomes more.
    pub to: String,
    /// How many pieces.
    pub pieces: u64,
}

/// What was repacked. Half of it (`packed` is false) is seen by nobody: both halves are one branch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repack {
    /// The article that became less.
    pub from: String,
    /// The article that became more.
    pub to: String,
    /// How many pieces.
    pub pieces: u64,
    /// Whether the second half is done as well.
    pub packed: bool,
}

impl Row for Repack {
    const TABLE: &'static str = "repack";
}

/// Takes the pieces out of the one article.
fn unpack(rows: &Rows<'_>, call: &Call) -> Result<Value, CallError> {
    let NewRepack { repack_id, from, to, pieces } = arguments(call)?;
    let stock: Stock = rows.lock(&from)?.unwrap_or_default();
    let Some(on_hand) = stock.on_hand.checked_sub(pieces) else {
        return Err(CallError::refused("OUT_OF_STOCK", format!("{} of {pieces} `{from}` are left", stock.on_hand)));
    };
    rows.put(&from, &Stock { on_hand, received: stock.received - pieces, ..stock })?;
    rows.put(&repack_id, &Repack { from, to, pieces, packed: false })?;
    Ok(Value::Null)
}

/// Puts them into the other.
fn pack(rows: &Rows<'_>, call: &Call) -> Result<Value, CallError> {
    let NewRepack { repack_id, to, pieces, .. } = arguments(call)?;
    let Some(repack) = rows.lock::<Repack>(&repack_id)?.filter(|repack| !repack.packed) else {
        return Err(CallError::unknown("NOT_UNPACKED", format!("nothing is unpacked for `{repack_id}`")));
    };
    let stock: Stock = rows.lock(&to)?.unwrap_or_default();
    rows.put(&to, &Stock { received: stock.received + pieces, on_hand: stock.on_hand + pieces, ..stock })?;
    rows.put(&repack_id, &Repack { packed: true, ..repack })?;
    Ok(Value::Null)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::receive;
    use crate::store::testing::{call, code, doubt, store};
    use sagamq_api::saga::Operation::Action;
    use serde_json::json;

    #[test]
    fn pieces_become_others_and_none_are_lost() {
        let (_directory, store) = store();
        receive(&store, &[("mug".to_owned(), 5), ("book".to_owned(), 1)].into()).expect("stored");
        let of = |id: &str, pieces: u64| json!({ "repack_id": id, "from": "mug", "to": "book", "pieces": pieces });
        store.once(&call(1, "unpack", Action, "unpack", of("r-1", 2)), unpack).expect("in stock");
        store.once(&call(1, "pack", Action, "pack", of("r-1", 2)), pack).expect("unpacked");
        let stock = |sku: &str| -> Stock { store.get(sku).expect("readable").expect("received") };
        assert_eq!((stock("mug").on_hand, stock("mug").received, stock("book").on_hand, stock("book").received), (3, 3, 3, 3));
        assert_eq!(code(store.once(&call(2, "unpack", Action, "unpack", of("r-2", 4)), unpack)), "OUT_OF_STOCK");
        assert_eq!(doubt(store.once(&call(2, "pack", Action, "pack", of("r-2", 4)), pack)), "NOT_UNPACKED");
        let row: Repack = store.get("r-1").expect("readable").expect("written");
        assert_eq!(row, Repack { from: "mug".to_owned(), to: "book".to_owned(), pieces: 2, packed: true });
    }
}

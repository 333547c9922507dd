//! Compaction by key: of records with the same key the newest stays, whatever its age, and those before it go.
//!
//! A *pass* over a log has two parts. First the keys of what came since the pass before, oldest first, each with its newest offset: [`KeyMap`],
//! whose size is bounded, so a pass may end before the log does. Then the log up to there is gone through in *pieces*, the newest first: what a
//! piece holds that has a newer record of its key in the map is left out ([`piece`]). How far a log is compacted is a row of its own ([`Compacted`]).
//!
//! Each piece is right by itself, whenever it is written: of what it leaves out there is a newer record. A record that only says that its key is
//! gone (a tombstone) may go when nothing older of its key is left, and that is so below where the last whole pass ended.

mod keys;
mod piece;
mod row;

pub(crate) use keys::KeyMap;
pub(crate) use piece::{Piece, Rewrite, Rules, cleanable_end, fold_shift, gather, piece_before};
pub(crate) use row::Compacted;

//! Verification of a definition: the protocol as it is shipped, on a virtual clock, against every failure up to a bound.
//!
//! A *world* is an instance, the messages between it and its participants, and what those have on disk. What can happen in it are *moves*:
//! calls are served and answers heard in every order, and so much may go wrong on one way as the bounds say. Each state that can be reached is
//! looked at once, the nearest first, so what is wrong is told by a shortest way. What is assumed of participants is in `book.rs`: they are as
//! the guides ask for. What two states must have in common to be taken for one is in `key.rs`. Reasons, and what is not covered:
//! `docs/decisions/0048-verification.md`.
//!
//! Upwards: `call.rs`, `book.rs`, `moves.rs`, `tape.rs` and `world.rs`, the words; `property.rs`; `decides.rs` and `subject.rs`, what is looked
//! at; `symmetry.rs` and `model.rs`, what can happen; `turn/`, what a move leads to; `facts.rs` and `check.rs`, what must hold; `key.rs`,
//! `search.rs`, `random.rs` and `shrink.rs`; `replay.rs`, `script.rs` and `report.rs` for people; `sample.rs` makes up data, with `inputs/` from the schema of the input.

mod book;
mod call;
mod check;
mod decides;
mod facts;
mod inputs;
mod key;
mod lists;
mod model;
mod moves;
mod mutate;
mod property;
mod random;
mod replay;
mod report;
mod sample;
mod script;
mod search;
mod shrink;
mod subject;
mod symmetry;
mod tape;
#[cfg(test)]
mod tests;
mod turn;
mod words;
mod world;

pub use decides::{Decides, Shipped};
pub use mutate::{Mutant, mutants};
pub use property::Property;
pub use report::{DrawnReport, PropertyReport, Random, Report, Violation, verify};
pub use sample::{NoSample, Samples, sample, samples};
pub use script::{Played, Script, ScriptEnd, ScriptError, Trial, play, trials};
pub use subject::{Bounds, Sample, Subject};
pub use tape::{Line, Who, mermaid, timeline};

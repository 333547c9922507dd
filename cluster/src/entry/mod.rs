//! What an entry of a shard's log says: who claims the shard, what its owner commits, that the owner leaves.
//!
//! Everything that decides whether an entry counts is in the entry itself. So all who read the log decide alike, whatever the log is.

mod codec;
mod digest;
mod split;

pub use codec::EntryError;
pub(crate) use codec::seal;
pub use digest::Digest;
pub use split::commit_bytes_max;
pub(crate) use split::{Piece, split};

use bytes::Bytes;
use core::fmt;

/// How often a shard was claimed. Rises with each claim that counts; 0 is before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

impl Epoch {
    /// The one that a claim behind this must have at least.
    #[must_use]
    pub fn next(self) -> Self {
        // Nothing follows the highest epoch. It is never reached by claims, and an entry that has it must not stop a process.
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Who writes: a node, and which of its lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Writer {
    /// The node; the same after every restart.
    pub node: u128,
    /// Drawn anew whenever the node opens the shard's log, and never used twice: what it sent before may still arrive.
    pub boot: u128,
}

impl fmt::Display for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {:032x}, boot {:032x}", self.node, self.boot)
    }
}

/// The content of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Somebody wants to own the shard.
    Claim(Claim),
    /// The owner commits, or a part of it.
    Commit(Part),
    /// The owner leaves.
    Resign(Resign),
}

/// Somebody wants to own the shard from here on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Counts only if it is higher than every one before.
    pub epoch: Epoch,
    /// Who.
    pub writer: Writer,
}

/// A commit of the shard, or one of several parts of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// That of its writer's claim.
    pub epoch: Epoch,
    /// The commit's number: one higher than that of the commit before.
    pub number: u64,
    /// What the part or the commit before comes to.
    pub previous: Digest,
    /// Which part: 0, 1, 2, ...
    pub part: u16,
    /// How many parts the commit has; at least 1.
    pub parts: u16,
    /// The part's bytes of the commit.
    pub bytes: Bytes,
}

impl Part {
    /// What the log comes to with this part: of all commits up to here, of their order and of their epochs.
    #[must_use]
    pub fn digest(&self) -> Digest {
        digest::of(self)
    }
}

/// The owner leaves: nothing more of its epoch counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resign {
    /// That of its claim.
    pub epoch: Epoch,
}

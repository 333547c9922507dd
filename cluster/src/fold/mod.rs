//! [`Fold`]: what a shard's log means. Everybody who reads it decides with this, alike, which entries count.
//!
//! It is pure: a state, and what one entry does to it. It asks no clock and no log.

mod point;
mod rule;

pub use point::{FoldPoint, FoldPointError};
pub(crate) use rule::{Rule, Rules};

use crate::entry::{Body, Claim, Digest, EntryError, Epoch, Part, Resign, Writer, seal};
use crate::log::{Entry, Pos};
use bytes::{Bytes, BytesMut};

/// What one entry did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Somebody else, or the same one anew, owns the shard from here on.
    Claimed,
    /// The owner left; nobody owns the shard.
    Resigned,
    /// A commit is whole: these are its number and its bytes.
    Applied {
        /// One higher than that of the commit before.
        number: u64,
        /// As they were committed.
        bytes: Bytes,
    },
    /// A part of a commit, which is not whole yet.
    PartTaken,
    /// It changes nothing, for everybody and for ever.
    Void(Void),
}

/// Why an entry is void.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Void {
    /// A claim, or an owner's leave, that came too late.
    #[error("the shard was claimed under epoch {now} before")]
    Late {
        /// The epoch that holds.
        now: Epoch,
    },
    /// A commit of an owner that was fenced.
    #[error("its writer was fenced by epoch {now}")]
    Fenced {
        /// The epoch that holds.
        now: Epoch,
    },
    /// A commit of an owner that had left.
    #[error("its writer had left")]
    Left,
    /// It stands in the log already.
    #[error("it is there twice")]
    Repeated,
    /// Its claim was never read: the log does not have all that it had.
    #[error("its epoch was never claimed here")]
    Unclaimed,
    /// A commit or a part before it was never read: the log does not have all that it had.
    #[error("what comes before it is missing")]
    Gap,
    /// It was made behind other commits than those that were read here.
    #[error("it was made behind other commits")]
    Digest,
}

impl Void {
    /// Whether no owner that keeps the rules writes such an entry to a log that keeps what it acknowledged. Then this fold and the log do not
    /// belong together: the log lost its end, was made anew, or is another one.
    #[must_use]
    pub fn is_contradiction(self) -> bool {
        match self {
            Self::Late { .. } | Self::Fenced { .. } | Self::Left | Self::Repeated => false,
            Self::Unclaimed | Self::Gap | Self::Digest => true,
        }
    }
}

/// The state of a shard's log after some of its entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fold {
    /// Behind the last whole commit: unfinished parts are not in it.
    point: FoldPoint,
    /// The last entry that was taken.
    end: Pos,
    /// The parts of a commit that is not whole yet.
    gathered: Vec<Bytes>,
    /// What the log comes to with them.
    running: Digest,
    rules: Rules,
}

impl Fold {
    /// Goes on from a point.
    #[must_use]
    pub fn new(point: FoldPoint) -> Self {
        Self::with_rules(point, Rules::default())
    }

    pub(crate) fn with_rules(point: FoldPoint, rules: Rules) -> Self {
        Self { end: point.pos, running: point.digest, gathered: Vec::new(), point, rules }
    }

    /// From where another fold can go on to come to the same.
    #[must_use]
    pub fn point(&self) -> &FoldPoint {
        &self.point
    }

    /// The last entry that was taken: the next one to take is the first behind it.
    #[must_use]
    pub fn end(&self) -> Pos {
        self.end
    }

    /// The last claim that counted.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.point.epoch
    }

    /// Who owns the shard.
    #[must_use]
    pub fn owner(&self) -> Option<Writer> {
        self.point.owner
    }

    /// What the log comes to, with the parts of a commit that is not whole yet.
    pub(crate) fn running(&self) -> Digest {
        self.running
    }

    pub(crate) fn rules(&self) -> Rules {
        self.rules
    }

    /// Goes on as if everything up to a place were read: what a planted bug does.
    #[cfg(test)]
    pub(crate) fn pass_over(&mut self, upto: Pos) {
        self.end = upto;
    }

    /// Takes the next entry.
    ///
    /// # Errors
    /// [`EntryError`]: it cannot be read. The fold stays where it is: what cannot be read is never passed over.
    pub fn take(&mut self, entry: &Entry) -> Result<Verdict, EntryError> {
        let verdict = match Body::decode(&entry.bytes)? {
            Body::Claim(claim) => self.claim(claim),
            Body::Commit(part) => self.commit(part),
            Body::Resign(resign) => self.resign(resign),
        };
        self.end = entry.pos;
        if self.gathered.is_empty() || !self.rules.hold(Rule::PlaceBehindWhole) {
            self.point.pos = entry.pos;
            self.point.seal = seal(&entry.bytes);
        }
        Ok(verdict)
    }

    fn claim(&mut self, claim: Claim) -> Verdict {
        if claim.epoch <= self.point.epoch && self.rules.hold(Rule::ClaimIsHigher) {
            return Verdict::Void(Void::Late { now: self.point.epoch });
        }
        if self.rules.hold(Rule::ClaimEndsParts) {
            self.drop_parts();
        }
        self.point.epoch = claim.epoch;
        self.point.owner = Some(claim.writer);
        Verdict::Claimed
    }

    fn resign(&mut self, resign: Resign) -> Verdict {
        if resign.epoch != self.point.epoch || self.point.owner.is_none() {
            return Verdict::Void(Void::Late { now: self.point.epoch });
        }
        self.drop_parts();
        self.point.owner = None;
        Verdict::Resigned
    }

    fn commit(&mut self, part: Part) -> Verdict {
        if let Some(void) = self.does_not_fit(&part) {
            return Verdict::Void(void);
        }
        self.running = part.digest();
        if part.part + 1 < part.parts {
            self.gathered.push(part.bytes);
            return Verdict::PartTaken;
        }
        let bytes = if self.gathered.is_empty() { part.bytes } else { self.join(&part.bytes) };
        self.gathered.clear();
        self.point.number = part.number;
        self.point.digest = self.running;
        self.point.bytes = self.point.bytes.saturating_add(bytes.len() as u64);
        Verdict::Applied { number: part.number, bytes }
    }

    fn does_not_fit(&self, part: &Part) -> Option<Void> {
        let FoldPoint { epoch, owner, number, .. } = self.point;
        if part.epoch != epoch && self.rules.hold(Rule::CommitEpoch) {
            return Some(if part.epoch < epoch { Void::Fenced { now: epoch } } else { Void::Unclaimed });
        }
        if owner.is_none() && self.rules.hold(Rule::ResignEnds) {
            return Some(Void::Left);
        }
        if part.number != number + 1 && self.rules.hold(Rule::CommitNumber) {
            return Some(if part.number <= number { Void::Repeated } else { Void::Gap });
        }
        let next = self.gathered.len();
        if usize::from(part.part) != next && self.rules.hold(Rule::PartOrder) {
            return Some(if usize::from(part.part) < next { Void::Repeated } else { Void::Gap });
        }
        (part.previous != self.running && self.rules.hold(Rule::CommitDigest)).then_some(Void::Digest)
    }

    fn join(&self, last: &Bytes) -> Bytes {
        let length = self.gathered.iter().map(Bytes::len).sum::<usize>() + last.len();
        let mut whole = BytesMut::with_capacity(length);
        self.gathered.iter().chain([last]).for_each(|part| whole.extend_from_slice(part));
        whole.freeze()
    }

    fn drop_parts(&mut self) {
        self.gathered.clear();
        self.running = self.point.digest;
    }
}

#[cfg(test)]
mod tests;

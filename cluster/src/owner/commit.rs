//! [`Committing`]: the owner appends a commit, part by part, and knows what became of it, or that nobody knows.

use super::{Ask, Doubt, LogFault, Operation, Owner, Until};
use crate::entry::{Epoch, Piece, Writer, split};
use crate::fold::{FoldPoint, Rule};
use crate::log::{AppendError, Entry, Pos, ReadError};
use bytes::Bytes;

/// Why a commit was not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendOutcome {
    /// This node may not commit: it must claim first. Nothing was stored.
    #[error("this node does not own the shard")]
    NotOwner,
    /// It is larger than the log can take in parts. Nothing was stored.
    #[error("a commit of {bytes} bytes does not fit into the log")]
    TooLarge {
        /// Its bytes.
        bytes: usize,
    },
    /// The log did not take it. It is not stored and never will be. [`Owner::epoch`] says whether to claim before the next one.
    #[error("the commit is not stored: {0}")]
    NotStored(String),
    /// Another one owns the shard. What was read is still to be folded, also this commit if it is stored; the node may follow on.
    #[error("the shard was claimed under epoch {epoch}")]
    Fenced {
        /// The epoch that holds.
        epoch: Epoch,
        /// The owner. `None`: it left already.
        by: Option<Writer>,
        /// Whether the commit came before the claim: then it counts. Else it is void for ever.
        is_stored: bool,
    },
    /// Nobody knows whether it is stored or will be. The next claim tells.
    #[error("it is unknown whether the commit is stored: {0}")]
    Unknown(String),
    /// The log cannot be used. Whether the commit is stored is unknown.
    #[error(transparent)]
    Fault(#[from] LogFault),
}

/// Appends one commit. When it is done well, the commit is in every fold, now and for ever, and behind all that came before.
#[derive(Debug)]
pub struct Committing<'a> {
    owner: &'a mut Owner,
    bytes: Bytes,
    epoch: Epoch,
    pieces: Vec<Piece>,
    /// How many pieces the fold has taken.
    taken: usize,
    /// Which piece was appended last.
    sent: usize,
    until: Until,
}

type Step = Ask<Result<FoldPoint, AppendOutcome>>;

impl Owner {
    /// Appends a commit. Gives where it leaves the fold, to be written with it.
    pub fn commit(&mut self, bytes: Bytes) -> Committing<'_> {
        let epoch = self.epoch.unwrap_or_default();
        Committing { owner: self, bytes, epoch, pieces: Vec::new(), taken: 0, sent: 0, until: Until::Any }
    }
}

impl Committing<'_> {
    fn append(&mut self) -> Step {
        self.sent = self.taken;
        Ask::Append { after: self.owner.fold.end(), bytes: self.pieces[self.taken].encoded.clone() }
    }

    /// Nothing of it can come to stand any more, so there is nothing to find out.
    fn is_known(&mut self) {
        self.owner.doubt = None;
        self.owner.settled = None;
    }

    /// What follows from everything that was read.
    fn judge(&mut self) -> Step {
        let running = self.owner.fold.running();
        if let Some(last) = self.pieces.iter().rposition(|piece| piece.digest == running) {
            self.taken = last + 1;
        }
        if !self.owner.is_owner_under(self.epoch) {
            // The doubt is settled by now: by the commit itself or by the claim.
            let is_stored = self.owner.settled.is_some_and(|settled| settled.is_stored);
            self.is_known();
            let (epoch, by) = (self.owner.fold.epoch(), self.owner.fold.owner());
            return Ask::Done(Err(AppendOutcome::Fenced { epoch, by, is_stored }));
        }
        if self.taken == self.pieces.len() {
            return self.done();
        }
        match self.until {
            _ if self.taken > self.sent => self.append(),
            // What was in the way is void: behind it, then.
            Until::Any => self.append(),
            Until::Place(pos) if self.owner.fold.end() < pos => Ask::Read { after: self.owner.fold.end() },
            Until::Place(_) => Ask::Done(Err(self.owner.spoil(LogFault::Nonsense("a commit is not where the log said")).into())),
        }
    }

    fn done(&mut self) -> Step {
        self.is_known();
        self.owner.epoch = Some(self.epoch);
        // It is the caller's own: nothing else was committed under this epoch meanwhile.
        self.owner.ready.clear();
        Ask::Done(Ok(*self.owner.fold.point()))
    }

    fn take(&mut self, entries: &[Entry]) -> Step {
        match self.owner.take_all(entries) {
            Err(fault) => Ask::Done(Err(fault.into())),
            Ok(true) => self.judge(),
            Ok(false) => self.unknown("the log does not show what it has".to_owned()),
        }
    }

    /// The owner stops: only a claim tells.
    fn unknown(&mut self, reason: String) -> Step {
        if !self.owner.holds(Rule::UnknownIsNotTold) {
            return self.not_stored(reason);
        }
        if !self.owner.holds(Rule::UnknownIsClaimed) {
            self.owner.epoch = Some(self.epoch);
        }
        Ask::Done(Err(AppendOutcome::Unknown(reason)))
    }

    fn not_stored(&mut self, reason: String) -> Step {
        self.is_known();
        // Where parts of it stand in the log, only a claim throws them away.
        if self.taken == 0 || !self.owner.holds(Rule::TornIsClaimed) {
            self.owner.epoch = Some(self.epoch);
        }
        Ask::Done(Err(AppendOutcome::NotStored(reason)))
    }
}

impl Operation for Committing<'_> {
    type Outcome = Result<FoldPoint, AppendOutcome>;

    fn begin(&mut self) -> Step {
        if let Some(fault) = &self.owner.fault {
            return Ask::Done(Err(fault.clone().into()));
        }
        if self.owner.epoch.is_none() {
            return Ask::Done(Err(AppendOutcome::NotOwner));
        }
        let point = self.owner.fold.point();
        let number = point.number + 1;
        let Some(pieces) = split(self.epoch, number, self.owner.fold.running(), &self.bytes, self.owner.entry_bytes_max) else {
            return Ask::Done(Err(AppendOutcome::TooLarge { bytes: self.bytes.len() }));
        };
        let digest = pieces[pieces.len() - 1].digest;
        self.pieces = pieces;
        // From here on it is in doubt until it is known: also if nobody goes on with this.
        self.owner.epoch = None;
        self.owner.doubt = Some(Doubt { epoch: self.epoch, number, digest });
        self.append()
    }

    fn appended(&mut self, answer: Result<Pos, AppendError>) -> Step {
        let end = self.owner.fold.end();
        let proves = |pos: Pos| pos.0 == end.0 + 1 || !self.owner.holds(Rule::FurtherOnIsRead);
        match answer {
            // Nobody came between: the fold takes it as all others will.
            Ok(pos) if proves(pos) => {
                self.until = Until::Place(pos);
                self.take(&[Entry { pos, bytes: self.pieces[self.sent].encoded.clone() }])
            }
            Ok(pos) => {
                self.until = Until::Place(pos);
                Ask::Read { after: end }
            }
            Err(AppendError::Conflict) => {
                self.until = Until::Any;
                Ask::Read { after: end }
            }
            Err(AppendError::NotStored(reason)) => self.not_stored(reason),
            Err(AppendError::Unknown(reason)) => self.unknown(reason),
        }
    }

    fn read(&mut self, answer: Result<Vec<Entry>, ReadError>) -> Step {
        match answer {
            #[cfg(test)]
            Ok(entries) if self.until == Until::Any && !self.owner.holds(Rule::ConflictIsJudged) => {
                self.owner.fold.pass_over(entries.last().map_or(self.owner.fold.end(), |entry| entry.pos));
                self.append()
            }
            Ok(entries) => self.take(&entries),
            Err(error) => self.unknown(error.to_string()),
        }
    }
}

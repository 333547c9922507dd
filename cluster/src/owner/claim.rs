//! [`Claiming`]: takes a shard over. The log decides between several who claim at once.

use super::{Applied, Ask, LogFault, Operation, Owner, Settled, Until};
use crate::entry::{self, Body, Epoch, Writer};
use crate::fold::Rule;
use crate::log::{AppendError, Entry, Pos, ReadError};
use bytes::Bytes;
use core::mem::take;

/// Who owns the shard after a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Who claimed.
    Won {
        /// The epoch under which it commits.
        epoch: Epoch,
    },
    /// Another one was there first.
    Lost {
        /// The epoch that holds.
        epoch: Epoch,
        /// The owner. `None`: it left already.
        by: Option<Writer>,
    },
}

/// What a claim came to. The log was read up to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Who owns the shard.
    pub standing: Standing,
    /// What was committed before and is to be folded first.
    pub commits: Vec<Applied>,
    /// What became of the commit of which nobody knew, if there was one. If it is stored, it is one of the commits.
    pub settled: Option<Settled>,
}

/// Why nobody knows yet who owns the shard. It may be tried again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    /// The log does not answer, or nobody knows whether it took the claim. If it comes to stand later, it is not used.
    #[error("the shard is not claimed: {0}")]
    Unavailable(String),
    /// The log is trimmed up to here, above what was folded: begin from a snapshot.
    #[error("the log is trimmed up to {}: begin from a snapshot", .0.0)]
    Trimmed(Pos),
    /// The log cannot be used.
    #[error(transparent)]
    Fault(#[from] LogFault),
}

impl From<ReadError> for ClaimError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Trimmed(upto) => Self::Trimmed(upto),
            ReadError::Unavailable(reason) => Self::Unavailable(reason),
            ReadError::Corrupt(why) => Self::Fault(LogFault::Corrupt(why)),
        }
    }
}

/// Takes a shard over: appends a claim of the next epoch, reads up to it, and looks who owns the shard.
#[derive(Debug)]
pub struct Claiming<'a> {
    owner: &'a mut Owner,
    /// What the last claim asked for.
    epoch: Epoch,
    until: Until,
}

type Step = Ask<Result<Claim, ClaimError>>;

impl Owner {
    /// Takes the shard over.
    pub fn claim(&mut self) -> Claiming<'_> {
        let epoch = self.fold.epoch().next();
        Claiming { owner: self, epoch, until: Until::Any }
    }
}

impl Claiming<'_> {
    fn entry(&self) -> Bytes {
        Body::Claim(entry::Claim { epoch: self.epoch, writer: self.owner.writer }).encode()
    }

    /// Behind everything that is known, with the next epoch.
    fn append(&mut self) -> Step {
        self.epoch = self.owner.fold.epoch().next();
        Ask::Append { after: self.owner.fold.end(), bytes: self.entry() }
    }

    fn judge(&mut self) -> Step {
        let fold = &self.owner.fold;
        if fold.epoch() < self.epoch {
            return match self.until {
                // Somebody committed meanwhile, or something void is there: behind it, then.
                Until::Any => self.append(),
                Until::Place(pos) if fold.end() >= pos => {
                    Ask::Done(Err(self.owner.spoil(LogFault::Nonsense("a claim is not where the log said")).into()))
                }
                Until::Place(_) => Ask::Read { after: fold.end() },
            };
        }
        // A claim that was thought lost wins as well: everything before it is read.
        let (epoch, by) = (fold.epoch(), fold.owner());
        let standing = if by == Some(self.owner.writer) {
            self.owner.epoch = Some(epoch);
            Standing::Won { epoch }
        } else {
            Standing::Lost { epoch, by }
        };
        Ask::Done(Ok(Claim { standing, commits: take(&mut self.owner.ready), settled: self.owner.settled.take() }))
    }

    fn take(&mut self, entries: &[Entry]) -> Step {
        match self.owner.take_all(entries) {
            Err(fault) => Ask::Done(Err(fault.into())),
            Ok(true) => self.judge(),
            Ok(false) => Ask::Done(Err(ClaimError::Unavailable("the log does not show what it has".to_owned()))),
        }
    }
}

impl Operation for Claiming<'_> {
    type Outcome = Result<Claim, ClaimError>;

    fn begin(&mut self) -> Step {
        if let Some(fault) = &self.owner.fault {
            return Ask::Done(Err(fault.clone().into()));
        }
        // While the claim is under way nothing is committed: nobody knows under which epoch.
        self.owner.epoch = None;
        self.append()
    }

    fn appended(&mut self, answer: Result<Pos, AppendError>) -> Step {
        let end = self.owner.fold.end();
        match answer {
            // Nobody came between: the fold takes it as all others will.
            Ok(pos) if pos.0 == end.0 + 1 || !self.owner.holds(Rule::ClaimIsReadUpTo) => self.take(&[Entry { pos, bytes: self.entry() }]),
            Ok(pos) => {
                self.until = Until::Place(pos);
                Ask::Read { after: end }
            }
            Err(AppendError::Conflict) => {
                self.until = Until::Any;
                Ask::Read { after: end }
            }
            Err(error @ (AppendError::NotStored(_) | AppendError::Unknown(_))) => {
                Ask::Done(Err(ClaimError::Unavailable(error.to_string())))
            }
        }
    }

    fn read(&mut self, answer: Result<Vec<Entry>, ReadError>) -> Step {
        match answer {
            Ok(entries) => self.take(&entries),
            Err(error) => Ask::Done(Err(error.into())),
        }
    }
}

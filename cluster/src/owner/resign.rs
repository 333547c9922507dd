//! [`Resigning`]: the owner leaves, so that another one need not wait until it is missed.

use super::{Ask, LogFault, Operation, Owner};
use crate::entry::{Body, Epoch, Resign};
use crate::log::{AppendError, Entry, Pos, ReadError};
use bytes::Bytes;

/// Why others may have to wait until the owner is missed. It does not commit any more in any case.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResignError {
    /// This node does not own the shard, or does not know what became of a commit: claim first.
    #[error("this node does not own the shard")]
    NotOwner,
    /// The log did not take it, or nobody knows.
    #[error("the others may not know that the owner left: {0}")]
    Unavailable(String),
    /// The log cannot be used.
    #[error(transparent)]
    Fault(#[from] LogFault),
}

/// Leaves.
#[derive(Debug)]
pub struct Resigning<'a> {
    owner: &'a mut Owner,
    epoch: Epoch,
    /// Whether the last append met another entry, and is to be repeated.
    is_conflict: bool,
}

type Step = Ask<Result<(), ResignError>>;

impl Owner {
    /// Leaves: this node commits nothing more under its epoch.
    pub fn resign(&mut self) -> Resigning<'_> {
        let epoch = self.epoch.unwrap_or_default();
        Resigning { owner: self, epoch, is_conflict: false }
    }
}

impl Resigning<'_> {
    fn entry(&self) -> Bytes {
        Body::Resign(Resign { epoch: self.epoch }).encode()
    }

    fn append(&self) -> Step {
        Ask::Append { after: self.owner.fold.end(), bytes: self.entry() }
    }

    fn take(&mut self, entries: &[Entry], again: bool) -> Step {
        match self.owner.take_all(entries) {
            Err(fault) => Ask::Done(Err(fault.into())),
            Ok(false) => Ask::Done(Err(ResignError::Unavailable("the log does not show what it has".to_owned()))),
            Ok(true) if !self.owner.is_owner_under(self.epoch) => Ask::Done(Ok(())),
            Ok(true) if again => self.append(),
            Ok(true) => Ask::Read { after: self.owner.fold.end() },
        }
    }
}

impl Operation for Resigning<'_> {
    type Outcome = Result<(), ResignError>;

    fn begin(&mut self) -> Step {
        if let Some(fault) = &self.owner.fault {
            return Ask::Done(Err(fault.clone().into()));
        }
        if self.owner.epoch.take().is_none() {
            return Ask::Done(Err(ResignError::NotOwner));
        }
        self.append()
    }

    fn appended(&mut self, answer: Result<Pos, AppendError>) -> Step {
        let end = self.owner.fold.end();
        match answer {
            Ok(pos) if pos.0 == end.0 + 1 => self.take(&[Entry { pos, bytes: self.entry() }], false),
            Ok(_) => Ask::Read { after: end },
            Err(AppendError::Conflict) => {
                self.is_conflict = true;
                Ask::Read { after: end }
            }
            Err(error @ (AppendError::NotStored(_) | AppendError::Unknown(_))) => {
                Ask::Done(Err(ResignError::Unavailable(error.to_string())))
            }
        }
    }

    fn read(&mut self, answer: Result<Vec<Entry>, ReadError>) -> Step {
        match answer {
            Ok(entries) => self.take(&entries, self.is_conflict),
            Err(error) => Ask::Done(Err(ResignError::Unavailable(error.to_string()))),
        }
    }
}

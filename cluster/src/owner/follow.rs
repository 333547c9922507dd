//! [`Following`]: reads on, as a replica does, or an owner who wants to know whether it was fenced.

use super::{Applied, Ask, ClaimError, Operation, Owner, Settled};
use crate::log::{AppendError, Entry, Pos, ReadError};
use core::mem::take;

/// A page of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Followed {
    /// What is to be folded, in order.
    pub commits: Vec<Applied>,
    /// What became of a commit of which nobody knew, if that is known now.
    pub settled: Option<Settled>,
    /// Whether nothing was behind what is known: this replica has seen all that was acknowledged before it asked.
    pub is_at_end: bool,
}

/// Reads one page.
#[derive(Debug)]
pub struct Following<'a> {
    owner: &'a mut Owner,
}

type Step = Ask<Result<Followed, ClaimError>>;

impl Owner {
    /// Reads one page.
    pub fn follow(&mut self) -> Following<'_> {
        Following { owner: self }
    }
}

impl Operation for Following<'_> {
    type Outcome = Result<Followed, ClaimError>;

    fn begin(&mut self) -> Step {
        match &self.owner.fault {
            Some(fault) => Ask::Done(Err(fault.clone().into())),
            None => Ask::Read { after: self.owner.fold.end() },
        }
    }

    fn appended(&mut self, _answer: Result<Pos, AppendError>) -> Step {
        // Nothing is appended here.
        self.begin()
    }

    fn read(&mut self, answer: Result<Vec<Entry>, ReadError>) -> Step {
        let read = answer.map_err(ClaimError::from).and_then(|entries| Ok(self.owner.take_all(&entries)?));
        Ask::Done(read.map(|any| Followed { commits: take(&mut self.owner.ready), settled: self.owner.settled.take(), is_at_end: !any }))
    }
}

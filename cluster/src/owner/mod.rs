//! [`Owner`]: how a node writes to a shard's log and knows what became of it, as pure steps. It asks no log: it says what is to be asked.
//!
//! An operation ([`Claiming`], [`Committing`], [`Following`], [`Resigning`]) gives an [`Ask`], is told what came of it, and gives the next
//! one, until it is done. An operation that is dropped before is an append that nobody knows of, and the owner knows that.

mod claim;
mod commit;
mod follow;
mod resign;

pub use claim::{Claim, ClaimError, Claiming, Standing};
pub use commit::{AppendOutcome, Committing};
pub use follow::{Followed, Following};
pub use resign::{ResignError, Resigning};

use crate::entry::{Digest, EntryError, Epoch, Writer};
use crate::fold::{Fold, FoldPoint, Rule, Rules, Verdict, Void};
use crate::log::{AppendError, Entry, Pos, ReadError};
use bytes::Bytes;

/// What an operation wants next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask<T> {
    /// Append this behind `after`, then [`Operation::appended`].
    Append {
        /// The last entry that is known.
        after: Pos,
        /// The entry.
        bytes: Bytes,
    },
    /// Read a page of the entries behind `after`, then [`Operation::read`].
    Read {
        /// The last entry that is known.
        after: Pos,
    },
    /// Nothing more.
    Done(T),
}

/// Something that a node does with a shard's log.
pub trait Operation {
    /// What it comes to.
    type Outcome;

    /// Begins.
    fn begin(&mut self) -> Ask<Self::Outcome>;

    /// Goes on after an append.
    fn appended(&mut self, answer: Result<Pos, AppendError>) -> Ask<Self::Outcome>;

    /// Goes on after a read.
    fn read(&mut self, answer: Result<Vec<Entry>, ReadError>) -> Ask<Self::Outcome>;
}

/// A commit of the log that its reader has not folded into its own storage yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Its number.
    pub number: u64,
    /// As it was committed.
    pub bytes: Bytes,
    /// To be written with it: a start goes on from here.
    pub point: FoldPoint,
}

/// What became of a commit of which nobody knew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    /// The number that it had, or would have had.
    pub number: u64,
    /// Whether it is in the log and counts. Else it is void for ever.
    pub is_stored: bool,
}

/// Why a log cannot be used: there is no going on from here, and nothing of the shard may be served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogFault {
    /// An entry cannot be read.
    #[error("at place {} of the log: {error}", pos.0)]
    Entry {
        /// Where.
        pos: Pos,
        /// Why.
        error: EntryError,
    },
    /// An entry that cannot be there if this is the log that was folded up to here, and it lost nothing.
    #[error("at place {} of the log: {void}; the log lost its end, was made anew, or is another one", pos.0)]
    Contradiction {
        /// Where.
        pos: Pos,
        /// What is wrong with it.
        void: Void,
    },
    /// What the log answers cannot be.
    #[error("the log answers what cannot be: {0}")]
    Nonsense(&'static str),
    /// The log says so itself.
    #[error("the log is damaged: {0}")]
    Corrupt(String),
}

/// A commit that was sent and of which nobody knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Doubt {
    epoch: Epoch,
    number: u64,
    digest: Digest,
}

/// A node's view of a shard's log, as a reader and as a writer.
#[derive(Debug)]
pub struct Owner {
    fold: Fold,
    writer: Writer,
    entry_bytes_max: usize,
    /// Under which epoch it may commit. `None`: it must claim first.
    epoch: Option<Epoch>,
    doubt: Option<Doubt>,
    /// What became of the doubt and was not told yet.
    settled: Option<Settled>,
    /// Commits that were read and not given out yet.
    ready: Vec<Applied>,
    fault: Option<LogFault>,
}

impl Owner {
    /// A reader that goes on from a point. It owns nothing before it has claimed, also where the log says that this node owns the shard:
    /// what an earlier life sent may still arrive.
    #[must_use]
    pub fn new(point: FoldPoint, writer: Writer, entry_bytes_max: usize) -> Self {
        Self::with_rules(point, writer, entry_bytes_max, Rules::default())
    }

    pub(crate) fn with_rules(point: FoldPoint, writer: Writer, entry_bytes_max: usize, rules: Rules) -> Self {
        let fold = Fold::with_rules(point, rules);
        Self { fold, writer, entry_bytes_max, epoch: None, doubt: None, settled: None, ready: Vec::new(), fault: None }
    }

    /// What the log means as far as it was read.
    #[must_use]
    pub fn fold(&self) -> &Fold {
        &self.fold
    }

    /// Who writes here.
    #[must_use]
    pub fn writer(&self) -> Writer {
        self.writer
    }

    /// The epoch under which it may commit. `None` where it never claimed, was fenced, left, or does not know what became of a commit.
    #[must_use]
    pub fn epoch(&self) -> Option<Epoch> {
        self.epoch
    }

    /// Whether it does not know what became of a commit.
    #[must_use]
    pub fn is_in_doubt(&self) -> bool {
        self.doubt.is_some()
    }

    fn holds(&self, rule: Rule) -> bool {
        self.fold.rules().hold(rule)
    }

    /// Takes entries in order. Gives whether there were any.
    fn take_all(&mut self, entries: &[Entry]) -> Result<bool, LogFault> {
        for entry in entries {
            self.take(entry)?;
        }
        Ok(!entries.is_empty())
    }

    fn take(&mut self, entry: &Entry) -> Result<(), LogFault> {
        if entry.pos <= self.fold.end() {
            return Err(self.spoil(LogFault::Nonsense("places do not rise")));
        }
        match self.fold.take(entry) {
            Err(error) => return Err(self.spoil(LogFault::Entry { pos: entry.pos, error })),
            Ok(Verdict::Void(void)) if void.is_contradiction() => {
                return Err(self.spoil(LogFault::Contradiction { pos: entry.pos, void }));
            }
            Ok(Verdict::Applied { number, bytes }) => {
                self.ready.push(Applied { number, bytes, point: *self.fold.point() });
                self.settle();
            }
            Ok(Verdict::Claimed | Verdict::Resigned) => {
                self.settle();
                if self.epoch.is_some_and(|epoch| !self.is_owner_under(epoch)) {
                    self.epoch = None;
                }
            }
            Ok(Verdict::PartTaken | Verdict::Void(_)) => {}
        }
        Ok(())
    }

    /// A commit of which nobody knew is stored when it was read, and void for ever when a later claim was.
    fn settle(&mut self) {
        let Some(doubt) = self.doubt else { return };
        let is_stored = self.fold.point().number == doubt.number && self.fold.point().digest == doubt.digest;
        if is_stored || self.fold.epoch() > doubt.epoch {
            let is_stored = is_stored && self.holds(Rule::DoubtIsLookedUp);
            self.settled = Some(Settled { number: doubt.number, is_stored });
            self.doubt = None;
        }
    }

    fn is_owner_under(&self, epoch: Epoch) -> bool {
        self.fold.epoch() == epoch && self.fold.owner() == Some(self.writer)
    }

    /// Nothing goes on after a fault.
    fn spoil(&mut self, fault: LogFault) -> LogFault {
        self.epoch = None;
        self.fault = Some(fault.clone());
        fault
    }
}

/// What an append has come to, and what must be read before it is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Until {
    /// The page that shows with whom it met.
    Any,
    /// Everything up to the place where it stands.
    Place(Pos),
}

#[cfg(test)]
mod tests;

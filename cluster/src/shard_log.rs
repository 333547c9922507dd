//! [`ShardLog`]: a shard's log as its replica reads it and its owner writes it. Takes the steps of [`Owner`] on a [`CommitLog`].
//!
//! A call that is dropped before it is done is as good as one that ended as unknown: nothing is committed then before the next claim.

use crate::entry::{Epoch, Writer, commit_bytes_max, seal};
use crate::fold::FoldPoint;
#[cfg(test)]
use crate::fold::Rules;
use crate::log::{CommitLog, LogName, Pos, ReadError};
use crate::owner::{AppendOutcome, Ask, Claim, ClaimError, Followed, Operation, Owner, ResignError};
use bytes::Bytes;
use std::sync::Arc;

/// How many bytes are read at a time, about.
const PAGE_BYTES: usize = 4 << 20;

/// Why a shard's log cannot be opened from a point.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The log does not answer. It may be tried again.
    #[error("the log cannot be opened: {0}")]
    Unavailable(String),
    /// The log is trimmed above the point: begin from a snapshot.
    #[error("the log is trimmed up to {}: begin from a snapshot", .0.0)]
    Trimmed(Pos),
    /// The log does not have what was folded from it: it lost its end, was made anew, or is another one.
    #[error("the log does not have what was folded from it up to place {}: {why}", at.0)]
    Lost {
        /// Up to where it was folded.
        at: Pos,
        /// What was found instead.
        why: String,
    },
}

impl From<ReadError> for OpenError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Trimmed(upto) => Self::Trimmed(upto),
            error @ (ReadError::Unavailable(_) | ReadError::Corrupt(_)) => Self::Unavailable(error.to_string()),
        }
    }
}

/// A shard's log.
#[derive(Debug)]
pub struct ShardLog {
    log: Arc<dyn CommitLog>,
    name: LogName,
    owner: Owner,
}

impl ShardLog {
    /// Opens the log of a shard, to go on from a point. Looks whether the log has what was folded from it, as far as it is not trimmed.
    ///
    /// The node owns nothing yet. `writer.boot` must be one that was never used with this log.
    ///
    /// # Errors
    /// [`OpenError`]: no answer, trimmed, or not the log that was folded.
    pub async fn open(log: Arc<dyn CommitLog>, shard: u16, writer: Writer, from: FoldPoint) -> Result<Self, OpenError> {
        let name = LogName::Shard(shard);
        let owner = Owner::new(from, writer, log.entry_bytes_max());
        Self { log, name, owner }.checked().await
    }

    /// As [`ShardLog::open`], with rules.
    #[cfg(test)]
    pub(crate) async fn open_with(log: Arc<dyn CommitLog>, writer: Writer, from: FoldPoint, rules: Rules) -> Result<Self, OpenError> {
        let owner = Owner::with_rules(from, writer, log.entry_bytes_max(), rules);
        Self { log, name: LogName::Shard(0), owner }.checked().await
    }

    async fn checked(self) -> Result<Self, OpenError> {
        let from = *self.point();
        let bounds = self.log.bounds(self.name).await?;
        if bounds.trimmed > from.pos {
            return Err(OpenError::Trimmed(bounds.trimmed));
        }
        let lost = |why: String| Err(OpenError::Lost { at: from.pos, why });
        if bounds.last < from.pos {
            return lost(format!("it ends at place {}", bounds.last.0));
        }
        if bounds.trimmed < from.pos {
            let found = self.log.read(self.name, Pos(from.pos.0 - 1), 1).await?;
            match found.first() {
                Some(entry) if entry.pos == from.pos && seal(&entry.bytes) == from.seal => {}
                Some(entry) if entry.pos == from.pos => return lost("another entry stands there".to_owned()),
                _ => return lost("no entry stands there".to_owned()),
            }
        }
        Ok(self)
    }

    /// Reads one page of what others committed. An owner learns by it whether it was fenced.
    ///
    /// # Errors
    /// [`ClaimError`]: no answer, trimmed, or the log cannot be used.
    pub async fn follow(&mut self) -> Result<Followed, ClaimError> {
        drive(&*self.log, self.name, self.owner.follow()).await
    }

    /// Takes the shard over, or tells who has it. Reads the log up to the claim. Follow to the end first: what is left to read comes at once,
    /// and a claim that is found there counts as one that was first.
    ///
    /// After [`AppendOutcome::Unknown`] it tells what became of that commit.
    ///
    /// # Errors
    /// [`ClaimError`]. What it comes to is not known then, and it may be tried again.
    pub async fn claim(&mut self) -> Result<Claim, ClaimError> {
        drive(&*self.log, self.name, self.owner.claim()).await
    }

    /// Appends a commit of the owner. Durable on return, in every fold, behind everything that was committed before. Gives the point to write
    /// with it.
    ///
    /// # Errors
    /// [`AppendOutcome`] says whether it is stored.
    pub async fn append(&mut self, commit: Bytes) -> Result<FoldPoint, AppendOutcome> {
        drive(&*self.log, self.name, self.owner.commit(commit)).await
    }

    /// Leaves the shard to others.
    ///
    /// # Errors
    /// [`ResignError`]: others may not know. This node commits nothing more in any case.
    pub async fn resign(&mut self) -> Result<(), ResignError> {
        drive(&*self.log, self.name, self.owner.resign()).await
    }

    /// Trims what a snapshot at a point makes superfluous. The entry at the point stays: an open looks at it.
    ///
    /// # Errors
    /// When the log does not answer; a part may be gone.
    pub async fn trim(&self, snapshot: &FoldPoint) -> Result<(), ReadError> {
        self.log.trim(self.name, Pos(snapshot.pos.0.saturating_sub(1))).await
    }

    /// From where another replica can go on that has folded everything that was read here.
    #[must_use]
    pub fn point(&self) -> &FoldPoint {
        self.owner.fold().point()
    }

    /// The most bytes that a commit can have.
    #[must_use]
    pub fn commit_bytes_max(&self) -> usize {
        commit_bytes_max(self.log.entry_bytes_max())
    }

    /// The last entry that was read.
    #[must_use]
    pub fn end(&self) -> Pos {
        self.owner.fold().end()
    }

    /// Who owns the shard, as far as the log was read, and under which epoch.
    #[must_use]
    pub fn owned_by(&self) -> (Epoch, Option<Writer>) {
        (self.owner.fold().epoch(), self.owner.fold().owner())
    }

    /// The epoch under which this node may commit. `None`: it must claim first.
    #[must_use]
    pub fn epoch(&self) -> Option<Epoch> {
        self.owner.epoch()
    }

    /// Whether nobody knows what became of a commit. The next claim tells.
    #[must_use]
    pub fn is_in_doubt(&self) -> bool {
        self.owner.is_in_doubt()
    }
}

async fn drive<O: Operation>(log: &dyn CommitLog, name: LogName, mut operation: O) -> O::Outcome {
    let mut ask = operation.begin();
    loop {
        ask = match ask {
            Ask::Done(outcome) => return outcome,
            Ask::Append { after, bytes } => {
                let answer = log.append(name, after, bytes).await;
                operation.appended(answer)
            }
            Ask::Read { after } => {
                let answer = log.read(name, after, PAGE_BYTES).await;
                operation.read(answer)
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Digest;
    use crate::log::memory::{Faults, Flavour, MemoryLog};
    use crate::owner::{LogFault, Standing};
    use futures_util::FutureExt as _;

    const LOG: LogName = LogName::Shard(3);

    fn now<T>(future: impl Future<Output = T>) -> T {
        future.now_or_never().expect("a log without delays answers at once")
    }

    fn genesis() -> FoldPoint {
        FoldPoint::genesis(Digest::genesis(7, 3), 0)
    }

    fn open(log: &MemoryLog, boot: u128, from: FoldPoint) -> Result<ShardLog, OpenError> {
        now(ShardLog::open(Arc::new(log.clone()), 3, Writer { node: 1, boot }, from))
    }

    fn owner(log: &MemoryLog, boot: u128) -> ShardLog {
        let mut owner = open(log, boot, genesis()).expect("the log opens");
        while !now(owner.follow()).expect("the log answers").is_at_end {}
        assert!(matches!(now(owner.claim()).expect("the log answers").standing, Standing::Won { .. }));
        owner
    }

    fn append(log: &mut ShardLog, commit: &'static str) -> FoldPoint {
        now(log.append(Bytes::from_static(commit.as_bytes()))).expect("the owner commits")
    }

    #[test]
    fn a_replica_goes_on_from_its_point() {
        let log = MemoryLog::new(Flavour::Conditional);
        let mut owner = owner(&log, 1);
        let first = append(&mut owner, "first");
        let second = append(&mut owner, "second");
        let mut replica = open(&log, 2, first).expect("the log has what was folded");
        let followed = now(replica.follow()).expect("the log answers");
        let commits: Vec<_> = followed.commits.iter().map(|applied| (applied.number, &applied.bytes[..], applied.point)).collect();
        assert_eq!(commits, [(2, &b"second"[..], second)]);
        assert!(now(replica.follow()).expect("the log answers").is_at_end);
        assert_eq!(replica.point(), owner.point());
    }

    #[test]
    fn a_log_that_lost_its_end_is_refused() {
        let log = MemoryLog::new(Flavour::Conditional);
        let mut owner = owner(&log, 1);
        let first = append(&mut owner, "first");
        let second = append(&mut owner, "second");
        log.lose_behind(LOG, first.pos);
        assert!(matches!(open(&log, 2, second), Err(OpenError::Lost { at, .. }) if at == second.pos), "it ends before");
        let mut another = open(&log, 3, first).expect("what was folded up to here is there");
        assert!(matches!(now(another.claim()).expect("the log answers").standing, Standing::Won { .. }));
        append(&mut another, "another second");
        assert!(matches!(open(&log, 2, second), Err(OpenError::Lost { .. })), "another entry stands there");
        assert!(open(&log, 2, first).is_ok());
    }

    #[test]
    fn a_log_that_was_made_anew_is_refused_also_where_it_is_longer() {
        let (log, anew) = (MemoryLog::new(Flavour::Unconditional), MemoryLog::new(Flavour::Unconditional));
        let known = append(&mut owner(&log, 1), "known");
        assert!(matches!(open(&anew, 2, known), Err(OpenError::Lost { .. })));
        let mut other = owner(&anew, 3);
        for _ in 0..5 {
            append(&mut other, "other");
        }
        assert!(matches!(open(&anew, 2, known), Err(OpenError::Lost { .. })));
    }

    #[test]
    fn commits_of_another_shard_stop_a_replica() {
        let log = MemoryLog::new(Flavour::Conditional);
        append(&mut owner(&log, 1), "of shard 3");
        let of_another = FoldPoint::genesis(Digest::genesis(7, 4), 0);
        let mut replica = open(&log, 2, of_another).expect("nothing was folded, so nothing is missed");
        for _ in 0..2 {
            assert!(matches!(now(replica.follow()), Err(ClaimError::Fault(LogFault::Contradiction { .. }))), "and it stays so");
        }
        assert!(matches!(now(replica.claim()), Err(ClaimError::Fault(_))));
    }

    #[test]
    fn a_replica_that_met_a_log_that_lost_its_end_stops_when_it_goes_on_elsewhere() {
        let log = MemoryLog::new(Flavour::Conditional);
        let mut owner = owner(&log, 1);
        let first = append(&mut owner, "first");
        let second = append(&mut owner, "second");
        let mut replica = open(&log, 2, second).expect("the log has what was folded");
        log.lose_behind(LOG, first.pos);
        let mut another = open(&log, 3, first).expect("what was folded up to here is there");
        assert!(matches!(now(another.claim()).expect("the log answers").standing, Standing::Won { .. }));
        append(&mut another, "another second");
        append(&mut another, "another third");
        // The claim stands where the replica has folded something else, so it never reads it.
        assert!(matches!(now(replica.follow()), Err(ClaimError::Fault(LogFault::Contradiction { .. }))));
    }

    #[test]
    fn trimming_for_a_snapshot_leaves_what_an_open_looks_at() {
        let log = MemoryLog::new(Flavour::Conditional);
        let mut owner = owner(&log, 1);
        let first = append(&mut owner, "first");
        let second = append(&mut owner, "second");
        now(owner.trim(&second)).expect("the log answers");
        assert_eq!(log.entries(LOG).first().map(|entry| entry.pos), Some(second.pos));
        assert!(open(&log, 2, second).is_ok());
        assert!(matches!(open(&log, 2, FoldPoint { seal: second.seal + 1, ..second }), Err(OpenError::Lost { .. })));
        assert_eq!(open(&log, 2, first).map(|_| ()), Ok(()), "what is behind it is there, so it can go on");
        assert!(matches!(open(&log, 2, genesis()), Err(OpenError::Trimmed(_))));
    }

    #[test]
    fn a_log_that_does_not_answer_is_not_called_lost() {
        let log = MemoryLog::with_faults(Flavour::Conditional, Faults { unreadable: 1000, ..Faults::default() }, 1);
        assert!(matches!(open(&log, 1, genesis()), Err(OpenError::Unavailable(_))));
    }

    #[test]
    fn a_call_that_is_dropped_leaves_a_doubt_that_a_claim_settles() {
        for lands in [false, true] {
            let log = MemoryLog::with_faults(Flavour::Conditional, Faults::default(), 11);
            let mut owner = owner(&log, 1);
            log.set_faults(Faults { delayed: 1000, ..Faults::default() });
            let mut call = Box::pin(owner.append(Bytes::from_static(b"dropped")));
            while lands && log.entries(LOG).len() < 2 {
                assert!((&mut call).now_or_never().is_none(), "its answer is under way");
            }
            assert!(lands || (&mut call).now_or_never().is_none());
            drop(call);
            log.set_faults(Faults::default());
            assert!(owner.is_in_doubt() && owner.epoch().is_none());
            assert_eq!(now(owner.append(Bytes::new())), Err(AppendOutcome::NotOwner));
            let claim = now(owner.claim()).expect("the log answers");
            assert_eq!(claim.settled.map(|settled| (settled.number, settled.is_stored)), Some((1, lands)));
            assert_eq!(claim.commits.len(), usize::from(lands));
            assert!(owner.epoch().is_some() && !owner.is_in_doubt());
        }
    }

    #[test]
    fn a_commit_that_is_too_large_is_refused_and_the_owner_goes_on() {
        let log = MemoryLog::new(Flavour::Conditional).with_entry_bytes_max(59);
        let mut owner = owner(&log, 1);
        let max = owner.commit_bytes_max();
        assert_eq!(now(owner.append(vec![0; max + 1].into())), Err(AppendOutcome::TooLarge { bytes: max + 1 }));
        assert_eq!(append(&mut owner, "ten bytes!").number, 1);
        assert_eq!(log.entries(LOG).len(), 1 + 10, "a byte in each");
    }
}

//! [`Node`]: reads, claims, commits, leaves, sleeps, dies and starts again, as it is drawn. It tells the world what it heard.

use super::turns::{Task, within};
use super::world::{World, commit_bytes, commit_of, genesis};
use crate::entry::Writer;
use crate::fold::{FoldPoint, Rules};
use crate::log::memory::{MemoryLog, turns};
use crate::owner::{AppendOutcome, Applied, ClaimError, ResignError, Settled, Standing};
use crate::shard_log::{OpenError, ShardLog};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use std::cell::{RefCell, RefMut};
use std::rc::Rc;
use std::sync::Arc;

/// What a node keeps: what it folded, and up to where.
#[derive(Clone, Debug)]
pub(super) struct Disk {
    row: Vec<u8>,
    pub(super) commits: Vec<u32>,
}

impl Disk {
    pub(super) fn point(&self) -> FoldPoint {
        FoldPoint::decode(&self.row).expect("it was written here")
    }
}

/// Whether a life goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    GoesOn,
    Ends,
}

#[derive(Debug)]
pub(super) struct Node {
    id: u128,
    world: Rc<RefCell<World>>,
    client: MemoryLog,
    random: StdRng,
    rules: Rules,
    disk: Disk,
    /// The commit of which this life does not know what became of it.
    doubt: Option<u32>,
    deeds_left: u32,
}

/// A node's lives.
#[expect(clippy::await_holding_refcell_ref, reason = "each node is one task's, and nobody else looks at it meanwhile")]
pub(super) fn lives(node: Rc<RefCell<Node>>) -> Task {
    Box::pin(async move {
        let mut node = node.borrow_mut();
        while node.deeds_left > 0 && !node.world().is_wrong() {
            node.life().await;
        }
        node.client.cut_off(false);
    })
}

/// Reads to the end, and commits behind it if told to.
#[expect(clippy::await_holding_refcell_ref, reason = "each node is one task's, and nobody else looks at it meanwhile")]
pub(super) fn last_deeds(node: Rc<RefCell<Node>>, commits: bool) -> Task {
    Box::pin(async move {
        let mut node = node.borrow_mut();
        let Some(mut log) = node.open().await else { return };
        while !node.world().is_wrong() && node.follow(&mut log).await == Some(false) {}
        if commits {
            node.claim(&mut log).await;
            if log.epoch().is_none() {
                node.world().wrong("nobody else is there, and a claim is lost".to_owned());
            }
            let before = node.disk.commits.len();
            node.commit(&mut log).await;
            if node.disk.commits.len() != before + 1 {
                node.world().wrong("nothing goes wrong any more, and a commit fails".to_owned());
            }
        }
    })
}

impl Node {
    pub(super) fn new(id: u128, world: &Rc<RefCell<World>>, seed: u64, rules: Rules) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let client = world.borrow().log.client();
        let disk = Disk { row: genesis().encode(), commits: Vec::new() };
        let deeds_left = random.random_range(5..40);
        Self { id, world: Rc::clone(world), client, random, rules, disk, doubt: None, deeds_left }
    }

    pub(super) fn disk(&self) -> &Disk {
        &self.disk
    }

    fn world(&self) -> RefMut<'_, World> {
        self.world.borrow_mut()
    }

    /// In the end nothing goes wrong any more.
    fn is_drawn(&mut self, in_a_hundred: u32) -> bool {
        self.deeds_left > 0 && self.random.random_range(0..100) < in_a_hundred
    }

    /// How long a caller waits for a call.
    fn patience(&mut self) -> u64 {
        if self.is_drawn(10) { self.random.random_range(0..20) } else { u64::MAX }
    }

    async fn life(&mut self) {
        self.world().count("restarted");
        let Some(mut log) = self.open().await else { return };
        while self.deeds_left > 0 && !self.world().is_wrong() {
            self.deeds_left -= 1;
            if self.is_drawn(20) {
                turns(self.random.random_range(0..200)).await;
            }
            let life = match self.random.random_range(0..100) {
                0..25 => self.follow(&mut log).await.map_or(Life::Ends, |_| Life::GoesOn),
                25..80 if log.epoch().is_some() => self.commit(&mut log).await,
                25..50 => self.claim(&mut log).await,
                50..84 => Life::GoesOn,
                84..88 => self.resign(&mut log).await,
                88..93 => self.snapshot(&log).await,
                93..96 => {
                    self.client.cut_off(self.random.random());
                    Life::GoesOn
                }
                _ => Life::Ends,
            };
            if life == Life::Ends {
                return;
            }
        }
    }

    /// Opens the log, from a snapshot where it must.
    async fn open(&mut self) -> Option<ShardLog> {
        // Whom it should have answered is gone.
        self.doubt = None;
        for _ in 0..100 {
            let writer = Writer { node: self.id, boot: self.world().next_boot() };
            let log = Arc::new(self.client.clone());
            match ShardLog::open_with(log, writer, self.disk.point(), self.rules).await {
                Ok(log) => return Some(log),
                Err(OpenError::Unavailable(_)) => self.client.cut_off(false),
                Err(OpenError::Trimmed(_)) => self.begin_from_snapshot(),
                Err(error @ OpenError::Lost { .. }) => {
                    self.world().wrong(error.to_string());
                    return None;
                }
            }
        }
        self.world().wrong("the log cannot be opened".to_owned());
        None
    }

    fn begin_from_snapshot(&mut self) {
        let snapshot = self.world().snapshot.clone();
        match snapshot {
            Some(snapshot) => self.disk = snapshot,
            None => self.world().wrong("trimmed without a snapshot".to_owned()),
        }
        self.world().count("snapshot begun from");
    }

    /// Folds what was read. A node may die in the midst of it.
    fn fold(&mut self, commits: &[Applied]) -> Life {
        for applied in commits {
            if self.is_drawn(2) {
                return Life::Ends;
            }
            let next = self.disk.commits.len() as u64 + 1;
            match commit_of(&applied.bytes) {
                Some(id) if applied.number == next && applied.point.number == next => self.disk.commits.push(id),
                _ => self.world().wrong(format!("{applied:?} behind {next} commits")),
            }
            self.disk.row = applied.point.encode();
        }
        Life::GoesOn
    }

    /// Everything that was read is folded: the place may be kept, also where the last entries were no commits.
    fn keep_place(&mut self, log: &ShardLog) {
        if self.is_drawn(30) {
            self.disk.row = log.point().encode();
        }
    }

    fn settle(&mut self, settled: Option<Settled>) {
        let Some(settled) = settled else { return };
        match self.doubt.take() {
            Some(id) => {
                self.world().count(if settled.is_stored { "settled as stored" } else { "settled as void" });
                self.world().tell(id, settled.is_stored, settled.is_stored.then_some(settled.number));
            }
            None => self.world().wrong(format!("{settled:?}, and there was no doubt")),
        }
    }

    fn failed(&mut self, error: &ClaimError) -> Life {
        match error {
            ClaimError::Unavailable(_) => Life::GoesOn,
            ClaimError::Trimmed(_) => {
                self.begin_from_snapshot();
                Life::Ends
            }
            ClaimError::Fault(fault) => {
                self.world().wrong(fault.to_string());
                Life::Ends
            }
        }
    }

    /// Gives whether it is at the end. `None`: the life ends.
    async fn follow(&mut self, log: &mut ShardLog) -> Option<bool> {
        let (patience, before) = (self.patience(), self.world().acknowledged());
        match within(patience, log.follow()).await {
            None => Some(false),
            Some(Ok(followed)) => {
                self.settle(followed.settled);
                if self.fold(&followed.commits) == Life::Ends {
                    return None;
                }
                self.keep_place(log);
                if followed.is_at_end && (self.disk.commits.len() as u64) < before {
                    self.world().wrong(format!("at the end, and number {before} is not read, which was acknowledged before"));
                }
                Some(followed.is_at_end)
            }
            Some(Err(error)) => (self.failed(&error) == Life::GoesOn).then_some(false),
        }
    }

    async fn claim(&mut self, log: &mut ShardLog) -> Life {
        let (patience, before) = (self.patience(), self.world().acknowledged());
        match within(patience, log.claim()).await {
            None => {
                self.world().count("dropped call");
                Life::GoesOn
            }
            Some(Ok(claim)) => {
                self.settle(claim.settled);
                if self.doubt.is_some() {
                    self.world().wrong("a claim is decided, and a commit is still in doubt".to_owned());
                }
                if self.fold(&claim.commits) == Life::Ends {
                    return Life::Ends;
                }
                self.keep_place(log);
                match claim.standing {
                    Standing::Lost { .. } => self.world().count("lost"),
                    Standing::Won { epoch } => {
                        let (_, owner) = log.owned_by();
                        self.world().won(epoch, owner.expect("it was just won"));
                        if (self.disk.commits.len() as u64) < before {
                            self.world().wrong(format!("an owner does not know number {before}, which was acknowledged before it claimed"));
                        }
                    }
                }
                Life::GoesOn
            }
            Some(Err(error)) => self.failed(&error),
        }
    }

    async fn commit(&mut self, log: &mut ShardLog) -> Life {
        let id = self.world().begin();
        let bytes = commit_bytes(id, self.random.random_range(0..30));
        let patience = self.patience();
        let Some(outcome) = within(patience, log.append(bytes.clone())).await else {
            self.world().count("dropped call");
            self.doubt = Some(id);
            return Life::GoesOn;
        };
        match outcome {
            Ok(point) => {
                self.world().count("acknowledged");
                self.world().tell(id, true, Some(point.number));
                self.fold(&[Applied { number: point.number, bytes, point }])
            }
            Err(AppendOutcome::NotStored(_)) => {
                self.world().count(if log.epoch().is_some() { "not stored" } else { "torn" });
                self.world().tell(id, false, None);
                Life::GoesOn
            }
            Err(AppendOutcome::Fenced { is_stored, .. }) => {
                self.world().count(if is_stored { "fenced, stored" } else { "fenced, void" });
                self.world().tell(id, is_stored, None);
                Life::GoesOn
            }
            Err(AppendOutcome::Unknown(_)) => {
                self.world().count("unknown");
                self.doubt = Some(id);
                Life::GoesOn
            }
            Err(error @ (AppendOutcome::NotOwner | AppendOutcome::TooLarge { .. } | AppendOutcome::Fault(_))) => {
                self.world().wrong(error.to_string());
                Life::Ends
            }
        }
    }

    async fn resign(&mut self, log: &mut ShardLog) -> Life {
        let patience = self.patience();
        match within(patience, log.resign()).await {
            Some(Ok(())) => self.world().count("resigned"),
            None | Some(Err(ResignError::NotOwner | ResignError::Unavailable(_))) => {}
            Some(Err(ResignError::Fault(fault))) => self.world().wrong(fault.to_string()),
        }
        Life::GoesOn
    }

    /// Keeps what it has for others, and trims what they need not read then.
    async fn snapshot(&mut self, log: &ShardLog) -> Life {
        self.world().read_on();
        let is_newer = self.world().snapshot.as_ref().is_none_or(|before| before.point().pos < self.disk.point().pos);
        if is_newer {
            self.world().snapshot = Some(self.disk.clone());
        }
        let point = self.disk.point();
        let patience = self.patience();
        // What is not trimmed now is trimmed later.
        let _ = within(patience, log.trim(&point)).await;
        Life::GoesOn
    }
}

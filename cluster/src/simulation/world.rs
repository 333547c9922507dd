//! [`World`]: the log, and all that was told to anybody, to be judged when a run is over.

use super::node::Disk;
use crate::entry::{Body, Claim, Digest, Epoch, Part, Writer};
use crate::fold::{Fold, FoldPoint, Rules, Verdict};
use crate::log::memory::{Faults, Flavour, MemoryLog};
use crate::log::{Entry, LogName, Pos};
use bytes::Bytes;
use rand::RngExt as _;
use rand::rngs::StdRng;
use std::collections::BTreeMap;

pub(super) const LOG: LogName = LogName::Shard(0);

/// How often something happened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts(BTreeMap<&'static str, u64>);

impl Counts {
    pub(super) fn add(&mut self, other: &Self) {
        for (what, count) in &other.0 {
            *self.0.entry(what).or_default() += count;
        }
    }

    pub(super) fn assert_that_all_happened(&self) {
        for what in [
            "acknowledged",
            "not stored",
            "torn",
            "fenced, void",
            "fenced, stored",
            "unknown",
            "dropped call",
            "settled as stored",
            "settled as void",
            "in parts",
            "won",
            "lost",
            "resigned",
            "void entries",
            "restarted",
            "snapshot begun from",
            "conditional",
            "unconditional",
        ] {
            assert!(self.0.contains_key(what), "never {what}: {self:?}");
        }
    }
}

/// What is known of one commit.
#[derive(Clone, Copy, Debug, Default)]
struct Told {
    /// The highest number that was acknowledged to anybody before this one began.
    floor: u64,
    is_stored: Option<bool>,
    number: Option<u64>,
}

#[derive(Debug)]
pub(super) struct World {
    pub(super) log: MemoryLog,
    /// Reads everything that the log ever had.
    reader: Fold,
    applied: Vec<u32>,
    told: Vec<Told>,
    acknowledged: u64,
    winners: BTreeMap<Epoch, Writer>,
    boots: u128,
    pub(super) snapshot: Option<Disk>,
    counts: Counts,
    wrong: Option<String>,
}

pub(super) fn genesis() -> FoldPoint {
    FoldPoint::genesis(Digest::genesis(1, 0), 0)
}

impl World {
    pub(super) fn draw(random: &mut StdRng, rules: Rules) -> Self {
        let flavour = if random.random() { Flavour::Conditional } else { Flavour::Unconditional };
        let mut rate = || [0, 0, 20, 100, 250][random.random_range(0..5)];
        let faults = Faults {
            delayed: 4 * rate(),
            refused: rate(),
            answer_lost: rate(),
            late: rate(),
            request_lost: rate(),
            doubled: rate(),
            skipped: rate(),
            unreadable: rate(),
        };
        // Of the small entries a commit needs several.
        let entry_bytes_max = if random.random() { 1 << 16 } else { Body::Commit(forged(&genesis())).encode().len() + 9 };
        let log = MemoryLog::with_faults(flavour, faults, random.random()).with_entry_bytes_max(entry_bytes_max);
        let mut world = Self {
            log,
            reader: Fold::with_rules(genesis(), rules),
            applied: Vec::new(),
            told: Vec::new(),
            acknowledged: 0,
            winners: BTreeMap::new(),
            boots: 0,
            snapshot: None,
            counts: Counts::default(),
            wrong: None,
        };
        world.count(if flavour == Flavour::Conditional { "conditional" } else { "unconditional" });
        world
    }

    pub(super) fn count(&mut self, what: &'static str) {
        *self.counts.0.entry(what).or_default() += 1;
    }

    pub(super) fn wrong(&mut self, what: String) {
        self.wrong.get_or_insert(what);
    }

    pub(super) fn is_wrong(&self) -> bool {
        self.wrong.is_some()
    }

    pub(super) fn next_boot(&mut self) -> u128 {
        self.boots += 1;
        self.boots
    }

    pub(super) fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Somebody begins a commit. Gives its name.
    pub(super) fn begin(&mut self) -> u32 {
        self.told.push(Told { floor: self.acknowledged, ..Told::default() });
        u32::try_from(self.told.len() - 1).expect("few commits")
    }

    /// Somebody is told what became of a commit.
    pub(super) fn tell(&mut self, id: u32, is_stored: bool, number: Option<u64>) {
        let told = &mut self.told[id as usize];
        if let Some(before) = told.is_stored {
            self.wrong(format!("commit {id} is answered twice: {before}, then {is_stored}"));
            return;
        }
        told.is_stored = Some(is_stored);
        told.number = number;
        self.acknowledged = self.acknowledged.max(number.unwrap_or(0));
    }

    pub(super) fn won(&mut self, epoch: Epoch, writer: Writer) {
        self.count("won");
        let first = *self.winners.entry(epoch).or_insert(writer);
        if first != writer {
            self.wrong(format!("{first} and {writer} both won epoch {epoch}"));
        }
    }

    /// Reads what is there, before it is trimmed.
    pub(super) fn read_on(&mut self) {
        for entry in self.log.entries(LOG) {
            if entry.pos <= self.reader.end() {
                continue;
            }
            match self.reader.take(&entry) {
                Ok(Verdict::Applied { bytes, .. }) => match commit_of(&bytes) {
                    Some(id) => self.applied.push(id),
                    None => self.wrong(format!("a commit that is not whole: {bytes:?}")),
                },
                Ok(Verdict::Void(void)) if void.is_contradiction() => self.wrong(format!("{entry:?}: {void}")),
                Ok(Verdict::Void(_)) => self.count("void entries"),
                Ok(Verdict::PartTaken) => self.count("in parts"),
                Ok(Verdict::Claimed | Verdict::Resigned) => {}
                Err(error) => self.wrong(format!("{entry:?}: {error}")),
            }
        }
    }

    /// Nothing goes wrong any more, and what is under way arrives.
    pub(super) fn calm_down(&self) {
        self.log.set_faults(Faults::default());
        self.log.land_all();
    }

    /// Holds what was told against what the log says in the end.
    pub(super) fn judge(&mut self) {
        self.log.land_all();
        self.read_on();
        let mut numbers: BTreeMap<u32, u64> = BTreeMap::new();
        for (number, id) in (1..).zip(self.applied.clone()) {
            if numbers.insert(id, number).is_some() {
                self.wrong(format!("commit {id} is there twice"));
            }
        }
        if self.reader.point().number != self.applied.len() as u64 {
            self.wrong(format!("{} commits are numbered up to {}", self.applied.len(), self.reader.point().number));
        }
        for (id, told) in (0..).zip(self.told.clone()) {
            let number = numbers.get(&id).copied();
            match (told.is_stored, number) {
                (Some(true), None) => self.wrong(format!("commit {id} was acknowledged and is lost")),
                (Some(false), Some(_)) => self.wrong(format!("commit {id} was told not to be stored and is")),
                _ => {}
            }
            if told.number.is_some() && told.number != number {
                self.wrong(format!("commit {id} was told to be number {:?} and is {number:?}", told.number));
            }
            if number.is_some_and(|number| number <= told.floor) {
                self.wrong(format!("commit {id} came before number {}, which was acknowledged before it began", told.floor));
            }
        }
    }

    /// A replica's own storage is what the log says.
    pub(super) fn judge_disk(&mut self, disk: &Disk) {
        if disk.commits != self.applied {
            self.wrong(format!("a replica has {:?}, the log {:?}", disk.commits, self.applied));
        }
        let (of_disk, of_log) = (disk.point(), self.reader.point());
        if (of_disk.number, of_disk.digest) != (of_log.number, of_log.digest) {
            self.wrong(format!("a replica stands at {of_disk:?}, the log at {of_log:?}"));
        }
    }

    /// Entries that no owner writes: each has one thing that does not fit, and changes nothing.
    pub(super) fn judge_forgeries(&mut self) {
        let point = *self.reader.point();
        let owner = Writer { node: 9, boot: 9 };
        let mut fold = self.reader.clone();
        let claim = |epoch| Body::Claim(Claim { epoch, writer: owner });
        let take = |fold: &mut Fold, body: &Body| {
            let verdict = fold.take(&Entry { pos: Pos(fold.end().0 + 1), bytes: body.encode() });
            verdict.unwrap_or_else(|error| panic!("{body:?} can be read: {error}"))
        };
        let claimed = take(&mut fold, &claim(point.epoch.next()));
        assert_eq!(claimed, Verdict::Claimed, "a higher epoch counts");
        let fits = forged(fold.point());
        let forgeries = [
            claim(point.epoch.next()),
            claim(point.epoch),
            Body::Commit(Part { epoch: point.epoch, ..fits.clone() }),
            Body::Commit(Part { epoch: fits.epoch.next(), ..fits.clone() }),
            Body::Commit(Part { number: fits.number + 1, ..fits.clone() }),
            Body::Commit(Part { number: fits.number - 1, ..fits.clone() }),
            Body::Commit(Part { part: 1, parts: 2, ..fits.clone() }),
            Body::Commit(Part { previous: fits.digest(), ..fits.clone() }),
        ];
        for body in forgeries {
            let verdict = take(&mut fold.clone(), &body);
            if !matches!(verdict, Verdict::Void(_)) {
                self.wrong(format!("{body:?} at {:?} counts: {verdict:?}", fold.point()));
            }
        }
        if !matches!(take(&mut fold.clone(), &Body::Commit(fits.clone())), Verdict::Applied { .. }) {
            self.wrong(format!("{fits:?} fits and does not count"));
        }
        take(&mut fold, &Body::Resign(crate::entry::Resign { epoch: fits.epoch }));
        let verdict = take(&mut fold, &Body::Commit(fits));
        if !matches!(verdict, Verdict::Void(_)) {
            self.wrong(format!("a commit after its owner left counts: {verdict:?}"));
        }
    }

    pub(super) fn result(&self) -> Result<Counts, String> {
        self.wrong.clone().map_or_else(|| Ok(self.counts.clone()), Err)
    }
}

/// A commit that fits behind a point.
fn forged(point: &FoldPoint) -> Part {
    let FoldPoint { epoch, number, digest, .. } = *point;
    Part { epoch, number: number + 1, previous: digest, part: 0, parts: 1, bytes: Bytes::new() }
}

/// The bytes of a commit: its name, and as many bytes behind it, which tell whether it is whole.
pub(super) fn commit_bytes(id: u32, more: u8) -> Bytes {
    let id = id.to_be_bytes();
    id.into_iter().chain([more]).chain((0..more).map(|at| at.wrapping_mul(31).wrapping_add(id[3]))).collect()
}

/// Whose bytes these are. `None`: they are not whole.
pub(super) fn commit_of(bytes: &Bytes) -> Option<u32> {
    let id = u32::from_be_bytes(*bytes.first_chunk()?);
    (commit_bytes(id, *bytes.get(4)?) == *bytes).then_some(id)
}

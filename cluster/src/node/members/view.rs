//! [`Members`]: who is there and who is the active one, as the fold of the log of members. Pure: everybody who reads the log sees the same.

use super::entry::{Identity, MemberEntry, Process, Says};
use crate::log::Pos;
use core::time::Duration;
use std::collections::BTreeMap;
use uuid::Uuid;

/// What a node does, as it last said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeState {
    /// It follows.
    Standby,
    /// It takes over.
    Claiming,
    /// It is the active one.
    Active,
    /// It has ended.
    Gone,
}

/// A node, as it was last heard of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its last process.
    pub process: Process,
    /// Version of its program.
    pub version: String,
    /// When it said so by its own clock, in milliseconds since 1970: for people.
    pub time_ms: u64,
    /// What it does.
    pub state: NodeState,
    /// How far it has folded or written the log of each shard; empty if it has not said.
    pub positions: Vec<u64>,
    /// When the reader heard of it, by the reader's clock.
    pub heard: Duration,
    /// Where its last entry stands.
    pub at: Pos,
}

/// Who has the term.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The process.
    pub process: Process,
    /// When the reader last heard from it, by the reader's clock.
    pub heard: Duration,
    /// For how long it may answer after it has sent a heartbeat.
    pub lease: Duration,
    /// It has given the term back: it answers nobody any more.
    pub has_resigned: bool,
    /// It has said that it is active, and not only that it takes over.
    pub is_active: bool,
    /// The last place of each shard's log that it has written; empty if it has not said.
    pub written: Vec<u64>,
    /// Where its last entry stands.
    pub at: Pos,
}

/// Everything that the log of members says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    identity: Option<Identity>,
    term: u64,
    holder: Option<Holder>,
    nodes: BTreeMap<String, Node>,
    /// Processes that are to hand over and to end, and when the reader heard of it.
    drains: BTreeMap<Uuid, Duration>,
    last: Pos,
}

impl Members {
    /// As the log was before `last`: nothing is known of it.
    #[must_use]
    pub fn behind(last: Pos) -> Self {
        Self { last, ..Self::default() }
    }

    /// Takes an entry that the reader heard of at `heard`, by its own clock. Whether it counts: an entry of another cluster is void, and so is
    /// what the holder of an earlier term says of its term.
    pub fn apply(&mut self, at: Pos, entry: MemberEntry, heard: Duration) -> bool {
        self.last = at;
        if *self.identity.get_or_insert(entry.of) != entry.of {
            return false;
        }
        let MemberEntry { by, version, time_ms, says, .. } = entry;
        let (state, positions, counts) = match says {
            Says::Standby { folded } => (NodeState::Standby, folded, true),
            Says::Left {} => (NodeState::Gone, Vec::new(), true),
            // Of those who claim one term, the first has it. A holder who has said more than the claimer had read may answer still.
            Says::Claims { term, read, lease_ms } => {
                let is_read = |holder: &Holder| holder.has_resigned || holder.at <= Pos(read);
                let counts = term > self.term && self.holder.as_ref().is_none_or(is_read);
                if counts {
                    self.hold(term, &by, at, heard, lease_ms);
                }
                (if counts { NodeState::Claiming } else { NodeState::Standby }, Vec::new(), counts)
            }
            Says::Active { term, lease_ms, written } => {
                // Its claim may be trimmed.
                if term > self.term {
                    self.hold(term, &by, at, heard, lease_ms);
                }
                let counts = self.is_holder(term, &by);
                if let Some(holder) = self.holder.as_mut().filter(|_| counts) {
                    (holder.heard, holder.is_active, holder.at) = (heard, true, at);
                    holder.written.clone_from(&written);
                }
                (if counts { NodeState::Active } else { NodeState::Gone }, written, counts)
            }
            Says::Resigned { term } => {
                let counts = self.is_holder(term, &by);
                if let Some(holder) = self.holder.as_mut().filter(|_| counts) {
                    (holder.has_resigned, holder.at) = (true, at);
                }
                (NodeState::Gone, Vec::new(), counts)
            }
            Says::Drains { boot } => {
                self.drains.entry(boot).or_insert(heard);
                return true;
            }
        };
        if state == NodeState::Gone {
            self.drains.remove(&by.boot);
        }
        let node = by.node.clone();
        self.nodes.insert(node, Node { process: by, version, time_ms, state, positions, heard, at });
        counts
    }

    fn hold(&mut self, term: u64, by: &Process, at: Pos, heard: Duration, lease_ms: u64) {
        self.term = term;
        self.holder = Some(Holder {
            process: by.clone(),
            heard,
            lease: Duration::from_millis(lease_ms),
            has_resigned: false,
            is_active: false,
            written: Vec::new(),
            at,
        });
    }

    fn is_holder(&self, term: u64, by: &Process) -> bool {
        term == self.term && self.holder.as_ref().is_some_and(|holder| holder.process.boot == by.boot && !holder.has_resigned)
    }

    /// Which cluster the log belongs to; none if it has no entry.
    #[must_use]
    pub fn identity(&self) -> Option<Identity> {
        self.identity
    }

    /// The last term that somebody claimed; 0 if nobody has.
    #[must_use]
    pub fn term(&self) -> u64 {
        self.term
    }

    /// Who claimed the last term.
    #[must_use]
    pub fn holder(&self) -> Option<&Holder> {
        self.holder.as_ref()
    }

    /// Every node that the log still names, by its name.
    #[must_use]
    pub fn nodes(&self) -> &BTreeMap<String, Node> {
        &self.nodes
    }

    /// Since when, by the reader's clock, a process is to hand over and to end. None: nobody wants that, or it has ended.
    #[must_use]
    pub fn drains(&self, boot: Uuid) -> Option<Duration> {
        self.drains.get(&boot).copied()
    }

    /// Since when the holder is to hand over.
    #[must_use]
    pub fn hands_over(&self) -> Option<Duration> {
        self.drains(self.holder.as_ref()?.process.boot)
    }

    /// Whether a node other than this one stands by, and was heard of since then.
    #[must_use]
    pub fn stands_by(&self, other_than: &str, since: Duration) -> bool {
        self.nodes.iter().any(|(name, node)| name != other_than && node.state == NodeState::Standby && node.heard >= since)
    }

    /// The last entry that was read.
    #[must_use]
    pub fn last(&self) -> Pos {
        self.last
    }

    /// Up to where the log may be trimmed: the last entry of the holder is the first that stays, so whoever reads the rest begins with who has
    /// the term. Nodes that stand by say themselves again.
    #[must_use]
    pub fn trimmable(&self) -> Pos {
        self.holder.as_ref().map_or(Pos::START, |holder| Pos(holder.at.0.saturating_sub(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDENTITY: Identity = Identity { cluster: Uuid::from_u128(1), shards: 1 };

    fn entry(node: &str, boot: u128, says: Says) -> MemberEntry {
        let by = Process { node: node.to_owned(), boot: Uuid::from_u128(boot), url: format!("http://{node}") };
        MemberEntry { of: IDENTITY, by, version: "1".to_owned(), time_ms: 0, says }
    }

    /// Reads the entries at places from 1 on, each a second after the one before. Which of them count.
    fn read(entries: &[MemberEntry]) -> (Members, Vec<bool>) {
        let mut members = Members::default();
        let counts = (1..).zip(entries).map(|(at, entry)| members.apply(Pos(at), entry.clone(), Duration::from_secs(at))).collect();
        (members, counts)
    }

    /// By one that has read everything.
    fn claims(term: u64) -> Says {
        Says::Claims { term, read: u64::MAX, lease_ms: 5_000 }
    }

    fn active(term: u64) -> Says {
        Says::Active { term, lease_ms: 5_000, written: vec![9] }
    }

    fn holder(members: &Members) -> (u64, u128, bool) {
        let holder = members.holder().expect("somebody has the term");
        (members.term(), holder.process.boot.as_u128(), holder.has_resigned)
    }

    #[test]
    fn of_those_who_claim_a_term_the_first_has_it() {
        let (members, counts) =
            read(&[entry("a", 1, claims(1)), entry("b", 2, claims(1)), entry("a", 1, active(1)), entry("b", 2, active(1))]);
        assert_eq!((holder(&members), counts), ((1, 1, false), vec![true, false, true, false]));
        assert_eq!(members.holder().expect("there").heard, Duration::from_secs(3), "what the other says is no life of the holder");
    }

    #[test]
    fn a_holder_of_an_earlier_term_says_nothing_of_the_term() {
        let (members, counts) = read(&[
            entry("a", 1, claims(1)),
            entry("b", 2, claims(2)),
            entry("a", 1, active(1)),
            entry("a", 1, Says::Resigned { term: 1 }),
        ]);
        assert_eq!((holder(&members), counts), ((2, 2, false), vec![true, true, false, false]));
    }

    #[test]
    fn who_has_resigned_is_not_active_again_in_that_term() {
        let (members, counts) = read(&[entry("a", 1, claims(1)), entry("a", 1, Says::Resigned { term: 1 }), entry("a", 1, active(1))]);
        assert_eq!((holder(&members), counts), ((1, 1, true), vec![true, true, false]));
    }

    #[test]
    fn entries_of_another_cluster_are_void() {
        let other = MemberEntry { of: Identity { cluster: Uuid::from_u128(7), ..IDENTITY }, ..entry("b", 2, claims(9)) };
        let (members, counts) = read(&[entry("a", 1, claims(1)), other]);
        assert_eq!((holder(&members), counts, members.last()), ((1, 1, false), vec![true, false], Pos(2)));
        assert!(!members.nodes().contains_key("b"));
    }

    #[test]
    fn whoever_reads_only_what_is_left_after_trimming_sees_the_same() {
        let entries = [
            entry("c", 3, Says::Left {}),
            entry("a", 1, claims(4)),
            entry("b", 2, Says::Standby { folded: vec![1] }),
            entry("a", 1, active(4)),
            entry("b", 2, Says::Standby { folded: vec![2] }),
            entry("a", 1, active(4)),
        ];
        let (members, _) = read(&entries);
        assert_eq!(members.trimmable(), Pos(5));
        let mut late = Members::behind(members.trimmable());
        for (at, entry) in (1..).zip(&entries).filter(|(at, _)| *at > 5) {
            late.apply(Pos(at), entry.clone(), Duration::from_secs(at));
        }
        assert_eq!((late.identity(), late.term(), late.holder()), (members.identity(), members.term(), members.holder()));
    }

    #[test]
    fn a_process_drains_from_when_that_was_said_until_it_has_ended() {
        let drains = || entry("operator", 9, Says::Drains { boot: Uuid::from_u128(1) });
        let (members, counts) = read(&[entry("a", 1, claims(1)), drains(), entry("a", 1, active(1)), drains()]);
        assert_eq!((members.hands_over(), counts), (Some(Duration::from_secs(2)), vec![true; 4]), "the second time says nothing new");
        assert!(!members.nodes().contains_key("operator"), "nobody becomes a member by it");
        let (members, _) = read(&[entry("a", 1, claims(1)), drains(), entry("a", 1, Says::Resigned { term: 1 })]);
        assert_eq!(members.hands_over(), None);
        let (members, _) = read(&[entry("a", 2, claims(1)), drains()]);
        assert_eq!(members.hands_over(), None, "another process of that node was meant");
        assert!(!members.stands_by("b", Duration::ZERO));
        let (members, _) = read(&[entry("a", 1, claims(1)), entry("b", 2, Says::Standby { folded: vec![1] })]);
        assert!(members.stands_by("a", Duration::from_secs(2)) && !members.stands_by("a", Duration::from_secs(3)));
        assert!(!members.stands_by("b", Duration::ZERO), "the active one does not stand by");
    }

    #[test]
    fn a_claim_by_one_that_had_not_read_the_last_heartbeat_is_void() {
        let unread = |read| entry("b", 2, Says::Claims { term: 2, read, lease_ms: 5_000 });
        for (read_up_to, counts) in [(1, false), (2, true)] {
            let (members, all) = read(&[entry("a", 1, claims(1)), entry("a", 1, active(1)), unread(read_up_to)]);
            assert_eq!((all[2], members.term()), (counts, if counts { 2 } else { 1 }), "read up to {read_up_to}");
        }
        let resigned = entry("a", 1, Says::Resigned { term: 1 });
        assert!(read(&[entry("a", 1, claims(1)), resigned, unread(1)]).1[2], "one that has resigned answers nobody");
    }
}

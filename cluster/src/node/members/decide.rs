//! Whether a node that stands by takes over. A pure function: the time is passed in.

use super::entry::Process;
use super::view::Members;
use core::time::Duration;
use uuid::Uuid;

/// What a node that stands by does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Somebody is active, or may be until this time of the own clock.
    WaitUntil(Duration),
    /// Nobody is: it claims this term.
    Claim {
        /// The next one.
        term: u64,
    },
}

/// What a node that stands by does at `now`, if it has read the whole log. `before` is the process that had the node's data directory open
/// last, and has not any more.
///
/// A holder may answer for the time of its lease after it has *sent* its last heartbeat; whoever reads that heartbeat does so later. So waiting
/// for longer than a lease from the moment of reading is enough, whatever the clocks of the two show. Who reads old heartbeats waits as if they
/// were new.
#[must_use]
pub fn decide(members: &Members, me: &Process, before: Option<Uuid>, claim_after: Duration, now: Duration) -> Decision {
    let claim = Decision::Claim { term: members.term() + 1 };
    let Some(holder) = members.holder().filter(|holder| !holder.has_resigned) else { return claim };
    // It had the directory that this process has now, so it has ended.
    let is_dead = holder.process.node == me.node && before == Some(holder.process.boot);
    // Its lease is its own setting: a node with another one must not hurry. The quarter is for clocks that do not run alike.
    let until = holder.heard.saturating_add(claim_after.max(holder.lease * 5 / 4));
    if is_dead || now >= until { claim } else { Decision::WaitUntil(until) }
}

#[cfg(test)]
mod tests {
    use super::super::entry::{Identity, MemberEntry, Says};
    use super::*;
    use crate::log::Pos;
    use proptest::prelude::*;

    const AFTER: Duration = Duration::from_secs(7);

    fn process(node: &str, boot: u128) -> Process {
        Process { node: node.to_owned(), boot: Uuid::from_u128(boot), url: String::new() }
    }

    fn members(says: &[(Process, Says, u64)]) -> Members {
        let mut members = Members::default();
        for (at, (by, says, heard_ms)) in (1..).zip(says) {
            let of = Identity { cluster: Uuid::nil(), shards: 1 };
            let entry = MemberEntry { of, by: by.clone(), version: String::new(), time_ms: 0, says: says.clone() };
            members.apply(Pos(at), entry, Duration::from_millis(*heard_ms));
        }
        members
    }

    fn active(term: u64) -> Says {
        Says::Active { term, lease_ms: 5_000, written: Vec::new() }
    }

    #[test]
    fn nobody_waits_where_nobody_ever_was_or_where_the_holder_resigned() {
        let me = process("b", 2);
        assert_eq!(decide(&Members::default(), &me, None, AFTER, Duration::ZERO), Decision::Claim { term: 1 });
        let resigned = members(&[(process("a", 1), active(4), 0), (process("a", 1), Says::Resigned { term: 4 }, 0)]);
        assert_eq!(decide(&resigned, &me, None, AFTER, Duration::ZERO), Decision::Claim { term: 5 });
    }

    #[test]
    fn who_opens_the_directory_of_the_holder_knows_that_it_is_dead() {
        let held = members(&[(process("a", 1), active(4), 0)]);
        let wait = Decision::WaitUntil(AFTER);
        for (me, before, expected) in [
            (process("a", 9), Some(1), Decision::Claim { term: 5 }),
            // Another node has a copy of the directory, or the directory was another process's.
            (process("b", 9), Some(1), wait),
            (process("a", 9), Some(2), wait),
            (process("a", 9), None, wait),
        ] {
            assert_eq!(decide(&held, &me, before.map(Uuid::from_u128), AFTER, Duration::ZERO), expected, "{me:?} {before:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// The holder sends heartbeats when it likes, which come late or not at all, and answers within its lease. Nobody claims while it may.
        #[test]
        fn nobody_claims_while_the_holder_may_answer(
            beats in prop::collection::vec((0..6_000_u64, 0..9_000_u64, any::<bool>()), 1..12),
            lease_ms in 1..7_000_u64,
            skew_ms in 0..1_000_000_u64,
            now_ms in 0..100_000_u64,
        ) {
            let (mut sent, mut heard) = (0, 0);
            let mut log = Vec::new();
            let mut lease_until = 0;
            for (pause_ms, delay_ms, arrives) in beats {
                sent += pause_ms;
                // Entries are read in order, none before it is sent.
                if arrives {
                    heard = (sent + delay_ms).max(heard);
                    if heard <= now_ms {
                        let says = Says::Active { term: 1, lease_ms, written: Vec::new() };
                        log.push((process("a", 1), says, heard + skew_ms));
                        lease_until = sent + lease_ms;
                    }
                }
            }
            let members = members(&log);
            // The claimer's own setting is shorter than the lease: the holder's counts.
            let after = Duration::from_millis(lease_ms / 2);
            let decision = decide(&members, &process("b", 2), None, after, Duration::from_millis(now_ms + skew_ms));
            if !log.is_empty() && now_ms <= lease_until {
                prop_assert!(matches!(decision, Decision::WaitUntil(_)), "{decision:?} while the lease holds");
            }
            if now_ms > heard + lease_ms * 5 / 4 {
                prop_assert!(matches!(decision, Decision::Claim { .. }), "{decision:?}");
            }
        }
    }
}

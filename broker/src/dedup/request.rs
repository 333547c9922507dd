//! What the key of a whole request means: pure, so that every interleaving and every crash can be tried.
//!
//! The key is claimed first, on the shard of the partition that it hashes to, its *home*. If all records lie there, claim and
//! records are one commit. Else the claim alone is synced, and then each partition stores its share with an entry of its own, under
//! the number of the claim. Whoever comes with the same request afterwards, also after a crash between any two of these commits,
//! goes on from the claim; whoever comes with another one is refused, wherever its records would go.

use crate::dedup::{Entry, Hash, Place};
use sagamq_api::Offset;

/// A claim that a request goes on from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    /// Its number, drawn when it was made: what an earlier claim of the key has stored is not taken for this one's.
    pub(crate) number: u64,
    /// Partitions of the topic when it was made: each record's partition follows.
    pub(crate) partitions: u32,
    pub(crate) ends_at_ms: u64,
}

/// What a request does about its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// It is the first: it claims the key.
    Claim,
    /// The same request was stored with its claim: the answer is its place.
    Stored { base: Offset, arrived_ms: i64 },
    /// The same request has claimed the key: each partition stores its share if it has not yet.
    GoOn(Claim),
    /// Another request has the key.
    Refuse { first: Option<Offset> },
}

/// What a request with this fingerprint does, given the entry of its key.
pub(crate) fn decide(known: Option<Entry>, now_ms: u64, fingerprint: Hash) -> Decision {
    let Some(entry) = known.filter(|entry| entry.counts_at(now_ms)) else { return Decision::Claim };
    match entry.place {
        Place::Stored { base } if entry.fingerprint == fingerprint => Decision::Stored { base, arrived_ms: entry.arrived_ms },
        Place::Claimed { claim, partitions } if entry.fingerprint == fingerprint => {
            Decision::GoOn(Claim { number: claim, partitions, ends_at_ms: entry.ends_at_ms })
        }
        Place::Stored { base } => Decision::Refuse { first: Some(base) },
        Place::Claimed { .. } => Decision::Refuse { first: None },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet, VecDeque};

    const WINDOW_MS: u64 = 100;
    const HOME: u32 = 0;

    /// The requests of the model: which partition each record goes to. All come with the same key.
    const REQUESTS: [&[u32]; 4] = [&[0, 0], &[0, 1, 2], &[1, 2], &[2]];

    /// What is on disk: a crash takes everything else.
    #[derive(Default)]
    struct Disk {
        home: Option<Entry>,
        /// Claim and partition of each share that is stored.
        shares: BTreeSet<(u64, u32)>,
        /// Request and claim of each stored record, by partition.
        log: BTreeMap<u32, Vec<(usize, u64)>>,
        claims: u64,
    }

    /// A request on its way.
    struct Attempt {
        request: usize,
        /// The claim and the partitions it still has to go to; `None` before it asked its home.
        going_on: Option<(Claim, VecDeque<u32>)>,
    }

    #[derive(Clone, Copy, Debug)]
    enum Event {
        Arrive(usize),
        /// An attempt makes its next commit.
        Step(usize),
        /// Every attempt on its way is gone.
        Crash,
        /// The clock, also back.
        Time(i64),
    }

    fn events() -> impl Strategy<Value = Vec<Event>> {
        let event = prop_oneof![
            3 => (0..REQUESTS.len()).prop_map(Event::Arrive),
            8 => (0..8_usize).prop_map(Event::Step),
            1 => Just(Event::Crash),
            1 => (-30..60_i64).prop_map(Event::Time),
        ];
        proptest::collection::vec(event, 1..80)
    }

    /// One commit of one shard. `Some`: the request is answered, `true` with success.
    fn step(disk: &mut Disk, attempt: &mut Attempt, now_ms: u64) -> Option<bool> {
        let records = REQUESTS[attempt.request];
        let fingerprint = [u8::try_from(attempt.request).expect("four"); 16];
        let store = |disk: &mut Disk, partition, claim| {
            let share = records.iter().filter(|&&of| of == partition).map(|_| (attempt.request, claim));
            disk.log.entry(partition).or_default().extend(share);
        };
        if let Some((claim, left)) = &mut attempt.going_on {
            let partition = left.pop_front().expect("it ends with its last share");
            if disk.shares.insert((claim.number, partition)) {
                store(disk, partition, claim.number);
            }
            return left.is_empty().then_some(true);
        }
        let go_on = |claim: Claim| {
            let partitions: BTreeSet<u32> = records.iter().copied().collect();
            Some((claim, partitions.into_iter().collect()))
        };
        let entry = |place| Entry { place, arrived_ms: 0, ends_at_ms: now_ms + WINDOW_MS, count: 0, fingerprint };
        match decide(disk.home, now_ms, fingerprint) {
            Decision::Claim => {
                disk.claims += 1;
                if records.iter().all(|&partition| partition == HOME) {
                    store(disk, HOME, disk.claims);
                    disk.home = Some(entry(Place::Stored { base: Offset(0) }));
                    return Some(true);
                }
                disk.home = Some(entry(Place::Claimed { claim: disk.claims, partitions: 3 }));
                attempt.going_on = go_on(Claim { number: disk.claims, partitions: 3, ends_at_ms: now_ms + WINDOW_MS });
                None
            }
            Decision::Stored { .. } => Some(true),
            Decision::GoOn(claim) => {
                attempt.going_on = go_on(claim);
                None
            }
            Decision::Refuse { .. } => Some(false),
        }
    }

    /// Each claim has the records of one request, each at most once.
    fn check(disk: &Disk) {
        let mut by_claim: BTreeMap<u64, BTreeMap<usize, BTreeMap<u32, usize>>> = BTreeMap::new();
        for (&partition, records) in &disk.log {
            for &(request, claim) in records {
                *by_claim.entry(claim).or_default().entry(request).or_default().entry(partition).or_default() += 1;
            }
        }
        for (claim, requests) in by_claim {
            assert_eq!(requests.len(), 1, "claim {claim} holds records of two requests");
            for (request, partitions) in requests {
                for (partition, count) in partitions {
                    assert_eq!(
                        count,
                        REQUESTS[request].iter().filter(|&&of| of == partition).count(),
                        "claim {claim}, partition {partition}"
                    );
                }
            }
        }
    }

    fn records_of(disk: &Disk, claim: u64) -> usize {
        disk.log.values().flatten().filter(|&&(_, of)| of == claim).count()
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, cases: 2_000, ..ProptestConfig::default() })]

        #[test]
        fn one_request_wins_whatever_comes_between_and_its_retry_completes_it(events in events(), last in 0..REQUESTS.len()) {
            let (mut disk, mut attempts, mut now_ms) = (Disk::default(), Vec::<Attempt>::new(), 1_000_u64);
            for event in events {
                match event {
                    Event::Arrive(request) => attempts.push(Attempt { request, going_on: None }),
                    Event::Step(index) if index < attempts.len() => {
                        if let Some(done) = step(&mut disk, &mut attempts[index], now_ms) {
                            let attempt = attempts.swap_remove(index);
                            if let (true, Some((claim, _))) = (done, attempt.going_on) {
                                prop_assert_eq!(records_of(&disk, claim.number), REQUESTS[attempt.request].len(), "answered when all is stored");
                            }
                        }
                    }
                    Event::Step(_) => {}
                    Event::Crash => attempts.clear(),
                    Event::Time(by) => now_ms = now_ms.saturating_add_signed(by),
                }
                check(&disk);
            }
            // Whoever has the key completes by a retry; whoever has not is refused and stores nothing.
            let holder = disk.home.filter(|entry| entry.counts_at(now_ms)).map(|entry| usize::from(entry.fingerprint[0]));
            let before: usize = disk.log.values().map(Vec::len).sum();
            let mut retry = Attempt { request: last, going_on: None };
            let succeeded = loop {
                if let Some(succeeded) = step(&mut disk, &mut retry, now_ms) {
                    break succeeded;
                }
            };
            check(&disk);
            prop_assert_eq!(succeeded, holder.is_none_or(|holder| holder == last));
            if !succeeded {
                prop_assert_eq!(disk.log.values().map(Vec::len).sum::<usize>(), before);
            }
            if let (true, Some((claim, _))) = (succeeded, retry.going_on) {
                prop_assert_eq!(records_of(&disk, claim.number), REQUESTS[last].len());
            }
        }
    }
}

//! What each kind of entry does to a fold.

use super::*;
use crate::entry::split;
use proptest::prelude::*;

const A: Writer = Writer { node: 1, boot: 11 };
const B: Writer = Writer { node: 2, boot: 22 };

fn genesis() -> FoldPoint {
    FoldPoint::genesis(Digest::genesis(1, 0), 0)
}

/// A log by hand.
#[derive(Debug)]
struct Hand {
    fold: Fold,
    entries: Vec<Entry>,
}

impl Hand {
    fn new() -> Self {
        Self { fold: Fold::new(genesis()), entries: Vec::new() }
    }

    fn take(&mut self, body: &Body) -> Verdict {
        self.take_bytes(body.encode())
    }

    fn take_bytes(&mut self, bytes: Bytes) -> Verdict {
        let entry = Entry { pos: Pos(self.fold.end().0 + 1), bytes };
        self.entries.push(entry.clone());
        let before = self.fold.clone();
        let verdict = self.fold.take(&entry).expect("it can be read");
        assert_eq!(self.fold.end(), entry.pos);
        if let Verdict::Void(_) = verdict {
            let same = |fold: &Fold| (fold.epoch(), fold.owner(), fold.point.number, fold.running, fold.gathered.clone());
            assert_eq!(same(&self.fold), same(&before), "what is void changes nothing");
        }
        verdict
    }

    fn claim(&mut self, epoch: u64, writer: Writer) -> Verdict {
        self.take(&Body::Claim(Claim { epoch: Epoch(epoch), writer }))
    }

    fn resign(&mut self, epoch: u64) -> Verdict {
        self.take(&Body::Resign(Resign { epoch: Epoch(epoch) }))
    }

    /// The next commit that fits.
    fn fitting(&self, bytes: &'static str) -> Part {
        let FoldPoint { epoch, number, digest, .. } = self.fold.point;
        Part { epoch, number: number + 1, previous: digest, part: 0, parts: 1, bytes: Bytes::from_static(bytes.as_bytes()) }
    }

    fn commit(&mut self, part: Part) -> Verdict {
        self.take(&Body::Commit(part))
    }

    /// The entries of a commit of three parts, in the epoch that holds.
    fn three(&self, bytes: &'static str) -> Vec<Bytes> {
        let FoldPoint { epoch, number, digest, .. } = self.fold.point;
        let overhead = Body::Commit(self.fitting("")).encode().len();
        let bytes = Bytes::from_static(bytes.as_bytes());
        let each = bytes.len().div_ceil(3);
        let pieces = split(epoch, number + 1, digest, &bytes, overhead + each).expect("it is small");
        assert_eq!(pieces.len(), 3);
        pieces.into_iter().map(|piece| piece.encoded).collect()
    }
}

fn applied(number: u64, bytes: &'static str) -> Verdict {
    Verdict::Applied { number, bytes: Bytes::from_static(bytes.as_bytes()) }
}

#[test]
fn a_claim_counts_if_its_epoch_is_higher() {
    let mut hand = Hand::new();
    assert_eq!(hand.claim(0, A), Verdict::Void(Void::Late { now: Epoch(0) }), "0 is before the first");
    assert_eq!(hand.claim(1, A), Verdict::Claimed);
    assert_eq!(hand.claim(1, B), Verdict::Void(Void::Late { now: Epoch(1) }), "the first one has the epoch");
    assert_eq!(hand.fold.owner(), Some(A));
    assert_eq!(hand.claim(5, B), Verdict::Claimed, "epochs may be left out");
    assert_eq!(hand.claim(4, A), Verdict::Void(Void::Late { now: Epoch(5) }));
    assert_eq!((hand.fold.epoch(), hand.fold.owner()), (Epoch(5), Some(B)));
}

#[test]
fn commits_count_in_their_order_and_once() {
    let mut hand = Hand::new();
    assert_eq!(hand.commit(hand.fitting("nobody's")), Verdict::Void(Void::Left), "nobody has claimed");
    hand.claim(1, A);
    let first = hand.fitting("first");
    assert_eq!(hand.commit(first.clone()), applied(1, "first"));
    assert_eq!(hand.commit(first), Verdict::Void(Void::Repeated));
    assert_eq!(hand.commit(hand.fitting("second")), applied(2, "second"));
    assert_eq!(hand.commit(hand.fitting("")), applied(3, ""));
    assert_eq!(hand.fold.point().number, 3);
}

#[test]
fn each_field_that_does_not_fit_makes_a_commit_void() {
    let mut hand = Hand::new();
    hand.claim(3, A);
    hand.commit(hand.fitting("first"));
    let good = hand.fitting("second");
    for (bad, void, contradicts) in [
        (Part { epoch: Epoch(2), ..good.clone() }, Void::Fenced { now: Epoch(3) }, false),
        (Part { epoch: Epoch(4), ..good.clone() }, Void::Unclaimed, true),
        (Part { number: 1, ..good.clone() }, Void::Repeated, false),
        (Part { number: 3, ..good.clone() }, Void::Gap, true),
        (Part { part: 1, parts: 2, ..good.clone() }, Void::Gap, true),
        (Part { previous: Digest::genesis(1, 0), ..good.clone() }, Void::Digest, true),
    ] {
        assert_eq!(hand.commit(bad), Verdict::Void(void));
        assert_eq!(void.is_contradiction(), contradicts, "{void}");
    }
    assert_eq!(hand.commit(good), applied(2, "second"), "what is void is not in the way");
}

#[test]
fn what_a_fenced_owner_appends_late_is_void() {
    let mut hand = Hand::new();
    hand.claim(1, A);
    let late = hand.fitting("late");
    hand.claim(2, B);
    assert_eq!(hand.commit(late), Verdict::Void(Void::Fenced { now: Epoch(2) }));
    assert_eq!(hand.resign(1), Verdict::Void(Void::Late { now: Epoch(2) }));
    assert_eq!(hand.commit(hand.fitting("B's")), applied(1, "B's"));
}

#[test]
fn after_its_owner_left_nothing_of_the_epoch_counts() {
    let mut hand = Hand::new();
    hand.claim(1, A);
    let late = hand.fitting("late");
    assert_eq!(hand.resign(1), Verdict::Resigned);
    assert_eq!((hand.fold.epoch(), hand.fold.owner()), (Epoch(1), None));
    assert_eq!(hand.commit(late), Verdict::Void(Void::Left));
    assert_eq!(hand.resign(1), Verdict::Void(Void::Late { now: Epoch(1) }), "once");
    assert_eq!(hand.claim(1, A), Verdict::Void(Void::Late { now: Epoch(1) }));
    assert_eq!(hand.claim(2, A), Verdict::Claimed);
}

#[test]
fn parts_become_one_commit_and_repeated_ones_are_void() {
    let mut hand = Hand::new();
    hand.claim(1, A);
    let parts = hand.three("aaabbbccc");
    let before = *hand.fold.point();
    for part in &parts[..2] {
        assert_eq!(hand.take_bytes(part.clone()), Verdict::PartTaken);
        assert_eq!(hand.take_bytes(part.clone()), Verdict::Void(Void::Repeated));
        assert_eq!(hand.fold.point(), &before, "a replica that begins anew must read every part");
    }
    assert_eq!(hand.take_bytes(parts[2].clone()), applied(1, "aaabbbccc"));
    assert_eq!(hand.fold.point().pos, hand.fold.end());
    assert_eq!(hand.take_bytes(parts[2].clone()), Verdict::Void(Void::Repeated));
}

#[test]
fn a_part_without_the_one_before_is_void() {
    let mut hand = Hand::new();
    hand.claim(1, A);
    let parts = hand.three("aaabbbccc");
    assert_eq!(hand.take_bytes(parts[1].clone()), Verdict::Void(Void::Gap));
    hand.take_bytes(parts[0].clone());
    assert_eq!(hand.take_bytes(parts[2].clone()), Verdict::Void(Void::Gap));
    assert_eq!(hand.commit(hand.fitting("another")), Verdict::Void(Void::Repeated), "another commit does not take their place");
}

#[test]
fn a_claim_and_a_leave_throw_unfinished_parts_away() {
    for leaves in [false, true] {
        let mut hand = Hand::new();
        hand.claim(1, A);
        let parts = hand.three("aaabbbccc");
        hand.take_bytes(parts[0].clone());
        hand.take_bytes(parts[1].clone());
        if leaves {
            hand.resign(1);
            assert_eq!(hand.fold.point().pos, hand.fold.end());
        }
        assert_eq!(hand.claim(2, B), Verdict::Claimed);
        assert_eq!(hand.fold.point().pos, hand.fold.end());
        assert_eq!(hand.take_bytes(parts[2].clone()), Verdict::Void(Void::Fenced { now: Epoch(2) }));
        assert_eq!(hand.commit(hand.fitting("B's")), applied(1, "B's"));
    }
}

#[test]
fn an_entry_that_cannot_be_read_is_not_passed_over() {
    let mut hand = Hand::new();
    hand.claim(1, A);
    let before = hand.fold.clone();
    for bytes in [&b"\x02\x01 newer"[..], b"nonsense", b""] {
        let entry = Entry { pos: Pos(2), bytes: Bytes::from_static(bytes) };
        assert!(hand.fold.take(&entry).is_err());
        assert_eq!(hand.fold, before);
    }
}

proptest! {
    /// Whatever stands in a log, a fold that goes on from any point comes to the same as one that read everything.
    #[test]
    fn a_fold_from_any_point_comes_to_the_same(steps in prop::collection::vec((0u8..8, 0u64..4), 1..40)) {
        let mut hand = Hand::new();
        let mut points = vec![genesis()];
        let mut told = Vec::new();
        let mut parts: Vec<Bytes> = Vec::new();
        for (kind, number) in steps {
            let verdict = match kind {
                0 => hand.claim(hand.fold.epoch().0 + number, if number % 2 == 0 { A } else { B }),
                1 => hand.resign(hand.fold.epoch().0.saturating_sub(number / 2)),
                2 | 3 => hand.commit(hand.fitting("whole")),
                4 => {
                    parts = hand.three("aaabbbccc");
                    hand.take_bytes(parts[0].clone())
                }
                5 | 6 if !parts.is_empty() => hand.take_bytes(parts[usize::from(kind) - 4].clone()),
                _ => match hand.entries.iter().rev().nth(usize::try_from(number).expect("small")).map(|entry| entry.bytes.clone()) {
                    Some(again) => hand.take_bytes(again),
                    None => continue,
                },
            };
            told.push((hand.fold.end(), verdict));
            points.push(*hand.fold.point());
        }
        for point in points {
            let decoded = FoldPoint::decode(&point.encode());
            prop_assert_eq!(decoded, Ok(point));
            let mut fold = Fold::new(point);
            for entry in hand.entries.iter().filter(|entry| entry.pos > point.pos) {
                let verdict = fold.take(entry).expect("it can be read");
                prop_assert!(told.contains(&(entry.pos, verdict)), "{:?}", entry);
            }
            prop_assert_eq!(&fold, &hand.fold);
        }
    }
}

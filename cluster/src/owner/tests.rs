//! Each turn that the steps of an owner can take, by hand.

use super::*;
use crate::entry::{self, Body, Epoch, Part, Resign};
use proptest::prelude::*;

const A: Writer = Writer { node: 1, boot: 11 };
const B: Writer = Writer { node: 2, boot: 22 };
/// Room for ten bytes of a commit.
const SMALL: usize = 68;

fn genesis() -> FoldPoint {
    FoldPoint::genesis(Digest::genesis(1, 0), 0)
}

fn claim_of(epoch: u64, writer: Writer) -> Bytes {
    Body::Claim(entry::Claim { epoch: Epoch(epoch), writer }).encode()
}

/// What an owner would write, whoever it is.
fn commit_of(owner: &Owner, bytes: &'static str) -> Bytes {
    let FoldPoint { epoch, number, digest, .. } = *owner.fold().point();
    let bytes = Bytes::from_static(bytes.as_bytes());
    Body::Commit(Part { epoch, number: number + 1, previous: digest, part: 0, parts: 1, bytes }).encode()
}

fn at(pos: u64, bytes: &Bytes) -> Entry {
    Entry { pos: Pos(pos), bytes: bytes.clone() }
}

/// The owner of epoch 1, whose claim stands at place 1.
fn owner() -> Owner {
    let mut owner = Owner::new(genesis(), A, SMALL);
    let mut claiming = owner.claim();
    assert_eq!(claiming.begin(), Ask::Append { after: Pos(0), bytes: claim_of(1, A) });
    let claim = won(claiming.appended(Ok(Pos(1))), 1);
    assert_eq!((claim.commits, claim.settled), (vec![], None));
    owner
}

#[track_caller]
fn won(ask: Ask<Result<Claim, ClaimError>>, epoch: u64) -> Claim {
    match ask {
        Ask::Done(Ok(claim)) if claim.standing == (Standing::Won { epoch: Epoch(epoch) }) => claim,
        other => panic!("not won: {other:?}"),
    }
}

#[track_caller]
fn asked<T: core::fmt::Debug>(ask: Ask<T>, behind: u64) -> Bytes {
    match ask {
        Ask::Append { after, bytes } if after == Pos(behind) => bytes,
        other => panic!("no append behind {behind}: {other:?}"),
    }
}

fn read_behind<T>(after: u64) -> Ask<T> {
    Ask::Read { after: Pos(after) }
}

fn unknown() -> Result<Pos, AppendError> {
    Err(AppendError::Unknown("no answer".to_owned()))
}

#[test]
fn a_commit_at_the_next_place_is_stored() {
    let mut owner = owner();
    let mut commit = owner.commit(Bytes::from_static(b"one"));
    asked(commit.begin(), 1);
    let Ask::Done(Ok(point)) = commit.appended(Ok(Pos(2))) else { panic!("nobody came between") };
    assert_eq!((point.pos, point.number, point.epoch), (Pos(2), 1, Epoch(1)));
    assert_eq!(owner.epoch(), Some(Epoch(1)));
}

#[test]
fn a_commit_further_on_is_stored_if_what_came_between_is_void() {
    let mut owner = owner();
    let mut commit = owner.commit(Bytes::from_static(b"one"));
    let sent = asked(commit.begin(), 1);
    assert_eq!(commit.appended(Ok(Pos(4))), read_behind(1));
    assert_eq!(commit.read(Ok(vec![at(2, &claim_of(1, B))])), read_behind(2), "not all of it is read");
    let Ask::Done(Ok(point)) = commit.read(Ok(vec![at(3, &claim_of(0, B)), at(4, &sent)])) else { panic!("all of it is void") };
    assert_eq!(point.pos, Pos(4));
    assert_eq!(owner.epoch(), Some(Epoch(1)));
}

#[test]
fn a_commit_further_on_is_void_behind_a_claim() {
    let mut owner = owner();
    let mut commit = owner.commit(Bytes::from_static(b"one"));
    let sent = asked(commit.begin(), 1);
    assert_eq!(commit.appended(Ok(Pos(3))), read_behind(1));
    let outcome = commit.read(Ok(vec![at(2, &claim_of(2, B)), at(3, &sent)]));
    assert_eq!(outcome, Ask::Done(Err(AppendOutcome::Fenced { epoch: Epoch(2), by: Some(B), is_stored: false })));
    assert_eq!((owner.epoch(), owner.is_in_doubt()), (None, false));
    assert_eq!(owner.commit(Bytes::new()).begin(), Ask::Done(Err(AppendOutcome::NotOwner)));
}

#[test]
fn a_commit_that_stands_twice_counts_once() {
    for told in [2, 3] {
        let mut owner = owner();
        let mut commit = owner.commit(Bytes::from_static(b"one"));
        let sent = asked(commit.begin(), 1);
        let mut ask = commit.appended(Ok(Pos(told)));
        if told == 3 {
            assert_eq!(ask, read_behind(1));
            ask = commit.read(Ok(vec![at(2, &sent)]));
        }
        assert!(matches!(ask, Ask::Done(Ok(point)) if point.number == 1));
        let mut commit = owner.commit(Bytes::from_static(b"two"));
        let next = asked(commit.begin(), 2);
        assert_eq!(commit.appended(Ok(Pos(4))), read_behind(2));
        assert!(matches!(commit.read(Ok(vec![at(3, &sent), at(4, &next)])), Ask::Done(Ok(point)) if point.number == 2));
    }
}

#[test]
fn a_conflict_with_something_void_is_passed_by() {
    let mut owner = owner();
    let mut commit = owner.commit(Bytes::from_static(b"one"));
    let sent = asked(commit.begin(), 1);
    assert_eq!(commit.appended(Err(AppendError::Conflict)), read_behind(1));
    assert_eq!(asked(commit.read(Ok(vec![at(2, &claim_of(1, B))])), 2), sent, "the same again");
    assert!(matches!(commit.appended(Ok(Pos(3))), Ask::Done(Ok(_))));
}

#[test]
fn a_conflict_with_a_claim_fences_and_what_follows_is_given_out() {
    let mut owner = owner();
    let mut of_b = Owner::new(genesis(), B, SMALL);
    let mut commit = owner.commit(Bytes::from_static(b"one"));
    asked(commit.begin(), 1);
    assert_eq!(commit.appended(Err(AppendError::Conflict)), read_behind(1));
    of_b.take_all(&[at(1, &claim_of(1, A)), at(2, &claim_of(2, B))]).expect("it fits");
    let page = vec![at(2, &claim_of(2, B)), at(3, &commit_of(&of_b, "B's"))];
    let fenced = AppendOutcome::Fenced { epoch: Epoch(2), by: Some(B), is_stored: false };
    assert_eq!(commit.read(Ok(page)), Ask::Done(Err(fenced)));
    let mut follow = owner.follow();
    assert_eq!(follow.begin(), read_behind(3));
    let Ask::Done(Ok(followed)) = follow.read(Ok(vec![])) else { panic!("a page is read") };
    assert_eq!(followed.commits.iter().map(|applied| &applied.bytes[..]).collect::<Vec<_>>(), [b"B's"]);
    assert!(followed.is_at_end);
}

#[test]
fn a_conflict_with_itself_is_stored() {
    let mut owner = owner();
    let mut commit = owner.commit(Bytes::from_static(b"one"));
    let sent = asked(commit.begin(), 1);
    assert_eq!(commit.appended(Err(AppendError::Conflict)), read_behind(1));
    assert!(matches!(commit.read(Ok(vec![at(2, &sent)])), Ask::Done(Ok(point)) if point.number == 1));
}

#[test]
fn a_fenced_owner_learns_that_its_commit_came_before_the_claim() {
    let mut owner = owner();
    let mut commit = owner.commit(Bytes::from_static(b"one"));
    let sent = asked(commit.begin(), 1);
    commit.appended(Err(AppendError::Conflict));
    let outcome = commit.read(Ok(vec![at(2, &sent), at(3, &claim_of(2, B))]));
    assert_eq!(outcome, Ask::Done(Err(AppendOutcome::Fenced { epoch: Epoch(2), by: Some(B), is_stored: true })));
    let mut follow = owner.follow();
    follow.begin();
    let Ask::Done(Ok(followed)) = follow.read(Ok(vec![])) else { panic!("a page is read") };
    assert_eq!((followed.commits.len(), followed.settled), (1, None), "it is still to be folded, and was told already");
}

#[test]
fn what_the_log_did_not_take_may_be_tried_again() {
    let mut owner = owner();
    let mut commit = owner.commit(Bytes::from_static(b"one"));
    asked(commit.begin(), 1);
    let outcome = commit.appended(Err(AppendError::NotStored("busy".to_owned())));
    assert_eq!(outcome, Ask::Done(Err(AppendOutcome::NotStored("busy".to_owned()))));
    assert_eq!((owner.epoch(), owner.is_in_doubt()), (Some(Epoch(1)), false));
}

#[test]
fn parts_follow_each_other_and_a_refused_one_tears_the_commit() {
    let mut owner = owner();
    let mut commit = owner.commit(Bytes::from_static(b"aaaaaaaaaabbbbbbbbbbcc"));
    asked(commit.begin(), 1);
    asked(commit.appended(Ok(Pos(2))), 2);
    asked(commit.appended(Ok(Pos(3))), 3);
    assert!(matches!(commit.appended(Ok(Pos(4))), Ask::Done(Ok(point)) if point.number == 1));
    let mut commit = owner.commit(Bytes::from_static(b"aaaaaaaaaabbbbbbbbbbcc"));
    asked(commit.begin(), 4);
    asked(commit.appended(Ok(Pos(5))), 5);
    let outcome = commit.appended(Err(AppendError::NotStored("busy".to_owned())));
    assert_eq!(outcome, Ask::Done(Err(AppendOutcome::NotStored("busy".to_owned()))));
    assert_eq!((owner.epoch(), owner.is_in_doubt()), (None, false), "its first part is there: only a claim throws it away");
    let mut claim = owner.claim();
    assert_eq!(claim.begin(), Ask::Append { after: Pos(5), bytes: claim_of(2, A) });
    assert_eq!(won(claim.appended(Ok(Pos(6))), 2).settled, None, "it was told already");
}

#[test]
fn a_part_that_stands_twice_over_two_pages_is_no_end() {
    let mut owner = owner();
    let mut commit = owner.commit(Bytes::from_static(b"aaaaaaaaaabb"));
    let first = asked(commit.begin(), 1);
    assert_eq!(commit.appended(Ok(Pos(4))), read_behind(1));
    let second = asked(commit.read(Ok(vec![at(2, &first)])), 2);
    assert_eq!(commit.appended(Ok(Pos(5))), read_behind(2));
    let page = vec![at(4, &first), at(5, &second)];
    assert!(matches!(commit.read(Ok(page)), Ask::Done(Ok(point)) if point.number == 1 && point.pos == Pos(5)));
}

#[test]
fn after_an_unknown_append_only_a_claim_tells() {
    for stored in [true, false] {
        let mut owner = owner();
        let mut commit = owner.commit(Bytes::from_static(b"one"));
        let sent = asked(commit.begin(), 1);
        assert_eq!(commit.appended(unknown()), Ask::Done(Err(AppendOutcome::Unknown("no answer".to_owned()))));
        assert!(owner.is_in_doubt());
        assert_eq!(owner.commit(Bytes::new()).begin(), Ask::Done(Err(AppendOutcome::NotOwner)), "it answers nothing more");
        let mut claim = owner.claim();
        assert_eq!(claim.begin(), Ask::Append { after: Pos(1), bytes: claim_of(2, A) });
        let claim = if stored {
            assert_eq!(claim.appended(Err(AppendError::Conflict)), read_behind(1));
            asked(claim.read(Ok(vec![at(2, &sent)])), 2);
            won(claim.appended(Ok(Pos(3))), 2)
        } else {
            won(claim.appended(Ok(Pos(2))), 2)
        };
        assert_eq!(claim.settled, Some(Settled { number: 1, is_stored: stored }));
        assert_eq!(claim.commits.len(), usize::from(stored));
        assert_eq!((owner.epoch(), owner.is_in_doubt()), (Some(Epoch(2)), false));
        let late = owner.take_all(&[at(9, &sent)]);
        assert_eq!((late, owner.ready.len()), (Ok(true), 0), "and it stays so");
    }
}

#[test]
fn a_claim_that_is_lost_settles_a_doubt_too() {
    let mut owner = owner();
    let mut commit = owner.commit(Bytes::from_static(b"one"));
    let sent = asked(commit.begin(), 1);
    commit.appended(unknown());
    let mut claim = owner.claim();
    claim.begin();
    assert_eq!(claim.appended(Ok(Pos(4))), read_behind(1));
    let page = vec![at(2, &claim_of(2, B)), at(3, &sent), at(4, &claim_of(2, A))];
    let Ask::Done(Ok(claim)) = claim.read(Ok(page)) else { panic!("it is decided") };
    assert_eq!(claim.standing, Standing::Lost { epoch: Epoch(2), by: Some(B) });
    assert_eq!(claim.settled, Some(Settled { number: 1, is_stored: false }));
}

#[test]
fn a_claim_that_was_thought_lost_wins() {
    let mut owner = Owner::new(genesis(), A, SMALL);
    let mut claim = owner.claim();
    asked(claim.begin(), 0);
    assert!(matches!(claim.appended(unknown()), Ask::Done(Err(ClaimError::Unavailable(_)))));
    let mut claim = owner.claim();
    asked(claim.begin(), 0);
    assert_eq!(claim.appended(Err(AppendError::Conflict)), read_behind(0));
    won(claim.read(Ok(vec![at(1, &claim_of(1, A))])), 1);
}

#[test]
fn a_claim_of_an_earlier_life_is_nobodys() {
    let mut owner = Owner::new(genesis(), A, SMALL);
    owner.take_all(&[at(1, &claim_of(1, Writer { boot: 10, ..A }))]).expect("it fits");
    assert_eq!(owner.commit(Bytes::new()).begin(), Ask::Done(Err(AppendOutcome::NotOwner)));
    let mut claim = owner.claim();
    assert_eq!(claim.begin(), Ask::Append { after: Pos(1), bytes: claim_of(2, A) });
    won(claim.appended(Ok(Pos(2))), 2);
}

#[test]
fn a_claim_goes_behind_what_others_commit_meanwhile() {
    let mut of_b = Owner::new(genesis(), B, SMALL);
    of_b.take_all(&[at(1, &claim_of(1, B))]).expect("it fits");
    let mut owner = Owner::new(genesis(), A, SMALL);
    owner.take_all(&[at(1, &claim_of(1, B))]).expect("it fits");
    let mut claim = owner.claim();
    asked(claim.begin(), 1);
    assert_eq!(claim.appended(Err(AppendError::Conflict)), read_behind(1));
    assert_eq!(asked(claim.read(Ok(vec![at(2, &commit_of(&of_b, "B's"))])), 2), claim_of(2, A));
    let claim = won(claim.appended(Ok(Pos(3))), 2);
    assert_eq!(claim.commits.len(), 1, "it is to be folded before anything is answered");
}

#[test]
fn who_leaves_commits_nothing_more() {
    let (mut owner, mut of_unknown) = (owner(), owner());
    let mut leave = owner.resign();
    assert_eq!(asked(leave.begin(), 1), Body::Resign(Resign { epoch: Epoch(1) }).encode());
    assert_eq!(leave.appended(Err(AppendError::Conflict)), read_behind(1));
    asked(leave.read(Ok(vec![at(2, &claim_of(1, B))])), 2);
    assert_eq!(leave.appended(Ok(Pos(3))), Ask::Done(Ok(())));
    assert_eq!((owner.fold().owner(), owner.epoch()), (None, None));
    assert_eq!(owner.resign().begin(), Ask::Done(Err(ResignError::NotOwner)));
    let mut leave = of_unknown.resign();
    leave.begin();
    assert!(matches!(leave.appended(unknown()), Ask::Done(Err(ResignError::Unavailable(_)))));
    assert_eq!(of_unknown.epoch(), None, "whatever became of it");
}

#[test]
fn an_owner_that_reads_learns_that_it_is_fenced() {
    let mut owner = owner();
    let mut follow = owner.follow();
    assert_eq!(follow.begin(), read_behind(1));
    let Ask::Done(Ok(followed)) = follow.read(Ok(vec![at(2, &claim_of(2, B))])) else { panic!("a page is read") };
    assert!(!followed.is_at_end);
    assert_eq!(owner.epoch(), None);
}

#[test]
fn nothing_goes_on_after_an_entry_that_cannot_be_read_or_cannot_be_there() {
    let newer = Bytes::from_static(b"\x02\x01");
    let missing = Part { epoch: Epoch(1), number: 5, previous: Digest([0; 32]), part: 0, parts: 1, bytes: Bytes::new() };
    for page in [vec![at(2, &newer)], vec![at(2, &Body::Commit(missing).encode())], vec![at(1, &claim_of(2, B))]] {
        let mut owner = owner();
        let mut follow = owner.follow();
        follow.begin();
        let Ask::Done(Err(ClaimError::Fault(fault))) = follow.read(Ok(page)) else { panic!("it is refused") };
        assert_eq!(owner.commit(Bytes::new()).begin(), Ask::Done(Err(AppendOutcome::Fault(fault.clone()))));
        assert_eq!(owner.claim().begin(), Ask::Done(Err(ClaimError::Fault(fault.clone()))));
        assert_eq!(owner.resign().begin(), Ask::Done(Err(ResignError::Fault(fault))));
        assert_eq!(owner.epoch(), None);
    }
}

#[test]
fn a_log_that_shows_nothing_where_something_must_be_is_not_believed() {
    for answer in [Ok(Pos(5)), Err(AppendError::Conflict)] {
        let mut owner = owner();
        let mut commit = owner.commit(Bytes::from_static(b"one"));
        commit.begin();
        assert_eq!(commit.appended(answer.clone()), read_behind(1));
        assert!(matches!(commit.read(Ok(vec![])), Ask::Done(Err(AppendOutcome::Unknown(_)))));
        assert!(owner.is_in_doubt());
        let mut claim = owner.claim();
        claim.begin();
        assert_eq!(claim.appended(answer), read_behind(1));
        assert!(matches!(claim.read(Ok(vec![])), Ask::Done(Err(ClaimError::Unavailable(_)))));
    }
}

proptest! {
    /// Whatever a log answers, in whatever order, no step panics, and an owner that failed answers no more.
    #[test]
    fn no_answer_of_a_log_is_too_strange(answers in prop::collection::vec((0u8..8, 0u64..6), 1..60)) {
        let mut owner = owner();
        let sent = commit_of(&owner, "one");
        let pages = |number: u64, end: u64| match number {
            0 => vec![],
            1 => vec![at(end + 1, &sent)],
            2 => vec![at(end + 1, &claim_of(2, B)), at(end + 2, &sent)],
            3 => vec![at(end, &sent)],
            4 => vec![at(end + 3, &claim_of(end, A))],
            _ => vec![at(end + 1, &Bytes::from_static(b"nonsense"))],
        };
        fn go<T>(operation: &mut dyn Operation<Outcome = T>, answers: &[(u8, u64)], page: &dyn Fn(u64, u64) -> Vec<Entry>) {
            let mut ask = operation.begin();
            for (kind, number) in answers {
                ask = match ask {
                    Ask::Done(_) => return,
                    Ask::Append { after, .. } => operation.appended(match kind {
                        0..3 => Ok(Pos(after.0 + number)),
                        3 | 4 => Err(AppendError::Conflict),
                        5 => Err(AppendError::NotStored(String::new())),
                        _ => Err(AppendError::Unknown(String::new())),
                    }),
                    Ask::Read { after } => operation.read(match kind {
                        0 => Err(ReadError::Unavailable(String::new())),
                        1 => Err(ReadError::Trimmed(after)),
                        _ => Ok(page(*number, after.0)),
                    }),
                };
            }
        }
        for chunk in answers.chunks(6) {
            match chunk[0].1 {
                0 => go(&mut owner.claim(), chunk, &pages),
                1 => go(&mut owner.follow(), chunk, &pages),
                2 => go(&mut owner.resign(), chunk, &pages),
                3 => go(&mut owner.commit(Bytes::from_static(b"of two parts")), chunk, &pages),
                _ => go(&mut owner.commit(Bytes::from_static(b"one")), chunk, &pages),
            }
            prop_assert!(owner.epoch().is_none_or(|epoch| owner.fault.is_none() && owner.is_owner_under(epoch)));
            prop_assert!(!(owner.is_in_doubt() && owner.epoch().is_some()));
        }
    }
}

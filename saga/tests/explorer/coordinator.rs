//! What tells one state of the coordinator from another.

use sagamq_saga::protocol::ResolvedOutcome;
use sagamq_saga::protocol::twopc::{Attempt, BranchState, TransactionState};

/// What the coordinator knows, without times, texts, and what is only told.
pub(crate) fn canonical(state: &TransactionState, form: &mut Vec<u8>) {
    let attempt = |attempt: Attempt| match attempt {
        Attempt::None => 0,
        Attempt::Open(_) => 1,
        Attempt::Waiting { .. } => 2,
    };
    let small = |number: u32| u8::try_from(number).expect("few attempts");
    form.push(state.phase as u8);
    form.extend(state.actions.iter().map(|action| action.state as u8));
    for branch in &state.branches {
        form.extend([
            match branch.state {
                BranchState::Unopened => 0,
                BranchState::Active => 1,
                BranchState::Prepared => 2,
                BranchState::ReadOnly => 3,
                BranchState::Committed => 4,
                BranchState::RolledBack => 5,
                BranchState::Unacknowledged => 6,
                BranchState::Disagrees => 7,
                BranchState::Resolved(ResolvedOutcome::Committed) => 8,
                BranchState::Resolved(ResolvedOutcome::RolledBack) => 9,
                BranchState::Resolved(ResolvedOutcome::Unknown) => 10,
            },
            branch.voted.map_or(0, |vote| 1 + vote as u8),
            branch.told.map_or(0, |told| 1 + told as u8),
            small(branch.vote.epoch),
            attempt(branch.vote.attempt),
            small(branch.ending.epoch),
            attempt(branch.ending.attempt),
            u8::try_from(branch.contradictions.len()).expect("few kinds"),
        ]);
    }
}

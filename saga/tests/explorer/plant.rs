//! Bugs that are put in on purpose, around the protocol and never in it: what the search is worth is shown by what it finds.

/// A planted bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plant {
    /// The decision to commit is told before it is on disk.
    ToldBeforeForced,
    /// A participant that has voted yes does not know so after a crash.
    VoteForgotten,
    /// A participant that asks for a transaction of which nothing is known is told that it was committed.
    PresumedCommit,
    /// The only branch is told to commit before it is on disk that nobody else decides.
    DecisionGivenAwayUnforced,
    /// A participant does not count how many actions of the branch it has, and how many it should.
    HalfABranch,
    /// A participant that could not commit in one phase does not keep that it refused.
    RefusalForgotten,
    /// A participant that has prepared never asks.
    NeverAsks,
    /// In a saga: an unknown outcome is read as a refusal.
    UnknownIsRefused,
    /// In a saga: a participant that is to undo what it has not done does not keep that it must not be done later.
    HangingAction,
    /// In a saga: what a rerun took over is undone in its own name.
    UndoneInItsOwnName,
}

//! [`Rule`]: each rule of the protocol by name, so that tests can turn one off and see that it is missed.

/// A rule of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(test), expect(dead_code, reason = "some bugs are planted where only tests compile them"))]
pub(crate) enum Rule {
    /// A claim counts only if its epoch is higher.
    ClaimIsHigher,
    /// A claim throws unfinished parts away.
    ClaimEndsParts,
    /// A commit counts only in the epoch of the last claim.
    CommitEpoch,
    /// A commit counts only with the next number.
    CommitNumber,
    /// A commit counts only behind what it was made for.
    CommitDigest,
    /// A part counts only as the next one of its commit.
    PartOrder,
    /// Nothing of an epoch counts after its owner left.
    ResignEnds,
    /// A replica's place is never between the parts of a commit.
    PlaceBehindWhole,
    /// An owner whose append stands further on reads what came between.
    FurtherOnIsRead,
    /// An owner whose append met another entry looks whether it was fenced.
    ConflictIsJudged,
    /// Nothing is told of an append that nobody knows of.
    UnknownIsNotTold,
    /// After an append that nobody knows of, the owner claims before it appends again.
    UnknownIsClaimed,
    /// Who claims reads up to its claim.
    ClaimIsReadUpTo,
    /// What became of a commit that nobody knew of is looked up in the log.
    DoubtIsLookedUp,
    /// A commit of which a part was refused is not followed by another one of the same epoch.
    TornIsClaimed,
}

/// Which rules hold: all of them, but for tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rules {
    #[cfg(test)]
    off: Option<Rule>,
}

impl Rules {
    /// All but one.
    #[cfg(test)]
    pub(crate) const fn without(rule: Rule) -> Self {
        Self { off: Some(rule) }
    }

    /// Whether a rule holds.
    #[cfg(test)]
    pub(crate) fn hold(self, rule: Rule) -> bool {
        self.off != Some(rule)
    }

    /// Whether a rule holds.
    #[cfg(not(test))]
    pub(crate) const fn hold(self, _rule: Rule) -> bool {
        true
    }
}

#[cfg(test)]
impl Rule {
    /// Every rule.
    pub(crate) const ALL: [Self; 15] = [
        Self::ClaimIsHigher,
        Self::ClaimEndsParts,
        Self::CommitEpoch,
        Self::CommitNumber,
        Self::CommitDigest,
        Self::PartOrder,
        Self::ResignEnds,
        Self::PlaceBehindWhole,
        Self::FurtherOnIsRead,
        Self::ConflictIsJudged,
        Self::UnknownIsNotTold,
        Self::UnknownIsClaimed,
        Self::ClaimIsReadUpTo,
        Self::DoubtIsLookedUp,
        Self::TornIsClaimed,
    ];
}

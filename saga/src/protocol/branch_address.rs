//! [`BranchAddress`]: where the worker is that has the branch of a transaction open, as the answer to its first action said.

/// Where the worker is that has a branch open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BranchAddress {
    /// Base URL.
    pub base: String,
    /// Whether whoever said so is where a definition says, and not where an operator has put the service. What calls to the service show is for the
    /// latter alone, whatever is set for it later: or a definition could have it shown to a host of its choice.
    pub is_foreign: bool,
}

#[cfg(test)]
impl From<&str> for BranchAddress {
    fn from(base: &str) -> Self {
        Self { base: base.to_owned(), is_foreign: false }
    }
}

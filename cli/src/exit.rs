//! Exit codes: the answer of the command to a script. They are part of the interface and stand in `sagamq --help`.

use std::process::ExitCode;

/// What the process tells its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Exit {
    /// Done.
    Ok = 0,
    /// The server refused, or an operation failed, for example a definition with faults or a saga that did not complete, or one of which
    /// verification shows something wrong.
    Failed = 1,
    /// Wrong use: a flag, an environment variable or the configuration file.
    Usage = 2,
    /// The server could not be reached, or the outcome is not known: it may have happened. Of a verification: it is not complete.
    Unknown = 3,
    /// What was asked for does not exist.
    NotFound = 4,
    /// A part of the server died and the server ended itself: start it again.
    ServerDied = 5,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// The table of exit codes for `--help`.
pub const EXIT_CODES: &str = "\
EXIT CODES:
  0  done
  1  the server refused, or the operation failed (for `saga lint`: there are faults; for `saga verify`: something is wrong)
  2  wrong use: a flag, an environment variable or the configuration file
  3  the server is not reachable, or the outcome is not known: it may have happened (for `saga verify`: INCOMPLETE, a bound was hit)
  4  not found
  5  a part of the server died and the server ended itself: start it again (`serve` only)
130  ended at once by a second signal";

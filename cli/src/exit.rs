//! Exit codes: the answer of the command to a script. They are part of the interface and stand in `sagamq --help`.

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
    /// The server was the active node of a cluster and is not any more: start it again, and it stands by.
    SteppedDown = 6,
}

impl Exit {
    /// The number.
    #[must_use]
    pub const fn code(self) -> i32 {
        self as i32
    }
}

/// Exit code of a process that was ended by a second signal, as shells count SIGINT.
pub const INTERRUPTED: i32 = 130;

/// Ends the process, without what the C library does at an exit: it destroys RocksDB's static objects while other threads may still use or
/// close a database, and RocksDB then ends the process with SIGABRT, whatever the code (<https://github.com/facebook/rocksdb/issues/11349>).
/// Whoever has something to write or to close does it before: stdout is not flushed here, since a thread that nobody reads from may hold it.
pub fn leave(code: i32) -> ! {
    signal_hook::low_level::exit(code)
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
  6  the server was the active node of a cluster and is not any more: start it again, and it stands by (`serve` only)
130  ended at once by a second signal";

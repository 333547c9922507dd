//! How many files the process may have open, and how many connections that is enough for.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Most connections at a time, whatever the system gives.
const CONNECTIONS_MAX: u64 = 10_000;

/// What is kept of the files for all else: the database (up to 512, and some more while it merges), calls to participants.
const OTHER_FILES: u64 = 1_024;

/// From here on there is room for all connections, and for calls to many participants.
const PLENTY: u64 = 16_384;

/// Asks the system for as many open files as the process may have at all: what it starts with is often 1,024, for the sake of programs that
/// know no more. Says so in the log if that is little.
pub fn raise() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
    {
        // Some systems call the bound infinite and give less.
        tracing::debug!(%error, "the bound on open files could not be raised");
    }
    let files = files();
    if files < PLENTY {
        tracing::warn!(
            files,
            connections = connections_max(),
            "the process may have only a few files open, so it takes fewer connections at a time: let it have 65536 \
             (LimitNOFILE=65536 of systemd, --ulimit nofile=65536 of docker)"
        );
    }
}

/// Most connections at a time.
pub(super) fn connections_max() -> usize {
    usize::try_from(connections_with(files())).expect("at most 10,000")
}

/// Files that the process may have open.
pub(super) fn files() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// The database is content with half of very few, so a fourth is left for connections.
fn connections_with(files: u64) -> u64 {
    files.saturating_sub(OTHER_FILES).max(files / 4).clamp(1, CONNECTIONS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_files_for_all_else() {
        for (files, connections) in [(0, 1), (256, 64), (1_024, 256), (2_048, 1_024), (11_000, 9_976), (65_536, 10_000), (u64::MAX, 10_000)]
        {
            assert_eq!(connections_with(files), connections, "{files}");
        }
    }
}

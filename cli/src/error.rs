//! What can go wrong with a command: which exit code it has, and what helps. How it is printed is in `output/error.rs`.

use crate::exit::Exit;
use sagamq_api::{ErrorCode, Fault};
use sagamq_sdk::ClientError;
use sagamq_server::run::StartError;
use std::io;
use thiserror::Error;

/// Why a command did not do what was asked.
#[derive(Debug, Error)]
pub(crate) enum CliError {
    /// A flag, an environment variable, a file that was named.
    #[error("{0}")]
    Usage(String),
    /// The server refused, did not answer, or nobody knows.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The command did its work and the result is not the one that was wanted.
    #[error("{0}")]
    Failed(String),
    /// What was asked for does not exist.
    #[error("{0}")]
    NotFound(String),
    /// It may have happened, or may come yet.
    #[error("{0}")]
    Unknown(String),
    /// A part was done, then this happened.
    #[error("{context}: {error}")]
    Partly {
        /// What was going on, and how far it came.
        context: String,
        /// What ended it.
        error: Box<Self>,
    },
    /// A part of many things was done, then this happened; what to do about the others.
    #[error("{context}: {error}; {fates}")]
    Resumable {
        /// What was going on, and how far it came.
        context: String,
        /// What ended it.
        error: Box<Self>,
        /// What became of each.
        fates: String,
        /// How to go on.
        help: String,
    },
    /// A file, stdin or stdout.
    #[error("{what}: {error}")]
    Io {
        /// What was read or written.
        what: String,
        /// What the system says.
        error: io::Error,
    },
    /// The server could not start or did not end well.
    #[error(transparent)]
    Server(#[from] StartError),
    /// Who read our output has gone, as `head` does: there is nothing left to do, and nobody to tell.
    #[error("nobody reads the output any more")]
    ReaderGone,
}

impl CliError {
    /// An error of stdout.
    pub(crate) fn stdout(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::ReaderGone
        } else {
            Self::Io { what: "cannot write to stdout".to_owned(), error }
        }
    }

    /// What a script is told.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Usage(_)
            | Self::Server(StartError::Unguarded { .. } | StartError::KeysNotAsked { .. } | StartError::Tls(_) | StartError::Provider(_)) => {
                Exit::Usage
            }
            Self::Client(error) => client_exit(error),
            Self::Server(StartError::PartDied(_)) => Exit::ServerDied,
            Self::Server(StartError::SteppedDown(_)) => Exit::SteppedDown,
            Self::NotFound(_) => Exit::NotFound,
            Self::Unknown(_) => Exit::Unknown,
            Self::Failed(_) | Self::Io { .. } | Self::Server(_) => Exit::Failed,
            Self::Partly { error, .. } | Self::Resumable { error, .. } => error.exit(),
            Self::ReaderGone => Exit::Ok,
        }
    }

    /// The stable code: the server's own, or one of the client's.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Usage(_) => "USAGE",
            Self::NotFound(_) => "NOT_FOUND",
            Self::Unknown(_) => "OUTCOME_UNKNOWN",
            Self::Client(ClientError::Problem(problem)) => problem.code.as_str(),
            Self::Client(ClientError::Transport { outcome_unknown: false, .. }) => "UNREACHABLE",
            Self::Client(
                ClientError::Transport { .. } | ClientError::Decode { .. } | ClientError::InDoubt { .. } | ClientError::Abandoned,
            ) => "OUTCOME_UNKNOWN",
            Self::Client(ClientError::WaitElapsed { .. }) => "WAIT_ELAPSED",
            Self::Client(ClientError::UnexpectedAnswer { .. }) => "UNEXPECTED_ANSWER",
            Self::Client(ClientError::InvalidUrl { .. } | ClientError::InvalidSettings { .. } | ClientError::InvalidRequest { .. }) => {
                "USAGE"
            }
            Self::Client(
                ClientError::Closed | ClientError::Credentials { .. } | ClientError::Expired { .. } | ClientError::FlushElapsed { .. },
            )
            | Self::Failed(_) => "FAILED",
            Self::Partly { error, .. } | Self::Resumable { error, .. } => error.code(),
            Self::Io { .. } | Self::ReaderGone => "INPUT_OUTPUT",
            Self::Server(error) => start_code(error),
        }
    }

    /// What was wrong this time. The server's own words carry no code here: it is shown beside them.
    pub(crate) fn detail(&self) -> String {
        match self {
            Self::Client(ClientError::Problem(problem)) => problem.detail.clone(),
            Self::Partly { context, error } => format!("{context}: {}", error.detail()),
            Self::Resumable { context, error, fates, .. } => format!("{context}: {}; {fates}", error.detail()),
            other => other.to_string(),
        }
    }

    /// What to do about it, if there is something to say.
    pub(crate) fn help(&self) -> Option<&str> {
        match self {
            Self::Client(ClientError::Problem(problem)) => problem_help(problem.code),
            Self::Client(ClientError::Transport { outcome_unknown: false, reason, .. }) if reason.contains("certificate") => Some(
                "a server answers there, and one of the two does not take the other's certificate: see --ca-file, --client-cert and the names in the \
                 server's certificate, which must not be that of an authority",
            ),
            Self::Client(ClientError::Transport { outcome_unknown: false, .. }) => {
                Some("start a server with `sagamq serve`, or give the address of one with --server or SAGAMQ_SERVER")
            }
            Self::Client(ClientError::Transport { .. } | ClientError::InDoubt { .. } | ClientError::Abandoned) => {
                Some("it may have happened: look, or repeat it; with an idempotency key a repeated record is stored once")
            }
            Self::Client(ClientError::WaitElapsed { .. }) => Some("look at it again with `sagamq saga get`, or wait longer with --timeout"),
            Self::Client(ClientError::UnexpectedAnswer { .. } | ClientError::Decode { .. }) => {
                Some("is this the address of a SagaMQ server of this version? See --server")
            }
            Self::Resumable { help, .. } => Some(help),
            Self::Partly { error, .. } => error.help(),
            Self::Server(error) => start_help(error),
            Self::Client(
                ClientError::InvalidUrl { .. }
                | ClientError::InvalidSettings { .. }
                | ClientError::InvalidRequest { .. }
                | ClientError::Credentials { .. }
                | ClientError::Expired { .. }
                | ClientError::FlushElapsed { .. }
                | ClientError::Closed,
            )
            | Self::Usage(_)
            | Self::Failed(_)
            | Self::NotFound(_)
            | Self::Unknown(_)
            | Self::Io { .. }
            | Self::ReaderGone => None,
        }
    }

    /// The error of the server's client at the bottom, if there is one.
    pub(crate) fn client(&self) -> Option<&ClientError> {
        match self {
            Self::Client(error) => Some(error),
            Self::Partly { error, .. } | Self::Resumable { error, .. } => error.client(),
            Self::Usage(_)
            | Self::Failed(_)
            | Self::NotFound(_)
            | Self::Unknown(_)
            | Self::Io { .. }
            | Self::Server(_)
            | Self::ReaderGone => None,
        }
    }

    /// The faults of a saga definition, if that is what was refused.
    pub(crate) fn faults(&self) -> &[Fault] {
        match self.client() {
            Some(ClientError::Problem(problem)) => &problem.faults,
            Some(_) | None => &[],
        }
    }
}

fn client_exit(error: &ClientError) -> Exit {
    match error {
        ClientError::InvalidUrl { .. } | ClientError::InvalidSettings { .. } | ClientError::InvalidRequest { .. } => Exit::Usage,
        ClientError::Transport { .. } => Exit::Unknown,
        error if error.is_outcome_unknown() => Exit::Unknown,
        // A route that is not there is a server of another version, not a thing that is missing.
        ClientError::Problem(problem) if problem.status == 404 && problem.code != ErrorCode::RouteNotFound => Exit::NotFound,
        _ => Exit::Failed,
    }
}

/// What a script is told of a server that did not start, or did not end well.
fn start_code(error: &StartError) -> &'static str {
    match error {
        StartError::Listen { .. } => "LISTEN",
        StartError::Unguarded { .. } | StartError::KeysNotAsked { .. } => "UNGUARDED",
        StartError::KeyFile { .. } => "KEY_FILE",
        StartError::Tls(_) => "TLS",
        StartError::Provider(_) => "PROVIDER",
        StartError::Telemetry(_) => "TELEMETRY",
        StartError::DataDirectory(_)
        | StartError::OfCluster { .. }
        | StartError::Local(_)
        | StartError::Copy { .. }
        | StartError::Broker(_)
        | StartError::Orchestrator(_)
        | StartError::FirstKey(_)
        | StartError::Audit(_) => "DATA_DIRECTORY",
        StartError::Log(_) | StartError::Join(_) | StartError::Follow(_) | StartError::Peers(_) => "CLUSTER",
        StartError::SteppedDown(_) => "STEPPED_DOWN",
        StartError::PartDied(_) => "PART_DIED",
        StartError::Panicked(_) => "INTERNAL",
        StartError::GraceElapsed(_) => "GRACE_ELAPSED",
    }
}

/// What to do about a server that did not start, where the error does not say it itself.
fn start_help(error: &StartError) -> Option<&'static str> {
    match error {
        StartError::Listen { .. } => Some("choose another address with --listen, or stop what listens there"),
        StartError::Unguarded { .. } => Some(
            "ask for keys with --authentication keys (the first start makes one for an administrator), listen on 127.0.0.1, or, where a \
                 proxy or the network sees to who gets there, say --insecure-no-auth",
        ),
        StartError::KeysNotAsked { .. } => {
            Some("ask for them with --authentication keys, or say that nobody is asked: --authentication off")
        }
        StartError::GraceElapsed(_) => Some("give requests more time with --shutdown-grace"),
        StartError::PartDied(_) => {
            Some("start it again: what was answered is on disk, and every saga goes on; keep the log, it has the panic")
        }
        StartError::SteppedDown(_) => {
            Some("start it again: it stands by then. What was answered is in the log; what was not may be, and its clients are told so")
        }
        StartError::DataDirectory(_)
        | StartError::OfCluster { .. }
        | StartError::Local(_)
        | StartError::Copy { .. }
        | StartError::Log(_)
        | StartError::Join(_)
        | StartError::Follow(_)
        | StartError::Peers(_)
        | StartError::Broker(_)
        | StartError::Orchestrator(_)
        | StartError::KeyFile { .. }
        | StartError::Telemetry(_)
        | StartError::Tls(_)
        | StartError::Provider(_)
        | StartError::FirstKey(_)
        | StartError::Audit(_)
        | StartError::Panicked(_) => None,
    }
}

fn problem_help(code: ErrorCode) -> Option<&'static str> {
    Some(match code {
        ErrorCode::Unauthenticated => {
            "give a key with --api-key, SAGAMQ_API_KEY or a profile; an administrator makes one with `sagamq key create`"
        }
        ErrorCode::Forbidden => "ask an administrator for a key with the right that is named; see `sagamq key create --help`",
        ErrorCode::KeyNotFound => "see `sagamq key list`",
        ErrorCode::KeyExists => "revoke it with `sagamq key revoke`, or give it another secret with `sagamq key rotate`",
        ErrorCode::TopicNotFound => "see `sagamq topic list`, or create it with `sagamq topic create`",
        ErrorCode::PartitionNotFound => "see `sagamq topic describe` for the partitions",
        ErrorCode::GroupNotFound => "see `sagamq group list`; a group is made by its first `sagamq consume --group`",
        ErrorCode::DefinitionNotFound => "see `sagamq saga definitions`, or publish it with `sagamq saga publish`",
        ErrorCode::SagaNotFound => "see `sagamq saga list`",
        ErrorCode::RepairNotFound => "see `sagamq saga repair list`",
        ErrorCode::TransactionNotFound => "see `sagamq tx list`; a saga is shown by `sagamq saga get`",
        ErrorCode::ModeNotPossible => "leave --mode out, or publish a definition that can be run both ways",
        ErrorCode::TopicExists => "see its configuration with `sagamq topic describe`",
        ErrorCode::DefinitionVersionExists => "raise `version` in the definition: what is published never changes",
        ErrorCode::SagaKeyConflict => "see the saga of that key with `sagamq saga list --saga NAME --key KEY`",
        ErrorCode::InvalidDefinition => "check it with `sagamq saga lint`",
        ErrorCode::VerificationFailed => "look at it with `sagamq saga verify`",
        ErrorCode::VerificationIncomplete => "verify it with `sagamq saga verify`, or raise the server's saga_verify_states_max",
        ErrorCode::OffsetOutOfRange => "see `sagamq topic describe` for the offsets that are there, or use --from-beginning",
        ErrorCode::WritesStopped => "look into the server's log, mend the disk, and restart the server",
        ErrorCode::DiskLow => "nothing was stored: make room on the server's disk, or delete topics; see `sagamq topic update --retention`",
        ErrorCode::QuotaExceeded => "nothing was done: wait as long as it says, send less, or raise the server's client_* settings",
        ErrorCode::SagaOpenLimit => {
            "nothing was started: see which sagas stay with `sagamq saga list`, or raise the server's sagas_open_max"
        }
        ErrorCode::Overloaded | ErrorCode::ShuttingDown => "nothing was stored: try again in a moment, or wait longer with --retry-for",
        ErrorCode::Internal | ErrorCode::StorageCorrupt | ErrorCode::SagaQuarantined => "look into the server's log for the request's id",
        ErrorCode::RouteNotFound | ErrorCode::MethodNotAllowed => "is the server of the same version? See --server",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_of_which_a_part_died_has_an_exit_code_of_its_own() {
        let error = CliError::from(StartError::PartDied("the committer panicked".to_owned()));
        assert_eq!((error.exit() as u8, error.code()), (5, "PART_DIED"));
        assert_eq!(error.exit(), Exit::ServerDied);
    }

    #[test]
    fn a_node_that_is_not_the_active_one_any_more_has_an_exit_code_of_its_own() {
        let error = CliError::from(StartError::SteppedDown("another one has taken over".to_owned()));
        assert_eq!((error.exit() as u8, error.code()), (6, "STEPPED_DOWN"));
        assert_eq!(error.exit(), Exit::SteppedDown);
    }
}

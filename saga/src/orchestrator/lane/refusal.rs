//! Why a lane refuses what it is asked.

use crate::definition::Misfit;
use crate::orchestrator::bounds::OutOfBounds;
use crate::orchestrator::definitions::DefinitionError;
use crate::orchestrator::error::InstanceError;
use crate::protocol::Rejection;
use crate::store::StoreError;
use sagamq_api::SagaName;
use sagamq_api::saga::Mode;
use sagamq_broker::WriteError;
use sagamq_broker::storage::StorageError;
use uuid::Uuid;

/// Why nothing was decided.
#[derive(Debug, thiserror::Error)]
pub(in crate::orchestrator) enum Undecided {
    /// The instance cannot be asked.
    #[error(transparent)]
    Instance(#[from] InstanceError),
    /// The input changes nothing.
    #[error(transparent)]
    Rejected(#[from] Rejection),
}

impl From<WriteError> for Undecided {
    fn from(error: WriteError) -> Self {
        Self::Instance(InstanceError::Write(error))
    }
}

/// A device that fails is not a damaged instance.
pub(super) fn is_passing(error: &StoreError) -> bool {
    matches!(error, StoreError::Storage(StorageError::Io(_)))
}

/// Why a saga was not started. Nothing was stored, except where a variant says otherwise.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StartError {
    /// There is no definition to start.
    #[error(transparent)]
    Definition(#[from] DefinitionError),
    /// The definition cannot be run in the mode that was asked for.
    #[error("version {version} of saga `{saga}` cannot be run in the mode `{mode}`: {reason}")]
    ModeNotPossible {
        /// The definition.
        saga: SagaName,
        /// Its version.
        version: u32,
        /// How it was to be run.
        mode: Mode,
        /// What stands in the way.
        reason: String,
    },
    /// A service that the definition calls has no address.
    #[error(
        "version {version} of saga `{saga}` calls the service `{service}`, which has no address: set one (`sagamq service set {service} URL`)"
    )]
    ServiceWithoutAddress {
        /// The definition.
        saga: SagaName,
        /// Its version.
        version: u32,
        /// The service.
        service: String,
    },
    /// The input does not fit the definition.
    #[error("the saga's input does not fit: {0}")]
    InvalidInput(String),
    /// The input does not fit the schema of the definition.
    #[error("the input does not fit the schema of version {version} of saga `{saga}`, {misfit}")]
    Misfit {
        /// The definition.
        saga: SagaName,
        /// Its version.
        version: u32,
        /// What does not fit.
        misfit: Misfit,
    },
    /// The input is too large or nests too deep.
    #[error("the input: {0}")]
    OutOfBounds(OutOfBounds),
    /// The business key started an instance with another input.
    #[error("the key `{key}` started saga {id} with another input")]
    KeyConflict {
        /// The business key.
        key: String,
        /// The instance it started.
        id: Uuid,
    },
    /// The business key started an instance that is run otherwise.
    #[error("the key `{key}` started saga {id} in the mode `{mode}`: ask for that one, or for none")]
    ModeConflict {
        /// The business key.
        key: String,
        /// The instance it started.
        id: Uuid,
        /// How it is run.
        mode: Mode,
    },
    /// The id that follows from the key belongs to another instance.
    #[error("the key `{key}` has the id {id}, which another saga has: use another key")]
    IdTaken {
        /// The business key.
        key: String,
        /// The id.
        id: Uuid,
    },
    /// As many instances of the shard as may be are not at their end.
    #[error("shard {shard} has {open} sagas that are not at their end, and {most} are its share of `sagas_open_max`: nothing was started")]
    OpenLimit {
        /// The shard.
        shard: u16,
        /// Its open instances.
        open: usize,
        /// How many may be.
        most: usize,
    },
    /// The first decision about the instance panicked.
    #[error("a decision about the saga panicked; the log says where")]
    Panicked,
    /// The protocol does not start it.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// The instance that the key started cannot be asked, or the new one did not become durable, as far as it is known.
    #[error(transparent)]
    Instance(#[from] InstanceError),
}

impl From<WriteError> for StartError {
    fn from(error: WriteError) -> Self {
        Self::Instance(InstanceError::Write(error))
    }
}

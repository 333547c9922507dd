//! What a lane finds on disk when it starts: the instances that are not at their end, and where their commands lie.
//!
//! One damaged instance never stops the others: it is set aside, reported, and answered with what is damaged.

use crate::definition::Definition;
use crate::orchestrator::definitions::Definitions;
use crate::participant::{OpenCommands, attempt_of};
use crate::protocol::Instance;
use crate::protocol::lock::Locks;
use crate::protocol::repair::{Repair, Watch};
use crate::store::{LaneStore, StoreError};
use sagamq_api::saga::AttemptId;
use sagamq_api::{Offset, TopicName};
use sagamq_broker::EmbedError;
use sagamq_broker::log::ReadError;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use uuid::Uuid;

/// Command records that are read at a time.
const READ_RECORDS: usize = 1_000;

/// Why a lane cannot start.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// Storage failed, or a key of the lane itself is damaged.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A command topic cannot be read.
    #[error("command topic `{topic}` cannot be read: {reason}")]
    Commands {
        /// The topic.
        topic: TopicName,
        /// Why.
        reason: ReadError,
    },
}

/// What a lane starts with.
pub(in crate::orchestrator) struct Recovered {
    pub(in crate::orchestrator) instances: Vec<(Arc<Definition>, Instance)>,
    pub(in crate::orchestrator) quarantined: HashMap<Uuid, String>,
    /// Command records of instances that are set aside: nobody can use what a worker would answer.
    pub(in crate::orchestrator) stale: Vec<(TopicName, Offset)>,
    pub(in crate::orchestrator) commands: OpenCommands,
    pub(in crate::orchestrator) reply_cursor: Offset,
    /// Instances that only wait, and when each goes on by itself: they are not read.
    pub(in crate::orchestrator) asleep: Vec<(Uuid, u64)>,
    /// Repairs that are not at their end.
    pub(in crate::orchestrator) repairs: Vec<Repair>,
    /// The locks that have their home on the lane.
    pub(in crate::orchestrator) locks: Locks,
    /// Instances for which repairs wait.
    pub(in crate::orchestrator) watches: Vec<(Uuid, Watch)>,
}

/// Reads a lane back, with its commands in these topics.
pub(in crate::orchestrator) async fn recover(
    store: LaneStore,
    definitions: Definitions,
    topics: Vec<TopicName>,
) -> Result<Recovered, RecoveryError> {
    let blocking = (store.clone(), definitions.clone());
    let mut recovered = tokio::task::spawn_blocking(move || instances(&blocking.0, &blocking.1))
        .await
        .expect("folding instances neither panics nor is aborted")?;
    let wanted: HashSet<AttemptId> = recovered.instances.iter().flat_map(|(_, instance)| instance.open_attempts()).collect();
    for topic in topics {
        let floor = store.command_floor(&topic)?;
        recovered.commands.floor_is_stored(&topic, floor);
        commands(&store, &topic, floor, &wanted, &mut recovered).await?;
    }
    Ok(recovered)
}

fn instances(store: &LaneStore, definitions: &Definitions) -> Result<Recovered, StoreError> {
    let mut recovered = Recovered {
        instances: Vec::new(),
        quarantined: HashMap::new(),
        stale: Vec::new(),
        commands: OpenCommands::default(),
        reply_cursor: store.reply_cursor()?,
        asleep: Vec::new(),
        repairs: Vec::new(),
        locks: store.locks()?,
        watches: store.watches()?,
    };
    for id in store.open_repairs()? {
        match store.fold_repair(id) {
            Ok(repair) => recovered.repairs.extend(repair),
            // A device that fails is not a damaged repair.
            Err(StoreError::Storage(error @ sagamq_broker::storage::StorageError::Io(_))) => return Err(error.into()),
            Err(error) => tracing::error!(repair = %id, %error, "a repair cannot be read and does not go on; all others do"),
        }
    }
    let asleep = store.asleep()?;
    for id in store.open()? {
        if let Some(until_ms) = asleep.get(&id) {
            recovered.asleep.push((id, *until_ms));
            continue;
        }
        match store.fold(id, &|saga, version| definitions.compiled(saga, version)) {
            Ok(Some(instance)) => recovered.instances.push(instance),
            Ok(None) => set_aside(&mut recovered, id, "it has no events".to_owned()),
            // A device that fails is not a damaged instance.
            Err(StoreError::Storage(error @ sagamq_broker::storage::StorageError::Io(_))) => return Err(error.into()),
            Err(error) => set_aside(&mut recovered, id, error.to_string()),
        }
    }
    Ok(recovered)
}

fn set_aside(recovered: &mut Recovered, id: Uuid, reason: String) {
    recovered.quarantined.insert(id, reason);
}

async fn commands(
    store: &LaneStore,
    topic: &TopicName,
    floor: Offset,
    wanted: &HashSet<AttemptId>,
    recovered: &mut Recovered,
) -> Result<(), RecoveryError> {
    let mut next = floor;
    loop {
        let records = match store.0.read(topic, next, READ_RECORDS).await {
            Ok(Ok(records)) => records,
            // Deleted and made anew, or deleted: the calls that are open end at their deadlines.
            Ok(Err(ReadError::OutOfRange { log_start, .. })) if next < log_start => {
                next = log_start;
                continue;
            }
            Ok(Err(ReadError::OutOfRange { .. })) | Err(EmbedError::TopicNotFound(_)) => return Ok(()),
            Ok(Err(reason)) => return Err(RecoveryError::Commands { topic: topic.clone(), reason }),
            Err(error) => {
                tracing::error!(%topic, %error, "a command topic cannot be used");
                return Ok(());
            }
        };
        let Some(last) = records.last() else {
            recovered.commands.raise_end(topic, next);
            return Ok(());
        };
        next = last.offset.next();
        for record in &records {
            let Ok(attempt) = attempt_of(&record.payload) else { continue };
            if wanted.contains(&attempt) {
                recovered.commands.insert(attempt, topic, record.offset);
            } else if recovered.quarantined.contains_key(&attempt.instance) {
                recovered.stale.push((topic.clone(), record.offset));
            }
        }
    }
}

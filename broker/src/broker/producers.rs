//! Producers with names: register, list, forget. A change is durable when its method returns, and from then on the former producer stores nothing more.

use crate::audit::Note;
use crate::broker::Broker;
use crate::broker::topics::{delete, put};
use crate::ids::ShardId;
use crate::shard::catalogue::CatalogueOp;
use crate::shard::commit::WriteError;
use crate::shard::input::Input;
use crate::storage::keys::MetaKey;
use crate::topic::{NextIds, ProducerEntry};
use futures_util::future::join_all;
use sagamq_api::ProducerName;
use sagamq_api::audit::AuditOutcome;
use sagamq_api::limits::PRODUCER_NAMES_MAX;
use sagamq_api::producer::{GENERATION_MAX, NUMBER_MAX, NamedProducer, named_id};
use serde_json::json;

/// Why a producer was not registered, or not forgotten.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ProducerNameError {
    /// As many names are known as may be.
    #[error("{PRODUCER_NAMES_MAX} producers have names, and no more may: forget those that are not used any more")]
    TooMany,
    /// No producer has the name.
    #[error("no producer has the name `{0}`")]
    NotFound(ProducerName),
    /// The durable write failed or is not tried any more.
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl Broker {
    /// Gives the name to a new producer. When this returns, the one that had it stores nothing more.
    ///
    /// # Errors
    /// When too many have names, or the write fails.
    pub async fn register_producer(&self, name: &ProducerName) -> Result<NamedProducer, ProducerNameError> {
        let (broker, name) = (self.clone(), name.clone());
        self.finish(async move {
            let mut next_ids = broker.0.catalog.changes.lock().await;
            let known = broker.0.producer_names.get(&name);
            if known.is_none() {
                if broker.0.producer_names.all().len() >= PRODUCER_NAMES_MAX || next_ids.producer > NUMBER_MAX {
                    return Err(ProducerNameError::TooMany);
                }
                broker.require_room()?;
            }
            let registered_at_ms = broker.0.clock.now_ms();
            let (entry, after) = match known {
                Some(known) if known.generation < GENERATION_MAX => {
                    (ProducerEntry { generation: known.generation + 1, registered_at_ms, ..known }, *next_ids)
                }
                _ => {
                    let after = NextIds { producer: next_ids.producer + 1, ..*next_ids };
                    (ProducerEntry { number: next_ids.producer, name: name.clone(), generation: 0, registered_at_ms }, after)
                }
            };
            let mut mutations = vec![put(MetaKey::Producer(entry.number), &entry), put(MetaKey::NextIds, &after)];
            if let Some(former) = broker.0.producer_names.get(&name).filter(|former| former.number != entry.number) {
                mutations.push(delete(MetaKey::Producer(former.number)));
            }
            let note = broker.note(AuditOutcome::Created, &[("producer", &name)]).result(&json!({ "generation": entry.generation }));
            broker.write_meta(mutations, note).await?;
            *next_ids = after;
            broker.0.producer_names.insert(&entry);
            broker.behind_all_that_is_staged().await?;
            Ok(shown(entry))
        })
        .await
    }

    /// Every producer that has a name, by name.
    #[must_use]
    pub fn named_producers(&self) -> Vec<NamedProducer> {
        self.0.producer_names.all().into_iter().map(shown).collect()
    }

    /// Takes a name away: the producer that has it stores nothing more.
    ///
    /// # Errors
    /// When nobody has it, or the write fails.
    pub async fn forget_producer(&self, name: &ProducerName) -> Result<(), ProducerNameError> {
        let (broker, name) = (self.clone(), name.clone());
        self.finish(async move {
            let _changes = broker.0.catalog.changes.lock().await;
            let Some(entry) = broker.0.producer_names.get(&name) else { return Err(ProducerNameError::NotFound(name)) };
            let note = broker.note(AuditOutcome::Deleted, &[("producer", &name)]);
            broker.write_meta(vec![delete(MetaKey::Producer(entry.number))], note).await?;
            broker.0.producer_names.remove(&name);
            broker.behind_all_that_is_staged().await?;
            Ok(())
        })
        .await
    }

    /// Waits until every shard has stored what it had taken up by now. A batch of the former that a shard took before it saw the change is among that: when
    /// the change is told, the log ends where it ends.
    async fn behind_all_that_is_staged(&self) -> Result<(), WriteError> {
        let shards = (0..self.0.shards_count()).map(ShardId).map(|shard| async move {
            self.0
                .shard(shard)
                .ask(|reply| Input::Catalogue(CatalogueOp::Write { mutations: Vec::new(), note: Note::nothing(), reply }))
                .await?
        });
        join_all(shards).await.into_iter().collect()
    }
}

fn shown(entry: ProducerEntry) -> NamedProducer {
    let ProducerEntry { number, name, generation, registered_at_ms } = entry;
    NamedProducer { name, producer_id: named_id(number, generation), registered_at_ms }
}

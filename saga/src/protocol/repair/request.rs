//! What a repair is to do, with everything said that a request may leave out.

use crate::protocol::same::asks_the_same;
use sagamq_api::limits::{
    REPAIR_IDS_MAX, REPAIR_KEY_BYTES_MAX, REPAIR_PATIENCE_MS_DEFAULT, REPAIR_PATIENCE_MS_MAX, REPAIR_RATE_DEFAULT, REPAIR_RATE_MAX,
    REPAIR_SAGAS_DEFAULT, REPAIR_SAGAS_MAX, REPAIR_VERB_BYTES_MAX,
};
use sagamq_api::repair::{RepairFilter, StartRepair};
use sagamq_api::saga::OperateSaga;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use uuid::Uuid;

/// Why a request is no repair.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRepair {
    /// Neither or both of two fields.
    #[error("a repair has either a `filter` or `ids`")]
    NotOneSelection,
    /// The filter takes everything.
    #[error("`filter` is empty: name at least one of `saga`, `version`, `state`, `step`, `failure` and `unchanged_for_ms`")]
    EmptyFilter,
    /// A version of whatever definition.
    #[error("`filter.version` needs `filter.saga`: each definition counts its own versions")]
    VersionWithoutSaga,
    /// The list is too long, or empty.
    #[error("`ids` has {0} sagas, allowed are 1 to {REPAIR_IDS_MAX}: name more of them by a `filter`")]
    Ids(usize),
    /// A number is out of range.
    #[error("`{field}` is {found}, allowed is {least} to {most}")]
    OutOfRange {
        /// Its field.
        field: &'static str,
        /// The number.
        found: u64,
        /// The least that is allowed.
        least: u64,
        /// The most.
        most: u64,
    },
    /// The verb has more bytes than are sent to so many.
    #[error("`operate` has {0} bytes, at most {REPAIR_VERB_BYTES_MAX} are allowed, because every saga is sent them")]
    VerbTooLarge(usize),
    /// The key is too long or empty.
    #[error("`key` has {0} bytes, allowed are 1 to {REPAIR_KEY_BYTES_MAX}")]
    Key(usize),
}

/// What a repair is to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RepairRequest {
    /// The caller's name for it.
    pub key: Option<String>,
    /// Which sagas; `None`: those named one by one.
    pub filter: Option<RepairFilter>,
    /// Those named one by one, each once.
    pub ids: Vec<Uuid>,
    /// What is done to each.
    pub operate: OperateSaga,
    /// Most sagas that are begun in a second.
    pub rate: u32,
    /// Most sagas altogether.
    pub max_sagas: u64,
    /// How long a saga has to move on, in milliseconds.
    pub patience_ms: u64,
}

impl RepairRequest {
    /// Whether both ask for the same repair, whatever the white space of their payloads.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        asks_the_same(&self.operate, &other.operate) && *self == Self { operate: self.operate.clone(), ..other.clone() }
    }
}

impl TryFrom<StartRepair> for RepairRequest {
    type Error = BadRepair;

    fn try_from(request: StartRepair) -> Result<Self, BadRepair> {
        let StartRepair { key, filter, ids, operate, rate, max_sagas, patience_ms } = request;
        if let Some(bytes) = key.as_ref().map(String::len).filter(|bytes| !(1..=REPAIR_KEY_BYTES_MAX).contains(bytes)) {
            return Err(BadRepair::Key(bytes));
        }
        let ids = match (&filter, ids) {
            (None, Some(ids)) if ids.is_empty() || ids.len() > REPAIR_IDS_MAX => return Err(BadRepair::Ids(ids.len())),
            (None, Some(ids)) => ids,
            (Some(filter), None) if *filter == RepairFilter::default() => return Err(BadRepair::EmptyFilter),
            (Some(filter), None) if filter.version.is_some() && filter.saga.is_none() => return Err(BadRepair::VersionWithoutSaga),
            (Some(_), None) => Vec::new(),
            (Some(_), Some(_)) | (None, None) => return Err(BadRepair::NotOneSelection),
        };
        let mut seen = BTreeSet::new();
        let ids = ids.into_iter().filter(|id| seen.insert(*id)).collect();
        let bytes = serde_json::to_vec(&operate).map_or(usize::MAX, |json| json.len());
        if bytes > REPAIR_VERB_BYTES_MAX {
            return Err(BadRepair::VerbTooLarge(bytes));
        }
        let rate = within("rate", rate.map(u64::from), u64::from(REPAIR_RATE_DEFAULT), 1, u64::from(REPAIR_RATE_MAX))?;
        Ok(Self {
            key,
            filter,
            ids,
            operate,
            rate: u32::try_from(rate).expect("it is within its bounds"),
            max_sagas: within("max_sagas", max_sagas, REPAIR_SAGAS_DEFAULT, 1, REPAIR_SAGAS_MAX)?,
            patience_ms: within("patience_ms", patience_ms, REPAIR_PATIENCE_MS_DEFAULT, 0, REPAIR_PATIENCE_MS_MAX)?,
        })
    }
}

fn within(field: &'static str, found: Option<u64>, otherwise: u64, least: u64, most: u64) -> Result<u64, BadRepair> {
    let found = found.unwrap_or(otherwise);
    if (least..=most).contains(&found) { Ok(found) } else { Err(BadRepair::OutOfRange { field, found, least, most }) }
}

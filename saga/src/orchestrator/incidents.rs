//! What is wrong now: the instances in trouble, of all lanes, by what they are in.

use super::door::Orchestrator;
use super::error::InstanceError;
use super::lane::LaneInput;
use super::list::QueryError;
use super::trouble::Troubles;
use futures_util::future::join_all;
use sagamq_api::limits::{PAGE_ROWS_DEFAULT, PAGE_ROWS_MAX};
use sagamq_api::saga::{IncidentList, IncidentQuery};

/// Why incidents cannot be told.
#[derive(Clone, Debug, thiserror::Error)]
pub enum IncidentError {
    /// A parameter is out of range.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// A lane does not answer.
    #[error(transparent)]
    Lane(#[from] InstanceError),
}

impl Orchestrator {
    /// What is wrong now. All of it is durable.
    ///
    /// # Errors
    /// When a parameter is out of range, or a lane does not answer.
    pub async fn incidents(&self, query: IncidentQuery) -> Result<IncidentList, IncidentError> {
        let IncidentQuery { saga, limit } = query;
        let limit = limit.unwrap_or(PAGE_ROWS_DEFAULT);
        if !(1..=PAGE_ROWS_MAX).contains(&limit) {
            return Err(QueryError::Parameter(format!("`limit` is {limit}, allowed is 1 to {PAGE_ROWS_MAX}")).into());
        }
        let asked = self.0.lanes.iter().map(|lane| lane.ask(|reply| LaneInput::Troubles { saga: saga.clone(), reply }));
        let mut troubles = Troubles::default();
        for of_lane in join_all(asked).await {
            let of_lane: Result<Troubles, InstanceError> = of_lane;
            troubles.merge(of_lane?);
        }
        let instances = troubles.instances();
        let mut incidents = troubles.incidents(self.0.broker.clock().now_ms());
        let left_out = incidents.len().saturating_sub(limit as usize) as u64;
        incidents.truncate(limit as usize);
        Ok(IncidentList { incidents, instances, left_out, quarantined: self.0.quarantine.ids().len() as u64 })
    }
}

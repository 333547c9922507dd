//! What is still to be heard of the services' events, as the broker tells it.

use super::TrialError;
use crate::events::Teller;
use sagamq_api::schedule::ScheduleQuery;
use sagamq_sdk::Client;

/// Whether every group has handled every event, and none is to come later.
pub(super) async fn are_all_heard(client: &Client) -> Result<bool, TrialError> {
    for teller in Teller::ALL {
        let topic = teller.topic();
        let is_behind = client.groups(&topic).await?.groups.iter().any(|group| group.lag_records > 0);
        let one = ScheduleQuery { max_records: Some(1), ..ScheduleQuery::default() };
        if is_behind || !client.schedules(&topic, &one).await?.schedules.is_empty() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Events that nobody could handle.
pub(super) async fn dead_letters(client: &Client) -> Result<u64, TrialError> {
    let mut letters = 0;
    for teller in Teller::ALL {
        letters += client.groups(&teller.topic()).await?.groups.iter().map(|group| group.dead_letters).sum::<u64>();
    }
    Ok(letters)
}

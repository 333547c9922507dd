//! Histories, page after page.

use crate::client::Client;
use crate::error::ClientError;
use crate::transport::Request;
use sagamq_api::saga::{HistoryQuery, SagaHistory};

impl Client {
    /// Every event behind this path, oldest first.
    pub(crate) async fn whole_history(&self, path: String) -> Result<SagaHistory, ClientError> {
        let mut query = HistoryQuery::default();
        let mut history: Option<SagaHistory> = None;
        loop {
            let page: SagaHistory = self.json(Request::get(path.clone()).query(&query)?).await?;
            query.after = page.next;
            let whole = match history {
                None => page,
                Some(mut before) => {
                    before.events.extend(page.events);
                    before
                }
            };
            if query.after.is_none() {
                return Ok(SagaHistory { next: None, ..whole });
            }
            history = Some(whole);
        }
    }
}

//! What is asked of the services' side of two-phase commit: who is in doubt, and to hold a call where somebody is to be killed.

use super::TrialError;
use super::site::{PARTICIPANTS, Site};
use crate::service::branches::Prepared;
use crate::service::checkpoint::{Place, Seen};
use std::time::Duration;
use tokio::time::Instant;

/// Longest time until everything is decided. On a loaded machine slow is not wrong, but for ever is.
const LIMIT: Duration = Duration::from_secs(60);

/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(50);

/// The branches of one service that are prepared and have not heard the decision. Nothing while it does not answer.
pub(super) async fn in_doubt_at(site: &Site, service: &str) -> Option<Vec<Prepared>> {
    let answer = site.http().get(format!("{}/branches", site.url(service))).send().await.ok()?;
    answer.error_for_status().ok()?.json().await.ok()
}

/// Those of all services, or nothing while one does not answer.
pub(super) async fn in_doubt(site: &Site) -> Option<Vec<Prepared>> {
    let mut all = Vec::new();
    for service in PARTICIPANTS {
        all.extend(in_doubt_at(site, service).await?);
    }
    Some(all)
}

/// Returns when no service has a branch in doubt.
pub(super) async fn until_nobody_is_in_doubt(site: &Site) -> Result<(), TrialError> {
    let began = Instant::now();
    while in_doubt(site).await.is_none_or(|branches| !branches.is_empty()) {
        if began.elapsed() > LIMIT {
            return Err(TrialError::WrongAnswer(format!("branches are still in doubt {} s after the last order", LIMIT.as_secs())));
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

/// Has a call held at `service`.
pub(super) async fn hold(site: &Site, service: &str, place: &Place) -> Result<(), TrialError> {
    site.http().put(checkpoint(site, service)).json(place).send().await?.error_for_status()?;
    Ok(())
}

/// Returns when a call is held at `service`.
pub(super) async fn held(site: &Site, service: &str) -> Result<(), TrialError> {
    loop {
        let seen: Seen = site.http().get(checkpoint(site, service)).send().await?.error_for_status()?.json().await?;
        if seen.is_held {
            return Ok(());
        }
    }
}

/// Lets go who is held at `service`, and holds nobody any more.
pub(super) async fn let_go(site: &Site, service: &str) -> Result<(), TrialError> {
    site.http().delete(checkpoint(site, service)).send().await?.error_for_status()?;
    Ok(())
}

fn checkpoint(site: &Site, service: &str) -> String {
    format!("{}/checkpoint", site.url(service))
}

//! Kills with SIGKILL while orders are under way.

use super::TrialError;
use super::site::Site;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// A kill that is planned.
#[derive(Clone, Copy, Debug)]
pub(super) struct Strike {
    /// Who.
    pub(super) who: &'static str,
    /// When so many percent of the orders have ended.
    pub(super) at_percent: usize,
    /// How long it is left dead.
    pub(super) down: Duration,
}

/// One kill and what it took to recover.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kill {
    /// Who.
    pub(super) who: &'static str,
    /// When, after the first order.
    pub(super) at: Duration,
    /// How many orders had ended by then.
    pub(super) ended: usize,
    /// How long it was left dead.
    pub(super) down: Duration,
    /// From its start until it answered.
    pub(super) ready: Duration,
    /// From the kill until the next order ended.
    pub(super) next_order: Duration,
}

/// Kills one after the other as the orders go on, and tells `say` about it. While one is dead, `meanwhile` is done. Returns when all
/// have recovered.
pub(super) async fn run(
    site: &Site,
    orders: usize,
    strikes: &[Strike],
    meanwhile: impl AsyncFn() -> Result<(), TrialError>,
    mut progress: watch::Receiver<usize>,
    say: impl Fn(String),
) -> Result<Vec<Kill>, TrialError> {
    let began = Instant::now();
    let mut kills = Vec::new();
    for &Strike { who, at_percent, down } in strikes {
        reach(&mut progress, orders * at_percent / 100).await;
        let (at, killed) = (began.elapsed(), Instant::now());
        site.kill(who).await?;
        let ended = *progress.borrow();
        say(format!(
            "kill -9 {who}, {ended} of {orders} orders have ended{}",
            if down.is_zero() { "" } else { "; it stays down for a while" }
        ));
        // Not a wait for something to happen: the outage itself.
        tokio::time::sleep(down).await;
        meanwhile().await?;
        let before = *progress.borrow();
        let ready = site.restart(who).await?;
        say(format!("{who} is back: it answered {} ms after its start", ready.as_millis()));
        // When no orders are left there is nothing to wait for.
        reach(&mut progress, (before + 1).min(orders)).await;
        kills.push(Kill { who, at, ended, down, ready, next_order: killed.elapsed() });
    }
    Ok(kills)
}

/// Waits until so many orders have ended, or until no more will.
async fn reach(progress: &mut watch::Receiver<usize>, ended: usize) {
    // An error means that the traffic is over: then there is nothing to wait for either.
    let _ = progress.wait_for(|&now| now >= ended).await;
}

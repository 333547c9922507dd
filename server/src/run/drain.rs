//! Serves until there is a reason to end, and then ends everything in the right order.

use super::StartError;
use super::front::Front;
use super::parts::Parts;
use core::time::Duration;
use sagamq_cluster::node::Active;
use tokio_util::sync::CancellationToken;

/// How long requests may take to be answered when a part has died: what they wait for may never come.
const DEATH_GRACE: Duration = Duration::from_secs(2);

/// Ends when the server is to: it was told to, and those who stand by know of it.
async fn is_to_end(shutdown: &CancellationToken, active: Option<&Active>) {
    let Some(active) = active else { return shutdown.cancelled().await };
    tokio::select! {
        // An operator has said so over the log.
        () = active.is_to_end() => {}
        () = shutdown.cancelled() => active.announce().await,
    }
}

/// Serves until `shutdown`, the death of a part or the loss of the cluster's term, then drains: no new connections, what is under way is answered, then the parts end.
pub(super) async fn run(
    front: Front,
    parts: Parts,
    active: Option<Active>,
    grace: Duration,
    shutdown: CancellationToken,
) -> Result<(), StartError> {
    let Parts { application, broker, connections: metrics, .. } = &parts;
    let closing = &front.closing;
    let mut server = front.serve(application.clone(), metrics.clone(), closing.clone());
    let lost = async {
        match &active {
            Some(active) => active.lost().await,
            None => core::future::pending().await,
        }
    };
    let mut loss = None;
    let grace = tokio::select! {
        biased;
        reason = lost => {
            loss = Some(reason);
            grace.min(DEATH_GRACE)
        }
        () = broker.liveness().died() => grace.min(DEATH_GRACE),
        () = is_to_end(&shutdown, active.as_ref()) => grace,
        // It ends only when it is told to, which is looked at first, or by a panic.
        ended = &mut server => {
            parts.shutdown().await;
            return Err(StartError::Panicked(format!("the listener ended by itself: {ended:?}")));
        }
    };
    tracing::info!(grace_ms = grace.as_millis(), "draining");
    closing.cancel();
    let drained = async {
        // Long polls end, requests under way are answered, and only then what answers them ends.
        broker.begin_shutdown();
        let ended = (&mut server).await;
        parts.shutdown().await;
        ended
    };
    let drained = tokio::time::timeout(grace, drained).await;
    if let Some(active) = active {
        // Nobody is answered any more, so the next one need not wait, least of all for where traces and metrics go.
        active.end().await;
    }
    parts.flush().await;
    if let Some(reason) = loss {
        server.abort();
        return Err(StartError::SteppedDown(reason));
    }
    if let Some(death) = broker.liveness().death() {
        server.abort();
        return Err(StartError::PartDied(death.to_owned()));
    }
    match drained {
        Ok(Ok(())) => {
            tracing::info!("ended");
            Ok(())
        }
        Ok(Err(error)) => Err(StartError::Panicked(error.to_string())),
        Err(_) => {
            server.abort();
            Err(StartError::GraceElapsed(grace))
        }
    }
}

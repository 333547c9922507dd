//! The pump of a lane: hands it what others have sent, in the order of each, a page at a time.
//!
//! It belongs to the receiver, so a lane that is slow delays its own messages only. That a message is handed twice, or was handed to a lane
//! that could not take it, does no harm: the lane takes the next one of each sender only, and the pump goes on from what was taken.

use super::input::{LaneInput, WeakLane};
use core::time::Duration;
use sagamq_broker::{Inbox, PartGuard};
use std::collections::BTreeMap;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Bytes of messages of one sender that are handed over and not taken.
const PAGE_BYTES: usize = 256 * 1024;

/// How long nothing is taken of what was handed over, until it is handed over again.
const AGAIN: Duration = Duration::from_secs(2);

/// What was handed over of one sender.
struct Handed {
    /// The last one.
    through: u64,
    /// What was taken when it was looked at last, and when that had changed.
    taken: u64,
    since: Instant,
}

/// Hands messages to the lane until the shutdown.
pub(in crate::orchestrator) async fn pump(inbox: Inbox, lane: WeakLane, shutdown: CancellationToken, life: PartGuard) {
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = hand_over(inbox, &lane) => {}
    }
    life.ended();
}

async fn hand_over(mut inbox: Inbox, lane: &WeakLane) {
    let mut handed: BTreeMap<u16, Handed> = BTreeMap::new();
    loop {
        let waiting: Vec<u16> = inbox.waiting().map(|(from, _)| from).collect();
        handed.retain(|from, _| waiting.contains(from));
        for from in waiting {
            let (taken, now) = (inbox.taken(from), Instant::now());
            if let Some(page) = handed.get_mut(&from) {
                if page.taken < taken {
                    (page.taken, page.since) = (taken, now);
                }
                if taken < page.through && page.since.elapsed() < AGAIN {
                    continue;
                }
            }
            let messages = match inbox.read(from, taken, PAGE_BYTES) {
                Ok(messages) => messages,
                Err(error) => {
                    tracing::error!(from, %error, "messages of another lane cannot be read");
                    Vec::new()
                }
            };
            handed.insert(from, Handed { through: messages.last().map_or(u64::MAX, |last| last.sequence), taken, since: now });
            for message in messages {
                if !lane.tell(LaneInput::Message(message)).await {
                    return;
                }
            }
        }
        // Nobody rings for what is to be handed over again.
        tokio::select! {
            () = inbox.changed() => {}
            () = tokio::time::sleep(AGAIN), if !handed.is_empty() => {}
        }
    }
}

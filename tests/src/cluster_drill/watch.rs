//! [`Watch`]: which node serves, asked of each of them all the time, as a load balancer does.

use super::crew::Crew;
use super::ground::NODES;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// How often each node is asked.
const EVERY: Duration = Duration::from_millis(25);

/// How long it may take to answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// Asks until it is dropped.
#[derive(Debug)]
pub(super) struct Watch {
    ready: watch::Receiver<[bool; NODES.len()]>,
    _tasks: JoinSet<()>,
}

impl Watch {
    pub(super) fn begin(crew: &Arc<Crew>) -> Self {
        let (sender, ready) = watch::channel([false; NODES.len()]);
        let mut tasks = JoinSet::new();
        let http = reqwest::Client::builder().no_proxy().timeout(PATIENCE).pool_max_idle_per_host(0).build().expect("a client");
        for node in 0..NODES.len() {
            let (http, sender, url) = (http.clone(), sender.clone(), format!("{}/readyz", crew.ground.url(node)));
            tasks.spawn(async move {
                loop {
                    let is_ready = http.get(&url).send().await.is_ok_and(|answer| answer.status() == 200);
                    sender.send_if_modified(|ready| std::mem::replace(&mut ready[node], is_ready) != is_ready);
                    tokio::time::sleep(EVERY).await;
                }
            });
        }
        Self { ready, _tasks: tasks }
    }

    /// The node that serves, if one does.
    pub(super) fn active(&self) -> Option<usize> {
        self.ready.borrow().iter().position(|ready| *ready)
    }

    /// Waits until a node serves, other than this one; none if that takes longer than `at_most`.
    pub(super) async fn until_active(&self, but: Option<usize>, at_most: Duration) -> Option<usize> {
        let mut ready = self.ready.clone();
        let found = |ready: &[bool; NODES.len()]| (0..NODES.len()).find(|node| ready[*node] && Some(*node) != but);
        let waited = tokio::time::timeout(at_most, ready.wait_for(|ready| found(ready).is_some())).await;
        found(&*waited.ok()?.ok()?)
    }

    /// Waits until this node does not serve; false if that takes longer than `at_most`.
    pub(super) async fn until_gone(&self, node: usize, at_most: Duration) -> bool {
        let mut ready = self.ready.clone();
        matches!(tokio::time::timeout(at_most, ready.wait_for(|ready| !ready[node])).await, Ok(Ok(_)))
    }

    /// How long it takes until another node than this one serves, from `began`.
    pub(super) async fn takeover(&self, from: usize, began: Instant, at_most: Duration) -> Option<(usize, Duration)> {
        let node = self.until_active(Some(from), at_most).await?;
        Some((node, began.elapsed()))
    }
}

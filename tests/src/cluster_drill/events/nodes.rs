//! What happens to nodes: they die, stand still, and are told to end.

use super::{Broken, PATIENCE, Scene};
use crate::cluster_drill::ground::NODES;
use crate::cluster_drill::load::late;
use crate::cluster_drill::plan::Event;
use crate::cluster_drill::wrong::Wrong;
use std::mem;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Records that are sent to a node that stands still.
const LATE: usize = 8;

/// A node that goes on behind a takeover finds out at once, or as soon as the log answers it.
const FINDS_OUT: Duration = Duration::from_secs(60);

impl Scene<'_> {
    /// The active node is killed. Every third time it is started again at once, else when another one has taken over.
    pub(super) async fn kill(&mut self) -> Result<(), Broken> {
        let active = self.active().await?;
        let began = Instant::now();
        self.crew.kill(active);
        if self.played(Event::Kill) % 3 == 2 {
            self.watch.until_gone(active, PATIENCE).await;
            self.crew.begin(active);
            // It need not wait: it has its directory, and knows that whoever had it has ended. So this is no takeover.
            self.active().await?;
            eprintln!("  started again at once, and one serves after {:.1} s", began.elapsed().as_secs_f64());
            self.findings.occurred("killed and started again at once");
            return Ok(());
        }
        self.taken_over(active, began).await?;
        self.crew.begin(active);
        Ok(())
    }

    /// The active node stands still, and goes on. What was sent to it meanwhile finds it then.
    pub(super) async fn pause(&mut self) -> Result<(), Broken> {
        let active = self.active().await?;
        let [from, to] = self.options.pause;
        let pause = self.time_between(from, to);
        let said = self.crew.said(active);
        self.crew.pause(active).await;
        let began = Instant::now();
        let mut late_ones = JoinSet::new();
        for number in 0..LATE {
            let value = format!("late-{}-{number}", self.random.next_u64());
            late_ones.spawn(late(Arc::clone(&self.load.shared), active, value));
        }
        // Nobody takes over from one that is back soon.
        let is_long = pause > self.options.times.claim_after + Duration::from_secs(1);
        let taken = if is_long { Some(self.taken_over(active, began).await?) } else { None };
        tokio::time::sleep(pause.saturating_sub(began.elapsed())).await;
        self.crew.go_on(active);
        while late_ones.join_next().await.is_some() {}
        if let Some(by) = taken {
            let name = NODES[active];
            let stepped_down = async {
                while !self.crew.says_behind(active, said).contains("not the active one any more") {
                    tokio::time::sleep(super::LOOK).await;
                }
            };
            if tokio::time::timeout(FINDS_OUT, stepped_down).await.is_err() {
                let by = NODES[by];
                self.findings.wrong(Wrong::Other(format!("node {name} went on behind the takeover by {by}, and did not step down")));
            }
            self.findings.occurred("paused, replaced and back");
        }
        Ok(())
    }

    /// Each node in turn is told to end, and started again: the active one last, as who updates nodes does.
    pub(super) async fn roll(&mut self) -> Result<(), Broken> {
        for node in self.active_last().await? {
            self.restart(node).await?;
        }
        Ok(())
    }

    /// The same, and each node is started with the binary of the drill, where it was another one before. When the first one is replaced, the active one is
    /// killed, as it may die at any time: whichever version takes over, it has what the other one has acknowledged.
    pub(super) async fn upgrade(&mut self) -> Result<(), Broken> {
        let (mut left, mut is_first) = (self.active_last().await?, true);
        while !left.is_empty() {
            let node = left.remove(0);
            self.crew.ground.upgrade(node);
            self.restart(node).await?;
            self.findings.occurred("node replaced by one of the other version");
            if mem::take(&mut is_first) {
                let active = self.active().await?;
                let began = Instant::now();
                self.crew.kill(active);
                let by = self.taken_over(active, began).await?;
                self.crew.begin(active);
                self.answers(active).await?;
                self.caught_up(active).await?;
                let version = if left.contains(&by) { "older" } else { "newer" };
                self.findings.occurred(format!("takeover by the {version} version while both run"));
                // Whoever serves now is the last one.
                left.retain(|node| *node != by);
                if version == "older" {
                    left.push(by);
                }
            }
        }
        Ok(())
    }

    /// All nodes, the active one last.
    async fn active_last(&self) -> Result<Vec<usize>, Broken> {
        let active = self.active().await?;
        Ok((0..NODES.len()).filter(|node| *node != active).chain([active]).collect())
    }

    /// Tells a node to end, and starts it again.
    async fn restart(&mut self, node: usize) -> Result<(), Broken> {
        if self.watch.active() == Some(node) {
            self.hand_over(node).await?;
        } else {
            self.told_to_end(node).await;
        }
        self.crew.begin(node);
        self.answers(node).await?;
        self.caught_up(node).await
    }
}

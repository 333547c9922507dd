//! What happens to the cluster. Each event ends when all nodes are well again, and says how long takeovers took.

mod log;
mod nodes;
mod side;
mod ways;

use super::crew::Crew;
use super::ground::NODES;
use super::load::Load;
use super::options::Options;
use super::plan::{Event, below};
use super::watch::Watch;
use super::wrong::{Findings, Wrong};
use sagamq_broker::env::Random;
use sagamq_cluster::Cluster;
use sagamq_cluster::node::Status;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long the cluster may take to be well again: far beyond what is needed, so that only what hangs meets it.
const PATIENCE: Duration = Duration::from_secs(180);

const LOOK: Duration = Duration::from_millis(100);

/// Why a run cannot go on.
pub(super) type Broken = String;

/// Everything that an event has to do with.
pub(super) struct Scene<'d> {
    pub(super) crew: &'d Arc<Crew>,
    pub(super) watch: &'d Watch,
    pub(super) load: &'d Load,
    pub(super) options: &'d Options,
    pub(super) findings: Findings,
    pub(super) random: Random,
    /// How long takeovers took.
    pub(super) takeovers: Vec<Duration>,
}

impl Scene<'_> {
    /// Lets it happen, and waits until all is well again.
    ///
    /// # Errors
    /// [`Broken`].
    pub(super) async fn play(&mut self, event: Event) -> Result<(), Broken> {
        match event {
            Event::Kill => self.kill().await?,
            Event::Pause => self.pause().await?,
            Event::Roll => self.roll().await?,
            Event::CutFromLog => self.cut_from_log().await?,
            Event::CutFromPeers => self.cut_from_peers().await?,
            Event::LogFaults => self.log_faults().await?,
            Event::Trim => self.trim().await?,
            Event::LoseDisk => self.lose_disk().await?,
            Event::LoseLog => self.lose_log().await?,
            Event::Newer => self.newer().await?,
            Event::Upgrade => self.upgrade().await?,
        }
        self.all_well().await?;
        self.crew.may_fail(false);
        self.findings.occurred(event.name());
        Ok(())
    }

    /// How often an event has happened by now. Whoever has a few ways takes them in turn, so that each is shown.
    fn played(&self, event: Event) -> usize {
        self.findings.occurrences().get(event.name()).map_or(0, |times| usize::try_from(*times).unwrap_or_default())
    }

    /// The node that serves.
    async fn active(&self) -> Result<usize, Broken> {
        self.watch.until_active(None, PATIENCE).await.ok_or_else(|| format!("no node serves for {} s", PATIENCE.as_secs()))
    }

    /// One that stands by, by chance.
    async fn standby(&mut self) -> Result<usize, Broken> {
        let active = self.active().await?;
        let others: Vec<usize> = (0..NODES.len()).filter(|node| *node != active).collect();
        Ok(others[below(&mut self.random, others.len())])
    }

    fn time_between(&mut self, from: Duration, to: Duration) -> Duration {
        from + to.saturating_sub(from).mul_f64(self.random.fraction())
    }

    /// Another node than this one takes over; says which.
    async fn taken_over(&mut self, from: usize, began: Instant) -> Result<usize, Broken> {
        let Some((node, took)) = self.watch.takeover(from, began, PATIENCE).await else {
            return Err(format!("nobody took over from node {} within {} s", NODES[from], PATIENCE.as_secs()));
        };
        self.note(took);
        Ok(node)
    }

    /// A takeover took so long.
    fn note(&mut self, took: Duration) {
        self.takeovers.push(took);
        if took > self.options.takeover_max {
            let most = self.options.takeover_max.as_secs_f64();
            self.findings.wrong(Wrong::Other(format!("a takeover took {:.1} s, and {most:.1} s are allowed", took.as_secs_f64())));
        }
    }

    /// Waits until something is so.
    async fn until(&self, what: &str, mut is_so: impl AsyncFnMut() -> bool) -> Result<(), Broken> {
        let began = Instant::now();
        while !is_so().await {
            if began.elapsed() > PATIENCE {
                return Err(format!("{what}: not after {} s", PATIENCE.as_secs()));
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// A node answers, whatever it is.
    async fn answers(&self, node: usize) -> Result<(), Broken> {
        let client = &self.load.shared.direct[node];
        self.until(&format!("node {} answers", NODES[node]), async || {
            matches!(tokio::time::timeout(LOOK * 20, client.health()).await, Ok(Ok(())))
        })
        .await
    }

    /// All nodes answer, one serves, and what is produced is acknowledged.
    pub(super) async fn all_well(&self) -> Result<(), Broken> {
        for node in 0..NODES.len() {
            self.answers(node).await?;
        }
        self.active().await?;
        let enough = self.load.acknowledged() + 20;
        self.until("records are acknowledged", async || self.load.acknowledged() >= enough).await
    }

    /// How it stands, as the log says; the drill has its own way to it.
    async fn status(&self) -> Result<Status, Broken> {
        let log = self.cluster()?.log;
        Status::read(log).await.map_err(|error| format!("the log cannot be read: {error}"))
    }

    fn cluster(&self) -> Result<Cluster, Broken> {
        Cluster::open(&self.crew.ground.log).map_err(|error| error.to_string())
    }

    /// Waits until a node that stands by has folded all that was in the log a moment ago.
    async fn caught_up(&self, node: usize) -> Result<(), Broken> {
        let wanted: Vec<u64> = self.status().await?.shards.iter().map(|bounds| bounds.last.0).collect();
        self.until(&format!("node {} has caught up", NODES[node]), async || self.has_folded(node, &wanted).await).await
    }

    async fn has_folded(&self, node: usize, wanted: &[u64]) -> bool {
        let Ok(status) = self.status().await else { return false };
        // The active one has what it has written.
        let is_active =
            status.members.holder().is_some_and(|holder| holder.process.node == NODES[node] && holder.is_active && !holder.has_resigned);
        let known = status.members.nodes().get(NODES[node]);
        is_active
            || known.is_some_and(|known| {
                known.positions.len() == wanted.len() && known.positions.iter().zip(wanted).all(|(at, wanted)| at >= wanted)
            })
    }

    /// Tells a node to end, and waits until it has.
    async fn told_to_end(&self, node: usize) {
        let status = self.crew.terminate(node).await;
        if !status.success() {
            self.findings.wrong(Wrong::Other(format!("node {} was told to end, and ended with {status}", NODES[node])));
        }
    }

    /// Tells the active node to end. It serves on until those who stand by know, so what counts is how long nobody serves.
    async fn hand_over(&mut self, node: usize) -> Result<(), Broken> {
        let (watch, nobody) = (self.watch, format!("nobody took over from node {}, which was told to end", NODES[node]));
        let taken_over = async {
            watch.until_gone(node, PATIENCE).await;
            watch.takeover(node, Instant::now(), PATIENCE).await
        };
        let ((), taken_over) = tokio::join!(self.told_to_end(node), taken_over);
        let (_, took) = taken_over.ok_or(nobody)?;
        self.note(took);
        self.findings.occurred("node handed over when it was told to end");
        Ok(())
    }

    /// Makes a node the active one, by telling the others to end.
    async fn hand_over_to(&mut self, node: usize) -> Result<(), Broken> {
        let others: Vec<usize> = (0..NODES.len()).filter(|other| *other != node).collect();
        let active = self.active().await?;
        // Those that stand by first, so that this one alone can take over.
        for other in others.iter().copied().filter(|other| *other != active) {
            self.told_to_end(other).await;
        }
        if active != node {
            self.hand_over(active).await?;
        }
        let now = self.active().await?;
        if now != node {
            return Err(format!("node {} serves, and it was told to end", NODES[now]));
        }
        others.into_iter().for_each(|other| self.crew.begin(other));
        Ok(())
    }
}

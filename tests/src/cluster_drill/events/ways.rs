//! What happens on the way between nodes and the log, and between nodes.

use super::{Broken, Scene};
use crate::cluster_drill::ground::NODES;
use crate::cluster_drill::network::Network;
use crate::cluster_drill::plan::Event;
use crate::cluster_drill::weather::{Way, Weather};
use crate::cluster_drill::wrong::Wrong;
use std::time::Duration;
use tokio::time::Instant;

/// How long a node stays cut off when another one has taken over: from, to.
const CUT: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(15)];

/// How long the weather is bad: from, to.
const STORM: [Duration; 2] = [Duration::from_secs(12), Duration::from_secs(30)];

/// How a node is cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    /// What it sends to the log is held up.
    Silent,
    /// Its connections to the log break off.
    Refused,
    /// Its cable is pulled: nobody reaches it any more.
    Unplugged,
}

impl Scene<'_> {
    /// The active node does not reach the log: it says 503 with the reason, and another one takes over.
    pub(super) async fn cut_from_log(&mut self) -> Result<(), Broken> {
        let active = self.active().await?;
        let ways: &[Cut] =
            if self.crew.ground.network.is_some() { &[Cut::Silent, Cut::Refused, Cut::Unplugged] } else { &[Cut::Silent, Cut::Refused] };
        let cut = ways[self.played(Event::CutFromLog) % ways.len()];
        self.crew.may_fail(true);
        let began = Instant::now();
        self.cut(active, cut, true)?;
        self.findings.occurred(format!("cut off from the log: {cut:?}"));
        if cut != Cut::Unplugged {
            self.refuses(active, began).await?;
        }
        self.taken_over(active, began).await?;
        let more = self.time_between(CUT[0], CUT[1]);
        tokio::time::sleep(more).await;
        self.cut(active, cut, false)
    }

    fn cut(&self, node: usize, cut: Cut, is_cut: bool) -> Result<(), Broken> {
        let way = match cut {
            Cut::Silent => Way::Silent,
            Cut::Refused => Way::Refused,
            Cut::Unplugged => return self.network()?.plug(node, !is_cut),
        };
        self.crew.ground.forwarders[node].set(if is_cut { Weather::shut(way) } else { Weather::default() });
        Ok(())
    }

    fn network(&self) -> Result<&Network, Broken> {
        self.crew.ground.network.as_ref().ok_or_else(|| "there are no namespaces".to_owned())
    }

    /// The node refuses requests when its lease is over, and says why.
    async fn refuses(&self, node: usize, began: Instant) -> Result<(), Broken> {
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(1)).build().map_err(|error| error.to_string())?;
        let url = format!("{}/v1/topics", self.crew.ground.url(node));
        let most = self.options.times.lease + Duration::from_secs(2);
        loop {
            let asked = Instant::now();
            match http.get(&url).send().await {
                Ok(answer) if answer.status() == 503 => {
                    let says = answer.text().await.unwrap_or_default();
                    let has_reason = ["STANDBY", "LEASE_LOST"].iter().any(|code| says.contains(code)) && says.contains("\"detail\"");
                    if !has_reason {
                        self.findings.wrong(Wrong::Other(format!(
                            "node {} is cut off from the log, and says 503 without the reason: {says}",
                            NODES[node]
                        )));
                    }
                    self.findings.occurred("503 with the reason of a node that is cut off");
                    return Ok(());
                }
                // Within the lease it may answer.
                Ok(answer) if asked.duration_since(began) > most => {
                    let what =
                        format!("node {} answers {} {:?} after it was cut off from the log", NODES[node], answer.status(), began.elapsed());
                    self.findings.wrong(Wrong::Stale(what));
                    return Ok(());
                }
                Ok(_) => {}
                Err(_) if asked.duration_since(began) > most * 2 => {
                    self.findings.occurred("no answer of a node that is cut off");
                    return Ok(());
                }
                Err(_) => {}
            }
            tokio::time::sleep(super::LOOK).await;
        }
    }

    /// The nodes do not reach each other, and everybody else does: nothing happens, because they do not talk to each other.
    pub(super) async fn cut_from_peers(&mut self) -> Result<(), Broken> {
        let active = self.active().await?;
        self.isolate(true).await?;
        let began = Instant::now();
        let long = self.options.times.claim_after * 2;
        let mut is_as_ever = true;
        while began.elapsed() < long {
            // A node that is busy may answer late, and nobody may answer in its place.
            is_as_ever &= self.watch.active().is_none_or(|node| node == active);
            tokio::time::sleep(super::LOOK).await;
        }
        is_as_ever &= self.active().await? == active;
        self.isolate(false).await?;
        if !is_as_ever {
            self.findings
                .wrong(Wrong::Other(format!("node {} did not stay active when it was cut off from the other nodes alone", NODES[active])));
        }
        Ok(())
    }

    /// Does it. Where they never reached each other it would show nothing.
    async fn isolate(&self, is_isolated: bool) -> Result<(), Broken> {
        if is_isolated {
            self.reach_each_other(true).await?;
        }
        self.network()?.isolate(is_isolated)?;
        self.reach_each_other(!is_isolated).await
    }

    /// Asks the nodes' systems until it is so: a node that has stepped down by itself listens again soon.
    async fn reach_each_other(&self, do_they: bool) -> Result<(), Broken> {
        let network = self.network()?;
        // A container engine leaves the system's firewall so, bridges included.
        let word =
            if do_they { "reaches (unless a firewall drops what is forwarded: `iptables -P FORWARD ACCEPT`)" } else { "does not reach" };
        for (from, name) in NODES.iter().enumerate() {
            for (to, other) in NODES.iter().enumerate().filter(|(to, _)| *to != from) {
                self.until(&format!("node {name} {word} node {other}"), async || network.reaches(from, to) == do_they).await?;
            }
        }
        Ok(())
    }

    /// The log answers slowly, twice, late or not at all: to the active node, or to all.
    pub(super) async fn log_faults(&mut self) -> Result<(), Broken> {
        let active = self.active().await?;
        let is_for_all = self.random.fraction() < 0.5;
        let long = self.time_between(STORM[0], STORM[1]);
        self.crew.may_fail(true);
        for (node, forwarder) in self.crew.ground.forwarders.iter().enumerate() {
            if is_for_all || node == active {
                forwarder.set(Weather::STORM);
            }
        }
        tokio::time::sleep(long).await;
        for forwarder in &self.crew.ground.forwarders {
            forwarder.set(Weather::default());
        }
        Ok(())
    }
}

//! A cluster of three nodes under load, to which everything happens that it is made for: nodes that die, stand still, lose their disks or each other, a log
//! that cannot be reached, forgets, doubles, delays, or is another one. Whatever was acknowledged is there in the end, once, and nobody was told what
//! was not true any more.
//!
//! `plan.rs` draws the events from a seed, `events/` lets them happen, `load/` is what goes on meanwhile, and `audit.rs` says what must hold.
//! Nodes are processes (`crew.rs`), each in a network namespace of its own (`network.rs`), with a forwarder between each and the log's server
//! (`forwarder.rs`, `weather.rs`). The sagas of every kind of step are those of [`crate::kinds`], with their services, books and audit.

mod audit;
mod crew;
mod events;
mod forwarder;
mod ground;
mod load;
mod network;
mod options;
mod plan;
mod report;
mod watch;
mod weather;
mod wrong;

pub use options::{LogPlace, Options, Times};
pub use plan::{Event, Step, draw};
pub use report::{Outcome, Run};
pub use wrong::Wrong;

use crate::kinds;
use crew::Crew;
use events::{Broken, Scene};
use futures_util::FutureExt as _;
use ground::Ground;
use load::{Load, Sale};
use sagamq_broker::env::Random;
use sagamq_sdk::{CancellationToken, Client, ClientError};
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use watch::Watch;
use wrong::Findings;

/// How long the nodes may take to make a cluster.
const BEGIN: Duration = Duration::from_secs(120);

/// A service of the sagas with every kind of step is killed so often.
const KILL_SERVICES: Duration = Duration::from_secs(15);

/// Runs the drill. `program` is what has the services of [`kinds`], see [`kinds::run`]. Progress goes to stderr. When `ends` is cancelled, no further event
/// happens, and what has happened by then is audited.
///
/// # Errors
/// Why it cannot be run here.
///
/// # Panics
/// When the machine does not give what every test needs: a folder, ports, processes.
pub async fn run(program: &Path, options: &Options, ends: &CancellationToken) -> Result<Outcome, String> {
    let own = tempfile::Builder::new().prefix("sagamq-cluster-").tempdir().expect("a folder");
    let folder = options.folder.as_deref().unwrap_or(own.path());
    std::fs::create_dir_all(folder).map_err(|error| format!("{} cannot be made: {error}", folder.display()))?;
    let findings = Findings::default();
    let ground = Ground::prepare(options, folder, &findings).await?;
    let began = Instant::now();
    let (crew, looks_after) = Crew::start(ground, findings.clone());
    let watch = Watch::begin(&crew);
    let mut runs = Vec::new();
    let parts = Parts { program, options, ends, crew: &crew, watch: &watch, findings: &findings };
    if let Err(why) = play(&parts, &mut runs).await {
        findings.wrong(Wrong::Other(why));
    }
    looks_after.abort();
    findings.all_wrong(crew.panics());
    crew.kill_all();
    Ok(Outcome { runs, wrong: findings.list(), occurred: findings.occurrences(), took: began.elapsed() })
}

/// What all parts of a run have.
struct Parts<'d> {
    program: &'d Path,
    options: &'d Options,
    ends: &'d CancellationToken,
    crew: &'d Arc<Crew>,
    watch: &'d Watch,
    findings: &'d Findings,
}

/// Lets everything happen, while sagas with every kind of step go on.
async fn play(parts: &Parts<'_>, runs: &mut Vec<Run>) -> Result<(), Broken> {
    let Parts { crew, watch, options, findings, .. } = parts;
    let nobody = || format!("no node serves: {}", crew.says(0));
    watch.until_active(None, BEGIN).await.ok_or_else(nobody)?;
    let load = Load::begin(crew, (*findings).clone()).await.map_err(|error| failed(&error))?;
    let books = crew.ground.beside("office");
    let sale = Sale::begin(Arc::clone(&load.shared), crew.ground.host(), &books, options.tickets, options.seed)
        .await
        .map_err(|error| failed(&error))?;
    let stop = CancellationToken::new();
    let all = async {
        let load = steps(parts, load, &sale, runs).await?;
        stop.cancel();
        Ok::<_, Broken>(load)
    };
    let sagas = async {
        let sagas = AssertUnwindSafe(kinds_until(parts, &stop)).catch_unwind().await;
        sagas.map_err(|_| "the drill of the sagas with every kind of step panicked".to_owned())
    };
    // What breaks ends both.
    let (load, sagas) = futures_util::future::try_join(all, sagas).await?;
    if let Some(outcome) = sagas {
        findings.all_wrong(outcome.wrong.into_iter().map(|what| Wrong::Other(format!("saga with every kind of step: {what}"))));
        outcome.occurred.into_iter().for_each(|(what, times)| findings.add(format!("kinds: {what}"), times));
    }
    sale.settle().await.map_err(|error| failed(&error))?;
    load.settle().await.map_err(|error| failed(&error))?;
    Ok(())
}

fn failed(error: &ClientError) -> Broken {
    error.to_string()
}

/// One event after the other.
async fn steps(parts: &Parts<'_>, mut load: Load, sale: &Sale, runs: &mut Vec<Run>) -> Result<Load, Broken> {
    let Parts { crew, watch, options, findings, ends, .. } = parts;
    let steps = draw(&options.possible(), options.runs, options.seed);
    let wanted = options.tickets.saturating_mul(2);
    for (number, step) in (1_u32..).zip(&steps) {
        // Twice as many as there are tickets, spread over all events.
        let share = |number: u32| u32::try_from(u64::from(wanted) * u64::from(number) / steps.len() as u64).unwrap_or(u32::MAX);
        sale.offer(share(number) - share(number - 1));
        if ends.run_until_cancelled(tokio::time::sleep(options.calm)).await.is_none() {
            break;
        }
        let before = load.acknowledged();
        load.listen();
        let (event, random) = (step.event, Random::from_seed(step.seed));
        eprintln!("run {number} of {}: {}", steps.len(), event.name());
        let mut scene = Scene { crew, watch, load: &load, options, findings: (*findings).clone(), random, takeovers: Vec::new() };
        scene.play(event).await.map_err(|why| format!("run {number}, {}: {why}", event.name()))?;
        let takeovers = scene.takeovers;
        if !sale.is_served().await {
            return Err(format!("run {number}, {}: not all who wanted tickets were served", event.name()));
        }
        load.look().await.map_err(|error| failed(&error))?;
        let run = Run { event, takeovers, gap: load.longest_gap(), records: load.acknowledged() - before };
        let takeovers: Vec<String> = run.takeovers.iter().map(|took| format!("{:.1}", took.as_secs_f64())).collect();
        eprintln!(
            "  takeovers {} s; nothing acknowledged for {:.1} s; {} records, {} who wanted tickets; {} wrong so far",
            takeovers.join(", "),
            run.gap.as_secs_f64(),
            run.records,
            sale.served(),
            findings.list().len()
        );
        runs.push(run);
    }
    Ok(load)
}

/// Sagas with every kind of step go on until they are told to stop.
async fn kinds_until(parts: &Parts<'_>, stop: &CancellationToken) -> Option<kinds::Outcome> {
    let Parts { crew, options, program, .. } = parts;
    if options.kinds == 0 {
        return None;
    }
    let url = crew.ground.urls();
    let client = Client::builder(&url).request_timeout(Duration::from_secs(5)).build().expect("legal URLs");
    let plan = kinds::Plan { sagas: 1_000_000, in_flight: options.kinds, every: KILL_SERVICES, kills: u32::MAX, seed: options.seed };
    let site = kinds::Site { client, url, at: crew.ground.host(), stop: stop.clone() };
    Some(kinds::run_on(program, plan, site).await)
}

//! Sagas with every kind of step, under SIGKILL of the broker and of the services: at the end each is at its end or blocked for a reason, and the books
//! balance with it, effect by effect.
//!
//! `definition.yaml` is what runs; `order.rs` what is drawn for each saga; `service.rs` the participants, each a process with books on disk (`books.rs`)
//! that refuses, hangs, fails and loses replies; `fence.rs` what they know of locks; `crew.rs` kills them; `traffic.rs` runs a saga with its signals;
//! `operator.rs` takes locks away; `progress.rs` tells how far it is. `audit.rs` says what must hold of a saga, `items.rs` of its items, and `locks.rs` of the locks of all.

mod audit;
mod books;
mod crew;
mod fence;
mod items;
mod locks;
mod operator;
mod order;
mod progress;
mod service;
#[cfg(test)]
mod tests;
mod traffic;

pub(crate) use service::drawn;

use crate::ServerProcess;
use crate::server::free_address_at;
use audit::{Case, Occurred, Told};
use books::Books;
use crew::Service;
use futures_util::{StreamExt as _, TryStreamExt as _};
use locks::Holds;
use order::Order;
use progress::Progress;
use sagamq_api::topic::ReadQuery;
use sagamq_api::{Offset, TopicName};
use sagamq_broker::env::Random;
use sagamq_sdk::api::saga::LockQuery;
use sagamq_sdk::{CancellationToken, Client, ClientError, HandlerError, RetryPolicy};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use traffic::Run;
use uuid::Uuid;

/// The saga.
const SAGA: &str = "kinds";

/// Where its steps tell what they did.
const TOLD: &str = "kinds-told";

/// What runs, the sub-saga first.
const DEFINITIONS: [&str; 2] = [include_str!("parcel.yaml"), include_str!("definition.yaml")];

/// How long a client waits for a server that was killed.
const PATIENCE: Duration = Duration::from_secs(600);

/// How long it may take until what ended has let its locks go.
const LET_GO: Duration = Duration::from_secs(60);

/// How many sagas the audit asks for at a time.
const ASKED: usize = 16;

/// What is done.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Sagas.
    pub sagas: u64,
    /// Sagas at a time.
    pub in_flight: usize,
    /// A process is killed so often: the broker, and the services in turn.
    pub every: Duration,
    /// Kills, at most.
    pub kills: u32,
    /// The same seed makes the same choices.
    pub seed: u64,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What must not be; nothing if all is well.
    pub wrong: Vec<String>,
    /// What occurred, and how often.
    pub occurred: Occurred,
    /// How long the sagas took.
    pub took: Duration,
}

impl Outcome {
    /// What occurred as a table in Markdown.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = "| what occurred | times |\n|---|---:|\n".to_owned();
        for (what, times) in &self.occurred {
            writeln!(text, "| {what} | {times} |").expect("a string takes it");
        }
        text
    }

    /// Of these what never occurred: then nothing was shown about it.
    #[must_use]
    pub fn missing<'w>(&self, what: &[&'w str]) -> Vec<&'w str> {
        what.iter().copied().filter(|what| self.occurred.get(*what).is_none_or(|times| *times == 0)).collect()
    }
}

/// A participant in a process of its own: see [`run`].
///
/// # Errors
/// What the broker refuses for good, and what the disk and the network say.
pub async fn serve(service: &str, url: &str, folder: &Path, address: SocketAddr, seed: u64) -> Result<(), HandlerError> {
    service::serve(service, url, folder, address, seed).await
}

/// Runs it. `program` is started as `program service NAME URL FOLDER ADDRESS SEED` and calls [`serve`] then. Progress goes to stderr.
///
/// # Panics
/// When the server cannot be started, or answers what it must not.
pub async fn run(program: &Path, plan: Plan) -> Outcome {
    let mut server = ServerProcess::start().await;
    let site = Site { client: server.client(), url: server.url(), at: IpAddr::V4(Ipv4Addr::LOCALHOST), stop: CancellationToken::new() };
    work(program, plan, site, Some(&mut server)).await
}

/// A broker that somebody else runs, and for how long sagas are started there.
#[derive(Clone, Debug)]
pub struct Site {
    /// Whom the drill asks.
    pub client: Client,
    /// How the services reach the broker.
    pub url: String,
    /// Where the broker reaches the services.
    pub at: IpAddr,
    /// Cancelled when no saga is started any more.
    pub stop: CancellationToken,
}

/// As [`run`], on a broker that is not killed from here: only the services are.
///
/// # Panics
/// When the broker answers what it must not.
pub async fn run_on(program: &Path, plan: Plan, site: Site) -> Outcome {
    work(program, plan, site, None).await
}

async fn work(program: &Path, plan: Plan, site: Site, server: Option<&mut ServerProcess>) -> Outcome {
    let folder = tempfile::Builder::new().prefix("sagamq-kinds-").tempdir().expect("a folder");
    let client = site.client.with_retry(RetryPolicy { attempts: 10_000, deadline: PATIENCE, ..*site.client.retry_policy() });
    let [stock, bank] = [(); 2].map(|()| free_address_at(site.at));
    for definition in DEFINITIONS {
        let definition = definition.replace("\"BANK\"", &format!("\"http://{bank}\""));
        client.sagas().publish(&definition).await.expect("the definition is right");
    }
    let service = |name: &'static str, address| {
        Service::start(name, program.to_owned(), site.url.clone(), folder.path().join(name), address, plan.seed)
    };
    let mut services = [service("stock", stock), service("bank", bank)];
    let mut random = Random::from_seed(plan.seed);
    let stop = &site.stop;
    let orders = (0..plan.sagas).take_while(|_| !stop.is_cancelled()).map(move |number| Order::draw(number, &mut random));
    let began = Instant::now();
    let (ended, over) = watch::channel(false);
    let (progress, until) = (Progress::new(plan.sagas), over.clone());
    let traffic = async {
        let runs = futures_util::stream::iter(orders).map(|order| traffic::run(client.sagas(), order, &progress));
        let runs: Vec<Run> =
            runs.buffer_unordered(plan.in_flight).try_collect().await.expect("the server takes it, at the latest when it is back");
        let late = futures_util::stream::iter(runs).map(|run| traffic::undo_late(client.sagas(), run, &progress));
        let runs: Vec<Run> = late.buffer_unordered(plan.in_flight).try_collect().await.expect("the server takes that as well");
        ended.send_replace(true);
        runs
    };
    let sagas = client.sagas();
    let (runs, (), ()) = tokio::join!(traffic, strike(server, &mut services, plan, &progress, over), progress.tell(&sagas, until));
    let took = began.elapsed();
    // What still hangs in a service comes too late for all of them, and must change nothing.
    tokio::time::sleep(service::SLOW).await;
    let mut books = Books::default();
    for service in &mut services {
        service.kill();
        books.read(service.name, &service.folder).expect("its books can be read");
    }
    let mut occurred: Occurred = progress.kills().collect();
    let wrong = look(&client, &runs, &books, &mut occurred).await.expect("the server answers");
    Outcome { wrong, occurred, took }
}

/// Kills a process every so often, and starts it again, until the sagas are over.
async fn strike(
    mut server: Option<&mut ServerProcess>,
    services: &mut [Service],
    plan: Plan,
    progress: &Progress,
    mut over: watch::Receiver<bool>,
) {
    for number in 0..plan.kills {
        tokio::select! {
            _ = over.wait_for(|is_over| *is_over) => break,
            () = tokio::time::sleep(plan.every) => {}
        }
        // The broker every other time, and the services in turn between.
        let at = if number % 2 == 0 { 0 } else { 1 + usize::from(number % 4 == 3) };
        match (at.checked_sub(1), &mut server) {
            (None, Some(server)) => {
                server.kill();
                server.restart().await;
            }
            // Somebody else does that.
            (None, None) => continue,
            (Some(service), _) => {
                services[service].kill();
                services[service].restart();
            }
        }
        progress.killed(at);
    }
}

/// Looks at every saga, and at what is there beside them.
async fn look(client: &Client, runs: &[Run], books: &Books, occurred: &mut Occurred) -> Result<Vec<String>, ClientError> {
    let told = told(client).await?;
    let sagas = client.sagas();
    let shown = futures_util::stream::iter(runs).map(|run| {
        let sagas = sagas.clone();
        async move {
            let (shown, history) = (sagas.get(run.saga).await?, sagas.history(run.saga).await?);
            let child = match audit::child_of(&shown) {
                Some(child) => Some((run.of_child(child), sagas.get(child).await?, sagas.history(child).await?)),
                None => None,
            };
            Ok::<_, ClientError>((run, shown, history, child))
        }
    });
    let shown: Vec<_> = shown.buffered(ASKED).try_collect().await?;
    let (mut wrong, mut holds) = (Vec::new(), Holds::default());
    let mut known: BTreeSet<_> = runs.iter().map(|run| run.saga).collect();
    if known.len() != runs.len() {
        wrong.push(format!("{} orders have {} sagas", runs.len(), known.len()));
    }
    for (run, shown, history, child) in &shown {
        Case { run, shown, history: &history.events, books, told: &told }.look(&mut wrong, occurred);
        holds.add(run.saga, shown.summary.state, &history.events);
        if let Some((run, child, history)) = child {
            known.insert(run.saga);
            Case { run, shown: child, history: &history.events, books, told: &told }.look(&mut wrong, occurred);
            *occurred.entry(format!("sub-saga {}", child.summary.state)).or_default() += 1;
            wrong.extend(audit::between(shown, child).map(|what| format!("saga {}: {what}", shown.summary.id)));
        }
    }
    holds.look(books, &mut wrong, occurred);
    *occurred.entry("undone late".to_owned()).or_default() += runs.iter().filter(|run| run.has_lost_locks).count() as u64;
    wrong.extend(locks_beside(client, &holds.left()).await?);
    let strangers =
        books.sagas().filter(|saga| !known.contains(saga)).chain(told.keys().map(|(saga, ..)| *saga).filter(|saga| !known.contains(saga)));
    wrong.extend(strangers.map(|saga| format!("saga {saga} left something, and nobody started it")));
    *occurred.entry("records told".to_owned()).or_default() += told.values().map(|times| u64::from(*times)).sum::<u64>();
    Ok(wrong)
}

/// What is held and waited for beside what the sagas say that they hold. A lock is let go a moment after its saga is at its end.
async fn locks_beside(client: &Client, left: &BTreeMap<String, (Uuid, u64)>) -> Result<Option<String>, ClientError> {
    let began = Instant::now();
    loop {
        let (mut held, mut waiting, mut query) = (BTreeMap::new(), 0, LockQuery::default());
        loop {
            let page = client.sagas().locks(&query).await?;
            waiting += page.locks.iter().map(|lock| lock.waiting).sum::<u64>();
            held.extend(page.locks.into_iter().map(|lock| (lock.key, (lock.held_by, lock.token))));
            query.after = page.next;
            if query.after.is_none() {
                break;
            }
        }
        if held == *left && waiting == 0 {
            return Ok(None);
        }
        if began.elapsed() > LET_GO {
            return Ok(Some(format!("{waiting} wait for locks, the server says that {held:?} are held, and the sagas say {left:?}")));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What the steps told, partition by partition.
async fn told(client: &Client) -> Result<Told, ClientError> {
    let topic: TopicName = TOLD.parse().expect("legal");
    let mut told = Told::new();
    for partition in client.describe_topic(&topic).await?.partitions {
        let mut from = Offset(0);
        while from < partition.high_watermark {
            let query = ReadQuery { offset: Some(from), max_records: Some(1_000), ..ReadQuery::default() };
            let answer = client.read(&topic, partition.partition, &query).await?;
            from = answer.next_offset;
            for record in &answer.records {
                let header = |name: &str| record.headers.get(name).expect("every such record has it").to_owned();
                assert_eq!(record.headers.get("saga-emit-failed"), None, "each value can be told");
                let saga = header("saga-id").parse().expect("an id");
                *told.entry((saga, header("saga-step"), header("saga-operation"))).or_default() += 1;
            }
        }
    }
    Ok(told)
}

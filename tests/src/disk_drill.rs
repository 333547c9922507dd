//! The disk drill: a server on a small file system of its own is filled until it refuses, from within and from outside, and gets room again.
//!
//! No acknowledged record may be lost, nothing of a refused request may be stored, refusals must say what they are, what is under way must
//! come to its end, and the server must take everything again without a restart.

mod volume;

use crate::ServerProcess;
use crate::server::eventually;
use core::fmt::Write as _;
use core::hash::{Hash as _, Hasher as _};
use core::time::Duration;
use futures_util::future::join_all;
use sagamq_api::queue::{ReceiveRequest, StartPosition};
use sagamq_api::record::ProduceRecord;
use sagamq_api::saga::{SagaState, StartSaga};
use sagamq_api::topic::{ReadQuery, TopicConfig};
use sagamq_api::{ErrorCode, GroupName, Offset, PartitionId, TopicName};
use sagamq_sdk::{CallError, CancellationToken, Client, ClientError, RetryPolicy, SagaWorker};
use serde_json::json;
use std::collections::{BTreeMap, hash_map::DefaultHasher};
use uuid::Uuid;
use volume::{Ballast, Volume};

/// How much is filled.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Size of the file system, in MiB.
    pub volume_mib: u64,
    /// What the server keeps free, in MiB.
    pub reserve_mib: u64,
    /// The file that is taken away to make room, in MiB.
    pub ballast_mib: u64,
    /// Clients that produce at the same time.
    pub writers: usize,
    /// Sagas that are under way while the disk is low.
    pub sagas: u32,
}

impl Plan {
    /// As `make drill-disk` runs it.
    pub const FULL: Self = Self { volume_mib: 1024, reserve_mib: 192, ballast_mib: 384, writers: 8, sagas: 50 };
    /// As the tests run it.
    pub const SMALL: Self = Self { volume_mib: 320, reserve_mib: 96, ballast_mib: 96, writers: 4, sagas: 5 };
}

/// What came of a drill.
#[derive(Debug)]
pub enum Outcome {
    /// It cannot be run here, and why.
    NotRun(String),
    /// The table, and whether all is as it must be.
    Run(String, bool),
}

const MIB: u64 = 1 << 20;
const PARTITIONS: u32 = 4;
const RECORD_BYTES: usize = 16 << 10;
const RECORDS_PER_REQUEST: usize = 16;
/// Far beyond what is needed: only a hang meets it.
const PATIENCE: Duration = Duration::from_secs(120);

/// The rows of the table.
#[derive(Default)]
struct Table {
    text: String,
    failed: u32,
}

impl Table {
    fn row(&mut self, what: &str, found: impl core::fmt::Display, is_good: bool) {
        self.failed += u32::from(!is_good);
        let verdict = if is_good { "ok" } else { "WRONG" };
        writeln!(self.text, "| {what:<66} | {found:<44} | {verdict:<5} |").expect("a string");
    }

    fn head(&mut self, what: &str) {
        writeln!(self.text, "|{:-<68}|{:-<46}|{:-<7}|\n| {what:<66} | {:44} | {:5} |", "", "", "", "", "").expect("a string");
    }
}

/// What was acknowledged: the hash of the value by partition and offset.
type Acknowledged = BTreeMap<(u32, u64), u64>;

fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

/// Text that does not compress, the same for the same seed.
fn noise(seed: u64) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let letters = (0..RECORD_BYTES).map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(LETTERS[(state >> 58) as usize])
    });
    letters.collect()
}

fn topic(name: &str) -> TopicName {
    name.parse().expect("a legal name")
}

fn group(name: &str) -> GroupName {
    name.parse().expect("a legal name")
}

/// Produces until it is refused. What was acknowledged, and what the refusal was.
async fn produce_until_refused(client: &Client, writer: usize, round: usize) -> (Acknowledged, ClientError) {
    let mut acknowledged = Acknowledged::new();
    for request in 0_usize.. {
        let seed = |place: usize| ((round * 100 + writer) * 1_000_000 + request * 100 + place) as u64;
        let values: Vec<String> = (0..RECORDS_PER_REQUEST).map(|place| noise(seed(place))).collect();
        let records = values.iter().enumerate().map(|(place, value)| {
            let partition = u32::try_from((request + place) % PARTITIONS as usize).expect("a small number");
            ProduceRecord { partition: Some(PartitionId(partition)), ..ProduceRecord::text(value.clone()) }
        });
        let key = format!("{round}-{writer}-{request}");
        match client.produce(&topic("fill"), records.collect(), Some(&key)).await {
            Ok(stored) => {
                for (stored, value) in stored.iter().zip(&values) {
                    acknowledged.insert((stored.partition.0, stored.offset.expect("stored").0), hash(value));
                }
            }
            // The queue in front of the disk is full for a moment.
            Err(error) if error.code() == Some(ErrorCode::Overloaded) => tokio::time::sleep(Duration::from_millis(20)).await,
            Err(error) => return (acknowledged, error),
        }
    }
    unreachable!("a writer goes on until it is refused")
}

/// Everything that is stored, by partition and offset.
async fn read_all(client: &Client) -> Acknowledged {
    let mut found = Acknowledged::new();
    for partition in 0..PARTITIONS {
        let mut from = Offset(0);
        loop {
            let query = ReadQuery { offset: Some(from), max_records: Some(1_000), ..ReadQuery::default() };
            let answer = client.read(&topic("fill"), PartitionId(partition), &query).await.expect("read");
            if answer.records.is_empty() {
                break;
            }
            from = answer.next_offset;
            let hashed = answer.records.iter().map(|record| ((partition, record.offset.0), hash(&record.text().expect("text"))));
            found.extend(hashed);
        }
    }
    found
}

async fn metric(server: &ServerProcess, name: &str) -> Option<i64> {
    let text = reqwest::get(format!("{}/metrics", server.url())).await.ok()?.text().await.ok()?;
    text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

async fn readiness(server: &ServerProcess) -> (u16, String) {
    let answer = reqwest::get(format!("{}/readyz", server.url())).await.expect("answered");
    (answer.status().as_u16(), answer.text().await.expect("text").trim().to_owned())
}

async fn start_saga(client: &Client, id: u32) -> Result<Uuid, ClientError> {
    let input = json!({ "id": id.to_string() }).into();
    let start = StartSaga { saga: "work".parse().expect("legal"), version: None, mode: None, input };
    client.sagas().start(&start).await.map(|started| started.id)
}

const DEFINITION: &str = "saga: work\nversion: 1\nkey: ${ input.id }\nservices: { press: { topic: press.commands } }\nsteps:\n  - id: print\n    call: press.print\n    timeout: 10m\n    compensate: none\n";

/// Runs the drill.
///
/// # Panics
/// When the server does not start, or does not answer what it must answer at all.
pub async fn run(plan: Plan) -> Outcome {
    match Volume::mount(plan.volume_mib) {
        Ok(volume) => Drill::start(plan, volume).await.run().await,
        Err(reason) => Outcome::NotRun(reason),
    }
}

struct Drill {
    plan: Plan,
    table: Table,
    acknowledged: Acknowledged,
    sagas: Vec<Uuid>,
    ballast: Option<Ballast>,
    /// Before the volume, so that it ends first.
    server: ServerProcess,
    volume: Volume,
}

impl Drill {
    async fn start(plan: Plan, volume: Volume) -> Self {
        let ballast = volume.ballast(plan.ballast_mib * MIB);
        let reserve = format!("{}MiB", plan.reserve_mib);
        let server = ServerProcess::start_in(volume.path(), &["--disk-reserve-bytes", &reserve]).await;
        let mut table = Table::default();
        let title = format!("{} MiB, {} MiB of them kept free, ballast of {} MiB", plan.volume_mib, plan.reserve_mib, plan.ballast_mib);
        table.head(&title);
        Self { plan, table, acknowledged: Acknowledged::new(), sagas: Vec::new(), ballast: Some(ballast), server, volume }
    }

    fn client(&self) -> Client {
        self.server.client().with_retry(RetryPolicy::none())
    }

    async fn run(mut self) -> Outcome {
        self.prepare().await;
        self.fill(1).await;
        self.refusals().await;
        self.what_goes_on().await;
        self.make_room().await;
        self.fill(2).await;
        self.fill_from_outside().await;
        self.read_back("acknowledged records that are there, with their bytes").await;
        self.server.kill();
        self.server.restart().await;
        self.read_back("the same after a kill -9 and a restart").await;
        self.finish()
    }

    fn finish(mut self) -> Outcome {
        let failed = self.table.failed;
        writeln!(self.table.text, "\n{}", if failed == 0 { "passed".to_owned() } else { format!("FAILED: {failed} rows") })
            .expect("a string");
        Outcome::Run(self.table.text, failed == 0)
    }

    async fn prepare(&mut self) {
        let client = self.client();
        for name in ["fill", "small", "old"] {
            client.create_topic(&topic(name), TopicConfig { partitions: PARTITIONS, ..TopicConfig::default() }).await.expect("created");
        }
        let records = (0..20).map(|n| ProduceRecord::text(n.to_string())).collect();
        client.produce(&topic("small"), records, None).await.expect("produced");
        client.sagas().publish(DEFINITION).await.expect("published");
        for id in 0..self.plan.sagas {
            self.sagas.push(start_saga(&client, id).await.expect("started"));
        }
    }

    /// Writers fill the disk until each is refused.
    async fn fill(&mut self, round: usize) {
        let client = self.client();
        let writers = (0..self.plan.writers).map(|writer| produce_until_refused(&client, writer, round));
        let (mut codes, mut records) = (BTreeMap::<String, u32>::new(), 0);
        for (acknowledged, refusal) in join_all(writers).await {
            records += acknowledged.len();
            self.acknowledged.extend(acknowledged);
            *codes.entry(refusal.code().map_or_else(|| refusal.to_string(), |code| code.to_string())).or_default() += 1;
        }
        let codes: Vec<String> = codes.into_iter().map(|(code, times)| format!("{code} x {times}")).collect();
        let is_good = codes == [format!("DISK_LOW x {}", self.plan.writers)];
        self.table.row(
            &format!("round {round}: {records} records stored, then each writer is refused"),
            codes.join(", "),
            is_good && records > 0,
        );
        let free = self.volume.free_bytes() / MIB;
        self.table.row("  left on the disk (what is in memory is owed still)", format!("{free} MiB"), free >= self.plan.reserve_mib / 2);
    }

    async fn refusals(&mut self) {
        let client = self.client();
        let body = json!({ "records": [{ "value": "one more" }] }).to_string();
        let request = reqwest::Client::new().post(format!("{}/v1/topics/fill/records", self.server.url()));
        let answer = request.header("content-type", "application/json").body(body).send().await.expect("answered");
        let (status, pause) =
            (answer.status().as_u16(), answer.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok()));
        let problem: serde_json::Value = answer.text().await.ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        let pause: u64 = pause.unwrap_or(0);
        let is_good = status == 503 && (1..=15).contains(&pause) && problem["retryable"] == true && problem["outcome_unknown"] == false;
        self.table.row(
            "  produce: status, code, Retry-After",
            format!("{status} {} {pause} s", problem["code"].as_str().unwrap_or("?")),
            is_good,
        );
        let refused = |result: Result<(), ClientError>| match result {
            Ok(()) => ("taken".to_owned(), false),
            Err(error) => {
                (error.code().map_or_else(|| error.to_string(), |code| code.to_string()), error.code() == Some(ErrorCode::DiskLow))
            }
        };
        let receive = ReceiveRequest { start: StartPosition::Earliest, ..ReceiveRequest::default() };
        for (what, result) in [
            ("  a new topic", client.create_topic(&topic("new"), TopicConfig::default()).await.map(drop)),
            ("  a new group", client.receive(&topic("fill"), &group("new"), &receive).await.map(drop)),
            ("  a new saga", start_saga(&client, u32::MAX).await.map(drop)),
        ] {
            let (found, is_good) = refused(result);
            self.table.row(what, found, is_good);
        }
        let again = start_saga(&client, 0).await;
        let is_same = again.as_ref().ok() == self.sagas.first();
        self.table.row("  the start of a saga that runs, once more", if is_same { "answered with that one" } else { "refused" }, is_same);
        let (status, text) = readiness(&self.server).await;
        self.table.row(
            "  /readyz",
            format!("{status} {}", text.split(':').next().unwrap_or_default()),
            status == 200 && text.contains("low"),
        );
        let low = metric(&self.server, "sagamq_disk_low").await;
        self.table.row("  sagamq_disk_low", low.unwrap_or(-1), low == Some(1));
    }

    /// What works off what is there.
    async fn what_goes_on(&mut self) {
        let client = self.client();
        let (stop, press) = (CancellationToken::new(), topic("press.commands"));
        let worker = SagaWorker::builder(client.clone(), press).on("print", |_| async { Ok::<_, CallError>(json!("printed")) }).build();
        let running = tokio::spawn(worker.run(stop.clone()));
        let mut completed = 0;
        for &id in &self.sagas {
            let saga = client.sagas().wait(id, PATIENCE).await.expect("answered");
            completed += usize::from(saga.summary.state == SagaState::Completed);
        }
        stop.cancel();
        running.await.expect("no panic").expect("a clean end");
        let all = self.sagas.len();
        self.table.row("  sagas under way come to their end", format!("{completed} of {all} COMPLETED"), completed == all);
        let deleted = client.delete_topic(&topic("old")).await;
        self.table.row(
            "  a topic is deleted",
            deleted.as_ref().map_or_else(ToString::to_string, |()| "deleted".to_owned()),
            deleted.is_ok(),
        );
    }

    /// Takes the ballast away: everything is taken again by itself.
    async fn make_room(&mut self) {
        drop(self.ballast.take());
        let client = self.client();
        let began = tokio::time::Instant::now();
        let records = || vec![ProduceRecord::text("after")];
        let produced = eventually("records are taken again", async || client.produce(&topic("small"), records(), None).await.ok()).await;
        let waited = began.elapsed().as_millis();
        self.table.row("  ballast away: produce, without a restart", format!("after {waited} ms"), produced.len() == 1);
        let started = start_saga(&client, u32::MAX).await;
        self.table.row("  the saga that was refused", if started.is_ok() { "started" } else { "refused" }, started.is_ok());
        // Made while there is room, for the next round.
        let receive = ReceiveRequest { start: StartPosition::Earliest, ..ReceiveRequest::default() };
        client.receive(&topic("small"), &group("workers"), &ReceiveRequest { max_records: Some(1), ..receive }).await.expect("received");
        let (status, text) = readiness(&self.server).await;
        self.table.row("  /readyz", format!("{status} {text}"), status == 200 && text == "ready");
    }

    /// Somebody else takes what is left: writes wait, nothing fails, and they go on when there is room.
    async fn fill_from_outside(&mut self) {
        let client = self.client();
        let receive = ReceiveRequest { max_records: Some(10), lease_ms: Some(3_600_000), ..ReceiveRequest::default() };
        let leased = client.receive(&topic("small"), &group("workers"), &receive).await.expect("received");
        let acknowledged = client.ack(&topic("small"), &group("workers"), vec![leased.deliveries[0].receipt.clone()]).await;
        self.table.row(
            "  an acknowledgement while it is low",
            if acknowledged.is_ok() { "taken" } else { "refused" },
            acknowledged.is_ok(),
        );
        let left = self.plan.reserve_mib * MIB / 8;
        let mut ballast = vec![self.volume.ballast(self.volume.free_bytes().saturating_sub(left))];
        eventually("the server sees it", async || (readiness(&self.server).await.0 == 503).then_some(())).await;
        // What the server itself gives back meanwhile, others take as well, until it has no more to give.
        let mut quiet = 0;
        while quiet < 8 {
            let free = self.volume.free_bytes();
            quiet = if free > left + 2 * MIB { 0 } else { quiet + 1 };
            if quiet == 0 {
                ballast.push(self.volume.ballast(free - left));
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
        let free = self.volume.free_bytes() / MIB;
        self.table.row("others take nearly all of the rest: /readyz", format!("503 with {free} MiB left"), true);
        let receipt = leased.deliveries[1].receipt.clone();
        let waiting = tokio::spawn(async move { client.ack(&topic("small"), &group("workers"), vec![receipt]).await });
        tokio::time::sleep(Duration::from_secs(1)).await;
        self.table.row("  an acknowledgement", if waiting.is_finished() { "answered" } else { "waits" }, !waiting.is_finished());
        drop(ballast);
        let answered = tokio::time::timeout(PATIENCE, waiting).await.is_ok_and(|answer| matches!(answer, Ok(Ok(_))));
        self.table.row("  it is given back: the same acknowledgement", if answered { "answered" } else { "lost" }, answered);
        let (status, text) = readiness(&self.server).await;
        self.table.row("  /readyz", format!("{status} {}", text.split(':').next().unwrap_or_default()), status == 200);
    }

    async fn read_back(&mut self, what: &str) {
        let found = read_all(&self.client()).await;
        let there = self.acknowledged.iter().filter(|(place, hash)| found.get(place) == Some(hash)).count();
        let all = self.acknowledged.len();
        self.table.row(what, format!("{there} of {all}"), there == all);
        self.table.row("  records of refused requests", found.len().abs_diff(all), found.len() == all);
    }
}

//! What each level of delivery costs when processes are killed: for each way of doing something with a record, a worker is killed between the effect
//! and what settles it, the server is killed beside it, and the effects are counted.

mod effects;
mod way;
mod worker;

pub use effects::Effects;
pub use way::Way;

use crate::ServerProcess;
use crate::fate::SEED;
use futures_util::future::join_all;
use sagamq_api::record::ProduceRecord;
use sagamq_api::topic::{Ordering, ReadQuery, TopicConfig};
use sagamq_api::{GroupName, Offset, TopicName};
use sagamq_sdk::{Client, ClientError, HandlerError, RetryPolicy};
use std::fmt::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::time::Instant;

/// The group of all ways that have one.
const GROUP: &str = "workers";

/// The topic of the pipeline's outputs.
const OUTPUTS: &str = "level-outputs";

/// Keys of the records.
const KEYS: u64 = 8;

/// How long all of it may take: only a hang meets it.
const PATIENCE: Duration = Duration::from_secs(600);

/// How often it is looked whether a worker died or everything is done.
const LOOK: Duration = Duration::from_millis(20);

/// What is done.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Records of each way.
    pub records: u64,
    /// Deaths of the workers of a way, at most; then one works on to the end.
    pub deaths: u64,
    /// How often the server is killed while workers die.
    pub kills: u32,
    /// The same seed makes the same choices.
    pub seed: u64,
}

/// What one way came to.
#[derive(Clone, Debug)]
pub struct Row {
    /// The way.
    pub way: Way,
    /// Workers that died.
    pub deaths: u64,
    /// Records that there were.
    pub records: u64,
    /// Their effects.
    pub effects: Effects,
}

impl Row {
    /// What is other than the level says; nothing if all is well. Where a level allows loss or repetition, none at all would mean that the kills
    /// met nothing.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let (lost, repeated) = (self.effects.lost(self.records), self.effects.repeated());
        let mut faults = Vec::new();
        let mut check = |is_ok: bool, what: String| {
            if !is_ok {
                faults.push(format!("{}: {what}", self.way.name()));
            }
        };
        check(self.deaths > 0, "no worker died".to_owned());
        check((lost > 0) == self.way.loses(), format!("{lost} lost"));
        check((repeated > 0) == self.way.repeats(), format!("{repeated} repeated"));
        if self.way.keeps_keys_in_order() {
            let wrong = self.effects.out_of_order(KEYS);
            check(wrong == 0, format!("{wrong} out of order"));
        }
        faults
    }
}

/// The rows as a table in Markdown.
#[must_use]
pub fn table(rows: &[Row]) -> String {
    let mut text =
        "| level | how | workers killed | records | lost | repeated | effects |\n|---|---|---:|---:|---:|---:|---:|\n".to_owned();
    for Row { way, deaths, records, effects } in rows {
        let (level, how, lost, repeated) = (way.level(), way.how(), effects.lost(*records), effects.repeated());
        writeln!(text, "| {level} | {how} | {deaths} | {records} | {lost} | {repeated} | {} |", effects.0.len())
            .expect("a string takes it");
    }
    text
}

/// The worker of a way, in a process of its own: see [`run`].
///
/// # Errors
/// What the broker refuses for good, and what the disk says.
pub async fn work(way: Way, url: &str, folder: &Path, records: u64) -> Result<(), HandlerError> {
    worker::work(way, url, folder, records).await
}

/// Runs all ways beside each other; their rows, and how often the server was killed. `program` is started as
/// `program worker WAY URL FOLDER RECORDS` and calls [`work`] then.
///
/// # Panics
/// When it does not come to its end, or the server cannot be started.
pub async fn run(program: &Path, plan: Plan) -> (Vec<Row>, u32) {
    let folder = tempfile::Builder::new().prefix("sagamq-levels-").tempdir().expect("a folder");
    let mut server = ServerProcess::start().await;
    let client = server.client();
    let client = client.with_retry(RetryPolicy { attempts: 10_000, deadline: PATIENCE, ..*client.retry_policy() });
    let ways = Way::ALL.map(|way| {
        let course = Course {
            way,
            plan,
            client: client.clone(),
            program: program.to_owned(),
            url: server.url(),
            folder: folder.path().join(way.name()),
        };
        course.run()
    });
    let mut all = Box::pin(join_all(ways));
    let mut kills = 0;
    loop {
        // The pauses differ, so that the kills meet different moments.
        let pause = Duration::from_millis(700 + u64::from(kills) * 370 % 900);
        tokio::select! {
            rows = &mut all => return (rows, kills),
            () = tokio::time::sleep(pause), if kills < plan.kills => {
                server.kill();
                server.restart().await;
                kills += 1;
            }
        }
    }
}

/// The course of one way.
struct Course {
    way: Way,
    plan: Plan,
    client: Client,
    program: PathBuf,
    url: String,
    folder: PathBuf,
}

/// A worker that ends with the drill.
struct Worker(Child);

impl Drop for Worker {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl Course {
    async fn run(self) -> Row {
        std::fs::create_dir_all(&self.folder).expect("a folder");
        self.prepare().await.expect("the topics are made and filled");
        let began = Instant::now();
        let (mut deaths, mut idle) = (0, None);
        let mut worker = self.start(Some(0));
        loop {
            if let Some(ended) = worker.0.try_wait().expect("the process can be asked") {
                if ended.success() {
                    break;
                }
                assert!(ended.signal().is_some(), "the worker of {} failed: {ended}", self.way.name());
                deaths += 1;
                worker = self.start((deaths < self.plan.deaths).then_some(deaths));
            }
            if !self.way.produces() && self.lag().await == Some(0) {
                // With `auto_ack` it is settled before it is worked on: the worker has to come back for more.
                let times = lines(&worker::idle_file(&self.folder));
                if self.way != Way::AutoAck || idle.is_some_and(|before| times > before) {
                    break;
                }
                idle = idle.or(Some(times));
            }
            assert!(began.elapsed() < PATIENCE, "{}: not done after {PATIENCE:?}", self.way.name());
            tokio::time::sleep(LOOK).await;
        }
        drop(worker);
        let effects = self.effects().await.expect("what was done can be read");
        Row { way: self.way, deaths, records: self.plan.records, effects }
    }

    async fn prepare(&self) -> Result<(), ClientError> {
        let ordering = if self.way == Way::KeyOrder { Ordering::Key } else { Ordering::default() };
        // Kills cost attempts; here nothing is to be given up.
        let config = TopicConfig {
            partitions: 4,
            delivery_limit: 0,
            backoff_initial_ms: 10,
            backoff_max_ms: 50,
            ordering,
            ..TopicConfig::default()
        };
        let topic = topic_of(self.way);
        self.client.create_topic(&topic, config.clone()).await?;
        if self.way == Way::Pipeline {
            self.client.create_topic(&OUTPUTS.parse().expect("legal"), config).await?;
        }
        if self.way.produces() {
            return Ok(());
        }
        let records: Vec<_> =
            (0..self.plan.records).map(|number| ProduceRecord::text(number.to_string()).with_key((number % KEYS).to_string())).collect();
        for records in records.chunks(100) {
            self.client.produce(&topic, records.to_vec(), None).await?;
        }
        Ok(())
    }

    fn start(&self, life: Option<u64>) -> Worker {
        let mut command = Command::new(&self.program);
        command.args(["worker", self.way.name(), &self.url]).arg(&self.folder).arg(self.plan.records.to_string());
        // Another one for each way and life; the generator's first steps differ then.
        let seed = |life: u64| self.plan.seed.wrapping_mul(1_000_003) + life * 7_919 + self.way as u64 * 104_729;
        command.envs(life.map(|life| (SEED, seed(life).to_string()))).stdin(Stdio::null()).stdout(Stdio::null());
        Worker(command.spawn().expect("the worker starts"))
    }

    /// Records that are not settled; `None`: nobody knows it now.
    async fn lag(&self) -> Option<u64> {
        let topic = topic_of(self.way);
        let group = |name: &str| name.parse::<GroupName>().expect("legal");
        match self.way {
            Way::Stream => self.client.describe_stream_group(&group("level-stream")).await.ok().map(|of| of.lag_records),
            _ => self.client.describe_group(&topic, &group(GROUP)).await.ok().map(|of| of.lag_records),
        }
    }

    async fn effects(&self) -> Result<Effects, ClientError> {
        let numbers = |text: &str| text.lines().map(|line| line.parse().expect("a number")).collect();
        match self.way {
            Way::AutoAck | Way::Ack | Way::KeyOrder | Way::Stream => {
                Ok(Effects(numbers(&std::fs::read_to_string(worker::effects_file(&self.folder)).expect("text"))))
            }
            Way::Inbox => {
                let db = worker::Db::open_default(worker::db_folder(&self.folder)).expect("the worker's database");
                let times = |number: &u64| db.get(worker::effect_key(&number.to_string())).expect("readable").map_or(0, |bytes| bytes[0]);
                Ok(Effects((0..self.plan.records).flat_map(|number| (0..times(&number)).map(move |_| number)).collect()))
            }
            Way::Pipeline => {
                // What goes to other shards arrives a moment after its commit.
                let began = Instant::now();
                loop {
                    let effects = stored(&self.client, &OUTPUTS.parse().expect("legal")).await?;
                    if effects.lost(self.plan.records) == 0 || began.elapsed() > Duration::from_secs(30) {
                        return Ok(effects);
                    }
                    tokio::time::sleep(LOOK).await;
                }
            }
            Way::ProduceAgain | Way::ProduceOnce => stored(&self.client, &topic_of(self.way)).await,
        }
    }
}

/// The numbers in a topic, partition by partition.
async fn stored(client: &Client, topic: &TopicName) -> Result<Effects, ClientError> {
    let mut numbers = Vec::new();
    for partition in client.describe_topic(topic).await?.partitions {
        let mut from = Offset(0);
        while from < partition.high_watermark {
            let query = ReadQuery { offset: Some(from), max_records: Some(1_000), ..ReadQuery::default() };
            let answer = client.read(topic, partition.partition, &query).await?;
            from = answer.next_offset;
            numbers.extend(answer.records.iter().map(|record| record.text().and_then(|text| text.parse::<u64>().ok()).expect("a number")));
        }
    }
    Ok(Effects(numbers))
}

fn topic_of(way: Way) -> TopicName {
    format!("level-{}", way.name()).parse().expect("a legal name")
}

fn lines(path: &Path) -> usize {
    std::fs::read_to_string(path).map_or(0, |text| text.lines().count())
}

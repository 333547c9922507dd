//! What three nodes of which nothing is asked ask of object storage, and how often they meet each other there; and what the lease does not wait for.

use super::super::hindered::{Call, Does, Hindered};
use super::super::tests::{parts, settings};
use super::super::{Active, NodeParts, NodeSettings, Standby};
use crate::Cluster;
use crate::log::memory::{Flavour, MemoryLog};
use crate::log::{CommitLog as _, LogName};
use crate::objects::Objects;
use async_trait::async_trait;
use core::fmt;
use core::time::Duration;
use futures_util::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions,
    PutPayload, PutResult, Result,
};
use sagamq_broker::storage::memory::MemoryStorage;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// How long each answer of the storage takes: a twentieth of the time between two heartbeats, as that of a storage far away is.
const LATENCY: Duration = Duration::from_millis(5);
const HEARTBEAT: Duration = Duration::from_millis(100);

/// Objects in memory that take their time, and are counted.
#[derive(Clone, Debug, Default)]
struct Counted(Arc<State>);

#[derive(Debug, Default)]
struct State {
    inner: InMemory,
    puts: AtomicU64,
    /// How many of them met another object.
    met: AtomicU64,
    gets: AtomicU64,
}

impl Counted {
    fn counts(&self) -> [u64; 3] {
        [&self.0.puts, &self.0.met, &self.0.gets].map(|count| count.load(Ordering::Relaxed))
    }
}

impl fmt::Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("storage that counts")
    }
}

#[async_trait]
impl ObjectStore for Counted {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        tokio::time::sleep(LATENCY).await;
        self.0.puts.fetch_add(1, Ordering::Relaxed);
        let put = self.0.inner.put_opts(location, payload, options).await;
        self.0.met.fetch_add(u64::from(matches!(put, Err(Error::AlreadyExists { .. }))), Ordering::Relaxed);
        put
    }

    async fn put_multipart_opts(&self, location: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.0.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        tokio::time::sleep(LATENCY).await;
        self.0.gets.fetch_add(1, Ordering::Relaxed);
        self.0.inner.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.0.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.0.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.0.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.0.inner.copy_opts(from, to, options).await
    }
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::disallowed_methods, reason = "a test tells how much was asked in a time")]
async fn three_nodes_of_which_nothing_is_asked_hardly_ever_meet() {
    let storage = Counted::default();
    let join = async |name: &str| {
        let (lease, claim_after) = (Duration::from_secs(60), Duration::from_secs(90));
        let settings = NodeSettings { heartbeat: HEARTBEAT, lease, claim_after, ..settings(name) };
        let parts = parts(&MemoryLog::new(Flavour::Conditional), &MemoryStorage::new(), settings);
        let objects = Objects::new(Arc::new(storage.clone()), Path::from("cluster"));
        Standby::join(NodeParts { cluster: Cluster::over(objects), ..parts }).await.expect("it joins")
    };
    let (mut one, mut two, mut three) = (join("one").await, join("two").await, join("three").await);
    let one = one.until_active().await.expect("nobody else is").expect("it is not to end");
    // All of them begin in the same moment.
    let others = [tokio::spawn(async move { two.until_active().await }), tokio::spawn(async move { three.until_active().await })];
    // On a busy machine much may lie between a read and the write behind it, so not every stretch is a good one. Who writes behind what he read a
    // heartbeat before meets another one each time, in all of them.
    let mut stretches = Vec::new();
    while stretches.len() < 60 && stretches.iter().all(|&(puts, met)| met * 8 > puts) {
        let (before, began) = (storage.counts(), std::time::Instant::now());
        let counts = async {
            loop {
                let [puts, met, gets] = core::array::from_fn(|at| storage.counts()[at] - before[at]);
                if puts >= 80 {
                    return [puts, met, gets];
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let [puts, met, gets] = tokio::time::timeout(Duration::from_secs(120), counts).await.expect("they say that they live");
        let heartbeats = began.elapsed().as_secs_f64() / HEARTBEAT.as_secs_f64();
        let each = |count: u64| count as f64 / heartbeats;
        println!("in each heartbeat {:.2} PUT and {:.1} GET; {met} of {puts} writes met that of another node", each(puts), each(gets));
        stretches.push((puts, met));
    }
    for other in &others {
        other.abort();
    }
    assert!(stretches.last().is_some_and(|&(puts, met)| met * 8 <= puts), "writes, and those that met that of another node: {stretches:?}");
    one.end().await;
}

/// A node that is active over a log that does what is said, with a heartbeat each millisecond, and the log.
async fn active_over(judge: impl FnMut(LogName, Call<'_>) -> Does + Send + 'static) -> (Active, MemoryLog) {
    let log = MemoryLog::new(Flavour::Conditional);
    let (lease, heartbeat) = (Duration::from_secs(4), Duration::from_millis(1));
    let parts = parts(&log, &MemoryStorage::new(), NodeSettings { heartbeat, lease, ..settings("one") });
    let cluster = Cluster { log: Arc::new(Hindered::new(&log, judge)), ..parts.cluster };
    let mut standby = Standby::join(NodeParts { cluster, ..parts }).await.expect("it joins");
    (standby.until_active().await.expect("nobody is").expect("it is not to end"), log)
}

/// Waits for a flag, and then for many more heartbeats than can be under way.
async fn heartbeats_go_on_behind(flag: &AtomicBool, log: &MemoryLog) {
    let last = async || log.bounds(LogName::Members).await.expect("memory").last.0;
    let go_on = async {
        while !flag.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let then = last().await;
        while last().await < then + 50 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(120), go_on).await.expect("heartbeats go on");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_heartbeat_does_not_wait_until_the_log_of_members_is_trimmed() {
    let is_trimmed = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&is_trimmed);
    let (one, log) = active_over(move |_, call| {
        let trims = matches!(call, Call::Trim);
        flag.fetch_or(trims, Ordering::Relaxed);
        if trims { Does::Hangs } else { Does::Answers }
    })
    .await;
    heartbeats_go_on_behind(&is_trimmed, &log).await;
    one.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_heartbeat_does_not_wait_until_others_are_told_of_the_end() {
    let is_told = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&is_told);
    let (one, log) = active_over(move |_, call| {
        let drains = call.says("drains");
        flag.fetch_or(drains, Ordering::Relaxed);
        if drains { Does::Hangs } else { Does::Answers }
    })
    .await;
    one.announce().await;
    heartbeats_go_on_behind(&is_told, &log).await;
    one.end().await;
}

//! The log and the snapshots on a real S3 server: the one that `scripts/with-s3` starts, or any bucket in `SAGAMQ_TEST_S3`.

mod proxy;

use bytes::Bytes;
use core::time::Duration;
use futures_util::future::join_all;
use object_store::aws::AmazonS3Builder;
use object_store::{ObjectStoreScheme, RetryConfig};
use sagamq_cluster::log::contract::{self, Subject};
use sagamq_cluster::log::object::ObjectLog;
use sagamq_cluster::log::{AppendError, Bounds, CommitLog, LogName, Pos, ReadError};
use sagamq_cluster::objects::{Objects, Patience, Put};
use sagamq_cluster::snapshot::Snapshots;
use std::collections::BTreeSet;
use std::io::Write as _;
use std::sync::Arc;
use uuid::Uuid;

/// A folder of the bucket that nobody else has, or nothing if there is no server.
fn place() -> Option<String> {
    let Ok(server) = std::env::var("SAGAMQ_TEST_S3") else {
        let said =
            "NOT RUN: the tests of object storage against an S3 server, because SAGAMQ_TEST_S3 is not set: run them by scripts/with-s3.\n";
        // Past the harness, which keeps what a test prints to itself if the test passes.
        std::io::stderr().write_all(said.as_bytes()).expect("somebody listens");
        return None;
    };
    Some(format!("{server}/{}", Uuid::new_v4()))
}

fn open(url: &str) -> Objects {
    Objects::open(url).expect("the URL and the environment name a bucket")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_fifty_writers_of_one_key_the_server_lets_one_through() {
    let Some(url) = place() else { return };
    let objects = open(&url);
    for round in 0..3 {
        let key = format!("race/{round}");
        let puts = (0..50).map(|writer| {
            let (objects, key) = (objects.clone(), key.clone());
            tokio::spawn(async move { objects.put_new(&key, &Bytes::from(format!("writer {writer}"))).await.expect("the server answers") })
        });
        let puts: Vec<Put> = join_all(puts).await.into_iter().map(|put| put.expect("no panic")).collect();
        assert_eq!(puts.iter().filter(|put| **put == Put::Stored).count(), 1, "round {round}");
        let stands = objects.get(&key).await.expect("the server answers").expect("one won").bytes;
        assert_eq!(
            puts.iter().filter(|put| matches!(put, Put::Other { bytes, .. } if *bytes == stands)).count(),
            49,
            "the others are told who"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_that_replace_one_version_the_server_lets_one_through() {
    let Some(url) = place() else { return };
    let objects = open(&url);
    assert_eq!(objects.put_new("mark", &Bytes::from_static(b"first")).await, Ok(Put::Stored));
    for round in 0..3 {
        let version = objects.get("mark").await.expect("the server answers").expect("it is there").version;
        let puts = (0..16).map(|writer| {
            let (objects, version) = (objects.clone(), version.clone());
            tokio::spawn(async move { objects.replace("mark", &Bytes::from(format!("{round}/{writer}")), version).await })
        });
        let puts: Vec<Put> = join_all(puts).await.into_iter().map(|put| put.expect("no panic").expect("the server answers")).collect();
        assert_eq!(puts.iter().filter(|put| **put == Put::Stored).count(), 1, "round {round}: {puts:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_contract_holds() {
    let Some(url) = place() else { return };
    let client = || Arc::new(ObjectLog::new(open(&url))) as Arc<dyn CommitLog>;
    contract::check(&Subject { is_conditional: true, client: &client }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_of_each_row_stays_and_a_stale_writer_meets_it() {
    let Some(url) = place() else { return };
    let shard = LogName::Shard(0);
    let (sleeper, other, reader) = (ObjectLog::new(open(&url)), ObjectLog::new(open(&url)), ObjectLog::new(open(&url)));
    for place in 0..2 {
        sleeper.append(shard, Pos(place), Bytes::from_static(b"own")).await.expect("nobody else writes");
    }
    assert_eq!(reader.read(shard, Pos::START, 1000).await.map(|entries| entries.len()), Ok(2));
    for place in 2..6 {
        other.append(shard, Pos(place), Bytes::from_static(b"other")).await.expect("nobody else writes");
    }
    other.trim(shard, Pos(5)).await.expect("the server answers");
    let left: Vec<bool> = join_all((1..=6).map(|place| {
        let key = format!("log/shard-00000/{place:020}");
        let objects = open(&url);
        async move { objects.exists(&key).await.expect("the server answers") }
    }))
    .await;
    assert_eq!(left, [true, false, true, false, false, true], "the first of each row, and what is not trimmed");
    let stale = Bytes::from_static(b"stale");
    assert_eq!(sleeper.append(shard, Pos(2), stale.clone()).await, Err(AppendError::Conflict));
    // This one's key is free.
    assert_eq!(reader.append(shard, Pos(3), stale).await, Err(AppendError::Conflict));
    assert_eq!(reader.read(shard, Pos(3), 1000).await, Err(ReadError::Trimmed(Pos(5))));
    assert_eq!(reader.bounds(shard).await, Ok(Bounds { trimmed: Pos(5), last: Pos(6) }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshots_are_made_read_and_removed() {
    let Some(url) = place() else { return };
    let snapshots = Snapshots::new(open(&url)).with_chunk_bytes(64 << 10);
    let value = |row: u64| blake3::hash(&row.to_le_bytes()).as_bytes().repeat(8);
    for pos in 1..=3 {
        let mut writer = snapshots.begin(5, 1000 + pos, "node-1");
        for row in 0..2000_u64 {
            writer.push((row % 3) as u8, &row.to_be_bytes(), &value(row + pos)).await.expect("the server takes it");
        }
        let made = writer.finish(Pos(pos), Bytes::from_static(b"position")).await.expect("the server takes it");
        assert!(made.chunks.len() > 5, "{} chunks", made.chunks.len());
    }
    let newest = snapshots.newest(5).await.expect("the server answers").expect("there are three");
    assert_eq!((newest.pos, newest.rows), (Pos(3), 2000));
    let mut next = 0_u64;
    let each = |family: u8, key: &[u8], found: &[u8]| {
        assert_eq!((family, key, found), ((next % 3) as u8, &next.to_be_bytes()[..], &value(next + 3)[..]));
        next += 1;
        Ok::<(), std::io::Error>(())
    };
    snapshots.load(&newest, each).await.expect("it is whole");
    assert_eq!(next, 2000);
    let unfinished = snapshots.begin(5, 0, "node-2");
    drop(unfinished);
    let retained = snapshots.retain(5).await.expect("the server answers");
    let kept: BTreeSet<u64> = retained.kept.iter().map(|manifest| manifest.pos.0).collect();
    assert_eq!((kept, retained.deleted), (BTreeSet::from([2, 3]), 1));
    for manifest in &retained.kept {
        snapshots.verify(manifest).await.expect("what stays is whole");
    }
}

/// The bucket by way of another address, tried for so long in all.
fn by_way_of(address: impl core::fmt::Display, url: &str, call: Duration) -> Objects {
    let none = RetryConfig { max_retries: 0, ..RetryConfig::default() };
    let store = AmazonS3Builder::from_env().with_url(url).with_endpoint(format!("http://{address}")).with_retry(none).build();
    let (_, root) = ObjectStoreScheme::parse(&url.parse().expect("a URL")).expect("one of S3");
    let patience = Patience { request: call / 3, call };
    Objects::new(Arc::new(store.expect("the environment names a server")), root).with_patience(patience)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_answers_a_server_that_is_away_and_one_that_is_silent() {
    let Some(url) = place() else { return };
    let Some(server) = std::env::var("AWS_ENDPOINT").ok().and_then(|url| url.strip_prefix("http://").map(str::to_owned)) else {
        return eprintln!("NOT RUN: the test of lost answers against an S3 server, because AWS_ENDPOINT is no http:// address");
    };
    let proxy = proxy::Proxy::before(server).await;
    let (shard, direct) = (LogName::Shard(1), ObjectLog::new(open(&url)));
    let content = |text: &'static str| Bytes::from_static(text.as_bytes());
    // Longer than a busy machine takes for a few answers.
    let log = ObjectLog::new(by_way_of(proxy.address, &url, Duration::from_secs(120)));
    assert_eq!(log.append(shard, Pos::START, content("1")).await, Ok(Pos(1)));

    // The write is done and its answer is lost, then also that of the look at what stands: it is ours.
    for (place, lose) in [(1, 1), (2, 2), (3, 3)] {
        proxy.lose_answers(lose);
        assert_eq!(log.append(shard, Pos(place), content("own")).await, Ok(Pos(place + 1)), "{lose} answers lost");
        assert_eq!(proxy.lost(), lose);
    }
    assert_eq!(direct.bounds(shard).await.map(|bounds| bounds.last), Ok(Pos(4)), "each was stored once");

    // Somebody else's entry stands, and the answer that says so is lost.
    assert_eq!(direct.append(shard, Pos(4), content("claim")).await, Ok(Pos(5)));
    proxy.lose_answers(1);
    assert_eq!(log.append(shard, Pos(4), content("own")).await, Err(AppendError::Conflict));
    assert_eq!(proxy.lost(), 1);

    // No answer comes through at all: nobody knows, and it is there. Of this the end is waited for.
    let log = ObjectLog::new(by_way_of(proxy.address, &url, Duration::from_secs(12)));
    assert_eq!(log.read(shard, Pos(4), 1000).await.map(|entries| entries.len()), Ok(1));
    assert_eq!(log.append(shard, Pos(5), content("own")).await, Ok(Pos(6)));
    proxy.lose_answers(usize::MAX);
    let append = log.append(shard, Pos(6), content("unknown")).await;
    assert!(matches!(append, Err(AppendError::Unknown(_))), "{append:?}");
    assert_eq!(direct.read(shard, Pos(6), 1000).await.map(|entries| entries.len()), Ok(1));
    proxy.lose_answers(0);

    // Silence is unknown too; a port on which nobody listens is not.
    assert_eq!(log.append(shard, Pos(7), content("own")).await, Ok(Pos(8)));
    proxy.fall_silent();
    let append = log.append(shard, Pos(8), content("unknown")).await;
    assert!(matches!(append, Err(AppendError::Unknown(_))), "{append:?}");
    // Bound, so that nobody else gets the port, and not listening.
    let held = tokio::net::TcpSocket::new_v4().expect("a socket");
    held.bind("127.0.0.1:0".parse().expect("an address")).expect("a port is free");
    let nobody = held.local_addr().expect("it is bound");
    let away = ObjectLog::new(by_way_of(nobody, &url, Duration::from_secs(4)));
    let append = away.append(shard, Pos(8), content("not stored")).await;
    assert!(matches!(append, Err(AppendError::NotStored(_))), "{append:?}");
    let read = away.read(shard, Pos::START, 1000).await;
    assert!(matches!(read, Err(ReadError::Unavailable(_))), "{read:?}");
    assert_eq!(direct.bounds(shard).await.map(|bounds| bounds.last), Ok(Pos(8)));
}

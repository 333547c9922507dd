//! The process that is killed: it does one thing with each record, and now and then dies where that matters most.

use super::way::Way;
use super::{GROUP, KEYS, OUTPUTS, topic_of};
use crate::fate::Fate;
use sagamq_api::TopicName;
use sagamq_api::pipeline::ProduceTo;
use sagamq_api::queue::ReceiveRequest;
use sagamq_api::record::ProduceRecord;
use sagamq_sdk::barrier::rocksdb::{MultiThreaded, TransactionDB};
use sagamq_sdk::inbox::rocks::RocksInbox;
use sagamq_sdk::{CancellationToken, Client, ConsumerBuilder, Delivery, HandlerError, RetryPolicy};
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// A worker dies at one in so many records.
const DEATHS: u64 = 12;

/// How long a record is leased: what a dead worker had comes back then.
const LEASE: Duration = Duration::from_secs(1);

/// How long the server may be away.
const PATIENCE: Duration = Duration::from_secs(120);

pub(super) type Db = TransactionDB<MultiThreaded>;

/// Where the worker of a way leaves what it did.
pub(super) fn effects_file(folder: &Path) -> PathBuf {
    folder.join("effects")
}

/// A line for each time that nothing was left to do.
pub(super) fn idle_file(folder: &Path) -> PathBuf {
    folder.join("idle")
}

/// A line for each record that was answered.
pub(super) fn answered_file(folder: &Path) -> PathBuf {
    folder.join("answered")
}

pub(super) fn db_folder(folder: &Path) -> PathBuf {
    folder.join("db")
}

pub(super) fn effect_key(number: &str) -> String {
    format!("effect/{number}")
}

/// A file to which lines are added, each in one write: what is written survives the process.
#[derive(Clone, Debug)]
struct Lines(Arc<File>);

impl Lines {
    fn open(path: &Path) -> io::Result<Self> {
        OpenOptions::new().create(true).append(true).open(path).map(|file| Self(Arc::new(file)))
    }

    fn add(&self, line: &str) -> io::Result<()> {
        (&*self.0).write_all(format!("{line}\n").as_bytes())
    }
}

/// Works until it dies; a worker without a fate works until it is killed, a producer until it is through.
///
/// # Errors
/// What the broker refuses for good, and what the disk says.
pub(super) async fn work(way: Way, url: &str, folder: &Path, records: u64) -> Result<(), HandlerError> {
    let fate = Fate::of_this_process();
    let client = Client::new(url)?;
    let client = client.with_retry(RetryPolicy { attempts: 10_000, deadline: PATIENCE, ..*client.retry_policy() });
    let topic = topic_of(way);
    let effects = Lines::open(&effects_file(folder))?;
    let consumer = client.consumer(topic.clone(), GROUP.parse()?).concurrency(4).lease(LEASE);
    match way {
        Way::AutoAck => auto_ack(&client, &topic, &effects, &Lines::open(&idle_file(folder))?, &fate).await,
        Way::Ack | Way::KeyOrder => acknowledge(consumer, effects, fate).await,
        Way::Stream => stream(&client, topic, &effects, &fate).await,
        Way::Pipeline => tokio::select! {
            ended = pipeline(consumer, fate.clone()) => ended,
            () = fate.anywhere() => Ok(()),
        },
        Way::Inbox => tokio::select! {
            ended = inbox(consumer, &topic, folder, fate.clone()) => ended,
            () = fate.anywhere() => Ok(()),
        },
        Way::ProduceAgain | Way::ProduceOnce => produce(way, &client, &topic, folder, records, &fate).await,
    }
}

fn number(delivery: &Delivery) -> String {
    delivery.record.text().unwrap_or_default()
}

async fn auto_ack(client: &Client, topic: &TopicName, effects: &Lines, idle: &Lines, fate: &Fate) -> Result<(), HandlerError> {
    let request = ReceiveRequest { max_records: Some(5), wait_ms: Some(100), auto_ack: true, ..ReceiveRequest::default() };
    loop {
        match client.receive(topic, &GROUP.parse()?, &request).await {
            Ok(answer) => {
                if answer.deliveries.is_empty() {
                    idle.add("idle")?;
                }
                for delivery in &answer.deliveries {
                    fate.one_in(DEATHS);
                    effects.add(&number(delivery))?;
                }
            }
            // What the server had settled when it was killed is gone: that is what this level says.
            Err(error) if error.is_retryable() || error.is_outcome_unknown() => tokio::time::sleep(Duration::from_millis(20)).await,
            Err(error) => return Err(error.into()),
        }
    }
}

async fn acknowledge(consumer: ConsumerBuilder, effects: Lines, fate: Fate) -> Result<(), HandlerError> {
    let handle = move |delivery: Delivery| {
        let (effects, fate) = (effects.clone(), fate.clone());
        async move {
            effects.add(&number(&delivery))?;
            fate.one_in(DEATHS);
            Ok(())
        }
    };
    Ok(consumer.run(CancellationToken::new(), handle).await?)
}

async fn stream(client: &Client, topic: TopicName, effects: &Lines, fate: &Fate) -> Result<(), HandlerError> {
    // With a name of its own the next process takes its place at once.
    let builder = client.stream_consumer("level-stream".parse()?, vec![topic]).instance("worker".parse()?).max_records(5);
    let mut member = builder.build();
    loop {
        if let Some(batch) = member.poll(Duration::from_millis(200)).await? {
            for record in &batch.records {
                effects.add(&record.text().unwrap_or_default())?;
                fate.one_in(DEATHS);
            }
            // A commit that is refused or has no answer: the records are read again.
            if let Err(error) = member.commit().await {
                eprintln!("a commit was not made: {error}");
            }
        }
    }
}

async fn pipeline(consumer: ConsumerBuilder, fate: Fate) -> Result<(), HandlerError> {
    let outputs: TopicName = OUTPUTS.parse()?;
    let transform = move |delivery: Delivery| {
        let (outputs, fate) = (outputs.clone(), fate.clone());
        async move {
            fate.works();
            fate.one_in(DEATHS);
            let number = number(&delivery);
            Ok(vec![ProduceTo::new(outputs, [ProduceRecord::text(number.as_str()).with_key(number.as_str())])])
        }
    };
    Ok(consumer.process(CancellationToken::new(), transform).await?)
}

async fn inbox(consumer: ConsumerBuilder, topic: &TopicName, folder: &Path, fate: Fate) -> Result<(), HandlerError> {
    let db = Arc::new(Db::open_default(db_folder(folder))?);
    let inbox = RocksInbox::new(topic, &GROUP.parse()?);
    let handle = move |delivery: Delivery| {
        let (db, inbox, fate) = (Arc::clone(&db), inbox.clone(), fate.clone());
        async move {
            fate.works();
            let handled = tokio::task::spawn_blocking(move || {
                let key = effect_key(&number(&delivery));
                inbox.once(&db, &delivery, |txn| {
                    let before = txn.get_for_update(&key, true)?.map_or(0, |bytes| bytes[0]);
                    Ok(txn.put(&key, [before + 1])?)
                })?;
                fate.one_in(DEATHS);
                Ok(())
            });
            handled.await?
        }
    };
    Ok(consumer.run(CancellationToken::new(), handle).await?)
}

async fn produce(way: Way, client: &Client, topic: &TopicName, folder: &Path, records: u64, fate: &Fate) -> Result<(), HandlerError> {
    let path = answered_file(folder);
    let answered = Lines::open(&path)?;
    let before = std::fs::read_to_string(&path)?.lines().count() as u64;
    for number in before..records {
        let key = format!("number-{number}");
        let record = ProduceRecord::text(number.to_string()).with_key((number % KEYS).to_string());
        client.produce(topic, vec![record], (way == Way::ProduceOnce).then_some(key.as_str())).await?;
        fate.one_in(DEATHS);
        answered.add("answered")?;
    }
    Ok(())
}

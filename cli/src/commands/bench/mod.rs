//! `sagamq bench`: sets a run up, measures the disk around it, shows the result, and takes away what it made.

mod own_server;
mod text;

use super::connection;
use crate::args::GlobalArgs;
use crate::args::bench::{BenchCommand, ByArg, EncodingArg, LoadArgs, RecordArgs, ValuesArg};
use crate::bench::access::Access;
use crate::bench::board::Moment;
use crate::bench::consume::By;
use crate::bench::disk::Disk;
use crate::bench::load::{PATIENCE, PATIENCE_WITH_SEVERAL, Plan, Watch};
use crate::bench::payload::{Encoding, Payload, Shape, Values};
use crate::bench::report::{Heading, Report};
use crate::bench::schedule::Schedule;
use crate::bench::{Bench, Done, consume, latency, plot, produce, sagas};
use crate::error::CliError;
use crate::exit::{Exit, INTERRUPTED, leave};
use crate::output::{Output, progress};
use indicatif::ProgressBar;
use jiff::Timestamp;
use own_server::OwnServer;
use sagamq_api::topic::TopicConfig;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Builder;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Longest run.
const DURATION_MAX: Duration = Duration::from_secs(24 * 3_600);

/// Longest time before the measurement.
const WARMUP_MAX: Duration = Duration::from_secs(3_600);

/// Largest body of a produce request that is sent.
const BODY_MAX: u64 = 16 << 20;

/// How long the disk is measured, before and again after the run.
const DISK_SPAN: Duration = Duration::from_millis(500);

/// Bytes of the disk's writes where requests have none of their own: about what a step of a saga writes.
const SAGA_BYTES: u64 = 1_024;

pub(super) fn run(global: &GlobalArgs, command: &BenchCommand) -> Result<Exit, CliError> {
    let output = Output::new(global.output);
    let access = connection::access(&global.connection)?;
    let patience = if access.is_of_several() && !command.load().own_server { PATIENCE_WITH_SEVERAL } else { PATIENCE };
    let plan = plan(command, patience)?;
    if global.verbose {
        crate::serve::log::to_stderr_for_a_client();
    }
    let runtime = super::runtime(Builder::new_multi_thread())?;
    let result = runtime.block_on(around(access, global, command, plan, output));
    runtime.shutdown_background();
    result
}

/// With a server of its own, if that was asked for.
async fn around(access: Access, global: &GlobalArgs, command: &BenchCommand, plan: Plan, output: Output) -> Result<Exit, CliError> {
    let load = command.load();
    if !load.own_server {
        return measure(access, load.data_dir.clone(), global, command, plan, output).await;
    }
    let folder = load.data_dir.clone().unwrap_or_else(std::env::temp_dir);
    let server = OwnServer::start(&folder).await?;
    let (access, disk) = (Access::plain(server.url.clone()), server.folder().to_owned());
    let result = measure(access, Some(disk), global, command, plan, output).await;
    server.stop().await;
    result
}

async fn measure(
    access: Access,
    disk_folder: Option<PathBuf>,
    global: &GlobalArgs,
    command: &BenchCommand,
    plan: Plan,
    output: Output,
) -> Result<Exit, CliError> {
    let client = access.builder().retry(super::retry_policy(global.retry_for)).build()?;
    let bar = progress::spinner();
    let run = format!("bench-{}", &Uuid::new_v4().simple().to_string()[..12]);
    let bench = Bench {
        access,
        client,
        run,
        plan,
        connections: command.connections().into(),
        stop: stop_at_a_signal(),
        watch: watch(&bar, command),
    };
    let started_at_ms = Timestamp::now().as_millisecond();
    let bytes = command.record().map_or(SAGA_BYTES, |record| record.size * u64::from(command.batch()));
    let before = disk(disk_folder.as_deref(), bytes).await?;
    let done = load(&bench, command).await;
    let after = disk(disk_folder.as_deref(), bytes).await?;
    let left = clean_up(&bench, command).await;
    bar.finish_and_clear();
    let mut done = done?;
    done.notes.extend(left);
    if disk_folder.is_none() {
        done.notes.push("the disk was not measured: say with --data-dir where the server's lies, if it is on this machine".to_owned());
    }
    let heading = Heading {
        bench: command.name(),
        server: bench.access.url.clone(),
        own_server: command.load().own_server,
        run: bench.run.clone(),
        started_at_ms,
        settings: settings(command),
        records_of_request: command.batch().into(),
    };
    let report = Report::new(heading, &bench.plan, before.zip(after).map(|(before, after)| before.with(after)), done);
    write(&report, command.load(), output)?;
    output.answer(&report, |report| text::report(output, report))?;
    Ok(if report.is_ok() { Exit::Ok } else { Exit::Failed })
}

async fn load(bench: &Bench, command: &BenchCommand) -> Result<Done, CliError> {
    let batch = usize::from(command.batch());
    let done = match command {
        BenchCommand::Produce(args) => {
            produce::run(bench, topic(&args.record)?, Payload::new(shape(&args.record, batch)), args.record.idempotent).await
        }
        BenchCommand::Consume(args) => {
            let by = match args.by {
                ByArg::Group => By::Group,
                ByArg::AutoAck => By::AutoAck,
                ByArg::Stream => By::Stream,
                ByArg::Read => By::Read,
            };
            consume::run(bench, topic(&args.record)?, Payload::new(shape(&args.record, batch)), args.records, by).await
        }
        BenchCommand::Latency(args) => {
            let payload = Payload::stamped(shape(&args.record, batch));
            latency::run(bench, topic(&args.record)?, payload, args.record.idempotent, args.consumers.into()).await
        }
        BenchCommand::Sagas(_) => sagas::run(bench).await,
    };
    Ok(done?)
}

fn shape(record: &RecordArgs, batch: usize) -> Shape {
    let values = match record.values {
        ValuesArg::Random => Values::Random,
        ValuesArg::Same => Values::Same,
        ValuesArg::Orders => Values::Orders,
    };
    let encoding = match record.encoding {
        EncodingArg::Binary => Encoding::Binary,
        EncodingArg::Json => Encoding::Json,
    };
    Shape {
        encoding,
        compression: record.compression,
        partitions: record.partitions,
        batch,
        size: usize::try_from(record.size).unwrap_or(usize::MAX),
        values,
        keys: record.keys,
    }
}

fn values_name(values: ValuesArg) -> &'static str {
    match values {
        ValuesArg::Random => "random",
        ValuesArg::Same => "same",
        ValuesArg::Orders => "orders",
    }
}

fn topic(record: &RecordArgs) -> Result<TopicConfig, CliError> {
    let config = TopicConfig { partitions: record.partitions, durability: record.durability, ..TopicConfig::default() };
    let size = u32::try_from(record.size).unwrap_or(u32::MAX).saturating_add(1_024);
    let config = TopicConfig { record_bytes_max: config.record_bytes_max.max(size), ..config };
    match config.faults() {
        faults if faults.is_empty() => Ok(config),
        faults => Err(CliError::Usage(faults.join("; "))),
    }
}

/// How it is sent, or why it cannot be.
fn plan(command: &BenchCommand, patience: Duration) -> Result<Plan, CliError> {
    let usage = |said: String| CliError::Usage(said);
    let LoadArgs { rate, duration, warmup, requests, .. } = *command.load();
    if duration.is_zero() || duration > DURATION_MAX {
        return Err(usage("--duration must be above 0 and at most 24h".to_owned()));
    }
    if warmup > WARMUP_MAX {
        return Err(usage("--warmup must be at most 1h".to_owned()));
    }
    if requests == Some(0) || matches!(command, BenchCommand::Consume(args) if args.records == 0) {
        return Err(usage("a run has at least one request: --requests and --records must be above 0".to_owned()));
    }
    let batch = u64::from(command.batch());
    if let Some(record) = command.record() {
        // In JSON, random bytes take a third more.
        let body = record.size.saturating_mul(batch).saturating_mul(4) / 3;
        if body > BODY_MAX {
            return Err(usage(format!(
                "a request of {batch} records of {} bytes is larger than 16MiB: give a smaller --batch or --size",
                record.size
            )));
        }
        topic(record)?;
    }
    let schedule = rate.map(|rate| Schedule::new(rate / batch as f64)).transpose().map_err(usage)?;
    // What is there is all there is: none of it is spent on a warm-up.
    let warmup = if matches!(command, BenchCommand::Consume(_)) { Duration::ZERO } else { warmup };
    Ok(Plan { schedule, warmup, duration, count_max: requests, interval: Duration::from_secs(1), patience })
}

/// The first Ctrl-C ends the run, with its result; the second one ends the program.
fn stop_at_a_signal() -> CancellationToken {
    let stop = CancellationToken::new();
    let stopping = stop.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            stopping.cancel();
        }
        if tokio::signal::ctrl_c().await.is_ok() {
            leave(INTERRUPTED);
        }
    });
    stop
}

fn watch(bar: &ProgressBar, command: &BenchCommand) -> Watch {
    let (bar, unit) = (bar.clone(), if matches!(command, BenchCommand::Sagas(_)) { "sagas" } else { "records" });
    bar.set_message(format!("{}: starting", command.name()));
    Arc::new(move |moment: &Moment| {
        let Moment { records_per_second, p50_ms, p99_ms, max_ms, errors, .. } = *moment;
        let failed = if errors > 0 { format!(", {errors} errors") } else { String::new() };
        bar.set_message(format!("{records_per_second:.0} {unit}/s, p50 {p50_ms:.2} ms, p99 {p99_ms:.2} ms, max {max_ms:.2} ms{failed}"));
    })
}

async fn disk(folder: Option<&Path>, bytes: u64) -> Result<Option<Disk>, CliError> {
    let Some(folder) = folder.map(Path::to_owned) else { return Ok(None) };
    let what = format!("cannot measure the disk in {}", folder.display());
    let measured = tokio::task::spawn_blocking(move || Disk::measure(&folder, bytes, DISK_SPAN)).await;
    let measured = measured.map_err(|error| CliError::Failed(error.to_string()))?;
    measured.map(Some).map_err(|error| CliError::Io { what, error })
}

/// Deletes the topic of the run; what could not be.
async fn clean_up(bench: &Bench, command: &BenchCommand) -> Option<String> {
    // An own server's data goes as a whole.
    if command.load().own_server {
        return None;
    }
    if matches!(command, BenchCommand::Sagas(_)) {
        let name = sagas::NAME;
        return Some(format!(
            "the definition `{name}` and its two topics stay, because what is published never goes; sagas go a minute after their end"
        ));
    }
    let topic = bench.topic();
    if command.load().keep {
        return Some(format!("the topic `{topic}` stays, as --keep says"));
    }
    let deleted = async {
        if matches!(command, BenchCommand::Consume(args) if args.by == ByArg::Stream) {
            // Its readers have just left, or their sessions run out: a group outlives its topics.
            drop(bench.client.delete_stream_group(&consume::group(&bench.run)).await);
        }
        bench.client.delete_topic(&topic).await
    };
    deleted.await.err().map(|error| format!("the topic `{topic}` could not be deleted: {error}; use `sagamq topic delete {topic}`"))
}

fn settings(command: &BenchCommand) -> Value {
    let load = command.load();
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut settings = json!({
        "rate": load.rate,
        "duration_ms": millis(load.duration),
        "warmup_ms": millis(load.warmup),
        "requests": load.requests,
        "connections": command.connections(),
    });
    let map = settings.as_object_mut().expect("it is an object");
    if let Some(record) = command.record() {
        map.insert("batch".into(), command.batch().into());
        map.insert("size".into(), record.size.into());
        map.insert("values".into(), values_name(record.values).into());
        map.insert("encoding".into(), if record.encoding == EncodingArg::Binary { "binary" } else { "json" }.into());
        map.insert("compression".into(), record.compression.as_str().into());
        map.insert("keys".into(), record.keys.into());
        map.insert("partitions".into(), record.partitions.into());
        map.insert("durability".into(), record.durability.name().into());
        map.insert("idempotent".into(), record.idempotent.into());
    }
    match command {
        BenchCommand::Consume(args) => {
            map.insert("records".into(), args.records.into());
            let by = match args.by {
                ByArg::Group => "group",
                ByArg::AutoAck => "auto-ack",
                ByArg::Stream => "stream",
                ByArg::Read => "read",
            };
            map.insert("by".into(), by.into());
        }
        BenchCommand::Latency(args) => drop(map.insert("consumers".into(), args.consumers.into())),
        BenchCommand::Produce(_) | BenchCommand::Sagas(_) => {}
    }
    settings
}

/// Into the files that were asked for.
fn write(report: &Report, load: &LoadArgs, output: Output) -> Result<(), CliError> {
    if let Some(path) = &load.json {
        let text = serde_json::to_string_pretty(report).map_err(|error| CliError::Failed(error.to_string()))?;
        std::fs::write(path, text + "\n").map_err(|error| CliError::Io { what: format!("cannot write {}", path.display()), error })?;
    }
    if let Some(path) = &load.plot {
        // A run without a single answer has a result all the same.
        if let Err(error) = plot::draw(path, &plot::panels(report)) {
            output.note(&format!("{}: {error}", path.display()));
        }
    }
    Ok(())
}

//! A soak: half of the rate that the server takes at most, for half an hour, with retention on, a group of each kind, and sagas beside. It looks
//! at memory, disk, stalls and lag every few seconds, and judges in the end.

mod judge;
mod mix;
mod report;
mod sample;

pub use judge::{Verdict, judge};
pub use sample::Sample;

use crate::ServerProcess;
use crate::server::eventually;
use mix::{Mix, WARMUP};
use sample::Looker;
use std::path::PathBuf;
use std::time::Duration;

/// How often it is looked.
const INTERVAL: Duration = Duration::from_secs(5);

/// How long the peak is measured.
const PEAK: Duration = Duration::from_secs(10);

/// What is done.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long the load lasts.
    pub minutes: f64,
    /// Records a second; none: half of the peak, which is measured first.
    pub rate: Option<f64>,
    /// Where the result is written.
    pub out: PathBuf,
}

const USAGE: &str = "usage: sagamq-soak [--minutes N] [--rate RECORDS-A-SECOND] [--out FOLDER]";

impl Options {
    /// Reads the command line.
    ///
    /// # Errors
    /// With what was wrong and how it is used.
    pub fn from_args(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self { minutes: 30.0, rate: None, out: PathBuf::from("target/soak") };
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or(USAGE)?;
            let number = || value.parse::<f64>().ok().filter(|number| *number > 0.0 && number.is_finite()).ok_or(USAGE);
            match name.as_str() {
                "--minutes" => options.minutes = number()?,
                "--rate" => options.rate = Some(number()?),
                "--out" => options.out = value.into(),
                _ => return Err(USAGE.to_owned()),
            }
        }
        Ok(options)
    }
}

/// What a soak came to.
#[derive(Clone, Debug)]
pub struct Soaked {
    /// The peak that was measured.
    pub peak: Option<f64>,
    /// Records a second that were asked for.
    pub rate: f64,
    /// Every look.
    pub samples: Vec<Sample>,
    /// What was judged.
    pub verdicts: Vec<Verdict>,
}

impl Soaked {
    /// Whether everything is as it must be.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.verdicts.iter().all(|verdict| verdict.ok)
    }
}

/// Runs it, and writes `soak.json` and `soak.svg`. Progress goes to stderr.
///
/// # Panics
/// When the server cannot be started, or the result not written.
pub async fn run(options: &Options) -> Soaked {
    std::fs::create_dir_all(&options.out).expect("a folder for the result");
    let mut server = ServerProcess::start().await;
    server.kill();
    let mut command = ServerProcess::command(&server.data(), server.address());
    command.args(["--retention-interval", "5s"]);
    server.restart_as(command).await;
    let peak = match options.rate {
        Some(_) => None,
        None => Some(peak(&server).await),
    };
    let rate = options.rate.or(peak.map(|peak| peak / 2.0)).expect("one of both is there");
    eprintln!("{}{rate:.0} records of {} bytes a second", peak.map_or(String::new(), |peak| format!("peak {peak:.0}; ")), mix::SIZE);
    let (samples, mut faults) = soak(&server, rate, Duration::from_secs_f64(options.minutes * 60.0)).await;
    let mut verdicts = judge(&samples);
    verdicts.append(&mut faults);
    let soaked = Soaked { peak, rate, samples, verdicts };
    report::write(&soaked, &options.out).expect("the result can be written");
    soaked
}

/// Records a second that the same load takes when it is sent as fast as answers come.
async fn peak(server: &ServerProcess) -> f64 {
    let mix = Mix::start(server, "peak", None).await.expect("the server takes it");
    eprintln!("measuring the peak for {} s", (WARMUP + PEAK).as_secs());
    tokio::time::sleep_until(mix.began + WARMUP + PEAK).await;
    let rate = mix.boards[0].tick(mix.began.elapsed()).records_per_second;
    let (client, topic, stream) = (mix.client.clone(), mix.topic.clone(), mix.stream.clone());
    mix.stop().await;
    // The readers' last leases and sessions run out.
    eventually("the topic of the peak goes", async || {
        drop(client.delete_stream_group(&stream).await);
        client.delete_topic(&topic).await.ok()
    })
    .await;
    rate
}

async fn soak(server: &ServerProcess, rate: f64, time: Duration) -> (Vec<Sample>, Vec<Verdict>) {
    let mut mix = Mix::start(server, "soak", Some(rate)).await.expect("the server takes it");
    let looker =
        Looker { server, client: mix.client.clone(), topic: mix.topic.clone(), queue: mix.queue.clone(), stream: mix.stream.clone() };
    let (mut samples, mut faults) = (Vec::new(), Vec::new());
    let mut next = INTERVAL;
    eprintln!("{}", report::HEADER);
    while next <= time && !mix.is_broken() {
        tokio::time::sleep_until(mix.began + WARMUP + next).await;
        match looker.look(mix.began.elapsed(), mix.boards.each_ref().map(AsRef::as_ref)).await {
            Ok(sample) => {
                eprintln!("{}", report::line(&sample));
                samples.push(sample);
            }
            Err(error) => {
                faults.push(Verdict { what: "looks", ok: false, says: format!("the server could not be asked: {error}") });
                break;
            }
        }
        next += INTERVAL;
    }
    faults.push(Verdict { what: "parts", ok: !mix.is_broken(), says: "every part of the load ran to the end".to_owned() });
    faults.extend(trimmed(&looker).await);
    mix.stop().await;
    (samples, faults)
}

/// Retention must not have been faster than the groups.
async fn trimmed(looker: &Looker<'_>) -> Vec<Verdict> {
    let queue = looker.client.describe_group(&looker.topic, &looker.queue).await.map(|group| group.trimmed_unsettled);
    let stream = looker.client.describe_stream_group(&looker.stream).await.map(|group| group.trimmed_unsettled);
    let verdict = |what, trimmed: Result<u64, _>| match trimmed {
        Ok(trimmed) => Verdict { what, ok: trimmed == 0, says: format!("retention took {trimmed} records that it had not read") },
        Err(error) => Verdict { what, ok: false, says: format!("the server could not be asked: {error}") },
    };
    vec![verdict("queue group", queue), verdict("stream group", stream)]
}

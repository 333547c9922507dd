//! What is asked of a run.

use super::plan::Event;
use std::path::PathBuf;
use std::time::Duration;

/// Where the log is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogPlace {
    /// In a folder of the drill's own: no server is needed, and nothing can be lost on the way.
    Folder,
    /// In a bucket, `s3://BUCKET`, of the server that `AWS_ENDPOINT` names.
    Bucket(String),
}

/// The times of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// How long the active node may answer after a heartbeat.
    pub lease: Duration,
    /// How often a node says that it lives.
    pub heartbeat: Duration,
    /// After which time without one another node takes over.
    pub claim_after: Duration,
}

/// What is asked of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Events, each of which is one run.
    pub runs: u32,
    /// The same seed makes the same choices.
    pub seed: u64,
    /// Whether each node has a network namespace of its own.
    pub namespaces: bool,
    /// Where the log is.
    pub log: LogPlace,
    /// The times of the nodes.
    pub times: Times,
    /// For how long the active node is stopped: from, to.
    pub pause: [Duration; 2],
    /// How long the load goes on without an event between two of them.
    pub calm: Duration,
    /// A takeover that takes longer is wrong.
    pub takeover_max: Duration,
    /// Tickets, which twice as many want.
    pub tickets: u32,
    /// Sagas with every kind of step at a time, as in the drill of the kinds; 0: none.
    pub kinds: usize,
    /// Only these events; all if there are none.
    pub events: Vec<Event>,
    /// The binary of another version, with which all nodes start. They are upgraded to the one beside the drill in the middle of the run.
    pub other_binary: Option<PathBuf>,
    /// Where everything is kept that the nodes write; a folder for the time of the run if nothing is said.
    pub folder: Option<PathBuf>,
}

const USAGE: &str = "\
usage: sagamq-drill-cluster [--runs N] [--seed N] [--no-namespaces] [--log folder] [--events NAME,NAME] [--tickets N] [--kinds N]
                            [--lease MS] [--heartbeat MS] [--claim-after MS] [--pause-from MS] [--pause-to MS] [--calm MS] [--takeover-max MS]
                            [--other-binary FILE] [--keep FOLDER]";

impl Default for Options {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            runs: 40,
            seed: 1,
            namespaces: true,
            log: LogPlace::Folder,
            times: Times { lease: seconds(5), heartbeat: seconds(1), claim_after: seconds(7) },
            pause: [seconds(10), seconds(60)],
            calm: seconds(5),
            takeover_max: seconds(10),
            tickets: 10_000,
            kinds: 8,
            events: Vec::new(),
            other_binary: None,
            folder: None,
        }
    }
}

impl Options {
    /// The options of a command line, with the bucket that the environment names.
    ///
    /// # Errors
    /// How it is called, when this is not how.
    pub fn from_args(mut arguments: impl Iterator<Item = String>, bucket: Option<String>) -> Result<Self, String> {
        let mut options = Self { log: bucket.map_or(LogPlace::Folder, LogPlace::Bucket), ..Self::default() };
        while let Some(name) = arguments.next() {
            if name == "--no-namespaces" {
                options.namespaces = false;
                continue;
            }
            let value = arguments.next().ok_or_else(|| format!("{name} has no value\n{USAGE}"))?;
            let number = || value.parse::<u64>().map_err(|_| format!("{name} takes a number, and this is `{value}`\n{USAGE}"));
            let small = || number().and_then(|number| u32::try_from(number).map_err(|_| format!("{name} {value} is too much\n{USAGE}")));
            let time = || number().map(Duration::from_millis);
            match name.as_str() {
                "--runs" => options.runs = small()?,
                "--seed" => options.seed = number()?,
                "--tickets" => options.tickets = small()?,
                "--kinds" => options.kinds = small()? as usize,
                "--lease" => options.times.lease = time()?,
                "--heartbeat" => options.times.heartbeat = time()?,
                "--claim-after" => options.times.claim_after = time()?,
                "--pause-from" => options.pause[0] = time()?,
                "--pause-to" => options.pause[1] = time()?,
                "--calm" => options.calm = time()?,
                "--takeover-max" => options.takeover_max = time()?,
                "--other-binary" => options.other_binary = Some(value.into()),
                "--keep" => options.folder = Some(value.into()),
                "--log" if value == "folder" => options.log = LogPlace::Folder,
                "--events" => {
                    let named =
                        |name: &str| Event::named(name).ok_or_else(|| format!("there is no event `{name}`: {}\n{USAGE}", Event::names()));
                    options.events = value.split(',').map(named).collect::<Result<_, _>>()?;
                }
                _ => return Err(format!("there is no option {name} {value}\n{USAGE}")),
            }
        }
        if let Some(binary) = options.other_binary.as_ref().filter(|binary| !binary.is_file()) {
            return Err(format!("--other-binary: there is no file {}\n{USAGE}", binary.display()));
        }
        if options.pause[0] > options.pause[1] {
            return Err(format!("--pause-from is longer than --pause-to\n{USAGE}"));
        }
        Ok(options)
    }

    /// The events that can happen here: some need what stands between a node and the log, or between nodes.
    #[must_use]
    pub fn possible(&self) -> Vec<Event> {
        let wanted = if self.events.is_empty() { &Event::ALL[..] } else { &self.events[..] };
        wanted.iter().copied().filter(|event| self.is_possible(*event)).collect()
    }

    /// Whether an event can happen here.
    #[must_use]
    pub fn is_possible(&self, event: Event) -> bool {
        match event {
            Event::CutFromLog | Event::LogFaults => matches!(self.log, LogPlace::Bucket(_)),
            Event::CutFromPeers => self.namespaces,
            Event::Upgrade => self.other_binary.is_some(),
            _ => true,
        }
    }

    /// The arguments that make the same run once more.
    #[must_use]
    pub fn again(&self) -> String {
        let mut again = format!("--runs {} --seed {}", self.runs, self.seed);
        let others = Self { runs: self.runs, seed: self.seed, log: self.log.clone(), ..Self::default() };
        if !self.namespaces {
            again += " --no-namespaces";
        }
        let ms = |name: &str, now: Duration, usual: Duration| (now != usual).then(|| format!(" {name} {}", now.as_millis()));
        let times = [
            ms("--lease", self.times.lease, others.times.lease),
            ms("--heartbeat", self.times.heartbeat, others.times.heartbeat),
            ms("--claim-after", self.times.claim_after, others.times.claim_after),
            ms("--pause-from", self.pause[0], others.pause[0]),
            ms("--pause-to", self.pause[1], others.pause[1]),
            ms("--calm", self.calm, others.calm),
            ms("--takeover-max", self.takeover_max, others.takeover_max),
            (self.tickets != others.tickets).then(|| format!(" --tickets {}", self.tickets)),
            (self.kinds != others.kinds).then(|| format!(" --kinds {}", self.kinds)),
        ];
        again.extend(times.into_iter().flatten());
        again.extend(self.other_binary.iter().map(|binary| format!(" --other-binary {}", binary.display())));
        if !self.events.is_empty() {
            again += " --events ";
            again += &self.events.iter().map(|event| event.name()).collect::<Vec<_>>().join(",");
        }
        again
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Options, String> {
        Options::from_args(line.split_whitespace().map(str::to_owned), None)
    }

    #[test]
    fn what_is_said_counts_and_the_rest_is_as_ever() {
        assert_eq!(read(""), Ok(Options::default()));
        let line =
            "--runs 3 --seed 7 --no-namespaces --lease 800 --pause-from 1000 --pause-to 2000 --events kill,pause --tickets 20 --kinds 2";
        let options = read(line).expect("legal");
        assert_eq!((options.runs, options.seed, options.namespaces, options.tickets, options.kinds), (3, 7, false, 20, 2));
        assert_eq!(options.times, Times { lease: Duration::from_millis(800), ..Options::default().times });
        assert_eq!(options.events, [Event::Kill, Event::Pause]);
        assert_eq!(read(&options.again()), Ok(options), "what repeats a run is the same run");
        assert_eq!(read(&Options::default().again()), Ok(Options::default()));
    }

    #[test]
    fn what_is_none_is_told_with_how_it_is_used() {
        for line in [
            "--runs",
            "--runs x",
            "--events fire",
            "--pause-from 9000 --pause-to 1",
            "--log s3",
            "--what 1",
            "--other-binary /no/such/file",
        ] {
            let told = read(line).expect_err(line);
            assert!(told.contains("usage: sagamq-drill-cluster"), "{told}");
        }
    }

    #[test]
    fn what_needs_a_network_does_not_happen_without_one() {
        let folder = Options { namespaces: false, ..Options::default() };
        assert!(folder.possible().contains(&Event::Kill));
        for event in [Event::CutFromLog, Event::LogFaults, Event::CutFromPeers] {
            assert!(!folder.possible().contains(&event), "{event:?}");
        }
        let bucket = Options { log: LogPlace::Bucket("s3://b".to_owned()), ..Options::default() };
        let upgraded = Options { other_binary: Some(std::env::current_exe().expect("a test has a path")), ..bucket.clone() };
        assert_eq!(upgraded.possible(), Event::ALL);
        assert!(!bucket.possible().contains(&Event::Upgrade), "there is nothing to upgrade from");
        assert_eq!(bucket.possible().len(), Event::ALL.len() - 1);
        let again = read(&upgraded.again()).expect("legal");
        assert_eq!(again, Options { log: LogPlace::Folder, ..upgraded });
    }
}

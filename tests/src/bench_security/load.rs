//! What is asked of each server.

use super::guard::Guarded;
use serde_json::Value;
use std::path::Path;
use std::process::Stdio;

/// A load by `sagamq bench`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Load {
    Batches,
    Single,
    Sagas,
}

/// What a load came to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    pub(super) per_second: f64,
    pub(super) p99_ms: f64,
}

pub(super) fn named(name: &str) -> Result<Load, String> {
    let names = || Load::ALL.map(Load::name).join(", ");
    Load::ALL.into_iter().find(|load| load.name() == name).ok_or_else(|| format!("no load `{name}`; there are {}", names()))
}

impl Load {
    pub(super) const ALL: [Self; 3] = [Self::Batches, Self::Single, Self::Sagas];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Batches => "batches",
            Self::Single => "single",
            Self::Sagas => "sagas",
        }
    }

    pub(super) fn says(self) -> &'static str {
        match self {
            Self::Batches => "100 records of 1 KiB a request, binary, 16 connections",
            Self::Single => "one record of 100 bytes a request, JSON, 64 connections",
            Self::Sagas => "sagas of four steps over two topics, 64 at a time",
        }
    }

    pub(super) fn unit(self) -> &'static str {
        if self == Self::Sagas { "sagas" } else { "records" }
    }

    fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Batches => &["produce"],
            Self::Single => &["produce", "--batch", "1", "--size", "100B", "--encoding", "json", "--connections", "64"],
            Self::Sagas => &["sagas"],
        }
    }

    /// # Panics
    /// When the load fails, or its books do not balance.
    pub(super) async fn measure(self, program: &Path, server: &Guarded, seconds: u32) -> Rate {
        let mut command = server.client(program);
        command.args(["--output", "json", "bench"]).args(self.arguments()).args(["--warmup", "1s", "--duration", &format!("{seconds}s")]);
        let done = command.stdin(Stdio::null()).output().await.expect("the program runs");
        assert!(done.status.success(), "sagamq bench {}: {}", self.name(), String::from_utf8_lossy(&done.stderr));
        let report: Value = serde_json::from_slice(&done.stdout).expect("a report");
        let figure = |pointer: &str| report.pointer(pointer).and_then(Value::as_f64).expect("a report has it");
        Rate { per_second: figure("/results/0/records_per_second"), p99_ms: figure("/results/0/latency_ms/p99") }
    }
}

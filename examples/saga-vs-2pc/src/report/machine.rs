//! What the comparison ran on.

use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;
use tokio::time::Instant;

/// A machine, and what its disk gives at best.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// The processor's name.
    pub processor: String,
    /// Processors that programs see.
    pub cores: usize,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// The system's kernel.
    pub kernel: String,
    /// Writes of 1 KiB with `fdatasync` a second, by one thread, before anything else ran.
    pub disk_syncs_per_second: f64,
    /// Programs that wanted a processor before the run, as the system's average over a minute.
    pub load_average: f64,
}

impl Machine {
    /// Looks.
    ///
    /// # Errors
    /// When `folder` takes no file.
    pub fn look(folder: &Path) -> std::io::Result<Self> {
        let first = |path: &str, name: &str| -> Option<String> {
            let text = std::fs::read_to_string(path).ok()?;
            let line = text.lines().find(|line| line.starts_with(name))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let word = |path: &str, number: usize| -> Option<String> {
            Some(std::fs::read_to_string(path).ok()?.split_whitespace().nth(number)?.to_owned())
        };
        let memory = first("/proc/meminfo", "MemTotal").and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
        Ok(Self {
            processor: first("/proc/cpuinfo", "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_mib: memory.unwrap_or(0) / 1024,
            kernel: word("/proc/version", 2).unwrap_or_default(),
            disk_syncs_per_second: syncs(folder)?,
            load_average: word("/proc/loadavg", 0).and_then(|text| text.parse().ok()).unwrap_or(0.0),
        })
    }
}

fn syncs(folder: &Path) -> std::io::Result<f64> {
    let path = folder.join("disk-probe");
    let mut file = File::create(&path)?;
    let (began, mut writes) = (Instant::now(), 0_u32);
    while began.elapsed() < Duration::from_millis(500) {
        file.write_all(&[0x5a; 1024])?;
        file.sync_data()?;
        writes += 1;
    }
    let rate = f64::from(writes) / began.elapsed().as_secs_f64();
    std::fs::remove_file(&path)?;
    Ok(rate)
}

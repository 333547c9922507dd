//! Measures how long an append, a read and a look at the end take on an object storage: `sagamq-bench-objects URL [APPENDS]`.
//!
//! Writes below a folder of its own and removes what it can. Figures of a day are in `docs/decisions/0074-the-log-on-object-storage.md`.

use bytes::Bytes;
use core::error::Error;
use core::time::Duration;
use sagamq_cluster::log::object::ObjectLog;
use sagamq_cluster::log::{CommitLog as _, LogName, Pos};
use sagamq_cluster::objects::Objects;
use std::time::Instant;
use uuid::Uuid;

const SIZES: [(&str, usize); 3] = [("1 KiB", 1 << 10), ("64 KiB", 64 << 10), ("1 MiB", 1 << 20)];

#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().ok_or("say on which object storage: file:///FOLDER or s3://BUCKET/PREFIX")?;
    let appends: usize = arguments.next().map_or(Ok(300), |count| count.parse())?;
    let url = format!("{}/bench-{}", url.trim_end_matches('/'), Uuid::new_v4());
    println!(
        "{:<8} {:>8} {:>8} {:>8} {:>8} {:>8}   milliseconds, {appends} appends of one writer",
        "append", "p50", "p90", "p99", "max", "MiB/s"
    );
    for (shard, (name, bytes)) in (0..).zip(SIZES) {
        let (shard, log) = (LogName::Shard(shard), ObjectLog::new(Objects::open(&url)?));
        let mut payload = vec![0; bytes];
        let (mut last, mut took) = (Pos::START, Vec::with_capacity(appends));
        for number in 0..appends {
            payload[..8].copy_from_slice(&(number as u64).to_le_bytes());
            let payload = Bytes::copy_from_slice(&payload);
            let began = Instant::now();
            last = log.append(shard, last, payload).await?;
            took.push(began.elapsed());
        }
        let all: Duration = took.iter().sum();
        took.sort_unstable();
        let at = |part: f64| took[((took.len() - 1) as f64 * part) as usize].as_secs_f64() * 1000.0;
        let rate = (appends * bytes) as f64 / (1 << 20) as f64 / all.as_secs_f64();
        println!("{name:<8} {:>8.2} {:>8.2} {:>8.2} {:>8.2} {rate:>8.2}", at(0.5), at(0.9), at(0.99), at(1.0));

        let newcomer = ObjectLog::new(Objects::open(&url)?);
        let began = Instant::now();
        let bounds = newcomer.bounds(shard).await?;
        let (found, began) = (began.elapsed(), Instant::now());
        let (mut behind, mut read) = (Pos::START, 0);
        while behind < bounds.last {
            let entries = newcomer.read(shard, behind, 4 << 20).await?;
            read += entries.iter().map(|entry| entry.bytes.len()).sum::<usize>();
            behind = entries.last().ok_or("the log ends before its end")?.pos;
        }
        let read_rate = read as f64 / (1 << 20) as f64 / began.elapsed().as_secs_f64();
        println!("         its end found in {:.1} ms, read at {read_rate:.1} MiB/s", found.as_secs_f64() * 1000.0);
        log.trim(shard, bounds.last).await?;
    }
    Ok(())
}

//! What the disk gives at best: one thread appends to one file and calls `fdatasync` after each write.

use crate::measure::now;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

/// Writes with a sync each, a second.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DiskRate {
    /// Writes of 1 KiB.
    pub(crate) small: f64,
    /// Writes of 100 KiB, the size of a batch in this benchmark.
    pub(crate) batch: f64,
}

/// Measures beside the data directory, on the same file system.
pub(crate) fn measure(data: &Path, span: Duration) -> DiskRate {
    DiskRate { small: writes(data, 1024, span), batch: writes(data, 100 * 1024, span) }
}

/// Writes of so many bytes a second, beside the data directory.
pub(crate) fn writes(data: &Path, bytes: usize, span: Duration) -> f64 {
    let path = data.with_file_name("disk-probe");
    let mut file = File::create(&path).expect("a file beside the data");
    let block = vec![0x5a; bytes];
    let (began, mut writes) = (now(), 0_u32);
    while began.elapsed() < span {
        file.write_all(&block).expect("the disk takes it");
        file.sync_data().expect("the disk syncs");
        writes += 1;
    }
    let rate = f64::from(writes) / began.elapsed().as_secs_f64();
    std::fs::remove_file(&path).expect("the probe is this function's own");
    rate
}

//! What the system says of the disk: bytes that this process wrote, and bytes that the data takes.

use crate::measure::now;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The disk under one directory.
#[derive(Debug)]
pub(crate) struct Disk(PathBuf);

impl Disk {
    pub(crate) fn new(directory: &Path) -> Self {
        Self(directory.to_owned())
    }

    /// Bytes that this process caused to be written to the device, ever.
    pub(crate) fn written(&self) -> u64 {
        let io = std::fs::read_to_string("/proc/self/io").expect("Linux tells it");
        let bytes = io.lines().find_map(|line| line.strip_prefix("write_bytes: ")?.parse().ok());
        bytes.expect("the system counts it")
    }

    /// Bytes on the device under the directory.
    pub(crate) fn used(&self) -> u64 {
        use std::os::unix::fs::MetadataExt as _;
        // A file may go while it is looked at.
        files(&self.0).iter().filter_map(|file| file.metadata().ok()).map(|file| file.blocks() * 512).sum()
    }

    /// Waits until nothing was written for three seconds.
    pub(crate) fn wait_until_quiet(&self) {
        let (mut last, mut since) = (self.written(), now());
        while since.elapsed() < Duration::from_secs(3) {
            std::thread::sleep(Duration::from_millis(50));
            let written = self.written();
            // A note of a few KiB about once a second is no work.
            if written > last + (256 << 10) {
                (last, since) = (written, now());
            }
        }
    }

    /// Makes the system forget what it holds of the files in memory.
    pub(crate) fn forget_cached(&self) {
        for path in files(&self.0) {
            if let Ok(file) = File::open(path) {
                file.sync_data().expect("the disk syncs");
                rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).expect("the system takes advice");
            }
        }
    }
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).expect("readable").flatten().map(|entry| entry.path()) {
        if entry.is_dir() {
            found.extend(files(&entry));
        } else {
            found.push(entry);
        }
    }
    found
}

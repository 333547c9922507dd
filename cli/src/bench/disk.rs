//! What the disk gives at best: one thread appends to one file and calls `fdatasync` after each write.

use serde::Serialize;
use std::io::{self, Write as _};
use std::path::Path;
use std::time::Duration;
use tokio::time::Instant;

/// Appends with a sync each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Disk {
    /// Bytes of each write.
    pub write_bytes: u64,
    /// Writes.
    pub writes: u64,
    /// How long they took.
    pub seconds: f64,
}

impl Disk {
    /// Appends for about `span` to a file in `folder`, which is removed in the end. Blocks.
    ///
    /// # Errors
    /// What the system says.
    pub fn measure(folder: &Path, write_bytes: u64, span: Duration) -> io::Result<Self> {
        let mut file = tempfile::Builder::new().prefix("sagamq-bench-disk-").tempfile_in(folder)?;
        // No file system makes less of it than it is.
        let block: Vec<u8> = (0..write_bytes).map(|place| (place.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let (began, mut writes) = (Instant::now(), 0);
        while writes == 0 || began.elapsed() < span {
            file.write_all(&block)?;
            file.as_file().sync_data()?;
            writes += 1;
        }
        Ok(Self { write_bytes, writes, seconds: began.elapsed().as_secs_f64() })
    }

    /// Both measurements together, of writes of the same size.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self { writes: self.writes + other.writes, seconds: self.seconds + other.seconds, ..self }
    }

    /// Writes a second.
    #[must_use]
    pub fn per_second(&self) -> f64 {
        if self.seconds > 0.0 { self.writes as f64 / self.seconds } else { 0.0 }
    }

    /// Bytes a second, in 10^6.
    #[must_use]
    pub fn mb_per_second(&self) -> f64 {
        self.per_second() * self.write_bytes as f64 / 1e6
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_measurement_leaves_no_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let disk = Disk::measure(folder.path(), 1_024, Duration::from_millis(5)).expect("it takes files");
        assert!(disk.writes > 0 && disk.per_second() > 0.0);
        assert_eq!(std::fs::read_dir(folder.path()).expect("it is there").count(), 0);
        assert!(Disk::measure(&folder.path().join("none"), 1, Duration::ZERO).is_err());
    }

    #[test]
    fn two_measurements_are_one_over_their_time() {
        let disk = |writes, seconds| Disk { write_bytes: 1_000, writes, seconds };
        let both = disk(100, 1.0).with(disk(300, 3.0));
        assert_eq!((both.per_second(), both.mb_per_second()), (100.0, 0.1));
    }
}

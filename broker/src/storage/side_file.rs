//! The commit guard: a small file beside the database that says how far it must reach.
//!
//! After damage to its write-ahead log (WAL), RocksDB opens with the part before the damage and says nothing: acknowledged commits
//! would be gone in silence. So the sequence number of the last synced commit is kept outside the WAL as well, and a database that
//! does not reach it is not opened. The file is written about once a second and at a clean close, so the last second before
//! a crash is not covered.
//!
//! `commit-guard` holds two slots, at byte 0 and at byte 4096 (two blocks of the device, so no torn write hits both):
//!
//! | bytes of the slot | field |
//! |---|---|
//! | 0..4 | `SMQG` |
//! | 4..8 | version of this format, u32, now 1 |
//! | 8..16 | generation, u64: one higher with each write; it goes to slot `generation mod 2` |
//! | 16..24 | sequence number of the database, u64 |
//! | 24..28 | CRC-32C of bytes 0..24, u32 |
//!
//! Numbers are big-endian. The slot with a right checksum and the higher generation counts. A write replaces the other, so the
//! one that counts is never touched.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

/// Name of the file in the data directory.
pub(super) const FILE_NAME: &str = "commit-guard";

const MAGIC: [u8; 4] = *b"SMQG";
const VERSION: u32 = 1;
const SLOT_BYTES: usize = 28;
const CHECKSUMMED_BYTES: usize = 24;
/// Distance of the slots: what a device writes at once is at most this.
const SLOT_DISTANCE: u64 = 4096;

/// A written slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    generation: u64,
    /// The database holds every commit up to this sequence number.
    pub(super) sequence: u64,
}

/// What the file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Recorded {
    /// There is no file.
    Absent,
    /// The newest whole slot.
    At(Slot),
    /// There is a file, and no slot of it is whole.
    Damaged,
    /// It was written by a later version of this program.
    Newer(u32),
}

enum Read {
    Whole(Slot),
    Damaged,
    Newer(u32),
}

impl Slot {
    fn encode(self) -> [u8; SLOT_BYTES] {
        let mut bytes = [0; SLOT_BYTES];
        bytes[0..4].copy_from_slice(&MAGIC);
        bytes[4..8].copy_from_slice(&VERSION.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.generation.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.sequence.to_be_bytes());
        let crc = crc32c::crc32c(&bytes[..CHECKSUMMED_BYTES]);
        bytes[CHECKSUMMED_BYTES..].copy_from_slice(&crc.to_be_bytes());
        bytes
    }

    fn decode(file: &[u8], place: u64) -> Read {
        let start = usize::try_from(place * SLOT_DISTANCE).expect("a file of two blocks fits memory");
        let Some(slot) = file.get(start..start + SLOT_BYTES) else { return Read::Damaged };
        let number = |at: usize| u64::from_be_bytes(slot[at..at + 8].try_into().expect("eight bytes were taken"));
        let small = |at: usize| u32::from_be_bytes(slot[at..at + 4].try_into().expect("four bytes were taken"));
        if slot[..4] != MAGIC || small(CHECKSUMMED_BYTES) != crc32c::crc32c(&slot[..CHECKSUMMED_BYTES]) {
            return Read::Damaged;
        }
        match small(4) {
            VERSION => Read::Whole(Self { generation: number(8), sequence: number(16) }),
            version => Read::Newer(version),
        }
    }

    const fn place(self) -> u64 {
        self.generation % 2
    }
}

/// Reads the file in `directory`.
pub(super) fn read(directory: &Path) -> io::Result<Recorded> {
    let file = match fs::read(directory.join(FILE_NAME)) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Recorded::Absent),
        Err(e) => return Err(e),
    };
    Ok(match (Slot::decode(&file, 0), Slot::decode(&file, 1)) {
        (Read::Newer(version), _) | (_, Read::Newer(version)) => Recorded::Newer(version),
        (Read::Whole(a), Read::Whole(b)) => Recorded::At(if a.generation > b.generation { a } else { b }),
        (Read::Whole(slot), Read::Damaged) | (Read::Damaged, Read::Whole(slot)) => Recorded::At(slot),
        (Read::Damaged, Read::Damaged) => Recorded::Damaged,
    })
}

/// Writes a new file to `directory`, replacing one that is there as a whole. Durable when it returns.
pub(super) fn create(directory: &Path, sequence: u64) -> io::Result<Slot> {
    let slot = Slot { generation: 0, sequence };
    let unfinished = directory.join("commit-guard.new");
    let file = File::create(&unfinished)?;
    file.set_len(2 * SLOT_DISTANCE)?;
    file.write_all_at(&slot.encode(), slot.place() * SLOT_DISTANCE)?;
    file.sync_all()?;
    fs::rename(&unfinished, directory.join(FILE_NAME))?;
    File::open(directory)?.sync_all()?;
    Ok(slot)
}

/// Keeps the file up to date from a thread of its own, so that no commit waits for it.
#[derive(Debug)]
pub(super) struct CommitGuard {
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
}

/// What committer and writer share. Only numbers: neither ever waits for the other.
#[derive(Debug)]
struct Shared {
    /// Sequence number of the last synced commit.
    synced: AtomicU64,
    closing: AtomicBool,
    /// Set once, when the file cannot be written any more.
    failure: OnceLock<String>,
}

impl CommitGuard {
    /// Guards a database that holds everything up to `synced`. `recorded` is the newest slot of the file in `directory`.
    pub(super) fn start(directory: &Path, recorded: Slot, synced: u64, interval: Duration) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).open(directory.join(FILE_NAME))?;
        let shared = Arc::new(Shared { synced: AtomicU64::new(synced), closing: AtomicBool::new(false), failure: OnceLock::new() });
        let seen = Arc::clone(&shared);
        let writer =
            std::thread::Builder::new().name("commit-guard".to_owned()).spawn(move || keep_up_to_date(&file, &seen, recorded, interval))?;
        Ok(Self { shared, writer: Some(writer) })
    }

    /// Everything up to `sequence` is synced. Returns at once.
    pub(super) fn committed(&self, sequence: u64) {
        self.shared.synced.store(sequence, Ordering::Release);
    }

    /// Why the file cannot be written any more.
    pub(super) fn failure(&self) -> Option<&str> {
        self.shared.failure.get().map(String::as_str)
    }
}

impl Drop for CommitGuard {
    /// Records the last synced commit and ends the thread.
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::Release);
        if let Some(writer) = self.writer.take() {
            writer.thread().unpark();
            // It has nothing to say: its failures are in `failure`, and a panic of it was printed.
            let _ended = writer.join();
        }
    }
}

fn keep_up_to_date(file: &File, shared: &Shared, mut recorded: Slot, interval: Duration) {
    loop {
        // Read before the sequence number: who closes has stored its last one by then, so it is not missed.
        let closing = shared.closing.load(Ordering::Acquire);
        let synced = shared.synced.load(Ordering::Acquire);
        if synced > recorded.sequence {
            let next = Slot { generation: recorded.generation + 1, sequence: synced };
            let written = file.write_all_at(&next.encode(), next.place() * SLOT_DISTANCE).and_then(|()| file.sync_data());
            if let Err(reason) = written {
                // After a failed sync nothing is known of the file, so it is not tried again.
                tracing::error!(%reason, "the commit guard cannot be written");
                let _first = shared.failure.set(format!("the file {FILE_NAME} cannot be written: {reason}"));
                return;
            }
            recorded = next;
        }
        if closing {
            return;
        }
        std::thread::park_timeout(interval);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard_file(directory: &Path) -> File {
        OpenOptions::new().write(true).open(directory.join(FILE_NAME)).expect("the file is there")
    }

    #[test]
    fn the_higher_generation_counts_and_a_close_records_the_last_commit() {
        let directory = tempfile::tempdir().expect("a directory");
        assert_eq!(read(directory.path()).expect("readable"), Recorded::Absent);
        let mut recorded = create(directory.path(), 7).expect("writable");
        assert_eq!(read(directory.path()).expect("readable"), Recorded::At(recorded));
        for (generation, sequence) in [(1, 9), (2, 10), (3, 500)] {
            let guard = CommitGuard::start(directory.path(), recorded, recorded.sequence, Duration::from_secs(3600)).expect("starts");
            guard.committed(sequence);
            drop(guard);
            recorded = Slot { generation, sequence };
            assert_eq!(read(directory.path()).expect("readable"), Recorded::At(recorded));
        }
    }

    #[test]
    fn a_torn_write_leaves_the_slot_before_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let (older, newer) = (Slot { generation: 4, sequence: 40 }, Slot { generation: 5, sequence: 50 });
        create(directory.path(), 0).expect("writable");
        let file = guard_file(directory.path());
        for torn_at in 0..SLOT_BYTES {
            file.write_all_at(&older.encode(), older.place() * SLOT_DISTANCE).expect("writable");
            // What generation 3 left in this slot, with the first bytes of generation 5 over it.
            let mut slot = Slot { generation: 3, sequence: 30 }.encode();
            slot[..torn_at].copy_from_slice(&newer.encode()[..torn_at]);
            file.write_all_at(&slot, newer.place() * SLOT_DISTANCE).expect("writable");
            assert_eq!(read(directory.path()).expect("readable"), Recorded::At(older), "torn after {torn_at} bytes");
        }
        file.write_all_at(&newer.encode(), newer.place() * SLOT_DISTANCE).expect("writable");
        assert_eq!(read(directory.path()).expect("readable"), Recorded::At(newer));
    }

    #[test]
    fn damage_and_a_later_format_are_told_apart() {
        let directory = tempfile::tempdir().expect("a directory");
        for garbage in [&b""[..], b"SMQG", &[0xff; 8192]] {
            fs::write(directory.path().join(FILE_NAME), garbage).expect("writable");
            assert_eq!(read(directory.path()).expect("readable"), Recorded::Damaged);
        }
        let mut later = Slot { generation: 1, sequence: 1 }.encode();
        later[7] = 2;
        let crc = crc32c::crc32c(&later[..CHECKSUMMED_BYTES]);
        later[CHECKSUMMED_BYTES..].copy_from_slice(&crc.to_be_bytes());
        fs::write(directory.path().join(FILE_NAME), later).expect("writable");
        assert_eq!(read(directory.path()).expect("readable"), Recorded::Newer(2));
    }

    #[test]
    fn golden_bytes() {
        let mut expected = b"SMQG\0\0\0\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\x01\0".to_vec();
        expected.extend_from_slice(&0xc4a22730_u32.to_be_bytes());
        assert_eq!(Slot { generation: 2, sequence: 256 }.encode().as_slice(), expected);
    }
}

//! Opening a data directory: everything that can be wrong with it is found before anything in it is changed.
//!
//! The order matters. The lock comes first, so that nobody else changes what is looked at. The commit guard is created before the
//! database, so a database without one has lost it. The database is opened for reading first: opening it for writing throws
//! away what lies behind damage in the write-ahead log, which somebody may still want to rescue.

use super::RocksStorage;
use super::options::{Caches, database_options, family_options};
use super::settings::RocksOptions;
use super::space::{SpaceKeeper, SpacePolicy};
use crate::storage::Family;
use crate::storage::open_error::OpenError;
use crate::storage::side_file::{self, CommitGuard, Recorded};
use rocksdb::{ColumnFamilyDescriptor, DB, DEFAULT_COLUMN_FAMILY_NAME, ErrorKind, Options};
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// Name of the database in the data directory.
const DATABASE: &str = "rocksdb";
/// RocksDB's pointer to its newest manifest: where it is, there is a database.
const CURRENT: &str = "CURRENT";

/// Sorted files that may be open at once while the database is looked at. RocksDB takes no less.
const OPEN_FILES_TO_LOOK: i32 = 20;

impl RocksStorage {
    /// Opens the data directory, creating it if it is not there.
    ///
    /// # Errors
    /// When it is in use, not ours, damaged, not writable or misses acknowledged commits. A refused directory is as it was.
    pub fn open(path: impl AsRef<Path>, options: &RocksOptions) -> Result<Self, OpenError> {
        open(path.as_ref(), options)
    }
}

fn open(path: &Path, options: &RocksOptions) -> Result<RocksStorage, OpenError> {
    let refusal = Refusal(path);
    refuse_foreign(path)?;
    let lock = lock(path)?;
    let database = path.join(DATABASE);
    let exists = database_exists(path, &database)?;
    let recorded = match side_file::read(path).map_err(|e| refusal.io(&e))? {
        Recorded::Newer(version) => {
            return Err(OpenError::Newer { path: path.to_owned(), reason: format!("format {version} of {}", side_file::FILE_NAME) });
        }
        recorded => recorded,
    };
    if exists {
        check_families(path, &database, recorded)?;
    }
    if !options.accept_data_loss {
        check_guard(path, &database, exists, recorded)?;
    }
    // From here on the directory is changed.
    let create = |sequence| side_file::create(path, sequence).map_err(|e| refusal.io(&e));
    let before = match recorded {
        Recorded::At(slot) if !options.accept_data_loss => Some(slot),
        _ if !exists => Some(create(0)?),
        _ => None,
    };
    let db = open_database(&database, options).map_err(|e| refusal.rocksdb(e))?;
    let found = db.latest_sequence_number();
    // An accepted loss is forgotten only when the rest could be opened.
    let slot = match before {
        Some(slot) => slot,
        None => create(found)?,
    };
    // Opening wrote everything it recovered to sorted files and synced them.
    let guard = CommitGuard::start(path, slot, found, options.guard_interval).map_err(|e| refusal.io(&e))?;
    let db = Arc::new(db);
    let policy = SpacePolicy { interval: options.space_interval, dead_bytes_min: options.dead_bytes_max };
    let space = SpaceKeeper::start(&db, policy).map_err(|e| refusal.io(&e))?;
    Ok(RocksStorage { guard, space, db, stopped: Mutex::new(None), _lock: lock })
}

/// Creates the directory if need be, for its owner alone, and locks it: records, and what signs receipts, are nobody else's to read. The lock ends with the process, however that ends.
fn lock(path: &Path) -> Result<File, OpenError> {
    let refusal = Refusal(path);
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|e| refusal.io(&e))?;
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(path.join("lock")).map_err(|e| refusal.io(&e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse { path: path.to_owned() }),
        Err(TryLockError::Error(e)) => Err(refusal.io(&e)),
    }
}

/// Before the lock, so that not even its file is made in a directory that is somebody else's.
fn refuse_foreign(path: &Path) -> Result<(), OpenError> {
    if path.join(CURRENT).try_exists().map_err(|e| Refusal(path).io(&e))? {
        return Err(OpenError::Foreign { path: path.to_owned(), reason: "it is itself a RocksDB database".to_owned() });
    }
    Ok(())
}

fn database_exists(path: &Path, database: &Path) -> Result<bool, OpenError> {
    let refusal = Refusal(path);
    if database.join(CURRENT).try_exists().map_err(|e| refusal.io(&e))? {
        return Ok(true);
    }
    // Data without a pointer to it: RocksDB would take this for nothing and delete it.
    let files = match fs::read_dir(database) {
        Ok(files) => files,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(refusal.io(&e)),
    };
    for file in files {
        let file = file.map_err(|e| refusal.io(&e))?.path();
        if file.extension().is_some_and(|extension| extension == "sst" || extension == "log") {
            return Err(OpenError::Damaged { path: path.to_owned(), reason: format!("{DATABASE}/{CURRENT} is missing") });
        }
    }
    Ok(false)
}

/// Whether the column families are ours: all of them, or a part if the directory was created a moment ago and that was cut short.
fn check_families(path: &Path, database: &Path, recorded: Recorded) -> Result<(), OpenError> {
    let found = DB::list_cf(&Options::default(), database).map_err(|e| Refusal(path).rocksdb(e))?;
    let foreign = |reason| Err(OpenError::Foreign { path: path.to_owned(), reason });
    let ours = |name: &String| name == DEFAULT_COLUMN_FAMILY_NAME || Family::ALL.iter().any(|family| family.name() == name);
    if let Some(unknown) = found.iter().find(|name| !ours(name)) {
        return foreign(format!("its database has an unknown column family `{unknown}`"));
    }
    let missing = Family::ALL.iter().find(|family| !found.iter().any(|name| name == family.name()));
    match (missing, recorded) {
        (None, _) => Ok(()),
        (Some(_), Recorded::At(slot)) if slot.sequence == 0 => Ok(()),
        (Some(family), Recorded::Absent) => foreign(format!("its database has no column family `{}`", family.name())),
        // The families are created before the first commit, and one was recorded.
        (Some(family), _) => {
            Err(OpenError::Damaged { path: path.to_owned(), reason: format!("its column family `{}` is gone", family.name()) })
        }
    }
}

/// Whether the database reaches what was recorded.
fn check_guard(path: &Path, database: &Path, exists: bool, recorded: Recorded) -> Result<(), OpenError> {
    let slot = match recorded {
        Recorded::At(slot) => slot,
        Recorded::Absent if !exists => return Ok(()),
        Recorded::Absent => return Err(OpenError::Unguarded { path: path.to_owned(), reason: "missing" }),
        Recorded::Damaged | Recorded::Newer(_) => return Err(OpenError::Unguarded { path: path.to_owned(), reason: "damaged" }),
    };
    // Nothing was recorded yet, so nothing can be missing, and the families may not all be there to read.
    if slot.sequence == 0 {
        return Ok(());
    }
    let found = if exists { readable_sequence(database).map_err(|e| Refusal(path).rocksdb(e))? } else { 0 };
    if found < slot.sequence {
        return Err(OpenError::LostWrites { path: path.to_owned(), recorded: slot.sequence, found });
    }
    Ok(())
}

/// The sequence number that the database reaches, without changing anything in it.
fn readable_sequence(database: &Path) -> Result<u64, rocksdb::Error> {
    open_to_look(database).map(|db| db.latest_sequence_number())
}

/// Opens the database for reading. It reads the manifest and the write-ahead log, which are bounded, and of the sorted files no more
/// than a few, however many there are: with the default every one would be opened, and its index kept in memory.
pub(super) fn open_to_look(database: &Path) -> Result<DB, rocksdb::Error> {
    let mut options = Options::default();
    options.set_paranoid_checks(true);
    options.set_track_and_verify_wals_in_manifest(true);
    options.set_max_open_files(OPEN_FILES_TO_LOOK);
    options.set_skip_stats_update_on_db_open(true);
    let families = Family::ALL.map(Family::name);
    DB::open_cf_for_read_only(&options, database, families, false)
}

fn open_database(database: &Path, options: &RocksOptions) -> Result<DB, rocksdb::Error> {
    let caches = Caches::new(options);
    let mut families = Vec::with_capacity(Family::ALL.len());
    for family in Family::ALL {
        families.push(ColumnFamilyDescriptor::new(family.name(), family_options(family, options, &caches)?));
    }
    DB::open_cf_descriptors(&database_options(options), database, families)
}

/// Turns failures of the system and of RocksDB into refusals of this directory.
pub(super) struct Refusal<'a>(pub(super) &'a Path);

impl Refusal<'_> {
    fn path(&self) -> PathBuf {
        self.0.to_owned()
    }

    pub(super) fn io(&self, error: &io::Error) -> OpenError {
        let reason = error.to_string();
        match error.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => OpenError::NotWritable { path: self.path(), reason },
            _ => OpenError::Io { path: self.path(), reason },
        }
    }

    pub(super) fn rocksdb(&self, error: rocksdb::Error) -> OpenError {
        let kind = error.kind();
        let reason = error.into_string();
        match kind {
            ErrorKind::Corruption => OpenError::Damaged { path: self.path(), reason },
            // RocksDB tells the system's error apart only by its text.
            ErrorKind::IOError if reason.contains("Permission denied") || reason.contains("Read-only file system") => {
                OpenError::NotWritable { path: self.path(), reason }
            }
            ErrorKind::IOError if reason.contains("LOCK") && reason.contains("lock") => OpenError::InUse { path: self.path() },
            // A file that another file names is not there.
            ErrorKind::IOError if reason.contains("No such file or directory") => OpenError::Damaged { path: self.path(), reason },
            _ => OpenError::Io { path: self.path(), reason },
        }
    }
}

//! The storage seam: everything that is kept passes through [`Storage`], and nothing above it knows RocksDB.
//!
//! Three implementations pass one contract suite: [`rocks`] (the product), [`memory`] (fast tests) and [`crash`] (a `live` and
//! a `durable` image, fails the n-th write, yields what a power cut would leave).

#[cfg(test)]
mod contract;
pub mod crash;
mod image;
pub mod keys;
pub mod memory;
mod open_error;
pub mod rocks;
mod side_file;

use bytes::Bytes;
use core::ops::{ControlFlow, Range};

/// A column family. The name is part of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// Record batches.
    Log,
    /// Sparse index from time to offset.
    TimeIndex,
    /// State of queue groups, overwritten in place.
    Group,
    /// Idempotency entries in buckets of time.
    Dedup,
    /// Records that wait for their time.
    Schedule,
    /// What partitions know of producers that count their records.
    Producer,
    /// Keys of the embedder (the saga orchestrator).
    Saga,
    /// The data directory's own: format, shards, catalogue of topics and groups.
    Meta,
}

impl Family {
    /// Every family, each at the place of its number.
    pub const ALL: [Self; 8] =
        [Self::Log, Self::TimeIndex, Self::Group, Self::Dedup, Self::Schedule, Self::Producer, Self::Saga, Self::Meta];

    /// Its name on disk.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::TimeIndex => "time_index",
            Self::Group => "group",
            Self::Dedup => "dedup",
            Self::Schedule => "schedule",
            Self::Producer => "producer",
            Self::Saga => "saga",
            Self::Meta => "meta",
        }
    }
}

/// One change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// Sets the key.
    Put {
        /// Where.
        family: Family,
        /// The key.
        key: Vec<u8>,
        /// Its value.
        value: Bytes,
    },
    /// Removes the key, if it is there.
    Delete {
        /// Where.
        family: Family,
        /// The key.
        key: Vec<u8>,
    },
    /// Removes every key of the half-open range.
    DeleteRange {
        /// Where.
        family: Family,
        /// First key, and the first key behind the range.
        range: Range<Vec<u8>>,
    },
}

impl Mutation {
    /// Bytes of key and value, for bounds.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Put { key, value, .. } => key.len() + value.len(),
            Self::Delete { key, .. } => key.len(),
            Self::DeleteRange { range, .. } => range.start.len() + range.end.len(),
        }
    }

    /// Whether it has no bytes at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What a write promises when it returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Durability {
    /// It survives the death of the process, not of the machine. A later synced write makes it survive both.
    Buffered,
    /// It survives the death of the process and of the machine.
    Synced,
}

/// How much more can be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FreeSpace {
    /// Bytes of the file system that this process may still use.
    pub available_bytes: u64,
    /// Bytes that will be written beside what is written already, as far as it is known: what is in memory and in the write-ahead log only.
    pub owed_bytes: u64,
}

/// Which way a scan goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the first key of the range.
    Forward,
    /// From the last key of the range.
    Backward,
}

/// Gets each key and value of a scan, and breaks when it has seen enough.
pub type Visitor<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>;

/// Why storage could not do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StorageError {
    /// The device or the file system failed.
    #[error("storage failed: {0}")]
    Io(String),
    /// Stored bytes are damaged.
    #[error("stored data is damaged: {0}")]
    Corrupt(String),
}

/// Ordered keys in families, written atomically.
///
/// Writes come from one thread (the committer) and are atomic as a whole. Reads come from anywhere at any time and see every
/// write that has returned. After a write returned an error nothing more may be written: what it left behind is unknown.
pub trait Storage: Send + Sync + 'static {
    /// The value of a key.
    ///
    /// # Errors
    /// When the device fails or what it holds is damaged.
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StorageError>;

    /// Visits the keys of a half-open range in order until the visitor breaks. Sees one moment in time.
    ///
    /// # Errors
    /// When the device fails or what it holds is damaged; the visitor has then seen a part.
    fn scan(&self, family: Family, range: Range<&[u8]>, direction: Direction, visit: Visitor<'_>) -> Result<(), StorageError>;

    /// Visits keys forward until the visitor breaks, beginning with the last key of the range that is not above `from`; where every key
    /// is above it, with the first. One look instead of two where an entry begins at or before what is looked for.
    ///
    /// # Errors
    /// As for [`Storage::scan`].
    fn scan_from(&self, family: Family, range: Range<&[u8]>, from: &[u8], visit: Visitor<'_>) -> Result<(), StorageError> {
        // The first key behind `from`.
        let end = [from, &[0]].concat();
        let mut first = None;
        self.scan(family, range.start..range.end.min(&end), Direction::Backward, &mut |key, _| {
            first = Some(key.to_vec());
            ControlFlow::Break(())
        })?;
        self.scan(family, first.as_deref().unwrap_or(range.start)..range.end, Direction::Forward, visit)
    }

    /// Applies all mutations in order, or none. When it returns, [`Durability`] says what they survive.
    ///
    /// # Errors
    /// When the device fails. Whether the write will be found later is then unknown.
    fn write(&self, mutations: &[Mutation], durability: Durability) -> Result<(), StorageError>;

    /// How much more can be stored. `None`: there is no disk that could be full.
    ///
    /// # Errors
    /// When the system does not say.
    fn free_space(&self) -> Result<Option<FreeSpace>, StorageError> {
        Ok(None)
    }

    /// What it holds in memory, by the name of the part, in bytes.
    ///
    /// # Errors
    /// When it does not know.
    fn memory(&self) -> Result<Vec<(&'static str, u64)>, StorageError> {
        Ok(Vec::new())
    }
}

/// Reads that all see one moment in time, whatever is written meanwhile.
pub trait Moment: Send {
    /// As [`Storage::get`].
    ///
    /// # Errors
    /// As for [`Storage::get`].
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StorageError>;

    /// As [`Storage::scan`], forward.
    ///
    /// # Errors
    /// As for [`Storage::scan`].
    fn scan(&self, family: Family, range: Range<&[u8]>, visit: Visitor<'_>) -> Result<(), StorageError>;
}

/// Storage of which copies can be made while it is written.
pub trait Moments: Storage {
    /// This moment. While it is held the space of what is overwritten is not given back.
    fn moment(&self) -> Box<dyn Moment + '_>;
}

impl<S: Storage + ?Sized> Storage for std::sync::Arc<S> {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        (**self).get(family, key)
    }

    fn scan(&self, family: Family, range: Range<&[u8]>, direction: Direction, visit: Visitor<'_>) -> Result<(), StorageError> {
        (**self).scan(family, range, direction, visit)
    }

    fn scan_from(&self, family: Family, range: Range<&[u8]>, from: &[u8], visit: Visitor<'_>) -> Result<(), StorageError> {
        (**self).scan_from(family, range, from, visit)
    }

    fn write(&self, mutations: &[Mutation], durability: Durability) -> Result<(), StorageError> {
        (**self).write(mutations, durability)
    }

    fn free_space(&self) -> Result<Option<FreeSpace>, StorageError> {
        (**self).free_space()
    }

    fn memory(&self) -> Result<Vec<(&'static str, u64)>, StorageError> {
        (**self).memory()
    }
}

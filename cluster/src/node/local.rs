//! What a data directory knows of the log that it is a copy of: rows that belong to no shard, so that no shard's fold has them.
//!
//! Each is one byte with the version, 1, and then, of the cluster: id 16 bytes, shards u16; of the process that had it open last: its boot
//! 16 bytes, and where it ran, text.

use super::members::entry::Identity;
use sagamq_broker::storage::keys::{LocalKey, MetaKey};
use sagamq_broker::storage::{Durability, Family, Mutation, Storage, StorageError};
use std::path::Path;
use uuid::Uuid;

const VERSION: u8 = 1;

/// Why the rows of a copy cannot be read.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LocalError {
    /// They are damaged, or a later version wrote them.
    #[error("the row of its {0} cannot be read: a later version wrote it, or it is damaged")]
    Unreadable(&'static str),
    /// The device failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// The process that had a directory open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Opener {
    /// Its boot.
    pub boot: Uuid,
    /// Where it ran, see [`place`].
    pub place: Option<String>,
}

/// Whether a shard of its own is in it: it is, or was, the data of a server without a cluster, or a copy that knows of it.
pub(crate) fn has_data(storage: &dyn Storage) -> Result<bool, StorageError> {
    Ok(storage.get(Family::Meta, &MetaKey::Format.encode())?.is_some())
}

/// Which cluster the directory is a copy of, if it is one.
///
/// # Errors
/// [`LocalError`].
pub fn cluster(storage: &dyn Storage) -> Result<Option<Identity>, LocalError> {
    let Some(row) = storage.get(Family::Meta, &LocalKey::Cluster.encode())? else { return Ok(None) };
    let read = || {
        let (cluster, shards) = row.strip_prefix(&[VERSION])?.split_first_chunk::<16>()?;
        Some(Identity { cluster: Uuid::from_bytes(*cluster), shards: u16::from_be_bytes(shards.try_into().ok()?) })
    };
    read().map(Some).ok_or(LocalError::Unreadable("cluster"))
}

pub(crate) fn put_cluster(of: Identity) -> Mutation {
    let value = [&[VERSION][..], of.cluster.as_bytes(), &of.shards.to_be_bytes()].concat();
    Mutation::Put { family: Family::Meta, key: LocalKey::Cluster.encode(), value: value.into() }
}

/// Who had the directory open last.
pub(crate) fn opener(storage: &dyn Storage) -> Result<Option<Opener>, LocalError> {
    let Some(row) = storage.get(Family::Meta, &LocalKey::Boot.encode())? else { return Ok(None) };
    let read = || {
        let (boot, place) = row.strip_prefix(&[VERSION])?.split_first_chunk::<16>()?;
        let place = str::from_utf8(place).ok()?;
        Some(Opener { boot: Uuid::from_bytes(*boot), place: (!place.is_empty()).then(|| place.to_owned()) })
    };
    read().map(Some).ok_or(LocalError::Unreadable("last process"))
}

pub(crate) fn put_opener(opener: &Opener) -> Mutation {
    let place = opener.place.as_deref().unwrap_or_default();
    let value = [&[VERSION][..], opener.boot.as_bytes(), place.as_bytes()].concat();
    Mutation::Put { family: Family::Meta, key: LocalKey::Boot.encode(), value: value.into() }
}

pub(crate) fn write(storage: &dyn Storage, mutations: &[Mutation]) -> Result<(), StorageError> {
    storage.write(mutations, Durability::Buffered)
}

/// Where a process runs that has the directory open: this start of this machine, and this directory on its disk. A copy of the directory lies
/// elsewhere. `None`: the system does not tell.
#[must_use]
pub fn place(directory: &Path) -> Option<String> {
    use std::os::unix::fs::MetadataExt as _;
    let start = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let lock = std::fs::metadata(directory.join("lock")).ok()?;
    Some(format!("{} {} {}", start.trim(), lock.dev(), lock.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use sagamq_broker::storage::memory::MemoryStorage;

    #[test]
    fn what_is_written_is_read_and_anything_else_refused() {
        let storage = MemoryStorage::default();
        assert_eq!((cluster(&storage).expect("reads"), opener(&storage).expect("reads")), (None, None));
        let identity = Identity { cluster: Uuid::from_u128(5), shards: 16 };
        for place in [None, Some("boot 1 2".to_owned())] {
            let by = Opener { boot: Uuid::from_u128(6), place };
            write(&storage, &[put_cluster(identity), put_opener(&by)]).expect("memory");
            assert_eq!((cluster(&storage).expect("reads"), opener(&storage).expect("reads")), (Some(identity), Some(by)));
        }
        for value in [&b""[..], b"\x01short", b"\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x10"] {
            for key in [LocalKey::Cluster, LocalKey::Boot] {
                let put = Mutation::Put { family: Family::Meta, key: key.encode(), value: value.into() };
                write(&storage, &[put]).expect("memory");
            }
            assert!(matches!(cluster(&storage), Err(LocalError::Unreadable("cluster"))), "{value:?}");
            assert!(matches!(opener(&storage), Err(LocalError::Unreadable("last process"))), "{value:?}");
        }
    }

    #[test]
    fn a_copy_of_a_directory_lies_elsewhere() {
        let (one, other) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        for folder in [&one, &other] {
            std::fs::write(folder.path().join("lock"), "").expect("a file");
        }
        assert!(place(one.path()).is_some() && place(one.path()) == place(one.path()));
        assert_ne!(place(one.path()), place(other.path()));
    }
}

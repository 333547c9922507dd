//! Object storage as the cluster uses it: a bucket of a cloud, of a server that speaks as one, or a folder.
//!
//! What needs care with lost answers is here once, for the log and for the snapshots. `object_store` is told not to retry by itself
//! ([`open`]): only who sees each attempt knows whether one of them may still come to stand.

mod backoff;
mod failure;
#[cfg(test)]
pub(crate) mod faults;
mod folder;
pub mod open;
mod write;

pub use failure::Unanswered;
pub use write::{Put, PutError};

use backoff::Backoff;
use bytes::Bytes;
use core::fmt;
use core::future::Future;
use core::time::Duration;
use failure::Failure;
use futures_util::TryStreamExt as _;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStore, ObjectStoreExt as _, UpdateVersion};
use std::sync::Arc;

/// How long something is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// How long one request may take before its answer counts as lost.
    pub request: Duration,
    /// How long one call goes on with new requests.
    pub call: Duration,
}

impl Default for Patience {
    /// Ten seconds a request, twenty a call.
    fn default() -> Self {
        Self { request: Duration::from_secs(10), call: Duration::from_secs(20) }
    }
}

/// An object, and which version of it that is.
#[derive(Clone, Debug)]
pub struct Object {
    /// The whole of it.
    pub bytes: Bytes,
    /// For [`Objects::replace`].
    pub version: UpdateVersion,
}

/// What a list tells of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its key, without the root's.
    pub key: String,
    /// Its size in bytes.
    pub bytes: u64,
}

/// The objects below one root. Cheap to clone.
#[derive(Clone)]
pub struct Objects {
    store: Arc<dyn ObjectStore>,
    root: Path,
    patience: Patience,
}

impl fmt::Debug for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Objects({}/{})", self.store, self.root)
    }
}

impl Objects {
    /// The objects of a store below a root, which may be empty. The store must not retry by itself.
    #[must_use]
    pub fn new(store: Arc<dyn ObjectStore>, root: Path) -> Self {
        Self { store, root, patience: Patience::default() }
    }

    /// Objects in memory, which end with the last clone. For tests.
    #[must_use]
    pub fn in_memory() -> Self {
        Self::new(Arc::new(object_store::memory::InMemory::new()), Path::default())
    }

    /// The same objects, tried for another time.
    #[must_use]
    pub fn with_patience(mut self, patience: Patience) -> Self {
        self.patience = patience;
        self
    }

    /// The whole object, or nothing if there is none.
    ///
    /// # Errors
    /// When the storage does not answer.
    pub async fn get(&self, key: &str) -> Result<Option<Object>, Unanswered> {
        self.again(|| self.get_once(key)).await
    }

    /// The first bytes of an object that is not empty, or nothing if there is none.
    ///
    /// # Errors
    /// When the storage does not answer.
    pub async fn get_start(&self, key: &str, bytes: u64) -> Result<Option<Bytes>, Unanswered> {
        let path = self.path(key);
        let options = || GetOptions { range: Some(GetRange::Bounded(0..bytes)), ..GetOptions::default() };
        self.again(|| async { found(self.bounded(async { self.store.get_opts(&path, options()).await?.bytes().await }).await) }).await
    }

    /// Whether there is such an object.
    ///
    /// # Errors
    /// When the storage does not answer.
    pub async fn exists(&self, key: &str) -> Result<bool, Unanswered> {
        let path = self.path(key);
        self.again(|| async { Ok(found(self.bounded(self.store.head(&path)).await)?.is_some()) }).await
    }

    /// Deletes an object. One that is not there is deleted already.
    ///
    /// # Errors
    /// When the storage does not answer.
    pub async fn delete(&self, key: &str) -> Result<(), Unanswered> {
        let path = self.path(key);
        self.again(|| async { found(self.bounded(self.store.delete(&path)).await).map(|_| ()) }).await
    }

    /// The objects in a folder and those below it, in no order that every storage keeps.
    ///
    /// # Errors
    /// When the storage does not answer.
    pub async fn list(&self, folder: &str) -> Result<Vec<Listed>, Unanswered> {
        let (path, root) = (self.path(folder), self.root.as_ref().len());
        self.again(|| async {
            let (mut listed, mut found) = (self.store.list(Some(&path)), Vec::new());
            // Many come as several answers, each of them in time.
            while let Some(meta) = self.bounded(listed.try_next()).await? {
                let key = meta.location.as_ref()[root..].trim_start_matches('/').to_owned();
                found.push(Listed { key, bytes: meta.size });
            }
            Ok(found)
        })
        .await
    }

    fn path(&self, key: &str) -> Path {
        // A key of ours has slashes, digits, letters, dots and hyphens alone: nothing of it is encoded. The root is as it was given, and must not be either: it
        // is what a listed key begins with.
        key.split('/').fold(self.root.clone(), |path, part| path.join(part))
    }

    async fn get_once(&self, key: &str) -> Result<Option<Object>, Failure> {
        let path = self.path(key);
        let got = async {
            let got = self.store.get(&path).await?;
            let version = UpdateVersion { e_tag: got.meta.e_tag.clone(), version: got.meta.version.clone() };
            Ok(Object { bytes: got.bytes().await?, version })
        };
        found(self.bounded(got).await)
    }

    /// One request, whose answer counts as lost after a time.
    async fn bounded<T>(&self, request: impl Future<Output = object_store::Result<T>>) -> Result<T, Failure> {
        match tokio::time::timeout(self.patience.request, request).await {
            Ok(answer) => answer.map_err(|error| Failure::of(&error)),
            Err(_) => Err(Failure::late(self.patience.request)),
        }
    }

    /// Asks until there is an answer, or time is up. For what may be asked twice.
    async fn again<T, F: Future<Output = Result<T, Failure>>>(&self, mut ask: impl FnMut() -> F) -> Result<T, Unanswered> {
        let mut backoff = Backoff::new(self.patience.call);
        loop {
            match ask().await {
                Ok(answer) => return Ok(answer),
                Err(failure) => {
                    if failure.is_final() || !backoff.pause().await {
                        return Err(Unanswered(failure.reason));
                    }
                }
            }
        }
    }
}

/// What is not there is an answer as well.
fn found<T>(answer: Result<T, Failure>) -> Result<Option<T>, Failure> {
    match answer {
        Ok(object) => Ok(Some(object)),
        Err(failure) if failure.is_absence() => Ok(None),
        Err(failure) => Err(failure),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn objects_stand_below_the_root_that_was_given_whatever_is_in_its_name() {
        for root in ["", "cluster", "a/b", "~team/a b", "50%/ü", "what?/[1]#"] {
            let root = Path::parse(root).expect("legal");
            let store = Arc::new(object_store::memory::InMemory::new());
            let objects = Objects::new(Arc::clone(&store) as _, root.clone());
            for key in ["snapshot/shard-00000/manifest/1", "snapshot/shard-00000/manifest/2", "trim/members"] {
                objects.put_new(key, &Bytes::from_static(b"x")).await.expect("memory");
            }
            let mut listed: Vec<_> = objects.list("snapshot").await.expect("memory").into_iter().map(|listed| listed.key).collect();
            listed.sort();
            assert_eq!(listed, ["snapshot/shard-00000/manifest/1", "snapshot/shard-00000/manifest/2"], "{root}");
            let all: Vec<Path> = store.list(None).map_ok(|meta| meta.location).try_collect().await.expect("memory");
            assert!(all.len() == 3 && all.iter().all(|path| path.prefix_matches(&root)), "{root}: {all:?}");
        }
    }
}

//! From a URL to the log and the snapshots behind it.

use crate::log::CommitLog;
use crate::log::object::ObjectLog;
use crate::objects::Objects;
use crate::objects::open::OpenError;
use crate::snapshot::Snapshots;
use std::sync::Arc;

/// Where the data of a cluster is. Clones are the same client.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// Its logs.
    pub log: Arc<dyn CommitLog>,
    /// Its snapshots.
    pub snapshots: Snapshots,
}

/// Why a URL leads to no log.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct OpenLogError(#[from] OpenError);

impl Cluster {
    /// The cluster at a URL: a folder (`file:///FOLDER`), or object storage (`s3://BUCKET/PREFIX`, `gs://`, `az://`) with settings from the
    /// environment. Asks nobody yet.
    ///
    /// # Errors
    /// When the URL is none of these, or settings are missing.
    pub fn open(url: &str) -> Result<Self, OpenLogError> {
        Ok(Self::over(Objects::open(url)?))
    }

    /// As [`Cluster::open`], for who only looks: a folder that is missing is not made.
    ///
    /// # Errors
    /// As [`Cluster::open`], and when the folder is missing.
    pub fn find(url: &str) -> Result<Self, OpenLogError> {
        Ok(Self::over(Objects::find(url)?))
    }

    /// The cluster among these objects.
    #[must_use]
    pub fn over(objects: Objects) -> Self {
        Self { log: Arc::new(ObjectLog::new(objects.clone())), snapshots: Snapshots::new(objects) }
    }
}

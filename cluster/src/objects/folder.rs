//! A folder as object storage, where "written" means written to the disk.
//!
//! An object is written to a temporary file, synced, given its name only if nobody has that name, and the folder synced. The folder of
//! `object_store` itself was turned down: it leaves half-written files among the objects after a crash, cannot replace a version, and
//! brings a library of system calls of its own.

use super::failure::NothingStored;
use async_trait::async_trait;
use core::fmt;
use core::ops::Range;
use core::time::Duration;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UpdateVersion,
};
use std::collections::HashSet;
use std::fs::{self, DirBuilder, File, Metadata};
use std::io::{self, ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path as FsPath, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Where files are written before they have their name. No list of objects goes there.
const INCOMING: &str = ".incoming";
/// Held while a version is replaced.
const LOCK: &str = ".lock";
/// Older than any write that still goes on. Whose file is taken away nevertheless fails and stores nothing.
const LEFT_BEHIND: Duration = Duration::from_secs(3600);

/// A folder of a local disk.
#[derive(Debug)]
pub(super) struct Folder {
    root: Arc<FsPath>,
    /// Folders that this one has made, or found, and synced the names of.
    sure: Arc<Mutex<HashSet<PathBuf>>>,
}

impl Folder {
    /// Opens a folder, makes it if it is missing, and removes what crashes left of writes.
    ///
    /// # Errors
    /// When it cannot be made or read.
    pub(super) fn open(root: &FsPath) -> io::Result<Self> {
        make_dirs(root)?;
        let root = root.canonicalize()?;
        make_dir(&root.join(INCOMING), &root)?;
        for file in fs::read_dir(root.join(INCOMING))? {
            let file = file?;
            // Somebody else may remove it in this moment.
            let Ok(written) = file.metadata().and_then(|metadata| metadata.modified()) else { continue };
            if written.elapsed().is_ok_and(|age| age > LEFT_BEHIND) {
                let _ = fs::remove_file(file.path());
            }
        }
        Ok(Self { root: root.into(), sure: Arc::default() })
    }

    /// Writes the object under a name of its own, then gives it the name that was asked for.
    async fn write(&self, location: &Path, payload: PutPayload, overwrite: bool) -> Result<()> {
        let (root, to, sure) = (self.root.clone(), self.file(location), self.sure.clone());
        let parent = to.parent().map_or_else(|| root.to_path_buf(), FsPath::to_path_buf);
        let work = move || {
            let is_sure = sure.lock().unwrap_or_else(PoisonError::into_inner).contains(&parent);
            let written = write(&root, &parent, is_sure, &to, &payload, overwrite);
            let mut sure = sure.lock().unwrap_or_else(PoisonError::into_inner);
            match &written {
                // Perhaps because somebody has removed the folder.
                Err(WriteError::Nothing(_)) => sure.remove(&parent),
                _ => sure.insert(parent),
            };
            Ok(written)
        };
        match blocking(work).await? {
            Ok(()) => Ok(()),
            Err(WriteError::Exists(error)) => Err(Error::AlreadyExists { path: location.to_string(), source: Box::new(error) }),
            Err(WriteError::Nothing(error)) => Err(generic(NothingStored(error))),
            Err(WriteError::NotSynced(error)) => Err(generic(error)),
        }
    }

    /// The lock that whoever replaces a version holds, in this process or another. A process that ends lets it go.
    async fn lock(&self) -> Result<File> {
        let path = self.root.join(LOCK);
        let locked = blocking(move || {
            let file = File::options().create(true).truncate(false).write(true).open(path)?;
            file.lock()?;
            Ok(file)
        });
        locked.await.map_err(|error| generic(NothingStored(io::Error::other(error))))
    }

    /// The file of an object. A key has no part that leads out of the folder: its type sees to it.
    fn file(&self, location: &Path) -> PathBuf {
        self.root.join(location.as_ref())
    }
}

/// What the file of an object tells about it. Every version of an object is a file of its own.
fn meta(location: Path, metadata: &Metadata) -> io::Result<ObjectMeta> {
    let version = format!("{:x}-{:x}-{:x}-{:x}", metadata.ino(), metadata.mtime(), metadata.mtime_nsec(), metadata.len());
    Ok(ObjectMeta { location, last_modified: metadata.modified()?.into(), size: metadata.len(), e_tag: Some(version), version: None })
}

/// Runs what waits for the disk where it may wait.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|error| generic(io::Error::other(error)))?.map_err(generic)
}

/// Why an object has not its name, or is not known to keep it.
enum WriteError {
    Exists(io::Error),
    Nothing(io::Error),
    NotSynced(io::Error),
}

fn write(
    root: &FsPath,
    parent: &FsPath,
    is_sure: bool,
    to: &FsPath,
    payload: &PutPayload,
    overwrite: bool,
) -> core::result::Result<(), WriteError> {
    let temporary = Temporary(root.join(INCOMING).join(uuid::Uuid::new_v4().to_string()));
    let file = || -> io::Result<()> {
        if !is_sure {
            make_dirs_within(root, parent)?;
        }
        let mut file = File::options().create_new(true).write(true).open(&temporary.0)?;
        payload.iter().try_for_each(|part| file.write_all(part))?;
        file.sync_all()
    };
    file().map_err(WriteError::Nothing)?;
    let named = if overwrite { fs::rename(&temporary.0, to) } else { fs::hard_link(&temporary.0, to) };
    match named {
        Ok(()) => sync_dir(parent).map_err(WriteError::NotSynced),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            // It may be our own earlier attempt, which ended before it had synced the folder.
            sync_dir(parent).map_err(WriteError::NotSynced)?;
            Err(WriteError::Exists(error))
        }
        Err(error) => Err(WriteError::Nothing(error)),
    }
}

/// A file that goes when nobody needs it any more: its bytes stay under the name it was linked to.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // After a rename there is none.
        let _ = fs::remove_file(&self.0);
    }
}

/// Makes a folder and those it lies in.
fn make_dirs(dir: &FsPath) -> io::Result<()> {
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(FsPath::new("."));
    if dir.is_dir() {
        // It may have been made in this moment. Not everybody may open what it lies in, and who made it could.
        return sync_dir(parent).or_else(|error| if error.kind() == ErrorKind::PermissionDenied { Ok(()) } else { Err(error) });
    }
    make_dirs(parent)?;
    make_dir(dir, parent)
}

/// The same below a root, where each one's name is durable on return, also if another process has made it in this moment.
fn make_dirs_within(root: &FsPath, dir: &FsPath) -> io::Result<()> {
    let Some(parent) = dir.parent().filter(|_| dir != root) else { return Ok(()) };
    make_dirs_within(root, parent)?;
    make_dir(dir, parent)
}

fn make_dir(dir: &FsPath, parent: &FsPath) -> io::Result<()> {
    // For its owner alone, as the data directory is: all that is stored is in it.
    match DirBuilder::new().mode(0o700).create(dir) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    sync_dir(parent)
}

fn sync_dir(dir: &FsPath) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn generic(source: impl core::error::Error + Send + Sync + 'static) -> Error {
    Error::Generic { store: "folder", source: Box::new(source) }
}

/// The objects in a folder and those below it.
fn walk(root: &FsPath, dir: &FsPath, found: &mut Vec<ObjectMeta>) -> io::Result<()> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let path = entry?.path();
        let metadata = match fs::metadata(&path) {
            Ok(metadata) => metadata,
            // Deleted in this moment.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        if metadata.is_dir() {
            walk(root, &path, found)?;
        } else if let Some(key) = path.strip_prefix(root).ok().and_then(FsPath::to_str)
            && let Ok(location) = Path::parse(key)
        {
            found.push(meta(location, &metadata)?);
        }
    }
    Ok(())
}

fn not_offered(operation: &str) -> Error {
    Error::NotImplemented { operation: operation.to_owned(), implementer: "folder".to_owned() }
}

impl fmt::Display for Folder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "folder {}", self.root.display())
    }
}

#[async_trait]
impl ObjectStore for Folder {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        match options.mode {
            PutMode::Create => self.write(location, payload, false).await?,
            PutMode::Overwrite => self.write(location, payload, true).await?,
            PutMode::Update(UpdateVersion { e_tag, .. }) => {
                let _lock = self.lock().await?;
                let head = GetOptions { head: true, ..GetOptions::default() };
                if self.get_opts(location, head).await?.meta.e_tag != e_tag {
                    let source = "another version stands there".into();
                    return Err(Error::Precondition { path: location.to_string(), source });
                }
                self.write(location, payload, true).await?;
            }
        }
        Ok(PutResult { e_tag: None, version: None, extensions: Default::default() })
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let (file, key) = (self.file(location), location.clone());
        let read = move || {
            let mut file = File::open(file)?;
            let metadata = file.metadata()?;
            if metadata.is_dir() {
                return Err(ErrorKind::NotFound.into());
            }
            let meta = meta(key, &metadata)?;
            let range = match &options.range {
                Some(range) => range.as_range(meta.size).map_err(io::Error::other)?,
                None => 0..meta.size,
            };
            let mut bytes = Vec::new();
            if !options.head {
                file.seek(SeekFrom::Start(range.start))?;
                file.take(range.end - range.start).read_to_end(&mut bytes)?;
            }
            Ok((options, meta, range, bytes))
        };
        let (options, meta, range, bytes): (GetOptions, ObjectMeta, Range<u64>, Vec<u8>) =
            blocking(move || read().map_or_else(|error| if absent(&error) { Ok(None) } else { Err(error) }, |read| Ok(Some(read))))
                .await?
                .ok_or_else(|| Error::NotFound { path: location.to_string(), source: "there is no such file".into() })?;
        options.check_preconditions(&meta)?;
        let payload = GetResultPayload::Stream(stream::once(async { Ok(bytes.into()) }).boxed());
        Ok(GetResult { payload, meta, range, attributes: Default::default(), extensions: Default::default() })
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let this = Self { root: self.root.clone(), sure: self.sure.clone() };
        let deleted = locations.then(move |location| {
            let file = location.as_ref().map(|location| this.file(location)).ok();
            async move {
                let location = location?;
                let Some(file) = file else { return Ok(location) };
                // Not synced: what comes back after a crash is void, or is deleted again.
                let gone = blocking(move || fs::remove_file(file).or_else(|error| if absent(&error) { Ok(()) } else { Err(error) }));
                gone.await.map(|()| location)
            }
        });
        deleted.boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (root, dir) = (self.root.clone(), prefix.map_or_else(|| self.root.to_path_buf(), |prefix| self.file(prefix)));
        let walked = async move {
            blocking(move || {
                let mut found = Vec::new();
                walk(&root, &dir, &mut found).map(|()| found)
            })
            .await
        };
        stream::once(walked)
            .flat_map(|found| {
                stream::iter(match found {
                    Ok(found) => found.into_iter().map(Ok).collect(),
                    Err(error) => vec![Err(error)],
                })
            })
            .boxed()
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Err(not_offered("writing in parts"))
    }

    async fn list_with_delimiter(&self, _: Option<&Path>) -> Result<ListResult> {
        Err(not_offered("listing folders"))
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(not_offered("copying"))
    }
}

fn absent(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::{Objects, Put};
    use bytes::Bytes;

    fn objects(dir: &FsPath) -> Objects {
        Objects::open(&format!("file://{}", dir.display())).expect("a folder")
    }

    fn incoming(dir: &FsPath) -> usize {
        fs::read_dir(dir.join(INCOMING)).expect("it is there").count()
    }

    #[tokio::test]
    async fn of_many_writers_at_once_one_wins_and_nothing_is_left_behind() {
        let dir = tempfile::tempdir().expect("a folder");
        for round in 0..6 {
            let key = format!("a/b/{round}");
            let writers: Vec<_> = (0..16).map(|writer| (objects(dir.path()), Bytes::from(format!("writer {writer}")))).collect();
            let puts = writers.iter().map(|(objects, bytes)| objects.put_new(&key, bytes));
            let puts: Vec<Put> = futures_util::future::try_join_all(puts).await.expect("the disk answers");
            let won: Vec<_> = puts.iter().zip(&writers).filter(|(put, _)| **put == Put::Stored).map(|(_, (_, bytes))| bytes).collect();
            let stands = writers[0].0.get(&key).await.expect("the disk answers").expect("one won").bytes;
            assert_eq!(won, [&stands]);
            assert_eq!(puts.iter().filter(|put| matches!(put, Put::Other { bytes, .. } if *bytes == stands)).count(), 15);
        }
        assert_eq!(incoming(dir.path()), 0);
    }

    #[tokio::test]
    async fn of_many_that_replace_one_version_one_wins() {
        let dir = tempfile::tempdir().expect("a folder");
        let all: Vec<_> = (0..8).map(|_| objects(dir.path())).collect();
        all[0].put_new("mark", &Bytes::from_static(b"first")).await.expect("the disk answers");
        for round in 0..6 {
            let version = all[0].get("mark").await.expect("the disk answers").expect("it is there").version;
            let bytes: Vec<_> = (0..8).map(|writer| Bytes::from(format!("{round}/{writer}"))).collect();
            let puts = all.iter().zip(&bytes).map(|(objects, bytes)| objects.replace("mark", bytes, version.clone()));
            let puts = futures_util::future::try_join_all(puts).await.expect("the disk answers");
            assert_eq!(puts.iter().filter(|put| **put == Put::Stored).count(), 1, "{puts:?}");
        }
        let version = all[0].get("mark").await.expect("the disk answers").expect("it is there").version;
        all[0].delete("mark").await.expect("the disk answers");
        let gone = all[0].replace("mark", &Bytes::from_static(b"late"), version).await;
        assert!(gone.is_err(), "what is gone is not replaced: {gone:?}");
    }

    #[tokio::test]
    async fn what_a_crash_left_goes_and_what_is_being_written_stays() {
        let dir = tempfile::tempdir().expect("a folder");
        objects(dir.path());
        let now = fs::metadata(dir.path()).and_then(|metadata| metadata.modified()).expect("it was made now");
        for (name, age) in [("old", LEFT_BEHIND * 2), ("new", Duration::ZERO)] {
            let file = File::create(dir.path().join(INCOMING).join(name)).expect("it is made");
            file.set_modified(now - age).expect("its time is set");
        }
        objects(dir.path());
        assert!(!dir.path().join(INCOMING).join("old").exists());
        assert!(dir.path().join(INCOMING).join("new").exists());
    }

    #[tokio::test]
    async fn a_write_that_failed_before_it_had_its_name_is_known_not_to_stand() {
        let dir = tempfile::tempdir().expect("a folder");
        let patience = crate::objects::Patience { request: Duration::from_secs(5), call: Duration::from_millis(50) };
        let objects = objects(dir.path()).with_patience(patience);
        // A file where a folder is needed: the same for whoever runs the test, root or not.
        File::create(dir.path().join("log")).expect("it is made");
        let put = objects.put_new("log/shard-00000/1", &Bytes::from_static(b"x")).await;
        assert!(matches!(put, Err(crate::objects::PutError::NotStored(_))), "{put:?}");
        assert_eq!(incoming(dir.path()), 0);
    }

    #[tokio::test]
    async fn parts_and_lists_are_those_of_the_folder() {
        let dir = tempfile::tempdir().expect("a folder");
        let objects = objects(dir.path());
        for key in ["a/b/1", "a/b/2", "a/bc/3", "d"] {
            objects.put_new(key, &Bytes::from(format!("content of {key}"))).await.expect("the disk answers");
        }
        assert_eq!(objects.get_start("a/b/1", 7).await, Ok(Some(Bytes::from_static(b"content"))));
        assert_eq!(objects.get_start("a/b/1", 700).await, Ok(Some(Bytes::from_static(b"content of a/b/1"))));
        assert_eq!((objects.exists("a/b").await, objects.exists("a/b/2").await), (Ok(false), Ok(true)));
        for absent in ["a/b", "a/b/9", "d/e", "x/y/z"] {
            assert!(objects.get(absent).await.expect("the disk answers").is_none(), "{absent}");
            objects.delete(absent).await.unwrap_or_else(|error| assert_eq!(absent, "a/b", "{error}"));
        }
        let listed = objects.list("a/b").await.expect("it answers");
        let mut listed: Vec<_> = listed.into_iter().map(|listed| (listed.key, listed.bytes)).collect();
        listed.sort();
        assert_eq!(listed, [("a/b/1".to_owned(), 16), ("a/b/2".to_owned(), 16)]);
        assert_eq!(objects.list("nowhere").await, Ok(Vec::new()));
    }
}

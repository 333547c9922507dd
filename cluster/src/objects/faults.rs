//! Objects in memory that do what a network and a crash do: lose answers, deliver late, refuse, stop.

use super::{Objects, Patience};
use async_trait::async_trait;
use core::fmt;
use core::time::Duration;
use futures_util::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt as _,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// What happens to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing: it is answered.
    None,
    /// It is done, and the answer is lost.
    AnswerLost,
    /// It is not done, and there is no answer.
    RequestLost,
    /// Something in between sends it twice, and gives the answer to the second.
    Twice,
    /// It is done only when the test says so, and there is no answer.
    Held,
    /// It is done and answered only when the test says so.
    Slow,
    /// Refused: no right.
    Refused,
    /// The server says that another one writes the same, and nothing is there yet.
    Meets,
}

/// Objects in memory with faults.
#[derive(Clone, Debug, Default)]
pub(crate) struct Storage(Arc<State>);

#[derive(Debug, Default)]
struct State {
    inner: Arc<InMemory>,
    asked: AtomicUsize,
    /// Of the next writes.
    writes: Mutex<VecDeque<Fault>>,
    /// Of the next reads of marks and entries.
    reads: Mutex<VecDeque<Fault>>,
    /// A part of keys that are refused, if they are not empty.
    refused: Mutex<Option<String>>,
    refusals: AtomicUsize,
    /// Lists that are not answered.
    lists: AtomicUsize,
    /// Writes and deletions left until the process is as dead.
    alive: Mutex<Option<usize>>,
    held: Mutex<Vec<(Path, PutPayload, PutOptions)>>,
    go_on: tokio::sync::Notify,
}

impl Storage {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// The objects, tried for a short time.
    pub(crate) fn objects(&self) -> Objects {
        let patience = Patience { request: Duration::from_secs(5), call: Duration::from_millis(300) };
        Objects::new(Arc::new(self.clone()), Path::from("prefix")).with_patience(patience)
    }

    /// How many requests there were since this was asked last.
    pub(crate) fn asked(&self) -> usize {
        self.0.asked.swap(0, Ordering::Relaxed)
    }

    pub(crate) fn fail_writes(&self, faults: &[Fault]) {
        self.0.writes.lock().expect("no panic").extend(faults);
    }

    pub(crate) fn fail_reads(&self, faults: &[Fault]) {
        self.0.reads.lock().expect("no panic").extend(faults);
    }

    /// So many lists are not answered.
    pub(crate) fn fail_lists(&self, count: usize) {
        self.0.lists.store(count, Ordering::Relaxed);
    }

    /// Refuses to write what is not empty and has this in its key, or nothing any more.
    pub(crate) fn refuse_keys(&self, with: Option<&str>) {
        *self.0.refused.lock().expect("no panic") = with.map(str::to_owned);
    }

    /// How many writes were refused for their keys.
    pub(crate) fn refusals(&self) -> usize {
        self.0.refusals.load(Ordering::Relaxed)
    }

    /// From now on all is answered.
    pub(crate) fn heal(&self) {
        self.0.writes.lock().expect("no panic").clear();
        self.0.reads.lock().expect("no panic").clear();
    }

    /// Answers a slow read.
    pub(crate) fn go_on(&self) {
        self.0.go_on.notify_one();
    }

    /// No fault is left over that a test meant to happen.
    pub(crate) fn is_done(&self) -> bool {
        self.0.writes.lock().expect("no panic").is_empty() && self.0.reads.lock().expect("no panic").is_empty()
    }

    /// After so many writes and deletions everything fails, or never.
    pub(crate) fn dies_after(&self, changes: Option<usize>) {
        *self.0.alive.lock().expect("no panic") = changes;
    }

    /// Does what was held back. Gives how many of it came to stand.
    pub(crate) async fn release(&self) -> usize {
        let held = core::mem::take(&mut *self.0.held.lock().expect("no panic"));
        let mut stand = 0;
        for (path, payload, options) in held {
            stand += usize::from(self.0.inner.put_opts(&path, payload, options).await.is_ok());
        }
        stand
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.content(key).is_some()
    }

    pub(crate) fn content(&self, key: &str) -> Option<Vec<u8>> {
        now(async {
            let got = self.0.inner.get(&path(key)).await.ok()?;
            Some(got.bytes().await.expect("memory answers").to_vec())
        })
    }

    /// All keys, in order.
    pub(crate) fn keys(&self) -> Vec<String> {
        use futures_util::TryStreamExt as _;
        let list = self.0.inner.list(None).map_ok(|meta| meta.location.as_ref()["prefix/".len()..].to_owned());
        let mut keys: Vec<String> = now(list.try_collect()).expect("memory answers");
        keys.sort();
        keys
    }

    pub(crate) fn put(&self, key: &str, content: Vec<u8>) {
        now(self.0.inner.put(&path(key), content.into())).expect("memory answers");
    }

    /// Changes the last byte.
    pub(crate) fn damage(&self, key: &str) {
        let mut content = self.content(key).expect("it is there");
        *content.last_mut().expect("it has bytes") ^= 1;
        self.put(key, content);
    }

    /// Takes it away, as nobody may.
    pub(crate) fn lose(&self, key: &str) {
        now(self.0.inner.delete(&path(key))).expect("memory answers");
    }

    fn change(&self) -> Result<()> {
        match &mut *self.0.alive.lock().expect("no panic") {
            Some(0) => Err(lost()),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

fn path(key: &str) -> Path {
    Path::from(format!("prefix/{key}"))
}

/// Memory never waits.
fn now<T>(future: impl Future<Output = T>) -> T {
    futures_util::FutureExt::now_or_never(future).expect("memory answers at once")
}

fn lost() -> Error {
    Error::Generic { store: "test", source: "the answer was lost".into() }
}

fn refused(path: &Path) -> Error {
    Error::PermissionDenied { path: path.to_string(), source: "not yours".into() }
}

impl fmt::Display for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("storage with faults")
    }
}

#[async_trait]
impl ObjectStore for Storage {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.0.asked.fetch_add(1, Ordering::Relaxed);
        self.change()?;
        let is_refused = self.0.refused.lock().expect("no panic").as_ref().is_some_and(|with| location.as_ref().contains(with.as_str()));
        if is_refused && payload.content_length() > 0 {
            self.0.refusals.fetch_add(1, Ordering::Relaxed);
            return Err(refused(location));
        }
        let fault = self.0.writes.lock().expect("no panic").pop_front().unwrap_or(Fault::None);
        let put = || self.0.inner.put_opts(location, payload.clone(), options.clone());
        match fault {
            Fault::None => put().await,
            Fault::AnswerLost => {
                let _ = put().await;
                Err(lost())
            }
            Fault::RequestLost => Err(lost()),
            Fault::Twice => {
                let _ = put().await;
                put().await
            }
            Fault::Held => {
                self.0.held.lock().expect("no panic").push((location.clone(), payload, options));
                Err(lost())
            }
            Fault::Refused => Err(refused(location)),
            Fault::Slow => {
                self.0.go_on.notified().await;
                put().await
            }
            Fault::Meets => Err(Error::AlreadyExists { path: location.to_string(), source: "409".into() }),
        }
    }

    async fn put_multipart_opts(&self, location: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.0.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.0.asked.fetch_add(1, Ordering::Relaxed);
        if *self.0.alive.lock().expect("no panic") == Some(0) {
            return Err(lost());
        }
        let fault = self.0.reads.lock().expect("no panic").pop_front().unwrap_or(Fault::None);
        match fault {
            Fault::None => self.0.inner.get_opts(location, options).await,
            Fault::Refused => Err(refused(location)),
            Fault::Slow => {
                self.0.go_on.notified().await;
                self.0.inner.get_opts(location, options).await
            }
            Fault::AnswerLost | Fault::RequestLost | Fault::Twice | Fault::Held | Fault::Meets => Err(lost()),
        }
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        use futures_util::StreamExt as _;
        self.0.asked.fetch_add(1, Ordering::Relaxed);
        let this = self.clone();
        let locations = locations.map(move |location| {
            this.change()?;
            location
        });
        self.0.inner.delete_stream(locations.boxed())
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        use futures_util::StreamExt as _;
        self.0.asked.fetch_add(1, Ordering::Relaxed);
        if self.0.lists.load(Ordering::Relaxed) > 0 {
            self.0.lists.fetch_sub(1, Ordering::Relaxed);
            return futures_util::stream::iter([Err(lost())]).boxed();
        }
        self.0.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.0.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.0.inner.copy_opts(from, to, options).await
    }
}

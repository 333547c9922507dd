//! [`Renewal`]: files with certificates that are read anew whenever they change, and at SIGHUP. What cannot be used changes nothing.

use super::StartError;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// How often it is looked whether the files have changed.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Which state of a file was read: a file that is written anew or put in its place has another, and so has one that somebody else may read now.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    changed: (i64, i64),
    written: (i64, i64),
    size: u64,
}

impl From<Metadata> for Stamp {
    fn from(about: Metadata) -> Self {
        let (changed, written) = ((about.ctime(), about.ctime_nsec()), (about.mtime(), about.mtime_nsec()));
        Self { device: about.dev(), inode: about.ino(), changed, written, size: about.size() }
    }
}

/// What is made of files.
type Read<T> = dyn Fn() -> Result<T, String> + Send + Sync;

/// What was made of files when they were read last.
pub(super) struct Renewal<T> {
    /// What they are to people.
    what: &'static str,
    files: Vec<PathBuf>,
    /// How the files were when they were read the first time.
    first: Vec<Option<Stamp>>,
    read: Box<Read<T>>,
    current: RwLock<T>,
}

/// What ends at a time, as certificates do.
pub(super) trait Expires {
    /// When the first of them runs out, in seconds since 1970, if there is one and that can be read.
    fn expires_s(&self) -> Option<i64>;
}

impl<T: Clone + Send + Sync + 'static> Renewal<T> {
    /// Reads the files. The error says which one is wrong; nothing of a key is in it.
    pub(super) fn load(
        what: &'static str,
        files: Vec<PathBuf>,
        read: impl Fn() -> Result<T, String> + Send + Sync + 'static,
    ) -> Result<Self, String> {
        // Before they are read: what is written meanwhile is seen at the first look.
        let first = stamps(&files);
        let current = RwLock::new(read()?);
        Ok(Self { what, files, first, read: Box::new(read), current })
    }

    /// What they are now.
    pub(super) fn current(&self) -> T {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads them anew from now on, until `closing`.
    pub(super) fn begin(self: &Arc<Self>, closing: CancellationToken) -> Result<(), StartError> {
        if self.files.is_empty() {
            return Ok(());
        }
        // The system would end the process by it.
        let hangups = signal(SignalKind::hangup()).map_err(|error| StartError::Tls(format!("SIGHUP cannot be taken over: {error}")))?;
        tokio::spawn(Arc::clone(self).watch(hangups, closing));
        Ok(())
    }

    async fn watch(self: Arc<Self>, mut hangups: Signal, closing: CancellationToken) {
        let (mut before, mut failed) = (self.first.clone(), None);
        loop {
            let is_asked = tokio::select! {
                () = closing.cancelled() => return,
                hangup = hangups.recv() => hangup.is_some(),
                () = tokio::time::sleep(LOOK_EVERY) => false,
            };
            let now = stamps(&self.files);
            // What could not be read is tried again, whatever it was for: the files themselves may be as they were.
            if now == before && !is_asked && failed.is_none() {
                continue;
            }
            before = now;
            let this = Arc::clone(&self);
            let read = tokio::task::spawn_blocking(move || (this.read)()).await.expect("a read neither panics nor is aborted");
            match read {
                Ok(current) => {
                    *self.current.write().unwrap_or_else(PoisonError::into_inner) = current;
                    failed = None;
                    tracing::info!(of = self.what, files = ?self.files, "the certificates are read anew, for connections from now on");
                }
                Err(reason) if failed.as_ref() == Some(&reason) && !is_asked => {}
                Err(reason) => {
                    tracing::error!(of = self.what, %reason, "the certificates cannot be read anew, so those from before stay in use");
                    failed = Some(reason);
                }
            }
        }
    }
}

impl<T: Clone + Expires + Send + Sync + 'static> Renewal<T> {
    /// Shows when what is in use runs out.
    pub(super) fn register(self: &Arc<Self>, registry: &mut Registry, name: &'static str, help: &'static str) {
        registry.register_collector(Box::new(Expiry { of: Arc::clone(self), name, help }));
    }
}

/// Shows when certificates run out.
struct Expiry<T> {
    of: Arc<Renewal<T>>,
    name: &'static str,
    help: &'static str,
}

impl<T> core::fmt::Debug for Expiry<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Expiry").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<T: Clone + Expires + Send + Sync + 'static> Collector for Expiry<T> {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), core::fmt::Error> {
        let Some(expires_s) = self.of.current().expires_s() else { return Ok(()) };
        ConstGauge::new(expires_s).encode(encoder.encode_descriptor(self.name, self.help, None, MetricType::Gauge)?)
    }
}

fn stamps(files: &[PathBuf]) -> Vec<Option<Stamp>> {
    files.iter().map(|file| std::fs::metadata(file).ok().map(Stamp::from)).collect()
}

impl<T> core::fmt::Debug for Renewal<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Renewal").field("what", &self.what).field("files", &self.files).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

    async fn until(what: &str, comes: impl Fn() -> bool) {
        let comes = async {
            while !comes() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), comes).await.expect(what);
    }

    #[tokio::test]
    async fn what_could_not_be_read_stays_as_it_was_and_is_tried_again_though_the_file_is_the_same() {
        let file = std::env::temp_dir().join(format!("sagamq-renewal-{}", std::process::id()));
        std::fs::write(&file, "first").expect("written");
        let (can, reads) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicU32::new(0)));
        let (path, may, count) = (file.clone(), Arc::clone(&can), Arc::clone(&reads));
        let read = move || {
            count.fetch_add(1, Ordering::Relaxed);
            // As where a process has as many files open as it may.
            if may.load(Ordering::Relaxed) {
                std::fs::read_to_string(&path).map_err(|error| error.to_string())
            } else {
                Err("not now".to_owned())
            }
        };
        let renewal = Arc::new(Renewal::load("a test", vec![file.clone()], read).expect("it is there"));
        let closing = CancellationToken::new();
        renewal.begin(closing.clone()).expect("it begins");
        assert_eq!(renewal.current(), "first");
        can.store(false, Ordering::Relaxed);
        std::fs::write(&file, "second").expect("written");
        until("it is read", || reads.load(Ordering::Relaxed) > 1).await;
        assert_eq!(renewal.current(), "first");
        can.store(true, Ordering::Relaxed);
        until("it is read again", || renewal.current() == "second").await;
        closing.cancel();
        std::fs::remove_file(&file).expect("ours");
    }
}

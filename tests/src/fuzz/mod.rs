//! Text that nobody would write, given to the linter, the expression compiler and the evaluator for as long as one likes.
//!
//! It is a loop of this program, with the compiler that everything is built with: the tools for fuzzing need another one, and would compile
//! RocksDB once more for it. What has been reached is told from outside, by the faults that a text has and the way an expression ends; a text
//! that reaches something new joins those that others are made from. Before a text is tried it is written down, so that one that kills
//! the process is known as well.

mod mutate;
mod options;
mod targets;

pub use options::Options;

use mutate::Mutator;
use sagamq_broker::env::Random;
use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
pub use targets::Target;

/// How long one text may take before it counts as one that hangs: a thousand times what the largest takes.
const HANGS_AFTER: Duration = Duration::from_secs(60);

/// Most texts that others are made from: those of the tree, and what reached something new.
const POOL_MAX: usize = 4_096;

/// What came out.
#[derive(Debug, Default)]
pub struct Fuzzed {
    /// Texts that were tried.
    pub tried: u64,
    /// Texts that reached something new.
    pub new: usize,
    /// Files with texts that did harm.
    pub harmful: Vec<PathBuf>,
}

/// What the workers share.
struct Shared {
    target: Target,
    pool: Mutex<Vec<String>>,
    reached: Mutex<BTreeSet<String>>,
    harmful: Mutex<Vec<PathBuf>>,
    tried: AtomicU64,
    over: AtomicBool,
    folder: PathBuf,
}

/// Tries texts until the time is over, or the first that does harm.
///
/// # Errors
/// When a file cannot be read or written.
pub fn run(options: &Options) -> io::Result<Fuzzed> {
    let mut all = Fuzzed::default();
    let targets = options.target.map_or_else(|| Target::ALL.to_vec(), |target| vec![target]);
    let time = options.time / u32::try_from(targets.len()).unwrap_or(1);
    // A panic is told with its text, in a file; here it would be told without.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| ()));
    for target in targets {
        let Fuzzed { tried, new, harmful } = run_target(target, time, options)?;
        println!("{target}: {tried} texts in {time:?}, {new} of them reached something new, {} did harm", harmful.len());
        all.tried += tried;
        all.new += new;
        all.harmful.extend(harmful);
    }
    std::panic::set_hook(hook);
    Ok(all)
}

fn run_target(target: Target, time: Duration, options: &Options) -> io::Result<Fuzzed> {
    std::fs::create_dir_all(&options.folder)?;
    let seeds = target.seeds(&options.root)?;
    let shared = Arc::new(Shared {
        target,
        pool: Mutex::new(seeds),
        reached: Mutex::default(),
        harmful: Mutex::default(),
        tried: AtomicU64::new(0),
        over: AtomicBool::new(false),
        folder: options.folder.clone(),
    });
    let mut random = Random::from_seed(options.seed);
    let workers: Vec<_> = (0..options.workers).map(|number| Worker::start(number, random.fork(), &shared)).collect::<io::Result<_>>()?;
    let until = now() + time;
    while now() < until && !shared.over.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(100));
        for worker in &workers {
            worker.check(&shared)?;
        }
    }
    shared.over.store(true, Ordering::Relaxed);
    for worker in workers {
        worker.end(&shared)?;
    }
    let harmful = core::mem::take(&mut *shared.harmful.lock().unwrap_or_else(PoisonError::into_inner));
    let new = shared.reached.lock().unwrap_or_else(PoisonError::into_inner).len();
    Ok(Fuzzed { tried: shared.tried.load(Ordering::Relaxed), new, harmful })
}

/// A thread that tries texts, and what it tries now.
struct Worker {
    thread: std::thread::JoinHandle<io::Result<()>>,
    running: PathBuf,
    since: Arc<Mutex<Instant>>,
}

impl Worker {
    fn start(number: usize, random: Random, shared: &Arc<Shared>) -> io::Result<Self> {
        let running = shared.folder.join(format!("running-{}-{number}.txt", shared.target));
        let file = File::create(&running)?;
        let since = Arc::new(Mutex::new(now()));
        let (shared, clock) = (Arc::clone(shared), Arc::clone(&since));
        let thread = std::thread::Builder::new().name(format!("fuzz-{number}")).spawn(move || shared.try_on(random, &file, &clock))?;
        Ok(Self { thread, running, since })
    }

    /// Ends the process with the text that hangs, if one does: its thread cannot be ended.
    fn check(&self, shared: &Shared) -> io::Result<()> {
        if self.since.lock().unwrap_or_else(PoisonError::into_inner).elapsed() < HANGS_AFTER {
            return Ok(());
        }
        let kept = shared.keep("hangs", &std::fs::read_to_string(&self.running)?)?;
        println!("a text takes more than {HANGS_AFTER:?}: {}", kept.display());
        std::process::exit(1);
    }

    fn end(self, shared: &Shared) -> io::Result<()> {
        while !self.thread.is_finished() {
            self.check(shared)?;
            std::thread::sleep(Duration::from_millis(10));
        }
        self.thread.join().map_err(|_| io::Error::other("a worker panicked outside of what it tries"))??;
        std::fs::remove_file(&self.running)
    }
}

impl Shared {
    fn try_on(&self, random: Random, running: &File, since: &Mutex<Instant>) -> io::Result<()> {
        let mut mutator = Mutator::new(random, self.target.fragments());
        while !self.over.load(Ordering::Relaxed) {
            let text = mutator.next(&self.pool.lock().unwrap_or_else(PoisonError::into_inner));
            running.write_all_at(text.as_bytes(), 0)?;
            running.set_len(text.len() as u64)?;
            *since.lock().unwrap_or_else(PoisonError::into_inner) = now();
            match catch_unwind(AssertUnwindSafe(|| self.target.try_text(&text))) {
                Ok(reached) => self.learn(&text, reached),
                Err(panic) => {
                    let why = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
                    let kept = self.keep("harms", &text)?;
                    println!("{}: {}", kept.display(), why.unwrap_or("it panicked"));
                    self.harmful.lock().unwrap_or_else(PoisonError::into_inner).push(kept);
                    self.over.store(true, Ordering::Relaxed);
                }
            }
            self.tried.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    fn learn(&self, text: &str, reached: String) {
        if self.reached.lock().unwrap_or_else(PoisonError::into_inner).insert(reached) {
            let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
            if pool.len() < POOL_MAX {
                pool.push(text.to_owned());
            }
        }
    }

    fn keep(&self, what: &str, text: &str) -> io::Result<PathBuf> {
        let path = self.folder.join(format!("{what}-{}-{}.txt", self.target, self.tried.load(Ordering::Relaxed)));
        std::fs::write(&path, text)?;
        Ok(path)
    }
}

#[expect(clippy::disallowed_methods, reason = "how long a text takes is what is asked")]
fn now() -> Instant {
    Instant::now()
}

/// Tries one text again, as it stands in a file. Panics as it did.
///
/// # Errors
/// When the file cannot be read.
pub fn again(target: Target, file: &Path) -> io::Result<String> {
    Ok(target.try_text(&std::fs::read_to_string(file)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guards the fuzzer itself: it must find what it is told is wrong, and keep the text.
    #[test]
    fn a_short_run_over_every_target_reaches_much_and_does_no_harm() {
        let folder = tempfile::tempdir().expect("a folder");
        let options = Options { time: Duration::from_secs(6), folder: folder.path().to_owned(), ..Options::default() };
        let fuzzed = run(&options).expect("files can be written");
        assert!(fuzzed.harmful.is_empty(), "{:?}", fuzzed.harmful);
        assert!(fuzzed.tried > 200 && fuzzed.new > 30, "{fuzzed:?}");
        assert_eq!(std::fs::read_dir(folder.path()).expect("it is there").count(), 0, "nothing is left behind");
    }

    #[test]
    fn a_text_that_does_harm_is_found_and_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let options = Options {
            time: Duration::from_secs(60),
            folder: folder.path().to_owned(),
            target: Some(Target::Planted),
            workers: 1,
            ..Options::default()
        };
        let fuzzed = run(&options).expect("files can be written");
        let [kept] = fuzzed.harmful.as_slice() else { panic!("one text does harm: {fuzzed:?}") };
        assert!(std::fs::read_to_string(kept).expect("it is kept").contains("}{"));
        assert!(catch_unwind(|| again(Target::Planted, kept)).is_err(), "and does it again");
    }
}

//! What is asked of a run.

use super::Target;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What is asked of a run.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long, in all.
    pub time: Duration,
    /// What is tried; `None`: one target after the other.
    pub target: Option<Target>,
    /// Where the texts come from.
    pub seed: u64,
    /// Threads.
    pub workers: usize,
    /// Where texts are kept that do harm.
    pub folder: PathBuf,
    /// A text that is tried once more, instead of new ones.
    pub again: Option<PathBuf>,
    /// The tree, whose definitions are what texts are made from.
    pub root: PathBuf,
}

impl Default for Options {
    fn default() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_owned).unwrap_or_default();
        Self {
            time: Duration::from_secs(60),
            target: None,
            seed: 1,
            workers: std::thread::available_parallelism().map_or(1, usize::from),
            folder: PathBuf::from("fuzz-failures"),
            again: None,
            root,
        }
    }
}

impl Options {
    /// The options of a command line.
    ///
    /// # Errors
    /// How it is called, when this is not how.
    pub fn from_args(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        const USAGE: &str =
            "sagamq-fuzz [--minutes N | --seconds N] [--target dsl|cel|values] [--seed N] [--failures FOLDER] [--again FILE --target T]";
        let mut options = Self::default();
        while let Some(name) = args.next() {
            let value = args.next().ok_or_else(|| format!("{name} has no value\n{USAGE}"))?;
            let number = || value.parse::<u64>().map_err(|_| format!("{name} takes a number, and this is `{value}`\n{USAGE}"));
            match name.as_str() {
                "--minutes" => options.time = Duration::from_secs(60 * number()?),
                "--seconds" => options.time = Duration::from_secs(number()?),
                "--seed" => options.seed = number()?,
                "--failures" => options.folder = value.into(),
                "--again" => options.again = Some(value.into()),
                "--target" => {
                    let target = Target::ALL.into_iter().find(|target| target.to_string() == value);
                    options.target = Some(target.ok_or_else(|| format!("there is no target `{value}`\n{USAGE}"))?);
                }
                _ => return Err(format!("there is no option {name}\n{USAGE}")),
            }
        }
        if options.again.is_some() && options.target.is_none() {
            return Err(format!("--again needs the target that the text was for\n{USAGE}"));
        }
        Ok(options)
    }
}

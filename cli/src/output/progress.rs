//! Progress of long work: a bar on stderr if that is a terminal, else nothing.

use indicatif::{ProgressBar, ProgressStyle};
use std::time::Duration;

/// How often a spinner turns while nothing else happens.
const TICK: Duration = Duration::from_millis(200);

/// A bar over the bytes of a file, counting something else in its message.
pub(crate) fn bytes(length: u64) -> ProgressBar {
    styled(ProgressBar::new(length), "{bar:32} {binary_bytes}/{binary_total_bytes}  {msg}  {eta} left")
}

/// A spinner: nobody knows how much there is.
pub(crate) fn spinner() -> ProgressBar {
    let spinner = styled(ProgressBar::no_length(), "{spinner} {msg}  {elapsed}");
    if !spinner.is_hidden() {
        spinner.enable_steady_tick(TICK);
    }
    spinner
}

/// Nothing: on a terminal where somebody types, a bar would write into their lines.
pub(crate) fn hidden() -> ProgressBar {
    ProgressBar::hidden()
}

fn styled(bar: ProgressBar, template: &str) -> ProgressBar {
    bar.with_style(ProgressStyle::with_template(template).expect("the templates above are legal: a test draws each"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_is_legal() {
        bytes(1).finish_and_clear();
        spinner().finish_and_clear();
    }
}

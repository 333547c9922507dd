//! Everything a command prints: answers on stdout, notes, progress and errors on stderr.

pub(crate) mod error;
pub(crate) mod human;
pub(crate) mod progress;
mod table;
mod visible;

pub(crate) use table::{NONE, fields, table};
pub(crate) use visible::{lines, visible};

use crate::args::Format;
use crate::error::CliError;
use serde::Serialize;
use std::io::{self, IsTerminal as _, Write as _};

/// Where a command puts its answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    /// Table or JSON.
    pub(crate) format: Format,
    /// Whether stdout is a terminal.
    pub(crate) terminal: bool,
}

impl Output {
    /// The output that was asked for, on this process's stdout.
    pub(crate) fn new(format: Format) -> Self {
        Self { format, terminal: io::stdout().is_terminal() }
    }

    /// Prints an answer: as one JSON document, or as `table` lays it out. It is the last that there is to say: that nobody reads it any more
    /// changes nothing of what was done, and of what the exit code says of it.
    pub(crate) fn answer<T: Serialize>(self, answer: &T, table: impl FnOnce(&T) -> String) -> Result<(), CliError> {
        or_unread(self.answer_to_be_read(answer, table))
    }

    /// As [`Output::answer`], where it makes a difference whether it is read.
    ///
    /// # Errors
    /// [`CliError::ReaderGone`] when it is known that it is not.
    pub(crate) fn answer_to_be_read<T: Serialize>(self, answer: &T, table: impl FnOnce(&T) -> String) -> Result<(), CliError> {
        match self.format {
            Format::Table => self.line(&table(answer)),
            Format::Json => self.line(&self.json(answer)?),
        }
    }

    /// One JSON document: indented where a person reads it, on one line where a program does.
    pub(crate) fn json<T: Serialize>(self, answer: &T) -> Result<String, CliError> {
        let text = if self.terminal { serde_json::to_string_pretty(answer) } else { serde_json::to_string(answer) };
        text.map_err(|error| CliError::Failed(format!("the answer cannot be written as JSON: {error}")))
    }

    /// Prints a line to stdout, or several; more may come.
    ///
    /// # Errors
    /// [`CliError::ReaderGone`] when nobody reads them any more: whoever has more to say need not go on.
    pub(crate) fn line(self, text: &str) -> Result<(), CliError> {
        match self.format {
            Format::Table => Self::print(&lines(text)),
            Format::Json => Self::print(text),
        }
    }

    /// As [`Output::answer`], with a report that may have colours of its own, and nothing else that steers a terminal.
    pub(crate) fn answer_in_colours<T: Serialize>(self, answer: &T, report: &str) -> Result<(), CliError> {
        or_unread(match self.format {
            Format::Table => Self::print(report),
            Format::Json => self.line(&self.json(answer)?),
        })
    }

    fn print(text: &str) -> Result<(), CliError> {
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "{}", text.trim_end_matches('\n')).and_then(|()| stdout.flush()).map_err(CliError::stdout)
    }

    /// Says something beside the answer, to people only.
    pub(crate) fn note(self, text: &str) {
        self.note_in_colours(&lines(text));
    }

    /// As [`Output::note`], with a text that may have colours of its own, and nothing else that steers a terminal.
    pub(crate) fn note_in_colours(self, text: &str) {
        if self.format == Format::Table {
            drop(writeln!(io::stderr(), "{text}"));
        }
    }

    /// A table in this output's style.
    pub(crate) fn table<const N: usize>(self, header: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
        table(self.terminal, header, rows)
    }
}

/// The same, or that it was printed for nobody, which is no error.
pub(crate) fn or_unread(printed: Result<(), CliError>) -> Result<(), CliError> {
    match printed {
        Err(CliError::ReaderGone) => Ok(()),
        other => other,
    }
}

//! What is told of one way through the world: who did what when, in words.

use std::fmt::Write as _;

/// Everything on the way, in order.
#[derive(Clone, Debug, Default)]
pub(super) struct Tape {
    lines: Vec<Line>,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// When, in milliseconds of the virtual clock since the start.
    pub at_ms: u64,
    /// Who did it.
    pub from: Who,
    /// Who was told, if somebody was.
    pub to: Option<Who>,
    /// What.
    pub text: String,
    /// Whether it is what goes wrong.
    pub is_fault: bool,
}

/// Somebody in a timeline.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Who {
    /// The instance, in the orchestrator.
    Saga,
    /// A service.
    Service(String),
    /// A person.
    Operator,
    /// The clock.
    Time,
    /// The home of a lock.
    Lock,
}

impl Who {
    /// A name for people.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Saga => "saga",
            Self::Service(name) => name,
            Self::Operator => "operator",
            Self::Time => "time",
            Self::Lock => "lock",
        }
    }
}

impl Tape {
    pub(super) fn push(&mut self, line: Line) {
        self.lines.push(line);
    }

    pub(super) fn into_lines(self) -> Vec<Line> {
        self.lines
    }
}

/// A timeline as text: when, who, what; `!` before what went wrong.
#[must_use]
pub fn timeline(lines: &[Line]) -> String {
    let width = lines.iter().map(|line| line.from.name().len()).max().unwrap_or(0);
    let mut text = String::new();
    for line in lines {
        let mark = if line.is_fault { '!' } else { ' ' };
        let (at, from) = (clock(line.at_ms), line.from.name());
        let _ = writeln!(text, "{mark} {at:>10}  {from:<width$}  {}", line.text);
    }
    text
}

/// The same as a sequence diagram of Mermaid.
#[must_use]
pub fn mermaid(lines: &[Line]) -> String {
    let mut names: Vec<&Who> = Vec::new();
    for who in lines.iter().flat_map(|line| [Some(&line.from), line.to.as_ref()]).flatten() {
        if !names.contains(&who) {
            names.push(who);
        }
    }
    let alias = |who: &Who| format!("p{}", names.iter().position(|other| *other == who).unwrap_or(0));
    let mut text = "sequenceDiagram\n".to_owned();
    for who in &names {
        let _ = writeln!(text, "    participant {} as {}", alias(who), who.name());
    }
    for line in lines {
        // What a semicolon and a number sign mean to Mermaid is not meant here.
        let said = line.text.replace('#', "#35;").replace(';', "#59;");
        let _ = match &line.to {
            Some(to) if *to != line.from => {
                writeln!(text, "    {}{}{}: {said}", alias(&line.from), if line.is_fault { "-x" } else { "->>" }, alias(to))
            }
            _ => writeln!(text, "    Note over {}: {said}", alias(&line.from)),
        };
    }
    text
}

/// A time of the virtual clock.
fn clock(at_ms: u64) -> String {
    format!("{}.{:03} s", at_ms / 1_000, at_ms % 1_000)
}

//! Collects faults and knows where they stand, so that a run finds all of them.

use super::rule::Rule;
use super::span::Span;
use sagamq_api::Fault;
use sagamq_api::error::Severity;

/// Most faults of one report: a file of garbage has as many as it has words.
const FAULTS_MAX: usize = 200;

/// Most expressions of a definition: compiling one costs some ten microseconds, and a megabyte of text has room for many.
const EXPRESSIONS_MAX: usize = 10_000;

/// The faults of a text.
#[derive(Debug)]
pub(crate) struct Report<'s> {
    source: &'s str,
    lines: Vec<usize>,
    faults: Vec<Fault>,
    left_out: usize,
    expressions: usize,
}

impl<'s> Report<'s> {
    pub(crate) fn new(source: &'s str) -> Self {
        let lines = core::iter::once(0).chain(source.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { source, lines, faults: Vec::new(), left_out: 0, expressions: 0 }
    }

    /// The text that is looked at.
    pub(crate) fn source(&self) -> &'s str {
        self.source
    }

    /// Adds a fault.
    pub(crate) fn add(&mut self, rule: Rule, span: Span, message: impl Into<String>) {
        self.push(rule, span, message.into(), None);
    }

    /// Adds a fault with what to do about it.
    pub(crate) fn add_with_help(&mut self, rule: Rule, span: Span, message: impl Into<String>, help: impl Into<String>) {
        self.push(rule, span, message.into(), Some(help.into()));
    }

    fn push(&mut self, rule: Rule, span: Span, message: String, help: Option<String>) {
        if self.faults.len() >= FAULTS_MAX {
            self.left_out += 1;
            return;
        }
        let offset = floor_char_boundary(self.source, span.offset);
        let end = floor_char_boundary(self.source, offset.saturating_add(span.length).max(offset));
        let (line, column) = self.place(offset);
        let length = end - offset;
        let fault = Fault { code: rule.code().to_owned(), severity: rule.severity(), message, line, column, offset, length, help };
        // An alias is read where it is used; what is wrong in its anchor is wrong once.
        if !self.faults.contains(&fault) {
            self.faults.push(fault);
        }
    }

    /// Counts expressions that are about to be compiled. Returns whether the definition may have them.
    pub(crate) fn may_compile(&mut self, count: usize, span: Span) -> bool {
        let before = self.expressions;
        self.expressions = before.saturating_add(count);
        if before <= EXPRESSIONS_MAX && self.expressions > EXPRESSIONS_MAX {
            self.add(Rule::TooLarge, span, format!("the definition has more than {EXPRESSIONS_MAX} expressions"));
        }
        self.expressions <= EXPRESSIONS_MAX
    }

    /// Whether a fault forbids publishing.
    pub(crate) fn has_errors(&self) -> bool {
        self.faults.iter().any(|fault| fault.severity == Severity::Error)
    }

    /// The byte offset of a line and a column (in characters), both counted from 1.
    pub(crate) fn offset(&self, line: usize, column: usize) -> usize {
        let Some(&start) = self.lines.get(line.saturating_sub(1)) else { return self.source.len() };
        let rest = &self.source[start..];
        start + rest.char_indices().nth(column.saturating_sub(1)).map_or(rest.len(), |(at, _)| at)
    }

    fn place(&self, offset: usize) -> (u32, u32) {
        let line = self.lines.partition_point(|&start| start <= offset);
        let start = self.lines.get(line.saturating_sub(1)).copied().unwrap_or(0);
        let column = self.source[start..offset].chars().count() + 1;
        (u32::try_from(line).unwrap_or(u32::MAX), u32::try_from(column).unwrap_or(u32::MAX))
    }

    /// The faults in the order of the text.
    pub(crate) fn finish(mut self) -> Vec<Fault> {
        if self.left_out > 0 {
            let left_out = self.left_out;
            self.left_out = 0;
            self.faults.pop();
            let end = Span { offset: self.source.len(), length: 0 };
            self.add_with_help(
                Rule::TooLarge,
                end,
                format!("{} more faults are left out", left_out + 1),
                "mend the first ones and run again",
            );
        }
        self.faults.sort_by_key(|fault| fault.offset);
        self.faults
    }
}

fn floor_char_boundary(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0)
}

//! Shows faults as people want to see them: the line, a mark under the place, the reason and the help.

use core::fmt;
use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, Severity, SourceCode};
use sagamq_api::Fault;
use sagamq_api::error::Severity as FaultSeverity;

/// All faults of a text in one report, without colours: for logs, answers and terminals that have none.
#[must_use]
pub fn render(name: &str, source: &str, faults: &[Fault]) -> String {
    render_with(GraphicalTheme::unicode_nocolor(), name, source, faults)
}

/// All faults of a text in one report, for a terminal with colours.
#[must_use]
pub fn render_coloured(name: &str, source: &str, faults: &[Fault]) -> String {
    render_with(GraphicalTheme::unicode(), name, source, faults)
}

fn render_with(theme: GraphicalTheme, name: &str, source: &str, faults: &[Fault]) -> String {
    let handler = GraphicalReportHandler::new_themed(theme).with_width(120).with_links(false);
    let source = NamedSource::new(name, source.to_owned());
    let mut report = String::new();
    for fault in faults {
        let shown = Shown { fault, source: &source };
        if handler.render_report(&mut report, &shown).is_err() {
            // A place outside this text: the fault belongs to another one. Say it without the mark.
            report.push_str(&format!("{}: {} ({name}:{}:{})\n", fault.code, fault.message, fault.line, fault.column));
        }
        report.push('\n');
    }
    report.push_str(&summary(name, faults));
    report.push('\n');
    report
}

fn summary(name: &str, faults: &[Fault]) -> String {
    let errors = faults.iter().filter(|fault| fault.severity == FaultSeverity::Error).count();
    let plural = |count: usize, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
    format!("{name}: {}, {}", plural(errors, "error"), plural(faults.len() - errors, "warning"))
}

/// A fault as the reporter takes it.
struct Shown<'a> {
    fault: &'a Fault,
    source: &'a NamedSource<String>,
}

impl fmt::Debug for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fault.fmt(f)
    }
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.fault.message)
    }
}

impl core::error::Error for Shown<'_> {}

impl Diagnostic for Shown<'_> {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(&self.fault.code))
    }

    fn severity(&self) -> Option<Severity> {
        Some(match self.fault.severity {
            FaultSeverity::Error => Severity::Error,
            FaultSeverity::Warning => Severity::Warning,
        })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.fault.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(self.source)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let label = LabeledSpan::new(None, self.fault.offset, self.fault.length);
        Some(Box::new(core::iter::once(label)))
    }
}

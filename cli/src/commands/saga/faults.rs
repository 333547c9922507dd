//! Shows faults in the text they are in: with lines and colours on a terminal, plain elsewhere.

use miette::{GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteDiagnostic, NamedSource, Report};
use sagamq_api::Fault;
use sagamq_api::error::Severity;

/// Columns of a report: wide enough for a line of YAML and its label.
const WIDTH: usize = 120;

/// Every fault with its place, its line, and what to do.
pub(super) fn render(file: &str, source: &str, faults: &[Fault], terminal: bool) -> String {
    let theme = if terminal { GraphicalTheme::unicode() } else { GraphicalTheme::none() };
    let handler = GraphicalReportHandler::new_themed(theme).with_width(WIDTH).with_links(false);
    let mut text = String::new();
    for fault in faults {
        let report = Report::new(diagnostic(fault, source)).with_source_code(NamedSource::new(file, source.to_owned()).with_language("yaml"));
        // Writing to a string does not fail; a text that cannot be laid out is still said in one line.
        if handler.render_report(&mut text, report.as_ref()).is_err() {
            text.push_str(&format!("{file}:{}:{}: {} [{}]", fault.line, fault.column, fault.message, fault.code));
        }
        text.push('\n');
    }
    text
}

fn diagnostic(fault: &Fault, source: &str) -> MietteDiagnostic {
    // A server of another version may have read the text otherwise: a span outside of it would hide the whole fault.
    let start = fault.offset.min(source.len());
    let end = fault.offset.saturating_add(fault.length).clamp(start, source.len());
    let severity = match fault.severity {
        Severity::Error => miette::Severity::Error,
        Severity::Warning => miette::Severity::Warning,
    };
    let diagnostic = MietteDiagnostic::new(&fault.message)
        .with_code(&fault.code)
        .with_severity(severity)
        .with_label(LabeledSpan::at(start..end, "here"));
    match &fault.help {
        Some(help) => diagnostic.with_help(help),
        None => diagnostic,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(offset: usize, length: usize) -> Fault {
        Fault {
            code: "unknown_service".into(),
            severity: Severity::Error,
            message: "there is no service `pay`".into(),
            line: 2,
            column: 9,
            offset,
            length,
            help: Some("declare it under `services`".into()),
        }
    }

    #[test]
    fn a_fault_is_shown_with_file_line_column_code_and_help() {
        let text = render("a.yaml", "saga: x\ncall: pay.charge\n", &[fault(14, 3)], false);
        for part in ["a.yaml:2:7", "unknown_service", "there is no service `pay`", "call: pay.charge", "declare it under `services`"] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
        assert!(!text.contains('\x1b'), "no colours off a terminal");
    }

    #[test]
    fn a_place_outside_the_text_does_not_hide_the_fault() {
        assert!(render("a.yaml", "x", &[fault(100, usize::MAX)], false).contains("there is no service"));
    }
}

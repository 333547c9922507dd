//! A report in the form of `JUnit`, which continuous integration reads: a suite for each input, a case for each property.

use sagamq_saga::verify::Report;
use std::fmt::Write as _;

/// The document.
pub(super) fn document(file: &str, reports: &[Report], seconds: f64) -> String {
    let failures: usize = reports.iter().map(|report| report.violations.len()).sum();
    let cases: usize = reports.iter().map(|report| report.properties.len() + usize::from(!report.complete)).sum();
    let mut text = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n".to_owned();
    let errors = reports.iter().filter(|report| !report.complete).count();
    let _ = writeln!(
        text,
        "<testsuites name=\"sagamq saga verify\" tests=\"{cases}\" failures=\"{failures}\" errors=\"{errors}\" time=\"{seconds:.3}\">"
    );
    for (at, report) in reports.iter().enumerate() {
        suite(&mut text, file, at, report);
    }
    text.push_str("</testsuites>\n");
    text
}

fn suite(text: &mut String, file: &str, at: usize, report: &Report) {
    let name = format!("{} version {}, input {}", report.saga, report.version, at + 1);
    let (cases, incomplete) = (report.properties.len(), usize::from(!report.complete));
    let skipped = report.properties.iter().filter(|property| property.tried == 0 && !property.broken).count();
    let _ = writeln!(
        text,
        "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" errors=\"{incomplete}\" skipped=\"{skipped}\">",
        escaped(&name),
        cases + incomplete,
        report.violations.len()
    );
    for property in &report.properties {
        let case = format!("{}: {}", property.name, property.says);
        let _ = write!(text, "    <testcase classname=\"{}\" name=\"{}\"", escaped(file), escaped(&case));
        match report.violations.iter().find(|violation| violation.property == property.name) {
            Some(violation) => {
                let _ =
                    writeln!(text, ">\n      <failure message=\"{}\">{}</failure>", escaped(&violation.what), escaped(&violation.timeline));
                text.push_str("    </testcase>\n");
            }
            None if property.tried == 0 => text.push_str(">\n      <skipped message=\"it could not fail\"/>\n    </testcase>\n"),
            None => text.push_str("/>\n"),
        }
    }
    if !report.complete {
        let _ = writeln!(text, "    <testcase classname=\"{}\" name=\"every state within the bounds\">", escaped(file));
        let _ = writeln!(text, "      <error message=\"INCOMPLETE: the bound of {} states was hit\"/>\n    </testcase>", report.states_max);
    }
    text.push_str("  </testsuite>\n");
}

/// Text as XML holds it, in attributes too. What XML holds in no way is left out.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            '\n' | '\t' => out.push(char),
            control if control.is_control() => {}
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_xml_would_read_is_escaped() {
        assert_eq!(escaped("a<b && \"c\" > 'd'\u{0}\n"), "a&lt;b &amp;&amp; &quot;c&quot; &gt; &apos;d&apos;\n");
    }
}

//! Tables: with lines on a terminal, plain columns elsewhere, so that `awk` and `grep` have nothing to strip.

use super::visible::visible;
use comfy_table::{ContentArrangement, Table, presets};

/// What is not there.
pub(crate) const NONE: &str = "-";

/// Lays out rows under their headings.
pub(crate) fn table<const N: usize>(terminal: bool, header: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut table = Table::new();
    if terminal {
        table.load_style(presets::UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
    } else {
        table.load_style(presets::NOTHING).force_no_tty().set_content_arrangement(ContentArrangement::Disabled);
    }
    table.set_header(header);
    for row in rows {
        // A cell is one line, whatever somebody has written into it.
        table.add_row(row.map(|cell| visible(&cell)));
    }
    if !terminal {
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
    }
    table.trim_fmt()
}

/// Names and values below each other: the description of one thing.
pub(crate) fn fields(fields: &[(&str, String)]) -> String {
    let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let lines: Vec<String> =
        fields.iter().map(|(name, value)| format!("{name:<width$}  {}", visible(value)).trim_end().to_owned()).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn off_a_terminal_there_are_columns_and_nothing_else() {
        let text = table(false, ["NAME", "N"], [["orders".to_owned(), "12".to_owned()], ["a".to_owned(), "1".to_owned()]]);
        assert_eq!(text, "NAME    N\norders  12\na       1");
    }

    #[test]
    fn what_somebody_sent_makes_no_line_of_its_own() {
        let row = || ["why\nann  deleted\u{1b}[A".to_owned()];
        assert_eq!(table(false, ["REASON"], [row()]), "REASON\nwhy\\nann  deleted\\u{1b}[A");
        assert!(table(true, ["REASON"], [row()]).contains("deleted\\u{1b}"));
        assert_eq!(fields(&[("Why", row()[0].clone())]), "Why  why\\nann  deleted\\u{1b}[A");
    }

    #[test]
    fn on_a_terminal_there_are_lines() {
        assert!(table(true, ["NAME"], [["orders".to_owned()]]).contains('│'));
    }

    #[test]
    fn fields_line_up() {
        assert_eq!(fields(&[("Name", "a".to_owned()), ("Partitions", "4".to_owned())]), "Name        a\nPartitions  4");
    }
}

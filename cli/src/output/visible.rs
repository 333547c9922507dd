//! Text of others, as it may be shown: keys, reasons and failures are what somebody sent, and a terminal obeys control characters.

/// One line, and nothing that could steer the terminal or begin a line of its own: control characters are shown by their escapes.
pub(crate) fn visible(text: &str) -> String {
    without_controls(text, char::is_control)
}

/// The same of a text whose lines are its own, whichever way they end.
pub(crate) fn lines(text: &str) -> String {
    let line = |line: &str| without_controls(line, |c| c.is_control() && c != '\t');
    let ended = |text: &str| text.strip_suffix('\r').map_or_else(|| line(text), |text| line(text) + "\r");
    let mut all = text.split('\n').peekable();
    let mut shown = String::with_capacity(text.len());
    while let Some(next) = all.next() {
        // Only what stands before a line break is a part of it.
        let is_last = all.peek().is_none();
        shown.push_str(&if is_last { line(next) } else { ended(next) });
        if !is_last {
            shown.push('\n');
        }
    }
    shown
}

fn without_controls(text: &str, is_shown: impl Fn(char) -> bool) -> String {
    let mut visible = String::with_capacity(text.len());
    for c in text.chars() {
        if is_shown(c) {
            visible.extend(c.escape_default());
        } else {
            visible.push(c);
        }
    }
    visible
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_steers_a_terminal_or_forges_a_line() {
        assert_eq!(visible("a\u{1b}[2Jb\nkey:ann\tdone\u{9b}31mé"), "a\\u{1b}[2Jb\\nkey:ann\\tdone\\u{9b}31mé");
        assert_eq!(lines("a\u{1b}[2J\n\tb\r"), "a\\u{1b}[2J\n\tb\\r");
        assert_eq!(lines("a\r\nb\rc\r\n"), "a\r\nb\\rc\r\n");
    }
}

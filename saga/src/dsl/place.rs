//! Finds where a byte of a scalar's value stands in the text, through quotes, escapes, folding and indentation.

use super::span::Span;

/// The byte of `source` that stands for the byte `offset` of `value`, whose scalar stands at `span`. The begin of the scalar when
/// the two cannot be matched.
pub(crate) fn in_source(source: &str, span: Span, value: &str, offset: usize) -> usize {
    let Some(raw) = source.get(span.offset..span.offset + span.length) else { return span.offset };
    match_up(raw, value, offset).map_or(span.offset, |at| span.offset + at)
}

fn match_up(raw: &str, value: &str, offset: usize) -> Option<usize> {
    let quote = raw.chars().next().filter(|first| matches!(first, '"' | '\'') && !value.starts_with(raw));
    let mut at = usize::from(quote.is_some());
    for (index, wanted) in value.char_indices() {
        at = start_of(raw, at, wanted, quote)?;
        if index >= offset {
            return Some(at);
        }
        at = end_of(raw, at, wanted, quote)?;
    }
    Some(at)
}

/// Where the text of the value's next character begins: behind white space that folding or indentation swallowed.
fn start_of(raw: &str, mut at: usize, wanted: char, quote: Option<char>) -> Option<usize> {
    loop {
        let found = raw[at..].chars().next()?;
        if found == wanted || (wanted.is_whitespace() && found.is_whitespace()) {
            return Some(at);
        }
        if quote == Some('"') && found == '\\' {
            if !raw[at + 1..].starts_with(['\n', '\r']) {
                return Some(at);
            }
            at += 1;
        } else if found.is_whitespace() {
            at += found.len_utf8();
        } else {
            return None;
        }
    }
}

/// Where the text of the value's next character ends.
fn end_of(raw: &str, at: usize, wanted: char, quote: Option<char>) -> Option<usize> {
    let found = raw[at..].chars().next()?;
    match quote {
        Some('\'') if found == '\'' => Some(at + 2),
        Some('"') if found == '\\' => {
            let kind = raw[at + 1..].chars().next()?;
            let digits = match kind {
                'x' => 2,
                'u' => 4,
                'U' => 8,
                _ => 0,
            };
            Some((at + 1 + kind.len_utf8() + digits).min(raw.len())).filter(|&end| raw.is_char_boundary(end))
        }
        _ if found == wanted => Some(at + found.len_utf8()),
        // One space or line break of the value stands for any white space around a line break.
        _ => Some(at + raw[at..].find(|c: char| !c.is_whitespace()).unwrap_or(raw.len() - at)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text of `raw` from where the `#` of `value` stands in it.
    fn found(raw: &str, value: &str) -> String {
        let source = format!("key: {raw}\n");
        let span = Span { offset: 5, length: raw.len() };
        let at = in_source(&source, span, value, value.find('#').expect("marked"));
        source[at..].trim_end().to_owned()
    }

    #[test]
    fn a_place_is_found_through_every_style() {
        assert_eq!(found("a #b", "a #b"), "#b");
        assert_eq!(found("'it''s #b'", "it's #b"), "#b'");
        assert_eq!(found(r#""q\"\u00e9\n #b""#, "q\"é\n #b"), "#b\"");
        assert_eq!(found("\"one \\\n   two #b\"", "one two #b"), "#b\"");
        assert_eq!(found("folded\n   over ü #b", "folded over ü #b"), "#b");
        assert_eq!(found("first\n    second #b\n", "first\nsecond #b\n"), "#b");
        assert_eq!(found("a\n\n  b #c", "a\nb #c"), "#c");
    }

    #[test]
    fn what_does_not_match_is_the_begin() {
        assert_eq!(found("abc #", "xyz #"), "abc #");
    }
}

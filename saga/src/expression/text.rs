//! Splits a string into literal text and `${ }`, minding quotes and braces inside the expression.

use core::ops::Range;

/// A piece of a string, by its byte range in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// Text that stands for itself. `$${` stands for a literal `${`.
    Literal(String),
    /// What stands between `${` and `}`, with its blanks.
    Expression(Range<usize>),
}

/// A `${` without its `}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unclosed {
    /// Its byte offset.
    pub(crate) at: usize,
    /// Whether the text ends within quotes.
    pub(crate) in_quotes: bool,
}

/// The pieces of `text`, in order.
pub(crate) fn split(text: &str) -> Result<Vec<Piece>, Unclosed> {
    let mut pieces = Vec::new();
    let mut literal = String::new();
    let mut at = 0;
    while let Some(found) = text[at..].find("${") {
        let open = at + found;
        if text[at..open].ends_with('$') {
            literal.push_str(&text[at..open]);
            literal.push('{');
            at = open + 2;
            continue;
        }
        literal.push_str(&text[at..open]);
        let close = close(text, open + 2).map_err(|in_quotes| Unclosed { at: open, in_quotes })?;
        if !literal.is_empty() {
            pieces.push(Piece::Literal(core::mem::take(&mut literal)));
        }
        pieces.push(Piece::Expression(open + 2..close));
        at = close + 1;
    }
    literal.push_str(&text[at..]);
    if !literal.is_empty() {
        pieces.push(Piece::Literal(literal));
    }
    Ok(pieces)
}

/// The end, behind its `}`, of the expression whose `${` stands at `open`.
pub(crate) fn expression_end(text: &str, open: usize) -> Option<usize> {
    close(text, open + 2).ok().map(|close| close + 1)
}

/// Where the `}` stands that closes the expression beginning at `start`, or whether the text ends within quotes.
fn close(text: &str, start: usize) -> Result<usize, bool> {
    let bytes = text.as_bytes();
    let mut depth = 0_u32;
    let mut at = start;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'{' => depth += 1,
            b'}' if depth == 0 => return Ok(at),
            b'}' => depth -= 1,
            b'"' | b'\'' => {
                let raw = at > start && matches!(bytes[at - 1], b'r' | b'R');
                at = end_of_literal(bytes, at, raw).ok_or(true)?;
            }
            _ => {}
        }
        at += 1;
    }
    Err(false)
}

/// The last byte of the string literal that begins with the quote at `open`; a raw one has no escapes.
fn end_of_literal(bytes: &[u8], open: usize, raw: bool) -> Option<usize> {
    let quote = bytes[open];
    let triple = bytes[open..].starts_with(&[quote; 3]);
    let mut at = open + if triple { 3 } else { 1 };
    loop {
        match *bytes.get(at)? {
            b'\\' if !raw => at += 1,
            byte if byte == quote && !triple => return Some(at),
            byte if byte == quote && bytes[at..].starts_with(&[quote; 3]) => return Some(at + 2),
            _ => {}
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Vec<String> {
        let pieces = split(text).expect("closed");
        pieces
            .into_iter()
            .map(|piece| match piece {
                Piece::Literal(literal) => literal,
                Piece::Expression(range) => format!("<{}>", &text[range]),
            })
            .collect()
    }

    #[test]
    fn text_and_expressions_alternate() {
        assert_eq!(shown("plain"), ["plain"]);
        assert_eq!(shown(""), Vec::<String>::new());
        assert_eq!(shown("${a}"), ["<a>"]);
        assert_eq!(shown("a ${ b } c ${d}${e}"), ["a ", "< b >", " c ", "<d>", "<e>"]);
        assert_eq!(shown("5 $ and {x}"), ["5 $ and {x}"]);
    }

    #[test]
    fn braces_and_quotes_inside_an_expression_do_not_end_it() {
        assert_eq!(shown(r#"${ {"a": {"b": 1}}.a } x"#), [r#"< {"a": {"b": 1}}.a >"#, " x"]);
        assert_eq!(shown(r#"${ "}" + '}' }"#), [r#"< "}" + '}' >"#]);
        assert_eq!(shown(r#"${ "\"}" }"#), [r#"< "\"}" >"#]);
        assert_eq!(shown(r#"${ r"\" }"#), [r#"< r"\" >"#]);
        assert_eq!(shown(r#"${ """a"}b""" }"#), [r#"< """a"}b""" >"#]);
        assert_eq!(shown("${ 'ü}' }ü"), ["< 'ü}' >", "ü"]);
    }

    #[test]
    fn a_doubled_dollar_is_a_literal() {
        assert_eq!(shown("$${ a }"), ["${ a }"]);
        assert_eq!(shown("x $${a} ${b}"), ["x ${a} ", "<b>"]);
    }

    #[test]
    fn an_open_expression_says_where_it_began() {
        assert_eq!(split("a ${ b"), Err(Unclosed { at: 2, in_quotes: false }));
        assert_eq!(split("${ \"}"), Err(Unclosed { at: 0, in_quotes: true }));
        assert_eq!(split("${ {} "), Err(Unclosed { at: 0, in_quotes: false }));
    }
}

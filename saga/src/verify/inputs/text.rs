//! Texts that a pattern or a format takes.

use regex_syntax::hir::{Class, Hir, HirKind};

/// How often what may be repeated is, besides as seldom as it may.
const REPEATED: [u32; 7] = [0, 1, 2, 4, 8, 16, 64];

/// Longest text that is made, in bytes.
const TEXT_BYTES_MAX: usize = 4_096;

/// Texts that the pattern finds itself in: the shortest, and longer ones.
pub(super) fn matching(pattern: &str) -> Vec<String> {
    let Ok(parsed) = regex_syntax::Parser::new().parse(pattern) else { return Vec::new() };
    let made = REPEATED.iter().filter_map(|often| {
        let mut text = String::new();
        write(&parsed, *often, &mut text).map(|()| text)
    });
    let mut texts: Vec<String> = made.collect();
    texts.dedup();
    texts
}

/// `None`: it takes nothing, or only what is too long.
fn write(part: &Hir, often: u32, text: &mut String) -> Option<()> {
    if text.len() > TEXT_BYTES_MAX {
        return None;
    }
    match part.kind() {
        HirKind::Empty | HirKind::Look(_) => {}
        HirKind::Literal(literal) => text.push_str(core::str::from_utf8(&literal.0).ok()?),
        HirKind::Class(class) => text.push(one_of(class)?),
        HirKind::Repetition(repeated) => {
            let times = repeated.min.max(often.min(repeated.max.unwrap_or(often)));
            for _ in 0..times {
                write(&repeated.sub, often, text)?;
            }
        }
        HirKind::Capture(capture) => write(&capture.sub, often, text)?,
        HirKind::Concat(parts) => parts.iter().try_for_each(|part| write(part, often, text))?,
        HirKind::Alternation(parts) => write(parts.first()?, often, text)?,
    }
    Some(())
}

/// A character of the class, a plain one if there is one.
fn one_of(class: &Class) -> Option<char> {
    let ranges: Vec<(char, char)> = match class {
        Class::Unicode(class) => class.ranges().iter().map(|range| (range.start(), range.end())).collect(),
        Class::Bytes(class) => class.ranges().iter().map(|range| (char::from(range.start()), char::from(range.end()))).collect(),
    };
    let is_in = |plain: &char| ranges.iter().any(|(start, end)| (*start..=*end).contains(plain));
    ('a'..='z').chain('0'..='9').chain('A'..='Z').find(is_in).or_else(|| ranges.first().map(|(start, _)| *start))
}

/// A text of the format.
pub(super) fn of_format(format: &str) -> Option<&'static str> {
    Some(match format {
        "date" => "2026-01-02",
        "date-time" => "2026-01-02T00:00:00Z",
        "time" => "12:00:00Z",
        "duration" => "PT15M",
        "email" | "idn-email" => "ann@example.org",
        "hostname" | "idn-hostname" => "example.org",
        "ipv4" => "192.0.2.1",
        "ipv6" => "2001:db8::1",
        "uri" | "uri-reference" | "iri" | "iri-reference" | "uri-template" => "https://example.org/1",
        "uuid" => "00070198-5c3e-8d3a-9f6e-2f1f5a7f0b11",
        "json-pointer" => "/a",
        "relative-json-pointer" => "0",
        "regex" => "a",
        _ => return None,
    })
}

//! Regular expressions in expressions: their time is linear in the text, and the factor is the size of the compiled pattern, which a few
//! characters can make large. So they are charged by that size, before it is made.

use super::meter::{STEP_TEXT, Spent, charge};
use regex::{Error, RegexBuilder};

/// Steps that any regular expression costs: it is compiled whenever it is used.
const STEPS_ANY: u64 = 500;

/// Steps that a MiB of a compiled pattern costs.
const STEPS_MIB: u64 = 1_000;

/// Bytes of a compiled pattern that goes over a text once in the time that reading it takes.
const BYTES_SMALL: u64 = 64 * 1024;

/// Sizes of compiled patterns that are tried, in bytes, one after the other. The last one is the most that a pattern may have.
const SIZES: [usize; 4] = [64 * 1024, 512 * 1024, 4 * 1024 * 1024, 10 * 1024 * 1024];

/// Why it is not known whether a text matches.
#[derive(Debug)]
pub(super) enum Unmatched {
    Spent(Spent),
    Illegal(String),
}

/// Whether some part of the text matches the pattern.
pub(super) fn is_match(text: &str, pattern: &str) -> Result<bool, Unmatched> {
    for size in SIZES {
        let bytes = size as u64;
        let once_over = text.len() as u64 / STEP_TEXT;
        charge(STEPS_ANY + STEPS_MIB * bytes / (1024 * 1024) + once_over * (bytes / BYTES_SMALL), 0).map_err(Unmatched::Spent)?;
        match RegexBuilder::new(pattern).size_limit(size).build() {
            Ok(regex) => return Ok(regex.is_match(text)),
            Err(Error::CompiledTooBig(_)) => {}
            Err(error) => return Err(Unmatched::Illegal(format!("`{pattern}` is no regular expression: {error}"))),
        }
    }
    let most = SIZES[SIZES.len() - 1];
    Err(Unmatched::Illegal(format!("the regular expression `{pattern}` takes more than {most} bytes once compiled")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expression::meter::metered_until;

    /// How often a pattern is matched with a text within one decision, of so many times that it is tried.
    fn times(text: &str, pattern: &str, most: usize) -> usize {
        metered_until(None, || (0..most).take_while(|_| is_match(text, pattern).is_ok()).count())
    }

    #[test]
    fn a_text_matches_where_a_part_of_it_does() {
        let matches = |text: &str, pattern: &str| is_match(text, pattern).expect("legal");
        assert!(matches("a-17", "[0-9]+") && matches("Größe", r"^\w{5}$") && !matches("a", "^b"));
    }

    #[test]
    fn what_cannot_be_used_says_why() {
        for (pattern, why) in [("(", "unclosed group"), (r"\w{2000}", "once compiled"), ("(?=a)", "look-around")] {
            let Err(Unmatched::Illegal(reason)) = is_match("a", pattern) else { panic!("{pattern}") };
            assert!(reason.contains(why), "{pattern}: {reason}");
        }
    }

    #[test]
    fn a_pattern_costs_by_its_compiled_size_and_not_by_its_length() {
        assert!(times("abc", "^[a-z]+$", 2_000) >= 1_500, "small ones cost what they did");
        let large = times("abc", r"\w{1,60}", 2_000);
        assert!((50..400).contains(&large), "{large}");
        assert_eq!(times(&"x".repeat(2 * 1024 * 1024), r"\w{1,60}", 1), 0, "over a long text");
        assert_eq!(times(&"x".repeat(2 * 1024 * 1024), "^x+$", 1), 1, "a small one over the same");
    }
}

//! Makes texts from others: pieces taken out, put in twice, swapped with those of another text, and words that mean something where they fall.

use sagamq_broker::env::Random;

/// Longest text, in characters: long ones take long, and reach no more.
const CHARS_MAX: usize = 6_000;

/// Makes texts.
pub(super) struct Mutator {
    random: Random,
    fragments: &'static [&'static str],
}

impl Mutator {
    pub(super) fn new(random: Random, fragments: &'static [&'static str]) -> Self {
        Self { random, fragments }
    }

    fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound.max(1)).unwrap_or(u64::MAX);
        usize::try_from(self.random.next_u64() % bound).unwrap_or(0)
    }

    /// Another text, made from those of the pool.
    pub(super) fn next(&mut self, pool: &[String]) -> String {
        let mut text: Vec<char> = self.pick(pool).chars().collect();
        for _ in 0..=self.below(6) {
            self.change(&mut text, pool);
        }
        text.truncate(CHARS_MAX);
        text.into_iter().collect()
    }

    fn pick<'p>(&mut self, pool: &'p [String]) -> &'p str {
        let at = self.below(pool.len());
        pool.get(at).map_or("", String::as_str)
    }

    fn change(&mut self, text: &mut Vec<char>, pool: &[String]) {
        let at = self.below(text.len() + 1);
        let longest = if self.below(4) == 0 { 200 } else { 12 };
        let end = (at + self.below(longest)).min(text.len());
        match self.below(8) {
            0 => drop(text.drain(at..end)),
            1 => {
                let piece: Vec<char> = text[at..end].to_vec();
                let to = self.below(text.len() + 1);
                text.splice(to..to, piece);
            }
            2 => {
                let other: Vec<char> = self.pick(pool).chars().collect();
                let from = self.below(other.len() + 1);
                let until = (from + self.below(longest * 4)).min(other.len());
                text.splice(at..end, other[from..until].iter().copied());
            }
            3 => {
                // A line of another text, whole: most of what a definition says stands in one.
                let line = self.line(pool);
                let start = text[..at].iter().rposition(|&c| c == '\n').map_or(0, |before| before + 1);
                text.splice(start..start, line.chars().chain(['\n']));
            }
            4 => {
                let repeated = 1 + self.below(40);
                let fragment = self.fragment().repeat(repeated);
                text.splice(at..at, fragment.chars());
            }
            5 => {
                let code = u32::try_from(self.random.next_u64() % 0x11_0000).unwrap_or(0);
                text.splice(at..end.min(at + 1), char::from_u32(code));
            }
            _ => {
                let fragment = self.fragment();
                text.splice(at..end, fragment.chars());
            }
        }
    }

    fn fragment(&mut self) -> &'static str {
        let at = self.below(self.fragments.len());
        self.fragments.get(at).copied().unwrap_or_default()
    }

    fn line(&mut self, pool: &[String]) -> String {
        let text = self.pick(pool);
        let lines = text.lines().count();
        let at = self.below(lines);
        text.lines().nth(at).unwrap_or_default().to_owned()
    }
}

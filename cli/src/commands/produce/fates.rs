//! What became of each line, as ranges: after a refusal somebody has to know which lines to send again.

use std::fmt;
use std::ops::RangeInclusive;

/// What became of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is on the server's disk.
    Stored,
    /// It is not.
    NotStored,
    /// Nobody knows.
    Unknown,
}

/// The fates of lines, in order. Small however many there are, as long as they come in ranges.
#[derive(Debug, Default)]
pub(super) struct Fates(Vec<(RangeInclusive<u64>, Fate)>);

impl Fates {
    /// Adds the next line.
    pub(super) fn add(&mut self, line: u64, fate: Fate) {
        match self.0.last_mut() {
            Some((lines, last)) if *last == fate && lines.end() + 1 == line => *lines = *lines.start()..=line,
            _ => self.0.push((line..=line, fate)),
        }
    }

    /// The last line whose fate is known to be told.
    fn last(&self) -> u64 {
        self.0.last().map_or(0, |(lines, _)| *lines.end())
    }

    /// The lines that were not stored, or may not have been, and what stands behind them: what to send again, in the words of `sed`.
    pub(super) fn to_send_again(&self) -> String {
        let open = self.0.iter().filter(|(_, fate)| *fate != Fate::Stored);
        let ranges = open.map(|(lines, _)| format!("{}p;", list(lines, ","))).collect::<String>();
        format!("{ranges}{},$p", self.last() + 1)
    }
}

impl fmt::Display for Fates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (fate, words) in [(Fate::Stored, "stored"), (Fate::NotStored, "not stored"), (Fate::Unknown, "not known")] {
            let ranges: Vec<_> = self.0.iter().filter(|(_, found)| *found == fate).map(|(lines, _)| list(lines, "-")).collect();
            if !ranges.is_empty() {
                write!(f, "{words}: {}; ", ranges.join(", "))?;
            }
        }
        write!(f, "not sent: from {} on", self.last() + 1)
    }
}

fn list(lines: &RangeInclusive<u64>, between: &str) -> String {
    if lines.start() == lines.end() { lines.start().to_string() } else { format!("{}{between}{}", lines.start(), lines.end()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_told_in_ranges_and_can_be_sent_again() {
        let mut fates = Fates::default();
        for (line, fate) in
            (1..).zip([Fate::Stored, Fate::Stored, Fate::NotStored, Fate::Stored, Fate::NotStored, Fate::NotStored, Fate::Unknown])
        {
            fates.add(line, fate);
        }
        assert_eq!(fates.to_string(), "stored: 1-2, 4; not stored: 3, 5-6; not known: 7; not sent: from 8 on");
        assert_eq!(fates.to_send_again(), "3p;5,6p;7p;8,$p");
        assert_eq!(Fates::default().to_string(), "not sent: from 1 on");
    }
}

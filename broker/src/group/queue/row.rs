//! The rows in which a queue group keeps its state in a partition.

/// A row of a queue group in a partition: the last part of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum QueueRow {
    /// The whole state.
    Whole,
    /// The dead letters that are done with.
    EndedLetters,
    /// A change behind the whole state, in this place from 0 to [`QueueRow::PLACES`].
    Change(u8),
    /// How many records retention took before they were settled.
    Trimmed,
    /// The records that were edited when they were redriven.
    Edited,
}

impl QueueRow {
    /// Places for changes: what a load has to read at the most, and how often at least the whole state is written.
    pub(crate) const PLACES: u8 = 128;

    const FIRST_CHANGE: u8 = 2;

    const TRIMMED: u8 = Self::FIRST_CHANGE + Self::PLACES;

    const EDITED: u8 = Self::TRIMMED + 1;

    /// The number in the key.
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Whole => 0,
            Self::EndedLetters => 1,
            Self::Change(place) => {
                assert!(place < Self::PLACES, "change {place} has no place");
                Self::FIRST_CHANGE + place
            }
            Self::Trimmed => Self::TRIMMED,
            Self::Edited => Self::EDITED,
        }
    }

    /// The row of a number in a key.
    pub(crate) fn of(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Whole),
            1 => Some(Self::EndedLetters),
            Self::TRIMMED => Some(Self::Trimmed),
            Self::EDITED => Some(Self::Edited),
            change => Some(change - Self::FIRST_CHANGE).filter(|&place| place < Self::PLACES).map(Self::Change),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_a_number_of_its_own() {
        let rows: Vec<QueueRow> = (0..=u8::MAX).map_while(QueueRow::of).collect();
        assert_eq!(rows.len(), 4 + usize::from(QueueRow::PLACES));
        assert!(rows.iter().zip(0..).all(|(row, number)| row.number() == number));
    }
}

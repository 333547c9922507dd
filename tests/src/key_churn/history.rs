//! What the members of a group with `ordering: key` saw, and whether it can be.

use std::collections::BTreeMap;

/// Something that a handler saw or did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// A record is being handled.
    Begun {
        /// Its key.
        key: u64,
        /// Its number among those of the key, from 1.
        number: u64,
    },
    /// It was given back, or its handler died.
    Failed {
        /// Its key.
        key: u64,
        /// Its number.
        number: u64,
    },
    /// Its effect happened.
    Done {
        /// Its key.
        key: u64,
        /// Its number.
        number: u64,
    },
}

/// Whether each key's records were handled one after the other: none begun while another is handled, none before the one before it was done.
/// A record may be done again, because its acknowledgement can be lost, but only before the next one is begun.
///
/// # Errors
/// With the first thing that cannot be.
pub fn check(history: &[Seen]) -> Result<(), String> {
    let mut handled = BTreeMap::<u64, u64>::new();
    let mut done = BTreeMap::<u64, u64>::new();
    for seen in history {
        match *seen {
            Seen::Begun { key, number } => {
                if let Some(other) = handled.insert(key, number) {
                    return Err(format!("key {key}: {number} was begun while {other} was handled"));
                }
                let before = done.get(&key).copied().unwrap_or(0);
                if ![before, before + 1].contains(&number) {
                    return Err(format!("key {key}: {number} was begun after {before} was done"));
                }
            }
            Seen::Failed { key, .. } => {
                handled.remove(&key);
            }
            Seen::Done { key, number } => {
                handled.remove(&key);
                done.insert(key, number);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checker_finds_what_is_out_of_order() {
        let (begun, done) = (|number| Seen::Begun { key: 1, number }, |number| Seen::Done { key: 1, number });
        let failed = Seen::Failed { key: 1, number: 1 };
        assert_eq!(check(&[begun(1), failed, begun(1), done(1), begun(1), done(1), begun(2)]), Ok(()));
        for wrong in [
            &[begun(2)][..],                                   // before the first
            &[begun(1), failed, begun(2)],                     // past one that waits for its retry
            &[begun(1), begun(1)],                             // twice at a time
            &[begun(1), done(1), begun(2), begun(3)],          // two of a key
            &[begun(1), done(1), begun(2), done(2), begun(1)], // back again
        ] {
            assert!(check(wrong).is_err(), "{wrong:?}");
        }
    }
}

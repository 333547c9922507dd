//! A participant as the guides ask for one: idempotent under the key of a call, and behind the barrier.
//!
//! What it has on disk of a step, and what it says: an action is done once and answered alike ever after; a compensation of what was never
//! done succeeds and keeps the action from being done later; a refusal is for good.

use super::call::Side;

/// What a participant has on disk of one step, and how it is given to answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Book {
    /// The action took effect.
    pub(super) ran: bool,
    /// The effect is undone.
    pub(super) undone: bool,
    /// The action must not be done any more.
    pub(super) barred: bool,
    /// The action was refused.
    pub(super) refused: bool,
    /// How actions are answered.
    pub(super) action: Habit,
    /// How compensations are answered.
    pub(super) undo: Habit,
}

/// How a participant answers the calls of one key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Habit {
    /// As it should.
    #[default]
    Answers,
    /// It refuses each of them.
    Refuses,
    /// No answer to any of them comes back.
    Silent,
}

impl Book {
    /// Whether the effect is there.
    pub(super) const fn stands(self) -> bool {
        self.ran && !self.undone
    }

    pub(super) const fn habit(self, side: Side) -> Habit {
        match side {
            Side::Action => self.action,
            Side::Undo => self.undo,
        }
    }

    pub(super) const fn set_habit(&mut self, side: Side, habit: Habit) {
        match side {
            Side::Action => self.action = habit,
            Side::Undo => self.undo = habit,
        }
    }

    /// Serves a call. Gives whether the answer is success; else it is a refusal.
    pub(super) const fn serve(&mut self, side: Side) -> bool {
        match side {
            Side::Action if self.barred => false,
            Side::Action => {
                self.ran |= !self.refused;
                self.ran
            }
            Side::Undo => {
                self.barred = true;
                self.undone = self.ran;
                true
            }
        }
    }

    /// What it would answer to a call that it has answered before; `None` if it has not.
    pub(super) const fn answer(self, side: Side) -> Option<bool> {
        match side {
            Side::Action if self.ran => Some(true),
            Side::Action if self.refused => Some(false),
            Side::Undo if self.barred => Some(true),
            Side::Action | Side::Undo => None,
        }
    }

    /// What tells it from others.
    pub(super) const fn bits(self) -> [u8; 2] {
        let flags = self.ran as u8 | (self.undone as u8) << 1 | (self.barred as u8) << 2 | (self.refused as u8) << 3;
        [flags, self.action as u8 | (self.undo as u8) << 2]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_done_is_done_once_and_what_is_undone_is_not_done_later() {
        let mut book = Book::default();
        assert!(book.serve(Side::Action) && book.serve(Side::Action) && book.stands());
        assert!(book.serve(Side::Undo) && !book.stands());
        assert!(!book.serve(Side::Action), "a call that hung comes too late");
        let mut empty = Book::default();
        assert!(empty.serve(Side::Undo) && !empty.undone, "there was nothing to undo");
        assert!(!empty.serve(Side::Action) && !empty.ran);
    }

    #[test]
    fn a_refusal_is_for_good() {
        let mut book = Book { refused: true, ..Book::default() };
        assert!(!book.serve(Side::Action) && !book.ran);
        assert_eq!(book.answer(Side::Action), Some(false));
    }
}

//! What the audit log is told: who acts ([`Act`]), and what of it is to be written down ([`Note`]) in the commit of the change itself.

mod act;
mod note;

pub use act::Act;
pub use note::Note;

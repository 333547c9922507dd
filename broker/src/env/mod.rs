//! Time and randomness come in through here and nowhere else, so that a test owns both and a seed replays a failure.

mod clock;
mod random;

pub use clock::{Clock, ManualClock, SystemClock};
pub use random::Random;

//! Time and randomness come in through here and nowhere else, so that a test owns both and a seed replays a failure.

mod clock;
mod random;
mod steady;

pub use clock::{Clock, ManualClock, SteadyClock, SystemClock};
pub use random::Random;
pub use steady::SteadyTime;

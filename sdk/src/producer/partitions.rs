//! How many partitions the topic has: a producer that sends binary batches chooses them itself, and says by which number.

/// The number, as it was last heard. The server refuses a batch that was made for another one, so it is believed until then.
#[derive(Debug, Default)]
pub(super) struct Partitions(Option<u32>);

impl Partitions {
    /// The number, if it is known.
    pub(super) fn count(&self) -> Option<u32> {
        self.0
    }

    /// The server has said it; `None`: it has said that it is another one.
    pub(super) fn heard(&mut self, count: Option<u32>) {
        self.0 = count;
    }
}

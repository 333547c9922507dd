//! The rows of messages, as bytes.

use bytes::Bytes;

/// Where a shard's messages to one other shard stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outgoing {
    /// Number of the last one; 0 before the first.
    pub(super) sent: u64,
    /// Those up to this number were taken and are gone.
    pub(super) gone: u64,
}

impl Outgoing {
    pub(super) fn encode(self) -> Vec<u8> {
        [self.sent.to_be_bytes(), self.gone.to_be_bytes()].concat()
    }

    /// `None`: that is no such row.
    pub(super) fn decode(row: &[u8]) -> Option<Self> {
        let (sent, gone) = row.split_first_chunk()?;
        let (sent, gone) = (u64::from_be_bytes(*sent), u64::from_be_bytes(gone.try_into().ok()?));
        (gone <= sent).then_some(Self { sent, gone })
    }
}

pub(super) fn encode_message(sent_at_ms: u64, body: &[u8]) -> Bytes {
    [&sent_at_ms.to_be_bytes(), body].concat().into()
}

/// When it was sent, and what it says. `None`: that is no message.
pub(super) fn decode_message(row: &[u8]) -> Option<(u64, Bytes)> {
    let (sent_at_ms, body) = row.split_first_chunk()?;
    Some((u64::from_be_bytes(*sent_at_ms), Bytes::copy_from_slice(body)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_have_their_golden_bytes_and_others_are_refused() {
        let row = Outgoing { sent: 258, gone: 1 };
        assert_eq!(row.encode(), b"\0\0\0\0\0\0\x01\x02\0\0\0\0\0\0\0\x01");
        assert_eq!(Outgoing::decode(&row.encode()), Some(row));
        assert_eq!(Outgoing::decode(&row.encode()[1..]), None);
        assert_eq!(Outgoing::decode(&Outgoing { sent: 1, gone: 2 }.encode()), None, "nothing goes that was not sent");
        let message = encode_message(259, b"hi");
        assert_eq!(&message[..], b"\0\0\0\0\0\0\x01\x03hi");
        assert_eq!(decode_message(&message), Some((259, Bytes::from_static(b"hi"))));
        assert_eq!(decode_message(&message[..7]), None);
    }
}

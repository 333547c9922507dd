//! Receipts: the right to settle one delivery, in the hands of a consumer that the broker does not have to remember.
//!
//! | bytes | field |
//! |---|---|
//! | 0 | version: 1 for whoever has it, 2 for its holder |
//! | 1..5 | topic id, u32 big-endian |
//! | 5..9 | partition, u32 |
//! | 9..13 | group id, u32 |
//! | 13..21 | offset, u64 |
//! | 21..29 | lease id, u64 |
//! | 29..38 | of version 2: the holder |
//! | the last 16 | first 16 bytes of the keyed BLAKE3 hash of the bytes before |
//!
//! On the wire: URL-safe base64 without padding, 60 or 72 characters. Its 45 or 54 bytes fill them to the last bit, so no two texts
//! stand for one receipt. The key is the data directory's secret, so a receipt is valid on every node that serves its data and
//! nobody else can make one.

use super::holder::{HOLDER_BYTES, Holder};
use crate::ids::{GroupId, TopicId};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sagamq_api::{ErrorCode, Offset, PartitionId};

/// For whoever has it: nobody was asked who he is.
const BEARERS: u8 = 1;
/// For its holder.
const HOLDERS: u8 = 2;

const LEASE_BYTES: usize = 29;
const MAC_BYTES: usize = 16;
const BEARERS_BYTES: usize = LEASE_BYTES + MAC_BYTES;
const HOLDERS_BYTES: usize = LEASE_BYTES + HOLDER_BYTES + MAC_BYTES;

const _: () = assert!(BEARERS_BYTES.is_multiple_of(3) && HOLDERS_BYTES.is_multiple_of(3), "base64 of a receipt has no unused bits");

/// One delivery of one record to one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Receipt {
    /// The topic.
    pub topic: TopicId,
    /// The partition.
    pub partition: PartitionId,
    /// The group.
    pub group: GroupId,
    /// The record.
    pub offset: Offset,
    /// The lease; later deliveries of the record have others.
    pub lease_id: u64,
    /// Who may settle with it; whoever has it, where nobody was asked who he is.
    pub holder: Option<Holder>,
}

/// Why a text is no receipt that counts here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    /// It has not the form of a receipt.
    #[error("the receipt is not one that this broker issues: pass it back exactly as it was received")]
    Malformed,
    /// It has the form, but its signature does not match.
    #[error("the receipt's signature does not match: it was changed, or issued by a broker with other data")]
    Forged,
    /// It is one, and was given to somebody else.
    #[error("the receipt was given to another key or subject, and counts for that one only: receive the record yourself")]
    OfAnother,
}

impl ReceiptError {
    /// What clients are told.
    #[must_use]
    pub const fn code(self) -> ErrorCode {
        match self {
            Self::Malformed | Self::Forged => ErrorCode::InvalidReceipt,
            Self::OfAnother => ErrorCode::ReceiptOfAnother,
        }
    }
}

impl Receipt {
    /// The text that a consumer gets.
    #[must_use]
    pub fn sign(&self, secret: &[u8; 32]) -> String {
        let mut bytes = [0; HOLDERS_BYTES];
        let length = self.write(&mut bytes);
        let mac = blake3::keyed_hash(secret, &bytes[..length]);
        bytes[length..length + MAC_BYTES].copy_from_slice(&mac.as_bytes()[..MAC_BYTES]);
        URL_SAFE_NO_PAD.encode(&bytes[..length + MAC_BYTES])
    }

    /// The receipt in a text. Takes the same time wherever a wrong signature differs.
    ///
    /// # Errors
    /// When the text was not made by [`Receipt::sign`] with the same secret. Whether its lease is over is not known here, and who asks neither.
    pub fn verify(text: &str, secret: &[u8; 32]) -> Result<Self, ReceiptError> {
        let mut bytes = [0; HOLDERS_BYTES];
        let length = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).map_err(|_| ReceiptError::Malformed)?;
        if !matches!((bytes[0], length), (BEARERS, BEARERS_BYTES) | (HOLDERS, HOLDERS_BYTES)) {
            return Err(ReceiptError::Malformed);
        }
        let (body, mac) = bytes[..length].split_at(length - MAC_BYTES);
        let expected = blake3::keyed_hash(secret, body);
        // Comparing `blake3::Hash` takes constant time; the bytes that a receipt does not carry are filled from the expected one.
        let mut presented = *expected.as_bytes();
        presented[..MAC_BYTES].copy_from_slice(mac);
        if blake3::Hash::from_bytes(presented) != expected {
            return Err(ReceiptError::Forged);
        }
        Ok(Self {
            topic: TopicId(u32_at(body, 1)),
            partition: PartitionId(u32_at(body, 5)),
            group: GroupId(u32_at(body, 9)),
            offset: Offset(u64_at(body, 13)),
            lease_id: u64_at(body, 21),
            holder: body[LEASE_BYTES..].first_chunk().copied().map(Holder),
        })
    }

    /// Writes what is signed. How long it is.
    fn write(&self, bytes: &mut [u8; HOLDERS_BYTES]) -> usize {
        bytes[0] = if self.holder.is_some() { HOLDERS } else { BEARERS };
        bytes[1..5].copy_from_slice(&self.topic.0.to_be_bytes());
        bytes[5..9].copy_from_slice(&self.partition.0.to_be_bytes());
        bytes[9..13].copy_from_slice(&self.group.0.to_be_bytes());
        bytes[13..21].copy_from_slice(&self.offset.0.to_be_bytes());
        bytes[21..LEASE_BYTES].copy_from_slice(&self.lease_id.to_be_bytes());
        let Some(Holder(holder)) = &self.holder else { return LEASE_BYTES };
        bytes[LEASE_BYTES..LEASE_BYTES + HOLDER_BYTES].copy_from_slice(holder);
        LEASE_BYTES + HOLDER_BYTES
    }
}

fn u32_at(body: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(body[at..at + 4].try_into().expect("four bytes were taken"))
}

fn u64_at(body: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(body[at..at + 8].try_into().expect("eight bytes were taken"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECRET: [u8; 32] = [7; 32];

    fn receipts() -> [Receipt; 2] {
        let of =
            |holder| Receipt { topic: TopicId(1), partition: PartitionId(2), group: GroupId(3), offset: Offset(4), lease_id: 5, holder };
        [of(None), of(Some(Holder::of("key:a", &SECRET)))]
    }

    #[test]
    fn any_changed_character_is_refused() {
        let lengths = receipts().map(|receipt| receipt.sign(&SECRET).len());
        assert_eq!(lengths, [60, 72]);
        let alphabet = ('\0'..='\x7f').collect::<Vec<_>>();
        for signed in receipts().map(|receipt| receipt.sign(&SECRET)) {
            for at in 0..signed.len() {
                for &other in &alphabet {
                    let mut changed = signed.clone();
                    changed.replace_range(at..=at, &other.to_string());
                    assert_eq!(Receipt::verify(&changed, &SECRET).is_ok(), changed == signed, "{changed:?}");
                }
            }
        }
    }

    #[test]
    fn shorter_longer_and_foreign_ones_are_refused() {
        for signed in receipts().map(|receipt| receipt.sign(&SECRET)) {
            for length in 0..signed.len() {
                assert_eq!(Receipt::verify(&signed[..length], &SECRET), Err(ReceiptError::Malformed));
            }
            assert_eq!(Receipt::verify(&format!("{signed}A"), &SECRET), Err(ReceiptError::Malformed));
            assert_eq!(Receipt::verify(&format!("{signed}{signed}"), &SECRET), Err(ReceiptError::Malformed));
            assert_eq!(Receipt::verify(&signed, &[8; 32]), Err(ReceiptError::Forged));
        }
        assert_eq!(Receipt::verify("täglich", &SECRET), Err(ReceiptError::Malformed));
    }

    #[test]
    fn without_its_holder_it_is_forged() {
        let [_, held] = receipts();
        let bytes = URL_SAFE_NO_PAD.decode(held.sign(&SECRET)).expect("base64");
        let (lease, mac) = (&bytes[..LEASE_BYTES], &bytes[bytes.len() - MAC_BYTES..]);
        let mut stripped = [lease, mac].concat();
        stripped[0] = BEARERS;
        assert_eq!(Receipt::verify(&URL_SAFE_NO_PAD.encode(stripped), &SECRET), Err(ReceiptError::Forged));
    }

    proptest! {
        #[test]
        fn what_was_signed_is_read(
            topic: u32, partition: u32, group: u32, offset: u64, lease_id: u64, holder: Option<[u8; HOLDER_BYTES]>, secret: [u8; 32],
        ) {
            let receipt = Receipt {
                topic: TopicId(topic),
                partition: PartitionId(partition),
                group: GroupId(group),
                offset: Offset(offset),
                lease_id,
                holder: holder.map(Holder),
            };
            prop_assert_eq!(Receipt::verify(&receipt.sign(&secret), &secret), Ok(receipt));
        }
    }
}

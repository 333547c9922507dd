//! Receipts: the right to settle one delivery, in the hands of a consumer that the broker does not have to remember.
//!
//! | bytes | field |
//! |---|---|
//! | 0 | version, 1 |
//! | 1..5 | topic id, u32 big-endian |
//! | 5..9 | partition, u32 |
//! | 9..13 | group id, u32 |
//! | 13..21 | offset, u64 |
//! | 21..29 | lease id, u64 |
//! | 29..45 | first 16 bytes of the keyed BLAKE3 hash of the bytes before |
//!
//! On the wire: URL-safe base64 without padding, always 60 characters. 45 bytes fill them to the last bit, so no two texts
//! stand for one receipt. The key is the data directory's secret, so a receipt is valid on every node that serves its data and
//! nobody else can make one.

use crate::ids::{GroupId, TopicId};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sagamq_api::{Offset, PartitionId};

const VERSION: u8 = 1;
const BODY_BYTES: usize = 29;
const MAC_BYTES: usize = 16;
const RECEIPT_BYTES: usize = BODY_BYTES + MAC_BYTES;

const _: () = assert!(RECEIPT_BYTES.is_multiple_of(3), "base64 of a receipt has no unused bits");

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
}

/// Why a text is no receipt of this broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    /// It has not the form of a receipt.
    #[error("the receipt is not one that this broker issues: pass it back exactly as it was received")]
    Malformed,
    /// It has the form, but its signature does not match.
    #[error("the receipt's signature does not match: it was changed, or issued by a broker with other data")]
    Forged,
}

impl Receipt {
    /// The text that a consumer gets.
    #[must_use]
    pub fn sign(&self, secret: &[u8; 32]) -> String {
        let body = self.body();
        let mut bytes = [0; RECEIPT_BYTES];
        bytes[..BODY_BYTES].copy_from_slice(&body);
        bytes[BODY_BYTES..].copy_from_slice(&blake3::keyed_hash(secret, &body).as_bytes()[..MAC_BYTES]);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The receipt in a text. Takes the same time wherever a wrong signature differs.
    ///
    /// # Errors
    /// When the text was not made by [`Receipt::sign`] with the same secret. Whether its lease is over is not known here.
    pub fn verify(text: &str, secret: &[u8; 32]) -> Result<Self, ReceiptError> {
        let mut bytes = [0; RECEIPT_BYTES];
        let length = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).map_err(|_| ReceiptError::Malformed)?;
        let (body, mac) = bytes.split_at(BODY_BYTES);
        if length != RECEIPT_BYTES || body[0] != VERSION {
            return Err(ReceiptError::Malformed);
        }
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
        })
    }

    fn body(&self) -> [u8; BODY_BYTES] {
        let mut body = [0; BODY_BYTES];
        body[0] = VERSION;
        body[1..5].copy_from_slice(&self.topic.0.to_be_bytes());
        body[5..9].copy_from_slice(&self.partition.0.to_be_bytes());
        body[9..13].copy_from_slice(&self.group.0.to_be_bytes());
        body[13..21].copy_from_slice(&self.offset.0.to_be_bytes());
        body[21..29].copy_from_slice(&self.lease_id.to_be_bytes());
        body
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

    fn receipt() -> Receipt {
        Receipt { topic: TopicId(1), partition: PartitionId(2), group: GroupId(3), offset: Offset(4), lease_id: 5 }
    }

    #[test]
    fn any_changed_character_is_refused() {
        let signed = receipt().sign(&SECRET);
        assert_eq!(signed.len(), 60);
        let alphabet = ('\0'..='\x7f').collect::<Vec<_>>();
        for at in 0..signed.len() {
            for &other in &alphabet {
                let mut changed = signed.clone();
                changed.replace_range(at..=at, &other.to_string());
                assert_eq!(Receipt::verify(&changed, &SECRET).is_ok(), changed == signed, "{changed:?}");
            }
        }
    }

    #[test]
    fn shorter_longer_and_foreign_ones_are_refused() {
        let signed = receipt().sign(&SECRET);
        for length in 0..signed.len() {
            assert_eq!(Receipt::verify(&signed[..length], &SECRET), Err(ReceiptError::Malformed));
        }
        assert_eq!(Receipt::verify(&format!("{signed}A"), &SECRET), Err(ReceiptError::Malformed));
        assert_eq!(Receipt::verify(&format!("{signed}{signed}"), &SECRET), Err(ReceiptError::Malformed));
        assert_eq!(Receipt::verify("täglich", &SECRET), Err(ReceiptError::Malformed));
        assert_eq!(Receipt::verify(&signed, &[8; 32]), Err(ReceiptError::Forged));
    }

    proptest! {
        #[test]
        fn what_was_signed_is_read(topic: u32, partition: u32, group: u32, offset: u64, lease_id: u64, secret: [u8; 32]) {
            let receipt = Receipt {
                topic: TopicId(topic),
                partition: PartitionId(partition),
                group: GroupId(group),
                offset: Offset(offset),
                lease_id,
            };
            prop_assert_eq!(Receipt::verify(&receipt.sign(&secret), &secret), Ok(receipt));
        }
    }
}

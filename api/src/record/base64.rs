//! The base64 of keys and values, by the processor's vector instructions where it has them.

use base64::engine::GeneralPurposeConfig;
use base64::{DecodeSliceError, Engine as _};
use bytes::{Bytes, BytesMut};
use std::sync::LazyLock;

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
type Standard = base64::engine::Simd;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
type Standard = base64::engine::GeneralPurpose;

/// The alphabet of RFC 4648 with padding, which is asked for when it is read.
static STANDARD: LazyLock<Standard> = LazyLock::new(|| {
    let config = GeneralPurposeConfig::new();
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    return Standard::standard(config);
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    return Standard::new(&base64::alphabet::STANDARD, config);
});

/// Memory that the texts of one request share once they are decoded.
const SHARED_BYTES: usize = 32 * 1024;

/// Where the texts of one request are decoded, one behind the other: they go together, so memory is taken once for many of them.
#[derive(Debug, Default)]
pub struct Decoded {
    room: BytesMut,
    /// Bytes that are still to come, at most.
    expected: usize,
}

impl Decoded {
    /// For the texts in a body of so many bytes.
    #[must_use]
    pub fn of_body(bytes: usize) -> Self {
        Self { room: BytesMut::new(), expected: base64::decoded_len_estimate(bytes) }
    }

    /// The bytes that a text stands for. The reason says what is wrong with it.
    pub(super) fn decode(&mut self, text: &str) -> Result<Bytes, String> {
        let most = base64::decoded_len_estimate(text.len());
        if self.room.capacity() < most {
            // What is left of the memory before stays with the texts in it.
            self.room = BytesMut::with_capacity(most.max(self.expected.min(SHARED_BYTES)));
        }
        self.expected = self.expected.saturating_sub(most);
        self.room.resize(most, 0);
        let decoded = STANDARD.decode_slice(text, &mut self.room);
        let length = decoded.map_err(|reason| match reason {
            DecodeSliceError::DecodeError(reason) => reason.to_string(),
            DecodeSliceError::OutputSliceTooSmall => unreachable!("the estimate is never too small"),
        });
        self.room.truncate(length.as_ref().copied().unwrap_or(0));
        length.map(|_| self.room.split().freeze())
    }
}

/// Writes the text that stands for these bytes.
///
/// # Panics
/// When the text would be longer than memory.
pub(super) fn encode_into(out: &mut Vec<u8>, bytes: &[u8]) {
    let start = out.len();
    let length = base64::encoded_len(bytes.len(), true).expect("records are far below half of the memory");
    out.resize(start + length, 0);
    STANDARD.encode_slice(bytes, &mut out[start..]).expect("there is room for exactly this");
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn it_is_that_of_the_plain_engine(parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..400), 0..6)) {
            let mut decoded = Decoded::of_body(parts.iter().map(|part| 2 * part.len()).sum());
            for part in &parts {
                let mut text = b"before".to_vec();
                encode_into(&mut text, part);
                let text = String::from_utf8(text).expect("ASCII").split_off("before".len());
                prop_assert_eq!(&text, &general_purpose::STANDARD.encode(part));
                prop_assert_eq!(decoded.decode(&text).map(|bytes| bytes.to_vec()), Ok(part.clone()));
            }
        }

        #[test]
        fn what_is_no_base64_is_refused_as_by_the_plain_engine(text in "[A-Za-z0-9+/=]{0,200}[=!]{0,3}") {
            let plain = general_purpose::STANDARD.decode(&text).map_err(|reason| reason.to_string());
            let mut decoded = Decoded::default();
            prop_assert_eq!(decoded.decode(&text).map(|bytes| bytes.to_vec()), plain);
            prop_assert_eq!(decoded.decode("AAEC").map(|bytes| bytes.to_vec()), Ok(vec![0, 1, 2]), "and the next one is read");
        }
    }

    #[test]
    fn texts_share_memory_up_to_a_bound() {
        let mut decoded = Decoded::of_body(200_000);
        let text = general_purpose::STANDARD.encode([7; 1_000]);
        let parts: Vec<Bytes> = (0..100).map(|_| decoded.decode(&text).expect("base64")).collect();
        let is_behind = |pair: &&[Bytes]| pair[0].as_ptr_range().end == pair[1].as_ptr();
        let allocations = parts.len() - parts.windows(2).filter(is_behind).count();
        assert!((3..=5).contains(&allocations), "{allocations}");
    }
}

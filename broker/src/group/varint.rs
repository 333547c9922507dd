//! Numbers in few bytes: LEB128, each number in its shortest form.

use crate::group::decode_error::DecodeError;

pub(super) fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// What is left to read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Input<'a>(pub(super) &'a [u8]);

impl Input<'_> {
    pub(super) fn byte(&mut self) -> Result<u8, DecodeError> {
        let (&first, rest) = self.0.split_first().ok_or(DecodeError::Truncated)?;
        self.0 = rest;
        Ok(first)
    }

    /// Eight bytes, big-endian: for numbers that are mostly large.
    pub(super) fn fixed(&mut self) -> Result<u64, DecodeError> {
        let (first, rest) = self.0.split_first_chunk().ok_or(DecodeError::Truncated)?;
        self.0 = rest;
        Ok(u64::from_be_bytes(*first))
    }

    pub(super) fn varint(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            let fits = shift < 63 || bits <= 1;
            let is_needless = byte == 0 && shift > 0;
            if !fits || is_needless {
                return Err(DecodeError::Number(field));
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(DecodeError::Number(field))
    }

    /// `base` and a varint: below `u64::MAX`, so that an offset always has a next one.
    pub(super) fn offset_after(&mut self, base: u64, field: &'static str) -> Result<u64, DecodeError> {
        base.checked_add(self.varint(field)?).filter(|&sum| sum < u64::MAX).ok_or(DecodeError::Number(field))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn varints_round_trip(value: u64) {
            let mut bytes = Vec::new();
            put(&mut bytes, value);
            let mut input = Input(&bytes);
            prop_assert_eq!(input.varint("it"), Ok(value));
            prop_assert!(input.0.is_empty());
        }
    }
}

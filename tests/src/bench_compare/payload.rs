//! Bodies of produce requests with values that nothing can compress.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

/// Random bytes, the same in every run (xorshift64).
#[derive(Debug)]
pub(crate) struct Noise(u64);

impl Noise {
    pub(crate) fn new(seed: u64) -> Self {
        Self(0x9e37_79b9_7f4a_7c15 ^ seed.wrapping_mul(0xbf58_476d_1ce4_e5b9) | 1)
    }

    fn fill(&mut self, bytes: &mut Vec<u8>, length: usize) {
        while bytes.len() < length {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            bytes.extend_from_slice(&self.0.to_le_bytes());
        }
        bytes.truncate(length);
    }

    /// So many random bytes.
    pub(crate) fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length + 8);
        self.fill(&mut bytes, length);
        bytes
    }

    /// A value as text that stands for `length` random bytes.
    fn value(&mut self, length: usize) -> String {
        STANDARD.encode(self.bytes(length))
    }
}

/// Where the records of a request go.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    /// All into one partition.
    Partition(u32),
    /// Each by a key of its own, `key-0` and so on.
    Keys,
    /// Without a key.
    Anywhere,
}

/// A produce request of `count` records with values of `length` random bytes.
pub(crate) fn request(noise: &mut Noise, count: usize, length: usize, place: Place) -> Bytes {
    let mut body = String::from(r#"{"records":["#);
    for index in 0..count {
        if index > 0 {
            body.push(',');
        }
        body.push_str(r#"{"value_base64":""#);
        body.push_str(&noise.value(length));
        body.push('"');
        match place {
            Place::Partition(partition) => body.push_str(&format!(r#","partition":{partition}"#)),
            Place::Keys => body.push_str(&format!(r#","key":"key-{index}""#)),
            Place::Anywhere => {}
        }
        body.push('}');
    }
    body.push_str("]}");
    body.into()
}

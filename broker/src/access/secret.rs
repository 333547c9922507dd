//! [`Secret`]: what a client presents, `sq_` with the id of the key and 256 random bits.
//!
//! | characters | field |
//! |---|---|
//! | 0..3 | `sq_` |
//! | 3..19 | id of the key, u64 in hexadecimal digits |
//! | 19 | `_` |
//! | 20..84 | 32 random bytes in hexadecimal digits |
//!
//! The id is no secret: it finds the key, so that one hash is compared and not all of them.

use crate::env::Random;
use core::fmt;
use core::str::FromStr;
use serde::{Deserialize, Serialize};

/// Sets the hashes of secrets apart from all others. Never changed.
const CONTEXT: &str = "sagamq 2026-11 hash of the secret of an api key";

const BEGINS: &str = "sq_";
const ID_DIGITS: usize = 16;
const SECRET_BYTES: usize = 32;

/// The secret of a key. It does not show in logs.
#[derive(Clone)]
pub struct Secret {
    id: u64,
    random: [u8; SECRET_BYTES],
}

/// What is kept of a secret. It has 256 random bits, so nobody finds it by trying, however fast the hash is; slow hashes are for passwords,
/// which people choose.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SecretHash(blake3::Hash);

/// The text has not the form of a secret. It is not repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it has not the form of a key: `sq_`, 16 hexadecimal digits, `_`, 64 hexadecimal digits")]
pub struct MalformedSecret;

impl Secret {
    /// A new secret, with the id of a new key.
    #[must_use]
    pub fn new(random: &mut Random) -> Self {
        Self::of_key(random.next_u64(), random)
    }

    /// A new secret of this key.
    #[must_use]
    pub fn of_key(id: u64, random: &mut Random) -> Self {
        Self { id, random: random.bytes() }
    }

    /// The id of the key.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The text that a client presents.
    #[must_use]
    pub fn reveal(&self) -> String {
        let mut text = begins(self.id);
        text.push('_');
        text.extend(
            self.random.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|digit| char::from(b"0123456789abcdef"[usize::from(digit)])),
        );
        text
    }

    /// What is kept of it.
    #[must_use]
    pub fn hash(&self) -> SecretHash {
        let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
        hasher.update(&self.id.to_be_bytes());
        hasher.update(&self.random);
        SecretHash(hasher.finalize())
    }
}

/// What the secrets of a key begin with.
pub(crate) fn begins(id: u64) -> String {
    format!("{BEGINS}{id:016x}")
}

impl FromStr for Secret {
    type Err = MalformedSecret;

    fn from_str(text: &str) -> Result<Self, MalformedSecret> {
        let digits = text.strip_prefix(BEGINS).map(str::as_bytes).ok_or(MalformedSecret)?;
        let (id, digits) = digits.split_at_checked(ID_DIGITS).ok_or(MalformedSecret)?;
        let [b'_', digits @ ..] = digits else { return Err(MalformedSecret) };
        if digits.len() != 2 * SECRET_BYTES {
            return Err(MalformedSecret);
        }
        let id = id.iter().try_fold(0, |id, digit| Ok(id << 4 | u64::from(value(*digit)?)))?;
        let mut random = [0; SECRET_BYTES];
        for (byte, pair) in random.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = value(pair[0])? << 4 | value(pair[1])?;
        }
        Ok(Self { id, random })
    }
}

/// Of a digit as [`Secret::reveal`] writes it: each secret has one text.
fn value(digit: u8) -> Result<u8, MalformedSecret> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        _ => Err(MalformedSecret),
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({}…)", begins(self.id))
    }
}

impl PartialEq for SecretHash {
    /// In a time that does not tell how much of it is equal, as BLAKE3's own comparison promises.
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for SecretHash {}

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHash(…)")
    }
}

impl TryFrom<String> for SecretHash {
    type Error = blake3::HexError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        blake3::Hash::from_hex(text).map(Self)
    }
}

impl From<SecretHash> for String {
    fn from(hash: SecretHash) -> Self {
        hash.0.to_hex().as_str().to_owned()
    }
}

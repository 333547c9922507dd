//! [`Holder`]: to whom receipts are made out.

/// Sets what stands for a holder apart from the signatures under the same key, which begin with a version. Never changed.
const CONTEXT: &[u8] = b"holder of receipts: ";

/// Bytes that stand for a holder.
pub(super) const HOLDER_BYTES: usize = 9;

/// To whom receipts are made out, as they have it: nobody reads the name of a key in them, and nobody finds another name that fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Holder(pub(super) [u8; HOLDER_BYTES]);

impl Holder {
    /// Whoever is called so: `key:NAME` or `token:SUBJECT`. Another secret of the same key, or another token of the same subject, is the same
    /// holder.
    #[must_use]
    pub fn of(principal: &str, secret: &[u8; 32]) -> Self {
        let mut hasher = blake3::Hasher::new_keyed(secret);
        hasher.update(CONTEXT).update(principal.as_bytes());
        Self(*hasher.finalize().as_bytes().first_chunk().expect("a hash is longer"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_is_its_name_and_the_secret() {
        let of = |name| Holder::of(name, &[7; 32]);
        assert_eq!(of("key:a"), of("key:a"));
        assert_ne!(of("key:a"), of("token:a"));
        assert_ne!(of("key:a"), Holder::of("key:a", &[8; 32]));
    }
}

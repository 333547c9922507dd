//! When certificates run out.

use x509_parser::parse_x509_certificate;
use x509_parser::pem::Pem;

/// When the first of these certificates runs out, each in DER, in seconds since 1970; `None`: there is none, or one that cannot be read.
#[must_use]
pub fn first_expiry_s<'a>(certificates: impl IntoIterator<Item = &'a [u8]>) -> Option<i64> {
    let ends = certificates.into_iter().map(|der| Some(parse_x509_certificate(der).ok()?.1.validity().not_after.timestamp()));
    ends.collect::<Option<Vec<_>>>()?.into_iter().min()
}

/// The same of all certificates in a text of PEM. What else is in it, as a key, is passed over.
pub(crate) fn first_expiry_in_pem_s(text: &[u8]) -> Option<i64> {
    let blocks: Vec<Pem> = Pem::iter_from_buffer(text).filter_map(Result::ok).filter(|block| block.label == "CERTIFICATE").collect();
    first_expiry_s(blocks.iter().map(|block| &block.contents[..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Until 2030-01-02 03:04:05 and until 2060-01-02 03:04:05, which the format writes in two ways.
    const CHAIN: &str = include_str!("testdata/chain.pem");

    #[test]
    fn the_first_of_a_chain_counts_and_what_is_none_says_nothing() {
        assert_eq!(first_expiry_in_pem_s(CHAIN.as_bytes()), Some(1_893_553_445));
        let second = CHAIN.split_inclusive("-----END CERTIFICATE-----\n").nth(1).expect("two");
        assert_eq!(first_expiry_in_pem_s(second.as_bytes()), Some(2_840_238_245));
        for none in ["", "none", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            assert_eq!(first_expiry_in_pem_s(none.as_bytes()), None, "{none}");
        }
    }
}

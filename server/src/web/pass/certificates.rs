//! [`Mistrust`]: that one of two nodes does not take the certificate of the other, as the library for TLS says it.

use core::error::Error;
use std::io;
use tokio_rustls::rustls::{self, AlertDescription};

/// Which of the two does not take the other's. The text is what the library says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Mistrust {
    /// This node that of the active one.
    Here(String),
    /// The active one that of this node, or it misses one. Then it has done nothing: it says so before it reads a request.
    There(String),
}

impl Mistrust {
    /// Whether that is why an attempt failed.
    pub(super) fn of(error: &(dyn Error + 'static)) -> Option<Self> {
        let found = of_tls(error)?;
        match found {
            rustls::Error::InvalidCertificate(_) => Some(Self::Here(found.to_string())),
            rustls::Error::AlertReceived(alert) if is_of_certificates(*alert) => Some(Self::There(found.to_string())),
            _ => None,
        }
    }
}

/// What the library for TLS says, among all the causes.
fn of_tls<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e rustls::Error> {
    let mut cause = Some(error);
    while let Some(inner) = cause {
        if let Some(found) = inner.downcast_ref() {
            return Some(found);
        }
        // What stands in an I/O error is not its source.
        let within = inner.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        cause = within.map_or_else(|| inner.source(), |within| Some(within));
    }
    None
}

fn is_of_certificates(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::NoCertificate
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::CertificateRequired
            // The signature under a certificate or by its key is wrong: an authority of another key has the same name, for example.
            | AlertDescription::DecryptError
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::CertificateError;

    #[test]
    fn who_does_not_take_whose_certificate_is_found_within_other_errors() {
        let wrapped = |error: rustls::Error| io::Error::other(io::Error::other(error));
        let here = Mistrust::of(&wrapped(CertificateError::UnknownIssuer.into()));
        assert!(matches!(&here, Some(Mistrust::Here(why)) if why.contains("UnknownIssuer")), "{here:?}");
        for alert in [AlertDescription::CertificateRequired, AlertDescription::UnknownCA, AlertDescription::DecryptError] {
            let there = Mistrust::of(&wrapped(rustls::Error::AlertReceived(alert)));
            assert!(matches!(&there, Some(Mistrust::There(_))), "{there:?}");
        }
        for other in [rustls::Error::AlertReceived(AlertDescription::InternalError), rustls::Error::DecryptError] {
            assert_eq!(Mistrust::of(&wrapped(other)), None);
        }
        assert_eq!(Mistrust::of(&io::Error::from(io::ErrorKind::ConnectionReset)), None);
    }
}

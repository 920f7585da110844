//! Tells a server that TLS refuses, or that refuses us, from a connection that broke.

use std::io;

use rustls::{AlertDescription, Error};

use super::{OptionNames, trouble};

/// What TLS refused, in words, if that is why a stream failed: the same would happen the next time. What breaks a
/// connection during a handshake is none of that. Options have Celery's names.
pub fn refusal(error: &io::Error) -> Option<String> {
    let refused = match error.get_ref()?.downcast_ref::<Error>()? {
        Error::InvalidCertificate(_)
        | Error::NoCertificatesPresented
        | Error::UnsupportedNameType
        | Error::PeerIncompatible(_)
        | Error::InvalidMessage(_) => true,
        Error::AlertReceived(alert) => matches!(
            alert,
            AlertDescription::CertificateRequired
                | AlertDescription::BadCertificate
                | AlertDescription::UnsupportedCertificate
                | AlertDescription::CertificateRevoked
                | AlertDescription::CertificateExpired
                | AlertDescription::CertificateUnknown
                | AlertDescription::UnknownCA
                | AlertDescription::AccessDenied
                | AlertDescription::HandshakeFailure
                | AlertDescription::ProtocolVersion
                | AlertDescription::InsufficientSecurity
        ),
        _ => false,
    };
    trouble(error, OptionNames::CELERY).filter(|_| refused)
}

#[cfg(test)]
mod tests {
    use rustls::CertificateError;

    use super::*;

    #[test]
    fn what_would_be_refused_again_is_told_apart() {
        let refusal = |error: Error| refusal(&io::Error::new(io::ErrorKind::InvalidData, error));
        let stranger = refusal(Error::InvalidCertificate(CertificateError::UnknownIssuer)).unwrap();
        assert!(stranger.contains("signed by nobody who is believed"), "{stranger}");
        assert!(refusal(Error::AlertReceived(AlertDescription::CertificateRequired)).is_some());
        assert_eq!(refusal(Error::AlertReceived(AlertDescription::InternalError)), None);
        assert_eq!(super::refusal(&io::ErrorKind::UnexpectedEof.into()), None);
    }
}

//! What went wrong with TLS, in words that say what to do.
//!
//! Other errors are not ours: about them it says nothing.

use std::error::Error;
use std::io;

use rustls::{AlertDescription, CertificateError};

/// What went wrong, if that was TLS: somewhere in the error is what rustls says.
pub fn trouble(error: &(dyn Error + 'static)) -> Option<String> {
    let mut at = error;
    loop {
        if let Some(error) = at.downcast_ref::<rustls::Error>() {
            return Some(explain(error));
        }
        // An error of the system has what it was made from elsewhere than in its `source`.
        at = match at.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => inner,
            None => at.source()?,
        };
    }
}

fn explain(error: &rustls::Error) -> String {
    use CertificateError as Wrong;
    let text = match error {
        rustls::Error::InvalidCertificate(Wrong::UnknownIssuer) => {
            "the server's certificate is signed by nobody who is believed; ssl_ca_certs names who is"
        }
        rustls::Error::InvalidCertificate(Wrong::NotValidForNameContext { expected, presented }) => {
            let presented = if presented.is_empty() { "no name at all".to_owned() } else { presented.join(", ") };
            return format!(
                "the server's certificate is for {presented}, not for {}; ssl_check_hostname=false takes it nevertheless",
                expected.to_str()
            );
        }
        rustls::Error::InvalidCertificate(Wrong::NotValidForName) => {
            "the server's certificate is for another name; ssl_check_hostname=false takes it nevertheless"
        }
        rustls::Error::InvalidCertificate(Wrong::Expired | Wrong::ExpiredContext { .. }) => {
            "the server's certificate has expired"
        }
        rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => {
            "the server wants to see a certificate; ssl_certfile and ssl_keyfile name it"
        }
        rustls::Error::AlertReceived(alert) => {
            return format!("the server refuses TLS as we speak it, or our certificate: it says {alert:?}");
        }
        rustls::Error::InvalidMessage(_) => {
            "the server answers with something that is not TLS; is this its port for TLS?"
        }
        other => return format!("TLS: {other}"),
    };
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::ServerName;

    use super::*;

    #[test]
    fn what_rustls_says_is_found_within_errors_of_the_system() {
        let found =
            |error: rustls::Error| trouble(&io::Error::other(io::Error::new(io::ErrorKind::InvalidData, error)));
        let said = |error| found(error).unwrap();
        assert!(
            said(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer))
                .ends_with("ssl_ca_certs names who is")
        );
        assert!(said(rustls::Error::AlertReceived(AlertDescription::CertificateRequired)).contains("ssl_certfile"));
        let presented = vec!["DnsName(\"box\")".to_owned()];
        let expected = ServerName::try_from("bag").unwrap();
        let name = rustls::Error::InvalidCertificate(CertificateError::NotValidForNameContext { expected, presented });
        assert!(said(name).starts_with("the server's certificate is for DnsName(\"box\"), not for bag; "));
        assert_eq!(trouble(&io::Error::from(io::ErrorKind::ConnectionRefused)), None);
    }
}

//! What went wrong with TLS, in words that say what to do.
//!
//! Other errors are not ours: about them it says nothing.

use std::error::Error;
use std::io;

use rustls::{AlertDescription, CertificateError};

/// What the options of TLS are called where a server is named.
#[derive(Debug, Clone, Copy)]
pub struct OptionNames {
    /// What names those who are believed.
    pub authorities: &'static str,
    /// What names our own certificate; none, if there can be none.
    pub own: Option<&'static str>,
    /// What takes a certificate that is for another name; none, if nothing does.
    pub other_name: Option<&'static str>,
}

impl OptionNames {
    /// As Celery and redis-py have them.
    pub const CELERY: OptionNames = OptionNames {
        authorities: "ssl_ca_certs",
        own: Some("ssl_certfile and ssl_keyfile"),
        other_name: Some("ssl_check_hostname=false"),
    };
    /// As libpq has them.
    pub const LIBPQ: OptionNames = OptionNames {
        authorities: "sslrootcert",
        own: Some("sslcert and sslkey"),
        other_name: Some("sslmode=verify-ca"),
    };
    /// As the clients of MySQL have them.
    pub const MYSQL: OptionNames =
        OptionNames { authorities: "ssl_ca", own: Some("ssl_cert and ssl_key"), other_name: Some("ssl_mode=REQUIRED") };
    /// As boto3 and AWS' command line have them, in the environment.
    pub const AWS: OptionNames = OptionNames { authorities: "AWS_CA_BUNDLE", own: None, other_name: None };
}

/// What went wrong, if that was TLS: somewhere in the error is what rustls says.
pub fn trouble(error: &(dyn Error + 'static), options: OptionNames) -> Option<String> {
    let mut at = error;
    loop {
        if let Some(error) = at.downcast_ref::<rustls::Error>() {
            return Some(explain(error, options));
        }
        // An error of the system has what it was made from elsewhere than in its `source`.
        at = match at.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => inner,
            None => at.source()?,
        };
    }
}

fn explain(error: &rustls::Error, options: OptionNames) -> String {
    use CertificateError as Wrong;
    let nevertheless = || options.other_name.map(|name| format!("; {name} takes it nevertheless")).unwrap_or_default();
    let text = match error {
        rustls::Error::InvalidCertificate(Wrong::UnknownIssuer) => {
            let names = options.authorities;
            return format!("the server's certificate is signed by nobody who is believed; {names} names who is");
        }
        rustls::Error::InvalidCertificate(Wrong::NotValidForNameContext { expected, presented }) => {
            let presented = if presented.is_empty() { "no name at all".to_owned() } else { presented.join(", ") };
            let (expected, nevertheless) = (expected.to_str(), nevertheless());
            return format!("the server's certificate is for {presented}, not for {expected}{nevertheless}");
        }
        rustls::Error::InvalidCertificate(Wrong::NotValidForName) => {
            return format!("the server's certificate is for another name{}", nevertheless());
        }
        rustls::Error::InvalidCertificate(Wrong::Expired | Wrong::ExpiredContext { .. }) => {
            "the server's certificate has expired"
        }
        rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => {
            let own = options.own.map(|names| format!("; {names} name it")).unwrap_or_default();
            return format!("the server wants to see a certificate{own}");
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
        let said = |error: rustls::Error, options| {
            let error = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, error));
            trouble(&error, options).unwrap()
        };
        let stranger = || rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        assert!(said(stranger(), OptionNames::CELERY).ends_with("believed; ssl_ca_certs names who is"));
        assert!(said(stranger(), OptionNames::LIBPQ).ends_with("believed; sslrootcert names who is"));
        let required = || rustls::Error::AlertReceived(AlertDescription::CertificateRequired);
        assert!(said(required(), OptionNames::MYSQL).ends_with("see a certificate; ssl_cert and ssl_key name it"));
        assert!(said(required(), OptionNames::AWS).ends_with("see a certificate"));
        let presented = vec!["DnsName(\"box\")".to_owned()];
        let expected = ServerName::try_from("bag").unwrap();
        let name = rustls::Error::InvalidCertificate(CertificateError::NotValidForNameContext { expected, presented });
        let name = said(name, OptionNames::CELERY);
        assert!(name.starts_with("the server's certificate is for DnsName(\"box\"), not for bag; ssl_check_hostname="));
        assert_eq!(trouble(&io::Error::from(io::ErrorKind::ConnectionRefused), OptionNames::CELERY), None);
    }
}

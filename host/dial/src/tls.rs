//! TLS towards servers: whose certificates are believed, and which one is shown to them.
//!
//! Read from options by the names that Celery, kombu and redis-py give them. Its provider is named here and
//! is not the process's, which libraries fight about.

mod refused;
mod trouble;
mod verify;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub use self::refused::refusal;
pub use self::trouble::{OptionNames, trouble};

/// How much of a server's certificate is checked (Python's `ssl.CERT_REQUIRED` with and without `check_hostname`,
/// `ssl.CERT_NONE`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Verify {
    /// Somebody believed has signed it, and it is for the name that was dialled.
    #[default]
    Full,
    /// Somebody believed has signed it.
    Chain,
    /// Nothing: whoever answers is believed.
    Nothing,
}

/// What an operator says of TLS.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TlsOptions {
    /// The PEM file of those who are believed; without it those of this machine, or of the file that `SSL_CERT_FILE`
    /// names.
    pub ca_certs: Option<PathBuf>,
    /// The PEM file of our certificate, with those that lead to its root.
    pub certfile: Option<PathBuf>,
    /// The PEM file of its key; without it the key is in `certfile`.
    pub keyfile: Option<PathBuf>,
    pub verify: Verify,
}

/// TLS cannot be set up as it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("read {what} from {}", path.display())]
    Pem { what: &'static str, path: PathBuf, source: rustls::pki_types::pem::Error },
    #[error("{} holds no {what}", path.display())]
    Empty { what: &'static str, path: PathBuf },
    #[error("believe a certificate of {}", path.display())]
    Root { path: PathBuf, source: rustls::Error },
    #[error("show the certificate of {}", path.display())]
    Own { path: PathBuf, source: rustls::Error },
    #[error("show a key ({}) without a certificate", path.display())]
    KeyAlone { path: PathBuf },
    #[error("find whose certificates this machine believes: {reason}")]
    NoRoots { reason: String },
    #[error("set up TLS")]
    Refused(#[from] rustls::Error),
    #[error("`{0}` is no name that a certificate can be for")]
    Name(String),
}

/// What files hold.
const ROOTS: &str = "certificates";
const OWN: &str = "certificate";

impl TlsError {
    /// Which of the options is to be looked at.
    pub fn option(&self, options: &TlsOptions) -> &'static str {
        match self {
            Self::Pem { what, .. } | Self::Empty { what, .. } if *what == ROOTS => "ssl_ca_certs",
            Self::Pem { what, .. } | Self::Empty { what, .. } if *what == OWN => "ssl_certfile",
            Self::Pem { .. } | Self::Empty { .. } if options.keyfile.is_none() => "ssl_certfile",
            Self::Pem { .. } | Self::Empty { .. } | Self::KeyAlone { .. } => "ssl_keyfile",
            Self::Own { .. } => "ssl_certfile",
            Self::Root { .. } | Self::NoRoots { .. } | Self::Refused(_) | Self::Name(_) => "ssl_ca_certs",
        }
    }
}

impl TlsOptions {
    /// Takes an option by the name that it has behind the `?` of a URL or in `broker_use_ssl`, with or without `ssl_` in
    /// front of it. False if it is none of TLS.
    ///
    /// `cert_reqs` is `required`, `optional` or `none`, or Python's name of the constant (`CERT_REQUIRED`). A client
    /// that says `optional` checks as one that says `required`.
    pub fn set(&mut self, key: &str, value: &str) -> Result<bool, String> {
        let path = || Some(PathBuf::from(value)).filter(|path| !path.as_os_str().is_empty());
        match key.strip_prefix("ssl_").unwrap_or(key) {
            "ca_certs" | "cafile" => self.ca_certs = path(),
            "certfile" => self.certfile = path(),
            "keyfile" => self.keyfile = path(),
            "cert_reqs" => {
                let lower = value.to_ascii_lowercase();
                self.verify = match lower.trim_start_matches("ssl.").trim_start_matches("cert_") {
                    "required" | "optional" | "2" | "1" if self.verify == Verify::Chain => Verify::Chain,
                    "required" | "optional" | "2" | "1" => Verify::Full,
                    "none" | "0" => Verify::Nothing,
                    _ => return Err(format!("{key} `{value}` is none of required, optional and none")),
                }
            }
            "check_hostname" => match value.to_ascii_lowercase().as_str() {
                "true" | "1" | "yes" if self.verify == Verify::Chain => self.verify = Verify::Full,
                "true" | "1" | "yes" => {}
                "false" | "0" | "no" if self.verify == Verify::Full => self.verify = Verify::Chain,
                "false" | "0" | "no" => {}
                _ => return Err(format!("{key} `{value}` is neither true nor false")),
            },
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Reads the files and makes of them what every driver takes.
    pub fn load(&self) -> Result<Tls, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder =
            ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
        let builder = match self.verify {
            Verify::Full => builder.with_root_certificates(self.roots()?),
            verify => {
                let roots = if verify == Verify::Chain { Some(self.roots()?) } else { None };
                let verifier = verify::Lenient::new(roots, provider);
                builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
            }
        };
        let config = match (&self.certfile, &self.keyfile) {
            (Some(cert), key) => {
                let chain = certificates(OWN, cert)?;
                let path = key.as_ref().unwrap_or(cert);
                let wrong = |source| TlsError::Pem { what: "private key", path: path.clone(), source };
                let own = PrivateKeyDer::from_pem_file(path).map_err(wrong)?;
                let refused = |source| TlsError::Own { path: cert.clone(), source };
                builder.with_client_auth_cert(chain, own).map_err(refused)?
            }
            (None, Some(key)) => return Err(TlsError::KeyAlone { path: key.clone() }),
            (None, None) => builder.with_no_client_auth(),
        };
        Ok(Tls { config: Arc::new(config) })
    }

    /// The certificates of those who are believed, for drivers that make their TLS themselves.
    pub fn authorities(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let found = match &self.ca_certs {
            Some(path) => certificates("certificates", path)?,
            None => rustls_native_certs::load_native_certs().certs,
        };
        // As in `roots`, which says what is wrong with those that cannot be read.
        self.roots()?;
        Ok(found.into_iter().filter(|one| RootCertStore::empty().add(one.clone()).is_ok()).collect())
    }

    fn roots(&self) -> Result<RootCertStore, TlsError> {
        let mut roots = RootCertStore::empty();
        if let Some(path) = &self.ca_certs {
            for certificate in certificates(ROOTS, path)? {
                roots.add(certificate).map_err(|source| TlsError::Root { path: path.clone(), source })?;
            }
            return Ok(roots);
        }
        let found = rustls_native_certs::load_native_certs();
        // A machine's list may hold some that are too old to be read.
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            let reasons: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
            let reason = if reasons.is_empty() { "there are none; name a file".to_owned() } else { reasons.join("; ") };
            return Err(TlsError::NoRoots { reason });
        }
        Ok(roots)
    }
}

fn certificates(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wrong = |source| TlsError::Pem { what, path: path.to_owned(), source };
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).map_err(wrong)?.collect();
    let found = found.map_err(wrong)?;
    if found.is_empty() { Err(TlsError::Empty { what, path: path.to_owned() }) } else { Ok(found) }
}

/// TLS, ready for connections.
#[derive(Debug, Clone)]
pub struct Tls {
    config: Arc<ClientConfig>,
}

impl Tls {
    /// For drivers that make their streams themselves.
    pub fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.config)
    }

    /// The name that a server's certificate has to be for; `host` may be an address, in brackets too.
    pub fn server_name(host: &str) -> Result<ServerName<'static>, TlsError> {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        ServerName::try_from(host.to_owned()).map_err(|_| TlsError::Name(host.to_owned()))
    }

    /// The handshake on an open stream. Sets no deadline.
    pub async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        host: &str,
        stream: S,
    ) -> std::io::Result<TlsStream<S>> {
        let name = Self::server_name(host).map_err(std::io::Error::other)?;
        TlsConnector::from(self.config()).connect(name, stream).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(pairs: &[(&str, &str)]) -> Result<TlsOptions, String> {
        let mut options = TlsOptions::default();
        for (key, value) in pairs {
            assert!(options.set(key, value)?, "{key}");
        }
        Ok(options)
    }

    #[test]
    fn options_have_the_names_of_celery_and_redis_py() {
        let options = set(&[("ssl_ca_certs", "/ca.pem"), ("certfile", "/me.pem"), ("ssl_keyfile", "/me.key")]).unwrap();
        assert_eq!(options.ca_certs.as_deref(), Some(Path::new("/ca.pem")));
        assert_eq!(options.certfile.as_deref(), Some(Path::new("/me.pem")));
        assert_eq!(options.keyfile.as_deref(), Some(Path::new("/me.key")));
        assert_eq!(TlsOptions::default().set("max_connections", "3"), Ok(false));
    }

    #[test]
    fn how_much_is_checked_has_pythons_names() {
        let verify = |pairs: &[(&str, &str)]| set(pairs).unwrap().verify;
        assert_eq!(verify(&[]), Verify::Full);
        for required in ["required", "CERT_REQUIRED", "ssl.CERT_REQUIRED", "optional", "CERT_OPTIONAL"] {
            assert_eq!(verify(&[("ssl_cert_reqs", required)]), Verify::Full);
        }
        for none in ["none", "CERT_NONE", "None"] {
            assert_eq!(verify(&[("cert_reqs", none)]), Verify::Nothing);
        }
        assert_eq!(verify(&[("ssl_check_hostname", "false")]), Verify::Chain);
        assert_eq!(verify(&[("ssl_check_hostname", "false"), ("cert_reqs", "required")]), Verify::Chain);
        assert_eq!(verify(&[("cert_reqs", "none"), ("ssl_check_hostname", "true")]), Verify::Nothing);
        let wrong = "ssl_cert_reqs `maybe` is none of required, optional and none";
        assert_eq!(set(&[("ssl_cert_reqs", "maybe")]).unwrap_err(), wrong);
    }

    #[test]
    fn a_file_that_is_no_certificate_is_named() {
        let load = |options: TlsOptions| options.load().unwrap_err().to_string();
        let missing = TlsOptions { ca_certs: Some("/no/ca.pem".into()), ..TlsOptions::default() };
        assert_eq!(load(missing), "read certificates from /no/ca.pem");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("empty.pem");
        std::fs::write(&path, "nothing").unwrap();
        let empty = TlsOptions { ca_certs: Some(path.clone()), ..TlsOptions::default() };
        assert_eq!(load(empty), format!("{} holds no certificates", path.display()));
        let alone = TlsOptions { keyfile: Some("/me.key".into()), verify: Verify::Nothing, ..TlsOptions::default() };
        assert_eq!(load(alone), "show a key (/me.key) without a certificate");
    }

    #[test]
    fn addresses_are_names_too() {
        for host in ["box.example", "127.0.0.1", "::1", "[::1]"] {
            assert!(Tls::server_name(host).is_ok(), "{host}");
        }
        assert_eq!(Tls::server_name("a b").unwrap_err().to_string(), "`a b` is no name that a certificate can be for");
    }
}

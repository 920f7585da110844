//! RSA keys, and the one way in which Celery signs: RSASSA-PSS, MGF1 with the same digest, and the longest
//! salt that there is room for (celery/security/key.py).

use std::fmt;

use rsa::PublicKey;
use rsa::pkcs1::DecodeRsaPrivateKey;
use rsa::pkcs8::DecodePrivateKey;
use rsa::pss::{Signature, SigningKey, VerifyingKey};
use rsa::rand_core::TryCryptoRng;
use rsa::signature::{RandomizedSigner, SignatureEncoding, Verifier};
use rsa::traits::PublicKeyParts;
use sha2::{Sha224, Sha256, Sha384, Sha512};

use crate::protocol::auth::{AuthError, Certificate};

/// What is signed of a body (`security_digest`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Digest {
    Sha224,
    #[default]
    Sha256,
    Sha384,
    Sha512,
}

impl Digest {
    /// The digest that Celery calls so, in any case.
    pub fn parse(name: &str) -> Option<Self> {
        let known = [Self::Sha224, Self::Sha256, Self::Sha384, Self::Sha512];
        known.into_iter().find(|digest| digest.as_str().eq_ignore_ascii_case(name))
    }

    /// Celery's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sha224 => "sha224",
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }

    fn bytes(self) -> usize {
        match self {
            Self::Sha224 => 28,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }
}

/// A private key, which shows nothing of itself.
pub struct PrivateKey(rsa::PrivateKey);

impl PrivateKey {
    /// Reads the text of a PEM file: PKCS#8, encrypted or not, or PKCS#1.
    pub fn parse(pem: &str, password: Option<&str>) -> Result<Self, AuthError> {
        let wrong = |error: &dyn fmt::Display| AuthError::Key(error.to_string());
        let pem = &pem[pem.find("-----BEGIN").ok_or_else(|| wrong(&"it is not PEM"))?..];
        let key = match (pem, password) {
            _ if pem.contains("Proc-Type: 4,ENCRYPTED") => {
                return Err(wrong(&"it is encrypted in OpenSSL's old way; convert it with `openssl pkcs8 -topk8`"));
            }
            (pem, Some(password)) if pem.starts_with("-----BEGIN ENCRYPTED") => {
                let key = rsa::PrivateKey::from_pkcs8_encrypted_pem(pem, password);
                key.map_err(|_| wrong(&"the password does not open it, or it is no RSA key"))?
            }
            (pem, None) if pem.starts_with("-----BEGIN ENCRYPTED") => {
                return Err(wrong(&"it is encrypted, and `security.key_password` is not set"));
            }
            (pem, _) if pem.starts_with("-----BEGIN RSA") => {
                rsa::PrivateKey::from_pkcs1_pem(pem).map_err(|error| wrong(&error))?
            }
            (pem, _) => rsa::PrivateKey::from_pkcs8_pem(pem).map_err(|_| wrong(&"it is no RSA key"))?,
        };
        Ok(Self(key))
    }

    /// Fails if there is no room for a signature with this digest.
    pub(super) fn check(&self, digest: Digest) -> Result<(), AuthError> {
        let short = AuthError::Short { bits: bits(&self.0), digest: digest.as_str() };
        salt_bytes(&self.0, digest).map(|_| ()).ok_or(short)
    }

    pub(super) fn belongs_to(&self, certificate: &Certificate) -> bool {
        certificate.has_key(&self.0)
    }

    pub(super) fn sign(
        &self,
        body: &[u8],
        digest: Digest,
        random: &mut (impl TryCryptoRng + ?Sized),
    ) -> Result<Box<[u8]>, AuthError> {
        self.check(digest)?;
        let (key, salt) = (self.0.clone(), salt_bytes(&self.0, digest).unwrap_or_default());
        let signed = match digest {
            Digest::Sha224 => SigningKey::<Sha224>::new_with_salt_len(key, salt).try_sign_with_rng(random, body),
            Digest::Sha256 => SigningKey::<Sha256>::new_with_salt_len(key, salt).try_sign_with_rng(random, body),
            Digest::Sha384 => SigningKey::<Sha384>::new_with_salt_len(key, salt).try_sign_with_rng(random, body),
            Digest::Sha512 => SigningKey::<Sha512>::new_with_salt_len(key, salt).try_sign_with_rng(random, body),
        };
        signed.map(|signature| signature.to_bytes()).map_err(|error| AuthError::Sign(error.to_string()))
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(**)")
    }
}

/// True if the signature is one of this body by the owner of this key.
pub(super) fn verify(key: &PublicKey, body: &[u8], signature: &[u8], digest: Digest) -> bool {
    let (Some(salt), Ok(signature)) = (salt_bytes(key, digest), Signature::try_from(signature)) else { return false };
    let key = key.clone();
    let verified = match digest {
        Digest::Sha224 => VerifyingKey::<Sha224>::new_with_salt_len(key, salt).verify(body, &signature),
        Digest::Sha256 => VerifyingKey::<Sha256>::new_with_salt_len(key, salt).verify(body, &signature),
        Digest::Sha384 => VerifyingKey::<Sha384>::new_with_salt_len(key, salt).verify(body, &signature),
        Digest::Sha512 => VerifyingKey::<Sha512>::new_with_salt_len(key, salt).verify(body, &signature),
    };
    verified.is_ok()
}

/// The longest salt that there is room for beside the digest (RFC 8017, 9.1.1).
fn salt_bytes(key: &impl PublicKeyParts, digest: Digest) -> Option<usize> {
    (bits(key) - 1).div_ceil(8).checked_sub(digest.bytes() + 2)
}

fn bits(key: &impl PublicKeyParts) -> usize {
    key.n().bit_width() as usize
}

//! X.509 certificates as Celery uses them: a name, an end, and a public key. No chain is followed, since
//! the store holds every certificate that is believed.

use std::fmt;

use rsa::PublicKey;
use rsa::pkcs8::DecodePublicKey;
use rsa::traits::PublicKeyParts;
use x509_cert::certificate::{CertificateInner, Raw};
use x509_cert::der::asn1::{Any, BmpString};
use x509_cert::der::{DecodePem, Encode, Tag, Tagged};

use crate::protocol::auth::AuthError;
use crate::protocol::auth::key::{self, Digest};
use crate::timestamp::Timestamp;

/// A certificate with an RSA key.
pub struct Certificate {
    id: String,
    not_after: Timestamp,
    key: PublicKey,
}

impl Certificate {
    /// Reads the text of a PEM file.
    pub fn parse(pem: &str) -> Result<Self, AuthError> {
        let wrong = |error: &dyn fmt::Display| AuthError::Certificate(error.to_string());
        let start = pem.find("-----BEGIN").ok_or_else(|| wrong(&"it is not PEM"))?;
        let pem = &pem[start..];
        let end = pem.find("-----END").and_then(|end| pem[end..].find('\n').map(|line| end + line + 1));
        let parsed =
            CertificateInner::<Raw>::from_pem(&pem[..end.unwrap_or(pem.len())]).map_err(|error| wrong(&error))?;
        let certificate = parsed.tbs_certificate();
        let key = certificate.subject_public_key_info().to_der().map_err(|error| wrong(&error))?;
        let key = PublicKey::from_public_key_der(&key).map_err(|_| wrong(&"its key is not an RSA key"))?;
        let issuer = certificate.issuer().iter().map(|attribute| value(&attribute.value)).collect::<Vec<_>>().join(" ");
        let id = format!("{issuer} {}", decimal(certificate.serial_number().as_bytes()));
        let end = certificate.validity().not_after.to_unix_duration();
        let not_after = Timestamp::from_micros(i64::try_from(end.as_micros()).unwrap_or(i64::MAX));
        Ok(Self { id, not_after, key })
    }

    /// What Celery calls it: the values of the issuer's name and the serial number.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// True from its last moment on.
    pub fn has_expired(&self, now: Timestamp) -> bool {
        now >= self.not_after
    }

    pub(super) fn verify(&self, body: &[u8], signature: &[u8], digest: Digest) -> bool {
        key::verify(&self.key, body, signature, digest)
    }

    pub(super) fn has_key(&self, key: &impl PublicKeyParts) -> bool {
        self.key.n() == key.n() && self.key.e() == key.e()
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").field("id", &self.id).field("not_after", &self.not_after).finish_non_exhaustive()
    }
}

/// The text of an attribute, as Python's cryptography reads it.
fn value(value: &Any) -> String {
    match value.tag() {
        Tag::BmpString => {
            let text = BmpString::from_ucs2(value.value().to_vec());
            text.map(|text| text.to_string()).unwrap_or_default()
        }
        Tag::TeletexString => value.value().iter().map(|byte| char::from(*byte)).collect(),
        _ => String::from_utf8_lossy(value.value()).into_owned(),
    }
}

/// A number of any size, from its bytes with the largest first.
fn decimal(bytes: &[u8]) -> String {
    let mut digits = vec![0_u8];
    for byte in bytes {
        let mut carry = u32::from(*byte);
        for digit in digits.iter_mut().rev() {
            carry += u32::from(*digit) << 8;
            *digit = (carry % 10) as u8;
            carry /= 10;
        }
        while carry > 0 {
            digits.insert(0, (carry % 10) as u8);
            carry /= 10;
        }
    }
    digits.iter().map(|digit| char::from(b'0' + digit)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serial_numbers_of_any_size_are_decimal() {
        for (bytes, expected) in [
            (&b"\0"[..], "0"),
            (b"\x01\0", "256"),
            (b"\0\xff", "255"),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff", "4722366482869645213695"),
        ] {
            assert_eq!(decimal(bytes), expected);
        }
    }
}

//! Celery's signed bodies (`auth`, celery/security): what they look like, who signed them, and with what.
//!
//! Reads no files, and has neither a clock nor chance: both are arguments, and the edge that has them is a
//! [`Seal`].

mod certificate;
mod key;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use rsa::rand_core::TryCryptoRng;

use crate::message::Message;
use crate::protocol::codec::Serializer;
use crate::protocol::envelope::LIBERAL;
use crate::timestamp::Timestamp;

pub use certificate::Certificate;
pub use key::{Digest, PrivateKey};

/// Between the parts of a signed body.
const SEPARATOR: &[u8] = b"\0\x01";
/// Signer, signature, content type, content encoding, body.
const PARTS: usize = 5;

/// Signs bodies and opens signed ones, now and with real chance.
pub trait Seal: Send + Sync + fmt::Debug {
    /// A body of JSON, signed.
    fn seal(&self, body: &[u8]) -> Result<Bytes, AuthError>;

    /// What was signed, if the signature is good.
    fn open(&self, signed: &[u8]) -> Result<Opened, AuthError>;
}

/// A body whose signature is good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// How it is written.
    pub content_type: String,
    pub body: Bytes,
}

/// The worker's own key and certificate, and the certificates of all that it believes.
#[derive(Debug)]
pub struct Keys {
    key: PrivateKey,
    /// How the own certificate is called.
    signer: String,
    known: BTreeMap<String, Certificate>,
    digest: Digest,
}

/// Why a body cannot be signed, or is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    #[error("invalid private key: {0}")]
    Key(String),
    #[error("invalid certificate: {0}")]
    Certificate(String),
    #[error("certificate `{0}` is there twice")]
    Duplicate(String),
    #[error("the private key does not belong to the certificate `{0}`")]
    NotOurs(String),
    #[error("the key of {bits} bits is too short for {digest}")]
    Short { bits: usize, digest: &'static str },
    #[error("it is not signed in Celery's way: {0}")]
    Form(&'static str),
    #[error("unknown certificate `{0}`: it is not in `security.cert_store`")]
    Unknown(String),
    #[error("expired certificate `{0}`")]
    Expired(String),
    #[error("bad signature of `{0}`")]
    Signature(String),
    #[error("cannot sign: {0}")]
    Sign(String),
    #[error("a signed body needs the settings `security.key`, `security.certificate` and `security.cert_store`")]
    NotConfigured,
}

impl Keys {
    /// Checks that everything belongs together. Celery refuses an expired certificate in its store as well.
    pub fn new(
        key: PrivateKey,
        certificate: &Certificate,
        store: impl IntoIterator<Item = Certificate>,
        digest: Digest,
        now: Timestamp,
    ) -> Result<Self, AuthError> {
        let signer = certificate.id().to_owned();
        if !key.belongs_to(certificate) {
            return Err(AuthError::NotOurs(signer));
        }
        key.check(digest)?;
        let mut known = BTreeMap::new();
        for certificate in store {
            let id = certificate.id().to_owned();
            if certificate.has_expired(now) {
                return Err(AuthError::Expired(id));
            }
            if known.insert(id.clone(), certificate).is_some() {
                return Err(AuthError::Duplicate(id));
            }
        }
        Ok(Self { key, signer, known, digest })
    }

    /// A body of JSON, signed (celery/security/serialization.py `_pack`).
    pub fn sign(&self, body: &[u8], random: &mut (impl TryCryptoRng + ?Sized)) -> Result<Bytes, AuthError> {
        let signature = self.key.sign(body, self.digest, random)?;
        let (content_type, content_encoding) = Serializer::Json.content_type();
        let (signer, signature) = (STANDARD.encode(&self.signer), STANDARD.encode(signature));
        let parts: [&[u8]; PARTS] =
            [signer.as_bytes(), signature.as_bytes(), content_type.as_bytes(), content_encoding.as_bytes(), body];
        Ok(STANDARD.encode(parts.join(SEPARATOR)).into())
    }

    /// What was signed, if somebody whom we know signed it and may still do so.
    pub fn verify(&self, signed: &[u8], now: Timestamp) -> Result<Opened, AuthError> {
        let packed = LIBERAL.decode(signed).map_err(|_| AuthError::Form("it is not base64"))?;
        let packed = Bytes::from(packed);
        let [signer, signature, content_type, _, body] = parts(&packed)?;
        let decoded = |part: &Bytes| LIBERAL.decode(part).map_err(|_| AuthError::Form("a part is not base64"));
        let text = |bytes| String::from_utf8(bytes).map_err(|_| AuthError::Form("a part is not UTF-8"));
        let signer = text(decoded(&signer)?)?;
        let certificate = self.known.get(&signer).ok_or_else(|| AuthError::Unknown(signer.clone()))?;
        if certificate.has_expired(now) {
            return Err(AuthError::Expired(signer));
        }
        if !certificate.verify(&body, &decoded(&signature)?, self.digest) {
            return Err(AuthError::Signature(signer));
        }
        Ok(Opened { content_type: text(content_type.to_vec())?, body })
    }
}

/// The parts, sharing the bytes. The body comes last and may hold what separates the others.
fn parts(packed: &Bytes) -> Result<[Bytes; PARTS], AuthError> {
    let mut parts = [const { Bytes::new() }; PARTS];
    let mut start = 0;
    for part in &mut parts[..PARTS - 1] {
        let length = packed[start..].windows(SEPARATOR.len()).position(|window| window == SEPARATOR);
        let end = start + length.ok_or(AuthError::Form("it has not five parts"))?;
        *part = packed.slice(start..end);
        start = end + SEPARATOR.len();
    }
    parts[PARTS - 1] = packed.slice(start..);
    Ok(parts)
}

/// Signs the body of a message, which is JSON so far.
pub fn sign(message: &mut Message, seal: &dyn Seal) -> Result<(), AuthError> {
    let (content_type, content_encoding) = Serializer::Auth.content_type();
    message.properties.content_type = Some(content_type.to_owned());
    message.properties.content_encoding = Some(content_encoding.to_owned());
    message.body = seal.seal(&message.body)?;
    Ok(())
}

/// Signs the body of a message that says it is signed, and is not yet: the body of ours that took the place
/// of a signed one.
pub fn seal(message: &mut Message, seal: Option<&dyn Seal>) -> Result<(), AuthError> {
    if is_open(message) {
        message.body = seal.ok_or(AuthError::NotConfigured)?.seal(&message.body)?;
    }
    Ok(())
}

/// True for JSON, which is no base64, where a signed body should be.
pub fn is_open(message: &Message) -> bool {
    matches!(message.body.first(), Some(b'[' | b'{')) && is_signed(message)
}

/// True if the message says that its body is signed.
pub(crate) fn is_signed(message: &Message) -> bool {
    let content_type = message.properties.content_type.as_deref();
    content_type.is_some_and(|name| Serializer::parse(name) == Ok(Serializer::Auth))
}

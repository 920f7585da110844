//! What Celery signed (`testdata/auth.json`, made by tests/fixtures/capture_auth.py) is believed, and
//! nothing else.

use std::sync::Arc;

use rsa::rand_core::{Infallible, TryCryptoRng, TryRng};

use super::*;
use crate::protocol::codec::{Codec, Format};
use crate::protocol::content::Json;
use crate::request::Request;

const AUTH: &str = include_str!("../../../testdata/auth.json");
/// What was signed.
const BODY: &str =
    r#"[[2, "gr\u00fc\u00dfe"], {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]"#;
/// In 2026, and in 2127.
const NOW: Timestamp = Timestamp::from_micros(1_795_343_528_000_000);
const LATER: Timestamp = Timestamp::from_micros(4_955_000_000_000_000);

fn data() -> Json {
    Json::parse(AUTH).expect("JSON")
}

fn text(of: &Json, key: &str) -> String {
    of.get(key).and_then(|value| value.as_text().map(|text| text.into_owned())).unwrap_or_else(|| panic!("no {key}"))
}

fn certificate(name: &str) -> Certificate {
    Certificate::parse(&text(&data(), name)).expect("a certificate")
}

fn key(name: &str) -> PrivateKey {
    PrivateKey::parse(&text(&data(), name), None).expect("a key")
}

fn keys(digest: Digest, store: Vec<Certificate>) -> Keys {
    Keys::new(key("key"), &certificate("certificate"), store, digest, NOW).expect("they belong together")
}

/// The same numbers every time.
struct Repeating(u64);

impl TryRng for Repeating {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(self.try_next_u64()? as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        Ok(self.0)
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        for byte in bytes {
            *byte = (self.try_next_u64()? >> 56) as u8;
        }
        Ok(())
    }
}

impl TryCryptoRng for Repeating {}

#[derive(Debug)]
struct Stamp(Keys);

impl Seal for Stamp {
    fn seal(&self, body: &[u8]) -> Result<Bytes, AuthError> {
        self.0.sign(body, &mut Repeating(1))
    }

    fn open(&self, signed: &[u8]) -> Result<Opened, AuthError> {
        self.0.verify(signed, NOW)
    }
}

#[test]
fn what_celery_signed_is_believed() {
    for case in data().get("signed").expect("cases").elements() {
        let name = format!("{} with {}", text(&case, "name"), text(&case, "digest"));
        let digest = Digest::parse(&text(&case, "digest")).expect("a digest");
        let signer = Certificate::parse(&text(&case, "certificate")).expect("a certificate");
        assert_eq!(signer.id(), text(&case, "id"), "{name}");
        let keys = keys(digest, vec![signer]);
        let opened =
            keys.verify(text(&case, "signed").as_bytes(), NOW).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!((&*opened.content_type, &opened.body[..]), ("application/json", BODY.as_bytes()), "{name}");
    }
}

#[test]
fn what_we_sign_is_signed_as_celery_signs() {
    for digest in [Digest::Sha224, Digest::Sha256, Digest::Sha384, Digest::Sha512] {
        let keys = keys(digest, vec![certificate("certificate")]);
        let signed = keys.sign(BODY.as_bytes(), &mut Repeating(1)).expect("it can be signed");
        assert_eq!(keys.verify(&signed, NOW).map(|opened| opened.body), Ok(Bytes::from(BODY)));
        let again = keys.sign(BODY.as_bytes(), &mut Repeating(2)).expect("it can be signed");
        assert_ne!(signed, again, "chance has a part in it");
    }
}

#[test]
fn what_is_signed_otherwise_is_not_believed() {
    let case = data().get("signed").expect("cases").elements().nth(2).expect("that of sha256");
    let signed = text(&case, "signed");
    let id = text(&case, "id");
    let verify = |keys: &Keys, signed: &str, now| keys.verify(signed.as_bytes(), now).map(|_| ());
    let sha256 = keys(Digest::Sha256, vec![certificate("certificate")]);
    assert_eq!(verify(&sha256, &signed, NOW), Ok(()));
    assert_eq!(verify(&sha256, &signed, LATER), Err(AuthError::Expired(id.clone())));
    assert_eq!(verify(&keys(Digest::Sha256, Vec::new()), &signed, NOW), Err(AuthError::Unknown(id.clone())));
    let sha512 = keys(Digest::Sha512, vec![certificate("certificate")]);
    assert_eq!(verify(&sha512, &signed, NOW), Err(AuthError::Signature(id.clone())));

    let packed = STANDARD.decode(&signed).expect("base64");
    let mut changed = packed.clone();
    *changed.last_mut().expect("not empty") ^= 1;
    assert_eq!(verify(&sha256, &STANDARD.encode(changed), NOW), Err(AuthError::Signature(id)));
    let form = |what| Err(AuthError::Form(what));
    assert_eq!(verify(&sha256, "[[], {}, {}]", NOW), form("it is not base64"));
    assert_eq!(verify(&sha256, &STANDARD.encode(&packed[..40]), NOW), form("it has not five parts"));
    assert_eq!(verify(&sha256, "", NOW), form("it has not five parts"));
    assert_eq!(verify(&sha256, &STANDARD.encode(b"*\0\x01*\0\x01\0\x01\0\x01"), NOW), form("a part is not base64"));
    // What ends anywhere else is an error as well, and nothing worse.
    for end in (0..packed.len()).step_by(7) {
        assert!(verify(&sha256, &STANDARD.encode(&packed[..end]), NOW).is_err(), "cut off at {end}");
    }
}

#[test]
fn keys_are_read_in_every_form() {
    let data = data();
    for name in ["key", "key_pkcs1"] {
        assert!(key(name).belongs_to(&certificate("certificate")), "{name}");
    }
    let parse = |name, password| {
        let parsed = PrivateKey::parse(&text(&data, name), password);
        parsed.map(|key| format!("{key:?}")).map_err(|error| error.to_string())
    };
    assert_eq!(parse("key_encrypted", Some("secret")), Ok("PrivateKey(**)".to_owned()));
    for (name, password, expected) in [
        ("key_encrypted", Some("wrong"), "the password does not open it, or it is no RSA key"),
        ("key_encrypted", None, "it is encrypted, and `security.key_password` is not set"),
        (
            "key_encrypted_old",
            Some("secret"),
            "it is encrypted in OpenSSL's old way; convert it with `openssl pkcs8 -topk8`",
        ),
        ("key_elliptic", None, "it is no RSA key"),
        ("password", None, "it is not PEM"),
    ] {
        assert_eq!(parse(name, password), Err(format!("invalid private key: {expected}")));
    }
    let error = Certificate::parse(&text(&data, "certificate_elliptic")).expect_err("it has no RSA key");
    assert_eq!(error.to_string(), "invalid certificate: its key is not an RSA key");
}

#[test]
fn keys_must_belong_together() {
    let new = |key, certificates: &[&str]| {
        let store = certificates.iter().map(|name| certificate(name));
        Keys::new(key, &certificate("certificate"), store, Digest::Sha256, NOW).map(|_| ())
    };
    let id = certificate("certificate").id().to_owned();
    assert_eq!(new(key("key_other"), &[]), Err(AuthError::NotOurs(id.clone())));
    assert_eq!(new(key("key"), &["certificate", "certificate"]), Err(AuthError::Duplicate(id)));
    assert_eq!(new(key("key"), &["certificate_expired"]), Err(AuthError::Expired("expired 7".to_owned())));
}

#[test]
fn what_takes_the_place_of_something_signed_is_signed_before_it_leaves() {
    let stamp: Arc<dyn Seal> = Arc::new(Stamp(keys(Digest::Sha256, vec![certificate("certificate")])));
    let mut message = Message { body: Bytes::from(BODY), ..Message::default() };
    sign(&mut message, &*stamp).expect("it can be signed");
    assert!(is_signed(&message) && !is_open(&message));
    let before = message.clone();
    seal(&mut message, Some(&*stamp)).expect("nothing to do");
    assert_eq!(message, before);

    message.body = Bytes::from_static(b"[[1], {}, {}]");
    assert_eq!(seal(&mut message.clone(), None), Err(AuthError::NotConfigured));
    seal(&mut message, Some(&*stamp)).expect("it can be signed");
    let codec = Codec { accept: vec![Serializer::Auth], seal: Some(stamp.clone()), ..Codec::default() };
    assert_eq!(codec.decode(&message).map(|body| body.to_string()), Ok("[[1], {}, {}]".to_owned()));

    message.properties.content_type = Some("application/json".to_owned());
    let refused = codec.decode(&message).map_err(|error| error.to_string());
    let expected = "content type `application/json` is refused: accept_content is ['auth']; it is not signed: call \
                    `app.setup_security()` in the client";
    assert_eq!(refused.map(|_| ()), Err(expected.to_owned()));

    let format = Format { serializer: Serializer::Auth, seal: Some(stamp) };
    let written = format.serialize(Bytes::from_static(b"[NaN]")).expect("it can be signed");
    assert_eq!(format.deserialize(&written).map(|json| json.to_string()), Ok("[NaN]".to_owned()));
    assert!(format.deserialize(&Bytes::from_static(b"[NaN]")).is_err(), "who signs believes nothing unsigned");
}

#[test]
fn a_signed_message_of_protocol_1_is_signed_again_as_one_of_protocol_2() {
    let stamp: Arc<dyn Seal> = Arc::new(Stamp(keys(Digest::Sha256, vec![certificate("certificate")])));
    let body = r#"{"task": "tasks.add", "id": "t-1", "args": [2, 2], "kwargs": {}, "retries": 1}"#;
    let mut message = Message { body: Bytes::from(body), ..Message::default() };
    sign(&mut message, &*stamp).expect("it can be signed");
    let codec = Codec { accept: vec![Serializer::Auth], seal: Some(stamp.clone()), ..Codec::default() };
    let delivery = crate::dispatcher::fixture::request("tasks.add", "t-1").delivery;
    let mut request = Request::decode(message, delivery.clone(), &codec).expect("a request");
    assert!(is_open(&request.message), "its body is ours, and says that it is signed");
    seal(&mut request.message, Some(&*stamp)).expect("it can be signed");
    let again = Request::decode(request.message.clone(), delivery, &codec).expect("a request");
    assert_eq!((&again.args, again.retries, &again.message), (&request.args, 1, &request.message));
}

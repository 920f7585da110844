//! From the bytes of a body to JSON: decompressed and, whatever serializer wrote it, rewritten as JSON;
//! and back, for results in other forms than JSON.
//!
//! Does not compress, and knows nothing of tasks.

mod compression;
mod format;
mod msgpack;
mod pack;
mod serializer;
mod yaml;

use std::sync::Arc;

use crate::message::{HeaderValue, Message};
use crate::protocol::auth::{AuthError, Seal};
use crate::protocol::content::{Json, JsonError};
use crate::request::DecodeError;

pub use compression::{Compression, CompressionError};
pub use format::Format;
pub(crate) use format::deserialize;
pub use msgpack::MsgpackError;
pub use serializer::{Serializer, SerializerError};
pub use yaml::YamlError;

/// Which bodies are read (Celery's `accept_content`).
#[derive(Debug, Clone)]
pub struct Codec {
    /// Bodies that were written by others are refused.
    pub accept: Vec<Serializer>,
    /// How large a body may become that is decompressed, or rewritten as JSON.
    pub body_bytes_max: usize,
    /// Opens what is signed, and signs what this host writes in place of it.
    pub seal: Option<Arc<dyn Seal>>,
}

/// A body's bytes are not what they claim to be.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum BodyError {
    #[error(transparent)]
    Json(#[from] JsonError),
    #[error("not YAML: {0}")]
    Yaml(#[from] YamlError),
    #[error("not msgpack: {0}")]
    Msgpack(#[from] MsgpackError),
    #[error(transparent)]
    Auth(#[from] AuthError),
    #[error("what was signed cannot be read: {0}")]
    Signed(SerializerError),
    #[error(transparent)]
    Unsayable(#[from] EncodeError),
    #[error("compressed with {compression}: {source}")]
    Compressed { compression: String, source: CompressionError },
}

/// A value that has no form in a serializer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    #[error("Integer value out of range")]
    Integer,
    #[error("surrogates not allowed")]
    Surrogate,
    #[error("a text, list or map is too long")]
    Length,
}

impl Codec {
    /// A limit that leaves room: Celery has none, and RabbitMQ 4 takes no message over 16 MiB.
    pub const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;

    /// The body of a message as JSON.
    pub fn decode(&self, message: &Message) -> Result<Json, DecodeError> {
        let serializer = self.serializer(message.properties.content_type.as_deref())?;
        let body = match message.headers.get("compression") {
            None | Some(HeaderValue::Null) => message.body.clone(),
            Some(HeaderValue::Text(name)) => decompress(name, &message.body, self.body_bytes_max)?.into(),
            Some(_) => return Err(DecodeError::Header { header: "compression", expected: "a text" }),
        };
        Ok(deserialize(serializer, body, self.body_bytes_max, self.seal.as_deref())?)
    }

    /// The serializer of a content type, if it is accepted. A body that does not say what it is may be
    /// JSON: clients that speak plain AMQP often leave the content type out.
    fn serializer(&self, content_type: Option<&str>) -> Result<Serializer, DecodeError> {
        // Nearly all messages, and looking no further is what they save.
        if content_type == Some("application/json") && self.accept.contains(&Serializer::Json) {
            return Ok(Serializer::Json);
        }
        let content_type = content_type.unwrap_or_default();
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        let serializer = match essence {
            "" => Ok(Serializer::Json),
            _ => Serializer::parse(essence),
        };
        let hint = match serializer {
            Ok(serializer) if self.accept.contains(&serializer) => return Ok(serializer),
            Ok(Serializer::Json) if self.accept == [Serializer::Auth] => {
                "; it is not signed: call `app.setup_security()` in the client"
            }
            Ok(Serializer::Json) => "; add 'json' to `accept_content` of this worker",
            Ok(Serializer::Auth) => {
                "; set `task_serializer = 'json'` in the client, or, if it signs what it sends, add 'auth' to \
                 `accept_content` of this worker, and its keys (`security.key` and the others)"
            }
            Ok(Serializer::Yaml) => {
                "; set `task_serializer = 'json'` in the client, or add 'yaml' to `accept_content` of this worker"
            }
            Ok(Serializer::Msgpack) => {
                "; set `task_serializer = 'json'` in the client, or add 'msgpack' to `accept_content` of this worker"
            }
            Err(SerializerError::Pickle) => {
                "; pickle runs code while it is read and is never accepted: set `task_serializer = 'json'` in the client"
            }
            // kombu would pass such a body on as text or bytes, which are no arguments of a task.
            Err(SerializerError::Unknown(_)) => "; set `task_serializer = 'json'` in the client",
        };
        let accepted: Vec<&str> = self.accept.iter().map(|serializer| serializer.as_str()).collect();
        let accepted = format!("['{}']", accepted.join("', '"));
        Err(DecodeError::ContentType { content_type: content_type.to_owned(), accepted, hint })
    }
}

impl Default for Codec {
    /// JSON only, as in Celery.
    fn default() -> Self {
        Self { accept: vec![Serializer::Json], body_bytes_max: Self::BODY_BYTES_MAX, seal: None }
    }
}

/// Decompresses what is compressed in the named way.
pub(crate) fn decompress(name: &str, bytes: &[u8], bytes_max: usize) -> Result<Vec<u8>, BodyError> {
    let decompressed = Compression::parse(name).and_then(|compression| compression.decompress(bytes, bytes_max));
    decompressed.map_err(|source| BodyError::Compressed { compression: name.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::message::{Headers, Properties};

    const BODY: &[u8] = b"[[], {}, null]";
    /// `zlib.compress` of BODY.
    const ZLIB: &[u8] = b"x\x9c\x8b\x8e\x8e\xd5Q\xa8\xae\xd5Q\xc8+\xcd\xc9\x89\x05\x00!\xc9\x04\xbc";

    fn message(content_type: &str, compression: &str, body: &'static [u8]) -> Message {
        let properties = Properties { content_type: Some(content_type.to_owned()), ..Properties::default() };
        let headers = match compression {
            "" => Headers::default(),
            name => Headers(vec![("compression".into(), HeaderValue::Text(name.into()))]),
        };
        Message { properties, headers, body: Bytes::from_static(body) }
    }

    #[track_caller]
    fn check(message: &Message, expected: &str) {
        let accept = vec![Serializer::Json, Serializer::Yaml, Serializer::Msgpack];
        let codec = Codec { accept, body_bytes_max: 20, seal: None };
        let shown = codec.decode(message).map_or_else(|error| error.to_string(), |body| body.to_string());
        assert_eq!(shown, expected);
    }

    #[test]
    fn each_message_says_how_its_body_is_written() {
        for content_type in ["", "application/json", "Application/JSON; charset=utf-8", "json"] {
            check(&message(content_type, "", BODY), "[[], {}, null]");
        }
        check(&message("application/x-yaml", "", b"- []\n- {}\n- null\n"), "[[], {}, null]");
        check(&message("application/x-msgpack", "", b"\x93\x90\x80\xc0"), "[[], {}, null]");
        check(&message("application/json", "gzip", ZLIB), "[[], {}, null]");
        check(&message("application/x-yaml", "application/x-gzip", ZLIB), "[[], {}, null]");
        check(&message("application/json", "", b"- 1"), "undecodable body: no digit after `-` at byte 1");
        check(
            &message("yaml", "", b"[1"),
            "undecodable body: not YAML: while parsing a flow sequence, expected ',' or ']' at line 2",
        );
        check(&message("msgpack", "", b"\x93"), "undecodable body: not msgpack: it ends too early");
        check(
            &message("application/data", "", b"YQ=="),
            "content type `application/data` is refused: accept_content is ['json', 'yaml', 'msgpack']; set \
             `task_serializer = 'json'` in the client, or, if it signs what it sends, add 'auth' to `accept_content` of \
             this worker, and its keys (`security.key` and the others)",
        );
    }

    #[test]
    fn what_cannot_be_decompressed_says_why() {
        let json = |compression, body| message("application/json", compression, body);
        check(&json("gzip", &ZLIB[..9]), "undecodable body: compressed with gzip: it ends too early");
        check(
            &json("gzip", BODY),
            "undecodable body: compressed with gzip: it is damaged, cut off, or compressed with something else",
        );
        check(
            &json("snappy", BODY),
            "undecodable body: compressed with snappy: `snappy` is not a compression that this host reads",
        );
        // 1000 zeros.
        let bomb = b"x\x9cc`\x18\x05\xa3`\x14\x0cw\x00\x00\x03\xe8\x00\x01";
        check(&json("zlib", bomb), "undecodable body: compressed with zlib: it is over 20 bytes when decompressed");
        let mut odd = json("", BODY);
        odd.headers.set("compression", HeaderValue::Int(1));
        check(&odd, "header `compression` is not a text");
    }
}

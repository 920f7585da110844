//! The form in which results are written, and in which values are read that do not say what they are.
//!
//! Messages say it themselves; see [`super::Codec`].

use std::sync::Arc;

use bytes::Bytes;

use crate::protocol::auth::{AuthError, Opened, Seal};
use crate::protocol::codec::{BodyError, Codec, Serializer, msgpack, pack, yaml};
use crate::protocol::content::{Json, Raw};

/// How results are written (Celery's `result_serializer`).
#[derive(Debug, Clone, Default)]
pub struct Format {
    pub serializer: Serializer,
    /// For what is signed.
    pub seal: Option<Arc<dyn Seal>>,
}

impl Format {
    /// JSON in this form.
    pub fn serialize(&self, json: Bytes) -> Result<Bytes, BodyError> {
        match self.serializer {
            Serializer::Json => Ok(json),
            Serializer::Yaml => Ok(yaml::from_json(Raw::parse_wrapped(&json)?).into()),
            Serializer::Msgpack => Ok(pack::from_json(Raw::parse_wrapped(&json)?)?.into()),
            Serializer::Auth => Ok(self.seal.as_deref().ok_or(AuthError::NotConfigured)?.seal(&json)?),
        }
    }

    /// A value that does not say how it was written: in this form, or else in any other.
    pub fn deserialize(&self, bytes: &Bytes) -> Result<Json, BodyError> {
        let own = deserialize(self.serializer, bytes.clone(), Codec::BODY_BYTES_MAX, self.seal.as_deref());
        // Nearly every text is YAML, so that comes last.
        let others = [Serializer::Json, Serializer::Msgpack, Serializer::Yaml].into_iter();
        let mut read = others
            .filter(|other| *other != self.serializer)
            .map(|other| deserialize(other, bytes.clone(), Codec::BODY_BYTES_MAX, None));
        match own {
            Ok(json) => Ok(json),
            // Who wants signatures believes nothing else.
            Err(error) if self.serializer == Serializer::Auth => Err(error),
            Err(error) => read.find_map(Result::ok).ok_or(error),
        }
    }

    /// The content type and the content encoding of what is written.
    pub fn content_type(&self) -> (&'static str, &'static str) {
        self.serializer.content_type()
    }
}

/// What a serializer wrote, as JSON.
pub(crate) fn deserialize(
    serializer: Serializer,
    bytes: Bytes,
    bytes_max: usize,
    seal: Option<&dyn Seal>,
) -> Result<Json, BodyError> {
    let text = match serializer {
        Serializer::Json => bytes,
        Serializer::Yaml => yaml::to_json(&bytes, bytes_max)?.into(),
        Serializer::Msgpack => msgpack::to_json(&bytes, bytes_max)?.into(),
        Serializer::Auth => {
            let Opened { content_type, body } = seal.ok_or(AuthError::NotConfigured)?.open(&bytes)?;
            return match Serializer::parse(&content_type) {
                Ok(Serializer::Auth) => Err(AuthError::Form("what was signed is signed again").into()),
                Ok(inner) => deserialize(inner, body, bytes_max, None),
                Err(error) => Err(BodyError::Signed(error)),
            };
        }
    };
    Ok(Json::parse_wrapped(text)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_read_in_whatever_form_it_is() {
        let json = Bytes::from_static(br#"{"a": [1, "b", null, 1.5]}"#);
        let formats = [Serializer::Json, Serializer::Yaml, Serializer::Msgpack]
            .map(|serializer| Format { serializer, seal: None });
        for writer in &formats {
            let written = writer.serialize(json.clone()).expect("it can be said");
            for reader in &formats {
                let read = reader.deserialize(&written).expect("it can be read");
                assert_eq!(read.bytes(), json, "{writer:?} {reader:?}");
            }
        }
    }
}

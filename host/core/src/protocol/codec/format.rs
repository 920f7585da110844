//! The form in which results are written, and in which values are read that do not say what they are.
//!
//! Messages say it themselves; see [`super::Codec`].

use bytes::Bytes;

use crate::protocol::codec::{BodyError, Codec, Serializer, msgpack, pack, yaml};
use crate::protocol::content::{Json, Raw};

/// How results are written (Celery's `result_serializer`).
#[derive(Debug, Clone, Default)]
pub struct Format {
    pub serializer: Serializer,
}

impl Format {
    /// JSON in this form.
    pub fn serialize(&self, json: Bytes) -> Result<Bytes, BodyError> {
        match self.serializer {
            Serializer::Json => Ok(json),
            Serializer::Yaml => Ok(yaml::from_json(Raw::parse_wrapped(&json)?).into()),
            Serializer::Msgpack => Ok(pack::from_json(Raw::parse_wrapped(&json)?)?.into()),
        }
    }

    /// A value that does not say how it was written: in this form, or else in any other.
    pub fn deserialize(&self, bytes: &Bytes) -> Result<Json, BodyError> {
        let own = deserialize(self.serializer, bytes.clone(), Codec::BODY_BYTES_MAX);
        // Nearly every text is YAML, so that comes last.
        let others = [Serializer::Json, Serializer::Msgpack, Serializer::Yaml].into_iter();
        let mut read = others
            .filter(|other| *other != self.serializer)
            .map(|other| deserialize(other, bytes.clone(), Codec::BODY_BYTES_MAX));
        match own {
            Ok(json) => Ok(json),
            Err(error) => read.find_map(Result::ok).ok_or(error),
        }
    }

    /// The content type and the content encoding of what is written.
    pub fn content_type(&self) -> (&'static str, &'static str) {
        self.serializer.content_type()
    }
}

/// What a serializer wrote, as JSON.
pub(crate) fn deserialize(serializer: Serializer, bytes: Bytes, bytes_max: usize) -> Result<Json, BodyError> {
    let text = match serializer {
        Serializer::Json => bytes,
        Serializer::Yaml => yaml::to_json(&bytes, bytes_max)?.into(),
        Serializer::Msgpack => msgpack::to_json(&bytes, bytes_max)?.into(),
    };
    Ok(Json::parse_wrapped(text)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_read_in_whatever_form_it_is() {
        let json = Bytes::from_static(br#"{"a": [1, "b", null, 1.5]}"#);
        let formats = [Serializer::Json, Serializer::Yaml, Serializer::Msgpack].map(|serializer| Format { serializer });
        for writer in &formats {
            let written = writer.serialize(json.clone()).expect("it can be said");
            for reader in &formats {
                let read = reader.deserialize(&written).expect("it can be read");
                assert_eq!(read.bytes(), json, "{writer:?} {reader:?}");
            }
        }
    }
}

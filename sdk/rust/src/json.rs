//! JSON text that is passed through as it is.
//!
//! Deliberately not parsed: a client's numbers of 300 digits, `NaN` and lone surrogates survive it.

use std::fmt;

use serde::de::{Deserialize, DeserializeOwned, Deserializer, Error as _};
use serde::ser::{Error as _, Serialize, SerializeStruct, Serializer};
use serde_json::value::RawValue;

use crate::lenient;

/// A JSON value in its original spelling, as a parameter, as a result, or inside either.
///
/// As a whole parameter or result it is passed on byte for byte, whatever it holds. As a field or element inside
/// another type it keeps numbers of any size and lone surrogates, but `NaN` and infinities there become `null`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Json(String);

impl Json {
    /// Takes text that is JSON as Python writes it. It is not checked here; the host checks results.
    pub fn from_text(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Writes a value as JSON.
    pub fn from_value(value: &impl Serialize) -> Result<Self, serde_json::Error> {
        serde_json::to_string(value).map(Self)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text, without copying it.
    pub fn into_string(self) -> String {
        self.0
    }

    /// Parses the text, leniently as arguments are parsed.
    pub fn parse<T: DeserializeOwned + 'static>(&self) -> Result<T, crate::TaskError> {
        lenient::parse(&self.0).map_err(|message| crate::TaskError::new("ValueError", message))
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer).map_err(D::Error::custom)?;
        Ok(Self(Box::<str>::from(raw).into_string()))
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // What RawValue does; its constructor would refuse the odd tokens that this type is for.
        const TOKEN: &str = "$serde_json::private::RawValue";
        let mut raw = serializer.serialize_struct(TOKEN, 1).map_err(S::Error::custom)?;
        raw.serialize_field(TOKEN, &self.0)?;
        raw.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_of_300_digits_survives_inside_other_types() {
        let text = format!("[{},\"\\ud800\"]", "7".repeat(300));
        let values: Vec<Json> = serde_json::from_str(&text).expect("is JSON");
        assert_eq!(serde_json::to_string(&values).expect("is JSON"), text);
    }

    #[test]
    fn odd_tokens_are_written_as_they_are() {
        assert_eq!(serde_json::to_string(&vec![Json::from_text("NaN")]).expect("is written"), "[NaN]");
    }
}

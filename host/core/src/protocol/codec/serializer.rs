//! The serializers that a message may name, under kombu's names and mime types
//! (kombu/serialization.py).

/// How a body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Serializer {
    #[default]
    Json,
    Yaml,
    Msgpack,
    /// Any of them, signed.
    Auth,
}

/// Why a name is not that of a serializer to accept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SerializerError {
    #[error("pickle runs code while it is read and is never accepted: set `task_serializer = 'json'` in the clients")]
    Pickle,
    #[error("`{0}` is not a serializer that this host reads: json, yaml, msgpack and auth are")]
    Unknown(String),
}

impl Serializer {
    /// The serializer of that name or mime type, in any case.
    pub fn parse(name: &str) -> Result<Self, SerializerError> {
        let is = |names: &[&str]| names.iter().any(|known| known.eq_ignore_ascii_case(name));
        if is(&["application/json", "json", "text/json"]) {
            return Ok(Self::Json);
        }
        if is(&["application/x-yaml", "yaml", "application/yaml"]) {
            return Ok(Self::Yaml);
        }
        if is(&["application/x-msgpack", "msgpack", "application/msgpack"]) {
            return Ok(Self::Msgpack);
        }
        // kombu's plain bytes have this type as well, and are no body of a task.
        if is(&["application/data", "auth"]) {
            return Ok(Self::Auth);
        }
        if is(&["application/x-python-serialize", "pickle"]) {
            return Err(SerializerError::Pickle);
        }
        Err(SerializerError::Unknown(name.to_owned()))
    }

    /// kombu's content type and content encoding.
    pub fn content_type(self) -> (&'static str, &'static str) {
        match self {
            Self::Json => ("application/json", "utf-8"),
            Self::Yaml => ("application/x-yaml", "utf-8"),
            Self::Msgpack => ("application/x-msgpack", "binary"),
            Self::Auth => ("application/data", "utf-8"),
        }
    }

    /// kombu's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Yaml => "yaml",
            Self::Msgpack => "msgpack",
            Self::Auth => "auth",
        }
    }
}

//! Concurrency limits: how many attempts of a task may run at a time, counted for each value of a key.
//!
//! Celery has nothing like it. Only finds the key of a request; who gets the next turn is decided in the
//! dispatcher.

use crate::message::HeaderValue;
use crate::protocol::content::{Json, Kind};
use crate::request::Request;

/// Where in a request the key stands, such as `kwargs.tenant` or `args.0.id`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPath {
    root: Root,
    steps: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Root {
    Args,
    Kwargs,
    Headers,
}

/// Why a text is not the path of a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a path such as `kwargs.tenant`, `args.0` or `headers.tenant`")]
pub struct KeyPathError(String);

impl KeyPath {
    /// Reads `args`, `kwargs` or `headers`, then at least one name or index, with dots between.
    pub fn parse(text: &str) -> Result<Self, KeyPathError> {
        let error = || KeyPathError(text.to_owned());
        let (root, rest) = text.split_once('.').ok_or_else(error)?;
        let root = match root {
            "args" => Root::Args,
            "kwargs" => Root::Kwargs,
            "headers" => Root::Headers,
            _ => return Err(error()),
        };
        let steps: Vec<String> = rest.split('.').map(str::to_owned).collect();
        let index_first = root != Root::Args || steps[0].parse::<usize>().is_ok();
        let header_alone = root != Root::Headers || steps.len() == 1;
        if steps.iter().any(String::is_empty) || !index_first || !header_alone {
            return Err(error());
        }
        Ok(Self { root, steps })
    }

    /// The key of a request: a text as it is, anything else as JSON. Requests without one share the
    /// empty key.
    pub fn find(&self, request: &Request) -> Box<str> {
        let found = match self.root {
            Root::Args => walk(request.args.clone(), &self.steps),
            Root::Kwargs => walk(request.kwargs.clone(), &self.steps),
            Root::Headers => return header(request.message.headers.get(&self.steps[0])),
        };
        let Some(value) = found.filter(|value| !value.is_null()) else { return Box::default() };
        match value.text_lossy() {
            Some(text) => text.into(),
            None => value.as_str().into(),
        }
    }
}

impl std::fmt::Display for KeyPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let root = match self.root {
            Root::Args => "args",
            Root::Kwargs => "kwargs",
            Root::Headers => "headers",
        };
        write!(f, "{root}.{}", self.steps.join("."))
    }
}

fn walk(mut value: Json, steps: &[String]) -> Option<Json> {
    for step in steps {
        let next = match value.kind() {
            Kind::List => value.elements().nth(step.parse().ok()?)?,
            Kind::Map => value.get(step)?,
            _ => return None,
        };
        value = next;
    }
    Some(value)
}

fn header(value: Option<&HeaderValue>) -> Box<str> {
    match value {
        None | Some(HeaderValue::Null) => Box::default(),
        Some(HeaderValue::Text(text)) => text.as_str().into(),
        Some(other) => Json::of(other).as_str().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatcher::fixture::request;

    fn key(path: &str) -> String {
        let mut request = request("tasks.add", "a");
        request.args = Json::parse(r#"["x", {"id": 7, "deep": [1, [2]]}]"#).expect("JSON");
        request.kwargs = Json::parse(r#"{"tenant": "acme", "none": null, "a": {"b": true}}"#).expect("JSON");
        request.message.headers.set("tenant", HeaderValue::Text("eu".to_owned()));
        request.message.headers.set("shard", HeaderValue::Int(3));
        KeyPath::parse(path).expect("a path").find(&request).into()
    }

    #[test]
    fn a_key_is_found_where_the_path_says() {
        assert_eq!(key("kwargs.tenant"), "acme");
        assert_eq!(key("kwargs.a.b"), "true");
        assert_eq!(key("args.0"), "x");
        assert_eq!(key("args.1.id"), "7");
        assert_eq!(key("args.1.deep.1"), "[2]");
        assert_eq!(key("headers.tenant"), "eu");
        assert_eq!(key("headers.shard"), "3");
    }

    #[test]
    fn requests_without_the_key_share_the_empty_one() {
        for path in ["kwargs.nosuch", "kwargs.none", "kwargs.tenant.deeper", "args.9", "args.1.nosuch", "headers.no"] {
            assert_eq!(key(path), "", "{path}");
        }
    }

    #[test]
    fn a_path_names_its_root_and_at_least_one_step() {
        for bad in ["", "kwargs", "kwargs.", "kwargs..a", "tenant", "args.x", "headers.a.b", "id.x"] {
            assert_eq!(KeyPath::parse(bad), Err(KeyPathError(bad.to_owned())), "{bad}");
        }
        for good in ["kwargs.tenant", "args.0.id", "headers.tenant"] {
            assert_eq!(KeyPath::parse(good).expect("a path").to_string(), good);
        }
    }
}

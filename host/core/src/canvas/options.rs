//! The options of a signature, as they came and as signatures around it change them.
//!
//! What each of them means is known where a message is made of them ([`crate::signature`]).

use crate::protocol::content::{Json, Kind};
use crate::signature::SignatureError;

use super::links::{Link, Terms};

/// Options that a signature keeps against whatever is given: others wait for what they lead to
/// (`Signature._IMMUTABLE_OPTIONS`).
const KEPT: [&str; 2] = ["group_id", "stamped_headers"];

/// Options in order: few, so looked through.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Options(Vec<(String, Value)>);

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Json(Json),
    /// Signatures that hang on this one.
    Links(Vec<Link>),
}

impl Options {
    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// The value as JSON, if there is one and it is not null.
    pub(super) fn json(&self, key: &str) -> Option<Json> {
        self.get(key).map(Value::to_json).filter(|value| !value.is_null())
    }

    /// The value, if it is a text with something in it.
    pub(super) fn text(&self, key: &str) -> Option<String> {
        match self.get(key)? {
            Value::Json(json) => json.as_text().filter(|text| !text.is_empty()).map(|text| text.into_owned()),
            Value::Links(_) => None,
        }
    }

    pub(super) fn set(&mut self, key: &str, value: Value) {
        match self.0.iter_mut().find(|(name, _)| name == key) {
            Some((_, old)) => *old = value,
            None => self.0.push((key.to_owned(), value)),
        }
    }

    pub(super) fn set_json(&mut self, key: &str, value: Json) {
        self.set(key, Value::Json(value));
    }

    pub(super) fn set_text(&mut self, key: &str, text: &str) {
        self.set_json(key, Json::text(text));
    }

    pub(super) fn set_default(&mut self, key: &str, value: Option<&str>) {
        if !self.has(key) {
            self.set_json(key, value.map_or(Json::null(), Json::text));
        }
    }

    pub(super) fn take(&mut self, key: &str) -> Option<Value> {
        let at = self.0.iter().position(|(name, _)| name == key)?;
        Some(self.0.remove(at).1)
    }

    /// Takes a value away; null counts as none.
    pub(super) fn take_json(&mut self, key: &str) -> Option<Json> {
        self.take(key).map(|value| value.to_json()).filter(|value| !value.is_null())
    }

    pub(super) fn take_text(&mut self, key: &str) -> Option<String> {
        self.take_json(key)?.as_text().filter(|text| !text.is_empty()).map(|text| text.into_owned())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// All of the others, over ours (`dict.update`).
    pub(super) fn update(&mut self, others: &Self) {
        for (key, value) in &others.0 {
            self.set(key, value.clone());
        }
    }

    /// Without those for which it says no.
    pub(super) fn filtered(&self, keep: impl Fn(&str, &Value) -> bool) -> Self {
        Self(self.0.iter().filter(|(key, value)| keep(key, value)).cloned().collect())
    }

    /// What `apply_async` drops of what it is given.
    pub(super) fn without_nulls(&self) -> Self {
        self.filtered(|_, value| !value.is_null())
    }

    /// Ours, and of the others what does not change an option that is kept (`Signature._merge`).
    pub(super) fn merged(&self, given: &Self) -> Self {
        let stamps = self.json("stamped_headers");
        let is_stamp = |key: &str| {
            stamps.iter().flat_map(|names| names.elements()).any(|name| name.as_text().is_some_and(|name| name == key))
        };
        self.merged_but(given, |key| KEPT.contains(&key) || is_stamp(key))
    }

    /// The same for a group, which knows of no stamps (`group._freeze_gid`).
    pub(super) fn merged_in_group(&self, given: &Self) -> Self {
        self.merged_but(given, |key| KEPT.contains(&key))
    }

    fn merged_but(&self, given: &Self, kept: impl Fn(&str) -> bool) -> Self {
        let mut merged = self.clone();
        for (key, value) in &given.0 {
            if !(self.has(key) && kept(key)) {
                merged.set(key, value.clone());
            }
        }
        merged
    }

    /// The signatures under `key`: one, or several.
    pub(super) fn links(&self, key: &str) -> Vec<Link> {
        self.get(key).map_or_else(Vec::new, Value::links)
    }

    /// `append_to_list_option`: what is there already is not added once more.
    pub(super) fn append_link(&mut self, key: &str, link: Link, terms: &Terms) -> Result<(), SignatureError> {
        let mut links = match self.take(key) {
            Some(Value::Links(links)) => links,
            other => other.map_or_else(Vec::new, |value| value.links()),
        };
        terms.charge(links.len(), &link)?;
        if !links.contains(&link) {
            links.push(link);
        }
        self.set(key, Value::Links(links));
        Ok(())
    }

    /// `extend_list_option`.
    pub(super) fn extend_links(&mut self, key: &str, more: Vec<Link>) {
        let mut links = self.links(key);
        links.extend(more);
        self.set(key, Value::Links(links));
    }

    pub(super) fn to_json(&self) -> Json {
        Json::object(self.iter().map(|(key, value)| (key, value.to_json())))
    }
}

impl FromIterator<(String, Value)> for Options {
    /// Of equal keys the last counts, as in Python.
    fn from_iter<T: IntoIterator<Item = (String, Value)>>(all: T) -> Self {
        let mut options = Self::default();
        for (key, value) in all {
            options.set(&key, value);
        }
        options
    }
}

impl Value {
    pub(super) fn is_null(&self) -> bool {
        matches!(self, Self::Json(json) if json.is_null())
    }

    pub(super) fn to_json(&self) -> Json {
        match self {
            Self::Json(json) => json.clone(),
            Self::Links(links) => Json::array(links.iter().map(|link| &link.json)),
        }
    }

    pub(super) fn links(&self) -> Vec<Link> {
        match self {
            Self::Links(links) => links.clone(),
            Self::Json(json) => match json.kind() {
                Kind::List => json.elements().map(Link::raw).collect(),
                Kind::Null => Vec::new(),
                _ => vec![Link::raw(json.clone())],
            },
        }
    }
}

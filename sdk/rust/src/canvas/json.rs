//! A signature as Celery's map, and back.
//!
//! Cuts texts and does not parse them, so arguments keep every number and every odd token that they have.

use serde::de::{Deserialize, Deserializer, Error as _};
use serde::ser::{Error as _, Serialize, Serializer};
use serde_json::Value;

use crate::elements;
use crate::json::Json;
use crate::lenient;

use super::{Kind, Shape, Signature};

impl Signature {
    /// Celery's map.
    pub(crate) fn to_json(&self) -> Result<Json, String> {
        let mut text = String::new();
        self.write(&mut text)?;
        Ok(Json::from_text(text))
    }

    /// Reads Celery's map; why it is none.
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        let mut map = Map::read(text).ok_or("not a signature: no JSON object")?;
        let task = map.take("task").and_then(|task| lenient::parse::<String>(task.as_str()).ok());
        let task = task.filter(|task| !task.is_empty()).ok_or("not a signature: it names no task")?;
        let kind = match map.take("subtask_type").filter(|name| name.as_str() != "null") {
            None => Kind::Task,
            Some(name) => kind(&name).ok_or_else(|| format!("a signature of an unknown kind: {name}"))?,
        };
        let kwargs = map.take("kwargs").unwrap_or(Json::from_text("{}"));
        let mut signature = Self::of(task, shape(kind, kwargs)?);
        if let Some(args) = map.take("args") {
            elements::of_array(args.as_str(), |_| ()).map_err(|_| "a signature whose args are no array")?;
            signature.args = args;
        }
        if let Some(options) = map.take("options") {
            let options = Map::read(options.as_str()).ok_or("a signature whose options are no object")?;
            for (name, value) in options.0 {
                match name.as_str() {
                    "link" => signature.links = attached(&value)?,
                    "link_error" => signature.errbacks = attached(&value)?,
                    _ => signature.options.push((name, value)),
                }
            }
        }
        signature.immutable = map.take("immutable").is_some_and(|flag| flag.as_str() == "true");
        signature.others = map.0;
        Ok(signature)
    }

    fn write(&self, text: &mut String) -> Result<(), String> {
        if let Some(why) = &self.broken {
            return Err(format!("a signature of {}: {why}", self.task));
        }
        let task = Value::from(self.task.as_str());
        text.push_str(&format!("{{\"task\": {task}, \"args\": {}, \"kwargs\": ", self.args));
        self.shape.write(text)?;
        text.push_str(", \"options\": {");
        let mut is_first = true;
        for (name, value) in &self.options {
            member(text, &mut is_first, name);
            text.push_str(value.as_str());
        }
        for (name, attached) in [("link", &self.links), ("link_error", &self.errbacks)] {
            if !attached.is_empty() {
                member(text, &mut is_first, name);
                list(text, attached)?;
            }
        }
        let kind = self.kind().names().map_or_else(|| "null".to_owned(), |(_, name)| format!("\"{name}\""));
        text.push_str(&format!("}}, \"subtask_type\": {kind}, \"immutable\": {}", self.immutable));
        let mut is_first = false;
        for (name, value) in &self.others {
            member(text, &mut is_first, name);
            text.push_str(value.as_str());
        }
        text.push('}');
        Ok(())
    }
}

impl Shape {
    /// The keyword arguments, which hold the parts of a canvas.
    fn write(&self, text: &mut String) -> Result<(), String> {
        let over = |text: &mut String, task: &Signature, it: &Json| {
            text.push_str("{\"task\": ");
            task.write(text)?;
            text.push_str(&format!(", \"it\": {it}"));
            Ok::<_, String>(())
        };
        match self {
            Self::Task { kwargs } => text.push_str(kwargs.as_str()),
            Self::Chain(tasks) | Self::Group(tasks) => {
                text.push_str("{\"tasks\": ");
                list(text, tasks)?;
                text.push('}');
            }
            Self::Chord { header, body, others } => {
                text.push_str("{\"header\": ");
                list(text, header)?;
                text.push_str(", \"body\": ");
                match body {
                    Some(body) => body.write(text)?,
                    None => text.push_str("null"),
                }
                let mut is_first = false;
                for (name, value) in others {
                    member(text, &mut is_first, name);
                    text.push_str(value.as_str());
                }
                text.push('}');
            }
            Self::Chunks { task, it, n } => {
                over(text, task, it)?;
                text.push_str(&format!(", \"n\": {n}}}"));
            }
            Self::Map { task, it } | Self::Starmap { task, it } => {
                over(text, task, it)?;
                text.push('}');
            }
        }
        Ok(())
    }
}

/// Signatures that hang on another: one, or a list of them.
pub(super) fn attached(json: &Json) -> Result<Vec<Signature>, String> {
    match json.as_str() {
        "null" => Ok(Vec::new()),
        text if text.starts_with('{') => Ok(vec![Signature::read(text)?]),
        _ => signatures(json),
    }
}

fn signatures(json: &Json) -> Result<Vec<Signature>, String> {
    let mut read = Vec::new();
    elements::of_array(json.as_str(), |text| read.push(Signature::read(text)))
        .map_err(|_| "what should be a list of signatures is no array")?;
    read.into_iter().collect()
}

fn kind(name: &Json) -> Option<Kind> {
    let name = lenient::parse::<String>(name.as_str()).ok()?;
    Kind::ALL.into_iter().find(|kind| kind.names().is_some_and(|(_, known)| known == name))
}

fn shape(kind: Kind, kwargs: Json) -> Result<Shape, String> {
    let mut map = Map::read(kwargs.as_str()).ok_or("a signature whose kwargs are no object")?;
    let mut part = |name: &str| map.take(name).ok_or_else(|| format!("a {} without {name}", describe(kind)));
    let one = |json: Json| Signature::read(json.as_str()).map(Box::new);
    let it = |json: Json| match json.as_str().starts_with('[') {
        true => Ok(json),
        false => Err(format!("a {} over no list", describe(kind))),
    };
    Ok(match kind {
        Kind::Task => Shape::Task { kwargs },
        Kind::Chain => Shape::Chain(signatures(&part("tasks")?)?),
        Kind::Group => Shape::Group(signatures(&part("tasks")?)?),
        Kind::Chord => {
            let header = part("header")?;
            // What a client has frozen has a group there.
            let header = match header.as_str().starts_with('{') {
                true => Signature::read(header.as_str())?.into_tasks(),
                false => signatures(&header)?,
            };
            let body = map.take("body").filter(|body| body.as_str() != "null").map(one).transpose()?;
            Shape::Chord { header, body, others: map.0 }
        }
        Kind::Chunks => Shape::Chunks { task: one(part("task")?)?, it: it(part("it")?)?, n: part("n")? },
        Kind::Map => Shape::Map { task: one(part("task")?)?, it: it(part("it")?)? },
        Kind::Starmap => Shape::Starmap { task: one(part("task")?)?, it: it(part("it")?)? },
    })
}

fn describe(kind: Kind) -> &'static str {
    kind.names().map_or("task", |(_, name)| name)
}

fn member(text: &mut String, is_first: &mut bool, name: &str) {
    if !std::mem::take(is_first) {
        text.push_str(", ");
    }
    text.push_str(&format!("{}: ", Value::from(name)));
}

fn list(text: &mut String, signatures: &[Signature]) -> Result<(), String> {
    text.push('[');
    for (index, signature) in signatures.iter().enumerate() {
        if index > 0 {
            text.push_str(", ");
        }
        signature.write(text)?;
    }
    text.push(']');
    Ok(())
}

/// The members of an object, in order; of two with the same name the last counts.
struct Map(Vec<(String, Json)>);

impl Map {
    fn read(text: &str) -> Option<Self> {
        let mut members = Vec::new();
        elements::of_object(text, |name, value| members.push((name.into_owned(), Json::from_text(value)))).ok()?;
        Some(Self(members))
    }

    fn take(&mut self, name: &str) -> Option<Json> {
        let at = self.0.iter().rposition(|(known, _)| known == name)?;
        let (_, value) = self.0.remove(at);
        self.0.retain(|(known, _)| known != name);
        Some(value)
    }
}

impl<'de> Deserialize<'de> for Signature {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::read(Json::deserialize(deserializer)?.as_str()).map_err(D::Error::custom)
    }
}

impl Serialize for Signature {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_json().map_err(S::Error::custom)?.serialize(serializer)
    }
}

//! The parameters of a Python function, from a JSON Schema of a task's arguments.
//!
//! What the schema does not say, or says in a way that is not understood here, is `Any`.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::{Map, Value};

use super::names;

/// Deeper types are `Any`.
const DEPTH_MAX: usize = 8;
/// Longer unions are `Any`.
const UNION_MAX: usize = 16;
const ANY: &str = "_Any";

/// How a function is declared.
pub(super) struct Signature {
    /// As they stand between the parentheses.
    pub(super) parameters: Vec<String>,
}

/// The part of a schema that says which arguments there are.
#[derive(Deserialize)]
struct WireSchema {
    properties: Properties,
    #[serde(default)]
    required: Vec<String>,
    #[serde(default, rename = "additionalProperties")]
    additional: Option<Value>,
    #[serde(default, rename = "$defs")]
    definitions: Map<String, Value>,
    /// How many stand before further positional arguments; none are taken if this is none.
    #[serde(default, rename = "x-args")]
    args: Option<usize>,
}

/// In the order in which they were written, since that is the order of positional arguments.
struct Properties(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Properties {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Properties;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Properties, A::Error> {
                let mut members: Vec<(String, Value)> = Vec::new();
                while let Some((name, value)) = map.next_entry()? {
                    members.retain(|(earlier, _)| *earlier != name);
                    members.push((name, value));
                }
                Ok(Properties(members))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

impl Signature {
    /// That of a task with this schema. Without one that is understood, anything goes.
    pub(super) fn of(schema: Option<&str>) -> Self {
        let schema = schema.and_then(|text| serde_json::from_str::<WireSchema>(text).ok());
        // A function whose parameter cannot be named in Python can take it only in a dictionary.
        match schema.filter(|schema| schema.properties.0.iter().all(|(name, _)| names::is_parameter(name))) {
            Some(schema) => Self { parameters: parameters(&schema) },
            None => Self { parameters: vec![format!("*args: {ANY}"), format!("**kwargs: {ANY}")] },
        }
    }
}

fn parameters(schema: &WireSchema) -> Vec<String> {
    let mut parameters = Vec::new();
    let (mut optional_seen, mut by_name_only) = (false, false);
    let taken = |name: &str| schema.properties.0.iter().any(|(property, _)| property == name);
    let free = |names: [&'static str; 3]| names.into_iter().find(|name| !taken(name)).unwrap_or("_rest");
    let args = format!("*{}: {ANY}", free(["args", "others", "others_"]));
    for (index, (name, property)) in schema.properties.0.iter().enumerate() {
        if schema.args == Some(index) {
            by_name_only = true;
            parameters.push(args.clone());
        }
        let hint = hint(property, &schema.definitions, DEPTH_MAX);
        if schema.required.contains(name) {
            // Python has no place for it behind one that may be left out, other than by its name.
            if optional_seen && !by_name_only {
                by_name_only = true;
                parameters.push("*".to_owned());
            }
            parameters.push(format!("{name}: {hint}"));
            continue;
        }
        optional_seen = true;
        let default = property.get("default").filter(|value| fits(value, &hint)).and_then(literal);
        parameters.push(format!("{name}: {hint} = {}", default.as_deref().unwrap_or("_OWN")));
    }
    if schema.args.is_some_and(|args| args >= schema.properties.0.len()) && !by_name_only {
        parameters.push(args);
    }
    if schema.additional != Some(Value::Bool(false)) {
        parameters.push(format!("**{}: {ANY}", free(["kwargs", "named", "named_"])));
    }
    parameters
}

/// The type hint of a value with this schema.
fn hint(schema: &Value, definitions: &Map<String, Value>, depth: usize) -> String {
    let Some(depth) = depth.checked_sub(1) else { return ANY.to_owned() };
    let of = |schema: &Value| hint(schema, definitions, depth);
    if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
        let definition = reference.strip_prefix("#/$defs/").and_then(|name| definitions.get(name));
        return definition.map_or_else(|| ANY.to_owned(), of);
    }
    let constant = schema.get("const").map(|value| vec![value.clone()]);
    let values = schema.get("enum").and_then(Value::as_array).cloned();
    if let Some(values) = constant.or(values) {
        let is_literal = |value: &Value| value.is_string() || value.is_i64() || value.is_boolean() || value.is_null();
        let literals: Option<Vec<String>> =
            values.iter().map(|value| literal(value).filter(|_| is_literal(value))).collect();
        return match literals.filter(|literals| !literals.is_empty()) {
            Some(literals) => format!("_Literal[{}]", literals.join(", ")),
            None => ANY.to_owned(),
        };
    }
    if let Some(alternatives) = ["anyOf", "oneOf"].iter().find_map(|keyword| schema.get(keyword)?.as_array()) {
        return union(alternatives.iter().map(of).collect());
    }
    match schema.get("type") {
        Some(Value::String(name)) => typed(name, schema, of),
        Some(Value::Array(names)) => {
            union(names.iter().map(|name| typed(name.as_str().unwrap_or_default(), schema, of)).collect())
        }
        _ => ANY.to_owned(),
    }
}

fn typed(name: &str, schema: &Value, of: impl Fn(&Value) -> String) -> String {
    let part = |keyword: &str| schema.get(keyword).filter(|value| value.is_object()).map_or(ANY.to_owned(), &of);
    match name {
        "string" => "str".to_owned(),
        "integer" => "int".to_owned(),
        "number" => "float".to_owned(),
        "boolean" => "bool".to_owned(),
        "null" => "None".to_owned(),
        "array" => format!("list[{}]", part("items")),
        // As kombu writes them.
        "object" if schema.pointer("/properties/__type__").is_some() => "bytes".to_owned(),
        "object" => format!("dict[str, {}]", part("additionalProperties")),
        _ => ANY.to_owned(),
    }
}

fn union(hints: Vec<String>) -> String {
    let mut distinct: Vec<String> = Vec::new();
    for hint in hints {
        if !distinct.contains(&hint) {
            distinct.push(hint);
        }
    }
    if distinct.is_empty() || distinct.len() > UNION_MAX || distinct.iter().any(|hint| hint == ANY) {
        return ANY.to_owned();
    }
    distinct.join(" | ")
}

/// Whether a type checker takes it as a default for this type.
fn fits(value: &Value, hint: &str) -> bool {
    let of = |alternative: &str| match value {
        Value::Null => alternative == "None",
        Value::Bool(_) => alternative == "bool",
        Value::String(_) => alternative == "str",
        Value::Number(number) => alternative == "float" || (alternative == "int" && !number.is_f64()),
        Value::Array(_) | Value::Object(_) => false,
    };
    hint == ANY || hint.split(" | ").any(of)
}

/// A value in Python's words; none for what could be changed once it is there.
pub(super) fn literal(value: &Value) -> Option<String> {
    match value {
        Value::Null => Some("None".to_owned()),
        Value::Bool(true) => Some("True".to_owned()),
        Value::Bool(false) => Some("False".to_owned()),
        Value::Number(number) => Some(number.to_string()),
        Value::String(text) => Some(names::quoted(text)),
        Value::Array(_) | Value::Object(_) => None,
    }
}

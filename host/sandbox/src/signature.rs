//! A task's arguments in one line for people, from the JSON Schema that its plugin gives.
//!
//! Leaves out what does not fit a line. Clients that want to know exactly read the schema.

use taskhost_core::protocol::content::Kind;
use taskhost_core::{Json, TaskName};

/// Deeper types are `any`.
const DEPTH_MAX: usize = 4;
/// Longer enumerations and unions are cut.
const ALTERNATIVES_MAX: usize = 8;
/// Longer defaults are left out, in bytes.
const DEFAULT_BYTES_MAX: usize = 40;

/// `resize(url: string, width: integer = 100, *args)`; none, if the schema does not say which arguments there are.
pub(crate) fn of_schema(task: &TaskName, schema: &Json) -> Option<String> {
    let properties = schema.get("properties").filter(|it| it.kind() == Kind::Map)?;
    let required: Vec<String> = schema
        .get("required")
        .map(|it| it.elements().filter_map(|name| name.as_text().map(|name| name.into_owned())).collect())
        .unwrap_or_default();
    let before_more = schema.get("x-args").and_then(|count| usize::try_from(count.as_i64()?).ok());
    let mut parameters = Vec::new();
    for (index, (name, property)) in properties.members().enumerate() {
        if before_more == Some(index) {
            parameters.push("*args".to_owned());
        }
        let hint = hint(&property, DEPTH_MAX);
        let default = property.get("default").filter(|default| default.byte_len() <= DEFAULT_BYTES_MAX);
        parameters.push(match (default, required.iter().any(|it| *it == name)) {
            (_, true) => format!("{name}: {hint}"),
            (Some(default), false) => format!("{name}: {hint} = {default}"),
            (None, false) => format!("{name}: {hint} = .."),
        });
    }
    if before_more.is_some_and(|count| count >= properties.members().count()) {
        parameters.push("*args".to_owned());
    }
    if schema.get("additionalProperties").is_none_or(|it| it.as_bool() != Some(false)) {
        parameters.push("**kwargs".to_owned());
    }
    let function = task.as_str().rsplit('.').next().unwrap_or_default();
    Some(format!("{function}({})", parameters.join(", ")))
}

fn hint(schema: &Json, depth: usize) -> String {
    let any = || "any".to_owned();
    let Some(depth) = depth.checked_sub(1) else { return any() };
    if let Some(reference) = schema.get("$ref") {
        let name = reference.as_text().and_then(|text| text.rsplit('/').next().map(str::to_owned));
        return name.unwrap_or_else(any);
    }
    if let Some(value) = schema.get("const") {
        return value.to_string();
    }
    if let Some(values) = schema.get("enum") {
        return alternatives(values.elements().map(|value| value.to_string()));
    }
    if let Some(schemas) = ["anyOf", "oneOf"].iter().find_map(|keyword| schema.get(keyword)) {
        return alternatives(schemas.elements().map(|schema| hint(&schema, depth)));
    }
    let Some(kind) = schema.get("type") else { return any() };
    if kind.kind() == Kind::List {
        return alternatives(kind.elements().filter_map(|name| name.as_text().map(|name| name.into_owned())));
    }
    match (kind.as_text().as_deref(), schema.get("items")) {
        (Some("array"), Some(items)) if items.kind() == Kind::Map => format!("array<{}>", hint(&items, depth)),
        (Some(name), _) => name.to_owned(),
        (None, _) => any(),
    }
}

fn alternatives(all: impl Iterator<Item = String>) -> String {
    let mut shown: Vec<String> = Vec::new();
    for one in all {
        if !shown.contains(&one) {
            shown.push(one);
        }
    }
    if shown.len() > ALTERNATIVES_MAX {
        shown.truncate(ALTERNATIVES_MAX);
        shown.push("..".to_owned());
    }
    shown.join(" | ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(schema: &'static str, expected: Option<&str>) {
        let task = TaskName::parse("images.resize").expect("a name");
        assert_eq!(of_schema(&task, &Json::parse(schema).expect("JSON")).as_deref(), expected);
    }

    #[test]
    fn a_schema_becomes_a_line() {
        check(
            r#"{"properties": {"url": {"type": "string"}, "width": {"type": "integer", "default": 100}, "fit": {"enum": ["a", "b"]},
                "title": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": null}}, "required": ["url"],
                "additionalProperties": false}"#,
            Some(r#"resize(url: string, width: integer = 100, fit: "a" | "b" = .., title: string | null = null)"#),
        );
        check(
            r##"{"properties": {"a": {"$ref": "#/$defs/size"}, "b": {"type": ["integer", "null"]}, "c": {"type": "array",
                "items": {"type": "number"}}}, "required": ["a", "b", "c"], "x-args": 1}"##,
            Some("resize(a: size, *args, b: integer | null, c: array<number>, **kwargs)"),
        );
        check(r#"{"properties": {}, "x-args": 0, "additionalProperties": false}"#, Some("resize(*args)"));
        check("{}", None);
        check("true", None);
    }
}

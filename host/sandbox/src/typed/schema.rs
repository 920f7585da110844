//! The JSON Schema of a function's arguments, and of a value of any WIT type in them.
//!
//! In the form that `describe` uses: a property for each argument, in the order in which they are given by position.

use taskhost_core::Json;
use taskhost_core::protocol::content::MapWriter;

use crate::typed::Parameter;
use crate::typed::shape::{Case, Entry, Integer, Kind, Name, Shape};

/// Of all arguments.
pub(super) fn of_arguments(parameters: &[Parameter]) -> Json {
    let mut properties = MapWriter::new();
    for parameter in parameters {
        let schema = match &parameter.shape.kind {
            Kind::Option(payload) => option(payload, true),
            _ => of_value(&parameter.shape),
        };
        properties.put(&parameter.name.snake, &schema);
    }
    let required = parameters.iter().filter(|parameter| parameter.is_required());
    let mut schema = MapWriter::new();
    schema
        .put("type", "object")
        .put("properties", &properties.finish())
        .put("required", &Json::array(required.map(|parameter| parameter.name.snake.as_str())))
        .put("additionalProperties", &false);
    schema.finish()
}

fn of_value(shape: &Shape) -> Json {
    match &shape.kind {
        Kind::Bool => typed("boolean").finish(),
        Kind::Integer(integer) => of_integer(integer),
        Kind::F32 | Kind::F64 => typed("number").finish(),
        Kind::Char => {
            let mut char = typed("string");
            char.put("minLength", &1u32).put("maxLength", &1u32);
            char.finish()
        }
        Kind::Text => typed("string").finish(),
        Kind::Bytes => {
            let mut numbers = typed("array");
            numbers.put("items", &of_integer(&Integer { name: "u8", min: 0, max: u8::MAX.into() }));
            any_of([numbers.finish(), as_kombu_writes_bytes()])
        }
        Kind::List(element) => {
            let mut list = typed("array");
            list.put("items", &of_value(element));
            list.finish()
        }
        Kind::Map(entry) => of_map(entry),
        Kind::Record(fields) => object(
            fields.iter().map(|field| {
                let schema = of_value(&field.shape);
                (field.name.snake.as_str(), schema, !field.shape.is_option())
            }),
            shape,
        ),
        Kind::Tuple(items) => {
            let items: Vec<Json> = items.iter().map(|item| of_value(&item.shape)).collect();
            tuple(&items)
        }
        Kind::Variant(variant) => of_cases(&variant.cases, shape),
        Kind::Option(payload) => option(payload, false),
        Kind::Flags(names) => {
            let mut flags = titled(typed("array"), shape);
            flags.put("items", &one_of_names(names.iter())).put("uniqueItems", &true);
            flags.finish()
        }
    }
}

fn typed(name: &str) -> MapWriter {
    let mut schema = MapWriter::new();
    schema.put("type", name);
    schema
}

/// With the name that the interface has for it.
fn titled(mut schema: MapWriter, shape: &Shape) -> MapWriter {
    schema.put_some("title", shape.name.as_deref());
    schema
}

fn of_integer(integer: &Integer) -> Json {
    let number = |number: i128| Json::parse(number.to_string()).expect("a number is JSON");
    let mut schema = typed("integer");
    schema.put("minimum", &number(integer.min)).put("maximum", &number(integer.max));
    schema.finish()
}

fn any_of(schemas: impl IntoIterator<Item = Json>) -> Json {
    let mut schema = MapWriter::new();
    schema.put("anyOf", &Json::array(schemas));
    schema.finish()
}

fn tuple(items: &[Json]) -> Json {
    let mut schema = typed("array");
    schema
        .put("prefixItems", &Json::array(items))
        .put("items", &false)
        .put("minItems", &items.len())
        .put("maxItems", &items.len());
    schema.finish()
}

fn members<'a>(mut schema: MapWriter, members: impl Iterator<Item = (&'a str, Json, bool)>) -> Json {
    let (mut properties, mut required) = (MapWriter::new(), Vec::new());
    for (name, schema, is_required) in members {
        properties.put(name, &schema);
        if is_required {
            required.push(name);
        }
    }
    schema
        .put("properties", &properties.finish())
        .put("required", &Json::array(required))
        .put("additionalProperties", &false);
    schema.finish()
}

fn object<'a>(fields: impl Iterator<Item = (&'a str, Json, bool)>, shape: &Shape) -> Json {
    members(titled(typed("object"), shape), fields)
}

fn as_kombu_writes_bytes() -> Json {
    let kind = one_of(["base64", "bytes"]);
    members(typed("object"), [("__type__", kind, true), ("__value__", typed("string").finish(), true)].into_iter())
}

fn of_map(entry: &Entry) -> Json {
    let value = of_value(&entry.value);
    if matches!(entry.key.kind, Kind::Text) {
        let mut map = typed("object");
        map.put("additionalProperties", &value);
        return map.finish();
    }
    let mut pairs = typed("array");
    pairs.put("items", &tuple(&[of_value(&entry.key), value]));
    pairs.finish()
}

fn option(payload: &Shape, is_argument: bool) -> Json {
    let some = match payload.is_option() {
        true => members(typed("object"), [("some", of_value(payload), true)].into_iter()),
        false => of_value(payload),
    };
    let mut schema = MapWriter::new();
    schema.put("anyOf", &Json::array([some, typed("null").finish()]));
    if is_argument {
        schema.put("default", &Json::null());
    }
    schema.finish()
}

fn of_cases(cases: &[Case], shape: &Shape) -> Json {
    let names: Vec<&Name> = cases.iter().filter(|case| case.payload.is_none()).map(|case| &case.name).collect();
    let mut alternatives = Vec::new();
    if !names.is_empty() {
        alternatives.push(one_of_names(names.iter().copied()));
    }
    for Case { name, payload } in cases {
        if let Some(payload) = payload {
            alternatives.push(members(typed("object"), [(name.snake.as_str(), of_value(payload), true)].into_iter()));
        }
    }
    let mut schema = titled(MapWriter::new(), shape);
    if names.len() == cases.len() {
        schema.put("enum", &Json::array(names.iter().map(|name| name.snake.as_str())));
    } else {
        schema.put("anyOf", &Json::array(alternatives));
    }
    schema.finish()
}

fn one_of_names<'a>(names: impl Iterator<Item = &'a Name>) -> Json {
    one_of(names.map(|name| name.snake.as_str()))
}

fn one_of<'a>(names: impl IntoIterator<Item = &'a str>) -> Json {
    let mut schema = MapWriter::new();
    schema.put("enum", &Json::array(names));
    schema.finish()
}

//! The arguments of a task as a JSON Schema, for clients that want to know them.
//!
//! Reads types as they are written. One that it does not know may be anything: serde alone knows how it is parsed.

use syn::{Expr, ExprUnary, GenericArgument, Lit, PathArguments, PathSegment, Type, UnOp};

use crate::options::quote_json;
use crate::parameter::{Argument, Missing, Parameter};

/// Deeper types are anything.
const DEPTH_MAX: usize = 16;

/// An object with a property for each argument, in the order in which they are given by position. Schemas have no word
/// for further positional ones: `x-args` says how many properties stand before them. Those after are given by name.
pub(crate) fn of(parameters: &[Parameter]) -> String {
    let mut properties = Vec::with_capacity(parameters.len());
    let mut required = Vec::new();
    let (mut args, mut kwargs) = (String::new(), "false".to_owned());
    for parameter in parameters {
        let Argument { name, ty, missing, .. } = match parameter {
            Parameter::Context => continue,
            Parameter::Argument(argument) => &**argument,
            Parameter::Args(..) => {
                args = format!(",\"x-args\":{}", properties.len());
                continue;
            }
            Parameter::Kwargs(_, ty) => {
                let map = schema(ty, DEPTH_MAX);
                let values = map.into_iter().find(|(keyword, _)| *keyword == "additionalProperties");
                kwargs = values.map_or_else(|| "true".to_owned(), |(_, schema)| schema);
                continue;
            }
        };
        let mut schema = schema(ty, DEPTH_MAX);
        let default = match missing {
            Missing::Refused => {
                required.push(quote_json(name));
                None
            }
            Missing::Default if is(ty, "Option") => Some("null".to_owned()),
            Missing::Default => None,
            Missing::Value(value) => literal(value),
        };
        if let Some(default) = default {
            schema.push(("default", default));
        }
        properties.push(format!("{}:{}", quote_json(name), write(&schema)));
    }
    let (properties, required) = (properties.join(","), required.join(","));
    format!(
        "{{\"type\":\"object\",\"properties\":{{{properties}}},\"required\":[{required}],\"additionalProperties\":{kwargs}{args}}}"
    )
}

/// Keywords with their values as JSON.
type Schema = Vec<(&'static str, String)>;

fn write(schema: &Schema) -> String {
    let members: Vec<String> = schema.iter().map(|(keyword, value)| format!("\"{keyword}\":{value}")).collect();
    format!("{{{}}}", members.join(","))
}

fn schema(ty: &Type, depth: usize) -> Schema {
    let Some(depth) = depth.checked_sub(1) else { return Schema::new() };
    let of = |name: &str| vec![("type", format!("\"{name}\""))];
    let list = |element: &Type| [of("array"), vec![("items", write(&schema(element, depth)))]].concat();
    match ty {
        Type::Path(path) => match path.path.segments.last() {
            Some(segment) => named(segment, depth),
            None => Schema::new(),
        },
        Type::Reference(reference) => schema(&reference.elem, depth),
        Type::Slice(slice) => list(&slice.elem),
        Type::Array(array) => list(&array.elem),
        Type::Paren(inner) => schema(&inner.elem, depth),
        Type::Group(inner) => schema(&inner.elem, depth),
        Type::Tuple(tuple) if tuple.elems.is_empty() => of("null"),
        Type::Tuple(tuple) => {
            let elements: Vec<String> = tuple.elems.iter().map(|element| write(&schema(element, depth))).collect();
            let elements = format!("[{}]", elements.join(","));
            [of("array"), vec![("prefixItems", elements), ("items", "false".to_owned())]].concat()
        }
        _ => Schema::new(),
    }
}

fn named(segment: &PathSegment, depth: usize) -> Schema {
    let of = |name: &str| vec![("type", format!("\"{name}\""))];
    let types = parameters(segment);
    let part = |index: usize| types.get(index).map(|ty| schema(ty, depth)).unwrap_or_default();
    match segment.ident.to_string().as_str() {
        "bool" => of("boolean"),
        "i8" | "i16" | "i32" | "i64" | "i128" | "isize" => of("integer"),
        "u8" | "u16" | "u32" | "u64" | "u128" | "usize" => [of("integer"), vec![("minimum", "0".to_owned())]].concat(),
        "f32" | "f64" => of("number"),
        "String" | "str" | "char" => of("string"),
        "Vec" | "VecDeque" | "HashSet" | "BTreeSet" => [of("array"), vec![("items", write(&part(0)))]].concat(),
        "HashMap" | "BTreeMap" => [of("object"), vec![("additionalProperties", write(&part(1)))]].concat(),
        "Box" | "Rc" | "Arc" | "Cow" => part(0),
        "Option" => match part(0) {
            anything if anything.is_empty() => anything,
            inner => vec![("anyOf", format!("[{},{{\"type\":\"null\"}}]", write(&inner)))],
        },
        _ => Schema::new(),
    }
}

/// The types in angle brackets.
fn parameters(segment: &PathSegment) -> Vec<&Type> {
    let PathArguments::AngleBracketed(arguments) = &segment.arguments else { return Vec::new() };
    let types = arguments.args.iter().filter_map(|argument| match argument {
        GenericArgument::Type(ty) => Some(ty),
        _ => None,
    });
    types.collect()
}

fn is(ty: &Type, name: &str) -> bool {
    matches!(ty, Type::Path(path) if path.path.segments.last().is_some_and(|segment| segment.ident == name))
}

/// A default that is written out; what another one is, is known when it runs.
fn literal(value: &Expr) -> Option<String> {
    match value {
        Expr::Path(path) if path.path.is_ident("None") => Some("null".to_owned()),
        Expr::Unary(ExprUnary { op: UnOp::Neg(_), expr, .. }) => match &**expr {
            Expr::Lit(literal) if matches!(literal.lit, Lit::Int(_) | Lit::Float(_)) => {
                self::literal(expr).map(|number| format!("-{number}"))
            }
            _ => None,
        },
        Expr::Lit(literal) => match &literal.lit {
            Lit::Bool(flag) => Some(flag.value.to_string()),
            Lit::Int(number) => number.base10_parse::<i128>().ok().map(|number| number.to_string()),
            Lit::Float(number) => number.base10_parse::<f64>().ok().map(|number| format!("{number:?}")),
            Lit::Str(text) => Some(quote_json(&text.value())),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use syn::ItemFn;

    use super::*;

    #[track_caller]
    fn check(function: &str, properties: &str, required: &str) {
        check_rest(function, properties, required, "\"additionalProperties\":false");
    }

    #[track_caller]
    fn check_rest(function: &str, properties: &str, required: &str, rest: &str) {
        let mut function: ItemFn = syn::parse_str(function).expect("is a function");
        let parameters = function.sig.inputs.iter_mut().map(Parameter::take).collect::<syn::Result<Vec<_>>>();
        let parameters = parameters.expect("are parameters");
        let expected =
            format!("{{\"type\":\"object\",\"properties\":{{{properties}}},\"required\":[{required}],{rest}}}");
        assert_eq!(of(&parameters), expected);
    }

    #[test]
    fn further_arguments_are_told_of_beside_the_properties() {
        check_rest(
            "fn f(a: u8, #[args] more: Vec<Json>, b: Json, #[kwargs] named: BTreeMap<String, bool>) {}",
            r#""a":{"type":"integer","minimum":0},"b":{}"#,
            r#""a","b""#,
            r#""additionalProperties":{"type":"boolean"},"x-args":1"#,
        );
        check_rest("fn f(#[kwargs] named: Named) {}", "", "", r#""additionalProperties":true"#);
    }

    #[test]
    fn arguments_are_properties_in_their_order() {
        check("fn f(context: &Context) {}", "", "");
        check(
            "fn f(context: &Context, url: &str, r#type: u8, ratio: f64) {}",
            r#""url":{"type":"string"},"type":{"type":"integer","minimum":0},"ratio":{"type":"number"}"#,
            r#""url","type","ratio""#,
        );
    }

    #[test]
    fn types_are_described_as_far_as_they_are_known() {
        check(
            "fn f(a: &[String], b: Vec<Option<bool>>, c: BTreeMap<String, i64>, d: (u8, Point), e: Json, g: [f32; 3]) {}",
            concat!(
                r#""a":{"type":"array","items":{"type":"string"}},"#,
                r#""b":{"type":"array","items":{"anyOf":[{"type":"boolean"},{"type":"null"}]}},"#,
                r#""c":{"type":"object","additionalProperties":{"type":"integer"}},"#,
                r#""d":{"type":"array","prefixItems":[{"type":"integer","minimum":0},{}],"items":false},"#,
                r#""e":{},"g":{"type":"array","items":{"type":"number"}}"#,
            ),
            r#""a","b","c","d","e","g""#,
        );
    }

    #[test]
    fn what_may_be_left_out_has_its_default_if_that_is_written_out() {
        check(
            r#"fn f(
                #[default = -2] a: i32, #[default = 0.5] b: f64, #[default = "x\"y"] c: String, #[default] d: u32,
                #[default = Point::here()] e: Point, g: Option<String>, h: Option<Json>, #[default = true] i: bool
            ) {}"#,
            concat!(
                r#""a":{"type":"integer","default":-2},"b":{"type":"number","default":0.5},"#,
                r#""c":{"type":"string","default":"x\"y"},"d":{"type":"integer","minimum":0},"e":{},"#,
                r#""g":{"anyOf":[{"type":"string"},{"type":"null"}],"default":null},"h":{"default":null},"#,
                r#""i":{"type":"boolean","default":true}"#,
            ),
            "",
        );
    }
}

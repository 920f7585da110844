//! Types in WIT's own words, for signatures and complaints.

use std::fmt;

use crate::typed::shape::{Case, Kind, Shape, Variant};

/// How a type is spelled out in a complaint, in characters.
const SHOWN_CHARS_MAX: usize = 120;

impl Shape {
    /// What it is, in few words.
    pub(super) fn shown(&self) -> String {
        let word = match &self.kind {
            Kind::Record(_) => "record",
            Kind::Flags(_) => "flags",
            Kind::Variant(variant) => variant.word,
            _ => "",
        };
        match (&self.name, word) {
            (Some(name), word) if !word.is_empty() => format!("{word} {name}"),
            _ => {
                let whole = self.to_string();
                match whole.char_indices().nth(SHOWN_CHARS_MAX) {
                    Some((end, _)) => format!("{}..", &whole[..end]),
                    None => whole,
                }
            }
        }
    }

    /// Its definition in WIT, if it has a name.
    pub(super) fn definition(&self) -> Option<String> {
        let name = self.name.as_ref()?;
        let word = match &self.kind {
            Kind::Record(_) => "record",
            Kind::Flags(_) => "flags",
            Kind::Variant(variant) => variant.word,
            _ => return None,
        };
        Some(format!("{word} {name} {}", Body(self)))
    }
}

/// As WIT writes it.
impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = &self.name {
            return f.write_str(name);
        }
        let payload = |payload: &Option<Self>| payload.as_ref().map_or("_".to_owned(), Self::to_string);
        match &self.kind {
            Kind::Bool => f.write_str("bool"),
            Kind::Integer(integer) => f.write_str(integer.name),
            Kind::F32 => f.write_str("f32"),
            Kind::F64 => f.write_str("f64"),
            Kind::Char => f.write_str("char"),
            Kind::Text => f.write_str("string"),
            Kind::Bytes => f.write_str("list<u8>"),
            Kind::List(element) => write!(f, "list<{element}>"),
            Kind::Map(entry) => write!(f, "map<{}, {}>", entry.key, entry.value),
            Kind::Option(payload) => write!(f, "option<{payload}>"),
            Kind::Tuple(items) => {
                let items: Vec<String> = items.iter().map(|item| item.shape.to_string()).collect();
                write!(f, "tuple<{}>", items.join(", "))
            }
            Kind::Variant(Variant { word: "result", cases, .. }) => match cases.as_slice() {
                [Case { payload: None, .. }, Case { payload: None, .. }] => f.write_str("result"),
                [Case { payload: Some(ok), .. }, Case { payload: None, .. }] => write!(f, "result<{ok}>"),
                [ok, err] => write!(f, "result<{}, {}>", payload(&ok.payload), payload(&err.payload)),
                _ => f.write_str("result"),
            },
            Kind::Variant(variant) => write!(f, "{} {}", variant.word, Body(self)),
            Kind::Record(_) => write!(f, "record {}", Body(self)),
            Kind::Flags(_) => write!(f, "flags {}", Body(self)),
        }
    }
}

/// What stands in braces.
struct Body<'a>(&'a Shape);

impl fmt::Display for Body<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = match &self.0.kind {
            Kind::Record(fields) => {
                fields.iter().map(|field| format!("{}: {}", field.name.kebab, field.shape)).collect()
            }
            Kind::Flags(names) => names.iter().map(|name| name.kebab.clone()).collect(),
            Kind::Variant(variant) => variant.cases.iter().map(Case::to_string).collect(),
            _ => Vec::new(),
        };
        write!(f, "{{ {} }}", parts.join(", "))
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.payload {
            Some(payload) => write!(f, "{}({payload})", self.name.kebab),
            None => f.write_str(&self.name.kebab),
        }
    }
}

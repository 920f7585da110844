//! The same conversion for a component whose functions take a while, through wasmtime's own values.
//!
//! What `lower` and `lift` do fits calls that return at once. Here the values of a result count with some forty bytes each against
//! its limit, since the host keeps them that way for a moment.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use taskhost_core::protocol::content::ToJson;
use wasmtime::component::Val;

use crate::typed::encode::{Block, What};
use crate::typed::lift::{Reply, narrow, push_name};
use crate::typed::shape::{Kind, Shape, Variant, discriminant_bytes};

/// All arguments, of the record that the parameters are together.
pub(super) fn of_arguments(shape: &Shape, block: Block) -> Vec<Val> {
    let mut loose = Loose::new(block);
    match &shape.kind {
        Kind::Record(fields) => fields.iter().map(|field| loose.value(&field.shape, field.offset)).collect(),
        _ => Vec::new(),
    }
}

/// A block whose parts are found by their place.
struct Loose {
    bytes: Vec<u8>,
    parts: HashMap<usize, What>,
}

impl Loose {
    fn new(block: Block) -> Self {
        Self { bytes: block.bytes, parts: block.parts.into_iter().map(|part| (part.at, part.what)).collect() }
    }

    fn number(&self, at: usize, length: usize) -> u64 {
        let mut number = [0; 8];
        number[..length].copy_from_slice(&self.bytes[at..at + length]);
        u64::from_le_bytes(number)
    }

    fn list(&mut self, at: usize) -> (Self, usize) {
        match self.parts.remove(&at) {
            Some(What::List(block)) => {
                let count = block.count;
                (Self::new(block), count)
            }
            _ => (Self::new(Block::default()), 0),
        }
    }

    fn value(&mut self, shape: &Shape, at: usize) -> Val {
        let number = self.number(at, shape.size.min(8));
        match &shape.kind {
            Kind::Bool => Val::Bool(number != 0),
            Kind::Integer(integer) => match integer.name {
                "s8" => Val::S8(number as i8),
                "u8" => Val::U8(number as u8),
                "s16" => Val::S16(number as i16),
                "u16" => Val::U16(number as u16),
                "s32" => Val::S32(number as i32),
                "u32" => Val::U32(number as u32),
                "s64" => Val::S64(number as i64),
                _ => Val::U64(number),
            },
            Kind::F32 => Val::Float32(f32::from_bits(number as u32)),
            Kind::F64 => Val::Float64(f64::from_bits(number)),
            Kind::Char => Val::Char(char::from_u32(number as u32).unwrap_or(char::REPLACEMENT_CHARACTER)),
            Kind::Text => match self.parts.remove(&at) {
                Some(What::Text(text)) => Val::String(text),
                _ => Val::String(String::new()),
            },
            Kind::Bytes => Val::List(self.list(at).0.bytes.into_iter().map(Val::U8).collect()),
            Kind::List(element) => {
                let (mut list, count) = self.list(at);
                Val::List((0..count).map(|index| list.value(element, index * element.size)).collect())
            }
            Kind::Map(entry) => {
                let (mut map, count) = self.list(at);
                let mut pair =
                    |at: usize| (map.value(&entry.key, at), map.value(&entry.value, at + entry.value_offset));
                Val::Map((0..count).map(|index| pair(index * entry.size)).collect())
            }
            Kind::Record(fields) => {
                let field = fields.iter().map(|it| (it.name.kebab.clone(), self.value(&it.shape, at + it.offset)));
                Val::Record(field.collect())
            }
            Kind::Tuple(items) => {
                Val::Tuple(items.iter().map(|item| self.value(&item.shape, at + item.offset)).collect())
            }
            Kind::Option(payload) => {
                let is_some = self.number(at, 1) == 1;
                Val::Option(is_some.then(|| Box::new(self.value(payload, at + payload.align))))
            }
            Kind::Variant(variant) => self.variant(variant, at),
            Kind::Flags(names) => {
                let is_set = |flag: usize| self.bytes[at + flag / 8] & (1 << (flag % 8)) != 0;
                let set = names.iter().enumerate().filter(|(flag, _)| is_set(*flag));
                Val::Flags(set.map(|(_, name)| name.kebab.clone()).collect())
            }
        }
    }

    fn variant(&mut self, variant: &Variant, at: usize) -> Val {
        let index = self.number(at, discriminant_bytes(variant.cases.len())) as usize;
        let case = &variant.cases[index];
        let payload = case.payload.as_ref();
        let payload = payload.map(|payload| Box::new(self.value(payload, at + variant.payload_offset)));
        match (variant.word, index) {
            ("enum", _) => Val::Enum(case.name.kebab.clone()),
            ("result", 0) => Val::Result(Ok(payload)),
            ("result", _) => Val::Result(Err(payload)),
            _ => Val::Variant(case.name.kebab.clone(), payload),
        }
    }
}

/// What a function of this result has given back. A text that is longer than so many bytes is not written to its end.
pub(super) fn reply(shape: Option<&Shape>, value: Option<&Val>, bytes_max: usize) -> Reply {
    let write = |shape: Option<&Shape>, value: Option<&Val>| {
        let (shape, value) = (shape?, value?);
        let mut writer = Writer { text: String::new(), bytes_max };
        writer.value(shape, value);
        Some(writer.text)
    };
    let null = || "null".to_owned();
    let (Some(Shape { kind: Kind::Variant(variant), .. }), Some(Val::Result(result))) = (shape, value) else {
        return Reply::Value(write(shape, value).unwrap_or_else(null));
    };
    let payload = |index: usize| variant.cases.get(index).and_then(|case| case.payload.as_ref());
    match result {
        Ok(value) => Reply::Value(write(payload(0), value.as_deref()).unwrap_or_else(null)),
        Err(value) => Reply::Error(write(payload(1), value.as_deref())),
    }
}

struct Writer {
    text: String,
    bytes_max: usize,
}

impl Writer {
    fn value(&mut self, shape: &Shape, value: &Val) {
        if self.text.len() > self.bytes_max {
            return;
        }
        match (&shape.kind, value) {
            (_, Val::Bool(truth)) => truth.write_json(&mut self.text),
            (_, Val::S8(number)) => i32::from(*number).write_json(&mut self.text),
            (_, Val::U8(number)) => number.write_json(&mut self.text),
            (_, Val::S16(number)) => i32::from(*number).write_json(&mut self.text),
            (_, Val::U16(number)) => number.write_json(&mut self.text),
            (_, Val::S32(number)) => number.write_json(&mut self.text),
            (_, Val::U32(number)) => number.write_json(&mut self.text),
            (_, Val::S64(number)) => number.write_json(&mut self.text),
            (_, Val::U64(number)) => number.write_json(&mut self.text),
            (_, Val::Float32(number)) => narrow(*number).write_json(&mut self.text),
            (_, Val::Float64(number)) => number.write_json(&mut self.text),
            (_, Val::Char(char)) => char.encode_utf8(&mut [0; 4]).write_json(&mut self.text),
            (_, Val::String(text)) => text.write_json(&mut self.text),
            (Kind::Bytes, Val::List(list)) => {
                let byte = |value: &Val| if let Val::U8(byte) = value { *byte } else { 0 };
                let bytes: Vec<u8> = list.iter().map(byte).collect();
                self.text.push_str("{\"__type__\": \"base64\", \"__value__\": \"");
                STANDARD.encode_string(bytes, &mut self.text);
                self.text.push_str("\"}");
            }
            (Kind::List(element), Val::List(list)) => {
                self.parts('[', list.iter(), ']', |writer, value| writer.value(element, value));
            }
            (Kind::Map(entry), Val::Map(pairs)) if matches!(entry.key.kind, Kind::Text) => {
                self.parts('{', pairs.iter(), '}', |writer, (key, value)| {
                    writer.value(&entry.key, key);
                    writer.text.push_str(": ");
                    writer.value(&entry.value, value);
                });
            }
            (Kind::Map(entry), Val::Map(pairs)) => {
                self.parts('[', pairs.iter(), ']', |writer, (key, value)| {
                    let pair = [(&entry.key, key), (&entry.value, value)];
                    writer.parts('[', pair.into_iter(), ']', |writer, (shape, value)| writer.value(shape, value));
                });
            }
            (Kind::Record(fields), Val::Record(values)) => {
                self.parts('{', fields.iter().zip(values), '}', |writer, (field, (_, value))| {
                    push_name(&mut writer.text, &field.name.kebab);
                    writer.text.push_str(": ");
                    writer.value(&field.shape, value);
                });
            }
            (Kind::Tuple(items), Val::Tuple(values)) => {
                self.parts('[', items.iter().zip(values), ']', |writer, (item, value)| {
                    writer.value(&item.shape, value)
                });
            }
            (Kind::Variant(variant), Val::Variant(name, payload)) => {
                let case = variant.cases.iter().find(|case| case.name.kebab == *name);
                self.case(name, case.and_then(|case| case.payload.as_ref()), payload.as_deref());
            }
            (_, Val::Enum(name)) => push_name(&mut self.text, name),
            (Kind::Variant(variant), Val::Result(result)) => {
                let payload = |index: usize| variant.cases.get(index).and_then(|case| case.payload.as_ref());
                match result {
                    Ok(value) => self.case("ok", payload(0), value.as_deref()),
                    Err(value) => self.case("err", payload(1), value.as_deref()),
                }
            }
            (Kind::Option(payload), Val::Option(Some(value))) if payload.is_option() => {
                self.case("some", Some(payload), Some(value));
            }
            (Kind::Option(payload), Val::Option(Some(value))) => self.value(payload, value),
            (_, Val::Flags(names)) => {
                self.parts('[', names.iter(), ']', |writer, name| push_name(&mut writer.text, name));
            }
            // Nothing else is left but none: wasmtime has checked the type.
            _ => self.text.push_str("null"),
        }
    }

    fn case(&mut self, name: &str, payload: Option<&Shape>, value: Option<&Val>) {
        let (Some(payload), Some(value)) = (payload, value) else { return push_name(&mut self.text, name) };
        self.text.push('{');
        push_name(&mut self.text, name);
        self.text.push_str(": ");
        self.value(payload, value);
        self.text.push('}');
    }

    fn parts<T>(&mut self, open: char, parts: impl Iterator<Item = T>, close: char, write: impl Fn(&mut Self, T)) {
        self.text.push(open);
        for (number, part) in parts.enumerate() {
            if number > 0 {
                self.text.push_str(", ");
            }
            write(self, part);
        }
        self.text.push(close);
    }
}

//! Writes what a component gives back as JSON, straight out of its memory.
//!
//! The other half of `lower`, in the same way. What a guest returns is bounded while it is written, by the fuel that wasmtime
//! keeps for that.

#![expect(unsafe_code, reason = "implements the traits that wasmtime's macros implement")]

use std::slice::ChunksExact;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use taskhost_core::protocol::content::ToJson;
use wasmtime::ValRaw;
use wasmtime::component::__internal::{CanonicalAbiInfo, ComponentTypes, InstanceType, InterfaceType, LiftContext};
use wasmtime::component::{ComponentNamedList, ComponentType, Lift};

/// The result of one call.
#[derive(Debug, PartialEq)]
pub(crate) enum Reply {
    /// What the function gives back, as JSON.
    Value(String),
    /// What its `err` has, if it has something.
    Error(Option<String>),
}

// SAFETY: a result is one core value, or none, or in memory with its address in that one.
unsafe impl ComponentType for Reply {
    type Lower = [ValRaw; 1];

    // Never read: where the result is, is decided below.
    const ABI: CanonicalAbiInfo = CanonicalAbiInfo::ZERO;

    /// Every type can be written, but those with which no plugin is loaded.
    fn typecheck(_ty: &InterfaceType, _types: &InstanceType<'_>) -> wasmtime::Result<()> {
        Ok(())
    }
}

// SAFETY: it is what the tuple of results has, if there is one.
unsafe impl ComponentNamedList for Reply {}

// SAFETY: memory is read through slices, and any core value is a good one.
unsafe impl Lift for Reply {
    fn linear_lift_from_flat(cx: &mut LiftContext<'_>, ty: InterfaceType, src: &Self::Lower) -> wasmtime::Result<Self> {
        let types: &ComponentTypes = cx.types;
        let InterfaceType::Tuple(results) = ty else { return Err(wasmtime::Error::msg("results are a tuple")) };
        let Some(&result) = types[results].types.first() else { return Ok(Self::Value("null".to_owned())) };
        let abi = types.canonical_abi(&result);
        let mut flat = [0; 8];
        let bytes = if abi.flat_count(1).is_some() {
            alone(types, result, src[0], &mut flat)?;
            &flat[..abi.size32 as usize]
        } else {
            let address = src[0].get_u32();
            if !address.is_multiple_of(abi.align32) {
                return Err(wasmtime::Error::msg("return pointer not aligned"));
            }
            slice(cx.memory(), address, abi.size32 as usize)?
        };
        let mut writer = Writer { cx, types, text: String::new(), paid_bytes: 0 };
        let InterfaceType::Result(index) = result else {
            writer.value(result, bytes)?;
            return Ok(Self::Value(writer.text));
        };
        let kind = &types[index];
        let payload = &bytes[kind.info.payload_offset32 as usize..];
        match (bytes[0], kind.ok, kind.err) {
            (0, Some(ok), _) => writer.value(ok, payload)?,
            (1, _, Some(err)) => writer.value(err, payload)?,
            (0 | 1, _, _) => {}
            _ => return Err(wasmtime::Error::msg("invalid discriminant of a result")),
        }
        let text = writer.text;
        Ok(match (bytes[0], text.is_empty()) {
            (0, false) => Self::Value(text),
            (0, true) => Self::Value("null".to_owned()),
            (_, false) => Self::Error(Some(text)),
            (_, true) => Self::Error(None),
        })
    }

    fn linear_lift_from_memory(_cx: &mut LiftContext<'_>, _ty: InterfaceType, _bytes: &[u8]) -> wasmtime::Result<Self> {
        Err(wasmtime::Error::msg("a result is never part of a value"))
    }
}

/// A value that is one core value, as it would be in memory.
fn alone(types: &ComponentTypes, ty: InterfaceType, value: ValRaw, bytes: &mut [u8; 8]) -> wasmtime::Result<()> {
    let cases = match ty {
        InterfaceType::Bool => {
            bytes[0] = u8::from(value.get_u32() != 0);
            return Ok(());
        }
        InterfaceType::Record(index) if types[index].fields.len() == 1 => {
            return alone(types, types[index].fields[0].ty, value, bytes);
        }
        InterfaceType::Tuple(index) if types[index].types.len() == 1 => {
            return alone(types, types[index].types[0], value, bytes);
        }
        InterfaceType::Variant(index) => types[index].cases.len(),
        InterfaceType::Enum(index) => types[index].names.len(),
        InterfaceType::Result(_) => 2,
        _ => usize::MAX,
    };
    // Of a wider value only the lower bytes would be looked at.
    if cases != usize::MAX && value.get_u32() as usize >= cases {
        return Err(wasmtime::Error::msg("invalid discriminant"));
    }
    *bytes = match types.canonical_abi(&ty).size32 {
        8 => value.get_u64(),
        _ => u64::from(value.get_u32()),
    }
    .to_le_bytes();
    Ok(())
}

struct Writer<'w, 'c> {
    cx: &'w mut LiftContext<'c>,
    types: &'c ComponentTypes,
    text: String,
    /// How much of the text is paid for.
    paid_bytes: usize,
}

impl<'c> Writer<'_, 'c> {
    fn value(&mut self, ty: InterfaceType, bytes: &[u8]) -> wasmtime::Result<()> {
        match ty {
            InterfaceType::Bool => (bytes[0] != 0).write_json(&mut self.text),
            InterfaceType::U8 => bytes[0].write_json(&mut self.text),
            InterfaceType::S8 => i32::from(bytes[0] as i8).write_json(&mut self.text),
            InterfaceType::U16 => u16::from_le_bytes(first(bytes)).write_json(&mut self.text),
            InterfaceType::S16 => i32::from(i16::from_le_bytes(first(bytes))).write_json(&mut self.text),
            InterfaceType::U32 => u32::from_le_bytes(first(bytes)).write_json(&mut self.text),
            InterfaceType::S32 => i32::from_le_bytes(first(bytes)).write_json(&mut self.text),
            InterfaceType::U64 => u64::from_le_bytes(first(bytes)).write_json(&mut self.text),
            InterfaceType::S64 => i64::from_le_bytes(first(bytes)).write_json(&mut self.text),
            InterfaceType::Float32 => narrow(f32::from_le_bytes(first(bytes))).write_json(&mut self.text),
            InterfaceType::Float64 => f64::from_le_bytes(first(bytes)).write_json(&mut self.text),
            InterfaceType::Char => {
                let char = char::from_u32(u32::from_le_bytes(first(bytes)));
                let char = char.ok_or_else(|| wasmtime::Error::msg("invalid char"))?;
                char.encode_utf8(&mut [0; 4]).write_json(&mut self.text);
            }
            InterfaceType::String => {
                let text = String::linear_lift_from_memory(self.cx, ty, &bytes[..8])?;
                text.write_json(&mut self.text);
            }
            InterfaceType::List(index) => self.list(self.types[index].element, bytes)?,
            InterfaceType::Map(index) => {
                let map = &self.types[index];
                let in_object = matches!(map.key, InterfaceType::String);
                let (size, value_at) = (map.entry_abi.size32 as usize, map.value_offset32 as usize);
                let (open, between, close) = if in_object { ("", ": ", "") } else { ("[", ", ", "]") };
                self.text.push(if in_object { '{' } else { '[' });
                for (number, entry) in self.elements(bytes, size, map.entry_abi.align32)?.enumerate() {
                    self.comma(number);
                    self.text.push_str(open);
                    self.value(map.key, entry)?;
                    self.text.push_str(between);
                    self.value(map.value, &entry[value_at..])?;
                    self.text.push_str(close);
                }
                self.text.push(if in_object { '}' } else { ']' });
            }
            InterfaceType::Record(index) => {
                self.text.push('{');
                let mut offset = 0;
                for (number, field) in self.types[index].fields.iter().enumerate() {
                    self.comma(number);
                    self.name(&field.name);
                    self.text.push_str(": ");
                    let at = self.types.canonical_abi(&field.ty).next_field32_size(&mut offset);
                    self.value(field.ty, &bytes[at..])?;
                }
                self.text.push('}');
            }
            InterfaceType::Tuple(index) => {
                self.text.push('[');
                let mut offset = 0;
                for (number, &part) in self.types[index].types.iter().enumerate() {
                    self.comma(number);
                    let at = self.types.canonical_abi(&part).next_field32_size(&mut offset);
                    self.value(part, &bytes[at..])?;
                }
                self.text.push(']');
            }
            InterfaceType::Variant(index) => {
                let variant = &self.types[index];
                let number = discriminant(bytes, variant.info.size.byte_size());
                let (name, &payload) = variant.cases.get_index(number).ok_or_else(invalid_case)?;
                self.case(name, payload, &bytes[variant.info.payload_offset32 as usize..])?;
            }
            InterfaceType::Enum(index) => {
                let kind = &self.types[index];
                let number = discriminant(bytes, kind.info.size.byte_size());
                if number >= kind.names.len() {
                    return Err(invalid_case());
                }
                self.name(&kind.names[number]);
            }
            InterfaceType::Result(index) => {
                let kind = &self.types[index];
                let (name, payload) = match bytes[0] {
                    0 => ("ok", kind.ok),
                    1 => ("err", kind.err),
                    _ => return Err(invalid_case()),
                };
                self.case(name, payload, &bytes[kind.info.payload_offset32 as usize..])?;
            }
            InterfaceType::Option(index) => {
                let kind = &self.types[index];
                let payload = &bytes[kind.info.payload_offset32 as usize..];
                match (bytes[0], kind.ty) {
                    (0, _) => self.text.push_str("null"),
                    // Or `some(none)` would be null as well.
                    (1, InterfaceType::Option(_)) => self.case("some", Some(kind.ty), payload)?,
                    (1, _) => self.value(kind.ty, payload)?,
                    _ => return Err(invalid_case()),
                }
            }
            InterfaceType::Flags(index) => {
                self.text.push('[');
                let mut number = 0;
                for (flag, name) in self.types[index].names.iter().enumerate() {
                    if bytes[flag / 8] & (1 << (flag % 8)) != 0 {
                        self.comma(number);
                        self.name(name);
                        number += 1;
                    }
                }
                self.text.push(']');
            }
            _ => return Err(wasmtime::Error::msg("a value of this type cannot be JSON")),
        }
        self.pay(0)
    }

    fn list(&mut self, element: InterfaceType, bytes: &[u8]) -> wasmtime::Result<()> {
        if matches!(element, InterfaceType::U8) {
            let (address, length) = pair(bytes);
            let bytes = slice(self.cx.memory(), address, length)?;
            self.pay(length.div_ceil(3) * 4)?;
            // What kombu makes of Python's `bytes`, and they become `bytes` again.
            self.text.push_str("{\"__type__\": \"base64\", \"__value__\": \"");
            STANDARD.encode_string(bytes, &mut self.text);
            self.text.push_str("\"}");
            self.paid_bytes = self.text.len();
            return Ok(());
        }
        let abi = self.types.canonical_abi(&element);
        self.text.push('[');
        for (number, bytes) in self.elements(bytes, abi.size32 as usize, abi.align32)?.enumerate() {
            self.comma(number);
            self.value(element, bytes)?;
        }
        self.text.push(']');
        Ok(())
    }

    /// What an address and a length lead to.
    fn elements(&self, bytes: &[u8], size: usize, align: u32) -> wasmtime::Result<ChunksExact<'c, u8>> {
        let (address, count) = pair(bytes);
        if !address.is_multiple_of(align) {
            return Err(wasmtime::Error::msg("list pointer is not aligned"));
        }
        let length = count.checked_mul(size).ok_or_else(|| wasmtime::Error::msg("list is too long"))?;
        Ok(slice(self.cx.memory(), address, length)?.chunks_exact(size.max(1)))
    }

    fn case(&mut self, name: &str, payload: Option<InterfaceType>, bytes: &[u8]) -> wasmtime::Result<()> {
        let Some(payload) = payload else {
            self.name(name);
            return Ok(());
        };
        self.text.push('{');
        self.name(name);
        self.text.push_str(": ");
        self.value(payload, bytes)?;
        self.text.push('}');
        Ok(())
    }

    fn comma(&mut self, number: usize) {
        if number > 0 {
            self.text.push_str(", ");
        }
    }

    fn name(&mut self, kebab: &str) {
        push_name(&mut self.text, kebab);
    }

    /// Pays for what was written, and for so many bytes more.
    fn pay(&mut self, more_bytes: usize) -> wasmtime::Result<()> {
        self.cx.consume_fuel(self.text.len() - self.paid_bytes + more_bytes)?;
        self.paid_bytes = self.text.len();
        Ok(())
    }
}

/// A name of WIT's, as others write it. It has nothing that JSON escapes.
pub(super) fn push_name(text: &mut String, kebab: &str) {
    text.push('"');
    text.extend(kebab.chars().map(|char| if char == '-' { '_' } else { char.to_ascii_lowercase() }));
    text.push('"');
}

/// The number with the fewest digits that are this one as an `f32`.
pub(super) fn narrow(number: f32) -> f64 {
    if number.is_finite() { format!("{number:e}").parse().unwrap_or(f64::from(number)) } else { f64::from(number) }
}

fn invalid_case() -> wasmtime::Error {
    wasmtime::Error::msg("invalid discriminant")
}

fn discriminant(bytes: &[u8], length: u32) -> usize {
    let mut number = [0; 8];
    let length = length as usize;
    number[..length].copy_from_slice(&bytes[..length]);
    u64::from_le_bytes(number) as usize
}

fn pair(bytes: &[u8]) -> (u32, usize) {
    (u32::from_le_bytes(first(bytes)), u32::from_le_bytes(first(&bytes[4..])) as usize)
}

fn slice(memory: &[u8], address: u32, length: usize) -> wasmtime::Result<&[u8]> {
    let rest = memory.get(address as usize..).and_then(|rest| rest.get(..length));
    rest.ok_or_else(|| wasmtime::Error::msg("pointer out of bounds of memory"))
}

fn first<const N: usize>(bytes: &[u8]) -> [u8; N] {
    *bytes.first_chunk().expect("a value has all its bytes")
}

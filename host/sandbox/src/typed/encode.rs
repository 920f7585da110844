//! Makes of JSON what a component takes: the bytes of the canonical ABI, before there is an instance.
//!
//! Whatever is wrong with a value shows here, with its place. How the bytes get into the guest is the business of
//! `lower`.

use taskhost_core::protocol::content::{Cursor, Kind as JsonKind};

use crate::typed::scalar::{BYTE, float, integer, listed, shown, typed_bytes, unexpected};
use crate::typed::shape::{Entry, Field, Item, Kind, Name, Shape, Variant, discriminant_bytes};

/// What the host needs beside the bytes of a text or a list, about.
const PART_BYTES: usize = 64;

/// Bytes of values one behind the other, and what they point to.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct Block {
    pub(super) bytes: Vec<u8>,
    pub(super) align: usize,
    /// How many values there are.
    pub(super) count: usize,
    pub(super) parts: Vec<Part>,
}

/// Something that is elsewhere in memory.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Part {
    /// Where its address and its length belong.
    pub(super) at: usize,
    pub(super) what: What,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum What {
    Text(String),
    List(Block),
}

/// Why a value cannot be handed over.
#[derive(Debug, PartialEq)]
pub(super) enum Problem {
    /// Where it is, innermost first, and what it should be.
    Wrong { path: Vec<Step>, what: String },
    /// It takes more memory than an instance may have.
    TooLarge,
}

#[derive(Debug, PartialEq)]
pub(super) enum Step {
    Name(String),
    Index(usize),
}

type Encoded = Result<(), Problem>;

impl Problem {
    pub(super) fn new(what: impl Into<String>) -> Self {
        Self::Wrong { path: Vec::new(), what: what.into() }
    }

    fn within(mut self, step: Step) -> Self {
        if let Self::Wrong { path, .. } = &mut self {
            path.push(step);
        }
        self
    }
}

/// Writes values into blocks, as many bytes of them as it may.
pub(super) struct Encoder {
    pub(super) bytes_left: usize,
}

impl Encoder {
    /// A block of zeros.
    pub(super) fn block(&mut self, bytes: usize, align: usize) -> Result<Block, Problem> {
        self.charge(bytes)?;
        Ok(Block { bytes: vec![0; bytes], align, count: 1, parts: Vec::new() })
    }

    /// Puts the next value in its place in a block that is zero there.
    pub(super) fn value(&mut self, shape: &Shape, json: &mut Cursor<'_>, block: &mut Block, at: usize) -> Encoded {
        match &shape.kind {
            Kind::Bool => match json.kind() {
                JsonKind::Bool => put(block, at, &[u8::from(json.skip() == "true")]),
                _ => return Err(unexpected(shape, json)),
            },
            Kind::Integer(kind) => {
                let number = integer(kind, shape, json)?;
                put(block, at, &number.to_le_bytes()[..shape.size]);
            }
            Kind::F32 => put(block, at, &float::<f32>(shape, json)?.to_le_bytes()),
            Kind::F64 => put(block, at, &float::<f64>(shape, json)?.to_le_bytes()),
            Kind::Char => match json.clone().text().filter(|_| json.kind() == JsonKind::Text) {
                Some(text) if text.chars().count() == 1 => {
                    json.skip();
                    put(block, at, &text.chars().next().map_or(0, u32::from).to_le_bytes());
                }
                _ => return Err(unexpected(shape, json)),
            },
            Kind::Text => {
                if json.kind() != JsonKind::Text {
                    return Err(unexpected(shape, json));
                }
                let text = json
                    .text()
                    .ok_or_else(|| Problem::new("the text has half of a surrogate pair, which a string cannot have"))?;
                self.charge(text.len() + PART_BYTES)?;
                block.parts.push(Part { at, what: What::Text(text.into_owned()) });
            }
            Kind::Bytes => {
                let bytes = self.bytes(shape, json)?;
                block.parts.push(Part { at, what: What::List(bytes) });
            }
            Kind::List(element) => {
                let list = self.list(shape, element, json)?;
                block.parts.push(Part { at, what: What::List(list) });
            }
            Kind::Map(entry) => {
                let map = self.map(shape, entry, json)?;
                block.parts.push(Part { at, what: What::List(map) });
            }
            Kind::Record(fields) => self.record(shape, fields, json, block, at)?,
            Kind::Tuple(items) => self.tuple(shape, items, json, block, at)?,
            Kind::Variant(variant) => self.variant(shape, variant, json, block, at)?,
            Kind::Option(payload) => {
                if json.kind() == JsonKind::Null {
                    json.skip();
                    return Ok(());
                }
                put(block, at, &[1]);
                let at = at + payload.align;
                if !payload.is_option() {
                    return self.value(payload, json, block, at);
                }
                // `some(none)` would be null as well.
                let before = json.clone();
                let wrong = || Err(unexpected(shape, &before));
                if json.kind() != JsonKind::Map {
                    return wrong();
                }
                json.enter();
                if json.next_key().as_deref() != Some("some") {
                    return wrong();
                }
                self.value(payload, json, block, at)
                    .map_err(|problem| problem.within(Step::Name("some".to_owned())))?;
                if json.next_key().is_some() {
                    return wrong();
                }
            }
            Kind::Flags(names) => flags(shape, names, json, block, at)?,
        }
        Ok(())
    }

    fn charge(&mut self, bytes: usize) -> Encoded {
        self.bytes_left = self.bytes_left.checked_sub(bytes).ok_or(Problem::TooLarge)?;
        Ok(())
    }

    fn list(&mut self, shape: &Shape, element: &Shape, json: &mut Cursor<'_>) -> Result<Block, Problem> {
        let mut list = self.open(shape, element.align, json)?;
        while json.next_element() {
            self.charge(element.size)?;
            let at = list.bytes.len();
            list.bytes.resize(at + element.size, 0);
            let index = list.count;
            list.count += 1;
            self.value(element, json, &mut list, at).map_err(|problem| problem.within(Step::Index(index)))?;
        }
        Ok(list)
    }

    /// Steps into an array.
    fn open(&mut self, shape: &Shape, align: usize, json: &mut Cursor<'_>) -> Result<Block, Problem> {
        if json.kind() != JsonKind::List {
            return Err(unexpected(shape, json));
        }
        self.charge(PART_BYTES)?;
        json.enter();
        Ok(Block { bytes: Vec::new(), align, count: 0, parts: Vec::new() })
    }

    /// An array of numbers, or bytes as kombu writes them.
    fn bytes(&mut self, shape: &Shape, json: &mut Cursor<'_>) -> Result<Block, Problem> {
        let bytes = match json.kind() {
            JsonKind::List => {
                json.enter();
                let mut bytes = Vec::new();
                let byte = Shape { kind: Kind::Integer(&BYTE), name: None, size: 1, align: 1, flat: 1 };
                while json.next_element() {
                    self.charge(1)?;
                    let number = integer(&BYTE, &byte, json);
                    let number = number.map_err(|problem| problem.within(Step::Index(bytes.len())))?;
                    bytes.push(number.to_le_bytes()[0]);
                }
                bytes
            }
            JsonKind::Map => {
                let bytes = typed_bytes(json.clone());
                let Some(bytes) = bytes else { return Err(unexpected(shape, json)) };
                json.skip();
                self.charge(bytes.len())?;
                bytes
            }
            _ => return Err(unexpected(shape, json)),
        };
        self.charge(PART_BYTES)?;
        Ok(Block { count: bytes.len(), bytes, align: 1, parts: Vec::new() })
    }

    fn map(&mut self, shape: &Shape, entry: &Entry, json: &mut Cursor<'_>) -> Result<Block, Problem> {
        let by_text = matches!(entry.key.kind, Kind::Text);
        if !by_text {
            let mut map = self.open(shape, entry.align, json)?;
            while json.next_element() {
                let (index, at) = (map.count, self.entry(entry, &mut map)?);
                let pair = [(0, &entry.key), (entry.value_offset, &entry.value)];
                self.items(shape, &pair, json, &mut map, at).map_err(|problem| problem.within(Step::Index(index)))?;
            }
            return Ok(map);
        }
        if json.kind() != JsonKind::Map {
            return Err(unexpected(shape, json));
        }
        self.charge(PART_BYTES)?;
        json.enter();
        let mut map = Block { bytes: Vec::new(), align: entry.align, count: 0, parts: Vec::new() };
        while let Some(key) = json.next_key() {
            let at = self.entry(entry, &mut map)?;
            self.charge(key.len() + PART_BYTES)?;
            let value = self.value(&entry.value, json, &mut map, at + entry.value_offset);
            value.map_err(|problem| problem.within(Step::Name(key.clone().into_owned())))?;
            map.parts.push(Part { at, what: What::Text(key.into_owned()) });
        }
        Ok(map)
    }

    /// Room for one more entry.
    fn entry(&mut self, entry: &Entry, map: &mut Block) -> Result<usize, Problem> {
        self.charge(entry.size)?;
        let at = map.bytes.len();
        map.bytes.resize(at + entry.size, 0);
        map.count += 1;
        Ok(at)
    }

    fn record(
        &mut self,
        shape: &Shape,
        fields: &[Field],
        json: &mut Cursor<'_>,
        block: &mut Block,
        at: usize,
    ) -> Encoded {
        if json.kind() != JsonKind::Map {
            return Err(unexpected(shape, json));
        }
        json.enter();
        let mut given = vec![false; fields.len()];
        while let Some(key) = json.next_key() {
            let Some(index) = fields.iter().position(|field| field.name.is(&key)) else {
                let names = listed(fields.iter().map(|field| &field.name));
                return Err(Problem::new(format!("{} has no field '{key}', it has {names}", shape.shown())));
            };
            let field = &fields[index];
            if std::mem::replace(&mut given[index], true) {
                return Err(Problem::new(format!("field '{}' is given twice", field.name.snake)));
            }
            self.value(&field.shape, json, block, at + field.offset)
                .map_err(|problem| problem.within(Step::Name(field.name.snake.clone())))?;
        }
        let missing = fields.iter().zip(&given).find(|(field, given)| !**given && !field.shape.is_option());
        match missing {
            Some((field, _)) => Err(Problem::new(format!(
                "{} misses field '{}', which is {}",
                shape.shown(),
                field.name.snake,
                field.shape.shown()
            ))),
            None => Ok(()),
        }
    }

    fn tuple(&mut self, shape: &Shape, items: &[Item], json: &mut Cursor<'_>, block: &mut Block, at: usize) -> Encoded {
        let places: Vec<(usize, &Shape)> = items.iter().map(|item| (item.offset, &item.shape)).collect();
        self.items(shape, &places, json, block, at)
    }

    fn items(
        &mut self,
        shape: &Shape,
        places: &[(usize, &Shape)],
        json: &mut Cursor<'_>,
        block: &mut Block,
        at: usize,
    ) -> Encoded {
        let before = json.clone();
        let wrong = || Err(unexpected(shape, &before));
        if json.kind() != JsonKind::List {
            return wrong();
        }
        json.enter();
        for (index, (offset, part)) in places.iter().enumerate() {
            if !json.next_element() {
                return wrong();
            }
            self.value(part, json, block, at + offset).map_err(|problem| problem.within(Step::Index(index)))?;
        }
        if json.next_element() { wrong() } else { Ok(()) }
    }

    fn variant(
        &mut self,
        shape: &Shape,
        variant: &Variant,
        json: &mut Cursor<'_>,
        block: &mut Block,
        at: usize,
    ) -> Encoded {
        let before = json.clone();
        let wrong = || Err(unexpected(shape, &before));
        let (name, in_object) = match json.kind() {
            JsonKind::Text => (json.text(), false),
            JsonKind::Map => {
                json.enter();
                (json.next_key(), true)
            }
            _ => return wrong(),
        };
        let Some(name) = name else { return wrong() };
        let Some(index) = variant.cases.iter().position(|case| case.name.is(&name)) else {
            let names = listed(variant.cases.iter().map(|case| &case.name));
            return Err(Problem::new(format!("{} has no case '{name}', it has {names}", shape.shown())));
        };
        let case = &variant.cases[index];
        let bytes = discriminant_bytes(variant.cases.len());
        put(block, at, &index.to_le_bytes()[..bytes]);
        let here = |problem: Problem| problem.within(Step::Name(case.name.snake.clone()));
        match (&case.payload, in_object) {
            (Some(payload), true) => {
                self.value(payload, json, block, at + variant.payload_offset).map_err(here)?;
            }
            (Some(payload), false) => {
                let name = &case.name.snake;
                let what = format!("case '{name}' has a value of type {}: {{\"{name}\": ..}}", payload.shown());
                return Err(Problem::new(what));
            }
            (None, true) if json.kind() == JsonKind::Null => {
                json.skip();
            }
            (None, true) => return Err(here(Problem::new(format!("this case has no value, not {}", shown(json))))),
            (None, false) => {}
        }
        if in_object && json.next_key().is_some() { wrong() } else { Ok(()) }
    }
}

fn put(block: &mut Block, at: usize, bytes: &[u8]) {
    block.bytes[at..at + bytes.len()].copy_from_slice(bytes);
}

fn flags(shape: &Shape, names: &[Name], json: &mut Cursor<'_>, block: &mut Block, at: usize) -> Encoded {
    if json.kind() != JsonKind::List {
        return Err(unexpected(shape, json));
    }
    json.enter();
    let mut index = 0;
    while json.next_element() {
        let name = json.clone().text().filter(|_| json.kind() == JsonKind::Text);
        let Some(flag) = name.and_then(|text| names.iter().position(|name| name.is(&text))) else {
            let what = format!("{} has no flag {}, it has {}", shape.shown(), shown(json), listed(names.iter()));
            return Err(Problem::new(what).within(Step::Index(index)));
        };
        json.skip();
        block.bytes[at + flag / 8] |= 1 << (flag % 8);
        index += 1;
    }
    Ok(())
}

//! A WIT type as a call needs it: its names, its ranges and its layout in the canonical ABI.
//!
//! Made once, when a plugin is loaded. Knows nothing of values.

use std::sync::Arc;

use wasmtime::component::Type;

/// Types that one function may consist of, counted with their parts.
const PARTS_MAX: usize = 10_000;

/// A type and its place in memory.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Shape {
    pub(super) kind: Kind,
    /// What the interface calls it.
    pub(super) name: Option<Arc<str>>,
    pub(super) size: usize,
    pub(super) align: usize,
    /// How many core values it is outside of memory.
    pub(super) flat: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    Bool,
    Integer(&'static Integer),
    F32,
    F64,
    Char,
    Text,
    /// `list<u8>`
    Bytes,
    List(Box<Shape>),
    /// Key and value, and where the value begins.
    Map(Box<Entry>),
    Record(Vec<Field>),
    Tuple(Vec<Item>),
    /// A variant, an enum or a result.
    Variant(Variant),
    Option(Box<Shape>),
    Flags(Vec<Name>),
}

/// One of the integer types.
#[derive(Debug, PartialEq)]
pub(super) struct Integer {
    pub(super) name: &'static str,
    pub(super) min: i128,
    pub(super) max: i128,
}

/// A name in WIT's spelling, and in that of Python and most others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) kebab: String,
    pub(super) snake: String,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Field {
    pub(super) name: Name,
    pub(super) offset: usize,
    pub(super) shape: Shape,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Item {
    pub(super) offset: usize,
    pub(super) shape: Shape,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    pub(super) key: Shape,
    pub(super) value: Shape,
    pub(super) value_offset: usize,
    pub(super) size: usize,
    pub(super) align: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Variant {
    /// How WIT calls such a type.
    pub(super) word: &'static str,
    pub(super) cases: Vec<Case>,
    pub(super) payload_offset: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Case {
    pub(super) name: Name,
    pub(super) payload: Option<Shape>,
}

const INTEGERS: [Integer; 8] = [
    Integer { name: "s8", min: i8::MIN as i128, max: i8::MAX as i128 },
    Integer { name: "u8", min: 0, max: u8::MAX as i128 },
    Integer { name: "s16", min: i16::MIN as i128, max: i16::MAX as i128 },
    Integer { name: "u16", min: 0, max: u16::MAX as i128 },
    Integer { name: "s32", min: i32::MIN as i128, max: i32::MAX as i128 },
    Integer { name: "u32", min: 0, max: u32::MAX as i128 },
    Integer { name: "s64", min: i64::MIN as i128, max: i64::MAX as i128 },
    Integer { name: "u64", min: 0, max: u64::MAX as i128 },
];

/// Reads types, one function after the other.
pub(super) struct Shapes<'a> {
    /// What the interface calls its types.
    names: &'a [(String, Type)],
    parts: usize,
}

impl<'a> Shapes<'a> {
    pub(super) fn new(names: &'a [(String, Type)]) -> Self {
        Self { names, parts: 0 }
    }

    /// Says why a value of this type cannot be JSON, if it cannot.
    pub(super) fn of(&mut self, kind: &Type) -> Result<Shape, String> {
        self.parts += 1;
        if self.parts > PARTS_MAX {
            return Err(format!("its types have more than {PARTS_MAX} parts"));
        }
        let integer = |index: usize, bytes: usize| Ok(Shape::plain(Kind::Integer(&INTEGERS[index]), bytes));
        match kind {
            Type::Bool => Ok(Shape::plain(Kind::Bool, 1)),
            Type::S8 => integer(0, 1),
            Type::U8 => integer(1, 1),
            Type::S16 => integer(2, 2),
            Type::U16 => integer(3, 2),
            Type::S32 => integer(4, 4),
            Type::U32 => integer(5, 4),
            Type::S64 => integer(6, 8),
            Type::U64 => integer(7, 8),
            Type::Float32 => Ok(Shape::plain(Kind::F32, 4)),
            Type::Float64 => Ok(Shape::plain(Kind::F64, 8)),
            Type::Char => Ok(Shape::plain(Kind::Char, 4)),
            Type::String => Ok(Shape::pointer(Kind::Text)),
            Type::List(list) => match list.ty() {
                Type::U8 => Ok(Shape::pointer(Kind::Bytes)),
                element => Ok(Shape::pointer(Kind::List(Box::new(self.of(&element)?)))),
            },
            Type::Map(map) => {
                let (key, value) = (self.of(&map.key())?, self.of(&map.value())?);
                let mut layout = Layout::default();
                layout.add(&key);
                let value_offset = layout.add(&value);
                let (size, align) = (layout.size(), layout.align);
                Ok(Shape::pointer(Kind::Map(Box::new(Entry { key, value, value_offset, size, align }))))
            }
            Type::Record(record) => {
                let mut layout = Layout::default();
                let mut fields = Vec::new();
                for field in record.fields() {
                    let shape = self.of(&field.ty)?;
                    fields.push(Field { name: Name::new(field.name), offset: layout.add(&shape), shape });
                }
                Ok(layout.shape(Kind::Record(fields), self.name(kind)))
            }
            Type::Tuple(tuple) => {
                let mut layout = Layout::default();
                let mut items = Vec::new();
                for part in tuple.types() {
                    let shape = self.of(&part)?;
                    items.push(Item { offset: layout.add(&shape), shape });
                }
                Ok(layout.shape(Kind::Tuple(items), None))
            }
            Type::Variant(variant) => {
                let cases = variant.cases().map(|case| (case.name.to_owned(), case.ty)).collect();
                self.variant("variant", cases, self.name(kind))
            }
            Type::Enum(names) => {
                let cases = names.names().map(|name| (name.to_owned(), None)).collect();
                self.variant("enum", cases, self.name(kind))
            }
            Type::Result(result) => {
                let cases = vec![("ok".to_owned(), result.ok()), ("err".to_owned(), result.err())];
                self.variant("result", cases, None)
            }
            Type::Option(option) => {
                let payload = self.of(&option.ty())?;
                let (offset, size, align) = around(1, [&payload].into_iter());
                debug_assert_eq!(offset, payload.align);
                let flat = 1 + payload.flat;
                Ok(Shape { kind: Kind::Option(Box::new(payload)), name: None, size, align, flat })
            }
            Type::Flags(flags) => {
                let names: Vec<Name> = flags.names().map(Name::new).collect();
                let (size, align) = match names.len() {
                    0..=8 => (1, 1),
                    9..=16 => (2, 2),
                    more => (4 * more.div_ceil(32), 4),
                };
                let flat = names.len().div_ceil(32);
                Ok(Shape { kind: Kind::Flags(names), name: self.name(kind), size, align, flat })
            }
            Type::Own(_) => Err("it has a resource".to_owned()),
            Type::Borrow(_) => Err("it borrows a resource".to_owned()),
            Type::Future(_) => Err("it has a future".to_owned()),
            Type::Stream(_) => Err("it has a stream".to_owned()),
            Type::ErrorContext => Err("it has an error-context".to_owned()),
            Type::FixedLengthList(_) => Err("it has a list of fixed length".to_owned()),
        }
    }

    fn variant(
        &mut self,
        word: &'static str,
        named: Vec<(String, Option<Type>)>,
        name: Option<Arc<str>>,
    ) -> Result<Shape, String> {
        let mut cases = Vec::with_capacity(named.len());
        for (name, payload) in named {
            self.parts += 1;
            let payload = payload.map(|payload| self.of(&payload)).transpose()?;
            cases.push(Case { name: Name::new(&name), payload });
        }
        let payloads = || cases.iter().filter_map(|case| case.payload.as_ref());
        let (payload_offset, size, align) = around(discriminant_bytes(cases.len()), payloads());
        let flat = 1 + payloads().map(|payload| payload.flat).max().unwrap_or(0);
        Ok(Shape { kind: Kind::Variant(Variant { word, cases, payload_offset }), name, size, align, flat })
    }

    /// What the interface calls it, if that is one name.
    fn name(&self, kind: &Type) -> Option<Arc<str>> {
        let mut names = self.names.iter().filter(|(_, named)| named == kind).map(|(name, _)| name.as_str());
        let name = names.next()?;
        if names.next().is_some() { None } else { Some(name.into()) }
    }
}

/// Bytes that say which of so many cases it is.
pub(super) fn discriminant_bytes(cases: usize) -> usize {
    match cases {
        0..=0x100 => 1,
        0x101..=0x1_0000 => 2,
        _ => 4,
    }
}

/// Where payloads begin behind a discriminant, and what is around both.
fn around<'a>(discriminant: usize, payloads: impl Iterator<Item = &'a Shape>) -> (usize, usize, usize) {
    let (mut size, mut align) = (0, 1);
    for payload in payloads {
        (size, align) = (payload.size.max(size), payload.align.max(align));
    }
    let offset = discriminant.next_multiple_of(align);
    let align = align.max(discriminant);
    (offset, (offset + size).next_multiple_of(align), align)
}

/// Puts parts one behind the other.
#[derive(Debug)]
pub(super) struct Layout {
    end: usize,
    pub(super) align: usize,
    pub(super) flat: usize,
}

impl Default for Layout {
    fn default() -> Self {
        Self { end: 0, align: 1, flat: 0 }
    }
}

impl Layout {
    /// Where it begins.
    pub(super) fn add(&mut self, part: &Shape) -> usize {
        let offset = self.end.next_multiple_of(part.align);
        self.end = offset + part.size;
        self.align = self.align.max(part.align);
        self.flat += part.flat;
        offset
    }

    pub(super) fn size(&self) -> usize {
        self.end.next_multiple_of(self.align)
    }

    fn shape(self, kind: Kind, name: Option<Arc<str>>) -> Shape {
        Shape { kind, name, size: self.size(), align: self.align, flat: self.flat }
    }
}

impl Shape {
    fn plain(kind: Kind, bytes: usize) -> Self {
        Self { kind, name: None, size: bytes, align: bytes, flat: 1 }
    }

    fn pointer(kind: Kind) -> Self {
        Self { kind, name: None, size: 8, align: 4, flat: 2 }
    }

    /// True if JSON's null is a value of it.
    pub(super) fn is_option(&self) -> bool {
        matches!(self.kind, Kind::Option(_))
    }

    /// It and everything that it consists of, the parts first.
    pub(super) fn visit(&self, visitor: &mut impl FnMut(&Self)) {
        match &self.kind {
            Kind::List(inner) | Kind::Option(inner) => inner.visit(visitor),
            Kind::Map(entry) => {
                entry.key.visit(visitor);
                entry.value.visit(visitor);
            }
            Kind::Record(fields) => fields.iter().for_each(|field| field.shape.visit(visitor)),
            Kind::Tuple(items) => items.iter().for_each(|item| item.shape.visit(visitor)),
            Kind::Variant(variant) => {
                variant.cases.iter().filter_map(|case| case.payload.as_ref()).for_each(|it| it.visit(visitor));
            }
            Kind::Bool
            | Kind::Integer(_)
            | Kind::F32
            | Kind::F64
            | Kind::Char
            | Kind::Text
            | Kind::Bytes
            | Kind::Flags(_) => {}
        }
        visitor(self);
    }
}

impl Name {
    pub(super) fn new(kebab: &str) -> Self {
        // WIT allows words in capitals, and no two names that differ in these only.
        Self { kebab: kebab.to_owned(), snake: kebab.replace('-', "_").to_ascii_lowercase() }
    }

    /// True for either spelling.
    pub(super) fn is(&self, text: &str) -> bool {
        self.snake == text || self.kebab == text
    }
}

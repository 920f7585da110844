//! WIT types and values of them, drawn from a seed.

use std::fmt::Write as _;

/// Draws numbers, the same after the same seed.
pub(crate) struct Random(u64);

/// A type as far as the tests draw one.
#[derive(Debug, Clone)]
pub(crate) enum Kind {
    /// Its name and its range.
    Integer(&'static str, i128, i128),
    Bool,
    F64,
    Char,
    Text,
    List(Box<Self>),
    Tuple(Vec<Self>),
    Option(Box<Self>),
    Result(Box<Self>, Option<Box<Self>>),
    Record(String, Vec<Self>),
    Variant(String, Vec<Option<Self>>),
    Flags(String, usize),
}

/// The named types that were drawn.
#[derive(Default)]
pub(crate) struct Definitions(Vec<(String, String)>);

impl Definitions {
    pub(crate) fn texts(&self) -> Vec<(&str, &str)> {
        self.0.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect()
    }

    fn add(&mut self, definition: String) -> String {
        let name = format!("t{}", self.0.len());
        self.0.push((name.clone(), definition));
        name
    }
}

const INTEGERS: [(&str, i128, i128); 8] = [
    ("s8", i8::MIN as i128, i8::MAX as i128),
    ("u8", 0, u8::MAX as i128),
    ("s16", i16::MIN as i128, i16::MAX as i128),
    ("u16", 0, u16::MAX as i128),
    ("s32", i32::MIN as i128, i32::MAX as i128),
    ("u32", 0, u32::MAX as i128),
    ("s64", i64::MIN as i128, i64::MAX as i128),
    ("u64", 0, u64::MAX as i128),
];

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub(crate) fn kind(&mut self, depth: usize, definitions: &mut Definitions) -> Kind {
        let Some(deeper) = depth.checked_sub(1) else {
            return match self.below(5) {
                0 => Kind::Bool,
                1 => Kind::F64,
                2 => Kind::Char,
                3 => Kind::Text,
                _ => {
                    let (name, min, max) = INTEGERS[self.below(8)];
                    Kind::Integer(name, min, max)
                }
            };
        };
        match self.below(8) {
            0 => self.kind(0, definitions),
            1 => match self.kind(deeper, definitions) {
                // Bytes are written differently.
                Kind::Integer("u8", ..) => Kind::List(Box::new(Kind::Bool)),
                element => Kind::List(Box::new(element)),
            },
            2 => Kind::Tuple((0..=self.below(4)).map(|_| self.kind(deeper, definitions)).collect()),
            3 => Kind::Option(Box::new(self.kind(deeper, definitions))),
            4 => {
                let ok = Box::new(self.kind(deeper, definitions));
                let err = (self.below(2) == 0).then(|| Box::new(self.kind(deeper, definitions)));
                Kind::Result(ok, err)
            }
            5 => {
                let fields: Vec<Kind> = (0..=self.below(5)).map(|_| self.kind(deeper, definitions)).collect();
                let mut text = "(record".to_owned();
                for (number, field) in fields.iter().enumerate() {
                    write!(text, " (field \"field-{number}\" {})", field.wat()).expect("text");
                }
                Kind::Record(definitions.add(text + ")"), fields)
            }
            6 => {
                let count = [1, 2, 5, 300][self.below(4)];
                let cases: Vec<Option<Kind>> = (0..count)
                    .map(|number| (number < 6 && self.below(3) > 0).then(|| self.kind(deeper, definitions)))
                    .collect();
                let mut text = "(variant".to_owned();
                for (number, case) in cases.iter().enumerate() {
                    write!(text, " (case \"case-{number}\" {})", case.as_ref().map(Kind::wat).unwrap_or_default())
                        .expect("text");
                }
                Kind::Variant(definitions.add(text + ")"), cases)
            }
            _ => {
                let count = [1, 8, 9, 17, 32][self.below(5)];
                let names: String = (0..count).map(|number| format!(" \"flag-{number}\"")).collect();
                Kind::Flags(definitions.add(format!("(flags{names})")), count)
            }
        }
    }

    /// A value, as it comes back.
    pub(crate) fn value(&mut self, kind: &Kind) -> String {
        match kind {
            Kind::Bool => ["true", "false"][self.below(2)].to_owned(),
            Kind::Integer(_, min, max) => match self.below(4) {
                0 => min.to_string(),
                1 => max.to_string(),
                _ => (min + i128::from(self.next()) % (max - min + 1)).to_string(),
            },
            Kind::F64 => ["0.5", "-1e-07", "NaN", "Infinity", "123456.789", "1e+300"][self.below(6)].to_owned(),
            Kind::Char => [r#""a""#, r#""\u00e9""#, r#""\ud83d\ude00""#, r#""\"""#][self.below(4)].to_owned(),
            Kind::Text => [r#""""#, r#""text""#, r#""gr\u00fc\u00df \ud83d\ude00\n""#][self.below(3)].to_owned(),
            Kind::List(element) => {
                let values: Vec<String> = (0..self.below(4)).map(|_| self.value(element)).collect();
                format!("[{}]", values.join(", "))
            }
            Kind::Tuple(parts) => {
                let values: Vec<String> = parts.iter().map(|part| self.value(part)).collect();
                format!("[{}]", values.join(", "))
            }
            Kind::Option(payload) => match (self.below(2), &**payload) {
                (0, _) => "null".to_owned(),
                (_, Kind::Option(_)) => format!("{{\"some\": {}}}", self.value(payload)),
                _ => self.value(payload),
            },
            Kind::Result(ok, err) => match (self.below(2), err) {
                (0, _) => format!("{{\"ok\": {}}}", self.value(ok)),
                (_, Some(err)) => format!("{{\"err\": {}}}", self.value(err)),
                (_, None) => "\"err\"".to_owned(),
            },
            Kind::Record(_, fields) => {
                let fields: Vec<String> = fields
                    .iter()
                    .enumerate()
                    .map(|(number, field)| format!("\"field_{number}\": {}", self.value(field)))
                    .collect();
                format!("{{{}}}", fields.join(", "))
            }
            Kind::Variant(_, cases) => {
                let number = if self.below(2) == 0 { self.below(cases.len()) } else { self.below(cases.len().min(6)) };
                match &cases[number] {
                    Some(payload) => format!("{{\"case_{number}\": {}}}", self.value(payload)),
                    None => format!("\"case_{number}\""),
                }
            }
            Kind::Flags(_, count) => {
                let flags: Vec<String> =
                    (0..*count).filter(|_| self.below(2) == 0).map(|number| format!("\"flag_{number}\"")).collect();
                format!("[{}]", flags.join(", "))
            }
        }
    }
}

impl Kind {
    /// As WAT refers to it.
    pub(crate) fn wat(&self) -> String {
        match self {
            Self::Bool => "bool".to_owned(),
            Self::Integer(name, ..) => (*name).to_owned(),
            Self::F64 => "f64".to_owned(),
            Self::Char => "char".to_owned(),
            Self::Text => "string".to_owned(),
            Self::List(element) => format!("(list {})", element.wat()),
            Self::Tuple(parts) => format!("(tuple {})", parts.iter().map(Self::wat).collect::<Vec<_>>().join(" ")),
            Self::Option(payload) => format!("(option {})", payload.wat()),
            Self::Result(ok, Some(err)) => format!("(result {} (error {}))", ok.wat(), err.wat()),
            Self::Result(ok, None) => format!("(result {})", ok.wat()),
            Self::Record(name, _) | Self::Variant(name, _) | Self::Flags(name, _) => format!("${name}"),
        }
    }
}

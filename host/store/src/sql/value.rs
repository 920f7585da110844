//! Rows as databases hold them, in the few types that results need.
//!
//! Knows no table: what stands in which column is the layout's.

use bytes::Bytes;
use taskhost_core::Timestamp;

/// A value in a column.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Null,
    Text(String),
    Bytes(Bytes),
    Int(i64),
    /// A time without a zone, which is UTC.
    Time(Timestamp),
}

impl Value {
    pub(super) fn text(text: Option<String>) -> Self {
        text.map_or(Self::Null, Self::Text)
    }

    pub(super) fn bytes(bytes: Option<Bytes>) -> Self {
        bytes.map_or(Self::Null, Self::Bytes)
    }

    pub(super) fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// How much is sent for it, more or less.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Bytes(bytes) => bytes.len(),
            Self::Null | Self::Int(_) | Self::Time(_) => 8,
        }
    }
}

/// What is written into one row: values for the first columns of a table, its key first.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    pub(super) values: Vec<Value>,
}

impl Row {
    /// The value that no other row has.
    pub(super) fn key(&self) -> &str {
        match self.values.first() {
            Some(Value::Text(key)) => key,
            _ => "",
        }
    }

    /// By what rows are sorted before they are written.
    pub(super) fn order(&self) -> (usize, &str) {
        (self.values.len(), self.key())
    }

    pub(super) fn size(&self) -> usize {
        self.values.iter().map(Value::size).sum()
    }
}

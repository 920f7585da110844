//! Values as PostgreSQL sends and takes them, in its binary format.

use std::error::Error;

use bytes::{Bytes, BytesMut};
use taskhost_core::Timestamp;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type};

use crate::sql::table::{Column, Kind};
use crate::sql::value::{Row, Value};

/// No text of PostgreSQL holds a zero character.
pub(super) fn clean(text: &str) -> String {
    text.replace('\0', "\u{FFFD}")
}

/// A column of many rows.
#[derive(Debug)]
pub(super) struct Array<'a> {
    pub(super) rows: &'a [Row],
    pub(super) index: usize,
    pub(super) column: Column,
}

impl Array<'_> {
    pub(super) fn kind(&self) -> Type {
        match self.column.kind {
            Kind::Varchar(_) | Kind::Text => Type::TEXT_ARRAY,
            Kind::Bytes => Type::BYTEA_ARRAY,
            Kind::Int => Type::INT4_ARRAY,
            Kind::Time => Type::TIMESTAMP_ARRAY,
            Kind::Zoned => Type::TIMESTAMPTZ_ARRAY,
        }
    }
}

type Failed = Box<dyn Error + Sync + Send>;

impl ToSql for Array<'_> {
    fn to_sql(&self, kind: &Type, out: &mut BytesMut) -> Result<IsNull, Failed> {
        self.rows.iter().map(|row| Element(&row.values[self.index])).collect::<Vec<_>>().to_sql(kind, out)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    tokio_postgres::types::to_sql_checked!();
}

/// A value of it.
#[derive(Debug)]
pub(super) struct Element<'a>(pub(super) &'a Value);

impl Element<'_> {
    pub(super) fn kind(&self) -> Type {
        match self.0 {
            Value::Null | Value::Text(_) => Type::TEXT,
            Value::Bytes(_) => Type::BYTEA,
            Value::Int(_) => Type::INT4,
            Value::Time(_) => Type::TIMESTAMP,
        }
    }
}

impl ToSql for Element<'_> {
    fn to_sql(&self, kind: &Type, out: &mut BytesMut) -> Result<IsNull, Failed> {
        match self.0 {
            Value::Null => Ok(IsNull::Yes),
            Value::Text(text) if text.contains('\0') => clean(text).to_sql(kind, out),
            Value::Text(text) => text.to_sql(kind, out),
            Value::Bytes(bytes) => (&bytes[..]).to_sql(kind, out),
            Value::Int(number) => i32::try_from(*number)?.to_sql(kind, out),
            Value::Time(at) => Time(*at).to_sql(kind, out),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    tokio_postgres::types::to_sql_checked!();
}

/// A `timestamp`, which counts microseconds from the year 2000.
#[derive(Debug)]
pub(super) struct Time(pub(super) Timestamp);

/// 2000-01-01 in microseconds since the Unix epoch.
const EPOCH_MICROS: i64 = 946_684_800_000_000;

impl ToSql for Time {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Failed> {
        out.extend_from_slice(&(self.0.as_micros().saturating_sub(EPOCH_MICROS)).to_be_bytes());
        Ok(IsNull::No)
    }

    fn accepts(kind: &Type) -> bool {
        matches!(*kind, Type::TIMESTAMP | Type::TIMESTAMPTZ)
    }

    tokio_postgres::types::to_sql_checked!();
}

impl<'a> FromSql<'a> for Time {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Failed> {
        let micros = i64::from_be_bytes(raw.try_into()?);
        Ok(Self(Timestamp::from_micros(micros.saturating_add(EPOCH_MICROS))))
    }

    /// Django's columns have a zone, and the same bytes.
    fn accepts(kind: &Type) -> bool {
        matches!(*kind, Type::TIMESTAMP | Type::TIMESTAMPTZ)
    }
}

pub(super) fn value(row: &tokio_postgres::Row, at: usize, kind: Kind) -> Result<Value, tokio_postgres::Error> {
    Ok(match kind {
        Kind::Varchar(_) | Kind::Text => Value::text(row.try_get(at)?),
        Kind::Bytes => Value::bytes(row.try_get::<_, Option<&[u8]>>(at)?.map(Bytes::copy_from_slice)),
        Kind::Int => row.try_get::<_, Option<i32>>(at)?.map_or(Value::Null, |number| Value::Int(number.into())),
        Kind::Time | Kind::Zoned => row.try_get::<_, Option<Time>>(at)?.map_or(Value::Null, |at| Value::Time(at.0)),
    })
}

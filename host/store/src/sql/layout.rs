//! What the tables are called and what stands in which column: one file for each layout.
//!
//! Knows no database and no SQL.

mod celery;
mod django;

use bytes::Bytes;
use taskhost_core::protocol::codec::{BodyError, Format};
use taskhost_core::protocol::content::ToJson;
use taskhost_core::record::ResultValue;
use taskhost_core::{Json, ResultRecord, StoredResult, Timestamp};

pub(super) use celery::CeleryTables;
pub use celery::TableNames;
pub(super) use django::DjangoTables;

use super::table::{Table, Which};
use super::value::{Row, Value};
use crate::cause::Cause;

/// A way of keeping results in two tables, one for tasks and one for groups, and maybe a third for chords.
pub(super) trait Layout: Send + Sync {
    fn table(&self, which: Which) -> &Table;

    /// True if the tables are made here when they are missing.
    fn makes_tables(&self) -> bool {
        true
    }

    /// What whoever lacks tables that are not made here has to do.
    fn lacking(&self) -> &'static str {
        ""
    }

    /// The table in which the members of chords are counted. Without one a task looks after them.
    fn counters(&self) -> Option<&Table> {
        None
    }

    /// The column of the tasks' table that holds the state.
    fn state(&self) -> usize;

    /// What is written for a record. The error is about values that cannot be said in the serializer.
    fn row(&self, record: &ResultRecord, format: &Format) -> Result<Row, BodyError>;

    /// What a row says, with a value for each column.
    fn stored(&self, row: Vec<Value>, format: &Format) -> Result<StoredResult, Cause>;

    /// What is written for a group whose result tuple is this, serialized.
    fn group_row(&self, group: &str, result: Bytes, format: &Format, now: Timestamp) -> Row;

    /// The result tuple in a row, if there is any.
    fn group(&self, row: Vec<Value>, format: &Format) -> Result<Option<Json>, Cause>;
}

/// A result as JSON; a value is not copied for it.
fn said_of(result: &ResultValue) -> Bytes {
    match result {
        ResultValue::Json(json) => json.bytes(),
        ResultValue::Exception(exception) => {
            let mut map = String::new();
            exception.write_json(&mut map);
            map.into()
        }
    }
}

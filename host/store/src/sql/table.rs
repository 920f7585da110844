//! What a table is to the statements: its names, its columns, and what of a row must not change.
//!
//! Which tables there are is the layout's.

use super::value::{Row, Value};

/// A table. Beside these columns it has a number, `id`, that the database gives.
#[derive(Debug, Clone)]
pub(super) struct Table {
    pub(super) schema: Option<String>,
    pub(super) name: String,
    /// Where PostgreSQL gets the number from; none if the table has a default for it.
    pub(super) sequence: Option<&'static str>,
    /// The first is the key.
    pub(super) columns: &'static [Column],
    /// The column and the value that a row keeps for ever once it has it, with all the rest.
    pub(super) sticky: Option<(usize, &'static str)>,
    /// The column with the time by which rows expire.
    pub(super) done: &'static str,
}

/// A column.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) over: Over,
}

/// What becomes of the value that a row has, when the row is written again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Over {
    /// It is the new one.
    Written,
    /// It is the new one, if there is any.
    KeptByNull,
    /// It stays.
    Kept,
}

/// The type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Text of so many characters at most.
    Varchar(usize),
    Text,
    Bytes,
    Int,
    Time,
    /// A time that PostgreSQL knows to be UTC.
    Zoned,
}

/// The two tables of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    Tasks,
    Groups,
}

impl Which {
    pub(super) const ALL: [Self; 2] = [Self::Tasks, Self::Groups];
}

impl Table {
    pub(super) fn key(&self) -> &'static str {
        self.columns[0].name
    }

    /// What of a row no column can hold.
    pub(super) fn unfit(&self, row: &Row) -> Option<String> {
        row.values.iter().zip(self.columns).find_map(|(value, column)| {
            let (Value::Text(text), Kind::Varchar(most)) = (value, column.kind) else { return None };
            // Counting is for those that may be too long.
            let length = if text.len() > most { text.chars().count() } else { 0 };
            let Column { name, .. } = column;
            (length > most)
                .then(|| format!("column {name} of {} takes {most} characters, and this has {length}", self.name))
        })
    }

    /// What is left to be written of rows in this order, each key once, and for each of the rows which of
    /// them it became. A state that is overwritten at once is not written at all.
    ///
    /// What is left is sorted: whoever writes the same rows locks them in the same order, so that one waits for
    /// the other and none is undone. Rows of one width come together and are one statement.
    pub(super) fn collapse(&self, rows: Vec<Row>) -> (Vec<Row>, Vec<usize>) {
        let mut left: Vec<Row> = Vec::with_capacity(rows.len());
        let mut places = std::collections::HashMap::with_capacity(rows.len());
        let mut became = Vec::with_capacity(rows.len());
        for row in rows {
            let place = *places.entry(row.key().to_owned()).or_insert(left.len());
            became.push(place);
            match left.get_mut(place) {
                None => left.push(row),
                Some(earlier) if self.is_settled(earlier) => {}
                Some(earlier) => self.overwrite(earlier, row),
            }
        }
        let mut sorted: Vec<(usize, Row)> = left.into_iter().enumerate().collect();
        sorted.sort_unstable_by(|(_, one), (_, other)| one.order().cmp(&other.order()));
        let mut now = vec![0; sorted.len()];
        for (place, (before, _)) in sorted.iter().enumerate() {
            now[*before] = place;
        }
        (sorted.into_iter().map(|(_, row)| row).collect(), became.into_iter().map(|before| now[before]).collect())
    }

    fn is_settled(&self, row: &Row) -> bool {
        self.sticky.is_some_and(|(column, value)| matches!(&row.values[column], Value::Text(text) if text == value))
    }

    fn overwrite(&self, earlier: &mut Row, mut later: Row) {
        for (index, value) in std::mem::take(&mut earlier.values).into_iter().enumerate() {
            match later.values.get_mut(index) {
                None => later.values.push(value),
                Some(written) => match self.columns[index].over {
                    Over::KeptByNull if written.is_null() => *written = value,
                    Over::Kept => *written = value,
                    Over::Written | Over::KeptByNull => {}
                },
            }
        }
        *earlier = later;
    }
}

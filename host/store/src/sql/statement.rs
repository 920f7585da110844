//! The statements, each in one place, with what the databases say differently as data.
//!
//! Nothing is executed here. Names of tables are the operator's and are quoted.

use super::table::{Column, Kind, Over, Table};

/// Whose SQL it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    Sqlite,
    Postgresql,
    Mysql,
    /// Where SQLAlchemy numbers rows by sequences, as in PostgreSQL (`supports_sequences` of its dialect).
    Mariadb,
}

impl Dialect {
    fn quote(self, name: &str) -> String {
        match self {
            Self::Mysql | Self::Mariadb => format!("`{}`", name.replace('`', "``")),
            Self::Sqlite | Self::Postgresql => format!("\"{}\"", name.replace('"', "\"\"")),
        }
    }

    /// The name of a thing in the schema of a table.
    pub(super) fn in_schema(self, table: &Table, name: &str) -> String {
        match &table.schema {
            Some(schema) => format!("{}.{}", self.quote(schema), self.quote(name)),
            None => self.quote(name),
        }
    }

    pub(super) fn table(self, table: &Table) -> String {
        self.in_schema(table, &table.name)
    }

    /// The type of a column in tables that we make: what `CreateTable` of SQLAlchemy 2.1 says for
    /// celery/backends/database/models.py, but in MySQL, where a `BLOB` ends at 64 KiB and a `DATETIME` has whole
    /// seconds.
    fn kind(self, kind: Kind) -> String {
        let name = match (kind, self) {
            (Kind::Varchar(most), _) => return format!("VARCHAR({most})"),
            (Kind::Int, _) => "INTEGER",
            (Kind::Text, Self::Mysql | Self::Mariadb) => "LONGTEXT",
            (Kind::Text, _) => "TEXT",
            (Kind::Bytes, Self::Sqlite) => "BLOB",
            (Kind::Bytes, Self::Postgresql) => "BYTEA",
            (Kind::Bytes, Self::Mysql | Self::Mariadb) => "LONGBLOB",
            (Kind::Time | Kind::Zoned, Self::Sqlite) => "DATETIME",
            (Kind::Time, Self::Postgresql) => "TIMESTAMP WITHOUT TIME ZONE",
            (Kind::Zoned, Self::Postgresql) => "TIMESTAMP WITH TIME ZONE",
            (Kind::Time | Kind::Zoned, Self::Mysql | Self::Mariadb) => "DATETIME(6)",
        };
        name.to_owned()
    }

    /// PostgreSQL's name for many of them.
    fn array(kind: Kind) -> &'static str {
        match kind {
            Kind::Varchar(_) | Kind::Text => "text[]",
            Kind::Bytes => "bytea[]",
            Kind::Int => "int4[]",
            Kind::Time => "timestamp[]",
            Kind::Zoned => "timestamptz[]",
        }
    }

    /// Writes rows that have values for the first `width` columns. A row that is sticky stays as it is.
    ///
    /// SQLite is given a row at a time, by a statement that it has prepared; MySQL is given `rows` of them;
    /// PostgreSQL as many as its arrays hold, each key once.
    pub(super) fn put(self, table: &Table, width: usize, rows: usize) -> String {
        let columns = &table.columns[..width];
        let names = columns.iter().map(|column| column.name).collect::<Vec<_>>().join(", ");
        match self {
            Self::Sqlite => {
                let places = (1..=width).map(|place| format!("?{place}")).collect::<Vec<_>>().join(", ");
                let name = self.table(table);
                format!("INSERT INTO {name} ({names}) VALUES ({places}) {}", self.on_conflict(table, columns))
            }
            Self::Postgresql => {
                let name = self.table(table);
                let arrays = columns.iter().enumerate();
                let arrays = arrays.map(|(at, column)| format!("${}::{}", at + 1, Self::array(column.kind)));
                let arrays = arrays.collect::<Vec<_>>().join(", ");
                let sets = self.sets(table, columns, "v").join(", ");
                let (key, stays) = (table.key(), self.unless_sticky(table, "AND"));
                let number = table.sequence.map(|sequence| self.in_schema(table, sequence).replace('\'', "''"));
                let (id, next) = match number {
                    Some(sequence) => ("id, ", format!("nextval('{sequence}'), ")),
                    None => ("", String::new()),
                };
                let values = columns.iter().map(|column| format!("v.{}", column.name)).collect::<Vec<_>>().join(", ");
                // An insertion that finds its row would have taken a number all the same, of which there are 2^31:
                // so what is there is updated, and only the rest is inserted.
                format!(
                    "WITH v AS (SELECT * FROM unnest({arrays}) AS v({names})), \
                     updated AS (UPDATE {name} AS t SET {sets} FROM v WHERE t.{key} = v.{key}{stays}) \
                     INSERT INTO {name} AS t ({id}{names}) SELECT {next}{values} FROM v \
                     WHERE NOT EXISTS (SELECT 1 FROM {name} AS there WHERE there.{key} = v.{key}) {}",
                    self.on_conflict(table, columns)
                )
            }
            Self::Mysql | Self::Mariadb => {
                let (number, value) = match (self, table.sequence) {
                    (Self::Mariadb, Some(sequence)) => {
                        ("id, ", format!("NEXTVAL({}),", self.in_schema(table, sequence)))
                    }
                    _ => ("", String::new()),
                };
                let row = format!("({value}{})", vec!["?"; width].join(","));
                let mut text = format!("INSERT INTO {} ({number}{names}) VALUES ", self.table(table));
                for index in 0..rows {
                    text.push_str(if index == 0 { "" } else { "," });
                    text.push_str(&row);
                }
                text.push_str(" ON DUPLICATE KEY UPDATE ");
                text.push_str(&self.sets_of_mysql(table, columns).join(", "));
                text
            }
        }
    }

    fn on_conflict(self, table: &Table, columns: &[Column]) -> String {
        let sets = self.sets(table, columns, "excluded").join(", ");
        format!("ON CONFLICT ({}) DO UPDATE SET {sets}{}", table.key(), self.unless_sticky(table, "WHERE"))
    }

    /// The name by which a row that is there already is called.
    fn there(self, table: &Table) -> String {
        match self {
            Self::Postgresql => "t".to_owned(),
            Self::Sqlite | Self::Mysql | Self::Mariadb => self.table(table),
        }
    }

    fn sets(self, table: &Table, columns: &[Column], from: &str) -> Vec<String> {
        let there = self.there(table);
        let set = |column: &Column| {
            let name = column.name;
            match column.over {
                Over::Written => Some(format!("{name} = {from}.{name}")),
                Over::KeptByNull => Some(format!("{name} = COALESCE({from}.{name}, {there}.{name})")),
                Over::Kept => None,
            }
        };
        columns[1..].iter().filter_map(set).collect()
    }

    fn unless_sticky(self, table: &Table, word: &str) -> String {
        let Some((column, value)) = table.sticky else { return String::new() };
        format!(" {word} {}.{} IS DISTINCT FROM '{value}'", self.there(table), table.columns[column].name)
    }

    /// MySQL has no condition here, and sees what it has assigned: what decides comes last. Neither can it say that
    /// the key is meant: a row of somebody else that has the new row's number is found as well, and then the key is
    /// made one that no column holds, so that nothing is written.
    fn sets_of_mysql(self, table: &Table, columns: &[Column]) -> Vec<String> {
        let sticky = table.sticky.map(|(column, value)| (table.columns[column].name, value));
        let set = |column: &Column| {
            let name = column.name;
            let new = match column.over {
                Over::Written => format!("VALUES({name})"),
                Over::KeptByNull => format!("COALESCE(VALUES({name}), {name})"),
                Over::Kept => name.to_owned(),
            };
            match sticky {
                Some((decides, value)) => format!("{name} = IF({decides} <=> '{value}', {name}, {new})"),
                None => format!("{name} = {new}"),
            }
        };
        let is_last = |column: &&Column| sticky.is_some_and(|(decides, _)| decides == column.name);
        let (last, first): (Vec<&Column>, Vec<&Column>) = columns[1..].iter().partition(|column| is_last(column));
        let key = table.key();
        let guard = format!("{key} = IF({key} = VALUES({key}), {key}, REPEAT('x', 1000))");
        std::iter::once(guard).chain(first.into_iter().chain(last).map(set)).collect()
    }

    fn place(self, place: usize) -> String {
        match self {
            Self::Sqlite => format!("?{place}"),
            Self::Postgresql => format!("${place}"),
            Self::Mysql | Self::Mariadb => "?".to_owned(),
        }
    }

    /// All columns of the row with a key.
    pub(super) fn get(self, table: &Table) -> String {
        let names = table.columns.iter().map(|column| column.name).collect::<Vec<_>>().join(", ");
        format!("SELECT {names} FROM {} WHERE {} = {}", self.table(table), table.key(), self.place(1))
    }

    /// One column of it.
    pub(super) fn peek(self, table: &Table, column: usize) -> String {
        let name = table.columns[column].name;
        format!("SELECT {name} FROM {} WHERE {} = {}", self.table(table), table.key(), self.place(1))
    }

    pub(super) fn forget(self, table: &Table) -> String {
        format!("DELETE FROM {} WHERE {} = {}", self.table(table), table.key(), self.place(1))
    }

    /// Inserts a row of `group_id`, `sub_tasks` and `count` into Django's `ChordCounter`, unless the group has one.
    pub(super) fn begin_counter(self, table: &Table) -> String {
        let absent = match self {
            Self::Sqlite | Self::Postgresql => "ON CONFLICT (group_id) DO NOTHING",
            Self::Mysql | Self::Mariadb => "ON DUPLICATE KEY UPDATE group_id = group_id",
        };
        let [one, two, three] = [1, 2, 3].map(|place| self.place(place));
        format!(
            "INSERT INTO {} (group_id, sub_tasks, count) VALUES ({one}, {two}, {three}) {absent}",
            self.table(table)
        )
    }

    /// Gives it another `group_id` and `count`, and `sub_tasks` a suffix, if `id`, `group_id` and `count` are still
    /// what they were; sent a second time it finds nothing.
    pub(super) fn change_counter(self, table: &Table) -> String {
        let [key, count, suffix, id, key_before, count_before] = [1, 2, 3, 4, 5, 6].map(|place| self.place(place));
        let longer = match self {
            Self::Sqlite | Self::Postgresql => format!("sub_tasks || {suffix}"),
            Self::Mysql | Self::Mariadb => format!("CONCAT(sub_tasks, {suffix})"),
        };
        format!(
            "UPDATE {} SET group_id = {key}, count = {count}, sub_tasks = {longer} \
             WHERE id = {id} AND group_id = {key_before} AND count = {count_before}",
            self.table(table)
        )
    }

    /// Deletes it, by `group_id`, `id` and `count`.
    pub(super) fn end_counter(self, table: &Table) -> String {
        let [key, id, count] = [1, 2, 3].map(|place| self.place(place));
        format!("DELETE FROM {} WHERE group_id = {key} AND id = {id} AND count = {count}", self.table(table))
    }

    /// Deletes one of a `group_id` that is older than an `id`.
    pub(super) fn end_older_counter(self, table: &Table) -> String {
        let [key, id] = [1, 2].map(|place| self.place(place));
        format!("DELETE FROM {} WHERE group_id = {key} AND id < {id}", self.table(table))
    }

    /// Deletes some of those that were done before a time, the oldest first, along the index. What somebody else
    /// is deleting is left to them where the database can say that.
    pub(super) fn delete_expired(self, table: &Table) -> String {
        let (name, done) = (self.table(table), table.done);
        let (before, limit) = (self.place(1), self.place(2));
        match self {
            Self::Mysql | Self::Mariadb => {
                format!("DELETE FROM {name} WHERE {done} < {before} ORDER BY {done} LIMIT {limit}")
            }
            Self::Sqlite | Self::Postgresql => {
                let skip = if self == Self::Postgresql { " FOR UPDATE SKIP LOCKED" } else { "" };
                format!(
                    "DELETE FROM {name} WHERE id IN \
                     (SELECT id FROM {name} WHERE {done} < {before} ORDER BY {done} LIMIT {limit}{skip})"
                )
            }
        }
    }

    /// Makes the table, as SQLAlchemy would, in one go; harmless if somebody else is faster.
    pub(super) fn create(self, table: &Table) -> Vec<String> {
        let name = self.table(table);
        let columns = table.columns.iter().map(|column| format!("{} {}", column.name, self.kind(column.kind)));
        let columns = columns.collect::<Vec<_>>().join(", ");
        let (key, done) = (table.key(), table.done);
        let index = self.quote(&format!("ix_{}_{done}", table.name));
        match self {
            Self::Sqlite => vec![
                format!(
                    "CREATE TABLE {name} (id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, {columns}, UNIQUE ({key}))"
                ),
                format!("CREATE INDEX {index} ON {name} ({done})"),
            ],
            Self::Postgresql => {
                let mut statements = self.number(table);
                statements.push(format!(
                    "CREATE TABLE IF NOT EXISTS {name} (id INTEGER NOT NULL, {columns}, PRIMARY KEY (id), UNIQUE ({key}))"
                ));
                statements.push(format!("CREATE INDEX IF NOT EXISTS {index} ON {name} ({done})"));
                statements
            }
            // Ids differ by case, and tracebacks hold any character, whatever the server thinks by itself.
            Self::Mysql | Self::Mariadb => {
                let number = if self == Self::Mysql { " AUTO_INCREMENT" } else { "" };
                let mut statements = self.number(table);
                statements.push(format!(
                    "CREATE TABLE IF NOT EXISTS {name} (id INTEGER NOT NULL{number}, {columns}, PRIMARY KEY (id), \
                     UNIQUE ({key}), INDEX {index} ({done})) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
                ));
                statements
            }
        }
    }

    /// Makes what gives a table its numbers, where that is a thing of its own.
    pub(super) fn number(self, table: &Table) -> Vec<String> {
        let Some(sequence) = table.sequence.map(|sequence| self.in_schema(table, sequence)) else { return Vec::new() };
        match self {
            Self::Sqlite | Self::Mysql => Vec::new(),
            Self::Postgresql | Self::Mariadb => vec![format!("CREATE SEQUENCE IF NOT EXISTS {sequence}")],
        }
    }

    /// The largest number in a table, and one more.
    pub(super) fn next_number(self, table: &Table) -> String {
        format!("SELECT COALESCE(MAX(id), 0) + 1 FROM {}", self.table(table))
    }

    /// Lets the numbers of a table of MariaDB that has rows from before there was a sequence go on after them; they
    /// never go back.
    pub(super) fn go_on(self, table: &Table, number: i64) -> String {
        let sequence = table.sequence.unwrap_or_default();
        format!("SELECT SETVAL({}, {number}, 0)", self.in_schema(table, sequence))
    }

    /// Adds a column that an older Celery did not make (`_migrate_missing_columns` of
    /// celery/backends/database/session.py).
    pub(super) fn add_column(self, table: &Table, column: &Column) -> String {
        let there = if self == Self::Postgresql { "IF NOT EXISTS " } else { "" };
        format!("ALTER TABLE {} ADD COLUMN {there}{} {}", self.table(table), column.name, self.kind(column.kind))
    }
}

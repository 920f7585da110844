//! Reads tables of comma-separated values that users upload, and describes their columns.

use csv::{ReaderBuilder, StringRecord};
use serde::Serialize;
use taskhost::{Context, TaskError, task};

/// How often clients hear of it while a table is read.
const REPORTS: usize = 10;

/// What the client gets.
#[derive(Debug, PartialEq, Serialize)]
struct Summary {
    rows: usize,
    columns: Vec<Column>,
}

/// What is known about a column. Of one that holds something else than numbers, only how much.
#[derive(Debug, PartialEq, Serialize)]
struct Column {
    name: String,
    values: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    numbers: Option<Numbers>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct Numbers {
    least: f64,
    most: f64,
    mean: f64,
}

/// Describes the columns of a table, and says while it reads how far it is.
#[task(name = "tables.summarise", time_limit = 30)]
fn summarise(context: &Context, table: &str) -> Result<Summary, TaskError> {
    let lines = table.lines().count();
    let step = (lines / REPORTS).max(1);
    let mut reader = ReaderBuilder::new().from_reader(table.as_bytes());
    let mut columns: Vec<Tally> = reader.headers()?.iter().map(Tally::new).collect();
    if columns.is_empty() {
        return Err(TaskError::new("ValueError", "the table is empty"));
    }
    let (mut row, mut rows) = (StringRecord::new(), 0);
    while reader.read_record(&mut row).map_err(|error| TaskError::new("ValueError", error))? {
        for (value, column) in row.iter().zip(&mut columns) {
            column.add(value);
        }
        rows += 1;
        if rows % step == 0 {
            context.progress(rows as u64, lines as u64);
        }
    }
    Ok(Summary { rows, columns: columns.into_iter().map(Tally::finish).collect() })
}

taskhost::plugin!(summarise);

/// A column while it is read.
struct Tally {
    name: String,
    values: usize,
    sum: f64,
    range: Option<(f64, f64)>,
    is_numeric: bool,
}

impl Tally {
    fn new(name: &str) -> Self {
        Self { name: name.trim().to_owned(), values: 0, sum: 0.0, range: None, is_numeric: true }
    }

    fn add(&mut self, value: &str) {
        let value = value.trim();
        if value.is_empty() {
            return;
        }
        self.values += 1;
        // JSON has no infinity that every client could read.
        match value.parse::<f64>() {
            Ok(number) if number.is_finite() => {
                self.sum += number;
                let (least, most) = self.range.unwrap_or((number, number));
                self.range = Some((least.min(number), most.max(number)));
            }
            _ => self.is_numeric = false,
        }
    }

    fn finish(self) -> Column {
        let numbers = self.range.filter(|_| self.is_numeric);
        let numbers = numbers.map(|(least, most)| Numbers { least, most, mean: self.sum / self.values as f64 });
        Column { name: self.name, values: self.values, numbers }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(table: &str) -> Result<Summary, TaskError> {
        summarise(&Context::new("id", "tables.summarise", 0), table)
    }

    #[test]
    fn columns_are_described() {
        let summary = read("name, height\n\"Ada, L.\", 1.5\nGrace,\nLin, 2.5\n").unwrap();
        let numbers = Numbers { least: 1.5, most: 2.5, mean: 2.0 };
        let column = |name: &str, values, numbers| Column { name: name.to_owned(), values, numbers };
        assert_eq!(
            summary,
            Summary { rows: 3, columns: vec![column("name", 3, None), column("height", 2, Some(numbers))] }
        );
    }

    #[test]
    fn a_broken_table_is_refused_with_its_line() {
        let error = read("a,b\n1,2\n1,2,3\n").unwrap_err().to_string();
        assert!(error.starts_with("ValueError: CSV error: record 2 (line: 3"), "{error}");
        assert_eq!(read("").unwrap_err().to_string(), "ValueError: the table is empty");
    }
}

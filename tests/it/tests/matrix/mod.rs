//! What each broker and each result store can do: the tables of `TRANSPORTS.md`, every cell of which is a run.
//!
//! A cell says what happened with the real server, the real binary and a stock Celery client. A run that says something
//! else than the page fails; `UPDATE_EXPECT=1` writes the page anew, to be read before it is committed.

mod brokers;
mod stores;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::{env, fs, thread};

use it::Site;

/// How many rows are tried at the same time: they wait more than they work.
const ROWS_AT_A_TIME: usize = 3;

/// One thing that may be tried.
type Probe = fn(&Site) -> String;

/// A row of a table.
struct Row {
    name: &'static str,
    url: &'static str,
    /// Opens a place with this broker or store; none if this machine lacks something, which is said.
    open: fn() -> Option<Site>,
}

/// What a probe says of something that is there, and of something that is not.
const YES: &str = "yes";
const NO: &str = "–";

#[test]
fn brokers_can_do_what_the_page_says() {
    check("brokers", "broker", brokers::ROWS, brokers::COLUMNS);
}

#[test]
fn stores_can_do_what_the_page_says() {
    check("stores", "result store", stores::ROWS, stores::COLUMNS);
}

fn check(mark: &str, corner: &str, rows: &[Row], columns: &[(&str, Probe)]) {
    let Some(cells) = run(rows, columns) else { return };
    let table = render(corner, rows, columns, &cells);
    let page = page();
    let text = fs::read_to_string(&page).unwrap_or_else(|error| panic!("read {}: {error}", page.display()));
    let (before, found, after) = cut(&text, mark);
    if found == table {
        return;
    }
    if env::var_os("UPDATE_EXPECT").is_some() {
        let text = format!("{before}{table}{after}");
        fs::write(&page, text).unwrap_or_else(|error| panic!("write {}: {error}", page.display()));
        return;
    }
    panic!("TRANSPORTS.md says of {mark}:\n{found}\nand a run says:\n{table}\nUPDATE_EXPECT=1 writes the page anew");
}

/// Tries everything; none if something cannot be tried here. What fails is told with its place.
fn run(rows: &[Row], columns: &[(&str, Probe)]) -> Option<Vec<Vec<String>>> {
    let results: Vec<Mutex<Option<Vec<String>>>> = rows.iter().map(|_| Mutex::new(None)).collect();
    let next = Mutex::new(0);
    thread::scope(|scope| {
        for _ in 0..ROWS_AT_A_TIME {
            scope.spawn(|| {
                loop {
                    let index = {
                        let mut next = next.lock().expect("a failed row ends the test");
                        *next += 1;
                        *next - 1
                    };
                    let (Some(row), Some(result)) = (rows.get(index), results.get(index)) else { return };
                    let cells: Option<Vec<String>> = columns
                        .iter()
                        .map(|(column, probe)| {
                            let site = (row.open)()?;
                            eprintln!("matrix: {}: {column}", row.name);
                            Some(probe(&site))
                        })
                        .collect();
                    *result.lock().expect("nobody else has this row") = cells;
                }
            });
        }
    });
    results.into_iter().map(|cells| cells.into_inner().expect("nobody has it any more")).collect()
}

fn render(corner: &str, rows: &[Row], columns: &[(&str, Probe)], cells: &[Vec<String>]) -> String {
    let mut table = format!("| {corner} | URL |");
    columns.iter().for_each(|(column, _)| write!(table, " {column} |").expect("a string takes it"));
    table.push_str("\n|---|---|");
    columns.iter().for_each(|_| table.push_str("---|"));
    table.push('\n');
    for (row, cells) in rows.iter().zip(cells) {
        writeln!(table, "| {} | `{}` | {} |", row.name, row.url, cells.join(" | ")).expect("a string takes it");
    }
    table
}

fn page() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../TRANSPORTS.md")
}

/// The page before a table, the table, and the page behind it.
fn cut<'a>(text: &'a str, mark: &str) -> (&'a str, &'a str, &'a str) {
    let (begin, end) = (format!("<!-- begin {mark} -->\n"), format!("<!-- end {mark} -->"));
    let from = text.find(&begin).unwrap_or_else(|| panic!("the page has no `{}`", begin.trim())) + begin.len();
    let to = text.find(&end).unwrap_or_else(|| panic!("the page has no `{end}`"));
    (&text[..from], &text[from..to], &text[to..])
}

//! What workers answered, for people: a block for each worker, a table where the answer is a list.
//!
//! For programs it stays as it came.

use taskhost_core::Timestamp;
use taskhost_core::control::{Method, MethodKind};
use taskhost_core::protocol::content::{Json, Kind};
use taskhost_core::protocol::repr::repr;

use super::ask::Replies;

/// Longest text in a cell of a table, in characters.
const CELL_MAX: usize = 48;
/// Longest value behind a key.
const VALUE_MAX: usize = 400;
/// How deep keys are joined.
const DEPTH_MAX: usize = 4;
const INDENT: &str = "    ";

/// One object: names and answers.
pub(super) fn json(replies: &Replies) -> Json {
    Json::object(replies)
}

/// Who is there.
pub(super) fn status(replies: &Replies) -> String {
    let mut text = String::new();
    for (node, reply) in replies {
        let state = error(reply).map_or("OK".to_owned(), |error| format!("ERROR {}", line(&error)));
        text.push_str(&format!("{}: {state}\n", line(node)));
    }
    let count = replies.len();
    text.push_str(&format!("\n{count} {} online.\n", if count == 1 { "node" } else { "nodes" }));
    text
}

/// All answers to a method.
pub(super) fn replies(method: &str, replies: &Replies, now: Timestamp) -> String {
    let blocks: Vec<String> = replies.iter().map(|(node, reply)| block(method, node, reply, now)).collect();
    blocks.join("\n")
}

/// What went wrong, if the answer is that something did.
pub(super) fn error(reply: &Json) -> Option<String> {
    let error = reply.get("error").filter(|_| reply.kind() == Kind::Map && reply.get("ok").is_none())?;
    Some(plain(&error, VALUE_MAX))
}

/// A text on one line, without characters that a terminal would obey.
pub(in crate::command) fn line(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

fn block(method: &str, node: &str, reply: &Json, now: Timestamp) -> String {
    let node = line(node);
    if let Some(error) = error(reply) {
        return format!("{node}: ERROR {}\n", line(&error));
    }
    let value = match reply.get("ok") {
        Some(ok) if reply.members().count() == 1 => ok,
        _ => reply.clone(),
    };
    let lines = match value.kind() {
        Kind::Null if is_question(method) => return format!("{node}: nothing\n"),
        Kind::Null => return format!("{node}: OK\n"),
        Kind::List => list(method, &value, now),
        Kind::Map if method == "query_task" => queried(&value, now),
        Kind::Map => map(&value),
        _ => {
            let text = plain(&value, usize::MAX);
            let mut lines: Vec<String> = text.trim_matches('\n').split('\n').map(line).collect();
            if let [only] = lines.as_mut_slice() {
                return format!("{node}: {only}\n");
            }
            lines
        }
    };
    if lines.is_empty() {
        return format!("{node}: nothing\n");
    }
    let mut text = format!("{node}:\n");
    for line in lines {
        text.push_str(format!("{INDENT}{line}").trim_end());
        text.push('\n');
    }
    text
}

/// True for what is asked, and not told.
fn is_question(method: &str) -> bool {
    Method::find(method).is_some_and(|method| method.kind == MethodKind::Inspect)
}

fn list(method: &str, list: &Json, now: Timestamp) -> Vec<String> {
    if list.elements().any(|item| item.kind() != Kind::Map) {
        return list.elements().map(|item| line(&plain(&item, VALUE_MAX))).collect();
    }
    let items = list.elements();
    match method {
        "active" | "reserved" => {
            let rows = items.map(|request| request_cells(&request, now)).collect();
            table(&REQUEST_COLUMNS, rows)
        }
        "scheduled" => {
            let mut columns = vec!["eta"];
            columns.extend(REQUEST_COLUMNS);
            let rows = items.map(|item| {
                let mut cells = vec![cell(&item, "eta")];
                cells.extend(request_cells(&item.get("request").unwrap_or_else(Json::empty_map), now));
                cells
            });
            table(&columns, rows.collect())
        }
        "active_queues" => {
            let rows = items.map(|queue| {
                let exchange = queue.get("exchange").unwrap_or_else(Json::empty_map);
                let arguments = queue.get("queue_arguments").filter(|it| !it.is_null() && it.members().count() > 0);
                vec![
                    cell(&queue, "name"),
                    cell(&exchange, "name"),
                    cell(&exchange, "type"),
                    cell(&queue, "routing_key"),
                    cell(&queue, "durable"),
                    cell(&queue, "paused"),
                    arguments.map(|it| shown(&it)).unwrap_or_default(),
                ]
            });
            table(&["queue", "exchange", "type", "routing_key", "durable", "paused", "arguments"], rows.collect())
        }
        _ => {
            let mut columns: Vec<String> = Vec::new();
            for item in list.elements() {
                for (key, _) in item.members() {
                    if !columns.iter().any(|known| *known == key) {
                        columns.push(key.into_owned());
                    }
                }
            }
            let names: Vec<&str> = columns.iter().map(String::as_str).collect();
            table(&names, items.map(|item| names.iter().map(|key| cell(&item, key)).collect()).collect())
        }
    }
}

const REQUEST_COLUMNS: [&str; 6] = ["id", "task", "args", "kwargs", "queue", "running"];

fn request_cells(request: &Json, now: Timestamp) -> Vec<String> {
    let queue = request.get("delivery_info").map(|info| cell(&info, "routing_key")).unwrap_or_default();
    let started = request.get("time_start").and_then(|start| start.as_f64());
    let running = started.map(|start| format!("{:.1} s", (now.as_micros() as f64 / 1e6 - start).max(0.0)));
    vec![
        cell(request, "id"),
        cell(request, "name"),
        cell(request, "args"),
        cell(request, "kwargs"),
        queue,
        running.unwrap_or_default(),
    ]
}

/// Ids with state and request.
fn queried(map: &Json, now: Timestamp) -> Vec<String> {
    let mut columns = vec!["state"];
    columns.extend(REQUEST_COLUMNS);
    let rows = map.members().map(|(id, found)| {
        let mut parts = found.elements();
        let state = parts.next().map(|state| shown(&state)).unwrap_or_default();
        let mut cells = vec![state];
        match parts.next().filter(|request| request.kind() == Kind::Map) {
            Some(request) => cells.extend(request_cells(&request, now)),
            None => cells.push(cut(&line(&id))),
        }
        cells
    });
    table(&columns, rows.collect())
}

/// Keys and values, those of maps inside with dots between.
fn map(map: &Json) -> Vec<String> {
    let mut pairs = Vec::new();
    flatten(map, "", DEPTH_MAX, &mut pairs);
    let width = pairs.iter().map(|(key, _)| key.chars().count()).max().unwrap_or(0).min(CELL_MAX);
    pairs.into_iter().map(|(key, value)| format!("{key:width$}  {value}")).collect()
}

fn flatten(map: &Json, prefix: &str, depth: usize, pairs: &mut Vec<(String, String)>) {
    for (key, value) in map.members() {
        let key = format!("{prefix}{}", line(&key));
        if value.kind() == Kind::Map && depth > 0 && value.members().next().is_some() {
            flatten(&value, &format!("{key}."), depth - 1, pairs);
        } else {
            pairs.push((key, line(&plain(&value, VALUE_MAX))));
        }
    }
}

/// Columns in which nothing stands are left out.
fn table(columns: &[&str], rows: Vec<Vec<String>>) -> Vec<String> {
    if rows.is_empty() {
        return Vec::new();
    }
    let at = |row: &[String], column: usize| row.get(column).cloned().unwrap_or_default();
    let used: Vec<usize> =
        (0..columns.len()).filter(|column| rows.iter().any(|row| !at(row, *column).is_empty())).collect();
    let width = |column: usize| {
        let cells = rows.iter().map(|row| at(row, column).chars().count());
        cells.chain([columns[column].len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = used.iter().map(|column| width(*column)).collect();
    let render = |cells: Vec<String>| {
        let padded = cells.into_iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let mut lines = vec![render(used.iter().map(|column| columns[*column].to_owned()).collect())];
    lines.extend(rows.iter().map(|row| render(used.iter().map(|column| at(row, *column)).collect())));
    lines
}

fn cell(map: &Json, key: &str) -> String {
    map.get(key).map(|value| shown(&value)).unwrap_or_default()
}

/// A value in a cell; nothing if it is null.
fn shown(value: &Json) -> String {
    match value.kind() {
        Kind::Null => String::new(),
        _ => cut(&line(&plain(value, CELL_MAX + 1))),
    }
}

/// A text as it is, truth in our words, and all else as Python shows it, which is what people know from there.
fn plain(value: &Json, chars_max: usize) -> String {
    match (value.text_lossy(), value.as_bool()) {
        (Some(text), _) => text.into_owned(),
        (None, Some(truth)) => if truth { "yes" } else { "no" }.to_owned(),
        (None, None) if value.is_null() => "none".to_owned(),
        (None, None) => repr(value, chars_max),
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(CELL_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests;

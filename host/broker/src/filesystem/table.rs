//! Which queues an exchange leads to: a file `<exchange>.exchange` with a JSON list, which kombu locks and
//! rewrites in place.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use taskhost_core::protocol::content::{Json, Kind};
use taskhost_core::{ExchangeKind, Queue};
use tracing::warn;

use super::failure::Failure;
use super::file::{self, Manner};
use super::folders::{self, Folders};
use crate::broadcast::{Subscription, Topic};
use crate::kombu;

/// One line of the table (kombu's `exchange_queue_t`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Binding {
    pub(super) routing_key: String,
    /// The regular expression of a topic; otherwise empty.
    pub(super) pattern: String,
    pub(super) queue: String,
}

impl Binding {
    /// That of a queue.
    pub(super) fn of(queue: &Queue) -> Self {
        let pattern = match queue.exchange.kind {
            ExchangeKind::Topic => kombu::pattern(&queue.routing_key),
            ExchangeKind::Direct | ExchangeKind::Fanout | ExchangeKind::Headers => String::new(),
        };
        Self { routing_key: queue.routing_key.clone(), pattern, queue: queue.name.to_string() }
    }

    /// That of somebody who listens.
    pub(super) fn to(subscription: &Subscription) -> Self {
        let Subscription { topic, routing_key, queue, .. } = subscription;
        let pattern = match topic {
            Topic::Events => kombu::pattern(routing_key),
            Topic::Mailboxes | Topic::Replies => String::new(),
        };
        Self { routing_key: routing_key.clone(), pattern, queue: queue.clone() }
    }

    pub(super) fn to_json(&self) -> Json {
        Json::array([&self.routing_key, &self.pattern, &self.queue].map(|text| Json::text(text)))
    }

    pub(super) fn parse(line: &Json) -> Option<Self> {
        let mut parts = line.elements().map(|part| part.as_text().map(String::from).unwrap_or_default());
        Some(Self { routing_key: parts.next()?, pattern: parts.next()?, queue: parts.next()? })
    }
}

/// The table of an exchange; empty if there is none.
pub(super) fn read(folders: &Folders, exchange: &str) -> Result<Vec<Binding>, Failure> {
    let path = path(folders, exchange)?;
    match File::open(&path) {
        Ok(file) => read_locked(file, &path, Manner::Shared).map(|(_, table)| table),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(Failure::io("open", &path, &error)),
    }
}

/// Adds a line if it is not there.
pub(super) fn bind(folders: &Folders, exchange: &str, binding: &Binding) -> Result<(), Failure> {
    let path = path(folders, exchange)?;
    folders::make(&folders.control)?;
    // Never emptied before it is locked.
    let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
    let file = opened.map_err(|error| Failure::io("open", &path, &error))?;
    let (file, mut table) = read_locked(file, &path, Manner::Alone)?;
    if table.contains(binding) {
        return Ok(());
    }
    table.insert(0, binding.clone());
    rewrite(file, &path, &table)
}

/// Takes a line out.
pub(super) fn unbind(folders: &Folders, exchange: &str, binding: &Binding) -> Result<(), Failure> {
    let path = path(folders, exchange)?;
    let file = match OpenOptions::new().read(true).write(true).open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Failure::io("open", &path, &error)),
    };
    let (file, mut table) = read_locked(file, &path, Manner::Alone)?;
    if !table.contains(binding) {
        return Ok(());
    }
    table.retain(|line| line != binding);
    rewrite(file, &path, &table)
}

/// The queues that a message goes to, each once.
pub(super) fn matching(table: &[Binding], routing_key: &str, is_fanout: bool) -> Vec<String> {
    let mut queues: Vec<String> = table
        .iter()
        .filter(|line| match line.pattern.is_empty() {
            _ if is_fanout => true,
            true => line.routing_key == routing_key,
            false => kombu::matches_topic(&line.routing_key, routing_key),
        })
        .map(|line| line.queue.clone())
        .collect();
    queues.sort_unstable();
    queues.dedup();
    queues
}

/// Where the table is, by the rules of kombu's `_is_valid_exchange_name`.
fn path(folders: &Folders, exchange: &str) -> Result<PathBuf, Failure> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if !exchange.bytes().all(is_plain) || (!exchange.is_empty() && exchange.bytes().all(|byte| byte == b'.')) {
        return Err(Failure::refused(format!(
            "exchange `{exchange}` cannot be a file: kombu allows letters, digits, `.`, `_` and `-`"
        )));
    }
    Ok(folders.control.join(format!("{exchange}.exchange")))
}

/// The lock is that of the file, and ends with it.
fn read_locked(mut file: File, path: &Path, manner: Manner) -> Result<(File, Vec<Binding>), Failure> {
    file::lock(&file, path, manner)?;
    let mut text = Vec::new();
    file.read_to_end(&mut text).map_err(|error| Failure::io("read", path, &error))?;
    if text.is_empty() {
        // Somebody is about to write the first line.
        return Ok((file, Vec::new()));
    }
    let table = match Json::parse(text) {
        Ok(table) if table.kind() == Kind::List => table.elements().filter_map(|line| Binding::parse(&line)).collect(),
        _ => {
            warn!("{} is no table of an exchange: it counts as empty", path.display());
            Vec::new()
        }
    };
    Ok((file, table))
}

fn rewrite(mut file: File, path: &Path, table: &[Binding]) -> Result<(), Failure> {
    let text = Json::array(table.iter().map(Binding::to_json));
    let bytes = text.as_str().as_bytes();
    let written = file
        .seek(SeekFrom::Start(0))
        .and_then(|_| file.write_all(bytes))
        .and_then(|()| file.set_len(bytes.len() as u64))
        .and_then(|()| file.sync_data());
    written.map_err(|error| Failure::io("write", path, &error))
}

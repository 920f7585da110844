//! memcached's text protocol (doc/protocol.txt), as far as a result store speaks it.
//!
//! Turns commands into bytes and bytes into replies, without a connection of its own. Every command is answered: a
//! client that does not listen (`noreply`) does not hear that something was refused either.

use std::io;

use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt};

/// The longest key that the server takes.
pub(super) const KEY_BYTES_MAX: usize = 250;
/// The longest line that a server answers with: a key, three numbers and a word, or an error.
const LINE_BYTES_MAX: u64 = 2_048;
/// The largest value that is read. Servers keep 1 MiB unless they are told (`-I`), and 1 GiB at most.
const VALUE_BYTES_MAX: usize = 256 * 1024 * 1024;
/// How many keys are asked for in one line.
pub(super) const KEYS_MAX: usize = 100;

/// How a value is to be stored.
#[derive(Debug, Clone, Copy)]
pub(super) enum Store {
    Set,
    /// Only if there is none.
    Add,
    /// Only over the one that was read with this number.
    Over(u64),
}

/// Commands that are sent in one go, and what their answers will look like.
#[derive(Default)]
pub(super) struct Exchange {
    bytes: Vec<u8>,
    expected: Vec<Expected>,
    /// Nothing in it does harm if it is done twice.
    pub(super) is_repeatable: bool,
}

#[derive(Clone, Copy)]
enum Expected {
    Values,
    Line,
}

/// A value and the number by which it can be replaced.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Item {
    pub(super) key: Vec<u8>,
    pub(super) value: Vec<u8>,
    pub(super) unique: u64,
}

/// What the server says to one command.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Reply {
    /// Those of the keys that it has.
    Values(Vec<Item>),
    /// STORED, TOUCHED, DELETED, VERSION.
    Done,
    /// NOT_STORED: there is one already.
    NotStored,
    /// EXISTS: somebody has stored another one.
    Changed,
    /// NOT_FOUND.
    Missing,
    /// What a counter has come to.
    Number(u64),
    /// CLIENT_ERROR or SERVER_ERROR, with what it says.
    Refused(String),
}

impl Exchange {
    pub(super) fn new() -> Self {
        Self { is_repeatable: true, ..Self::default() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.expected.is_empty()
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many answers there will be.
    pub(super) fn len(&self) -> usize {
        self.expected.len()
    }

    /// Reads values with their numbers; at most [`KEYS_MAX`] keys.
    pub(super) fn read<'a>(&mut self, keys: impl IntoIterator<Item = &'a str>) {
        self.bytes.extend_from_slice(b"gets");
        for key in keys {
            self.bytes.push(b' ');
            self.bytes.extend_from_slice(key.as_bytes());
        }
        self.end(Expected::Values);
    }

    /// Stores a value. pymemcache, like us, gives text and bytes no flags.
    pub(super) fn store(&mut self, how: Store, key: &str, value: &[u8], expires: u64) {
        self.bytes.reserve(key.len() + value.len() + 48);
        let verb = match how {
            Store::Set => "set",
            Store::Add => "add",
            Store::Over(_) => "cas",
        };
        self.words(&[verb, key, "0", &expires.to_string(), &value.len().to_string()]);
        if let Store::Over(unique) = how {
            self.words(&["", &unique.to_string()]);
        }
        self.bytes.extend_from_slice(b"\r\n");
        self.bytes.extend_from_slice(value);
        self.end(Expected::Line);
    }

    /// Counts one more. Sent twice, it counts twice.
    pub(super) fn increment(&mut self, key: &str) {
        self.is_repeatable = false;
        self.words(&["incr", key, "1"]);
        self.end(Expected::Line);
    }

    /// Gives a key another expiry.
    pub(super) fn touch(&mut self, key: &str, expires: u64) {
        self.words(&["touch", key, &expires.to_string()]);
        self.end(Expected::Line);
    }

    pub(super) fn delete(&mut self, key: &str) {
        self.words(&["delete", key]);
        self.end(Expected::Line);
    }

    pub(super) fn version(&mut self) {
        self.words(&["version"]);
        self.end(Expected::Line);
    }

    fn words(&mut self, words: &[&str]) {
        for (n, word) in words.iter().enumerate() {
            if n > 0 {
                self.bytes.push(b' ');
            }
            self.bytes.extend_from_slice(word.as_bytes());
        }
    }

    fn end(&mut self, expected: Expected) {
        self.bytes.extend_from_slice(b"\r\n");
        self.expected.push(expected);
    }

    /// Reads an answer to each command.
    pub(super) async fn answers(&self, from: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Vec<Reply>> {
        let mut replies = Vec::with_capacity(self.expected.len());
        for expected in &self.expected {
            replies.push(match expected {
                Expected::Values => values(from).await?,
                Expected::Line => reply(&line(from).await?)?,
            });
        }
        Ok(replies)
    }
}

async fn values(from: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Reply> {
    let mut items = Vec::new();
    loop {
        let line = line(from).await?;
        if line == b"END" {
            return Ok(Reply::Values(items));
        }
        let Some(header) = line.strip_prefix(b"VALUE ") else { return reply(&line) };
        items.push(item(header, from).await?);
    }
}

/// `<key> <flags> <bytes> <unique>`, and the bytes in the next line.
async fn item(header: &[u8], from: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Item> {
    let strange = || strange(header);
    let words: Vec<&[u8]> = header.split(|byte| *byte == b' ').collect();
    let [key, flags, bytes, unique] = words[..] else { return Err(strange()) };
    let number = |word: &[u8]| std::str::from_utf8(word).ok().and_then(|word| word.parse::<u64>().ok());
    // Flags say what the client has done with a value; Celery's and ours do nothing with it.
    let (Some(_), Some(bytes), Some(unique)) = (number(flags), number(bytes), number(unique)) else {
        return Err(strange());
    };
    let length = usize::try_from(bytes).ok().filter(|bytes| *bytes <= VALUE_BYTES_MAX);
    let Some(length) = length else {
        return Err(invalid(format!("a value has {bytes} bytes, more than the {VALUE_BYTES_MAX} that are read")));
    };
    let mut value = Vec::with_capacity(length + 2);
    if from.take(bytes + 2).read_to_end(&mut value).await? < length + 2 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    if value.split_off(length) != b"\r\n" {
        return Err(strange());
    }
    Ok(Item { key: key.to_vec(), value, unique })
}

fn reply(line: &[u8]) -> io::Result<Reply> {
    Ok(match line {
        b"STORED" | b"TOUCHED" | b"DELETED" => Reply::Done,
        b"NOT_STORED" => Reply::NotStored,
        b"EXISTS" => Reply::Changed,
        b"NOT_FOUND" => Reply::Missing,
        _ if line.starts_with(b"VERSION ") => Reply::Done,
        _ if line.starts_with(b"CLIENT_ERROR ") || line.starts_with(b"SERVER_ERROR ") => {
            Reply::Refused(String::from_utf8_lossy(line).into_owned())
        }
        // Older servers pad what has become shorter.
        _ => match std::str::from_utf8(line).ok().and_then(|line| line.trim_end().parse().ok()) {
            Some(number) => Reply::Number(number),
            None => return Err(strange(line)),
        },
    })
}

/// A line without its end.
async fn line(from: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    from.take(LINE_BYTES_MAX).read_until(b'\n', &mut line).await?;
    match line.strip_suffix(b"\r\n") {
        Some(whole) => Ok(whole.to_vec()),
        None if line.is_empty() => Err(io::ErrorKind::UnexpectedEof.into()),
        None if (line.len() as u64) < LINE_BYTES_MAX && !line.ends_with(b"\n") => {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
        None => Err(strange(&line)),
    }
}

fn strange(line: &[u8]) -> io::Error {
    const SHOWN_BYTES: usize = 80;
    let shown = String::from_utf8_lossy(&line[..line.len().min(SHOWN_BYTES)]).escape_debug().to_string();
    invalid(format!("the server does not speak memcached's protocol: it says `{shown}`"))
}

fn invalid(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

//! The Redis in which the tests look for what tasks have done: a client of its two commands that are needed.
//!
//! Keeps no connection, since nothing of an attempt is left for the next.

use std::env;
use std::fmt;
use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpStream;

use serde::Deserialize;
use taskhost::{Json, TaskError};

/// Where a test is that has not said it.
const PORT: u16 = 6379;

/// Appends a value to a list.
pub(crate) fn push(key: &str, value: &Json) -> Result<(), TaskError> {
    command(&["RPUSH", key, &encoded(value)?])
}

/// Adds one to a number.
pub(crate) fn increment(key: &str) -> Result<(), TaskError> {
    command(&["INCR", key])
}

/// What Python writes for text that it has as bytes.
#[derive(Deserialize)]
struct Bytes {
    __type__: String,
    __value__: String,
}

/// What Python's client sends for a value: numbers as they are written, text as it is, nothing else.
fn encoded(value: &Json) -> Result<String, TaskError> {
    let class = match value.as_str().as_bytes().first() {
        Some(b'"') => return value.parse(),
        Some(b'[') => "list",
        Some(b'{') => match value.parse::<Bytes>() {
            Ok(bytes) if bytes.__type__ == "bytes" => return Ok(bytes.__value__),
            _ => "dict",
        },
        Some(b't' | b'f') => "bool",
        Some(b'n') => "NoneType",
        _ => return Ok(value.as_str().to_owned()),
    };
    let why = format!("Invalid input of type: '{class}'. Convert to a bytes, string, int or float first.");
    Err(TaskError::new("DataError", why).module("redis.exceptions"))
}

fn command(words: &[&str]) -> Result<(), TaskError> {
    let lost = |error: io::Error| refused(format!("Redis: {error}"));
    let port = env::var("REDIS_PORT").ok().and_then(|port| port.parse().ok()).unwrap_or(PORT);
    let host = env::var("REDIS_HOST").ok().filter(|host| host != "localhost");
    let stream = TcpStream::connect((host.as_deref().unwrap_or("127.0.0.1"), port)).map_err(lost)?;
    let mut request = format!("*{}\r\n", words.len());
    for word in words {
        request += &format!("${}\r\n{word}\r\n", word.len());
    }
    (&stream).write_all(request.as_bytes()).map_err(lost)?;
    let mut answer = String::new();
    BufReader::new(&stream).read_line(&mut answer).map_err(lost)?;
    match answer.starts_with(':') {
        true => Ok(()),
        false => Err(refused(format!("Redis answers {answer:?}"))),
    }
}

fn refused(why: impl fmt::Display) -> TaskError {
    TaskError::new("ConnectionError", why).module("redis.exceptions")
}

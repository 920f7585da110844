//! As much of HTTP as it takes to ask a server of JSON: a connection a request, and the answer as a whole.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::process::PATIENCE;

const POLL: Duration = Duration::from_millis(100);

/// A server at an address, `127.0.0.1:8080`.
pub struct Http(pub String);

/// An answer.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub body: String,
}

impl Http {
    #[track_caller]
    pub fn get(&self, path: &str) -> Response {
        self.ask("GET", path, "").unwrap_or_else(|error| panic!("GET {path}: {error}"))
    }

    /// Sends a body, JSON or nothing.
    #[track_caller]
    pub fn post(&self, path: &str, body: &str) -> Response {
        self.ask("POST", path, body).unwrap_or_else(|error| panic!("POST {path}: {error}"))
    }

    /// Asks again and again until there is an answer and it is as wanted.
    #[track_caller]
    pub fn until(&self, path: &str, is_wanted: impl Fn(&Response) -> bool) -> Response {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.ask("GET", path, "");
            if let Ok(response) = &answer
                && is_wanted(response)
            {
                return answer.expect("it was looked at above");
            }
            assert!(Instant::now() < deadline, "{path} still gives {answer:?} after {PATIENCE:?}");
            thread::sleep(POLL);
        }
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> std::io::Result<Response> {
        let mut stream = TcpStream::connect(&self.0)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        // With HTTP/1.0 the answer ends with the connection.
        let (host, length) = (&self.0, body.len());
        let head = format!("{method} {path} HTTP/1.0\r\nHost: {host}\r\nContent-Type: application/json\r\n");
        write!(stream, "{head}Content-Length: {length}\r\n\r\n{body}")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let status = head.split(' ').nth(1).and_then(|word| word.parse().ok());
        let status = status.ok_or_else(|| std::io::Error::other(format!("no HTTP: {head}")))?;
        Ok(Response { status, body: body.to_owned() })
    }
}

impl Response {
    /// The body of an answer that is as it should be.
    #[track_caller]
    pub fn json(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.body);
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// The same, if it is that.
    pub fn try_json(&self) -> Option<Value> {
        (self.status == 200).then(|| serde_json::from_str(&self.body).ok()).flatten()
    }
}

//! As much of Redis' protocol as tests need to look into a server, or to bring it into trouble.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::process::PATIENCE;
use crate::proxy::address;

const POLL: Duration = Duration::from_millis(20);

/// A connection to a Redis server.
pub struct Redis {
    stream: BufReader<TcpStream>,
}

impl Redis {
    /// Connects to the server of this URL, database 0, without login.
    #[track_caller]
    pub fn connect(url: &str) -> Redis {
        let stream = TcpStream::connect(address(url)).expect("the server runs");
        stream.set_read_timeout(Some(PATIENCE)).expect("it is not zero");
        Redis { stream: BufReader::new(stream) }
    }

    /// Sends a command of these words and gives the answer, which must not be an error.
    #[track_caller]
    pub fn ask(&mut self, words: &[&str]) -> Value {
        self.try_ask(words).unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    /// Sends a command and gives the answer, or the server's error.
    #[track_caller]
    pub fn try_ask(&mut self, words: &[&str]) -> Result<Value, String> {
        self.send(words);
        self.answer()
    }

    /// Asks again and again until the answer is as wanted.
    #[track_caller]
    pub fn until(&mut self, words: &[&str], is_wanted: impl Fn(&Value) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.ask(words);
            if is_wanted(&answer) {
                return;
            }
            assert!(Instant::now() < deadline, "{words:?} still gives {answer} after {PATIENCE:?}");
            thread::sleep(POLL);
        }
    }

    /// Sends a command without waiting for the answer.
    #[track_caller]
    pub fn send(&mut self, words: &[&str]) {
        let mut command = format!("*{}\r\n", words.len());
        for word in words {
            command += &format!("${}\r\n{word}\r\n", word.len());
        }
        self.stream.get_mut().write_all(command.as_bytes()).expect("the server runs");
    }

    /// The answer to a command that was sent.
    #[track_caller]
    pub fn answer(&mut self) -> Result<Value, String> {
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("the server answers");
        let (kind, rest) = line.trim_end().split_at_checked(1).expect("an answer is not empty");
        let number = || rest.parse::<i64>().expect("it is a number");
        match kind {
            "+" => Ok(json!(rest)),
            "-" => Err(rest.to_owned()),
            ":" => Ok(json!(number())),
            "$" if number() < 0 => Ok(Value::Null),
            "$" => {
                let mut bytes = vec![0; usize::try_from(number()).expect("it is not negative") + 2];
                self.stream.read_exact(&mut bytes).expect("the server answers");
                bytes.truncate(bytes.len() - 2);
                Ok(json!(String::from_utf8_lossy(&bytes)))
            }
            "*" => (0..number()).map(|_| self.answer()).collect::<Result<_, _>>().map(Value::Array),
            _ => panic!("an answer begins with {kind}"),
        }
    }
}

//! One private server behind a pipe: `xtask serve NAME`, for tests and for `xtask test` itself.
//!
//! Says `ready URL`, then obeys lines (`stop`, `kill`, `start OPTION..`, `control ARGUMENT..`), each answered by one line,
//! `ok ..` or `error ..`, and ends with everything it started when its standard input does.

use std::env;
use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Stdio};

use crate::Result;
use crate::group;
use crate::servers::{Kind, Server};

/// How often a server is tried, each time on ports of its own.
const STARTS_MAX: u32 = 3;

/// `xtask serve NAME`.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let [name] = arguments else { return Err("serve needs the name of one server".to_owned()) };
    let kind = Kind::parse(name)?;
    let mut server = Server::new(kind)?;
    let mut started = server.start(&[]);
    for _ in 1..STARTS_MAX {
        if started.is_ok() {
            break;
        }
        // Others may have taken a port that was free a moment ago.
        server = Server::new(kind)?;
        started = server.start(&[]);
    }
    answer("ready", started.clone().map(|()| server.url()))?;
    started?;
    for line in io::stdin().lock().lines() {
        let line = line.map_err(|error| format!("read a command: {error}"))?;
        answer("ok", obey(&mut server, &line))?;
    }
    Ok(())
}

fn answer(good: &str, result: Result<String>) -> Result<()> {
    let (word, text) = match result {
        Ok(text) => (good, text),
        Err(error) => ("error", error),
    };
    writeln!(io::stdout(), "{word} {}", text.replace('\n', " | ")).map_err(|error| format!("answer: {error}"))
}

fn obey(server: &mut Server, line: &str) -> Result<String> {
    let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    match words.first().map(String::as_str) {
        Some("stop") => server.stop(),
        Some("kill") => server.kill(),
        Some("start") => server.start(&words[1..])?,
        Some("control") => return server.control(&words[1..]),
        _ => return Err(format!("unknown command `{line}`")),
    }
    Ok(String::new())
}

/// A server in a process of its own, which ends when this value or this process does.
pub(crate) struct Served {
    child: Child,
    answers: BufReader<ChildStdout>,
}

impl Served {
    /// Begins to start it; [`Served::url`] waits.
    pub(crate) fn start(kind: Kind) -> Result<Served> {
        let name = kind.name();
        let mut command = group::this_program(&[OsStr::new("serve"), OsStr::new(name)])?;
        let child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut child = child.map_err(|error| format!("start a {name} server: {error}"))?;
        let answers = BufReader::new(child.stdout.take().expect("it was piped above"));
        Ok(Served { child, answers })
    }

    /// Waits until it is ready and gives its address.
    pub(crate) fn url(&mut self) -> Result<String> {
        self.answer("ready")
    }

    /// Has the tool of its operators (`rabbitmqctl`) do what these words say, once the server is ready.
    pub(crate) fn control(&mut self, words: &str) -> Result<String> {
        let input = self.child.stdin.as_mut().ok_or("the server was told to end")?;
        writeln!(input, "control {words}").map_err(|error| format!("tell the server something: {error}"))?;
        self.answer("ok")
    }

    fn answer(&mut self, good: &str) -> Result<String> {
        let mut line = String::new();
        self.answers.read_line(&mut line).map_err(|error| format!("read what the server says: {error}"))?;
        match line.trim_end().split_once(' ').unwrap_or((line.trim_end(), "")) {
            (word, text) if word == good => Ok(text.to_owned()),
            ("error", text) => Err(text.replace(" | ", "\n")),
            _ => Err(format!("{} ended before the server had answered", env::args().next().unwrap_or_default())),
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

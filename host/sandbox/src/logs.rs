//! What guests print and log: lines of the host's log, cleaned and bounded.
//!
//! Does not decide where the log goes. Nothing is allocated before a guest touches WASI.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use taskhost_core::{Attempt, PluginName};
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use crate::capability::Capabilities;
use crate::limits::Limits;

/// What each line counts beside its text, so that empty lines are not free.
const LINE_COST_BYTES: usize = 32;
/// Most that a guest may hand over in one write.
const WRITE_BYTES_MAX: usize = 64 << 10;
/// How much of stderr is kept to explain a trap.
const LAST_WORDS_LINES: usize = 4;
const LAST_WORDS_BYTES: usize = 1 << 10;
/// What Go says when it gives up, before pages on where each goroutine was.
const HEADLINES: [&str; 2] = ["panic: ", "fatal error: "];

/// Whose output it is.
#[derive(Debug, Clone)]
pub(crate) enum Speaker {
    /// A plugin that is being loaded.
    Plugin(PluginName, Version),
    Task(Arc<Attempt>, Version),
}

impl Speaker {
    /// The task, if one is running.
    pub(crate) fn task(&self) -> Option<&str> {
        match self {
            Self::Plugin(..) => None,
            Self::Task(attempt, _) => Some(attempt.request.task.as_str()),
        }
    }

    pub(crate) fn plugin(&self) -> &PluginName {
        match self {
            Self::Plugin(plugin, _) => plugin,
            Self::Task(attempt, _) => &attempt.spec.plugin,
        }
    }
}

/// What the plugin calls this version of itself; without a name the first digits of its hash.
pub(crate) type Version = Arc<str>;

/// Everything that one instance says.
#[derive(Debug, Clone)]
pub(crate) struct Output(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    speaker: Speaker,
    /// Holds the secrets that must not be printed.
    granted: Option<Arc<Capabilities>>,
    left_bytes: usize,
    line_bytes_max: usize,
    dropped_bytes: u64,
    stdout: Line,
    stderr: Line,
    last_words: VecDeque<String>,
    /// Streams that the guest holds.
    streams: usize,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Stream {
    Stdout,
    Stderr,
}

/// How much a line matters. Where a guest knows more, it comes down to these.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Level {
    Debug,
    Info,
    Warn,
    Error,
}

impl Level {
    /// False if nobody would see it.
    fn is_wanted(self) -> bool {
        match self {
            Self::Debug => tracing::enabled!(target: "task", tracing::Level::DEBUG),
            Self::Info => tracing::enabled!(target: "task", tracing::Level::INFO),
            Self::Warn => tracing::enabled!(target: "task", tracing::Level::WARN),
            Self::Error => tracing::enabled!(target: "task", tracing::Level::ERROR),
        }
    }
}

/// A line that has not ended yet.
#[derive(Debug, Default)]
struct Line {
    bytes: Vec<u8>,
    /// The line is longer than allowed: the rest of it is dropped.
    cut: bool,
}

impl Output {
    pub(crate) fn new(speaker: Speaker, limits: &Limits, granted: Option<Arc<Capabilities>>) -> Self {
        Self(Arc::new(Mutex::new(State {
            speaker,
            granted,
            left_bytes: limits.log_bytes,
            line_bytes_max: limits.log_line_bytes,
            dropped_bytes: 0,
            stdout: Line::default(),
            stderr: Line::default(),
            last_words: VecDeque::new(),
            streams: 0,
        })))
    }

    /// How many streams the guest holds that lead here.
    pub(crate) fn streams(&self) -> usize {
        self.state().streams
    }

    /// From now on it is somebody else's, with all that one may say. The streams that the guest holds stay.
    pub(crate) fn pass_on(&self, speaker: Speaker, limits: &Limits) {
        let mut state = self.state();
        state.speaker = speaker;
        state.left_bytes = limits.log_bytes;
        state.dropped_bytes = 0;
        (state.stdout, state.stderr) = (Line::default(), Line::default());
        state.last_words.clear();
    }

    pub(crate) fn stdout(&self) -> impl StdoutStream + 'static {
        Writer { output: self.clone(), stream: Stream::Stdout }
    }

    pub(crate) fn stderr(&self) -> impl StdoutStream + 'static {
        Writer { output: self.clone(), stream: Stream::Stderr }
    }

    /// Writes a message, each of its lines with the context before it. What nobody would see costs the guest
    /// nothing of what it may write.
    pub(crate) fn log(&self, level: Level, context: &str, message: &str) {
        if !level.is_wanted() {
            return;
        }
        let mut state = self.state();
        for text in message.lines() {
            let mut line = Line::default();
            if !context.is_empty() {
                state.extend(&mut line, context.as_bytes());
                state.extend(&mut line, b": ");
            }
            state.extend(&mut line, text.as_bytes());
            state.say(level, line);
        }
    }

    /// Ends both streams and says how much of them was dropped. The limit that was the cause, if any was.
    pub(crate) fn finish(&self) -> Option<&'static str> {
        let mut state = self.state();
        state.end_line(Stream::Stdout);
        state.end_line(Stream::Stderr);
        let dropped = std::mem::take(&mut state.dropped_bytes);
        if dropped > 0 {
            // A long line is cut even if there is room for more of them.
            let key = if state.left_bytes == 0 { "log" } else { "log_line" };
            emit(&state.speaker, Level::Warn, &format!("… {dropped} bytes of output dropped; raise limits.{key}"));
            return Some(key);
        }
        None
    }

    /// The end of stderr in one line.
    pub(crate) fn last_words(&self) -> Option<String> {
        let state = self.state();
        let mut words: Vec<&str> = state.last_words.iter().map(String::as_str).collect();
        // Rust ends every panic with a note on how to get a backtrace.
        words.retain(|line| !line.starts_with("note: "));
        if words.is_empty() {
            return None;
        }
        let mut text = words.join(" ");
        truncate(&mut text, LAST_WORDS_BYTES);
        Some(text)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn write(&mut self, stream: Stream, mut bytes: &[u8]) {
        while let Some(end) = bytes.iter().position(|&byte| byte == b'\n') {
            self.append(stream, &bytes[..end]);
            self.end_line(stream);
            bytes = &bytes[end + 1..];
        }
        self.append(stream, bytes);
    }

    fn line(&mut self, stream: Stream) -> &mut Line {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }

    fn append(&mut self, stream: Stream, bytes: &[u8]) {
        let mut line = std::mem::take(self.line(stream));
        self.extend(&mut line, bytes);
        *self.line(stream) = line;
    }

    fn end_line(&mut self, stream: Stream) {
        let line = std::mem::take(self.line(stream));
        let level = match stream {
            Stream::Stdout => Level::Info,
            Stream::Stderr => Level::Warn,
        };
        let Some(mut text) = self.say(level, line) else { return };
        if stream == Stream::Stderr {
            truncate(&mut text, LAST_WORDS_BYTES);
            self.remember(text);
        }
    }

    /// Keeps the last lines of stderr, but those that begin with a headline rather than those that end what follows it.
    fn remember(&mut self, text: String) {
        let is_headline = |line: &str| HEADLINES.iter().any(|start| line.starts_with(start));
        if is_headline(&text) {
            self.last_words.clear();
        } else if self.last_words.len() == LAST_WORDS_LINES {
            if self.last_words.front().is_some_and(|first| is_headline(first)) {
                return;
            }
            self.last_words.pop_front();
        }
        self.last_words.push_back(text);
    }

    /// Adds to a line what there is room for.
    fn extend(&mut self, line: &mut Line, bytes: &[u8]) {
        let bytes_max = self.line_bytes_max.min(self.left_bytes);
        let room = bytes_max.saturating_sub(line.bytes.len());
        let kept = room.min(bytes.len());
        line.bytes.extend_from_slice(&bytes[..kept]);
        line.cut |= kept < bytes.len();
        self.dropped_bytes += (bytes.len() - kept) as u64;
    }

    /// Writes a line, if there is something in it and room for it. The text that was written.
    fn say(&mut self, level: Level, line: Line) -> Option<String> {
        let mut text = clean(&line.bytes);
        if let Some(granted) = &self.granted {
            text = granted.mask(text);
        }
        if text.is_empty() && !line.cut {
            return None;
        }
        if self.left_bytes == 0 {
            self.dropped_bytes += line.bytes.len() as u64;
            return None;
        }
        self.left_bytes = self.left_bytes.saturating_sub(line.bytes.len() + LINE_COST_BYTES);
        if line.cut {
            text.push('…');
        }
        emit(&self.speaker, level, &text);
        Some(text)
    }
}

/// Text that cannot play tricks on a terminal or on whoever reads the log line by line: no control
/// characters and no escape sequences.
fn clean(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut cleaned = String::with_capacity(text.len());
    let mut chars = text.trim_end().chars().peekable();
    while let Some(char) = chars.next() {
        match char {
            '\t' => cleaned.push(' '),
            // CSI: parameters and intermediates up to a final byte of 0x40 to 0x7e.
            '\u{1b}' if chars.peek() == Some(&'[') => {
                chars.next();
                chars.by_ref().find(|char| ('\u{40}'..='\u{7e}').contains(char));
            }
            // OSC: up to BEL, or to the ESC of a string terminator.
            '\u{1b}' if chars.peek() == Some(&']') => {
                chars.by_ref().find(|char| matches!(char, '\u{7}' | '\u{1b}' | '\u{9c}'));
            }
            '\u{1b}' => drop(chars.next()),
            _ if char.is_control() || is_invisible(char) => {}
            _ => cleaned.push(char),
        }
    }
    cleaned
}

/// Line separators, and marks that reorder the text around them.
fn is_invisible(char: char) -> bool {
    matches!(char, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

pub(crate) fn truncate(text: &mut String, bytes_max: usize) {
    if text.len() > bytes_max {
        text.truncate(text.floor_char_boundary(bytes_max));
        text.push('…');
    }
}

/// A line at a level, which has to be known when the program is compiled, with who says it.
macro_rules! line {
    ($level:ident, $speaker:expr, $text:expr) => {
        match $speaker {
            Speaker::Task(attempt, version) => {
                let (id, name, plugin) = (&attempt.request.id, &attempt.request.task, &attempt.spec.plugin);
                tracing::$level!(
                    target: "task",
                    { task.id = %id, task.name = %name, plugin = %plugin, version = %version },
                    "{}",
                    $text
                );
            }
            Speaker::Plugin(plugin, version) => {
                tracing::$level!(target: "task", { plugin = %plugin, version = %version }, "{}", $text);
            }
        }
    };
}

/// A line of the host's own about a task, beside what the task prints.
pub(crate) fn warn(speaker: &Speaker, text: &str) {
    emit(speaker, Level::Warn, &clean(text.as_bytes()));
}

fn emit(speaker: &Speaker, level: Level, text: &str) {
    match level {
        Level::Debug => line!(debug, speaker, text),
        Level::Info => line!(info, speaker, text),
        Level::Warn => line!(warn, speaker, text),
        Level::Error => line!(error, speaker, text),
    }
}

/// Gives a guest one stream whenever it asks for it.
struct Writer {
    output: Output,
    stream: Stream,
}

/// One stream as WASI wants it. Never full and never closed, since either would trap the guest.
struct Opened {
    output: Output,
    stream: Stream,
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.output.state().streams -= 1;
    }
}

impl IsTerminal for Writer {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Writer {
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.open())
    }

    // WASI 0.3 asks for this one.
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.open())
    }
}

impl Writer {
    fn open(&self) -> Opened {
        self.output.state().streams += 1;
        Opened { output: self.output.clone(), stream: self.stream }
    }
}

impl AsyncWrite for Opened {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let bytes = &bytes[..bytes.len().min(WRITE_BYTES_MAX)];
        self.output.state().write(self.stream, bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl OutputStream for Opened {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.output.state().write(self.stream, &bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES_MAX)
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Opened {
    async fn ready(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_cannot_play_tricks_on_a_terminal() {
        assert_eq!(clean(b"plain text\r"), "plain text");
        assert_eq!(clean(b"\x1b[31mred\x1b[0m\x07 a\tb\0"), "red a b");
        assert_eq!(clean(b"\x1b]0;title\x07after"), "after");
        assert_eq!(clean("\u{9b}31m \u{202e}txt".as_bytes()), "31m txt");
        assert_eq!(clean(b"\xff\xfe"), "\u{fffd}\u{fffd}");
        assert_eq!(clean(b"end\x1b["), "end");
    }

    #[test]
    fn the_last_words_begin_with_a_headline_if_there_is_one() {
        let output =
            Output::new(Speaker::Plugin(PluginName::parse("p").expect("a name"), "1".into()), &Limits::default(), None);
        for line in ["before", "fatal error: all asleep", "", "goroutine 1", "main.f()", "main.go:7", "main.g()"] {
            output.state().write(Stream::Stderr, format!("{line}\n").as_bytes());
        }
        assert_eq!(output.last_words().as_deref(), Some("fatal error: all asleep goroutine 1 main.f() main.go:7"));
        for line in ["1", "2", "3", "4", "5"] {
            output.state().write(Stream::Stderr, format!("{line}\n").as_bytes());
        }
        assert_eq!(output.last_words().as_deref(), Some("fatal error: all asleep goroutine 1 main.f() main.go:7"));
        output.finish();
    }

    #[test]
    fn lines_and_the_whole_are_bounded_and_what_is_lost_is_counted() {
        let limits = Limits { log_bytes: 200, log_line_bytes: 10, ..Limits::default() };
        let output = Output::new(Speaker::Plugin(PluginName::parse("p").expect("a name"), "1".into()), &limits, None);
        let mut state = output.state();
        state.write(Stream::Stderr, b"0123456789abc");
        state.write(Stream::Stderr, b"def\nshort\n");
        assert_eq!(state.dropped_bytes, 6);
        assert_eq!(state.last_words, ["0123456789…", "short"]);
        for _ in 0..1000 {
            state.write(Stream::Stderr, b"x\n");
        }
        assert_eq!(state.left_bytes, 0);
        assert!(state.dropped_bytes > 900);
        drop(state);
        output.finish();
        assert_eq!(output.state().dropped_bytes, 0);
    }
}

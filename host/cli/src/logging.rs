//! Log lines on stderr: text as Celery writes it, or one JSON object a line.
//!
//! In text the message reads well alone; fields are added in JSON only.

use std::borrow::Cow;
use std::fmt;
use std::io::{IsTerminal, Write};

use jiff::Zoned;
use tracing::field::{Field, Visit};
use tracing::{Event, Level as TracingLevel, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::writer::MakeWriter;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::config::{Format, Level, LogConfig};

/// The target of what guests print.
const GUEST: &str = "task";

/// Our crates and guests; of others only warnings are shown.
const OURS: [&str; 7] = ["host", "taskhost_core", "broker", "store", "sandbox", "worker", GUEST];

/// Sends log lines to stderr from now on. To be called once.
pub(crate) fn start(config: LogConfig) {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter(config.level))
        .with_writer(std::io::stderr)
        .with_ansi(colour());
    match config.format {
        Format::Text => builder.event_format(TextFormat).init(),
        Format::Json => builder.json().flatten_event(true).with_span_list(false).init(),
    }
}

/// Sends what guests say, and what goes wrong, to `writer` from now on: for commands that run tasks themselves and
/// tell in their own words what becomes of them. To be called once.
pub(crate) fn start_for_guests<W>(config: LogConfig, writer: W)
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter = match config.level {
        Level::Debug => filter(Level::Debug),
        level => {
            let ours = if level == Level::Info { "info" } else { "warn" };
            let ours = if matches!(level, Level::Error | Level::Critical) { "error" } else { ours };
            EnvFilter::new(format!("warn,lapin=off,worker::log=off,{GUEST}={ours}"))
        }
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_ansi(colour());
    match config.format {
        Format::Text => builder.event_format(TextFormat).init(),
        Format::Json => builder.json().flatten_event(true).with_span_list(false).init(),
    }
}

fn filter(level: Level) -> EnvFilter {
    let (ours, others) = match level {
        Level::Debug => ("debug", "warn"),
        Level::Info => ("info", "warn"),
        Level::Warning => ("warn", "warn"),
        // Nothing is worse than an error here.
        Level::Error | Level::Critical => ("error", "error"),
    };
    // lapin calls it an error when a queue that we look for is missing. What matters comes from us again.
    let lapin = if level == Level::Debug { "debug" } else { "off" };
    let directives: Vec<String> = OURS.iter().map(|target| format!("{target}={ours}")).collect();
    EnvFilter::new(format!("{others},lapin={lapin},{}", directives.join(",")))
}

/// Colours are for people (<https://no-color.org>).
pub(crate) fn colour() -> bool {
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    std::io::stderr().is_terminal() && !unwanted && !dumb
}

/// `[2026-11-22 10:32:08,348: INFO] message`, in local time.
struct TextFormat;

impl<S, N> FormatEvent<S, N> for TextFormat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let (name, colour) = match *event.metadata().level() {
            TracingLevel::ERROR => ("ERROR", "\x1b[31m"),
            TracingLevel::WARN => ("WARNING", "\x1b[33m"),
            TracingLevel::INFO => ("INFO", ""),
            TracingLevel::DEBUG | TracingLevel::TRACE => ("DEBUG", "\x1b[2m"),
        };
        let colour = if writer.has_ansi_escapes() { colour } else { "" };
        let mut line = Line::default();
        event.record(&mut line);
        let speaker = if event.metadata().target() == GUEST { line.speaker() } else { String::new() };
        let text = if line.message.is_empty() { line.fields } else { line.message };
        write!(writer, "{colour}[{}: {name}] {speaker}{}", now(), printable(&text))?;
        writeln!(writer, "{}", if colour.is_empty() { "" } else { "\x1b[0m" })
    }
}

/// Without characters that a terminal would obey: messages quote what clients and guests wrote.
fn printable(text: &str) -> Cow<'_, str> {
    let obeyed = |c: char| c.is_control() && c != '\n' && c != '\t';
    if !text.contains(obeyed) {
        return Cow::Borrowed(text);
    }
    text.chars().map(|c| if obeyed(c) { c.escape_default().to_string() } else { c.to_string() }).collect()
}

/// The local time as Python's `logging` writes it.
fn now() -> String {
    let now = Zoned::now();
    format!(
        "{:04}-{:02}-{:02} {:02}:{:02}:{:02},{:03}",
        now.year(),
        now.month(),
        now.day(),
        now.hour(),
        now.minute(),
        now.second(),
        now.millisecond()
    )
}

/// What an event says.
#[derive(Default)]
struct Line {
    message: String,
    /// For events of other crates that have no message.
    fields: String,
    task_id: String,
    task_name: String,
    plugin: String,
}

impl Line {
    /// Who printed this, as in Celery's log of tasks (celery/app/defaults.py `worker_task_log_format`).
    fn speaker(&self) -> String {
        match self.task_id.is_empty() {
            true => format!("plugin {}: ", self.plugin),
            false => format!("{}[{}]: ", self.task_name, self.task_id),
        }
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            "task.id" => self.task_id = format!("{value:?}"),
            "task.name" => self.task_name = format!("{value:?}"),
            "plugin" => self.plugin = format!("{value:?}"),
            name => {
                let separator = if self.fields.is_empty() { "" } else { " " };
                self.fields.push_str(&format!("{separator}{name}={value:?}"));
            }
        }
    }
}

/// Writes to stdout. A reader that went away, as with `| head`, is no error.
pub(crate) fn print(text: &str) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use expect_test::{Expect, expect};
    use tracing::{error, info, warn};

    use super::*;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[track_caller]
    fn check(ansi: bool, log: impl Fn(), expected: Expect) {
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(filter(Level::Info))
            .with_ansi(ansi)
            .with_writer(move || writer.clone())
            .event_format(TextFormat)
            .finish();
        tracing::subscriber::with_default(subscriber, log);
        let text = String::from_utf8(buffer.0.lock().unwrap().clone()).unwrap().replace('\x1b', "ESC");
        let dateless = |line: &str| {
            let start = line.find("[20").expect("a line begins with its date") + 1;
            format!("{}<date>{}\n", &line[..start], &line[start + "2026-11-22 10:32:08,348".len()..])
        };
        expected.assert_eq(&text.lines().map(dateless).collect::<String>());
    }

    #[test]
    fn a_line_of_text_is_what_celery_would_write() {
        let log = || {
            info!(task.id = "t-1", task.name = "tasks.add", "Task tasks.add[t-1] received");
            warn!("careful\x1b[2J");
            error!(target: "sandbox::plugin", reason = "x", "cannot load");
            info!(target: "mio", "chatter of others");
            warn!(target: "mio", port = 5672, "trouble of others");
            tracing::error!(target: "lapin", "what we say ourselves");
            let (id, name, plugin) = ("t-1", "tasks.add", "demo");
            info!(target: "task", { task.id = %id, task.name = %name, plugin = %plugin }, "hello");
            info!(target: "task", plugin = %plugin, "loading");
        };
        check(
            false,
            log,
            expect![[r#"
            [<date>: INFO] Task tasks.add[t-1] received
            [<date>: WARNING] careful\u{1b}[2J
            [<date>: ERROR] cannot load
            [<date>: WARNING] trouble of others
            [<date>: INFO] tasks.add[t-1]: hello
            [<date>: INFO] plugin demo: loading
        "#]],
        );
    }

    #[test]
    fn colours_are_for_terminals() {
        check(
            true,
            || warn!("careful"),
            expect![[r#"
            ESC[33m[<date>: WARNING] carefulESC[0m
        "#]],
        );
    }
}

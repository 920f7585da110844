//! `host events`: prints what happens to workers and tasks, until it is told to stop.
//!
//! Makes no picture of it: who wants one reads the lines, or runs a monitor.

use std::collections::{HashMap, VecDeque};
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow};
use broker::{Broker, BrokerError, Inbox, Subscription};
use jiff::{Timestamp, tz::TimeZone};
use taskhost_core::protocol::content::{Json, Kind};
use taskhost_core::protocol::repr::repr;
use taskhost_core::{Codec, Publication};
use uuid::Uuid;

use super::{remote, wiring};
use crate::args::EventsArgs;
use crate::config::{self, Config};
use crate::exit::Failure;
use crate::signals::Signals;

/// Every event.
const EVERYTHING: &str = "#";
/// How many tasks are remembered by name: only the first event of a task says how it is called.
const TASKS_MAX: usize = 4096;
/// Longest value on a line for people, in characters.
const VALUE_MAX: usize = 1024;
/// Between two tries to connect, at first and at last.
const RETRY_MIN: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(10);

/// Prints events.
pub(crate) fn run(args: &EventsArgs) -> Result<ExitCode, Failure> {
    let config = config::load(args.settings.config.as_deref(), &args.settings.sets, args.flags())?;
    let codec = wiring::codec(&config)?;
    let mut output = Output { as_json: args.json, names: Names::default() };
    let runtime = wiring::client_runtime()?;
    let watched = runtime.block_on(async {
        let mut signals = Signals::listen().context("cannot listen for signals")?;
        let watching = watch(&config, args.enable, &codec, &mut output);
        tokio::select! {
            watched = watching => watched,
            _ = signals.next() => Ok(()),
        }
    });
    // Somebody may not be reading what is still being written.
    runtime.shutdown_background();
    watched.map(|()| ExitCode::SUCCESS)
}

/// Connects, prints, and connects again, until nobody reads what is printed.
async fn watch(config: &Config, enable: bool, codec: &Codec, output: &mut Output) -> Result<(), Failure> {
    let mut pause = RETRY_MIN;
    let mut has_listened = false;
    loop {
        let lost = match listen(config, enable).await {
            Ok((broker, inbox)) => {
                (has_listened, pause) = (true, RETRY_MIN);
                let lost = print_all(&*inbox, codec, output).await;
                broker.close().await;
                match lost? {
                    Some(error) => Failure::from(anyhow!(error)),
                    None => return Ok(()),
                }
            }
            Err(failure) if !has_listened => return Err(failure),
            Err(failure) => failure,
        };
        eprint!("{lost}");
        eprintln!("trying again in {} s", pause.as_secs_f64());
        tokio::time::sleep(pause).await;
        pause = RETRY_MAX.min(pause * 2);
    }
}

async fn listen(config: &Config, enable: bool) -> Result<(std::sync::Arc<dyn Broker>, Box<dyn Inbox>), Failure> {
    let Some(broker) = remote::broker_that_broadcasts(config).await? else {
        let error = anyhow!("the broker {} reaches only queues: it knows no events", config.broker.url);
        return Err(Failure::from(error)
            .hint("events need RabbitMQ, Redis or kombu's folders; `host run --metrics` works with any broker"));
    };
    let (queue, id) = (&config.event_queue, Uuid::new_v4().to_string());
    let mut subscription = Subscription::events(config.event_exchange.as_str(), &queue.prefix, &id, EVERYTHING);
    subscription.message_ttl = queue.ttl;
    subscription.expires = queue.expires;
    let inbox = broker.subscribe(&subscription).await.context("cannot listen to events")?;
    let none = Json::empty_map();
    if enable {
        remote::tell(&*broker, config, "enable_events", &none, &[]).await?;
    }
    // Who has just come hears at once who is there (celery/events/receiver.py `wakeup_workers`).
    remote::tell(&*broker, config, "heartbeat", &none, &[]).await?;
    Ok((broker, inbox))
}

/// Prints until the connection is lost, which is returned, or nobody reads any more.
async fn print_all(inbox: &dyn Inbox, codec: &Codec, output: &mut Output) -> Result<Option<BrokerError>, Failure> {
    let mut dropped = 0;
    loop {
        let came = match inbox.next().await {
            Ok(Some(came)) => came,
            Ok(None) => return Ok(None),
            Err(error) => return Ok(Some(error)),
        };
        // Not on this thread, which has to hear of signals.
        let text = output.text(&came, codec);
        let written = tokio::task::spawn_blocking(move || write(&text)).await.context("cannot print")?;
        if !written.context("cannot print")? {
            return Ok(None);
        }
        if inbox.dropped() > dropped {
            eprintln!(
                "warning: {} events were lost here: whoever reads this output is too slow",
                inbox.dropped() - dropped
            );
            dropped = inbox.dropped();
        }
    }
}

struct Output {
    as_json: bool,
    names: Names,
}

impl Output {
    /// The events of these messages as they are printed.
    fn text(&mut self, messages: &[Publication], codec: &Codec) -> String {
        let mut text = String::new();
        for Publication { message, .. } in messages {
            match codec.decode(message) {
                // Many that were sent together.
                Ok(body) if body.kind() == Kind::List => body.elements().for_each(|event| self.add(&event, &mut text)),
                Ok(event) => self.add(&event, &mut text),
                Err(error) => eprintln!("warning: an event cannot be read: {error}"),
            }
        }
        text
    }

    fn add(&mut self, event: &Json, text: &mut String) {
        if self.as_json {
            // Between values only: there is none inside of a text.
            text.push_str(&event.as_str().replace(['\n', '\r'], " "));
        } else {
            text.push_str(&remote::line(&self.names.describe(event)));
        }
        text.push('\n');
    }
}

/// False if nobody reads any more.
fn write(text: &str) -> io::Result<bool> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        written => written.map(|()| true),
    }
}

/// What tasks are called, by their ids; the oldest are forgotten.
#[derive(Default)]
struct Names {
    names: HashMap<String, String>,
    order: VecDeque<String>,
}

impl Names {
    /// As `celery events --dump` prints it (celery/events/dumper.py).
    fn describe(&mut self, event: &Json) -> String {
        let of = |key: &str| event.get(key).map(|value| shown(&value));
        let kind = of("type").unwrap_or_default().to_lowercase();
        let mut taken = vec!["type", "hostname", "timestamp"];
        let mut task = String::new();
        if kind.starts_with("task-") {
            let id = of("uuid").unwrap_or_default();
            taken.push("uuid");
            if matches!(kind.as_str(), "task-received" | "task-sent") {
                taken.extend(["name", "args", "kwargs"]);
                let (name, args, kwargs) = (of("name"), of("args"), of("kwargs"));
                let part = |part: Option<String>| part.unwrap_or_default();
                task = format!("{}({id}) args={} kwargs={}", part(name), part(args), part(kwargs));
                self.remember(id, task.clone());
            } else {
                task = self.names.get(&id).cloned().unwrap_or_else(|| format!("({id})"));
            }
            task.insert(0, ' ');
        }
        let mut fields: Vec<(String, String)> = event
            .members()
            .filter(|(key, _)| !taken.contains(&&**key))
            .map(|(key, value)| (key.into_owned(), shown(&value)))
            .collect();
        fields.sort();
        let (node, time) = (of("hostname").unwrap_or_default(), event.get("timestamp").and_then(|at| time(&at)));
        let mut text = format!("{node} [{}] {}", time.unwrap_or_default(), human(&kind));
        if !fields.is_empty() {
            text.push(':');
        }
        text.push_str(&task);
        for (index, (key, value)) in fields.iter().enumerate() {
            let _ = write!(text, "{} {key}={value}", if index == 0 { "" } else { "," });
        }
        text
    }

    fn remember(&mut self, id: String, name: String) {
        if self.names.insert(id.clone(), name).is_none() {
            self.order.push_back(id);
        }
        while self.order.len() > TASKS_MAX {
            if let Some(oldest) = self.order.pop_front() {
                self.names.remove(&oldest);
            }
        }
    }
}

fn human(kind: &str) -> String {
    match kind {
        "worker-offline" => "shutdown".to_owned(),
        "worker-online" => "started".to_owned(),
        "worker-heartbeat" => "heartbeat".to_owned(),
        other => other.replace('-', " "),
    }
}

/// As Python's `str` shows it.
fn shown(value: &Json) -> String {
    match value.text_lossy() {
        Some(text) => text.into_owned(),
        None => repr(value, VALUE_MAX),
    }
}

/// In UTC, as Python's `str(datetime)` shows it.
fn time(value: &Json) -> Option<String> {
    let micros = (value.as_f64()? * 1e6).round();
    let time = Timestamp::from_microsecond(micros as i64).ok()?.to_zoned(TimeZone::UTC);
    let fraction = time.subsec_nanosecond() / 1000;
    let fraction = if fraction == 0 { String::new() } else { format!(".{fraction:06}") };
    Some(format!("{}{fraction}+00:00", time.strftime("%Y-%m-%d %H:%M:%S")))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn event(text: &str) -> Json {
        Json::parse(text.to_owned()).expect("JSON")
    }

    #[test]
    fn events_are_lines_as_celerys_dump_has_them() {
        let mut names = Names::default();
        let lines = [
            r#"{"hostname": "w@box", "utcoffset": 0, "pid": 7, "clock": 3, "freq": 2.0, "active": 0, "loadavg": [0.1, 0.2, 0.3], "timestamp": 1795343528.5, "type": "worker-heartbeat"}"#,
            r#"{"uuid": "7b1f", "name": "tasks.add", "args": "(2, 2)", "kwargs": "{}", "retries": 0, "eta": null, "hostname": "w@box", "clock": 4, "timestamp": 1795343529, "type": "task-received"}"#,
            r#"{"uuid": "7b1f", "result": "4", "runtime": 0.25, "hostname": "w@box", "clock": 5, "timestamp": 1795343529.000001, "type": "task-succeeded"}"#,
            r#"{"uuid": "f00", "hostname": "w@box", "clock": 6, "timestamp": 1795343530, "type": "task-started"}"#,
            r#"{"hostname": "w@box", "timestamp": 1795343530, "type": "worker-online"}"#,
        ];
        let lines: Vec<String> = lines.into_iter().map(|line| names.describe(&event(line)) + "\n").collect();
        expect![[r#"
            w@box [2026-11-22 10:32:08.500000+00:00] heartbeat: active=0, clock=3, freq=2.0, loadavg=[0.1, 0.2, 0.3], pid=7, utcoffset=0
            w@box [2026-11-22 10:32:09+00:00] task received: tasks.add(7b1f) args=(2, 2) kwargs={} clock=4, eta=None, retries=0
            w@box [2026-11-22 10:32:09.000001+00:00] task succeeded: tasks.add(7b1f) args=(2, 2) kwargs={} clock=5, result=4, runtime=0.25
            w@box [2026-11-22 10:32:10+00:00] task started: (f00) clock=6
            w@box [2026-11-22 10:32:10+00:00] started
        "#]]
        .assert_eq(&lines.concat());
    }

    #[test]
    fn names_of_old_tasks_are_forgotten() {
        let mut names = Names::default();
        for number in 0..TASKS_MAX + 10 {
            names.remember(number.to_string(), String::new());
            names.remember(number.to_string(), "again".to_owned());
        }
        assert_eq!((names.names.len(), names.order.len()), (TASKS_MAX, TASKS_MAX));
        assert!(!names.names.contains_key("9") && names.names.contains_key("10"));
    }

    #[test]
    fn for_programs_an_event_is_a_line_of_json() {
        let mut output = Output { as_json: true, names: Names::default() };
        let mut text = String::new();
        output.add(&event("{\"a\":\n NaN}"), &mut text);
        assert_eq!(text, "{\"a\":  NaN}\n");
    }
}

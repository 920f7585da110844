//! Writes events as Celery's JSON maps (celery/events/event.py, celery/worker/request.py, celery/worker/heartbeat.py).
//!
//! Knows neither when they are sent nor to whom. `utcoffset` is left out on purpose: a receiver that finds it
//! shifts `timestamp`, which is absolute, by the difference of the two zones (celery/events/receiver.py).

use std::fmt::Write;
use std::time::Duration;

use bytes::Bytes;

use crate::dead;
use crate::event::{CustomEvent, Event, Happening};
use crate::exception::Exception;
use crate::message::{HeaderValue, Headers, Message, Properties, Publication};
use crate::name::{NodeName, TaskId};
use crate::protocol::content::{MapWriter, ToJson};
use crate::protocol::repr::{ARGUMENTS_CHARS_MAX, cut, repr, repr_args};
use crate::request::Request;
use crate::timestamp::Timestamp;
use crate::usage::Usage;

/// How much of a result is shown, in characters (celery/app/task.py `resultrepr_maxsize`).
const RESULT_CHARS_MAX: usize = 1024;

/// How much of a traceback is told, in bytes: its end, where the exception is.
const TRACEBACK_BYTES_MAX: usize = 16 << 10;

/// The routing key of a batch of task events.
pub const BATCH_KEY: &str = "task.multi";

/// When something was said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// The node's logical clock, by which monitors order events.
    pub clock: u64,
    pub at: Timestamp,
}

/// What a worker says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beat {
    Online,
    Heartbeat,
    Offline,
}

impl Beat {
    /// The type of the event.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Online => "worker-online",
            Self::Heartbeat => "worker-heartbeat",
            Self::Offline => "worker-offline",
        }
    }
}

/// How a worker is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Vitals {
    /// How often it says so.
    pub interval: Duration,
    /// Attempts that run.
    pub active: usize,
    /// Attempts that have started so far.
    pub processed: u64,
    /// The load of the machine over 1, 5 and 15 minutes.
    pub load: [f64; 3],
}

/// What a worker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Software {
    pub name: &'static str,
    pub version: &'static str,
    /// The operating system, as Python calls it.
    pub system: &'static str,
}

/// Writes the events of one node.
#[derive(Debug, Clone)]
pub struct EventWriter {
    hostname: String,
    /// What all events begin with.
    from: String,
    /// The same for what it sends as a client.
    from_client: String,
    software: Software,
}

impl EventWriter {
    /// The events of this node.
    pub fn new(node: &NodeName, pid: u32, software: Software) -> Self {
        let begin = |hostname: &str| {
            let mut map = MapWriter::new();
            map.put("hostname", hostname).put("pid", &pid);
            let mut text = map.finish_text();
            text.pop();
            text
        };
        // celery/utils/nodenames.py `anon_nodename`.
        let machine = node.as_str().split_once('@').map_or(node.as_str(), |(_, machine)| machine);
        Self {
            hostname: node.to_string(),
            from: begin(node.as_str()),
            from_client: begin(&format!("gen{pid}@{machine}")),
            software,
        }
    }

    /// Appends what happened to a task; nothing, and false, if Celery says nothing about that.
    pub fn task(&self, out: &mut String, event: &Event, stamp: Stamp) -> bool {
        let Some(kind) = kind(&event.what) else { return false };
        let mut fields = Fields::begin(out, &self.from, kind, &event.id, stamp);
        match &event.what {
            Happening::Received { request, .. } => fields.put_request(request),
            Happening::Succeeded { result, usage } => {
                fields.put("result", repr(result, RESULT_CHARS_MAX).as_str()).put_runtime(usage);
            }
            Happening::Failed { exception, traceback, .. } => fields.put_failure(exception, traceback.as_deref()),
            Happening::Retried { cause: Some(exception), traceback, .. } => {
                fields.put_failure(exception, traceback.as_deref());
            }
            Happening::Retried { cause: None, .. } => {
                fields.put("exception", "None").put("traceback", &None::<&str>);
            }
            Happening::Rejected { requeue } => {
                fields.put("requeue", requeue);
            }
            Happening::Lost { .. } | Happening::Unregistered { requeue: true } => {
                fields.put("requeue", &true);
            }
            Happening::Unregistered { requeue: false } => {
                fields.put_failure(&Exception::not_registered(&event.task), None);
            }
            // As it is stored.
            Happening::DeadLettered { deliveries } => {
                fields.put_failure(&Exception::worker_lost(&dead::undeliverable(*deliveries)), None);
            }
            Happening::Revoked { expired, terminated } => {
                fields
                    .put("terminated", &terminated.is_some())
                    .put("signum", &terminated.map(|signal| signal.0))
                    .put("expired", expired);
            }
            Happening::Parked { quarantined } => {
                fields.put("quarantined", quarantined);
            }
            Happening::Started { .. } | Happening::Interrupted | Happening::Ignored => {}
        }
        fields.end();
        true
    }

    /// Appends what a task says by itself.
    pub fn custom(&self, out: &mut String, event: &CustomEvent, stamp: Stamp) {
        let mut fields = Fields::begin(out, &self.from, event.kind(), event.id(), stamp);
        for (key, value) in event.fields().members() {
            fields.put(&key, &value);
        }
        fields.end();
    }

    /// Appends that this node sent a task, as a client does (celery/app/amqp.py `send_task_message`); nothing, and
    /// false, if it is no task.
    pub fn sent(&self, out: &mut String, publication: &Publication, stamp: Stamp) -> bool {
        let headers = &publication.message.headers;
        let text = |name| match headers.get(name) {
            Some(HeaderValue::Text(text)) => Some(text.as_str()),
            _ => None,
        };
        let (Some(name), Some(id)) = (text("task"), text("id").and_then(|id| TaskId::parse(id).ok())) else {
            return false;
        };
        let retries = match headers.get("retries") {
            Some(HeaderValue::Int(retries)) => *retries,
            _ => 0,
        };
        // To the default exchange the key is the name of the queue.
        let queue = Some(&publication.route.routing_key).filter(|_| publication.route.exchange.is_empty());
        let mut fields = Fields::begin(out, &self.from_client, "task-sent", &id, stamp);
        fields
            .put("root_id", &text("root_id"))
            .put("parent_id", &text("parent_id"))
            .put("name", name)
            .put("args", cut(text("argsrepr").unwrap_or_default(), ARGUMENTS_CHARS_MAX).as_ref())
            .put("kwargs", cut(text("kwargsrepr").unwrap_or_default(), ARGUMENTS_CHARS_MAX).as_ref())
            .put("retries", &retries)
            .put("eta", &text("eta"))
            .put("expires", &text("expires"))
            .put("queue", &queue)
            .put("exchange", &publication.route.exchange)
            .put("routing_key", &publication.route.routing_key);
        fields.end();
        true
    }

    /// What the worker says about itself.
    pub fn beat(&self, beat: Beat, vitals: &Vitals, stamp: Stamp) -> String {
        let mut out = String::new();
        let mut fields = Fields::begin_without_id(&mut out, &self.from, beat.kind(), stamp);
        fields
            .put("freq", &vitals.interval.as_secs_f64())
            .put("active", &vitals.active)
            .put("processed", &vitals.processed)
            .put("loadavg", &Load(vitals.load))
            .put("sw_ident", self.software.name)
            .put("sw_ver", self.software.version)
            .put("sw_sys", self.software.system);
        fields.end();
        out
    }

    /// The message that carries one event, or an array of them.
    pub fn message(&self, body: String) -> Message {
        Message {
            properties: Properties {
                content_type: Some("application/json".to_owned()),
                content_encoding: Some("utf-8".to_owned()),
                delivery_mode: Some(1),
                priority: Some(0),
                ..Properties::default()
            },
            headers: Headers(vec![("hostname".to_owned(), HeaderValue::Text(self.hostname.clone()))]),
            body: Bytes::from(body),
        }
    }
}

/// The type of the event by which monitors learn of this, if they do.
fn kind(what: &Happening) -> Option<&'static str> {
    Some(match what {
        // What is refused at once is only told to be that (celery/worker/strategy.py).
        Happening::Received { refused: true, .. } => return None,
        Happening::Received { .. } => "task-received",
        Happening::Started { .. } => "task-started",
        Happening::Succeeded { .. } => "task-succeeded",
        Happening::Failed { .. } | Happening::DeadLettered { .. } => "task-failed",
        // celery/worker/consumer/consumer.py `on_unknown_task`.
        Happening::Unregistered { requeue: false } => "task-failed",
        Happening::Retried { .. } => "task-retried",
        // The message is given back (celery/worker/request.py `on_failure`).
        Happening::Rejected { .. } | Happening::Lost { .. } | Happening::Unregistered { requeue: true } => {
            "task-rejected"
        }
        Happening::Revoked { .. } => "task-revoked",
        Happening::Interrupted => "task-cancelled",
        // Celery knows nothing of the kind; monitors show a state that they do not know under its name.
        Happening::Parked { .. } => "task-parked",
        Happening::Ignored => return None,
    })
}

/// The routing key of an event that is sent alone.
pub fn routing_key(kind: &str) -> String {
    kind.replace('-', ".")
}

/// One map that is being written.
struct Fields<'a> {
    out: &'a mut String,
    kind: &'a str,
    at: Timestamp,
}

impl<'a> Fields<'a> {
    fn begin(out: &'a mut String, from: &str, kind: &'a str, id: &TaskId, stamp: Stamp) -> Self {
        let mut fields = Self::begin_without_id(out, from, kind, stamp);
        fields.put("uuid", id.as_str());
        fields
    }

    fn begin_without_id(out: &'a mut String, from: &str, kind: &'a str, stamp: Stamp) -> Self {
        out.push_str(from);
        let mut fields = Self { out, kind, at: stamp.at };
        fields.put("clock", &stamp.clock);
        fields
    }

    fn put(&mut self, key: &str, value: &(impl ToJson + ?Sized)) -> &mut Self {
        self.out.push_str(", ");
        key.write_json(self.out);
        self.out.push_str(": ");
        value.write_json(self.out);
        self
    }

    fn put_request(&mut self, request: &Request) {
        let headers = &request.message.headers;
        // What the client wrote is what other monitors show; a client that wrote nothing is helped.
        let shown = |name| match headers.get(name) {
            Some(HeaderValue::Text(text)) if !text.is_empty() => Some(cut(text, ARGUMENTS_CHARS_MAX)),
            _ => None,
        };
        self.put("name", request.display_name());
        match shown("argsrepr") {
            Some(args) => self.put("args", &*args),
            None => self.put("args", &repr_args(&request.args, ARGUMENTS_CHARS_MAX)),
        };
        match shown("kwargsrepr") {
            Some(kwargs) => self.put("kwargs", &*kwargs),
            None => self.put("kwargs", &repr(&request.kwargs, ARGUMENTS_CHARS_MAX)),
        };
        self.put("root_id", &request.root_id)
            .put("parent_id", &request.parent_id)
            .put("retries", &request.retries)
            .put("eta", &request.eta.map(Timestamp::isoformat))
            .put("expires", &request.expires.map(Timestamp::isoformat));
    }

    fn put_failure(&mut self, exception: &Exception, traceback: Option<&str>) {
        let traceback = traceback.map(last_part);
        self.put("exception", &*cut(&exception.repr(), ARGUMENTS_CHARS_MAX)).put("traceback", &traceback);
    }

    fn put_runtime(&mut self, usage: &Usage) {
        let _ = write!(self.out, ", \"runtime\": {}.{:09}", usage.wall.as_secs(), usage.wall.subsec_nanos());
    }

    fn end(self) {
        // Digit by digit: the shortest form of a float, which nobody needs, costs more than the rest of the map.
        let micros = self.at.as_micros().max(0);
        let (seconds, micros) = (micros / 1_000_000, micros % 1_000_000);
        let _ = write!(self.out, ", \"timestamp\": {seconds}.{micros:06}, \"type\": ");
        self.kind.write_json(self.out);
        self.out.push('}');
    }
}

/// Load averages with two decimals (celery/utils/sysinfo.py).
struct Load([f64; 3]);

impl ToJson for Load {
    fn write_json(&self, out: &mut String) {
        let [one, five, fifteen] = self.0;
        let _ = write!(out, "[{one:.2}, {five:.2}, {fifteen:.2}]");
    }
}

/// The end of a traceback.
fn last_part(traceback: &str) -> &str {
    let mut from = traceback.len().saturating_sub(TRACEBACK_BYTES_MAX);
    while !traceback.is_char_boundary(from) {
        from += 1;
    }
    &traceback[from..]
}

#[cfg(test)]
mod tests;

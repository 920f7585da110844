//! From a method's name and arguments to a [`Command`], with the errors of a Python worker: what Python calls
//! with keyword arguments that do not fit, it answers with the exception.

use std::borrow::Cow;
use std::time::Duration;

use rustc_hash::FxHashSet;

use crate::control::{Command, ControlError, Method, Signal};
use crate::message::HeaderValue;
use crate::name::{QueueName, TaskId};
use crate::protocol::content::{Json, Kind};
use crate::protocol::repr::repr;
use crate::queue::{Exchange, ExchangeKind, Queue};
use crate::rate::Rate;
use crate::revoke::Revocation;

use super::SHOWN_CHARS_MAX;

/// How many ids, stamps or names one command may hold.
const LIST_MAX: usize = 100_000;

impl Command {
    /// Reads a command as it travels. Arguments that are null count as not given where Celery's default is
    /// null; those that a method does not know are ignored, or refused, as Celery does.
    pub fn parse(method: &str, arguments: &Json) -> Result<Self, ControlError> {
        let known = Method::find(method).ok_or_else(|| ControlError::unknown(method))?;
        let arguments = Arguments { method: known, map: arguments };
        arguments.check()?;
        let command = match known.name {
            "ping" => Self::Ping,
            "clock" => Self::Clock,
            "report" => Self::Report,
            "conf" => Self::Conf { with_defaults: arguments.truth("with_defaults") },
            "stats" => Self::Stats,
            "active" => Self::Active { safe: arguments.truth("safe") },
            "reserved" => Self::Reserved,
            "scheduled" => Self::Scheduled,
            "revoked" => Self::Revoked,
            "registered" => Self::Registered {
                attributes: arguments.texts("taskinfoitems")?,
                builtins: arguments.truth("builtins"),
            },
            "active_queues" => Self::ActiveQueues,
            "query_task" => Self::QueryTask(arguments.ids("ids")?),
            "hello" => Self::Hello { from: arguments.text("from_node")?, revoked: arguments.ids("revoked")? },
            "memsample" => Self::MemorySample,
            "memdump" => Self::MemoryDump,
            "objgraph" => Self::ObjectGraph,
            "revoke" => {
                let terminate = arguments.truth("terminate").then(|| arguments.signal()).transpose()?;
                Self::Revoke { ids: arguments.ids("task_id")?, terminate }
            }
            "terminate" => Self::Revoke { ids: arguments.ids("task_id")?, terminate: Some(arguments.signal()?) },
            "revoke_by_stamped_headers" => arguments.stamps()?,
            "rate_limit" => arguments.rate_limit()?,
            "time_limit" => Self::TimeLimit {
                task: arguments.given("task_name").map_or(Ok(String::new()), |_| arguments.text("task_name"))?,
                hard: arguments.seconds("hard")?,
                soft: arguments.seconds("soft")?,
            },
            "add_consumer" => Self::AddConsumer(Box::new(arguments.new_queue()?)),
            "cancel_consumer" => Self::CancelConsumer(arguments.queue()?),
            "pool_grow" => Self::PoolGrow(arguments.integer("n")?.unwrap_or(1)),
            "pool_shrink" => Self::PoolShrink(arguments.integer("n")?.unwrap_or(1)),
            "pool_restart" => Self::PoolRestart,
            "autoscale" => Self::Autoscale { max: arguments.size("max")?, min: arguments.size("min")? },
            "enable_events" => Self::EnableEvents,
            "disable_events" => Self::DisableEvents,
            "heartbeat" => Self::Heartbeat,
            "shutdown" => {
                let reason = arguments.given("msg").map_or(Ok(String::new()), |_| arguments.text("msg"))?;
                Self::Shutdown { reason: if reason.is_empty() { "Got shutdown from remote".into() } else { reason } }
            }
            "election" => Self::Election,
            "pause_queue" => Self::PauseQueue(arguments.queue()?),
            "resume_queue" => Self::ResumeQueue(arguments.queue()?),
            "quiet" => Self::Quiet,
            "unquiet" => Self::Unquiet,
            "unrevoke" => Self::Unrevoke(arguments.ids("task_id")?),
            other => return Err(ControlError::unknown(other)),
        };
        Ok(command)
    }
}

/// The keyword arguments of a call.
struct Arguments<'a> {
    method: &'static Method,
    map: &'a Json,
}

impl Arguments<'_> {
    /// What Python checks when it calls a function.
    fn check(&self) -> Result<(), ControlError> {
        let name = self.method.name;
        match self.map.kind() {
            Kind::Map | Kind::Null => {}
            kind => {
                let kind = match kind {
                    Kind::List => "list",
                    Kind::Text => "str",
                    Kind::Bool => "bool",
                    _ => "int",
                };
                let text = format!("{name}() argument after ** must be a mapping, not {kind}");
                return Err(ControlError::raised("TypeError", text));
            }
        }
        if let Some(only) = self.method.only
            && let Some((unknown, _)) = self.map.members().find(|(name, _)| !only.contains(&&**name))
        {
            let text = format!("{name}() got an unexpected keyword argument '{unknown}'");
            return Err(ControlError::raised("TypeError", text));
        }
        let missing = self.method.required.iter().filter(|required| self.map.get(required).is_none());
        let missing: Vec<String> = missing.map(|name| format!("'{name}'")).collect();
        let list = match missing.as_slice() {
            [] => return Ok(()),
            [one] => one.clone(),
            [one, two] => format!("{one} and {two}"),
            [first @ .., last] => format!("{}, and {last}", first.join(", ")),
        };
        let plural = if missing.len() == 1 { "argument" } else { "arguments" };
        let text = format!("{name}() missing {} required positional {plural}: {list}", missing.len());
        Err(ControlError::raised("TypeError", text))
    }

    fn given(&self, name: &str) -> Option<Json> {
        self.map.get(name).filter(|value| !value.is_null())
    }

    /// Python's truth of it.
    fn truth(&self, name: &str) -> bool {
        self.given(name).is_some_and(|value| is_true(&value))
    }

    fn wrong(&self, name: &str, expected: &str) -> ControlError {
        let shown = self.map.get(name).map(|value| repr(&value, 80)).unwrap_or_default();
        ControlError::raised("TypeError", format!("{}(): {name} is not {expected}: {shown}", self.method.name))
    }

    fn text(&self, name: &str) -> Result<String, ControlError> {
        let value = self.given(name).ok_or_else(|| self.wrong(name, "a text"))?;
        value.as_text().map(Cow::into_owned).ok_or_else(|| self.wrong(name, "a text"))
    }

    fn integer(&self, name: &str) -> Result<Option<i64>, ControlError> {
        let Some(value) = self.given(name) else { return Ok(None) };
        value.as_i64().map(Some).ok_or_else(|| self.wrong(name, "an integer"))
    }

    /// A number of slots; zero is as if it were not given.
    fn size(&self, name: &str) -> Result<Option<u32>, ControlError> {
        let number = self.integer(name)?.map(|number| u32::try_from(number).map_err(|_| self.wrong(name, "a size")));
        Ok(number.transpose()?.filter(|number| *number > 0))
    }

    /// A time limit; zero is none.
    fn seconds(&self, name: &str) -> Result<Option<Duration>, ControlError> {
        let Some(value) = self.given(name) else { return Ok(None) };
        let seconds = value.as_f64().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        let seconds = seconds.ok_or_else(|| self.wrong(name, "a number of seconds"))?;
        Ok(Some(seconds).filter(|seconds| !seconds.is_zero()))
    }

    /// One value or a list of them (celery/utils/functional.py `maybe_list`); the keys of a map.
    fn list(&self, name: &str) -> Result<Vec<Json>, ControlError> {
        let list = match self.given(name) {
            None => Vec::new(),
            Some(value) => list_of(&value),
        };
        if list.len() > LIST_MAX {
            return Err(ControlError::raised("ValueError", format!("{name} has more than {LIST_MAX} elements")));
        }
        Ok(list)
    }

    fn texts(&self, name: &str) -> Result<Vec<String>, ControlError> {
        Ok(self.list(name)?.iter().filter_map(|item| item.as_text().map(Cow::into_owned)).collect())
    }

    /// Task ids, each once. What is no id is the id of no task.
    fn ids(&self, name: &str) -> Result<Vec<TaskId>, ControlError> {
        let mut seen = FxHashSet::default();
        let ids = self.texts(name)?.into_iter().filter_map(|text| TaskId::parse(&text).ok());
        Ok(ids.filter(|id| seen.insert(id.clone())).collect())
    }

    fn signal(&self) -> Result<Signal, ControlError> {
        Signal::parse(&self.map.get("signal").unwrap_or_else(Json::null))
    }

    fn queue(&self) -> Result<QueueName, ControlError> {
        QueueName::parse(&self.text("queue")?).map_err(|error| ControlError::raised("ValueError", error.to_string()))
    }

    /// celery/worker/consumer/consumer.py `add_task_queue`, celery/app/amqp.py `Queues.add`.
    fn new_queue(&self) -> Result<Queue, ControlError> {
        let mut queue = Queue::named(self.queue()?);
        let exchange = self.given("exchange").map(|_| self.text("exchange")).transpose()?;
        let kind = self.given("exchange_type").map(|_| self.text("exchange_type")).transpose()?;
        let kind = match kind.as_deref() {
            None | Some("" | "direct") => ExchangeKind::Direct,
            Some("topic") => ExchangeKind::Topic,
            Some("fanout") => ExchangeKind::Fanout,
            Some("headers") => ExchangeKind::Headers,
            Some(other) => {
                return Err(ControlError::raised("ValueError", format!("no exchange type {other} in this host")));
            }
        };
        let name = exchange.filter(|name| !name.is_empty()).unwrap_or_else(|| queue.exchange.name.clone());
        queue.exchange = Exchange { name, kind };
        if self.given("routing_key").is_some() {
            queue.routing_key = self.text("routing_key")?;
        }
        Ok(queue)
    }

    fn stamps(&self) -> Result<Command, ControlError> {
        let signal = self.signal()?;
        let headers = self.map.get("headers").unwrap_or_else(Json::null);
        let pairs: Vec<(String, Json)> = match headers.kind() {
            Kind::Map => headers.members().map(|(name, value)| (name.into_owned(), value)).collect(),
            Kind::List => {
                // As a command line gives them: `key=value`.
                let words = headers.elements().map(|word| {
                    let word = word.as_text().unwrap_or_default().into_owned();
                    let mut parts = word.split('=');
                    match (parts.next(), parts.next()) {
                        (Some(key), Some(value)) => Ok((key.to_owned(), Json::text(value))),
                        _ => Err(ControlError::raised("IndexError", "list index out of range")),
                    }
                });
                words.collect::<Result<_, _>>()?
            }
            _ => return Err(self.wrong("headers", "a map or a list of `key=value`")),
        };
        let mut stamps = Vec::new();
        for (header, value) in &pairs {
            stamps.extend(list_of(value).iter().map(|item| Revocation::stamp(header, &HeaderValue::from(item))));
            if stamps.len() > LIST_MAX {
                return Err(ControlError::raised("ValueError", format!("headers have more than {LIST_MAX} values")));
            }
        }
        let terminate = self.truth("terminate").then_some(signal);
        Ok(Command::RevokeByStamps { stamps, shown: repr(&Json::object(pairs), SHOWN_CHARS_MAX), terminate })
    }

    /// celery/utils/time.py `rate`
    fn rate_limit(&self) -> Result<Command, ControlError> {
        let task = self.text("task_name")?;
        let value = self.map.get("rate_limit").unwrap_or_else(Json::null);
        if !is_true(&value) {
            return Ok(Command::RateLimit { task, rate: None, disabled: true });
        }
        let text = match value.kind() {
            Kind::Number => Cow::Owned(value.to_string()),
            _ => value.as_text().ok_or_else(|| self.wrong("rate_limit", "a text or a number"))?,
        };
        let rate = Rate::parse(&text).map_err(|error| {
            let (count, unit) = text.split_once('/').unwrap_or((&text, "s"));
            let error = match count.trim().parse::<f64>() {
                Ok(_) if !["s", "m", "h", ""].contains(&unit) => return ControlError::raised("KeyError", unit),
                Ok(_) => ControlError::raised("ValueError", error.to_string()),
                Err(_) => {
                    let shown = repr(&Json::text(count), 80);
                    ControlError::raised("ValueError", format!("could not convert string to float: {shown}"))
                }
            };
            ControlError::Refused(format!("Invalid rate limit string: {error}"))
        })?;
        Ok(Command::RateLimit { task, rate, disabled: false })
    }
}

/// The elements of a list, the keys of a map, or the value alone.
fn list_of(value: &Json) -> Vec<Json> {
    match value.kind() {
        Kind::Null => Vec::new(),
        Kind::List => value.elements().take(LIST_MAX + 1).collect(),
        Kind::Map => value.members().take(LIST_MAX + 1).map(|(key, _)| Json::text(&key)).collect(),
        _ => vec![value.clone()],
    }
}

/// Python's `bool(value)`.
fn is_true(value: &Json) -> bool {
    match value.kind() {
        Kind::Null => false,
        Kind::Bool => value.as_bool() == Some(true),
        Kind::Number => value.as_f64() != Some(0.0),
        Kind::Text => value.text_lossy().is_some_and(|text| !text.is_empty()),
        Kind::List => value.elements().next().is_some(),
        Kind::Map => value.members().next().is_some(),
    }
}

#[cfg(test)]
mod tests;

//! What a node can be asked and told, as data: names, arguments, and help for people.
//!
//! What the arguments mean is the business of `parse`.

use std::time::Duration;

use crate::protocol::content::{Json, Kind, MapWriter};

/// One method of remote control.
#[derive(Debug, Clone, Copy)]
pub struct Method {
    pub name: &'static str,
    /// The name that old clients use.
    pub alias: Option<&'static str>,
    pub kind: MethodKind,
    /// Not for people: left out of help.
    pub hidden: bool,
    /// Celery has no such method.
    pub ours: bool,
    /// One line for people.
    pub help: &'static str,
    /// Its arguments for people, as on a command line.
    pub signature: &'static str,
    /// The arguments that a command line gives by their place.
    pub positional: &'static [(&'static str, ArgumentKind)],
    /// The argument that takes the rest of a command line.
    pub variadic: Option<&'static str>,
    /// Arguments without which it cannot do anything, in Python's order.
    pub(super) required: &'static [&'static str],
    /// All that it takes, if it takes no others (Python: it has no `**kwargs`).
    pub(super) only: Option<&'static [&'static str]>,
    /// How long a client waits for answers if it is not told otherwise.
    pub timeout: Duration,
}

/// Which of Celery's two commands it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MethodKind {
    Inspect,
    Control,
}

/// What a word of a command line is read as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArgumentKind {
    Text,
    Integer,
    Float,
    Bool,
}

/// Words of a command line are no arguments of a method.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WordsError {
    #[error("`{method}` takes no arguments")]
    None { method: &'static str },
    #[error("`{method}` takes: {signature}")]
    TooMany { method: &'static str, signature: &'static str },
    #[error("`{word}` is not {expected} ({name} of `{method}`)")]
    Kind { method: &'static str, name: &'static str, word: String, expected: &'static str },
}

impl Method {
    /// The method of that name or alias.
    pub fn find(name: &str) -> Option<&'static Self> {
        METHODS.iter().find(|method| method.name == name || method.alias == Some(name))
    }

    /// The arguments that these words of a command line say (celery/bin/control.py `_compile_arguments`).
    pub fn arguments(&self, words: &[String]) -> Result<Json, WordsError> {
        let mut arguments = MapWriter::new();
        let mut rest = words;
        for (name, kind) in self.positional {
            let Some((word, others)) = rest.split_first() else { break };
            let value = kind.read(word).ok_or_else(|| WordsError::Kind {
                method: self.name,
                name,
                word: word.clone(),
                expected: kind.expected(),
            })?;
            arguments.put(name, &value);
            rest = others;
        }
        match self.variadic {
            Some(name) => drop(arguments.put(name, &Json::array(rest))),
            None if rest.is_empty() => {}
            None if self.positional.is_empty() => return Err(WordsError::None { method: self.name }),
            None => return Err(WordsError::TooMany { method: self.name, signature: self.signature }),
        }
        Ok(arguments.finish())
    }

    /// The first argument without which it cannot do anything and that these do not have.
    pub fn missing(&self, arguments: &Json) -> Option<&'static str> {
        self.required.iter().copied().find(|name| {
            let value = arguments.get(name).filter(|value| !value.is_null());
            value.is_none_or(|value| value.kind() == Kind::List && value.elements().next().is_none())
        })
    }
}

impl ArgumentKind {
    fn read(self, word: &str) -> Option<Json> {
        match self {
            Self::Text => Some(Json::text(word)),
            Self::Integer => word.trim().parse::<i64>().ok().map(Json::int),
            Self::Float => word.trim().parse::<f64>().ok().map(Json::float),
            // celery/utils/serialization.py `strtobool`
            Self::Bool => match word.to_ascii_lowercase().as_str() {
                "false" | "no" | "0" | "off" => Some(Json::bool(false)),
                "true" | "yes" | "1" | "on" => Some(Json::bool(true)),
                _ => None,
            },
        }
    }

    fn expected(self) -> &'static str {
        match self {
            Self::Text => "a text",
            Self::Integer => "a whole number",
            Self::Float => "a number",
            Self::Bool => "yes or no",
        }
    }
}

const SECOND: Duration = Duration::from_secs(1);

/// A method of Celery's `inspect` that takes anything and needs nothing.
const INSPECT: Method = Method {
    name: "",
    alias: None,
    kind: MethodKind::Inspect,
    hidden: false,
    ours: false,
    help: "",
    signature: "",
    positional: &[],
    variadic: None,
    required: &[],
    only: None,
    timeout: SECOND,
};

const CONTROL: Method = Method { kind: MethodKind::Control, ..INSPECT };

use ArgumentKind::{Bool, Float, Integer, Text};

/// All methods, each kind in the order of its names.
pub const METHODS: &[Method] = &[
    Method { name: "active", alias: Some("dump_active"), help: "List of tasks currently being executed.", ..INSPECT },
    Method {
        name: "active_queues",
        help: "List the task queues a worker is currently consuming from.",
        only: Some(&[]),
        ..INSPECT
    },
    Method { name: "clock", help: "Get current logical clock value.", ..INSPECT },
    Method {
        name: "conf",
        alias: Some("dump_conf"),
        help: "List configuration.",
        signature: "[include_defaults=False]",
        positional: &[("with_defaults", Bool)],
        ..INSPECT
    },
    Method { name: "hello", hidden: true, help: "Request mingle sync-data.", required: &["from_node"], ..INSPECT },
    Method {
        name: "memdump",
        help: "Dump statistics of previous memsample requests.",
        signature: "[n_samples=10]",
        positional: &[("samples", Integer)],
        ..INSPECT
    },
    Method { name: "memsample", help: "Sample current RSS memory usage.", ..INSPECT },
    Method {
        name: "objgraph",
        help: "Create graph of uncollected objects (memory-leak debugging).",
        signature: "[object_type=Request] [num=200 [max_depth=10]]",
        positional: &[("type", Text), ("num", Integer), ("max_depth", Integer)],
        timeout: Duration::from_secs(60),
        only: Some(&["num", "max_depth", "type"]),
        ..INSPECT
    },
    Method { name: "ping", help: "Ping worker(s).", timeout: Duration::from_millis(200), ..INSPECT },
    Method {
        name: "query_task",
        help: "Query for task information by id.",
        signature: "[id1 [id2 [... [idN]]]]",
        variadic: Some("ids"),
        required: &["ids"],
        ..INSPECT
    },
    Method {
        name: "registered",
        alias: Some("dump_tasks"),
        help: "List of registered tasks.",
        signature: "[attr1 [attr2 [... [attrN]]]]",
        variadic: Some("taskinfoitems"),
        ..INSPECT
    },
    Method { name: "report", help: "Information about the worker for bug reports.", only: Some(&[]), ..INSPECT },
    Method {
        name: "reserved",
        alias: Some("dump_reserved"),
        help: "List of currently reserved tasks, not including scheduled/active.",
        ..INSPECT
    },
    Method { name: "revoked", alias: Some("dump_revoked"), help: "List of revoked task-ids.", ..INSPECT },
    Method {
        name: "scheduled",
        alias: Some("dump_schedule"),
        help: "List of currently scheduled ETA/countdown tasks.",
        ..INSPECT
    },
    Method { name: "stats", help: "Request worker statistics/information.", ..INSPECT },
    Method {
        name: "add_consumer",
        help: "Tell worker(s) to consume from task queue by name.",
        signature: "<queue> [exchange [type [routing_key]]]",
        positional: &[("queue", Text), ("exchange", Text), ("exchange_type", Text), ("routing_key", Text)],
        required: &["queue"],
        ..CONTROL
    },
    Method {
        name: "autoscale",
        help: "Modify autoscale settings.",
        signature: "[max [min]]",
        positional: &[("max", Integer), ("min", Integer)],
        only: Some(&["max", "min"]),
        ..CONTROL
    },
    Method {
        name: "cancel_consumer",
        help: "Tell worker(s) to stop consuming from task queue by name.",
        signature: "<queue>",
        positional: &[("queue", Text)],
        required: &["queue"],
        ..CONTROL
    },
    Method {
        name: "disable_events",
        help: "Tell worker(s) to stop sending task-related events.",
        only: Some(&[]),
        ..CONTROL
    },
    Method { name: "election", help: "Hold election.", required: &["id", "topic"], ..CONTROL },
    Method { name: "enable_events", help: "Tell worker(s) to send task-related events.", only: Some(&[]), ..CONTROL },
    Method {
        name: "heartbeat",
        help: "Tell worker(s) to send event heartbeat immediately.",
        only: Some(&[]),
        ..CONTROL
    },
    Method {
        name: "pause_queue",
        ours: true,
        help: "Take no more tasks from a queue, and keep it.",
        signature: "<queue>",
        positional: &[("queue", Text)],
        required: &["queue"],
        ..CONTROL
    },
    Method {
        name: "pool_grow",
        help: "Let n more tasks run at a time.",
        signature: "[N=1]",
        positional: &[("n", Integer)],
        ..CONTROL
    },
    Method { name: "pool_restart", help: "Load plugins that have changed.", ..CONTROL },
    Method {
        name: "pool_shrink",
        help: "Let n fewer tasks run at a time.",
        signature: "[N=1]",
        positional: &[("n", Integer)],
        ..CONTROL
    },
    Method { name: "quiet", ours: true, help: "Take no more tasks, finish what is here, and stay up.", ..CONTROL },
    Method {
        name: "rate_limit",
        help: "Tell worker(s) to modify the rate limit for a task by type.",
        signature: "<task_name> <rate_limit (e.g., 5/s | 5/m | 5/h)>",
        positional: &[("task_name", Text), ("rate_limit", Text)],
        required: &["task_name", "rate_limit"],
        ..CONTROL
    },
    Method {
        name: "resume_queue",
        ours: true,
        help: "Take tasks again from a queue that was paused.",
        signature: "<queue>",
        positional: &[("queue", Text)],
        required: &["queue"],
        ..CONTROL
    },
    Method {
        name: "revoke",
        help: "Revoke task by task id (or list of ids).",
        signature: "[id1 [id2 [... [idN]]]]",
        variadic: Some("task_id"),
        required: &["task_id"],
        ..CONTROL
    },
    Method {
        name: "revoke_by_stamped_headers",
        help: "Revoke task by header (or list of headers).",
        signature: "[key1=value1 [key2=value2 [... [keyN=valueN]]]]",
        variadic: Some("headers"),
        required: &["headers"],
        ..CONTROL
    },
    Method { name: "shutdown", help: "Shutdown worker(s).", ..CONTROL },
    Method {
        name: "terminate",
        help: "Terminate task by task id (or list of ids).",
        signature: "<signal> [id1 [id2 [... [idN]]]]",
        positional: &[("signal", Text)],
        variadic: Some("task_id"),
        required: &["signal", "task_id"],
        ..CONTROL
    },
    Method {
        name: "time_limit",
        help: "Tell worker(s) to modify the time limit for task by type.",
        signature: "<task_name> <soft_secs> [hard_secs]",
        positional: &[("task_name", Text), ("soft", Float), ("hard", Float)],
        ..CONTROL
    },
    Method { name: "unquiet", ours: true, help: "Take tasks again after `quiet`.", ..CONTROL },
    Method {
        name: "unrevoke",
        ours: true,
        help: "Let tasks run that were revoked; their results say REVOKED until they have.",
        signature: "[id1 [id2 [... [idN]]]]",
        variadic: Some("task_id"),
        required: &["task_id"],
        ..CONTROL
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_have_different_names_in_order_and_say_what_they_do() {
        for kind in [MethodKind::Inspect, MethodKind::Control] {
            let names: Vec<&str> = METHODS.iter().filter(|it| it.kind == kind).map(|it| it.name).collect();
            assert!(names.is_sorted() && !names.is_empty(), "{names:?}");
        }
        for method in METHODS {
            assert!(method.help.ends_with('.'), "{}", method.name);
            assert_eq!(Method::find(method.name).map(|it| it.name), Some(method.name));
            assert_eq!(method.signature.is_empty(), method.positional.is_empty() && method.variadic.is_none());
        }
        assert_eq!(Method::find("dump_schedule").map(|it| it.name), Some("scheduled"));
        assert!(Method::find("nosuch").is_none());
    }

    #[track_caller]
    fn check(line: &str, expected: Result<&str, &str>) {
        let mut words = line.split(' ').map(str::to_owned);
        let method = Method::find(&words.next().expect("a method")).expect("a method");
        let arguments = method.arguments(&words.collect::<Vec<_>>());
        let arguments = arguments.map(|it| it.to_string()).map_err(|error| error.to_string());
        assert_eq!(arguments.as_deref().map_err(String::as_str), expected);
    }

    #[test]
    fn words_of_a_command_line_become_arguments() {
        check("ping", Ok("{}"));
        check("conf yes", Ok(r#"{"with_defaults": true}"#));
        check("query_task a b", Ok(r#"{"ids": ["a", "b"]}"#));
        check("registered", Ok(r#"{"taskinfoitems": []}"#));
        check("terminate KILL a b", Ok(r#"{"signal": "KILL", "task_id": ["a", "b"]}"#));
        check("time_limit tasks.add 10 20.5", Ok(r#"{"task_name": "tasks.add", "soft": 10.0, "hard": 20.5}"#));
        check("autoscale 10", Ok(r#"{"max": 10}"#));
        check("ping x", Err("`ping` takes no arguments"));
        check("autoscale 10 3 1", Err("`autoscale` takes: [max [min]]"));
        check("pool_grow many", Err("`many` is not a whole number (n of `pool_grow`)"));
    }
}

//! Exceptions, under the names that Celery and Taskhost give them.
//!
//! Time limits, revoke, retry and unknown names use Celery's own classes, so that a Python client
//! catches what it always caught. What only a sandbox can do has the module `taskhost.errors`; a client
//! that does not know it gets a class of that name made for it (celery/backends/base.py
//! `exception_to_python`).

use std::time::Duration;

use crate::name::TaskName;
use crate::outcome::Trap;
use crate::protocol::content::{Json, Kind};
use crate::protocol::repr::repr;
use crate::request::Request;

/// The module of exceptions that only a sandbox raises.
pub const SANDBOX_MODULE: &str = "taskhost.errors";

/// How much of arguments is shown in an exception's text, in characters.
const SHOWN_CHARS_MAX: usize = 1024;

/// An exception as a Python client will raise it.
#[derive(Debug, Clone, PartialEq)]
pub struct Exception {
    /// `exc_type`: the class.
    pub kind: String,
    /// `exc_module`; none makes the client synthesize a class.
    pub module: Option<String>,
    /// `exc_message`: a JSON array of the exception's arguments.
    pub arguments: Json,
}

impl Exception {
    /// `kind(*arguments)` of `module`.
    pub fn new(module: &str, kind: &str, arguments: impl IntoIterator<Item = Json>) -> Self {
        Self { kind: kind.to_owned(), module: Some(module.to_owned()), arguments: Json::array(arguments) }
    }

    /// The exception in a result document (celery/backends/base.py `exception_to_python`).
    pub fn read(document: &Json) -> Self {
        let text = |key: &str| document.get(key).and_then(|value| value.as_text().map(|text| text.into_owned()));
        let message = document.get("exc_message").unwrap_or(Json::null());
        Self {
            kind: text("exc_type").unwrap_or_else(|| "Exception".to_owned()),
            module: text("exc_module"),
            arguments: if message.kind() == Kind::List { message } else { Json::array([message]) },
        }
    }

    /// Celery: an unhandled soft time limit.
    pub fn soft_time_limit() -> Self {
        Self::new("billiard.exceptions", "SoftTimeLimitExceeded", [])
    }

    /// Celery: the hard time limit; its argument is the limit in seconds.
    pub fn time_limit(limit: Duration) -> Self {
        Self::new("billiard.exceptions", "TimeLimitExceeded", [seconds(limit)])
    }

    /// Celery: no task of that name.
    pub fn not_registered(task: &TaskName) -> Self {
        Self::new("celery.exceptions", "NotRegistered", [Json::text(task.as_str())])
    }

    /// Celery: the task will not run, because of `reason` (`revoked`, `expired`, `terminated`).
    pub fn revoked(reason: &str) -> Self {
        Self::new("celery.exceptions", "TaskRevokedError", [Json::text(reason)])
    }

    /// Celery: whoever ran the task is gone.
    pub fn worker_lost(text: &str) -> Self {
        Self::new("billiard.exceptions", "WorkerLostError", [Json::text(text)])
    }

    /// Celery: the task gave its message back for good.
    pub fn rejected(reason: &str) -> Self {
        Self::new("celery.exceptions", "Reject", [Json::text(reason), Json::bool(false)])
    }

    /// Celery: another retry was asked for than there are left, and no cause was given.
    pub fn max_retries_exceeded(request: &Request) -> Self {
        let text = format!(
            "Can't retry {}[{}] args:{} kwargs:{}",
            request.task,
            request.id,
            repr(&request.args, SHOWN_CHARS_MAX),
            repr(&request.kwargs, SHOWN_CHARS_MAX)
        );
        Self::new("celery.exceptions", "MaxRetriesExceededError", [Json::text(&text)])
    }

    /// Ours: the sandbox ended the attempt. Where a limit was hit the text names the key that raises it.
    pub fn trap(trap: &Trap) -> Self {
        let (kind, text) = match trap {
            Trap::Instruction(what) => ("Trap", what.clone()),
            Trap::StackOverflow => ("StackOverflow", "call stack exhausted; raise limits.stack".to_owned()),
            Trap::MemoryLimit { limit_bytes } => {
                ("MemoryLimitExceeded", format!("{}; raise limits.memory", bytes(*limit_bytes)))
            }
            // Nothing that anybody sets.
            Trap::TableLimit { elements } => {
                ("MemoryLimitExceeded", format!("a table of more than {elements} elements"))
            }
            Trap::ResultTooLarge { limit_bytes } => {
                ("ResultTooLarge", format!("more than {}; raise limits.result", bytes(*limit_bytes)))
            }
            Trap::CpuTimeLimit { limit } => {
                ("CpuTimeLimitExceeded", format!("{} s; raise limits.cpu_time", limit.as_secs_f64()))
            }
            Trap::HandleLimit { limit } => {
                ("HandleLimitExceeded", format!("{limit} open handles; raise limits.handles"))
            }
            Trap::HostCallLimit { limit } => ("HostCallLimitExceeded", format!("{limit}; raise limits.host_calls")),
            Trap::HostCallTooLarge { limit_bytes } => {
                ("HostCallTooLarge", format!("more than {}; raise limits.host_call_bytes", bytes(*limit_bytes)))
            }
            Trap::Exited { code, words: None } => ("GuestExited", format!("the task called exit({code})")),
            Trap::Exited { code, words: Some(words) } => {
                ("GuestExited", format!("the task called exit({code}); stderr: {words}"))
            }
            Trap::InvalidResult(what) => ("InvalidResult", what.clone()),
            Trap::CapabilityDenied(what) => ("CapabilityDenied", what.clone()),
            Trap::NotInstantiated(what) => ("Trap", format!("cannot instantiate the plugin: {what}")),
        };
        Self::new(SANDBOX_MODULE, kind, [Json::text(&text)])
    }

    /// What publishing raises inside of a task (kombu/exceptions.py).
    pub fn unpublished(reason: &str) -> Self {
        Self::new("kombu.exceptions", "OperationalError", [Json::text(reason)])
    }

    /// `Kind(arguments)`, as Python prints an exception.
    pub fn repr(&self) -> String {
        let arguments = repr(&self.arguments, SHOWN_CHARS_MAX);
        let inside = arguments.strip_prefix('[').unwrap_or(&arguments);
        let inside = inside.strip_suffix(']').unwrap_or(inside);
        format!("{}({inside})", self.kind)
    }

    /// `Kind: arguments`, the last line of a Python traceback.
    pub fn headline(&self) -> String {
        let mut elements = self.arguments.elements();
        match (elements.next(), elements.next()) {
            (None, _) => self.kind.clone(),
            (Some(only), None) => match only.as_text() {
                Some(text) => format!("{}: {text}", self.kind),
                None => format!("{}: {}", self.kind, repr(&only, SHOWN_CHARS_MAX)),
            },
            _ => format!("{}: {}", self.kind, repr(&self.arguments, SHOWN_CHARS_MAX)),
        }
    }
}

/// Seconds the way they were configured: whole ones without a fraction.
fn seconds(duration: Duration) -> Json {
    if duration.subsec_nanos() == 0 {
        Json::int(duration.as_secs() as i64)
    } else {
        Json::float(duration.as_secs_f64())
    }
}

/// Bytes for people: in MiB or KiB where they are whole.
fn bytes(count: u64) -> String {
    const KIB: u64 = 1 << 10;
    const MIB: u64 = 1 << 20;
    match count {
        0 => "0 bytes".to_owned(),
        count if count.is_multiple_of(MIB) => format!("{} MiB", count / MIB),
        count if count.is_multiple_of(KIB) => format!("{} KiB", count / KIB),
        count => format!("{count} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_name_the_key_that_raises_them() {
        let limit_bytes = 128 << 20;
        let limit = Duration::from_millis(2500);
        for (trap, text) in [
            (Trap::StackOverflow, "StackOverflow: call stack exhausted; raise limits.stack"),
            (Trap::MemoryLimit { limit_bytes }, "MemoryLimitExceeded: 128 MiB; raise limits.memory"),
            (Trap::MemoryLimit { limit_bytes: 3 << 10 }, "MemoryLimitExceeded: 3 KiB; raise limits.memory"),
            (Trap::TableLimit { elements: 100_000 }, "MemoryLimitExceeded: a table of more than 100000 elements"),
            (Trap::ResultTooLarge { limit_bytes: 1500 }, "ResultTooLarge: more than 1500 bytes; raise limits.result"),
            (Trap::CpuTimeLimit { limit }, "CpuTimeLimitExceeded: 2.5 s; raise limits.cpu_time"),
            (Trap::HandleLimit { limit: 1000 }, "HandleLimitExceeded: 1000 open handles; raise limits.handles"),
            (Trap::HostCallLimit { limit: 1_000_000 }, "HostCallLimitExceeded: 1000000; raise limits.host_calls"),
            (
                Trap::HostCallTooLarge { limit_bytes },
                "HostCallTooLarge: more than 128 MiB; raise limits.host_call_bytes",
            ),
            (Trap::Instruction("unreachable".to_owned()), "Trap: unreachable"),
            (Trap::Exited { code: 7, words: None }, "GuestExited: the task called exit(7)"),
            (
                Trap::Exited { code: 2, words: Some("panic: boom".to_owned()) },
                "GuestExited: the task called exit(2); stderr: panic: boom",
            ),
            (Trap::InvalidResult("no JSON".to_owned()), "InvalidResult: no JSON"),
            (Trap::CapabilityDenied("denied".to_owned()), "CapabilityDenied: denied"),
            (Trap::NotInstantiated("gone".to_owned()), "Trap: cannot instantiate the plugin: gone"),
        ] {
            let exception = Exception::trap(&trap);
            assert_eq!((exception.headline().as_str(), exception.module.as_deref()), (text, Some(SANDBOX_MODULE)));
        }
    }

    #[test]
    fn time_limits_are_numbers_as_configured() {
        assert_eq!(Exception::time_limit(Duration::from_secs(9)).repr(), "TimeLimitExceeded(9)");
        assert_eq!(Exception::time_limit(Duration::from_millis(1500)).repr(), "TimeLimitExceeded(1.5)");
    }

    #[test]
    fn a_headline_is_the_last_line_of_a_traceback() {
        assert_eq!(Exception::new("builtins", "KeyError", [Json::text("x")]).headline(), "KeyError: x");
        assert_eq!(Exception::soft_time_limit().headline(), "SoftTimeLimitExceeded");
    }
}

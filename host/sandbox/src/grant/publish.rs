//! Which tasks a plugin may call, and by which way: `TASKS@QUEUES` in `[needs]` and in a grant.
//!
//! A call that says nothing of its way goes where the operator's settings lead it, and passes an entry
//! without `@`. One that names a queue needs an entry with that queue. One that names an exchange, a routing
//! key or a queue for its result could go anywhere, and needs `@*`.

use std::fmt;

use taskhost_core::Signature;

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Calls {
    /// A name, or the beginning of names with a `*`.
    tasks: String,
    /// The same of queues; none for calls that name no queue.
    queues: Option<String>,
}

/// Any queue, any exchange, and what is said of neither.
const ANYWHERE: &str = "*";

impl Calls {
    /// Reads an entry.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let (tasks, queues) = match text.split_once('@') {
            Some((tasks, queues)) => (tasks, Some(queues)),
            None => (text, None),
        };
        let is_pattern = |pattern: &str| {
            let name = pattern.strip_suffix('*').unwrap_or(pattern);
            !pattern.is_empty() && !name.contains('*') && !name.chars().any(char::is_control)
        };
        match is_pattern(tasks) && queues.is_none_or(is_pattern) {
            true => Ok(Self { tasks: tasks.to_owned(), queues: queues.map(str::to_owned) }),
            false => {
                let expected = "tasks such as \"images.*\", or with queues such as \"mail.send@mail\"";
                Err(format!("\"{}\" names no {expected}", text.escape_debug()))
            }
        }
    }

    /// The entry that one signature needs, without those that hang on it.
    pub(crate) fn of(signature: &Signature) -> Self {
        let destination = signature.destination();
        let goes_anywhere =
            destination.exchange.is_some() || destination.routing_key.is_some() || signature.has_reply_to();
        let queues = match &destination.queue {
            _ if goes_anywhere => Some(ANYWHERE.to_owned()),
            Some(queue) => Some(queue.to_string()),
            None => None,
        };
        Self { tasks: signature.task.to_string(), queues }
    }

    /// True if it lets everything through that the other does.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        let by_way = match (&self.queues, &other.queues) {
            (Some(ours), _) if ours == ANYWHERE => true,
            (Some(ours), Some(others)) => wider(ours, others),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        by_way && wider(&self.tasks, &other.tasks)
    }
}

/// True if everything that fits the other pattern fits this one.
fn wider(pattern: &str, other: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => other.strip_suffix('*').unwrap_or(other).starts_with(start),
        None => pattern == other,
    }
}

impl fmt::Display for Calls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.tasks)?;
        match &self.queues {
            Some(queues) => write!(f, "@{queues}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calls(text: &str) -> Calls {
        Calls::read(text).unwrap_or_else(|problem| panic!("{problem}"))
    }

    #[test]
    fn an_entry_covers_what_is_no_wider_than_itself() {
        for (entry, other, expected) in [
            ("mail.send", "mail.send", true),
            ("mail.send", "mail.send2", false),
            ("mail.*", "mail.send", true),
            ("mail.*", "mail.*", true),
            ("mail.*", "mail.send.*", true),
            ("mail.send*", "mail.*", false),
            ("mail.send", "mail.*", false),
            ("*", "anything", true),
            // Without a queue, only where calls go by themselves.
            ("mail.*", "mail.send@mail", false),
            ("mail.*", "mail.send@*", false),
            ("mail.*@mail", "mail.send", false),
            ("mail.*@mail", "mail.send@mail", true),
            ("mail.*@mail", "mail.send@mails", false),
            ("mail.*@ma*", "mail.send@mail", true),
            ("mail.*@ma*", "mail.send@*", false),
            ("mail.*@*", "mail.send", true),
            ("mail.*@*", "mail.send@any", true),
            ("mail.*@*", "mail.send@*", true),
            ("mail.*@*", "post.send", false),
            ("t@worker@box.dq2", "t@worker@box.dq2", true),
        ] {
            assert_eq!(calls(entry).covers(&calls(other)), expected, "{entry} covers {other}");
        }
    }

    #[test]
    fn a_call_needs_the_entry_for_its_task_and_its_way() {
        for (options, expected) in [
            ("{}", "t"),
            (r#"{"queue": "q"}"#, "t@q"),
            (r#"{"queue": null, "priority": 3}"#, "t"),
            (r#"{"exchange": "x"}"#, "t@*"),
            (r#"{"queue": "q", "routing_key": "k"}"#, "t@*"),
            (r#"{"queue": "q", "reply_to": "r"}"#, "t@*"),
        ] {
            let text = format!("{{\"task\": \"t\", \"options\": {options}}}");
            let canvas = taskhost_core::Canvas::parse(text).expect("a signature");
            let needed = Calls::of(&canvas.signatures().expect("nothing is wrong with it")[0]);
            assert_eq!(needed.to_string(), expected, "{options}");
        }
    }

    #[test]
    fn what_is_no_entry_is_refused() {
        for text in ["", "@mail", "mail@", "*.send", "a**", "mail@*s", "a\nb"] {
            let problem = Calls::read(text).expect_err(text);
            assert!(problem.contains("names no tasks such as"), "{problem}");
        }
    }
}

//! Signals of Unix, by name and number: how a client says what to stop a task with.
//!
//! Nothing is sent to anybody: an instance is stopped in one way only, and monitors are told the number.

use std::fmt;

use crate::control::ControlError;
use crate::protocol::content::{Json, Kind};

/// A signal by its number on Linux.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signal(pub i32);

impl Signal {
    /// What Celery's client asks for if it is not told otherwise.
    pub const TERM: Self = Self(15);
    pub const KILL: Self = Self(9);

    /// celery/platforms.py `Signals.signum`; nothing is `SIGTERM`.
    pub(super) fn parse(value: &Json) -> Result<Self, ControlError> {
        if let Some(number) = value.as_i64() {
            return Ok(Self(i32::try_from(number).unwrap_or(i32::MAX)));
        }
        let text = match value.kind() {
            Kind::Null => return Ok(Self::TERM),
            _ => value.as_text().unwrap_or_default().into_owned(),
        };
        if text.is_empty() && value.kind() == Kind::Text {
            return Ok(Self::TERM);
        }
        let is_upper = text.chars().any(char::is_uppercase) && !text.chars().any(char::is_lowercase);
        if !is_upper {
            return Err(ControlError::raised("TypeError", "signal name must be uppercase string."));
        }
        let name = text.strip_prefix("SIG").unwrap_or(&text);
        let known = NAMES.iter().find(|(known, _)| *known == name);
        known.map(|(_, number)| Self(*number)).ok_or_else(|| {
            let text = format!("module 'signal' has no attribute 'SIG{name}'");
            ControlError::raised("AttributeError", text)
        })
    }

    /// The name, if it has one.
    pub fn name(self) -> Option<&'static str> {
        NAMES.iter().find(|(_, number)| *number == self.0).map(|(name, _)| *name)
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "SIG{name}"),
            None => write!(f, "{}", self.0),
        }
    }
}

const NAMES: [(&str, i32); 31] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("PWR", 30),
    ("SYS", 31),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_read_as_celery_reads_them() {
        let parse = |text: &str| Signal::parse(&Json::parse(text.to_owned()).expect("JSON")).map(|it| it.0);
        for (text, number) in [("\"SIGTERM\"", 15), ("\"KILL\"", 9), ("9", 9), ("null", 15), ("\"\"", 15), ("64", 64)] {
            assert_eq!(parse(text), Ok(number), "{text}");
        }
        for (text, error) in [
            ("\"kill\"", "TypeError('signal name must be uppercase string.')"),
            ("[9]", "TypeError('signal name must be uppercase string.')"),
            ("\"SIGNOT\"", r#"AttributeError("module 'signal' has no attribute 'SIGNOT'")"#),
        ] {
            assert_eq!(parse(text).expect_err(text).to_string(), error);
        }
        assert_eq!((Signal::KILL.to_string(), Signal(40).to_string()), ("SIGKILL".to_owned(), "40".to_owned()));
    }
}

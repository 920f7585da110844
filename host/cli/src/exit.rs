//! How a command ends: what is said on stderr, and the exit code.
//!
//! 0 done, 1 failed, 2 wrong options or configuration, 69 nobody is there who could do it (Celery's code for that).

use std::fmt;
use std::process::ExitCode;

use crate::config::ConfigErrors;

/// Why a command ended without success.
#[derive(Debug)]
pub(crate) struct Failure {
    error: anyhow::Error,
    hint: Option<String>,
    code: u8,
}

const FAILED: u8 = 1;
const USAGE: u8 = 2;
/// `EX_UNAVAILABLE` of sysexits.h.
const UNAVAILABLE: u8 = 69;

impl Failure {
    /// Wrong options or configuration. The text stands alone.
    pub(crate) fn usage(error: impl Into<anyhow::Error>) -> Self {
        Self { error: error.into(), hint: None, code: USAGE }
    }

    /// Nobody is there.
    pub(crate) fn unavailable(error: impl Into<anyhow::Error>) -> Self {
        Self { error: error.into(), hint: None, code: UNAVAILABLE }
    }

    /// Adds what to do about it.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Says where the mistake is.
    pub(crate) fn at(mut self, place: &str) -> Self {
        self.error = anyhow::anyhow!("{place}: {}", self.error);
        self
    }

    /// The code of this failure.
    pub(crate) fn code(&self) -> ExitCode {
        ExitCode::from(self.code)
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        let error = error.into();
        if let Some(errors) = error.downcast_ref::<ConfigErrors>() {
            let hint = errors.hint();
            return Self { error, hint, code: USAGE };
        }
        Self { error, hint: None, code: FAILED }
    }
}

/// Adds a hint to what can fail.
pub(crate) trait OrHint<T> {
    /// What to do if this fails.
    fn or_hint(self, hint: impl Into<String>) -> Result<T, Failure>;
}

impl<T, E: Into<Failure>> OrHint<T> for Result<T, E> {
    fn or_hint(self, hint: impl Into<String>) -> Result<T, Failure> {
        self.map_err(|error| error.into().hint(hint))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(errors) = self.error.downcast_ref::<ConfigErrors>() {
            for error in errors.iter() {
                writeln!(f, "error: {error}")?;
            }
        } else {
            writeln!(f, "error: {}", self.error)?;
            for cause in self.error.chain().skip(1) {
                writeln!(f, "  caused by: {cause}")?;
            }
        }
        if let Some(hint) = &self.hint {
            writeln!(f, "hint: {hint}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context;
    use expect_test::{Expect, expect};

    use super::*;
    use crate::config::ConfigError;

    #[track_caller]
    fn check(failure: impl Into<Failure>, code: u8, expected: Expect) {
        let failure = failure.into();
        assert_eq!(failure.code, code);
        expected.assert_eq(&failure.to_string());
    }

    #[test]
    fn causes_are_indented_and_the_hint_comes_last() {
        let error = Err::<(), _>(std::io::Error::other("connection refused"))
            .context("connect to amqp://box//")
            .context("cannot publish task `tasks.add`")
            .or_hint("is RabbitMQ running?")
            .unwrap_err();
        check(
            error,
            1,
            expect![[r#"
                error: cannot publish task `tasks.add`
                  caused by: connect to amqp://box//
                  caused by: connection refused
                hint: is RabbitMQ running?
            "#]],
        );
    }

    #[test]
    fn every_mistake_of_a_configuration_is_named() {
        let errors = ConfigErrors::new(vec![
            ConfigError::elsewhere("host.toml:3:1", "unknown key `task.acks_lat`; did you mean `task.acks_late`?"),
            ConfigError::elsewhere("HOST_WORKER_CONCURRENCY", "expected a whole number of 1 or more, found \"many\""),
        ]);
        check(
            errors,
            2,
            expect![[r#"
                error: host.toml:3:1: unknown key `task.acks_lat`; did you mean `task.acks_late`?
                error: HOST_WORKER_CONCURRENCY: expected a whole number of 1 or more, found "many"
                hint: `host config --help` lists all settings
            "#]],
        );
    }
}

//! Turns what a task function returns into JSON text or a [`TaskError`].
//!
//! A function may return a value, or a `Result` whose error converts into `TaskError` or at least can be shown.
//! Traits cannot overlap, so the attribute writes `(&&&Returned::of(&returned)).kind().finish(returned)`: method
//! look-up strips one reference after the other, and takes the first of the three `kind`s that fits.

use std::any::Any;
use std::error::Error;
use std::fmt::Display;
use std::marker::PhantomData;

use serde::Serialize;

use crate::error::TaskError;
use crate::lenient;

/// Stands for a value of this type while its kind is looked up.
pub struct Returned<T>(PhantomData<T>);

impl<T> Returned<T> {
    #[inline]
    pub fn of(_: &T) -> Self {
        Self(PhantomData)
    }
}

pub struct OfError;
pub struct OfText;
pub struct OfValue;

pub trait ErrorKind {
    fn kind(&self) -> OfError {
        OfError
    }
}

pub trait TextKind {
    fn kind(&self) -> OfText {
        OfText
    }
}

pub trait ValueKind {
    fn kind(&self) -> OfValue {
        OfValue
    }
}

impl<T, E: Into<TaskError>> ErrorKind for &&Returned<Result<T, E>> {}
impl<T, E> TextKind for &Returned<Result<T, E>> {}
impl<T> ValueKind for Returned<T> {}

impl OfError {
    #[inline]
    pub fn finish<T: Serialize + 'static, E: Into<TaskError>>(
        self,
        returned: Result<T, E>,
    ) -> Result<String, TaskError> {
        OfValue.finish(returned.map_err(Into::into)?)
    }
}

impl OfText {
    pub fn finish<T: Serialize + 'static, E: Display + 'static>(
        self,
        returned: Result<T, E>,
    ) -> Result<String, TaskError> {
        OfValue.finish(returned.map_err(|error| from_shown(&error))?)
    }
}

impl OfValue {
    #[inline]
    pub fn finish<T: Serialize + 'static>(self, returned: T) -> Result<String, TaskError> {
        lenient::write(returned).map_err(|error| TaskError::not_json(&error))
    }
}

/// A boxed error has forgotten its type, but still knows its causes.
fn from_shown<E: Display + 'static>(error: &E) -> TaskError {
    let any = error as &dyn Any;
    let shared = any.downcast_ref::<Box<dyn Error + Send + Sync>>().map(|boxed| &**boxed as &dyn Error);
    let boxed = any.downcast_ref::<Box<dyn Error>>().map(|boxed| &**boxed);
    match shared.or(boxed) {
        Some(error) => TaskError::from_error("TaskError".to_owned(), error),
        None => TaskError::from_text(format!("{error:#}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the attribute writes it.
    macro_rules! finish {
        ($returned:expr) => {{
            let returned = $returned;
            (&&&Returned::of(&returned)).kind().finish(returned)
        }};
    }

    #[track_caller]
    fn check(finished: Result<String, TaskError>, expected: &str) {
        assert_eq!(finished.unwrap_or_else(|error| error.to_string()), expected);
    }

    #[test]
    fn a_value_is_written() {
        check(finish!(5), "5");
        check(finish!(()), "null");
        check(finish!("a".to_owned()), "\"a\"");
        check(finish!(vec![Some(1), None]), "[1,null]");
    }

    #[test]
    fn a_result_is_its_value_or_an_exception() {
        check(finish!(Ok::<_, TaskError>(5)), "5");
        check(finish!("x".parse::<i32>()), "ParseIntError: invalid digit found in string");
        check(finish!(Err::<(), _>(TaskError::new("ValueError", "no"))), "ValueError: no");
        check(finish!(Err::<(), _>(crate::Retry::new())), "retry");
    }

    #[test]
    fn an_error_that_can_only_be_shown_is_a_task_error() {
        check(finish!(Err::<(), _>("no")), "TaskError: no");
        check(finish!(Ok::<_, String>(1)), "1");
        check(finish!(Err::<(), _>(Box::<dyn Error>::from("no"))), "TaskError: no");
    }

    #[test]
    fn what_json_cannot_hold_is_a_type_error() {
        let map = std::collections::BTreeMap::from([((1, 2), 3)]);
        check(finish!(map), "TypeError: not JSON serializable: key must be a string");
    }
}

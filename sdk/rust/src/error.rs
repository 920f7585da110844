//! How a task ends other than with a result: failed, to be retried, rejected, ignored or replaced.

use std::any;
use std::error::Error;
use std::fmt::{self, Write as _};
use std::panic::Location;

use serde::Serialize;

use crate::json::Json;
use crate::retry::Retry;

/// Any end of a task other than a result. Every [`std::error::Error`] converts into it, so `?` works.
///
/// ```
/// use taskhost::TaskError;
/// fn parse(text: &str) -> Result<u32, TaskError> {
///     if text.is_empty() {
///         return Err(TaskError::new("ValueError", "text is empty")); // except ValueError: works in Python
///     }
///     Ok(text.parse()?) // fails as ParseIntError
/// }
/// # assert_eq!(parse("x").unwrap_err().to_string(), "ParseIntError: invalid digit found in string");
/// ```
pub struct TaskError(Box<End>);

pub(crate) enum End {
    Failed(Raised),
    Retry(Retry),
    Reject { requeue: bool },
    Ignore,
    Replace(Json),
}

/// An exception and where it came from.
pub(crate) struct Raised {
    pub(crate) exc_type: String,
    pub(crate) exc_module: Option<String>,
    pub(crate) arguments: Option<Json>,
    pub(crate) message: String,
    causes: Vec<String>,
    location: &'static Location<'static>,
    traceback: Option<String>,
}

impl TaskError {
    /// The failure that Python knows as `builtins.<exc_type>`. A client makes a class of that name if there is none.
    #[track_caller]
    pub fn new(exc_type: impl Into<String>, message: impl fmt::Display) -> Self {
        let raised = Raised::new(exc_type.into(), message.to_string());
        Self(Box::new(End::Failed(Raised { exc_module: Some("builtins".to_owned()), ..raised })))
    }

    /// The module of the exception's class. The host passes on `builtins`, `celery.exceptions` and the modules that
    /// `plugin.toml` names; of any other, clients get a class made for them.
    pub fn module(mut self, module: impl Into<String>) -> Self {
        if let End::Failed(raised) = &mut *self.0 {
            raised.exc_module = Some(module.into());
        }
        self
    }

    /// The arguments of the exception instead of its message alone: a tuple, a list, or one value.
    #[track_caller]
    pub fn arguments(mut self, arguments: impl Serialize) -> Self {
        match (&mut *self.0, Json::from_value(&arguments)) {
            (End::Failed(raised), Ok(json)) if json.as_str().starts_with('[') => raised.arguments = Some(json),
            (End::Failed(raised), Ok(json)) => raised.arguments = Some(Json::from_text(format!("[{json}]"))),
            (End::Failed(_), Err(error)) => return Self::not_json(&error),
            _ => {}
        }
        self
    }

    /// A traceback instead of the one that is made up from where this error was made.
    pub fn traceback(mut self, text: impl Into<String>) -> Self {
        if let End::Failed(raised) = &mut *self.0 {
            raised.traceback = Some(text.into());
        }
        self
    }

    /// The wish to be run again; says when, how often and why with the methods of [`Retry`].
    pub fn retry() -> Retry {
        Retry::new()
    }

    /// Gives the message back to the broker, to be delivered again or not.
    pub fn reject(requeue: bool) -> Self {
        Self(Box::new(End::Reject { requeue }))
    }

    /// Ends the task with nothing stored or announced.
    pub fn ignore() -> Self {
        Self(Box::new(End::Ignore))
    }

    pub(crate) fn replace_by(signature: Json) -> Self {
        Self(Box::new(End::Replace(signature)))
    }

    /// Places the error where it did not come from.
    pub(crate) fn located(mut self, location: &'static Location<'static>) -> Self {
        if let End::Failed(raised) = &mut *self.0 {
            raised.location = location;
        }
        self
    }

    #[track_caller]
    pub(crate) fn not_json(error: &serde_json::Error) -> Self {
        Self::new("TypeError", format!("not JSON serializable: {error}"))
    }

    #[track_caller]
    pub(crate) fn from_text(message: String) -> Self {
        Self(Box::new(End::Failed(Raised::new("TaskError".to_owned(), message))))
    }

    #[track_caller]
    pub(crate) fn from_error(exc_type: String, error: &dyn Error) -> Self {
        let mut raised = Raised::new(exc_type, error.to_string());
        let mut source = error.source();
        while let Some(cause) = source {
            raised.causes.push(cause.to_string());
            source = cause.source();
        }
        Self(Box::new(End::Failed(raised)))
    }

    pub(crate) fn into_end(self) -> End {
        *self.0
    }

    pub(crate) fn is_failure(&self) -> bool {
        matches!(*self.0, End::Failed(_))
    }
}

impl<E: Error> From<E> for TaskError {
    #[track_caller]
    fn from(error: E) -> Self {
        Self::from_error(class_name(any::type_name::<E>()), &error)
    }
}

impl From<Retry> for TaskError {
    fn from(retry: Retry) -> Self {
        Self(Box::new(End::Retry(retry)))
    }
}

// Not an Error itself, since everything that is one converts into it.
impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            End::Failed(raised) if raised.message.is_empty() => f.write_str(&raised.exc_type),
            End::Failed(raised) => write!(f, "{}: {}", raised.exc_type, raised.message),
            End::Retry(_) => f.write_str("retry"),
            End::Reject { requeue } => write!(f, "reject (requeue: {requeue})"),
            End::Ignore => f.write_str("ignore"),
            End::Replace(signature) => write!(f, "replace by {signature}"),
        }
    }
}

impl fmt::Debug for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Raised {
    #[track_caller]
    fn new(exc_type: String, message: String) -> Self {
        let location = Location::caller();
        Self { exc_type, exc_module: None, arguments: None, message, causes: Vec::new(), location, traceback: None }
    }

    /// What Python would print, causes first.
    pub(crate) fn render_traceback(&self, function: &str) -> String {
        if let Some(text) = &self.traceback {
            return text.clone();
        }
        let mut text = String::new();
        for cause in self.causes.iter().rev() {
            text.push_str(cause);
            text.push_str("\n\nThe above exception was the direct cause of the following exception:\n\n");
        }
        let (file, line) = (self.location.file(), self.location.line());
        let _ = write!(text, "Traceback (most recent call last):\n  File \"{file}\", line {line}, in {function}\n");
        match self.exc_module.as_deref() {
            None | Some("builtins") => {}
            Some(module) => {
                let _ = write!(text, "{module}.");
            }
        }
        text.push_str(&self.exc_type);
        if !self.message.is_empty() {
            let _ = write!(text, ": {}", self.message);
        }
        text.push('\n');
        text
    }
}

/// The name of the class that stands for an error type: the last segment of its path, and before a mere `Error` the
/// module or crate that tells it apart, so that `std::io::error::Error` is `IoError`.
fn class_name(type_path: &str) -> String {
    let path = type_path.trim_start_matches('&');
    let path = path.split('<').next().unwrap_or(path);
    // Of `dyn Error` nobody knows the type, and a tuple has no name.
    if path.contains([' ', '(']) {
        return "TaskError".to_owned();
    }
    let mut segments = path.rsplit("::");
    match segments.next().unwrap_or_default() {
        "Error" => {
            let owner = segments.find(|segment| !matches!(*segment, "error" | "errors" | "err"));
            format!("{}Error", owner.map(camel_case).unwrap_or_default())
        }
        name => name.to_owned(),
    }
}

fn camel_case(name: &str) -> String {
    let mut camel = String::new();
    for word in name.split('_') {
        let mut chars = word.chars();
        camel.extend(chars.next().map(|first| first.to_ascii_uppercase()));
        camel.push_str(chars.as_str());
    }
    camel
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct ConfigError(std::num::ParseIntError);

    impl fmt::Display for ConfigError {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("cannot read the configuration")
        }
    }

    impl Error for ConfigError {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&self.0)
        }
    }

    fn read() -> Result<u32, TaskError> {
        let number = "x".parse::<u32>().map_err(ConfigError)?; // the line that the traceback names
        Ok(number)
    }

    fn raised(error: TaskError) -> Raised {
        match error.into_end() {
            End::Failed(raised) => raised,
            _ => panic!("is no failure"),
        }
    }

    #[test]
    fn an_error_becomes_an_exception_of_its_type() {
        let raised = raised(read().expect_err("x is no number"));
        assert_eq!((raised.exc_type.as_str(), raised.exc_module.as_deref()), ("ConfigError", None));
        assert_eq!(raised.message, "cannot read the configuration");
    }

    #[test]
    fn a_traceback_names_the_line_of_the_question_mark_and_the_causes_first() {
        let line = include_str!("error.rs").lines().position(|line| line.contains("the line that the traceback names"));
        let line = line.expect("is above") + 1;
        let text = raised(read().expect_err("x is no number")).render_traceback("read");
        let expected = format!(
            "invalid digit found in string\n\n\
             The above exception was the direct cause of the following exception:\n\n\
             Traceback (most recent call last):\n  File \"{}\", line {line}, in read\n\
             ConfigError: cannot read the configuration\n",
            file!()
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn a_chosen_exception_has_module_and_arguments() {
        let error = raised(TaskError::new("KeyError", "k"));
        assert_eq!(error.exc_module.as_deref(), Some("builtins"));
        let error = raised(TaskError::new("Reject", "no").module("celery.exceptions").arguments(("no", false)));
        assert_eq!(error.arguments, Some(Json::from_text(r#"["no",false]"#)));
        assert!(error.render_traceback("f").ends_with("\ncelery.exceptions.Reject: no\n"));
        let error = raised(TaskError::new("E", "").arguments(5).traceback("text"));
        assert_eq!((error.arguments, error.traceback.as_deref()), (Some(Json::from_text("[5]")), Some("text")));
    }

    #[test]
    fn class_names_are_the_last_segment_that_says_something() {
        for (path, expected) in [
            ("core::num::error::ParseIntError", "ParseIntError"),
            ("std::io::error::Error", "IoError"),
            ("serde_json::error::Error", "SerdeJsonError"),
            ("demo::Error", "DemoError"),
            ("demo::Wrapped<core::fmt::Error>", "Wrapped"),
            ("&demo::Broken", "Broken"),
            ("&dyn core::error::Error", "TaskError"),
            ("(a::B, c::D)", "TaskError"),
        ] {
            assert_eq!(class_name(path), expected, "{path}");
        }
    }
}

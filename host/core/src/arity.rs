//! Which arguments a task takes, as far as it says so.
//!
//! Knows nothing of their types, and refuses no call: that is the task's own business.

use crate::protocol::content::{Json, Kind};

/// The parameters of a task.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Arity {
    /// Those that may be given by position, in their order.
    positional: Vec<String>,
    /// It takes further ones, as by Python's `*args`.
    takes_more: bool,
    /// Those that are given by name only.
    named: Vec<String>,
    /// It takes other names, as by Python's `**kwargs`.
    takes_any_name: bool,
}

impl Arity {
    /// The parameters that this JSON Schema of a task's arguments describes: its properties in their order, of which
    /// those after the first `x-args` are given by name. None, if it does not say which there are.
    pub fn of_schema(schema: &Json) -> Option<Self> {
        let properties = schema.get("properties").filter(|it| it.kind() == Kind::Map)?;
        let mut positional: Vec<String> = Vec::new();
        for (name, _) in properties.members() {
            if !positional.iter().any(|earlier| *earlier == name) {
                positional.push(name.into_owned());
            }
        }
        let before_more = schema.get("x-args").and_then(|count| usize::try_from(count.as_i64()?).ok());
        let named = match before_more {
            Some(count) => positional.split_off(count.min(positional.len())),
            None => Vec::new(),
        };
        let takes_any_name = schema.get("additionalProperties").is_none_or(|it| it.as_bool() != Some(false));
        Some(Self { positional, takes_more: before_more.is_some(), named, takes_any_name })
    }

    /// True if it takes more than `count` arguments by position, beside those that are given already: a list and a
    /// map of them (celery/backends/base.py `_errback_arity_greater`).
    pub fn takes_more_than(&self, count: usize, args: &Json, kwargs: &Json) -> bool {
        match self.left(args, kwargs) {
            Some(left) => self.left_more(kwargs) || left > count,
            // What cannot be called so is judged as if nothing were given.
            None => self.takes_more || self.positional.len() > count,
        }
    }

    /// How many are left to be given by position. None, if it cannot be called with these.
    fn left(&self, args: &Json, kwargs: &Json) -> Option<usize> {
        let given = args.elements().count();
        if given > self.positional.len() && !self.takes_more {
            return None;
        }
        let mut left = self.positional.get(given..).unwrap_or_default();
        for (name, _) in kwargs.members() {
            // After one that is given by name, all others have to be (inspect.py `_signature_get_partial`).
            match self.positional.iter().position(|parameter| *parameter == name) {
                Some(index) if index < given => return None,
                Some(index) => left = &left[..left.len().min(index - given)],
                None if self.takes_any_name || self.named.iter().any(|parameter| *parameter == name) => {}
                None => return None,
            }
        }
        Some(left.len())
    }

    /// True if any number of others can be given by position.
    fn left_more(&self, kwargs: &Json) -> bool {
        self.takes_more && !kwargs.members().any(|(name, _)| self.positional.iter().any(|parameter| *parameter == name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &'static str) -> Json {
        Json::parse(text).expect("JSON")
    }

    /// Whether it takes more than one argument beside these.
    #[track_caller]
    fn check(schema: &'static str, args: &'static str, kwargs: &'static str, expected: bool) {
        let arity = Arity::of_schema(&json(schema)).expect("it says which there are");
        assert_eq!(arity.takes_more_than(1, &json(args), &json(kwargs)), expected, "{arity:?}");
    }

    const ONE: &str = r#"{"properties": {"id": {}}, "additionalProperties": false}"#;
    const THREE: &str = r#"{"properties": {"request": {}, "exc": {}, "traceback": {}}, "additionalProperties": false}"#;
    const ANY: &str = r#"{"properties": {}, "additionalProperties": true, "x-args": 0}"#;
    const ONE_AND_NAMED: &str = r#"{"properties": {"a": {}, "b": {}}, "additionalProperties": false, "x-args": 1}"#;

    #[test]
    fn parameters_are_counted_that_are_given_by_position() {
        check(ONE, "[]", "{}", false);
        check(THREE, "[]", "{}", true);
        check(ANY, "[]", "{}", true);
        check(ONE_AND_NAMED, "[]", "{}", true);
        check(r#"{"properties": {"a": {}}}"#, "[]", "{}", false);
        check(r#"{"properties": {}, "additionalProperties": {"type": "string"}}"#, "[]", "{}", false);
        check(r#"{"properties": {"a": {}, "a": {}}}"#, "[]", "{}", false);
    }

    // As `arity_greater(partial(task, *args, **kwargs), 1)` of Python 3.11 says.
    #[test]
    fn what_is_given_already_is_not_counted() {
        check(THREE, "[1]", "{}", true);
        check(THREE, "[1, 2]", "{}", false);
        check(THREE, "[]", r#"{"traceback": 1}"#, true);
        check(THREE, "[]", r#"{"exc": 1}"#, false);
        check(THREE, "[]", r#"{"request": 1}"#, false);
        check(ANY, "[1, 2, 3]", r#"{"x": 1}"#, true);
        check(ONE_AND_NAMED, "[]", r#"{"b": 1}"#, true);
        check(ONE_AND_NAMED, "[]", r#"{"a": 1}"#, false);
    }

    #[test]
    fn what_cannot_be_called_so_is_judged_as_if_nothing_were_given() {
        check(THREE, "[1, 2, 3, 4]", "{}", true);
        check(THREE, "[1, 2]", r#"{"other": 1}"#, true);
        check(THREE, "[1, 2]", r#"{"exc": 1}"#, true);
        check(ONE, "[1, 2]", "{}", false);
    }

    #[test]
    fn a_schema_may_not_say_which_there_are() {
        for schema in ["{}", "true", r#"{"properties": []}"#, r#"{"type": "object"}"#] {
            assert_eq!(Arity::of_schema(&json(schema)), None, "{schema}");
        }
    }
}

//! Binds positional and keyword arguments to parameters by Python's rules, and complains in Python's words.

use std::panic::Location;

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::elements::{self, Malformed};
use crate::error::TaskError;
use crate::lenient;

/// A function as Python would see it.
#[derive(Debug)]
pub struct Signature {
    /// The name that complaints begin with.
    pub function: &'static str,
    /// In order of declaration.
    pub parameters: &'static [Parameter],
    /// How many of them positional arguments can reach: those after `*args` are given by name alone.
    pub positional: usize,
    /// Where tracebacks of wrong arguments point, there being no line of the task to blame.
    pub location: &'static Location<'static>,
}

/// One parameter of a function.
#[derive(Debug)]
pub struct Parameter {
    /// The name of the keyword.
    pub name: &'static str,
    /// A parameter that is not required has a default.
    pub required: bool,
}

/// What no parameter has a name for, as JSON: Python's `*args` and `**kwargs`.
#[derive(Debug, Default)]
pub struct Rest {
    /// An array, where the function takes further positional arguments.
    pub args: Option<String>,
    /// An object, where it takes further keyword arguments.
    pub kwargs: Option<String>,
}

impl Signature {
    /// The text of each argument, in order of the parameters; `None` where the default is to be taken.
    pub fn bind<'a, const N: usize>(&self, args: &'a str, kwargs: &'a str) -> Result<[Option<&'a str>; N], TaskError> {
        let mut bound = [None; N];
        self.bind_into(args, kwargs, &mut bound, &mut Rest::default())?;
        Ok(bound)
    }

    /// As [`Signature::bind`], for a function that takes more than it has names for.
    pub fn bind_rest<'a, const N: usize>(
        &self,
        args: &'a str,
        kwargs: &'a str,
        rest: &mut Rest,
    ) -> Result<[Option<&'a str>; N], TaskError> {
        let mut bound = [None; N];
        self.bind_into(args, kwargs, &mut bound, rest)?;
        Ok(bound)
    }

    /// Parses what `bind_rest` has collected.
    pub fn parse_rest<T: DeserializeOwned + 'static>(&self, name: &str, text: Option<String>) -> Result<T, TaskError> {
        let text = text.expect("bind_rest collects what it was asked for");
        lenient::parse(&text).map_err(|message| self.complain(&format!("argument '{name}': {message}")))
    }

    /// Parses the argument of a required parameter, which `bind` has found.
    pub fn required<T: DeserializeOwned + 'static>(&self, index: usize, bound: Option<&str>) -> Result<T, TaskError> {
        self.parse(index, bound.expect("bind refuses a call that misses a required argument"))
    }

    /// Parses the argument of a parameter.
    pub fn parse<T: DeserializeOwned + 'static>(&self, index: usize, text: &str) -> Result<T, TaskError> {
        lenient::parse(text).map_err(|message| self.mismatch(index, &message))
    }

    // The order of the checks is CPython's: keywords, surplus, missing.
    fn bind_into<'a>(
        &self,
        args: &'a str,
        kwargs: &'a str,
        bound: &mut [Option<&'a str>],
        rest: &mut Rest,
    ) -> Result<(), TaskError> {
        let mut given = 0;
        let positional = elements::of_array(args, |text| {
            if given < self.positional {
                bound[given] = Some(text);
            } else if let Some(rest) = &mut rest.args {
                append(rest, text);
            }
            given += 1;
        });
        positional.map_err(|Malformed| self.complain("the positional arguments are not a JSON array"))?;
        let reached = given.min(self.positional);
        let mut complaint = None;
        let keywords = elements::of_object(kwargs, |name, text| {
            match self.parameters.iter().position(|parameter| parameter.name == name) {
                None if rest.kwargs.is_some() => {
                    let rest = rest.kwargs.get_or_insert_default();
                    append(rest, &format!("{}:{text}", Value::String(name.into_owned())));
                }
                None => {
                    complaint
                        .get_or_insert_with(|| self.complain(&format!("got an unexpected keyword argument '{name}'")));
                }
                Some(index) if index < reached => {
                    complaint
                        .get_or_insert_with(|| self.complain(&format!("got multiple values for argument '{name}'")));
                }
                Some(index) => bound[index] = Some(text),
            }
        });
        keywords.map_err(|Malformed| self.complain("the keyword arguments are not a JSON object"))?;
        if let Some(complaint) = complaint {
            return Err(complaint);
        }
        match &mut rest.args {
            Some(rest) => close(rest, '[', ']'),
            None if given > self.positional => return Err(self.surplus(given)),
            None => {}
        }
        if let Some(rest) = &mut rest.kwargs {
            close(rest, '{', '}');
        }
        let missing = |(parameter, slot): (&Parameter, &Option<&str>)| parameter.required && slot.is_none();
        if self.parameters.iter().zip(&*bound).any(missing) {
            return Err(self.missing(bound));
        }
        Ok(())
    }

    #[cold]
    fn surplus(&self, given: usize) -> TaskError {
        let most = self.positional;
        let least = self.parameters[..most].iter().filter(|parameter| parameter.required).count();
        let takes = if least < most { format!("from {least} to {most}") } else { most.to_string() };
        let arguments = if most == 1 { "argument" } else { "arguments" };
        let were = if given == 1 { "was" } else { "were" };
        self.complain(&format!("takes {takes} positional {arguments} but {given} {were} given"))
    }

    #[cold]
    fn missing(&self, bound: &[Option<&str>]) -> TaskError {
        let missing =
            self.parameters.iter().zip(bound).filter(|(parameter, slot)| parameter.required && slot.is_none());
        let names: Vec<String> = missing.map(|(parameter, _)| format!("'{}'", parameter.name)).collect();
        let list = match names.as_slice() {
            [] => String::new(),
            [one] => one.clone(),
            [one, two] => format!("{one} and {two}"),
            [most @ .., last] => format!("{}, and {last}", most.join(", ")),
        };
        let arguments = if names.len() == 1 { "argument" } else { "arguments" };
        self.complain(&format!("missing {} required positional {arguments}: {list}", names.len()))
    }

    #[cold]
    fn mismatch(&self, index: usize, message: &str) -> TaskError {
        let name = self.parameters.get(index).map_or("?", |parameter| parameter.name);
        self.complain(&format!("argument '{name}': {message}"))
    }

    #[cold]
    fn complain(&self, what: &str) -> TaskError {
        TaskError::new("TypeError", format!("{}() {what}", self.function)).located(self.location)
    }
}

fn append(list: &mut String, element: &str) {
    if !list.is_empty() {
        list.push(',');
    }
    list.push_str(element);
}

fn close(list: &mut String, open: char, close: char) {
    list.insert(0, open);
    list.push(close);
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn parameter(name: &'static str, required: bool) -> Parameter {
        Parameter { name, required }
    }

    const fn signature(function: &'static str, parameters: &'static [Parameter]) -> Signature {
        Signature { function, parameters, positional: parameters.len(), location: Location::caller() }
    }

    const NOOP: Signature = signature("noop", &[]);
    const ONE: Signature = signature("one", &[parameter("x", true)]);
    const ADD: Signature = signature("add", &[parameter("x", true), parameter("y", true)]);
    const SUM: Signature = signature("sum", &[parameter("a", true), parameter("b", true), parameter("c", true)]);
    const PAGE: Signature =
        signature("page", &[parameter("url", true), parameter("size", false), parameter("x", false)]);

    #[track_caller]
    fn check(signature: &Signature, args: &str, kwargs: &str, expected: &str) {
        let mut bound = vec![None; signature.parameters.len()];
        let found = match signature.bind_into(args, kwargs, &mut bound, &mut Rest::default()) {
            Ok(()) => bound.iter().map(|text| text.unwrap_or("-")).collect::<Vec<_>>().join(" "),
            Err(error) => error.to_string(),
        };
        assert_eq!(found, expected, "{}(*{args}, **{kwargs})", signature.function);
    }

    #[test]
    fn arguments_are_bound_by_place_and_by_name() {
        check(&NOOP, "[]", "{}", "");
        check(&ADD, "[1, 2]", "{}", "1 2");
        check(&ADD, "[1]", r#"{"y": 2}"#, "1 2");
        check(&ADD, "[]", r#"{"y": 2, "x": [1]}"#, "[1] 2");
        check(&PAGE, r#"["u"]"#, "{}", r#""u" - -"#);
        check(&PAGE, r#"["u"]"#, r#"{"x": null}"#, r#""u" - null"#);
        check(&PAGE, r#"["u", 1, NaN]"#, "{}", r#""u" 1 NaN"#);
        check(&ADD, "[]", r#"{"y": 2, "x": 1, "y": 3}"#, "1 3");
    }

    #[test]
    fn wrong_arguments_are_type_errors_in_pythons_words() {
        check(&ADD, "[1]", "{}", "TypeError: add() missing 1 required positional argument: 'y'");
        check(&ADD, "[]", "{}", "TypeError: add() missing 2 required positional arguments: 'x' and 'y'");
        check(&SUM, "[]", "{}", "TypeError: sum() missing 3 required positional arguments: 'a', 'b', and 'c'");
        check(&SUM, "[1]", r#"{"c": 1}"#, "TypeError: sum() missing 1 required positional argument: 'b'");
        check(&ADD, "[1, 2, 3]", "{}", "TypeError: add() takes 2 positional arguments but 3 were given");
        check(&ONE, "[1, 2]", "{}", "TypeError: one() takes 1 positional argument but 2 were given");
        check(&NOOP, "[1]", "{}", "TypeError: noop() takes 0 positional arguments but 1 was given");
        check(&PAGE, "[1, 2, 3, 4]", "{}", "TypeError: page() takes from 1 to 3 positional arguments but 4 were given");
        check(&ADD, "[1, 2]", r#"{"z": 1}"#, "TypeError: add() got an unexpected keyword argument 'z'");
        check(&ADD, "[1]", r#"{"x": 1}"#, "TypeError: add() got multiple values for argument 'x'");
    }

    #[test]
    fn keywords_are_checked_before_counts() {
        check(&ADD, "[1, 2, 3]", r#"{"z": 1}"#, "TypeError: add() got an unexpected keyword argument 'z'");
        check(&ADD, "[]", r#"{"z": 1}"#, "TypeError: add() got an unexpected keyword argument 'z'");
    }

    /// `def once(x, *args, expires=None, **kwargs)`.
    const ONCE: Signature = Signature {
        function: "once",
        parameters: &[parameter("x", true), parameter("expires", false)],
        positional: 1,
        location: Location::caller(),
    };

    #[track_caller]
    fn check_rest(args: &str, kwargs: &str, expected: &str) {
        let mut rest = Rest { args: Some(String::new()), kwargs: Some(String::new()) };
        let found = match ONCE.bind_rest::<2>(args, kwargs, &mut rest) {
            Ok(bound) => {
                let bound = bound.map(|text| text.unwrap_or("-")).join(" ");
                format!("{bound} {} {}", rest.args.expect("was asked for"), rest.kwargs.expect("was asked for"))
            }
            Err(error) => error.to_string(),
        };
        assert_eq!(found, expected, "once(*{args}, **{kwargs})");
    }

    #[test]
    fn what_has_no_name_goes_to_the_rest() {
        check_rest("[1]", "{}", "1 - [] {}");
        check_rest("[1, 2, [3, NaN]]", r#"{"expires": 4}"#, "1 4 [2,[3, NaN]] {}");
        check_rest("[]", r#"{"y": {"z": 1}, "x": 2, "a\"": null}"#, r#"2 - [] {"y":{"z": 1},"a\"":null}"#);
    }

    #[test]
    fn what_has_a_name_is_bound_beside_a_rest_as_ever() {
        check_rest("[]", r#"{"y": 1}"#, "TypeError: once() missing 1 required positional argument: 'x'");
        check_rest("[1]", r#"{"x": 1}"#, "TypeError: once() got multiple values for argument 'x'");
        // A parameter after the rest is out of the reach of positional arguments.
        check_rest("[1, 2]", r#"{"expires": 3}"#, "1 3 [2] {}");
    }

    #[test]
    fn what_the_host_would_never_send_is_refused_as_well() {
        check(&ADD, "{}", "{}", "TypeError: add() the positional arguments are not a JSON array");
        check(&ADD, "[1, 2]", "[]", "TypeError: add() the keyword arguments are not a JSON object");
    }

    #[test]
    fn a_mismatch_names_the_parameter() {
        let error = ADD.parse::<i64>(0, "\"a\"").expect_err("is no number");
        assert_eq!(error.to_string(), "TypeError: add() argument 'x': invalid type: string \"a\", expected i64");
    }
}

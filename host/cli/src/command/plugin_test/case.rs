//! Cases as they are written: a JSON object a line.
//!
//! Runs nothing.

use std::path::Path;

use sandbox::GRANT_OPTIONS;
use taskhost_core::TaskName;
use taskhost_core::protocol::content::{Json, Kind};

use crate::config::nearest;

/// Longest file of cases that is read.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// What a case may say.
const KEYS: [&str; 14] = [
    "name",
    "task",
    "args",
    "kwargs",
    "result",
    "error",
    "state",
    "states",
    "publishes",
    "retries",
    "follow",
    "config",
    "secrets",
    "grant",
];

/// How a task may end.
const STATES: [&str; 7] = ["SUCCESS", "FAILURE", "IGNORED", "REJECTED", "REPLACED", "RETRY", "REVOKED"];

/// What a call that is expected may say.
const CALL_KEYS: [&str; 7] = ["task", "args", "kwargs", "queue", "id", "priority", "countdown"];

/// A call, and what is to come of it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Case {
    pub(super) line: usize,
    pub(super) name: String,
    pub(super) task: TaskName,
    pub(super) args: Json,
    pub(super) kwargs: Json,
    /// What its task calls is run, if the plugin has it.
    pub(super) follows: bool,
    /// By option of a grant.
    pub(super) grants: Vec<(String, Vec<String>)>,
    /// By name.
    pub(super) secrets: Vec<(String, String)>,
    pub(super) state: String,
    pub(super) result: Option<Json>,
    pub(super) error: Option<Error>,
    pub(super) retries: Option<i64>,
    pub(super) states: Option<Vec<(String, Option<Json>)>>,
    pub(super) publishes: Option<Vec<Json>>,
}

/// An exception that is expected.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Error {
    /// Of the class, with its module or without.
    pub(super) kind: Option<String>,
    /// A part of what it says.
    pub(super) message: Option<String>,
}

/// What is wrong with a file of cases, with its place.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {what}")]
pub(super) struct CaseError {
    place: String,
    what: String,
}

/// Reads a file of cases.
pub(super) fn read(path: &Path) -> Result<Vec<Case>, CaseError> {
    let wrong = |what: String| CaseError { place: path.display().to_string(), what };
    let length = path.metadata().map_err(|error| wrong(format!("cannot read it: {error}")))?.len();
    if length > FILE_BYTES_MAX {
        return Err(wrong(format!("it has {length} bytes, more than the {FILE_BYTES_MAX} of a file of cases")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| wrong(format!("cannot read it: {error}")))?;
    parse(&text).map_err(|(line, what)| CaseError { place: format!("{}:{line}", path.display()), what })
}

fn parse(text: &str) -> Result<Vec<Case>, (usize, String)> {
    let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
    let is_case = |(_, line): &(usize, &str)| !line.is_empty() && !line.starts_with('#') && !line.starts_with("//");
    lines.filter(is_case).map(|(number, line)| case(number, line).map_err(|what| (number, what))).collect()
}

fn case(line: usize, text: &str) -> Result<Case, String> {
    let map = Json::parse(text.to_owned()).map_err(|error| format!("a case is a JSON object in one line: {error}"))?;
    if map.kind() != Kind::Map {
        return Err(format!("a case is a JSON object, found {map}"));
    }
    check_keys(&map, &KEYS, "a case")?;
    let task = map.get("task").ok_or("`task` is missing: the name of the task to call")?;
    let task = TaskName::parse(&string("task", &task)?).map_err(|error| error.to_string())?;
    let (result, error) = (map.get("result"), map.get("error").map(|error| read_error(&error)).transpose()?);
    let state = map.get("state").map(|state| string("state", &state)).transpose()?;
    if let Some(state) = state.as_deref().filter(|state| !STATES.contains(state)) {
        let hint = hint(state, &STATES);
        return Err(format!(
            "`state` is how the task ends, found \"{state}\"{hint}; what it reports goes into `states`"
        ));
    }
    let implied = match (&result, &error) {
        (Some(_), Some(_)) => return Err("a case has a `result` or an `error`, not both".to_owned()),
        (None, Some(_)) => "FAILURE",
        (Some(_), None) => "SUCCESS",
        (None, None) => state.as_deref().unwrap_or("SUCCESS"),
    };
    if let Some(state) = state.as_deref().filter(|state| *state != implied) {
        return Err(format!("`state` is \"{state}\", which fits neither a `result` nor an `error`"));
    }
    let mut grants = Vec::new();
    for (option, entries) in map.get("grant").iter().flat_map(|grant| grant.members().collect::<Vec<_>>()) {
        if !GRANT_OPTIONS.iter().any(|(known, _)| *known == option) {
            let known: Vec<&str> = GRANT_OPTIONS.iter().map(|(known, _)| *known).collect();
            return Err(format!("`grant` has no `{option}`{}", hint(&option, &known)));
        }
        grants.push((option.into_owned(), texts(&entries)?));
    }
    let config = values(map.get("config"), "config")?;
    if !config.is_empty() {
        grants.push(("config".to_owned(), config.iter().map(|(key, value)| format!("{key}={value}")).collect()));
    }
    let name = map.get("name").map(|name| string("name", &name)).transpose()?;
    Ok(Case {
        line,
        name: name.unwrap_or_else(|| format!("{task} (line {line})")),
        args: of_kind(&map, "args", Kind::List, "a list")?.unwrap_or_else(Json::empty_list),
        kwargs: of_kind(&map, "kwargs", Kind::Map, "an object")?.unwrap_or_else(Json::empty_map),
        follows: of_kind(&map, "follow", Kind::Bool, "true or false")?.and_then(|it| it.as_bool()).unwrap_or(true),
        secrets: values(map.get("secrets"), "secrets")?,
        state: implied.to_owned(),
        retries: of_kind(&map, "retries", Kind::Number, "a number")?.and_then(|number| number.as_i64()),
        states: of_kind(&map, "states", Kind::List, "a list")?.map(|list| states(&list)).transpose()?,
        publishes: of_kind(&map, "publishes", Kind::List, "a list")?.map(|list| calls(&list)).transpose()?,
        task,
        grants,
        result,
        error,
    })
}

fn check_keys(map: &Json, known: &[&str], what: &str) -> Result<(), String> {
    let unknown = map.members().map(|(key, _)| key.into_owned()).find(|key| !known.contains(&key.as_str()));
    match unknown {
        None => Ok(()),
        Some(key) => Err(format!("{what} has no `{key}`{}", hint(&key, known))),
    }
}

fn hint(name: &str, known: &[&str]) -> String {
    match nearest(name, known.iter().copied()) {
        Some(nearest) => format!("; did you mean `{nearest}`?"),
        None => format!("; there are: {}", known.join(", ")),
    }
}

fn string(key: &str, value: &Json) -> Result<String, String> {
    value.as_text().map(|text| text.into_owned()).ok_or_else(|| format!("`{key}` is a text, found {value}"))
}

fn of_kind(map: &Json, key: &str, kind: Kind, expected: &str) -> Result<Option<Json>, String> {
    match map.get(key) {
        Some(value) if value.kind() != kind => Err(format!("`{key}` is {expected}, found {value}")),
        value => Ok(value),
    }
}

fn texts(list: &Json) -> Result<Vec<String>, String> {
    match list.kind() {
        Kind::List => list.elements().map(|text| string("grant", &text)).collect(),
        _ => Ok(vec![string("grant", list)?]),
    }
}

/// Names and values; what is no text is the JSON that it is.
fn values(map: Option<Json>, key: &str) -> Result<Vec<(String, String)>, String> {
    let Some(map) = map else { return Ok(Vec::new()) };
    if map.kind() != Kind::Map {
        return Err(format!("`{key}` is an object of names and values, found {map}"));
    }
    let text = |value: &Json| value.as_text().map_or_else(|| value.to_string(), |text| text.into_owned());
    Ok(map.members().map(|(name, value)| (name.into_owned(), text(&value))).collect())
}

fn read_error(error: &Json) -> Result<Error, String> {
    if let Some(kind) = error.as_text() {
        return Ok(Error { kind: Some(kind.into_owned()), message: None });
    }
    if error.kind() != Kind::Map {
        return Err(format!("`error` is the name of a class, or an object with `type` and `message`, found {error}"));
    }
    check_keys(error, &["type", "message"], "`error`")?;
    let part = |key: &str| error.get(key).map(|value| string(key, &value)).transpose();
    Ok(Error { kind: part("type")?, message: part("message")? })
}

fn states(list: &Json) -> Result<Vec<(String, Option<Json>)>, String> {
    let state = |state: Json| match state.kind() {
        Kind::Text => Ok((string("states", &state)?, None)),
        Kind::Map => {
            check_keys(&state, &["state", "meta"], "one of `states`")?;
            let name = state.get("state").ok_or_else(|| format!("one of `states` has no `state`: {state}"))?;
            Ok((string("state", &name)?, state.get("meta")))
        }
        _ => Err(format!("each of `states` is a text, or an object with `state` and `meta`, found {state}")),
    };
    list.elements().map(state).collect()
}

fn calls(list: &Json) -> Result<Vec<Json>, String> {
    let call = |call: Json| match call.kind() {
        Kind::Text => Ok(Json::object([("task", call)])),
        Kind::Map => check_keys(&call, &CALL_KEYS, "one of `publishes`").map(|()| call),
        _ => Err(format!("each of `publishes` is the name of a task, or an object with `task`, found {call}")),
    };
    list.elements().map(call).collect()
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    #[test]
    fn a_case_is_a_line_and_comments_are_passed_over() {
        let text =
            "# mine\n\n// too\n{\"task\": \"t\", \"args\": [1], \"result\": 3}\r\n  {\"name\": \"n\", \"task\": \"u\"}";
        let cases = parse(text).expect("they are right");
        let names: Vec<(usize, &str, &str)> =
            cases.iter().map(|case| (case.line, case.name.as_str(), case.state.as_str())).collect();
        assert_eq!(names, [(4, "t (line 4)", "SUCCESS"), (5, "n", "SUCCESS")]);
        assert_eq!((cases[0].args.as_str(), cases[1].args.as_str()), ("[1]", "[]"));
    }

    #[test]
    fn what_is_expected_is_read_in_short_and_at_length() {
        let text = r#"{"task": "t", "error": {"type": "KeyError", "message": "no"}, "states": ["A", {"state": "B", "meta": 1}], "publishes": ["u", {"task": "v", "queue": "q"}], "config": {"a": "x", "n": 3}, "secrets": {"k": "v"}, "grant": {"env": ["LANG=C"]}, "follow": false, "retries": 2}"#;
        let case = &parse(text).expect("it is right")[0];
        assert_eq!(case.state, "FAILURE");
        assert_eq!(case.error, Some(Error { kind: Some("KeyError".to_owned()), message: Some("no".to_owned()) }));
        let list = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let grants = [("env".to_owned(), list(&["LANG=C"])), ("config".to_owned(), list(&["a=x", "n=3"]))];
        assert_eq!(case.grants, grants);
        assert_eq!(case.states.as_ref().map(Vec::len), Some(2));
        assert_eq!(case.publishes.as_ref().expect("calls")[0].as_str(), r#"{"task": "u"}"#);
        assert_eq!((case.follows, case.retries), (false, Some(2)));
    }

    #[test]
    fn a_mistake_is_named_with_what_was_meant() {
        #[track_caller]
        fn check(text: &str, expected: Expect) {
            let (line, what) = parse(text).expect_err("this is a mistake");
            expected.assert_eq(&format!("{line}: {what}"));
        }
        check("\n{\"task\": \"t\", \"resutl\": 3}", expect!["2: a case has no `resutl`; did you mean `result`?"]);
        check("[1]", expect!["1: a case is a JSON object, found [1]"]);
        check("{\"result\": 3}", expect!["1: `task` is missing: the name of the task to call"]);
        check(r#"{"task": "t", "args": {}}"#, expect!["1: `args` is a list, found {}"]);
        check(
            r#"{"task": "t", "state": "SUCESS"}"#,
            expect![[
                r#"1: `state` is how the task ends, found "SUCESS"; did you mean `SUCCESS`?; what it reports goes into `states`"#
            ]],
        );
        check(
            r#"{"task": "t", "result": 1, "error": "E"}"#,
            expect!["1: a case has a `result` or an `error`, not both"],
        );
        check(
            r#"{"task": "t", "result": 1, "state": "FAILURE"}"#,
            expect![[r#"1: `state` is "FAILURE", which fits neither a `result` nor an `error`"#]],
        );
        check(
            r#"{"task": "t", "publishes": [{"tsk": 1}]}"#,
            expect!["1: one of `publishes` has no `tsk`; did you mean `task`?"],
        );
        check(r#"{"task": "t", "grant": {"confg": []}}"#, expect!["1: `grant` has no `confg`; did you mean `config`?"]);
        assert!(parse("{\"task\": ").expect_err("it is cut").1.starts_with("a case is a JSON object in one line: "));
    }
}

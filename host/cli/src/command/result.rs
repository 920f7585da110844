//! `host result`: state, result and traceback of a task.

use std::process::ExitCode;

use taskhost_core::protocol::content::Json;
use taskhost_core::{State, StoredResult, TaskId};

use super::outcome::{exception_text, is_failed, wait_for};
use super::{Wait, wiring};
use crate::args::ResultArgs;
use crate::config;
use crate::exit::Failure;
use crate::logging::print;

/// Asks the result store.
pub(crate) fn run(args: &ResultArgs) -> Result<ExitCode, Failure> {
    let config = config::load(args.settings.config.as_deref(), &args.settings.sets, args.flags())?;
    let id = TaskId::parse(&args.id).map_err(Failure::usage)?;
    let wait = Wait::parse(&args.wait)?;
    wiring::check_embedded_file(&config, "result.backend", &config.result.backend)?;
    let result = wiring::client_runtime()?.block_on(async {
        let store = wiring::readable_store(&config, "`host result`").await?;
        Ok::<_, Failure>(wait_for(&*store, &id, wait).await?)
    })?;
    let state = result.as_ref().map_or(State::Pending, |result| result.state.clone());
    print(&if args.json { as_json(&id, result.as_ref()) } else { as_text(result.as_ref()) })?;
    let missed = wait != Wait::No && !state.is_ready();
    if missed {
        eprintln!("error: task {id} was not done in time");
    }
    Ok(if missed || is_failed(&state) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn as_text(result: Option<&StoredResult>) -> String {
    let Some(result) = result else { return "state   PENDING\n".to_owned() };
    let mut text = format!("state   {}\n", result.state.as_str());
    if let Some(date) = &result.date_done {
        text.push_str(&format!("done    {date}\n"));
    }
    for (name, value) in &result.call {
        let shown = value.as_text().map_or_else(|| value.to_string(), |text| text.into_owned());
        text.push_str(&format!("{name:<7} {shown}\n"));
    }
    match result.state {
        State::Failure | State::Revoked | State::Retry => text.push_str(&format!("\n{}", exception_text(result))),
        _ => text.push_str(&format!("result  {}\n", result.result)),
    }
    text
}

/// The stored result goes in as it is: it may hold what strict JSON has no words for, such as NaN.
fn as_json(id: &TaskId, result: Option<&StoredResult>) -> String {
    let quoted = |text: Option<&String>| text.map_or(Json::null(), |text| Json::text(text));
    let state = result.map_or("PENDING", |result| result.state.as_str());
    let mut members = vec![
        ("id", Json::text(id.as_str())),
        ("state", Json::text(state)),
        ("result", result.map_or(Json::null(), |result| result.result.clone())),
        ("traceback", quoted(result.and_then(|result| result.traceback.as_ref()))),
        ("date_done", quoted(result.and_then(|result| result.date_done.as_ref()))),
    ];
    let call = result.map(|result| result.call.iter()).into_iter().flatten();
    members.extend(call.map(|(name, value)| (*name, value.clone())));
    format!("{}\n", Json::object(members))
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    #[track_caller]
    fn check(state: State, result: &str, expected: Expect) {
        check_called(state, result, Vec::new(), expected);
    }

    #[track_caller]
    fn check_called(state: State, result: &str, call: Vec<(&'static str, Json)>, expected: Expect) {
        let id = TaskId::parse("t-1").unwrap();
        let result = StoredResult {
            state,
            result: Json::parse(result.to_owned()).unwrap(),
            traceback: None,
            date_done: Some("2026-11-22T10:32:08.348566+00:00".to_owned()),
            children: Json::null(),
            parent_id: None,
            call,
        };
        expected.assert_eq(&format!("{}---\n{}", as_text(Some(&result)), as_json(&id, Some(&result))));
    }

    #[test]
    fn a_result_is_shown_as_it_was_stored() {
        check(
            State::Success,
            r#"{"n": NaN}"#,
            expect![[r#"
            state   SUCCESS
            done    2026-11-22T10:32:08.348566+00:00
            result  {"n": NaN}
            ---
            {"id": "t-1", "state": "SUCCESS", "result": {"n": NaN}, "traceback": null, "date_done": "2026-11-22T10:32:08.348566+00:00"}
        "#]],
        );
    }

    #[test]
    fn the_call_is_shown_where_it_was_stored() {
        let call = vec![("name", Json::text("tasks.add")), ("args", Json::array([2, 2])), ("retries", Json::int(0))];
        check_called(
            State::Success,
            "4",
            call,
            expect![[r#"
            state   SUCCESS
            done    2026-11-22T10:32:08.348566+00:00
            name    tasks.add
            args    [2, 2]
            retries 0
            result  4
            ---
            {"id": "t-1", "state": "SUCCESS", "result": 4, "traceback": null, "date_done": "2026-11-22T10:32:08.348566+00:00", "name": "tasks.add", "args": [2, 2], "retries": 0}
        "#]],
        );
    }

    #[test]
    fn a_failure_is_shown_as_its_exception() {
        check(
            State::Failure,
            r#"{"exc_type": "ValueError", "exc_message": ["too wide"]}"#,
            expect![[r#"
            state   FAILURE
            done    2026-11-22T10:32:08.348566+00:00

            ValueError: too wide
            ---
            {"id": "t-1", "state": "FAILURE", "result": {"exc_type": "ValueError", "exc_message": ["too wide"]}, "traceback": null, "date_done": "2026-11-22T10:32:08.348566+00:00"}
        "#]],
        );
    }

    #[test]
    fn nothing_known_is_pending() {
        let id = TaskId::parse("t-1").unwrap();
        expect![[r#"
            state   PENDING
            ---
            {"id": "t-1", "state": "PENDING", "result": null, "traceback": null, "date_done": null}
        "#]]
        .assert_eq(&format!("{}---\n{}", as_text(None), as_json(&id, None)));
    }
}

//! Every way in which a task ends other than by a result.

use serde_json::{Value, json};

use super::Contract;

in_every_language! {
    an_error_is_the_exception_that_it_says
    an_error_knows_where_it_comes_from
    a_bug_is_a_failure_and_nothing_else
    a_task_is_retried_as_it_asks
    a_task_that_rejects_or_ignores_returns_nothing
    a_task_may_end_by_itself_at_its_soft_limit
    a_task_that_does_not_end_is_stopped
    a_task_that_takes_too_much_fails_alone
}

fn an_error_is_the_exception_that_it_says(contract: &Contract) {
    let _host = contract.host(&[]);
    let code = r#"
def error(kind):
    end = fails("contract.fail", kind)
    return [end["state"], end["type"], end["args"]]

emit([error("value"), fails("contract.fail")["module"], error("own"), error("empty")[:2]])
"#;
    let value = json!(["FAILURE", "ValueError", ["bad value", 42]]);
    let own = json!(["FAILURE", "ContractError", ["own trouble"]]);
    contract.check(code, json!([value, "builtins", own, ["FAILURE", "ContractError"]]));
}

fn an_error_knows_where_it_comes_from(contract: &Contract) {
    let _host = contract.host(&[]);
    let code = r#"
def traceback(kind):
    result = send("contract.fail", kind)
    outcome(result)
    return result.traceback

emit([traceback("own"), traceback("chained")])
"#;
    let tracebacks = contract.site.client(code);
    let [own, chained] = [0, 1].map(|index| tracebacks[index].as_str().unwrap_or_else(|| panic!("none: {tracebacks}")));
    assert!(own.starts_with("Traceback (most recent call last):\n"), "{own}");
    let last = own.trim_end().lines().next_back().unwrap_or_default();
    assert!(last.ends_with("ContractError: own trouble"), "{own}");
    // As Python writes it, so that editors and Flower find it.
    assert!(own.lines().any(|line| line.starts_with("  File \"") && line.contains("\", line ")), "{own}");
    assert_eq!(own.contains("deeper"), contract.language.has_stacks, "{own}");
    assert!(chained.contains("outer") && chained.contains("inner"), "{chained}");
}

fn a_bug_is_a_failure_and_nothing_else(contract: &Contract) {
    let _host = contract.host(&[]);
    contract.check(
        r#"emit([fails("contract.crash")["state"], fails("contract.recurse")["state"]])"#,
        json!(["FAILURE", "FAILURE"]),
    );
    contract.goes_on();
}

fn a_task_is_retried_as_it_asks(contract: &Contract) {
    let _host = contract.host(&[]);
    let code = r#"
def error(name, *args):
    end = fails(name, *args)
    return [end["state"], end["type"], end["args"]]

emit([call("contract.retry"), call("contract.retry", 1, 0.2), call("contract.retry_args", "first"), error("contract.give_up"),
      call("contract.unsteady"), call("contract.unsteady", 2), error("contract.unsteady", 9)])
"#;
    let never = json!(["FAILURE", "ValueError", ["never"]]);
    let unsteady = json!(["FAILURE", "ConnectionError", ["attempt 3"]]);
    contract.check(code, json!([2, 1, "second", never, 1, 2, unsteady]));
}

fn a_task_that_rejects_or_ignores_returns_nothing(contract: &Contract) {
    let _host = contract.host(&["-c", "1"]);
    let code = r#"
ends = [send("contract.reject"), send("contract.ignore")]
after = call("contract.add", 1, 1)
until(lambda: depth() == 0, "the queue is empty")
emit([after, [result.state for result in ends]])
"#;
    // What Celery stores of a rejected task.
    contract.check(code, json!([2, ["FAILURE", "PENDING"]]));
}

fn a_task_may_end_by_itself_at_its_soft_limit(contract: &Contract) {
    let _host = contract.host(&[]);
    let code = r#"
quick = send("contract.graceful", 0.01)
emit([call("contract.graceful"), get(quick), fails("contract.soft")["type"]])
"#;
    contract.check(code, json!(["cancelled", "finished", "SoftTimeLimitExceeded"]));
}

fn a_task_that_does_not_end_is_stopped(contract: &Contract) {
    let _host = contract.host(&[]);
    contract.check(r#"emit(fails("contract.spin")["type"])"#, json!("TimeLimitExceeded"));
    contract.goes_on();
}

fn a_task_that_takes_too_much_fails_alone(contract: &Contract) {
    let _host = contract.host(&[]);
    let code = r#"
ends = [fails("contract.hog"), fails("contract.flood", 17)]
emit([[end["state"], end["type"]] for end in ends])
"#;
    let ends = contract.site.client(code);
    assert_eq!(ends[0][0], "FAILURE", "{ends}");
    let kind = ends[0][1].as_str().unwrap_or_default();
    let known = ["MemoryLimitExceeded", "MemoryError", "InternalError"];
    assert!(known.contains(&kind), "{ends}");
    let large: &Value = &ends[1];
    // Whichever is met first: the text is larger than an answer may be, and in some languages than the memory.
    let known = ["ResultTooLarge", "MemoryLimitExceeded", "MemoryError"];
    assert!(large[0] == "FAILURE" && known.contains(&large[1].as_str().unwrap_or_default()), "{ends}");
    contract.goes_on();
}

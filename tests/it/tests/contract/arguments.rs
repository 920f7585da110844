//! How arguments come in and results go out.

use serde_json::json;

use super::Contract;

in_every_language! {
    arguments_come_by_position_and_by_name
    wrong_arguments_are_the_type_errors_of_python
    json_passes_through_unchanged
    numbers_are_never_silently_wrong
    the_options_of_a_task_are_what_the_plugin_says
}

fn arguments_come_by_position_and_by_name(contract: &Contract) {
    let _host = contract.host(&[]);
    let code = r#"
emit([call("contract.add", 1, 2), call("contract.add", kwargs={"y": 1, "x": 2}), call("contract.add", 1, kwargs={"y": 0.5}),
      call("contract.greet", "Ann"), call("contract.greet", "Ann", "Hi", "?"),
      call("contract.greet", kwargs={"punctuation": ".", "name": "Zoë"}),
      call("contract.collect"), call("contract.collect", 1, [2], kwargs={"a": None, "ü": {"b": "c"}}),
      call("contract.sum", [1, 2, 3])])
"#;
    let nothing = json!({"args": [], "kwargs": {}});
    let all = json!({"args": [1, [2]], "kwargs": {"a": null, "ü": {"b": "c"}}});
    let greetings = ["Hello, Ann!", "Hi, Ann?", "Hello, Zoë."];
    let expected = json!([3, 3, 1.5, greetings[0], greetings[1], greetings[2], nothing, all, 6]);
    contract.check(code, expected);
}

fn wrong_arguments_are_the_type_errors_of_python(contract: &Contract) {
    let _host = contract.host(&[]);
    let code = r#"
def error(*args, **kwargs):
    end = fails("contract.greet", *args, kwargs=kwargs)
    return [end["module"], end["type"], end["args"][0] if "args" in end else end]

emit([error(), error("a", "b", "c", "d"), error("a", colour="x"), error("a", name="b"), error(5), error("a", greeting=["x"])])
"#;
    let errors = contract.site.client(code);
    let expected = [
        vec!["greet() missing 1 required positional argument: 'name'"],
        vec!["greet() takes from 1 to 3 positional arguments but 4 were given"],
        vec!["greet() got an unexpected keyword argument 'colour'"],
        vec!["greet() got multiple values for argument 'name'"],
        // What is wrong with a value is said in the language's own words.
        vec!["greet()", "name"],
        vec!["greet()", "greeting"],
    ];
    for (index, texts) in expected.iter().enumerate() {
        let error = &errors[index];
        assert_eq!((&error[0], &error[1]), (&json!("builtins"), &json!("TypeError")), "{error}");
        let message = error[2].as_str().expect("a text");
        match texts.as_slice() {
            [whole] => assert_eq!(message, *whole),
            parts => assert!(parts.iter().all(|part| message.contains(part)), "{message}"),
        }
    }
}

fn json_passes_through_unchanged(contract: &Contract) {
    let _host = contract.host(&[]);
    let code = r#"
deep = []
for _ in range(100):
    deep = [deep, {"x": deep}] if False else [deep]
values = [None, True, False, 0, -1, 1.5, 1e300, 5e-324, -0.0, 2**53 + 1, 10**300, -(10**40), float("inf"), float("-inf"),
          "", "ü€😀\u0000\u2028\"\\", "\ud800", "x" * 100_000, [], {}, {"": [1, {"ü": None}]}, [[1, "a"], [2.0, None]], deep]
wrong = [repr(value)[:80] for value in values if repr(call("contract.echo", value)) != repr(value)]
nan = call("contract.echo", [float("nan")])[0]
emit([wrong, nan != nan])
"#;
    contract.check(code, json!([[], true]));
}

fn numbers_are_never_silently_wrong(contract: &Contract) {
    let _host = contract.host(&[]);
    let code = r#"
def honest(name, args, expected):
    "The value, or an error that says that there is none."
    end = fails(name, *args)
    if end["state"] == "SUCCESS":
        value = end["value"]
        return value == expected and isinstance(value, bool) == isinstance(expected, bool) and (
            isinstance(value, type(expected)) or (isinstance(expected, float) and expected == int(expected)))
    return end["type"] in ("OverflowError", "TypeError")

exact = [0, -1, 2**53, -(2**53), 0.1, 1e300, 1.0, True, "10", [2**53, {"a": -0.5}], "ü€😀", {"x": [None, False]}]
large = [2**53 + 1, 2**63 - 1, 2**63, -(2**63) - 1, 2**64, 10**30, [10**30], {"a": -(10**30)}]
sums = [(2**52, 2**52), (2**53, 1), (2**63 - 1, 1), (-(2**63), -1), (10**30, 1), (0.1, 0.2), (1, -1)]
emit([[value for value in exact if fails("contract.parsed", value).get("value") != value],
      [value for value in large if not honest("contract.parsed", [value], value)],
      [pair for pair in sums if not honest("contract.add", pair, pair[0] + pair[1])],
      call("contract.add", 2**52, 2**52) == 2**53])
"#;
    contract.check(code, json!([[], [], [], true]));
}

fn the_options_of_a_task_are_what_the_plugin_says(contract: &Contract) {
    let checked = contract.site.environment_command(&["plugin", "check", "plugins/contract"]).success().out;
    let (_, about) = checked.split_once("\ntask contract.options\n").unwrap_or_else(|| panic!("no options: {checked}"));
    let about = about.split("\ntask ").next().unwrap_or(about);
    for line in [
        "Has every option.",
        "queue = \"slow\"",
        "max_retries = 7",
        "default_retry_delay = 1.5",
        "rate_limit = \"10/m\"",
        "time_limit = 20",
        "soft_time_limit = 10",
        "acks_late = false",
        "ignore_result = false",
        "track_started = true",
        "retry_backoff = true",
    ] {
        assert!(about.contains(&format!("  {line}\n")), "no `{line}`:\n{about}");
    }
    assert!(!checked.contains("warning: task"), "{checked}");
}

//! What the module looks like, task by task.

use expect_test::{Expect, expect};
use taskhost_core::{PluginName, PluginVersion, TaskName, TaskOptions, TaskSpec};

use super::*;

fn task(name: &str, summary: &str, schema: Option<&str>, options: &[(&str, &str)]) -> TaskReport {
    let spec = TaskSpec {
        name: TaskName::parse(name).expect("a name"),
        plugin: PluginName::parse("images").expect("a name"),
        version: PluginVersion::of("ab12"),
        plugin_concurrency: None,
        summary: summary.to_owned(),
        takes: None,
        options: TaskOptions::default(),
    };
    let options = options.iter().map(|(name, json)| ((*name).to_owned(), (*json).to_owned())).collect();
    TaskReport { spec, signature: None, types: Vec::new(), schema: schema.map(str::to_owned), options }
}

fn module(tasks: Vec<TaskReport>) -> String {
    let plugin =
        PluginReport { name: "images".to_owned(), version: Some("1.2.0".to_owned()), tasks, ..PluginReport::default() };
    python(&[plugin], "host plugin stubs --python")
}

/// Compares what follows the frame.
#[track_caller]
fn check(tasks: Vec<TaskReport>, expected: Expect) {
    let module = module(tasks);
    let (_, body) = module.split_once("__all__").expect("it is there");
    expected.assert_eq(&format!("__all__{body}"));
}

#[track_caller]
fn check_parameters(schema: &str, expected: &str) {
    assert_eq!(Signature::of(Some(schema)).parameters.join(", "), expected, "{schema}");
}

#[test]
fn a_task_is_a_function_with_its_options_and_its_arguments() {
    let schema = r#"{"type": "object", "properties": {"url": {"type": "string"}, "width": {"type": "integer", "default": 100},
        "title": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": null}}, "required": ["url"],
        "additionalProperties": false}"#;
    let options = [("queue", "\"slow\""), ("max_retries", "5"), ("priority", "3"), ("ignore_result", "true")];
    check(
        vec![
            task("images.rotate", "", None, &[]),
            task("images.resize", "Makes a \"picture\" smaller.", Some(schema), &options),
        ],
        expect![[r#"
            __all__ = [
                "images_resize",
                "images_rotate",
            ]


            @_task(name="images.resize", queue="slow", priority=3, ignore_result=True)
            def images_resize(url: str, width: int = 100, title: str | None = None) -> _Any:
                """Makes a \"picture\" smaller.

                Of plugin images 1.2.0.
                max_retries = 5
                """
                raise _elsewhere("images.resize")


            @_task(name="images.rotate")
            def images_rotate(*args: _Any, **kwargs: _Any) -> _Any:
                """images.rotate

                Of plugin images 1.2.0.
                """
                raise _elsewhere("images.rotate")
        "#]],
    );
}

#[test]
fn the_same_tasks_in_any_order_give_the_same_module() {
    let tasks = || ["b", "a.c", "a_c", "a"].map(|name| task(name, "", None, &[]));
    let mut turned = tasks().to_vec();
    turned.reverse();
    assert_eq!(module(tasks().to_vec()), module(turned));
}

#[test]
fn a_name_that_python_would_not_take_gets_one_that_it_takes() {
    let mut names = Names::default();
    let cases = [
        ("images.resize", "images_resize"),
        ("images_resize", "images_resize_2"),
        ("class", "class_"),
        ("app", "app_"),
        ("2d.plot", "task_2d_plot"),
        ("__main__.f", "task___main___f"),
        ("größe", "gr__e"),
        ("…", "task__"),
    ];
    for (task, expected) in cases {
        assert_eq!(names.function(task), expected, "{task}");
    }
}

#[test]
fn text_cannot_leave_its_quotes() {
    assert_eq!(names::quoted("a\"\\\n\u{202e}é"), r#""a\"\\\x0a\u202eé""#);
    let written = module(vec![task("t", "\"\"\"; import os #", None, &[("queue", "\"\\\"\\n\"")])]);
    assert!(written.contains(r#"    """\"\"\"; import os #"#), "{written}");
    assert!(written.contains(r#"queue="\"\x0a""#), "{written}");
}

#[test]
fn schemas_become_types() {
    let of = |property: &str| {
        format!(r#"{{"properties": {{"x": {property}}}, "required": ["x"], "additionalProperties": false}}"#)
    };
    for (property, hint) in [
        ("{}", "_Any"),
        ("true", "_Any"),
        (r#"{"type": "number"}"#, "float"),
        (r#"{"type": ["integer", "null"]}"#, "int | None"),
        (r#"{"type": "array", "items": {"type": "array"}}"#, "list[list[_Any]]"),
        (r#"{"type": "array", "prefixItems": [{}], "items": false}"#, "list[_Any]"),
        (r#"{"type": "object", "additionalProperties": {"type": "boolean"}}"#, "dict[str, bool]"),
        (
            r#"{"anyOf": [{"type": "array", "items": {"type": "integer"}}, {"type": "object", "properties": {"__type__": {}}}]}"#,
            "list[int] | bytes",
        ),
        (r#"{"enum": ["a\"b", 1, null]}"#, r#"_Literal["a\"b", 1, None]"#),
        (r#"{"enum": [1.5]}"#, "_Any"),
        (r#"{"oneOf": [{"type": "string"}, {"type": "colour"}]}"#, "_Any"),
        (r##"{"$ref": "#/$defs/nobody"}"##, "_Any"),
    ] {
        check_parameters(&of(property), &format!("x: {hint}"));
    }
    let node = r##"{"properties": {"x": {"$ref": "#/$defs/n"}}, "additionalProperties": false,
        "$defs": {"n": {"type": "array", "items": {"$ref": "#/$defs/n"}}}}"##;
    check_parameters(node, "x: list[list[list[list[_Any]]]] = _OWN");
}

#[test]
fn a_default_is_shown_where_it_is_of_its_type() {
    let of = |property: &str| format!(r#"{{"properties": {{"x": {property}}}, "additionalProperties": false}}"#);
    check_parameters(&of(r#"{"type": "string", "default": null}"#), "x: str = _OWN");
    check_parameters(&of(r#"{"type": "number", "default": 1}"#), "x: float = 1");
    check_parameters(&of(r#"{"default": [1]}"#), "x: _Any = _OWN");
    check_parameters(&of(r#"{"default": "\""}"#), r#"x: _Any = "\"""#);
}

#[test]
fn parameters_are_in_the_order_of_the_schema_and_as_python_can_have_them() {
    check_parameters(
        r#"{"properties": {"z": {}, "a": {}}, "required": ["a", "z"]}"#,
        "z: _Any, a: _Any, **kwargs: _Any",
    );
    check_parameters(
        r#"{"properties": {"kwargs": {}, "b": {}, "c": {}}, "required": ["b", "c"]}"#,
        "kwargs: _Any = _OWN, *, b: _Any, c: _Any, **named: _Any",
    );
    let further = |count: u8| {
        format!(
            r#"{{"properties": {{"a": {{}}, "b": {{}}}}, "required": ["b"], "additionalProperties": false, "x-args": {count}}}"#
        )
    };
    check_parameters(&further(0), "*args: _Any, a: _Any = _OWN, b: _Any");
    check_parameters(&further(1), "a: _Any = _OWN, *args: _Any, b: _Any");
    check_parameters(&further(1).replace("\"a\"", "\"args\""), "args: _Any = _OWN, *others: _Any, b: _Any");
    check_parameters(
        r#"{"properties": {"a": {}}, "additionalProperties": false, "x-args": 1}"#,
        "a: _Any = _OWN, *args: _Any",
    );
    for unnamed in [r#"{"properties": {"from": {}}}"#, r#"{"properties": {"a-b": {}}}"#, "{}", "[]", "null", "{"] {
        check_parameters(unnamed, "*args: _Any, **kwargs: _Any");
    }
}

#[test]
fn a_long_line_is_broken() {
    let properties: Vec<String> = (0..12).map(|number| format!("\"argument_{number}\": {{}}")).collect();
    let schema = format!("{{\"properties\": {{{}}}, \"additionalProperties\": false}}", properties.join(","));
    let module = module(vec![task("t", "", Some(&schema), &[])]);
    assert!(module.contains("def t(\n    argument_0: _Any = _OWN,\n"), "{module}");
    assert!(module.contains("    argument_11: _Any = _OWN,\n) -> _Any:\n"), "{module}");
}

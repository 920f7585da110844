//! Tasks straight from WIT: a component without an SDK, called by the Python client.

use it::{Engine, Host, Site, settings};
use serde_json::{Value, json};

fn open() -> Option<(Site, Host)> {
    let component = settings::required_path(settings::TYPED)?;
    let site = Site::open(Engine::Embedded)?;
    std::fs::copy(component, site.path("plugins/typed.wasm")).expect("the guest was built");
    let host = site.host(&[]);
    Some((site, host))
}

#[test]
fn a_client_calls_functions_of_an_interface() {
    let Some((site, host)) = open() else { return };
    let told = site.client(
        r#"
def ask(name, *args, **kwargs):
    result = app.send_task(name, args, kwargs)
    try:
        return get(result)
    except Exception as error:
        return [type(error).__name__, type(error).__module__, list(error.args)]

resize = 'images.thumbnails.resize'
emit([
    ask(resize, 'a.png', 7),
    ask(resize, 'a.png', width=7, fit='fill_all'),
    ask(resize, **{'url': 'ü', 'width': 1, 'fit': 'fill-all'}),
    ask(resize, 'missing', 1),
    ask(resize, 'large', 1),
    ask(resize, 'broken', 1),
    ask(resize, 'a.png'),
    ask(resize, 'a.png', 1, None, 2),
    ask(resize, 'a.png', -1),
    ask(resize, 'a.png', 1, colour='red'),
    ask('images.thumbnails.measure', b'\xff\x01'),
    ask('images.thumbnails.measure', [255, 1]),
])
"#,
    );
    let type_error = |text: &str| json!(["TypeError", "builtins", [format!("resize() {text}")]]);
    // A class that the client does not know is made for it.
    let task_error = |value: Value| json!(["TaskError", "celery.exceptions", [value]]);
    assert_eq!(
        told,
        json!([
            "a.png in 7, None",
            "a.png in 7, Some(Fit::FillAll)",
            "ü in 1, Some(Fit::FillAll)",
            task_error(json!("not_found")),
            task_error(json!({"too_large": {"max_width": 640, "max_height": null}})),
            task_error(json!({"other": "it is no picture"})),
            type_error("missing 1 required positional argument: 'width'"),
            type_error("takes from 2 to 3 positional arguments but 4 were given"),
            type_error("argument 'width': -1 is out of range for u32 (0 to 4294967295)"),
            type_error("got an unexpected keyword argument 'colour'"),
            {"max_width": 256, "max_height": 255},
            {"max_width": 256, "max_height": 255},
        ])
    );
    host.wait_for("resizing a.png");
}

#[test]
fn every_type_goes_both_ways() {
    let Some((site, _host)) = open() else { return };
    let told = site.client(
        r#"
def ask(name, *args):
    return get(app.send_task('images.everything.' + name, args))

whole = {
    'numbers': [-128, 255, -32768, 65535, -2**31, 2**32 - 1, -2**63, 2**64 - 1], 'reals': [0.1, 1e300], 'truth': True,
    'letter': '😀', 'text': 'größe "x"\n', 'bytes': b'\x00\xff', 'lists': [[], ['a', ''], ['b']],
    'sizes': [{'max_width': 1, 'max_height': None}, {'max_width': 2, 'max_height': 3}], 'fit': 'fill_all',
    'shapes': ['dot', {'circle': 0.5}, {'area': 2**64 - 1}, {'label': 'x'}, {'frame': {'max_width': 9, 'max_height': 8}}],
    'marks': ['bold', 'underlined'], 'maybe': {'some': None}, 'done': {'err': 'no'}, 'over': 'ok',
}
nan = ask('shown', {'circle': float('nan')}, [], 'x', False, float('-inf'))
emit([
    ask('echo', whole) == whole,
    ask('integers', *whole['numbers']) == whole['numbers'],
    [ask('shown', shape, ['bold', 'very-large'], 'ü', True, 0.25) for shape in whole['shapes']],
    nan,
    ask('repeat', 'ab', 3),
])
"#,
    );
    let shown = |shape: &str| format!("Shape::{shape} Marks {{ bits: 3 }} 'ü' true 0.25");
    let shapes = [
        "Dot",
        "Circle(0.5)",
        "Area(18446744073709551615)",
        "Label(\"x\")",
        "Frame(Size { max-width: 9, max-height: Some(8) })",
    ];
    let nan = "Shape::Circle(NaN) Marks { bits: 0 } 'x' false -inf";
    assert_eq!(told, json!([true, true, shapes.map(shown), nan, ["ab", "ab", "ab"]]));
}

#[test]
fn a_panic_is_a_trap_and_the_next_call_is_served() {
    let Some((site, _host)) = open() else { return };
    let told = site.client(
        r#"
crash = app.send_task('images.thumbnails.crash')
crash.get(timeout=30, propagate=False)
emit([crash.state, type(crash.result).__name__, 'the picture bites' in str(crash.result),
      get(app.send_task('images.everything.repeat', ['x', 1]))])
"#,
    );
    assert_eq!(told, json!(["FAILURE", "Trap", true, ["x"]]));
}

#[test]
fn a_check_shows_signatures_and_schemas_and_stubs_have_types() {
    let Some((site, _host)) = open() else { return };
    let shown = site.bare_command(&["plugin", "check", "plugins/typed.wasm"]).success().out;
    for line in [
        "\ntask images.thumbnails.resize\n  resize(url: string, width: u32, fit: option<fit>) -> result<string, resize-error>\n",
        "  enum fit { cover, fill-all }\n",
        "  record size { max-width: u16, max-height: option<u16> }\n",
        "  variant resize-error { not-found, too-large(size), other(string) }\n",
        "  schema {\"type\": \"object\", \"properties\": {\"url\": {\"type\": \"string\"}, ",
    ] {
        assert!(shown.contains(line), "{line}\n{shown}");
    }
    let json: Value =
        serde_json::from_str(&site.bare_command(&["plugin", "check", "--json", "plugins/typed.wasm"]).success().out)
            .expect("it is JSON");
    assert_eq!(json["tasks"][1]["signature"], "measure(picture: list<u8>) -> size", "{json}");
    assert_eq!(json["tasks"][0]["schema"]["required"], json!(["url", "width"]), "{json}");
    let stubs = site.bare_command(&["plugin", "stubs", "--python"]).success().out;
    assert!(stubs.contains("def images_thumbnails_measure(picture: list[int] | bytes) -> _Any:"), "{stubs}");
    let resize = "def images_thumbnails_resize(url: str, width: int, fit: _Literal[\"cover\", \"fill_all\"] | None = None) -> _Any:";
    assert!(stubs.contains(resize), "{stubs}");
}

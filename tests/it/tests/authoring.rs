//! From nothing to a running task in each language: what `host plugin new` makes, built, tested, served, and changed to the
//! README's task while the worker runs.
//!
//! What the SDKs can do is shown by `contract`.

use std::fs;
use std::path::Path;
use std::process::Command;

use it::process::Stream;
use it::{COMPILER_PATIENCE, Engine, Process, Site, settings};
use serde_json::json;

/// A language, as `--lang` names it.
struct Language {
    name: &'static str,
    /// What runs the unit tests of a new plugin, in its folder.
    unit_tests: &'static str,
}

#[test]
fn a_plugin_in_rust_from_nothing_to_a_result() {
    // The compiler for components knows no target but theirs.
    from_nothing_to_a_result(&Language { name: "rust", unit_tests: "unset RUSTC\ncargo test --quiet" });
}

#[test]
fn a_plugin_in_python_from_nothing_to_a_result() {
    let unit_tests = "PYTHONPATH=sdk/src \"$PYTHON\" -m unittest";
    from_nothing_to_a_result(&Language { name: "python", unit_tests });
}

#[test]
fn a_plugin_in_typescript_from_nothing_to_a_result() {
    let unit_tests = "npm install --no-audit --no-fund --prefer-offline\nnpm test";
    from_nothing_to_a_result(&Language { name: "js", unit_tests });
}

#[test]
fn a_plugin_in_go_from_nothing_to_a_result() {
    from_nothing_to_a_result(&Language { name: "go", unit_tests: "go test ./..." });
}

#[test]
fn a_plugin_in_c_from_nothing_to_a_result() {
    let unit_tests = "cc -I sdk/include tests/tests.c main.c sdk/src/*.c -o tests/tests\ntests/tests";
    from_nothing_to_a_result(&Language { name: "c", unit_tests });
}

fn from_nothing_to_a_result(language: &Language) {
    let Some(xtask) = settings::required_path(settings::XTASK) else { return };
    let Some(python) = settings::required_path(settings::PYTHON) else { return };
    let Some(binary) = settings::required_path(settings::HOST) else { return };
    let Some(mut site) = Site::open(Engine::Embedded) else { return };
    site.plugins = "texts".to_owned();
    let name = language.name;
    let mut tools = Process::start("xtask tools", Command::new(xtask).args(["tools", name]));
    if !tools.wait_within(COMPILER_PATIENCE).success() {
        return settings::skip(&format!("no tools for {name}: {}", tools.written(Stream::Err)));
    }
    let tools = tools.written(Stream::Out);
    let shell = |script: &str| -> String {
        let mut command = it::host::command(Path::new("sh"), site.folder());
        command.args(["-c", &format!("set -eu\n{tools}{script}")]).env("HOST", &binary).env("PYTHON", &python);
        for (variable, name) in [("XDG_CACHE_HOME", "it-cache"), ("XDG_STATE_HOME", "it-state")] {
            command.env(variable, binary.with_file_name(name));
        }
        // What other tests have compiled, of what this one has not written.
        command.env("CARGO_TARGET_DIR", binary.with_file_name("it-authoring"));
        let mut process = Process::start(&format!("{name}: {script}"), &mut command);
        let status = process.wait_within(COMPILER_PATIENCE);
        assert!(status.success(), "{script}\nended with {status}");
        process.written(Stream::Out) + &process.written(Stream::Err)
    };

    let made = shell(&format!("\"$HOST\" plugin new --lang {name} texts"));
    assert!(made.contains("texts.add") && made.contains("host plugin build"), "{made}");
    shell(&format!("cd texts\n{}", language.unit_tests));
    let built = shell("\"$HOST\" plugin build texts");
    assert!(built.contains("2 tasks: texts.add, texts.letters"), "{built}");
    let tested = shell("\"$HOST\" plugin test texts");
    assert!(tested.contains("passed"), "{tested}");
    let again = shell("\"$HOST\" plugin build texts");
    assert!(again.contains("unchanged"), "{again}");

    let host = site.host(&[]);
    let code =
        r#"emit([call("texts.add", 2, 2), call("texts.letters", ["four", "три"]), fails("texts.add", 2)["type"]])"#;
    assert_eq!(site.client(code), json!([4, 7, "TypeError"]));

    let Some((file, source)) = readme_plugin(name) else { return };
    site.write(&format!("texts/{file}"), &source);
    shell(r#""$HOST" plugin build texts"#);
    host.wait_for("serves now, with 1 tasks");
    let code = r#"
long = "The quick brown fox jumps"
short = call("texts.shorten", long, kwargs={"length": 10})
end = fails("texts.shorten", "x", 0)
emit([short, call("texts.shorten", long), call("texts.shorten", "kürzer als zwanzig"), end["type"], end["args"]])
"#;
    let expected = ["The quick…", "The quick brown fox…", "kürzer als zwanzig", "ValueError"];
    let [short, default, whole, error] = expected;
    assert_eq!(site.client(code), json!([short, default, whole, error, ["length must be positive"]]));
}

/// The README's task in this language, and the file that it stands in.
fn readme_plugin(language: &str) -> Option<(String, String)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("read {}: {error}", path.display()));
    let mark = format!("<!-- plugin {language} ");
    let (_, rest) = text.split_once(&mark)?;
    let (file, rest) = rest.split_once(" -->\n```").expect("a block follows the mark");
    let (_, rest) = rest.split_once('\n').expect("the block has lines");
    let (source, _) = rest.split_once("```\n").expect("the block ends");
    Some((file.to_owned(), source.to_owned()))
}

#[test]
fn the_readme_has_the_task_in_four_languages() {
    for language in ["rust", "python", "js", "go"] {
        let (file, source) = readme_plugin(language).unwrap_or_else(|| panic!("no {language}"));
        assert!(!file.is_empty() && source.contains("texts.shorten"), "{file}: {source}");
    }
}

//! `host run --watch-build`: plugins that are built again while a worker serves them.

use std::fs;
use std::path::Path;
use std::time::Instant;

use it::process::Stream;
use it::{COMPILER_PATIENCE, Engine, Process, Site, settings, tools};
use serde_json::json;

use crate::reload::{answers, put};

/// Needs no compiler: what is built is a copy of what a compiler would have made.
const COPIES: &str = "name = \"p\"\ncomponent = \"p.wasm\"\n\n[build]\nlanguage = \"c\"\nentry = \"made.wasm\"\n\
                      sources = [\"source.bin\"]\ncommand = [\"sh\", \"-c\", \"echo built >> builds.txt && cp source.bin made.wasm\"]\n";

/// A site without the demo plugin.
fn site() -> Option<Site> {
    let site = Site::open(Engine::Embedded)?;
    fs::remove_dir_all(site.path("plugins/demo")).expect("it is there");
    site.write("plugins/p/plugin.toml", COPIES);
    put(&site, "plugins/p/source.bin", &answers("one"));
    Some(site)
}

fn builds(site: &Site) -> usize {
    fs::read_to_string(site.path("plugins/p/builds.txt")).map_or(0, |text| text.lines().count())
}

#[test]
fn a_change_is_built_once_and_served_and_a_failure_changes_nothing() {
    let Some(site) = site() else { return };
    let host = site.host_named("w@localhost", &["--watch-build"]);
    host.wait_for("building plugins/p: there is no component");
    assert_eq!(site.client("emit(call('t'))"), json!("one"));
    assert_eq!(builds(&site), 1);

    put(&site, "plugins/p/source.bin", &answers("two"));
    host.wait_for("building plugins/p: source.bin has changed");
    host.wait_for("plugin `p`: version");
    assert_eq!(site.client("emit(call('t'))"), json!("two"));

    put(&site, "plugins/p/source.bin", b"no component at all");
    let failed = host.wait_for("cannot build plugins/p");
    assert!(failed.contains("what serves now goes on serving"), "{failed}");
    host.wait_for("is not WebAssembly");
    assert_eq!(site.client("emit(call('t'))"), json!("two"));

    put(&site, "plugins/p/source.bin", &answers("three"));
    host.wait_for_count("plugin `p`: version", 2);
    assert_eq!(site.client("emit(call('t'))"), json!("three"));
    // One for the start, and one for each change; what a build makes is none.
    assert_eq!(builds(&site), 4);
    assert_eq!(host.lines_with("building plugins/p").len(), 4);
}

#[test]
fn nothing_is_built_at_the_start_unless_it_is_older_than_its_sources() {
    let Some(site) = site() else { return };
    site.bare_command(&["plugin", "build", "plugins/p"]).success();
    assert_eq!(builds(&site), 1);
    let mut host = site.host_named("w@localhost", &["--watch-build"]);
    assert_eq!(site.client("emit(call('t'))"), json!("one"));
    assert_eq!(builds(&site), 1);
    host.stop();
    put(&site, "plugins/p/source.bin", &answers("two"));
    let host = site.host_named("w@localhost", &["--watch-build"]);
    host.wait_for("source.bin is newer than the component");
    assert_eq!(site.client("emit(call('t'))"), json!("two"));
    assert_eq!(builds(&site), 2);
}

#[test]
fn a_change_while_it_is_built_is_built_after_it_and_once() {
    let Some(site) = site() else { return };
    // Waits for the test in the midst of its second build.
    let slow = "echo built >> builds.txt && cp source.bin made.wasm && if [ -e wait ]; then touch waits; \
                while [ -e wait ]; do sleep 0.05; done; fi";
    let manifest = COPIES.replace("echo built >> builds.txt && cp source.bin made.wasm", slow);
    site.write("plugins/p/plugin.toml", &manifest);
    let host = site.host_named("w@localhost", &["--watch-build"]);
    site.write("plugins/p/wait", "");
    put(&site, "plugins/p/source.bin", &answers("two"));
    host.wait_for("building plugins/p: source.bin has changed");
    let waits = site.path("plugins/p/waits");
    let patience = Instant::now() + it::PATIENCE;
    while !waits.exists() {
        assert!(Instant::now() < patience, "the build never came to its midst");
        std::thread::yield_now();
    }
    for text in ["three", "four", "five"] {
        put(&site, "plugins/p/source.bin", &answers(text));
    }
    // A worker works while plugins are built.
    assert_eq!(site.client("emit(call('t'))"), json!("one"));
    fs::remove_file(site.path("plugins/p/wait")).expect("it is there");
    host.wait_for_count("plugin `p`: version", 2);
    assert_eq!(site.client("emit(call('t'))"), json!("five"));
    assert_eq!(builds(&site), 3);
}

#[test]
fn a_plugin_that_comes_later_is_built_and_without_the_option_none_is() {
    let Some(site) = site() else { return };
    let mut plain = site.launch_host(&[]);
    assert!(!plain.wait().success());
    assert_eq!(builds(&site), 0, "nobody asked for it");
    put(&site, "plugins/q.wasm", &answers("q").clone());
    fs::remove_dir_all(site.path("plugins/p")).expect("it is there");
    let host = site.host_named("w@localhost", &["--watch-build"]);
    assert_eq!(site.client("emit(call('t'))"), json!("q"));
    fs::remove_file(site.path("plugins/q.wasm")).expect("it is there");
    host.wait_for("plugin `q` is gone");
    put(&site, "plugins/p/source.bin", &answers("p"));
    site.write("plugins/p/plugin.toml", COPIES);
    host.wait_for("plugin `p`: version");
    assert_eq!(site.client("emit(call('t'))"), json!("p"));
    let unwatched = site.command(&["run", "--watch-build", "--set", "plugins.watch=false"]);
    unwatched.refused(&["--watch-build: plugins.watch is off"]);
}

#[test]
fn a_plugin_in_rust_is_built_when_its_source_changes() {
    let Some(mut site) = site() else { return };
    let Some(tools) = tools::of("rust") else { return };
    let Some(binary) = settings::required_path(settings::HOST) else { return };
    site.environment.extend(tools);
    // Where the guests of all tests are built, so that what they have in common is there.
    let guests = binary.with_file_name("../guests").display().to_string();
    site.environment.push(("CARGO_TARGET_DIR".to_owned(), guests));
    fs::remove_dir_all(site.path("plugins/p")).expect("it is there");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the checkout");
    let demo = |name: &str| {
        let text = fs::read_to_string(root.join("plugins/demo").join(name)).expect("the demo plugin is there");
        text.replace("name = \"demo\"", "name = \"watched\"")
    };
    let sdk = root.join("sdk/rust").display().to_string();
    site.write("plugins/p/plugin.toml", "name = \"p\"\n\n[build]\nlanguage = \"rust\"\n");
    site.write("plugins/p/Cargo.toml", &demo("Cargo.toml").replace("../../sdk/rust", &sdk));
    site.write("plugins/p/Cargo.lock", &demo("Cargo.lock"));
    let source = |sum: &str| {
        let function = format!("fn add(x: i64, y: i64) -> i64 {{\n    {sum}\n}}");
        format!("use taskhost::task;\n\n#[task(name = \"p.add\")]\n{function}\n\ntaskhost::plugin!(add);\n")
    };
    site.write("plugins/p/src/lib.rs", &source("x + y"));
    let mut command = it::host::command(&binary, site.folder());
    command.args(["plugin", "build", "plugins/p"]).envs(site.environment.iter().map(|(name, value)| (name, value)));
    assert!(Process::start("host plugin build", &mut command).wait_within(COMPILER_PATIENCE).success());

    let host = site.host_named("w@localhost", &["--watch-build"]);
    assert_eq!(site.client("emit(call('p.add', 3, 4))"), json!(7));
    site.write("plugins/p/src/lib.rs", &source("x + z"));
    // Other tests may have guests built in the same place.
    host.wait_for_within("cannot build plugins/p", COMPILER_PATIENCE);
    // The compiler speaks of the author's code.
    assert!(host.written(Stream::Err).contains("cannot find value `z` in this scope"));
    assert_eq!(site.client("emit(call('p.add', 3, 4))"), json!(7));
    site.write("plugins/p/src/lib.rs", &source("x * y"));
    host.wait_for_within("plugin `p`: version", COMPILER_PATIENCE);
    assert_eq!(site.client("emit(call('p.add', 3, 4))"), json!(12));
    assert_eq!(host.lines_with("building plugins/p").len(), 2, "nothing was built at the start");
}

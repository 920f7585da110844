//! What is loaded, what is refused, and in which words.

use std::time::Duration;

use sandbox::{Config, Limits, Sandbox};
use taskhost_core::{NodeName, TaskName};

use crate::guest::Guest;
use crate::world::{World, write};

async fn refusal(bytes: Vec<u8>) -> String {
    let world = World::new(&[("bad.wasm", bytes)]).await;
    world.check_alive().await;
    world.refused().to_owned()
}

fn wat(text: &str) -> Vec<u8> {
    wat::parse_str(text).expect("valid WAT")
}

#[tokio::test]
async fn files_that_are_no_components_are_refused_with_words() {
    assert_eq!(refusal(Vec::new()).await, "it is empty");
    assert!(refusal(b"hello".to_vec()).await.starts_with("it is not WebAssembly"));
    assert!(refusal(b"\x7fELF garbage".to_vec()).await.starts_with("it is not WebAssembly"));
    assert!(refusal(wat("(module)")).await.starts_with("it is a core module, not a component"));
    let whole = Guest::echo("t").build();
    for length in [5, 8, 9, whole.len() / 2, whole.len() - 1] {
        let reason = refusal(whole[..length].to_vec()).await;
        assert!(reason.starts_with("compile it: ") || reason.starts_with("it exports neither"), "{length}: {reason}");
    }
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 0xff;
    assert!(!refusal(flipped).await.is_empty());
}

#[tokio::test]
async fn precompiled_code_is_refused() {
    let engine = wasmtime::Engine::default();
    let compiled = engine.precompile_component(&Guest::echo("t").build()).expect("a good component");
    assert!(refusal(compiled).await.starts_with("it is precompiled machine code"));
}

#[tokio::test]
async fn a_component_beyond_the_size_limit_is_refused() {
    let limits = Limits { component_bytes: 4096, ..Limits::default() };
    let large = Guest::echo("t").field(&format!("(data \"{}\")", "x".repeat(5000))).build();
    let world = World::with_limits(limits, &[("large.wasm", large)]).await;
    assert_eq!(world.refused(), "it is larger than 4096 bytes; raise limits.component");
}

#[tokio::test]
async fn a_component_without_the_export_is_told_what_makes_a_plugin() {
    assert_eq!(
        refusal(wat("(component)")).await,
        "it exports neither `taskhost:task/tasks@0.1.x` nor functions of an interface that has a package, one of which makes a \
         component a plugin: it exports nothing; build it with a Taskhost SDK, export an interface such as \
         `acme:images/thumbnails`, or say under [exports] in plugin.toml which functions are tasks"
    );
    let other = wat("(component (instance $i) (export \"wasi:cli/run@0.2.0\" (instance $i)))");
    assert!(refusal(other).await.contains("it exports `wasi:cli/run@0.2.0`"));
    let version = refusal(Guest::echo("t").version("0.2.0").build()).await;
    assert_eq!(
        version,
        "it exports `taskhost:task/tasks@0.2.0`, but this host offers `taskhost:task/tasks@0.1.x`: rebuild it with \
         an SDK of that version"
    );
    let empty = wat("(component (instance $i) (export \"taskhost:task/tasks@0.1.0\" (instance $i)))");
    assert!(refusal(empty).await.starts_with("its export `taskhost:task/tasks` is not the interface of this name"));
}

#[tokio::test]
async fn a_later_version_of_the_same_interface_is_served() {
    let world = World::guest(&Guest::echo("t").version("0.1.7")).await;
    world.outcome().await;
}

#[tokio::test]
async fn an_unknown_import_is_named() {
    let import = "(import \"acme:gpu/compute@1.0.0\" (instance (export \"f\" (func))))";
    let bytes =
        wat(&format!("(component {import} (instance $i) (export \"taskhost:task/tasks@0.1.0\" (instance $i)))"));
    let reason = refusal(bytes.clone()).await;
    assert!(reason.starts_with("it imports `acme:gpu/compute@1.0.0`, which this host does not have"), "{reason}");

    let world = World::new(&[]).await;
    let path = world.dir.path().join("gpu.wasm");
    write(world.dir.path(), "gpu.wasm", &bytes);
    let report = world.sandbox.check(&path).await;
    assert_eq!(report.imports.len(), 1);
    assert!(!report.imports[0].known);
    assert_eq!(report.exports, ["taskhost:task/tasks@0.1.0"]);
    assert!(report.refused.is_some_and(|reason| reason.contains("acme:gpu/compute@1.0.0")));
}

#[tokio::test]
async fn every_interface_that_is_called_known_is_linked() {
    // An import of nothing but the name is satisfied by any instance that is linked.
    for name in sandbox_interfaces() {
        let bytes = wat(&format!(
            "(component (import \"{name}\" (instance)) (instance $i) (export \"taskhost:task/tasks@0.1.0\" (instance $i)))"
        ));
        let reason = refusal(bytes).await;
        assert!(reason.starts_with("its export"), "{name}: {reason}");
    }
}

/// As the tools of most languages import them.
fn sandbox_interfaces() -> Vec<String> {
    let names = [
        "cli/environment",
        "cli/exit",
        "cli/stdin",
        "cli/stdout",
        "cli/stderr",
        "cli/terminal-input",
        "cli/terminal-output",
        "cli/terminal-stdin",
        "cli/terminal-stdout",
        "cli/terminal-stderr",
        "clocks/monotonic-clock",
        "clocks/wall-clock",
        "filesystem/preopens",
        "filesystem/types",
        "io/error",
        "io/poll",
        "io/streams",
        "random/random",
        "random/insecure",
        "random/insecure-seed",
        "sockets/network",
        "sockets/instance-network",
        "sockets/ip-name-lookup",
        "sockets/tcp",
        "sockets/tcp-create-socket",
        "sockets/udp",
        "sockets/udp-create-socket",
    ];
    let wasi = names.iter().flat_map(|name| ["0.2.0", "0.2.6"].map(|version| format!("wasi:{name}@{version}")));
    let drafts = ["0.2.0-draft", "0.2.0-draft-2024-09-27", "0.2.0-rc.1"];
    wasi.chain(["context", "secrets", "types"].map(|name| format!("taskhost:task/{name}@0.1.0")))
        .chain(drafts.map(|version| format!("wasi:config/store@{version}")))
        .chain(["wasi:logging/logging@0.1.0-draft".to_owned()])
        .collect()
}

#[tokio::test]
async fn describe_that_fails_is_a_reason() {
    let describe = |body: &str| Guest::echo("t").describe(body).build();
    let reason = refusal(describe("unreachable")).await;
    assert!(reason.starts_with("`describe` failed: trap: wasm `unreachable` instruction executed"), "{reason}");
    assert!(refusal(describe("(i32.const -8)")).await.contains("does not follow the interface"));
    assert_eq!(refusal(Guest::echo("t").no_tasks().build()).await, "it describes no tasks");
    let twice = Guest::echo("t").and_task("t", &[]).build();
    assert_eq!(refusal(twice).await, "it describes the task `t` twice");
    let nameless = Guest::echo("t").and_task("", &[]).build();
    assert_eq!(refusal(nameless).await, "task 2 of `describe`: task name is empty");
    let control = Guest::echo("a\u{7}b").build();
    assert!(refusal(control).await.contains("control character"));
}

#[tokio::test]
async fn options_come_from_describe_and_the_manifest_has_the_last_word() {
    let guest = Guest::echo("t")
        .task("t", &[("max_retries", "5"), ("time_limit", "10"), ("queue", "\"slow\""), ("colour", "\"red\"")]);
    let manifest =
        "name = \"p\"\nversion = \"1.2\"\n[tasks.t]\ntime_limit = 2.5\nrate_limit = \"10/m\"\n[tasks.nobody]\n";
    let world = World::new(&[("p/plugin.toml", manifest.as_bytes().to_vec()), ("p/p.wasm", guest.build())]).await;
    assert_eq!(world.loaded.refused, []);
    let options = &world.loaded.catalog.get(&TaskName::parse("t").expect("a name")).expect("served").options;
    assert_eq!(options.max_retries, Some(5));
    assert_eq!(options.time_limit, Some(Duration::from_millis(2500)));
    assert_eq!(options.rate_limit.flatten().map(|rate| rate.interval), Some(Duration::from_secs(6)));
    let report = &world.loaded.plugins[1];
    assert_eq!((report.name.as_str(), report.version.as_deref()), ("p", Some("1.2")));
    assert_eq!(
        report.warnings,
        [
            "task `t`: unknown option `colour` is ignored",
            "the manifest sets options of `nobody`, which is not a task of the plugin",
        ]
    );
    let task = &report.tasks[0];
    assert_eq!(task.spec.summary, "a task");
    let set = [("max_retries", "5"), ("queue", "\"slow\""), ("rate_limit", "\"10/m\""), ("time_limit", "2.5")];
    assert_eq!(task.options, set.map(|(name, value)| (name.to_owned(), value.to_owned())));
    assert_eq!(report.sha256.len(), 64);
}

#[tokio::test]
async fn automatic_retries_can_be_set_by_the_task_and_by_the_manifest() {
    let guest = Guest::echo("t").task("t", &[("autoretry_for", "[\"IOError\"]"), ("retry_backoff", "true")]);
    let manifest = "name = \"p\"\n[tasks.t]\nautoretry_for = [\"ValueError\", \"shop.errors.Busy\"]\nretry_backoff = 2.5\n\
        retry_backoff_max = 60\nretry_jitter = false\nmax_retries = 7\ndefault_retry_delay = 1.5\n";
    let options = |world: &World| {
        world.loaded.catalog.get(&TaskName::parse("t").expect("a name")).expect("served").options.clone()
    };
    let alone = options(&World::new(&[("p.wasm", guest.build())]).await);
    assert_eq!((alone.autoretry_for, alone.retry_backoff), (vec!["IOError".to_owned()], 1.0));
    let both = World::new(&[("p/plugin.toml", manifest.as_bytes().to_vec()), ("p/p.wasm", guest.build())]).await;
    let options = options(&both);
    assert_eq!(options.autoretry_for, ["ValueError", "shop.errors.Busy"]);
    assert_eq!((options.retry_backoff, options.retry_backoff_max), (2.5, Duration::from_secs(60)));
    assert_eq!((options.retry_jitter, options.max_retries), (false, Some(7)));
    assert_eq!(options.default_retry_delay, Duration::from_millis(1500));
    assert_eq!(both.loaded.plugins[1].warnings, Vec::<String>::new());
}

#[tokio::test]
async fn a_wrong_option_of_describe_names_task_option_and_value() {
    let wrong = |value| Guest::echo("t").task("t", &[("max_retries", value)]).build();
    let reason = refusal(wrong("\"many\"")).await;
    assert_eq!(reason, "task `t`: option `max_retries` is \"many\", expected a whole number, zero or more, or null");
    assert_eq!(refusal(wrong("{")).await, "task `t`: option `max_retries` is `{`, which is not JSON");
}

#[tokio::test]
async fn a_manifest_is_read_strictly() {
    for (manifest, expected) in [
        ("", "missing field `name`"),
        ("name = \"p\"\nversoin = \"1\"", "line 2: unknown key `versoin`; the nearest known is `version`"),
        ("name = \"p\"\n[limits]\nmemry = 1", "line 3: unknown key `memry`; the nearest known is `memory`"),
        (
            "name = \"p\"\n[limits]\nmemory = \"lots\"",
            "line 3: invalid value: string \"lots\", expected a size such as",
        ),
        ("name = \"p\"\n[limits]\nmemory = 0", "line 3: invalid value"),
        ("name = \"p\"\n[limits]\ncpu_time = -1", "line 3: invalid value"),
        (
            "name = \"p\"\n\n[tasks.t]\ntimelimit = 3",
            "line 4: unknown task option `timelimit`; the nearest known is `time_limit`",
        ),
        ("name = \"p\"\n[tasks.t]\ntime_limit = \"3\"", "line 3: option `time_limit` is \"3\", expected seconds"),
        ("name = \"p\"\n[needs]\ngpu = []", "line 3: unknown key `gpu`"),
        ("name = \"p\"\n[needs]\nenv = [\"A=1\"]", "line 3: \"A=1\" is no name"),
        ("name = \"p\"\n[needs]\nenv = [\"A\",\n\"A\"]", "line 4: `A` is needed twice"),
        ("name = \"p\"\n[needs]\nfs = [\"data\"]", "line 3: \"data\" is no path for a plugin, such as /data"),
        ("name = \"p\"\ncomponent = \"../p.wasm\"", "line 2: component `../p.wasm` is not a file beside plugin.toml"),
        ("name = \"\"", "line 1: plugin name is empty"),
        ("name = p", "line 1: "),
    ] {
        let world = World::new(&[("p/plugin.toml", manifest.as_bytes().to_vec())]).await;
        let reason = world.refused();
        assert!(reason.contains(expected), "{manifest:?}: {reason}");
        assert!(reason.contains("p/plugin.toml"), "{reason}");
    }
}

#[tokio::test]
async fn a_manifest_may_say_anything_about_the_build() {
    let manifest = "name = \"p\"\ncomponent = \"x.wasm\"\n[build]\nlanguage = \"rust\"\nanything = [1, 2]\n";
    let world =
        World::new(&[("p/plugin.toml", manifest.as_bytes().to_vec()), ("p/x.wasm", Guest::echo("t").build())]).await;
    assert_eq!(world.loaded.refused, []);
    assert_eq!(world.loaded.plugins.len(), 2);
}

#[tokio::test]
async fn a_manifest_cannot_raise_the_operators_limits() {
    let manifest = "name = \"p\"\n[limits]\nmemory = \"1GiB\"\nresult = 1000\n";
    let world =
        World::new(&[("p/plugin.toml", manifest.as_bytes().to_vec()), ("p/p.wasm", Guest::echo("t").build())]).await;
    assert_eq!(
        world.loaded.plugins[1].warnings,
        ["the manifest asks for a memory limit of 1073741824 bytes, the host allows 134217728: 134217728 it is"]
    );
}

#[tokio::test]
async fn of_two_claims_the_one_that_sorts_first_wins() {
    let guest = || Guest::echo("t").build();
    let world = World::new(&[("b.wasm", guest()), ("a.wasm", guest())]).await;
    assert_eq!(world.refused(), "its task `t` is served by the plugin `a` already");
    assert!(world.loaded.refused[0].path.ends_with("b.wasm"));
    let world = World::new(&[
        ("x.wasm", guest()),
        ("y/plugin.toml", b"name = \"x\"".to_vec()),
        ("y/x.wasm", Guest::echo("u").build()),
    ])
    .await;
    assert!(world.refused().starts_with("the plugin `x` is loaded from `"), "{}", world.refused());
    world.check_alive().await;
}

#[tokio::test]
async fn the_name_of_the_workers_own_tasks_is_taken() {
    let expected = "`celery` is what the worker's own tasks belong to: give the plugin another name";
    let guest = || Guest::echo("t").build();
    let world = World::new(&[("celery.wasm", guest())]).await;
    assert_eq!(world.refused(), expected);
    let world = World::new(&[("p/plugin.toml", b"name = \"celery\"".to_vec()), ("p/p.wasm", guest())]).await;
    assert!(
        world.loaded.refused.iter().any(|refused| refused.reason.ends_with(expected)),
        "{:?}",
        world.loaded.refused
    );
    world.check_alive().await;
}

#[tokio::test]
async fn a_task_that_takes_the_place_of_the_workers_own_is_told_of() {
    let world = World::guest(&Guest::echo("celery.ping")).await;
    let guest = world.loaded.plugins.iter().find(|plugin| plugin.name == "guest").expect("it is loaded");
    assert_eq!(guest.warnings, ["task `celery.ping` takes the place of the worker's own task of this name"]);
}

#[tokio::test]
async fn a_folder_may_be_a_plugin_itself_and_other_files_do_not_matter() {
    let world = World::new(&[
        ("plugin.toml", b"name = \"own\"\ncomponent = \"own.wasm\"".to_vec()),
        ("own.wasm", Guest::echo("t").build()),
        (".hidden.wasm", b"being copied".to_vec()),
        ("README.md", b"words".to_vec()),
        ("empty/readme", b"words".to_vec()),
    ])
    .await;
    assert_eq!(world.loaded.refused, []);
    let names: Vec<_> = world.loaded.plugins.iter().map(|plugin| plugin.name.as_str()).collect();
    assert_eq!(names, ["good", "own"]);
    world.outcome().await;
}

#[tokio::test]
async fn a_missing_folder_or_component_is_a_refusal() {
    let world = World::new(&[("p/plugin.toml", b"name = \"p\"".to_vec())]).await;
    assert!(world.refused().starts_with("read the component: "), "{}", world.refused());
    let loaded = world.sandbox.load_folder(&world.dir.path().join("nowhere")).await;
    assert!(loaded.refused[0].reason.starts_with("read the folder: "));
    assert!(loaded.catalog.is_empty());
}

#[cfg(unix)]
#[tokio::test]
async fn what_every_user_can_replace_is_not_loaded() {
    use std::os::unix::fs::PermissionsExt;
    let world =
        World::new(&[("p/plugin.toml", b"name = \"p\"".to_vec()), ("p/p.wasm", Guest::echo("t").build())]).await;
    assert_eq!(world.loaded.refused, []);
    for (path, refused) in [("p/p.wasm", 1), ("p", 1), ("", 1)] {
        let path = world.dir.path().join(path);
        let before = path.metadata().expect("it is there").permissions();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(before.mode() | 0o002)).expect("it is ours");
        let loaded = world.sandbox.load_folder(world.dir.path()).await;
        std::fs::set_permissions(&path, before).expect("it is ours");
        assert_eq!(loaded.refused.len(), refused, "{}", path.display());
        assert!(loaded.refused[0].reason.contains("can be written by every user"), "{:?}", loaded.refused);
        assert_eq!(loaded.plugins.len(), if path == world.dir.path() { 0 } else { 1 });
    }
}

#[tokio::test]
async fn a_check_reports_what_a_plugin_is_without_serving_it() {
    let world = World::new(&[]).await;
    let folder = world.dir.path().join("later");
    write(&folder, "plugin.toml", b"name = \"later\"\nversion = \"0.3\"");
    write(&folder, "later.wasm", &Guest::echo("later.task").build());
    for path in [folder.clone(), folder.join("plugin.toml"), folder.join("later.wasm")] {
        let report = world.sandbox.check(&path).await;
        assert_eq!(report.refused, None);
        assert_eq!((report.name.as_str(), report.version.as_deref()), ("later", Some("0.3")));
        assert_eq!(report.tasks[0].spec.name.as_str(), "later.task");
        assert!(report.imports.iter().all(|import| import.known));
    }
    assert!(world.loaded.catalog.get(&TaskName::parse("later.task").expect("a name")).is_none());
    let report = world.sandbox.check(&world.dir.path().join("nowhere.wasm")).await;
    assert!(report.refused.is_some_and(|reason| reason.starts_with("read the component: ")));
}

#[tokio::test]
async fn a_sandbox_without_a_pool_does_the_same() {
    // No machine has the addresses for so many, which is the same as having none for a pool.
    let hostname = NodeName::parse("taskhost@test").expect("a name");
    let huge = Config {
        concurrency: 1 << 24,
        hostname,
        limits: Limits::default(),
        grants: Default::default(),
        cache: None,
        scratch_dir: None,
        wasi_0_3: false,
    };
    let sandbox = Sandbox::new(huge).expect("a sandbox, if not a pooled one");
    assert!(!sandbox.is_pooled());
    let world = World::guest(&Guest::echo("t")).await;
    let loaded = sandbox.load_folder(world.dir.path()).await;
    assert_eq!(loaded.refused, []);
    let finished = sandbox.invoke(world.attempt("t"), std::future::pending()).await;
    assert!(matches!(finished.outcome, taskhost_core::Outcome::Success(_)));
    let grow =
        "(loop $l (if (i32.eq (memory.grow (i32.const 16)) (i32.const -1)) (then unreachable)) (br $l)) unreachable";
    write(world.dir.path(), "guest.wasm", &Guest::new(grow).build());
    let many: String = (0..40).map(|_| "(memory 1)").collect();
    write(world.dir.path(), "many.wasm", &Guest::echo("u").field(&many).build());
    let loaded = sandbox.load_folder(world.dir.path()).await;
    assert!(loaded.refused[0].reason.contains("memory count too high"), "{:?}", loaded.refused);
    let finished = sandbox.invoke(world.attempt("t"), std::future::pending()).await;
    assert!(matches!(finished.outcome, taskhost_core::Outcome::Trapped(taskhost_core::Trap::MemoryLimit { .. })));
}

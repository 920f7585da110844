//! Plugins that change, break, come and go while a worker runs.

use std::collections::BTreeMap;
use std::fs;

use it::{Engine, Site};
use serde_json::{Value, json};

use crate::guest::{Guest, SLEEP};

/// A plugin whose task `t` answers with this text.
pub(crate) fn answers(text: &str) -> Vec<u8> {
    Guest::answer(&format!("\"{text}\"")).build()
}

/// The same after a while.
fn answers_late(text: &str) -> Vec<u8> {
    let escaped: String = format!("\"{text}\"").bytes().map(|byte| format!("\\{byte:02x}")).collect();
    Guest::new(&format!(
        "(call $block (call $subscribe (i64.const 200000000))) (call $ok (i32.const 512) (i32.const {}))",
        text.len() + 2
    ))
    .field(&format!("(data (i32.const 512) \"{escaped}\")"))
    .import(SLEEP)
    .build()
}

/// Puts a file in its place in one step, as a careful deployment does.
pub(crate) fn put(site: &Site, name: &str, bytes: &[u8]) {
    let beside = site.path("beside");
    fs::write(&beside, bytes).expect("the folder is writable");
    fs::create_dir_all(site.path(name).parent().expect("it is below a folder")).expect("the folder is writable");
    fs::rename(&beside, site.path(name)).expect("the folder is writable");
}

#[test]
fn a_plugin_is_replaced_under_a_running_worker_and_a_broken_one_is_not() {
    let Some(site) = Site::open(Engine::Embedded) else { return };
    put(&site, "plugins/p.wasm", &answers("one"));
    let host = site.host_named("w@localhost", &[]);
    assert_eq!(site.client("emit(call('t'))"), json!("one"));

    put(&site, "plugins/p.wasm", &answers("two"));
    host.wait_for("plugin `p`: version");
    assert_eq!(site.client("emit(call('t'))"), json!("two"));

    put(&site, "plugins/p.wasm", &answers("three")[..300]);
    host.wait_for("of plugin `p` goes on serving");
    assert_eq!(site.client("emit(call('t'))"), json!("two"));
    let listed = site.bare_command(&["plugin", "list", "-n", "w@localhost"]);
    assert_eq!(listed.status.code(), Some(1));
    for text in ["[p] ", "refused: ", "compile it: ", "goes on serving in its place", "2 attempts, 0 failed"] {
        assert!(listed.out.contains(text), "{text}: {}", listed.out);
    }

    put(&site, "plugins/p.wasm", &answers("four"));
    host.wait_for_count("plugin `p`: version", 2);
    let listed = site.bare_command(&["plugin", "list", "--json", "-n", "w@localhost"]).success();
    let listed: Value = serde_json::from_str(&listed.out).expect("JSON");
    assert_eq!(listed["refused"], json!([]));
    assert_eq!(listed["reloads"], json!({"done": 2, "refused": 1}));
    assert_eq!(listed["worker"], json!("w@localhost"));
}

#[test]
fn tasks_of_a_plugin_that_is_deleted_wait_until_it_is_back() {
    let Some(site) = Site::open(Engine::RabbitMqRedis) else { return };
    put(&site, "plugins/p.wasm", &answers("one"));
    let host = site.host_named("w@localhost", &[]);
    assert_eq!(site.client("emit(call('t'))"), json!("one"));
    fs::remove_file(site.path("plugins/p.wasm")).expect("it is there");
    host.wait_for("plugin `p` is gone");
    let waiting = site.start_client("result = send('t')\nemit('sent')\nemit(get(result))");
    waiting.wait_for("sent");
    host.wait_for("it is kept in the queue");
    put(&site, "plugins/p.wasm", &answers("two"));
    assert_eq!(waiting.finish(), json!("two"));
}

#[test]
fn what_is_granted_later_is_there_after_a_reload() {
    let Some(site) = Site::open(Engine::Embedded) else { return };
    site.write("plugins/demo/plugin.toml", "name = \"demo\"\ncomponent = \"demo.wasm\"\n");
    site.write("host.toml", "");
    let host = site.host_named("w@localhost", &[]);
    site.write(
        "plugins/demo/plugin.toml",
        "name = \"demo\"\ncomponent = \"demo.wasm\"\n[needs]\nconfig = [\"region\"]\n",
    );
    host.wait_for("not granted: add `config = [\"region=VALUE\"]`");
    assert_eq!(site.client("emit(call('tasks.add', 2, 2))"), json!(4));
    site.write("host.toml", "[grants.demo]\nconfig = [\"region=eu\"]\n");
    site.bare_command(&["plugin", "reload", "-n", "w@localhost"]).success();
    assert_eq!(site.client("emit(call('tasks.config', 'region'))"), json!("eu"));

    site.write("host.toml", "[grants.demo]\nconfig = \"region\"\n");
    let refused = site.bare_command(&["plugin", "reload", "-n", "w@localhost"]);
    refused.refused(&["host.toml:2", "expected key=value"]);
    assert_eq!(site.client("emit(call('tasks.config', 'region'))"), json!("eu"));
    site.write("host.toml", "");
    let nobody = site.bare_command(&["plugin", "reload", "-n", "other@localhost"]);
    nobody.refused(&["no worker listens on", "name the worker as it was started"]);
}

/// Publishes without a pause until it is told to stop, then asks for every result.
const STREAM: &str = r#"
results = [send("t") for _ in range(100)]
emit("streaming")
while not os.path.exists("stop"):
    results += [send("t") for _ in range(5)]
    time.sleep(0.05)
emit({result.id: get(result) for result in results})
"#;

#[test]
fn two_hundred_reloads_lose_nothing_and_run_nothing_twice() {
    const RELOADS: usize = 200;
    let Some(site) = Site::open(Engine::RabbitMqRedis) else { return };
    put(&site, "plugins/p.wasm", &answers_late("0"));
    let host = site.host_named("w@localhost", &["-c", "100", "-l", "info"]);
    let client = site.start_client(STREAM);
    client.wait_for("streaming");
    let mut good = vec!["0".to_owned()];
    for turn in 1..=RELOADS {
        let is_good = turn % 3 != 2;
        let bytes = answers_late(&turn.to_string());
        put(&site, "plugins/p.wasm", if is_good { &bytes } else { &bytes[..bytes.len() / 2] });
        let reloaded = site.bare_command(&["plugin", "reload", "-n", "w@localhost"]);
        assert_eq!(reloaded.status.success(), is_good, "{turn}: {}{}", reloaded.out, reloaded.err);
        if is_good {
            good.push(turn.to_string());
        }
    }
    site.write("stop", "");
    let Value::Object(results) = client.finish() else { panic!("an object of results") };
    assert!(results.len() > 100, "{}", results.len());
    let mut by_version: BTreeMap<&str, usize> = BTreeMap::new();
    for (id, result) in &results {
        let version = result.as_str().expect("a text");
        assert!(good.iter().any(|good| good == version), "{id}: {version}");
        *by_version.entry(version).or_default() += 1;
        let runs = host.lines_with(&format!("Task t[{id}] succeeded"));
        assert_eq!(runs.len(), 1, "{runs:?}");
    }
    assert!(by_version.len() > 20, "tasks ran all the while: {by_version:?}");
}

fn tried(site: &Site, percent: u32, period: &str, component: &[u8]) {
    let manifest =
        format!("name = \"p\"\n[rollout]\npercent = {percent}\nfor = \"{period}\"\nmax_failure_rate = 0.2\n");
    put(site, "plugins/p/plugin.toml", manifest.as_bytes());
    put(site, "plugins/p/p.wasm", component);
}

#[test]
fn a_version_on_trial_is_promoted_if_it_is_good_and_taken_back_if_it_is_not() {
    let Some(site) = Site::open(Engine::Redis) else { return };
    tried(&site, 50, "3s", &answers("one"));
    let host = site.host_named("w@localhost", &[]);
    tried(&site, 50, "3s", &answers("two"));
    host.wait_for("is tried with 50 % of the attempts");
    let some = site.client("emit(sorted({call('t') for _ in range(40)}))");
    assert_eq!(some, json!(["one", "two"]));
    host.wait_for("has stood its trial: 0 of");
    host.wait_for("serves now");
    assert_eq!(site.client("emit(sorted({call('t') for _ in range(20)}))"), json!(["two"]));

    let bad = Guest::new("unreachable").build();
    tried(&site, 50, "1h", &bad);
    host.wait_for_count("is tried with 50 % of the attempts", 2);
    let ends = "emit(sorted({json.dumps(outcome(send('t')).get('value')) for _ in range(60)}))";
    assert_eq!(site.client(ends), json!(["\"two\"", "null"]));
    host.wait_for("is taken back: ");
    assert_eq!(site.client("emit(sorted({call('t') for _ in range(20)}))"), json!(["two"]));
    let listed = site.bare_command(&["plugin", "list", "-n", "w@localhost"]);
    assert!(listed.out.contains("attempts failed; the worker has taken this version back"), "{}", listed.out);
}

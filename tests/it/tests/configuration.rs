//! What the host says before it works: the banner, the configuration, and every mistake by its name and place.

use it::{Engine, Site};
use serde_json::json;

/// Runs a worker that must end with an error which holds all these texts, before it opens anything.
#[track_caller]
fn check_refused(site: &Site, options: &[&str], texts: &[&str]) {
    site.bare_command(&[&["run"], options].concat()).refused(texts);
    assert!(!site.path("host.db").exists(), "it had begun to work");
}

#[test]
fn a_wrong_key_is_named_with_file_line_and_what_was_meant() {
    let Some(site) = Site::open(Engine::Embedded) else { return };
    site.write("host.toml", "[task]\nacks_late = true\ntrack_startd = true\n");
    check_refused(&site, &[], &["host.toml", "3", "track_startd", "track_started"]);
    site.write("other.toml", "[worker]\nconcurrency = \"many\"\n");
    check_refused(&site, &["--config", "other.toml"], &["other.toml", "2", "concurrency", "many"]);
    site.write("host.toml", "[task\n");
    check_refused(&site, &[], &["host.toml", "1"]);
    site.write("host.toml", "");
    check_refused(&site, &["--set", "task_ack_late=true"], &["task_ack_late", "task_acks_late"]);
    check_refused(&site, &["--config", "missing.toml"], &["missing.toml"]);
}

#[test]
fn a_wrong_url_is_named_without_its_password() {
    let Some(site) = Site::open(Engine::Embedded) else { return };
    for options in [
        ["-b", "gopher://user:sesame@example.org//"],
        ["-b", "not a url sesame"],
        ["-r", "gopher://user:sesame@example.org/0"],
    ] {
        let ended = site.bare_command(&[&["run"], &options[..]].concat());
        assert!(!ended.status.success());
        let option = if options[0] == "-b" { "broker" } else { "result" };
        assert!(ended.err.contains(option), "{}", ended.err);
        assert!(options[1].starts_with("not") || !ended.err.contains("sesame"), "{}", ended.err);
    }
    assert!(!site.path("host.db").exists(), "it had begun to work");
}

#[test]
fn a_plugins_folder_that_is_not_there_is_named() {
    let Some(site) = Site::open(Engine::Embedded) else { return };
    check_refused(&site, &["--plugins", "plugin"], &["plugin"]);
}

#[test]
fn bad_plugins_are_reported_and_the_others_serve() {
    let Some(site) = Site::open(Engine::Embedded) else { return };
    site.write("plugins/rubbish.wasm", "this is no WebAssembly");
    site.write("plugins/misspelt/plugin.toml", "name = \"misspelt\"\nversoin = \"1\"\n");
    let host = site.host(&[]);
    host.wait_for("rubbish.wasm");
    let line = host.wait_for("misspelt");
    let all = host.transcript();
    assert!(all.contains("versoin") && all.contains("plugin.toml"), "{line}");
    assert_eq!(site.client("emit(call('tasks.add', 2, 2))"), json!(4));
}

#[test]
fn the_banner_says_what_runs_where() {
    let Some(mut site) = Site::open(Engine::RabbitMqRedis) else { return };
    site.broker = site.broker.replace("guest:guest", "guest:%67uest");
    let host = site.host(&["-c", "3"]);
    let banner = host.transcript();
    for part in [&*host.node, &site.queue, "tasks.add", "demo", "127.0.0.1", "3"] {
        assert!(banner.contains(part), "no `{part}` in the banner");
    }
    assert!(!banner.contains("%67uest"), "the password is shown");
}

#[test]
fn the_banner_of_the_embedded_default_has_the_clients_url() {
    let Some(site) = Site::open(Engine::Embedded) else { return };
    let host = site.host(&[]);
    let folder = site.folder().canonicalize().expect("it exists");
    host.wait_for(&format!("sqla+sqlite:///{}/host.db", folder.display()));
}

#[test]
fn a_worker_without_plugins_says_what_to_do_and_rejects_nothing() {
    let Some(site) = Site::open(Engine::Embedded) else { return };
    std::fs::create_dir(site.path("empty")).expect("the temporary folder is writable");
    let ended = site.bare_command(&["run", "--plugins", "empty"]).refused(&["no tasks to run"]);
    assert!(ended.out.contains("put a plugin (.wasm) into empty"), "{}", ended.out);
}

#[test]
fn config_shows_values_with_their_origin_and_no_password() {
    let Some(site) = Site::open(Engine::Embedded) else { return };
    site.write("host.toml", "[task]\ntrack_started = true\n");
    let arguments = ["config", "-b", "amqp://user:sesame@example.org//", "--set", "task_acks_late=false"];
    let shown = site.bare_command(&arguments).success().out;
    assert!(!shown.contains("sesame"), "{shown}");
    for (key, value, origin) in [
        ("track_started", "true", "host.toml"),
        ("acks_late", "false", "--set"),
        ("url", "example.org", "--broker"),
        ("prefetch_multiplier", "4", "default"),
    ] {
        let line = shown.lines().find(|line| line.contains(key)).unwrap_or_else(|| panic!("no `{key}` in:\n{shown}"));
        assert!(line.contains(value) && line.contains(origin), "no `{value}` or no `{origin}` in: {line}");
    }
    let shown = site.bare_command(&["config", "--json"]).success().out;
    let parsed: serde_json::Value = serde_json::from_str(&shown).expect("it is JSON");
    assert!(parsed.is_object());
}

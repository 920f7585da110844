//! What plugins keep from one task to the next.

use it::{Engine, Site};
use serde_json::json;

/// The site whose plugin has these buckets; none if this machine lacks something.
fn site(engine: Engine, needs: &str, grant: &str) -> Option<Site> {
    let site = Site::open(engine)?;
    let needs = format!("name = \"demo\"\ncomponent = \"demo.wasm\"\n[needs]\nkeyvalue = {needs}\n");
    site.write("plugins/demo/plugin.toml", &needs);
    site.write("host.toml", &format!("[grants.demo]\nkeyvalue = {grant}\n"));
    Some(site)
}

/// Everything that can be done with a bucket, across two workers.
fn values_outlive_the_worker(site: &Site, options: &[&str]) {
    let code = r#"
def keep(action, key="", text=""):
    return call("tasks.keep", "cache", action, key, text)

answers = [keep("get", "a"), keep("set", "a", "one"), keep("get", "a"), keep("exists", "a")]
jobs = [send("tasks.keep", "cache", "increment", "n", "1") for _ in range(20)]
jobs += [send("tasks.keep", "cache", "append", "log", "x") for _ in range(20)]
for job in jobs:
    get(job)
answers += [keep("increment", "n", "-5"), keep("get", "log"), keep("keys"), keep("delete", "a"), keep("get", "a")]
answers.append(fails("tasks.keep", "cache", "increment", "log", "1")["args"][0])
emit(answers)
"#;
    let mut first = site.host(options);
    let expected = json!([
        null,
        null,
        "one",
        true,
        15,
        "x".repeat(20),
        ["a", "log", "n"],
        null,
        null,
        "the value under `log` is no whole number, or the sum would be none of 64 bits",
    ]);
    assert_eq!(site.client(code), expected);
    assert!(first.stop().success());
    let _second = site.host(options);
    assert_eq!(site.client("emit(call('tasks.keep', 'cache', 'get', 'n'))"), json!("15"));
}

#[test]
fn values_outlive_the_worker_in_a_file() {
    let Some(site) = site(Engine::Embedded, "[\"cache\"]", "[\"cache\"]") else { return };
    values_outlive_the_worker(&site, &[]);
    assert!(site.path("host-keyvalue.db").exists(), "they are somewhere else");
}

#[test]
fn values_outlive_the_worker_in_redis() {
    let Some(site) = Site::open(Engine::Redis) else { return };
    // Redis is shared by all tests, a plugin's space is not: this one has a name of its own.
    let url = site.backend.clone();
    let name = format!("demo-{}", site.queue());
    let manifest = format!("name = \"{name}\"\ncomponent = \"demo.wasm\"\n[needs]\nkeyvalue = [\"cache\"]\n");
    site.write("plugins/demo/plugin.toml", &manifest);
    site.write("host.toml", &format!("[grants.\"{name}\"]\nkeyvalue = [\"cache={url}\"]\n"));
    values_outlive_the_worker(&site, &[]);
    assert!(!site.path("host-keyvalue.db").exists(), "a file that nobody needs");
}

#[test]
fn a_bucket_is_there_if_it_is_declared_and_granted_and_values_have_a_limit() {
    let Some(site) = site(Engine::Embedded, "[\"cache\"]", "[\"cache\", \"other\"]") else { return };
    let _host = site.host(&["--set", "limits.keyvalue_value=10"]);
    let code = r#"
emit([fails("tasks.keep", "other", "get", "a")["args"][0], fails("tasks.keep", "cache", "set", "a", "x" * 11)["args"][0],
      fails("tasks.keep", "cache", "get", "k" * 1025)["args"][0], fails("tasks.keep", "cache", "get", "")["args"][0]])
"#;
    let denied = "keyvalue `other` is denied: the plugin does not declare it; add `keyvalue = [\"other\"]` to [needs] of \
                  plugin.toml and grant it in [grants.\"demo\"] of host.toml";
    let expected = json!([
        denied,
        "the value has 11 bytes; limits.keyvalue_value is 10 bytes",
        "the key has 1025 bytes, more than 1024",
        "the key is empty",
    ]);
    assert_eq!(site.client(code), expected);
}

#[test]
fn the_password_of_a_bucket_is_not_shown_and_its_url_is_checked() {
    let Some(site) = site(Engine::Embedded, "[\"cache\"]", "[\"cache=redis://:hunter2@box/2\"]") else { return };
    let shown = site.bare_command(&["config"]).success();
    assert!(shown.out.contains("cache=redis://:**@box/2") && !shown.out.contains("hunter2"), "{}", shown.out);
    site.write("host.toml", "[grants.demo]\nkeyvalue = [\"cache=amqp://:hunter2@box//\"]\n");
    let failed = site
        .bare_command(&["config"])
        .refused(&["grants.\"demo\".keyvalue: bucket `cache`: expected the URL of a Redis server or an SQLite file"]);
    assert!(!failed.err.contains("hunter2"), "{}", failed.err);
}

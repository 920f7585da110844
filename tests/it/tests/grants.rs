//! Two keys: what a plugin declares and its operator grants it has, and nothing else.

use it::{Engine, Site};
use serde_json::json;

const COMPONENT: &str = "name = \"demo\"\ncomponent = \"demo.wasm\"\n";

/// The site with this `[needs]` and this `[grants.demo]`; none if this machine lacks something.
fn site(needs: &str, grant: &str) -> Option<Site> {
    let site = Site::open(Engine::Embedded)?;
    site.write("plugins/demo/plugin.toml", &format!("{COMPONENT}[needs]\n{needs}\n"));
    site.write("host.toml", &format!("[grants.demo]\n{grant}\n"));
    Some(site)
}

#[test]
fn nothing_is_there_that_was_not_granted() {
    let Some(site) = Site::open(Engine::Embedded) else { return };
    site.write("secret.txt", "out of reach");
    let _host = site.host(&[]);
    let code = r#"
ends = [fails("tasks.config", "region"), fails("tasks.secret", "key"), fails("tasks.read", "/data/secret.txt")]
ends += [fails("tasks.write", "/tmp/x", "x"), fails("tasks.read", "secret.txt"), fails("tasks.read", "/etc/passwd")]
emit([call("tasks.env", "PATH"), [end["state"] for end in ends], [end["args"][0] for end in ends[:2]]])
"#;
    let denied = |option: &str, name: &str| {
        format!(
            "{option} `{name}` is denied: the plugin does not declare it; add `{option} = [\"{name}\"]` to [needs] of \
             plugin.toml and grant it in [grants.\"demo\"] of host.toml"
        )
    };
    let texts = json!([denied("config", "region"), denied("secrets", "key")]);
    assert_eq!(site.client(code), json!([null, vec!["FAILURE"; 6], texts]));
}

#[test]
fn what_is_declared_and_granted_is_there() {
    let Some(data) = Site::open(Engine::Embedded) else { return };
    let (readable, writable) = (data.path("readable"), data.path("writable"));
    data.write("readable/in.txt", "from outside");
    data.write("readable/sub/deep.txt", "deeper");
    data.write("writable/old.txt", "old");
    data.write("token", "hunter2-hunter2\n");
    let needs = r#"
env = ["LANG", "GREETING"]
config = ["region"]
secrets = ["token"]
fs = ["/in", "/out:rw"]
"#;
    let grant = format!(
        "env = [\"LANG\", \"GREETING=hello\", \"HOME\"]\nconfig = [\"region=eu-west\"]\nsecrets = [\"token=file:{}\"]\n\
         fs = [\"/in={}\", \"/out={}:rw\"]\n",
        data.path("token").display(),
        readable.display(),
        writable.display()
    );
    let Some(site) = site(needs, &grant) else { return };
    let host = site.host(&[]);
    let code = r#"
got = [call("tasks.env", "GREETING"), call("tasks.env", "HOME"), call("tasks.config", "region"), call("tasks.secret", "token")]
got += [call("tasks.read", "/in/in.txt"), call("tasks.read", "/in/sub/deep.txt"), call("tasks.write", "/out/new.txt", "new")]
escapes = ["/in/../token", "/in/sub/../../token", "/in/link", "/token", "/proc/self/environ"]
ends = [fails("tasks.read", path)["state"] for path in escapes]
ends += [fails("tasks.write", "/in/in.txt", "x")["state"], fails("tasks.write", "/in/new.txt", "x")["state"]]
emit([got, ends])
"#;
    #[cfg(unix)]
    std::os::unix::fs::symlink(data.path("token"), readable.join("link")).expect("the folder is writable");
    let got = json!(["hello", null, "eu-west", 15, "from outside", "deeper", null]);
    assert_eq!(site.client(code), json!([got, vec!["FAILURE"; 7]]));
    assert_eq!(std::fs::read_to_string(writable.join("new.txt")).expect("it was written"), "new");
    assert_eq!(std::fs::read_to_string(readable.join("in.txt")).expect("it is there"), "from outside");
    assert!(!host.wait_for("the secret is").contains("hunter2"), "a secret in the log");
}

#[test]
fn a_plugin_that_declares_more_than_it_is_granted_is_refused_with_the_line_to_add() {
    let Some(site) = site("env = [\"LANG\"]\nsecrets = [\"key\"]", "env = [\"LANG\"]") else { return };
    let refused = site.bare_command(&["plugin", "list", "--plugins", "plugins"]);
    let line = "it declares secrets `key`, not granted: add `secrets = [\"key=env:VARIABLE\"]` to [grants.\"demo\"] of \
                host.toml";
    assert!(refused.out.contains(line), "{}", refused.out);
    let checked = site.bare_command(&["plugin", "check", "plugins/demo"]);
    assert!(!checked.status.success());
    for text in ["env `LANG`     declared and granted", "secrets `key`  declared, NOT GRANTED", line] {
        assert!(checked.out.contains(text), "no `{text}` in\n{}", checked.out);
    }
}

#[test]
fn a_grant_can_be_for_some_tasks_and_one_component() {
    let needs = "config = [\"region\"]";
    let Some(some) = site(needs, "config = [\"region=eu\"]\ntasks = [\"tasks.other\"]") else { return };
    let _host = some.host(&[]);
    let told = some.client("emit(fails('tasks.config', 'region')['args'][0])");
    let expected =
        "config `region` is denied: [grants.\"demo\"] of host.toml is for tasks tasks.other, not for `tasks.config`";
    assert_eq!(told, json!(expected));

    let pin = "ab".repeat(32);
    let Some(pinned) = site(needs, &format!("config = [\"region=eu\"]\nsha256 = \"{pin}\"")) else { return };
    let listed = pinned.bare_command(&["plugin", "list", "--plugins", "plugins"]);
    assert!(listed.out.contains("its grant in host.toml is for the component with sha256 abab"), "{}", listed.out);
}

#[test]
fn a_mistake_in_a_grant_is_named_with_its_place_and_shows_no_secret() {
    let Some(site) = site("", "secrets = [\"key=hunter2\"]\nfs = [\"data\"]") else { return };
    let failed = site.bare_command(&["config"]).refused(&[
        "host.toml:2:11: grants.\"demo\".secrets: expected name=env:VARIABLE or name=file:/path",
        "host.toml:3:6: grants.\"demo\".fs: expected /path/for/the/plugin=/folder/of/this/machine, found \"data\"",
    ]);
    assert!(!failed.err.contains("hunter2"), "{}", failed.err);
}

#[test]
fn a_missing_grant_is_written_after_it_was_shown() {
    let Some(site) = site("env = [\"LANG\"]\nconfig = [\"region\"]", "# mine") else { return };
    site.bare_command(&["plugin", "grant", "demo", "-f"])
        .refused(&["declares what only you can know", "config=region=VALUE"]);
    site.bare_command(&["plugin", "grant", "demo", "gpu=1"]).refused(&["`gpu` cannot be granted"]);
    site.bare_command(&["plugin", "grant", "nobody"]).refused(&["there is no plugin nobody in plugins"]);
    // Nobody can be asked here, and nothing is written without.
    let asked = ["plugin", "grant", "demo", "config=region=eu"];
    let shown = site.bare_command(&asked).refused(&["cannot ask"]);
    assert!(shown.out.contains("config = [\"region=eu\"]\nenv = [\"LANG\"]\n"), "{}", shown.out);
    assert_eq!(std::fs::read_to_string(site.path("host.toml")).expect("it is there"), "[grants.demo]\n# mine\n");

    site.bare_command(&["plugin", "grant", "demo", "config=region=eu", "--pin", "-f"]).success();
    let written = std::fs::read_to_string(site.path("host.toml")).expect("it is there");
    assert!(written.starts_with("[grants.demo]\nconfig = [\"region=eu\"]\nenv = [\"LANG\"]\nsha256 = \""), "{written}");
    assert!(written.ends_with("\"\n# mine\n"), "{written}");
    site.bare_command(&["plugin", "list", "--plugins", "plugins"]).success();
    let again = site.bare_command(&["plugin", "grant", "demo", "-f"]).success();
    assert!(again.out.contains("is granted all that it declares"), "{}", again.out);
}

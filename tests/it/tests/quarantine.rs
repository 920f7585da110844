//! A plugin that breaks again and again is left alone for a while, and nobody else suffers.

use it::{Engine, Site};
use serde_json::json;

use crate::guest::Guest;
use crate::reload::{answers, put};

on_every_engine! {
    a_plugin_that_traps_again_and_again_is_parked_until_a_better_version_comes
}

const RULE: &str = "[quarantine]\nviolations = 3\nwindow = \"5m\"\npause = \"1h\"\n";

fn a_plugin_that_traps_again_and_again_is_parked_until_a_better_version_comes(site: &Site) {
    site.write("host.toml", RULE);
    put(site, "plugins/p.wasm", &Guest::new("unreachable").build());
    let host = site.host(&[]);
    let ends = site.client("emit([fails('t')['state'] for _ in range(3)])");
    assert_eq!(ends, json!(["FAILURE", "FAILURE", "FAILURE"]));
    host.wait_for("QUARANTINE: plugin `p` trapped, timed out or exhausted its memory 3 times within 300 s");
    let waiting =
        site.start_client("results = [send('t') for _ in range(4)]\nemit('sent')\nemit([get(r) for r in results])");
    waiting.wait_for("sent");
    host.wait_for_count("its plugin is in quarantine", 4);
    assert_eq!(site.client("emit(call('tasks.add', 2, 2))"), json!(4));
    let listed = site.bare_command(&["plugin", "list", "-n", &host.node]);
    assert!(listed.out.contains("IN QUARANTINE"), "{}{}", listed.out, listed.err);
    put(site, "plugins/p.wasm", &answers("better"));
    assert_eq!(waiting.finish(), json!(["better", "better", "better", "better"]));
}

#[test]
fn after_the_pause_one_task_shows_whether_the_others_may_run() {
    let Some(site) = Site::open(Engine::RabbitMqRedis) else { return };
    site.write("host.toml", "[quarantine]\nviolations = 2\nwindow = \"5m\"\npause = \"2s\"\n");
    // Traps with an argument and answers without.
    let guest = Guest::new(
        "(if (i32.gt_u (local.get 5) (i32.const 2)) (then unreachable)) (call $ok (local.get 4) (local.get 5))",
    );
    put(&site, "plugins/p.wasm", &guest.build());
    let host = site.host(&[]);
    site.client("emit([fails('t', 1)['state'] for _ in range(2)])");
    host.wait_for("QUARANTINE: plugin `p`");
    assert_eq!(site.client("emit([call('t') for _ in range(3)])"), json!([[], [], []]));
    host.wait_for("plugin `p` is out of quarantine");
}

#[test]
fn a_task_is_retried_for_what_the_sandbox_did_to_it_if_it_says_so() {
    let Some(site) = Site::open(Engine::Embedded) else { return };
    let manifest = "name = \"p\"\n[tasks.t]\nretry_on = [\"trap\"]\ndefault_retry_delay = 0.1\nmax_retries = 2\n";
    put(&site, "plugins/p/plugin.toml", manifest.as_bytes());
    // Traps until it was retried twice.
    let guest = Guest::new(
        "(if (i32.lt_u (local.get 8) (i32.const 2)) (then unreachable)) (call $ok (local.get 4) (local.get 5))",
    );
    put(&site, "plugins/p/p.wasm", &guest.build());
    let host = site.host(&[]);
    assert_eq!(site.client("emit(call('t', 7))"), json!([7]));
    assert_eq!(host.lines_with("retry: Retry in 0.1s").len(), 2);
}

#[test]
fn a_plugin_that_never_ends_keeps_no_more_slots_than_it_may() {
    let Some(site) = Site::open(Engine::Redis) else { return };
    let manifest = "name = \"p\"\n[limits]\nconcurrency = 2\n";
    put(&site, "plugins/p/plugin.toml", manifest.as_bytes());
    put(&site, "plugins/p/p.wasm", &Guest::new("(loop $l (br $l)) unreachable").build());
    let host = site.host(&["-c", "4", "--set", "task_track_started=true"]);
    let stuck = r#"
stuck = [send("t", time_limit=600) for _ in range(6)]
while sum(result.state == "STARTED" for result in stuck) < 2:
    time.sleep(0.05)
others = [call("tasks.add", n, 2) for n in range(20)]
emit([others[-1], sum(result.state == "STARTED" for result in stuck)])
"#;
    assert_eq!(site.client(stuck), json!([21, 2]));
    drop(host);
}

#[test]
fn metrics_say_what_plugins_did_and_which_limits_they_reached() {
    let Some(site) = Site::open(Engine::Embedded) else { return };
    let grow =
        "(loop $l (if (i32.eq (memory.grow (i32.const 16)) (i32.const -1)) (then unreachable)) (br $l)) unreachable";
    put(&site, "plugins/p.wasm", &Guest::new(grow).build());
    put(&site, "plugins/broken.wasm", b"");
    let host = site.host(&["--metrics", "127.0.0.1:0"]);
    let line = host.wait_for("metrics at http://");
    let url = line.split("metrics at ").nth(1).expect("the line has it").trim().to_owned();
    let code = format!(
        r#"
import urllib.request, urllib.error
fails("t")
call("tasks.add", 2, 2)
page = urllib.request.urlopen("{url}").read().decode()
try:
    urllib.request.urlopen("{url}/more")
except urllib.error.HTTPError as error:
    status = error.code
emit([page, status])
"#
    );
    let answer = site.client(&code);
    assert_eq!(answer[1], json!(404));
    let page = answer[0].as_str().expect("a text");
    for sample in [
        "taskhost_limit_reached_total{plugin=\"p\",limit=\"memory\"} 1\n",
        "taskhost_plugin_refused{path=\"plugins/broken.wasm\",kept=\"\"} 1\n",
        "taskhost_plugin_reloads_total{result=\"done\"} 0\n",
    ] {
        assert!(page.contains(sample), "{sample}\n{page}");
    }
    let traps = page.lines().find(|line| line.starts_with("taskhost_attempt_traps_total{plugin=\"p\""));
    assert!(traps.is_some_and(|line| line.ends_with(" 1")), "{page}");
}

//! The commands beside `host run`, as a person types them.

use it::{Engine, Site};
use serde_json::json;

on_every_engine! {
    call_waits_for_a_result
    purge_empties_a_queue
}

fn call_waits_for_a_result(site: &Site) {
    let _host = site.host(&[]);
    let queue = &*site.queue;
    let sum = site.command(&["call", "tasks.add", "--args", "[2, 2]", "--queue", queue, "--wait"]).success();
    assert_eq!(sum.out, "4\n");
    let huge = format!("{{\"payload\": 1{}}}", "0".repeat(300));
    let echoed = site.command(&["call", "tasks.echo", "--kwargs", &huge, "--queue", queue, "--wait=60s"]).success();
    assert_eq!(echoed.out, format!("1{}\n", "0".repeat(300)));
    site.command(&["call", "tasks.fail", "--args", "[\"no luck\"]", "--queue", queue, "--wait"])
        .refused(&["ValueError", "no luck"]);
}

fn purge_empties_a_queue(site: &Site) {
    // The queue exists once a worker has declared it.
    site.host(&[]).stop();
    site.client("[send('tasks.add', n, n) for n in range(3)]");
    let options = match site.engine {
        Engine::Embedded => vec!["purge", "--force", "-Q", &site.queue],
        _ => vec!["purge", "--force", "-Q", &site.queue, "-b", &site.broker],
    };
    let purged = site.bare_command(&options).success();
    assert!(purged.out.contains('3') && purged.out.contains(&site.queue), "{}", purged.out);
    assert_eq!(site.client("emit(depth())"), json!(0));
    let purged = site.bare_command(&options).success();
    assert!(purged.out.contains('0') || purged.out.contains("no "), "{}", purged.out);
}

#[test]
fn result_shows_what_became_of_a_task_rabbitmq_redis() {
    crate::on(Engine::RabbitMqRedis, result_shows_what_became_of_a_task);
}

#[test]
fn result_shows_what_became_of_a_task_embedded() {
    crate::on(Engine::Embedded, result_shows_what_became_of_a_task);
}

fn result_shows_what_became_of_a_task(site: &Site) {
    let _host = site.host(&[]);
    let call = |arguments: &[&str]| {
        let ended = site.command(&[&["call", "--queue", &site.queue], arguments].concat()).success();
        ended.out.trim().to_owned()
    };
    // `host result` takes no `-b`, since it talks to the store alone.
    let result = |options: &[&str]| match site.engine {
        Engine::Embedded => site.bare_command(&[&["result"], options].concat()),
        _ => site.bare_command(&[&["result", "-r", &site.backend], options].concat()),
    };
    let id = call(&["tasks.add", "--args", "[20, 22]", "--id", "my-sum"]);
    assert_eq!(id, "my-sum");
    let shown = result(&[&id, "--wait=60s"]).success();
    assert!(shown.out.contains("SUCCESS") && shown.out.contains("42"), "{}", shown.out);

    let id = call(&["tasks.fail", "--args", "[\"no luck\"]"]);
    let shown = result(&[&id, "--wait=60s"]);
    let text = shown.out.clone() + &shown.err;
    assert!(!shown.status.success(), "a failed task is a failure: {text}");
    for part in ["FAILURE", "ValueError", "no luck"] {
        assert!(text.contains(part), "no `{part}` in: {text}");
    }

    let shown = result(&["nobody-knows-this"]);
    assert!((shown.out.clone() + &shown.err).contains("PENDING"), "{shown:?}");
}

#[test]
fn help_names_commands_and_options() {
    let Some(site) = Site::open(Engine::Embedded) else { return };
    let help = site.bare_command(&["--help"]).success().out;
    for command in ["run", "call", "result", "plugin", "purge", "config"] {
        assert!(help.lines().any(|line| line.trim_start().starts_with(command)), "no `{command}` in:\n{help}");
    }
    let help = site.bare_command(&["run", "--help"]).success().out;
    for option in ["--plugins", "--broker", "--result-backend", "--queues", "--concurrency", "--purge", "--config"] {
        assert!(help.contains(option), "no `{option}` in:\n{help}");
    }
    site.bare_command(&["rum"]).refused(&["rum", "run"]);
    site.bare_command(&["run", "--conkurrency", "2"]).refused(&["--conkurrency", "--concurrency"]);
}

#[test]
fn plugin_check_says_what_a_component_is() {
    let Some(site) = Site::open(Engine::Embedded) else { return };
    for path in ["plugins/demo", "plugins/demo/demo.wasm"] {
        let checked = site.bare_command(&["plugin", "check", path]).success().out;
        for task in ["tasks.add", "tasks.echo", "tasks.allocate"] {
            assert!(checked.contains(task), "no `{task}` in:\n{checked}");
        }
    }
    site.write("rubbish.wasm", "this is no WebAssembly");
    let checked = site.bare_command(&["plugin", "check", "rubbish.wasm"]);
    assert!(!checked.status.success() && checked.out.contains("rubbish.wasm"), "{checked:?}");
    assert!(checked.out.contains("refused: "), "no reason in:\n{}", checked.out);
    site.bare_command(&["plugin", "check", "missing.wasm"]).refused(&["missing.wasm"]);
}

#[test]
fn plugin_list_shows_good_and_bad_plugins() {
    let Some(site) = Site::open(Engine::Embedded) else { return };
    let listed = site.bare_command(&["plugin", "list"]).success().out;
    assert!(listed.contains("demo") && listed.contains("tasks.add"), "{listed}");
    site.write("plugins/rubbish.wasm", "this is no WebAssembly");
    let listed = site.bare_command(&["plugin", "list", "--plugins", "plugins"]);
    let text = listed.out.clone() + &listed.err;
    assert!(!listed.status.success(), "a refused plugin is a failure: {text}");
    assert!(text.contains("tasks.add") && text.contains("rubbish.wasm"), "{text}");
}

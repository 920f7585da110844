//! Rate limits and concurrency limits, tasks that nobody has, and a worker's own queue.

use it::{Engine, Site};
use serde_json::{Value, json};

on_every_engine! {
    a_rate_limit_spaces_starts_and_delays_no_other_task
    keys_of_a_concurrency_limit_take_turns
    a_task_that_nobody_has_is_parked_if_the_operator_says_so
    a_worker_takes_tasks_from_a_queue_of_its_own
}

/// Starts are never closer than the limit says; how much later they are depends on the machine.
const SPACED: &str = r#"
started = time.time()
limited = [send("tasks.noop") for _ in range(9)]
other = call("tasks.add", 2, 2)
before = [result.state for result in limited if not os.environ["BACKEND"].startswith("rpc")].count("SUCCESS")
for result in limited:
    get(result)
emit([other, before < 9, time.time() - started >= 7 * 0.25])
"#;

fn a_rate_limit_spaces_starts_and_delays_no_other_task(site: &Site) {
    site.write("host.toml", "[tasks.\"tasks.noop\"]\nrate_limit = \"4/s\"\n");
    // More tasks wait than the worker would fetch ahead.
    let _host = site.host(&["-c", "1", "--prefetch-multiplier", "2"]);
    assert_eq!(site.client(SPACED), json!([4, true, true]));
}

fn keys_of_a_concurrency_limit_take_turns(site: &Site) {
    let text = "[tasks.\"tasks.sleep\"]\nconcurrency = 1\nconcurrency_key = \"headers.tenant\"\n";
    site.write("host.toml", text);
    let host = site.host(&["-c", "4"]);
    let code = r#"
started = time.time()
def named(name):
    return f"{QUEUE}-{name}"
noisy = [send("tasks.sleep", 0.25, task_id=named(f"noisy-{n}"), headers={"tenant": "noisy"}) for n in range(12)]
quiet = send("tasks.sleep", 0.25, task_id=named("quiet"), headers={"tenant": "quiet"})
nobodys = send("tasks.add", 2, 2, task_id=named("add"))
ends = [get(result) for result in [*noisy, quiet, nobodys]]
emit([ends == [0.25] * 13 + [4], time.time() - started >= 12 * 0.25])
"#;
    assert_eq!(site.client(code), json!([true, true]));
    let ended: Vec<String> = host.lines_with("] succeeded in ");
    let position = |id: &str| ended.iter().position(|line| line.contains(&format!("-{id}]"))).expect("it ended");
    assert!(position("quiet") < position("noisy-11"), "the quiet one waited for all of the noisy one: {ended:?}");
    assert!(position("add") < position("noisy-11"), "a task without limits waited: {ended:?}");
}

fn a_task_that_nobody_has_is_parked_if_the_operator_says_so(site: &Site) {
    let host = site.host(&["--set", "worker.unknown_task=park"]);
    let sent = site.client(r#"emit([send("tasks.tomorrow", 1, task_id=f"t{n}").id for n in range(2)])"#);
    assert_eq!(sent, json!(["t0", "t1"]));
    host.wait_for_count("Received unregistered task of type 'tasks.tomorrow'", 2);

    let place = ["-b", &site.broker, "-Q", site.queue()];
    let parked = |words: &[&str]| site.bare_command(&[&["dead"], words, &["--parked"], &place].concat());
    let until_listed = |count: usize| {
        // What is published is confirmed before the line is logged.
        let listed = parked(&["list", "--json"]).success();
        let letters: Vec<Value> = listed.out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!(letters.len(), count, "{listed:?}");
        letters
    };
    let letters = until_listed(2);
    assert_eq!([&letters[0]["reason"], &letters[0]["task"]], [&json!("unknown_task"), &json!("tasks.tomorrow")]);
    let dead = site.bare_command(&[&["dead", "list"], &place[..]].concat());
    assert_eq!(dead.success().out, "", "it is no dead letter");
    assert_eq!(parked(&["drop", "t0"]).success().out, "deleted 1 message\n");
    // Nobody has it yet: it is parked again.
    assert_eq!(parked(&["requeue", "t1"]).success().out, "requeued 1 message\n");
    host.wait_for_count("Received unregistered task of type 'tasks.tomorrow'", 3);
    assert_eq!(until_listed(1)[0]["id"], json!("t1"));
}

fn a_worker_takes_tasks_from_a_queue_of_its_own(site: &Site) {
    let host = site.host(&["--set", "worker_direct=true"]);
    let code = format!(
        "from celery.utils.nodenames import worker_direct\n\
         emit([call('tasks.add', 2, 2, queue=worker_direct('{}')), call('tasks.add', 3, 3)])",
        host.node
    );
    assert_eq!(site.client(&code), json!([4, 6]));
}

#[test]
fn two_workers_share_a_rate_limit_rabbitmq_redis() {
    crate::on(Engine::RabbitMqRedis, two_workers_share_a_rate_limit);
}

#[test]
fn two_workers_share_a_rate_limit_redis() {
    crate::on(Engine::Redis, two_workers_share_a_rate_limit);
}

#[test]
fn two_workers_share_a_rate_limit_embedded() {
    crate::on(Engine::Embedded, two_workers_share_a_rate_limit);
}

fn two_workers_share_a_rate_limit(site: &Site) {
    // The name is for this test alone, since workers of other tests may use the same Redis.
    let limit = "rate_limit = \"4/s\"\nrate_limit_scope = \"cluster\"\n";
    let own = format!("[worker]\nrate_limit_store = \"sqlite:///{}\"\n", site.path("rates.db").display());
    let shared = if site.engine == Engine::RabbitMqRedis { own } else { String::new() };
    site.write("host.toml", &format!("{shared}[tasks.\"tasks.noop\"]\n{limit}"));
    let hosts = [site.host(&["-c", "2"]), site.host(&["-c", "2"])];
    assert_eq!(site.client(SPACED), json!([4, true, true]));
    drop(hosts);
}

#[test]
fn a_key_without_a_limit_is_said_to_do_nothing() {
    let Some(site) = Site::open(Engine::Embedded) else { return };
    site.write("host.toml", "[tasks.\"tasks.noop\"]\nconcurrency_key = \"kwargs.tenant\"\n");
    site.host(&[]).wait_for("`tasks.noop` has a concurrency_key, which limits nothing without concurrency");
}

#[test]
fn a_limit_that_nobody_can_count_is_refused() {
    let Some(site) = Site::open(Engine::RabbitMqRpc) else { return };
    site.write("host.toml", "[tasks.\"tasks.noop\"]\nrate_limit = \"4/s\"\nrate_limit_scope = \"cluster\"\n");
    let refused = site.command(&["run", "--plugins", "plugins", "-Q", site.queue()]);
    refused.refused(&["`tasks.noop` has rate_limit_scope = \"cluster\"", "worker.rate_limit_store"]);
}

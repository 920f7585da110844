//! Results in memcached, beside a stock Celery client and Python workers.

use it::{Server, Site, settings};
use serde_json::json;

/// A site with messages in Redis and results in this cache.
fn site(backend: &str) -> Option<Site> {
    Site::on(&settings::required(settings::REDIS)?, backend)
}

fn default_queue(site: &Site) -> String {
    format!("task.default_queue={}", site.queue())
}

#[test]
fn a_client_reads_every_kind_of_result() {
    let Some(backend) = settings::required(settings::MEMCACHED) else { return };
    let Some(site) = site(&backend) else { return };
    let _host = site.host(&["--set", "task.track_started=true"]);
    let code = r#"
values = [None, True, "größe \U0001f980", [1, {"a": 2.5}], 10**30, "x" * 500_000]
same = [call("tasks.echo", value) == value for value in values]
failed = fails("tasks.fail", "no")
slow = send("tasks.sleep", 1.0)
until(lambda: slow.state == "STARTED", "it is started")
get(slow)
slow.forget()
large = fails("tasks.echo", "x" * 2_000_000)
emit([same, failed["type"], failed["args"], large["type"], states(send("tasks.add", 1, 1))[-1], app.AsyncResult(slow.id).state])
"#;
    let all = vec![true; 6];
    assert_eq!(site.client(code), json!([all, "ValueError", ["no"], "ResultRefused", "SUCCESS", "PENDING"]));
    let called = site.command(&["call", "tasks.add", "--args", "[2, 3]", "--queue", site.queue(), "--wait"]);
    assert!(called.success().out.contains('5'));
}

#[test]
fn groups_and_chords_come_together_in_memcached() {
    let Some(backend) = settings::required(settings::MEMCACHED) else { return };
    let Some(site) = site(&backend) else { return };
    let host = site.host(&["-c", "4", "--set", &default_queue(&site)]);
    let code = r#"
from celery import chain, chord, group
from celery.result import GroupResult

def add(x, y, **options):
    return app.signature("tasks.add", args=(x, y), **options)

echo = app.signature("tasks.echo")
saved = group(add(n, 1) for n in range(5))()
saved.save()
restored = GroupResult.restore(saved.id, app=app)
flat = chord([add(n, n) for n in range(100)])(echo)
nested = chord([add(1, 1), chord([add(2, 2), add(3, 3)], app.signature("tasks.echo")), group(add(4, 4), add(5, 5))])(echo)
followed = (chord([add(1, 1), add(2, 2)], echo) | app.signature("tasks.echo")).apply_async()
again = chord([add(1, 2), app.signature("tasks.flaky", args=(2,))])(echo)
errors = chord([add(1, 1), app.signature("tasks.fail", args=("no",))])(echo)
failed = outcome(errors)
emit([
    get(restored), get(flat) == [2 * n for n in range(100)], get(nested), get(followed), get(again),
    failed["type"] in ("ChordError", "ValueError"), app.backend.get(app.backend.get_key_for_chord(flat.parent.id)),
])
"#;
    // Of a chord that failed a client raises the body's exception or, if it has seen it, that of the member.
    // The members of a group in a header stand in Celery's own order: it freezes them backwards.
    let expected = json!([[1, 2, 3, 4, 5], true, [2, [4, 6], 10, 8], [2, 4], [3, 2], true, null]);
    assert_eq!(site.client(code), expected);
    assert!(host.lines_with("celery.chord_unlock").is_empty());
    assert!(host.lines_with("incremented too many times").is_empty());
}

#[test]
fn a_python_worker_and_the_host_finish_chords_together() {
    let Some(backend) = settings::required(settings::MEMCACHED) else { return };
    let Some(site) = site(&backend) else { return };
    let host = site.host(&["-c", "2", "--set", &default_queue(&site)]);
    let python = site.python_worker(&["-Q", site.queue(), "-n", &format!("py-{}@localhost", site.queue()), "-c", "2"]);
    let code = r#"
from celery import chord
add = lambda x, y: app.signature("tasks.add", args=(x, y))
results = [chord([add(n, m) for n in range(8)])(app.signature("tasks.sleep", args=(0,), immutable=True)) for m in range(40)]
emit([get(result) == 0 for result in results].count(True))
"#;
    assert_eq!(site.client(code), json!(40));
    for worker in [&*host, &python] {
        assert!(!worker.lines_with("] succeeded in ").is_empty(), "one of both got nothing");
    }
}

/// Which server has which result is the client's to decide; ours has to decide alike.
#[test]
fn results_lie_where_a_client_of_two_servers_looks() {
    let (Some(one), Some(mut two)) = (Server::memcached(), Server::memcached()) else { return };
    let address = |url: &str| url.trim_start_matches("cache+memcached://").trim_end_matches('/').to_owned();
    let Some(site) = site(&format!("cache+memcached://{};{}/", address(&one.url), address(&two.url))) else { return };
    let _host = site.host(&["--set", &default_queue(&site)]);
    let code = r#"
from celery import chord
results = [send("tasks.add", n, 1) for n in range(60)]
good = [get(result) == n + 1 for n, result in enumerate(results)].count(True)
bodies = [chord([app.signature("tasks.add", args=(n, m)) for n in range(4)])(app.signature("tasks.echo")) for m in range(10)]
good += [get(body) == [n + m for n in range(4)] for m, body in enumerate(bodies)].count(True)
ids = [result.id for result in results]
emit([good, ids])
"#;
    let answer = site.client(code);
    assert_eq!(answer[0], json!(70));
    // Half of them are gone with one of the servers, and the others are not.
    two.stop();
    let here = site.client(&format!(
        r#"
from pymemcache.client.base import Client
client = Client("{}")
emit(len(client.get_many(["celery-task-meta-" + id for id in json.loads('{}')])))
"#,
        address(&one.url),
        answer[1]
    ));
    let here = here.as_u64().expect("a number");
    assert!((10..=50).contains(&here), "{here} of 60 are on the first server");
}

#[test]
fn a_server_that_is_gone_for_a_while_costs_no_task() {
    let Some(mut memcached) = Server::memcached() else { return };
    let Some(site) = site(&memcached.url) else { return };
    let mut host = site.host(&["-c", "2"]);
    let ids = site.client(
        r#"
results = [send("tasks.sleep", 0.05 + n / 2**20) for n in range(60)]
emit([result.id for result in results])
"#,
    );
    host.wait_for_count("] succeeded in ", 5);
    memcached.kill();
    host.wait_for("results wait here, since the result store does not take them");
    memcached.start_again();
    // What was stored before is forgotten; what was not is stored now, and nothing of it ran twice.
    let stored = site.client(&format!(
        r#"
ids = json.loads('{ids}')
until(lambda: depth() == 0 and app.AsyncResult(ids[-1]).state == "SUCCESS", "the last one is done")
emit([app.AsyncResult(id).state for id in ids].count("SUCCESS"))
"#
    ));
    assert!(stored.as_u64().is_some_and(|stored| stored >= 20), "{stored}");
    assert_eq!(host.lines_with("] succeeded in ").len(), 60);
    assert!(host.stop().success());
}

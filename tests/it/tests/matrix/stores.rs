//! The result stores, and what is tried with each.

use it::{Engine, Site, settings};
use serde_json::{Value, json};

use super::{NO, Probe, Row, YES};

pub(super) const ROWS: &[Row] = &[
    Row { name: "Redis", url: "redis://", open: || Site::open(Engine::Redis) },
    Row {
        name: "Redis with TLS",
        url: "rediss://",
        open: || {
            let url = settings::required(settings::REDISS)?;
            Site::on(&url, &url)
        },
    },
    Row {
        name: "Redis behind Sentinels",
        url: "sentinel://",
        open: || crate::redis_ways::behind(&settings::required(settings::SENTINEL)?),
    },
    Row { name: "SQLite", url: "db+sqlite:///", open: || Site::open(Engine::Embedded) },
    Row {
        name: "memcached",
        url: "cache+memcached://",
        open: || Site::on(&settings::required(settings::REDIS)?, &settings::required(settings::MEMCACHED)?),
    },
    Row { name: "a folder of files", url: "file:///", open: crate::folders::site },
    Row { name: "PostgreSQL", url: "db+postgresql://", open: || in_database(settings::POSTGRESQL) },
    Row { name: "MySQL, MariaDB", url: "db+mysql://", open: || in_database(settings::MARIADB) },
    Row { name: "Django's tables", url: "django-db+sqlite:///", open: in_django },
    Row { name: "reply queues of RabbitMQ", url: "rpc://", open: || Site::open(Engine::RabbitMqRpc) },
    Row {
        name: "queues of RabbitMQ, one a result",
        url: "amqp://",
        open: || Site::on(&settings::required(settings::AMQP)?, "amqp://"),
    },
];

pub(super) const COLUMNS: &[(&str, Probe)] = &[
    ("results, exceptions", results),
    ("progress", progress),
    ("kept for anybody", kept),
    ("forget", forget),
    ("expiry", expiry),
    ("groups", groups),
    ("chords", chords),
    ("a failing chord", failing_chord),
    ("extended", extended),
    ("usage", usage),
];

/// Tables of a site's own, since results of others would expire with its.
fn in_database(server: &str) -> Option<Site> {
    let mut site = Site::on(&settings::required(settings::REDIS)?, &settings::required(server)?)?;
    let name = site.queue.replace('-', "_");
    let (task, group) = (format!("{name}_task"), format!("{name}_group"));
    site.write("host.toml", &format!("[database]\ntable_names = [\"task={task}\", \"group={group}\"]\n"));
    site.celery_settings = json!({"database_table_names": {"task": task, "group": group}});
    Some(site)
}

/// A file, since what expires in a server would be that of others.
fn in_django() -> Option<Site> {
    let mut site = Site::on(&settings::required(settings::REDIS)?, "disabled://")?;
    let database = format!("db+sqlite:///{}", site.path("django.db").display());
    site.backend = format!("django-{database}");
    crate::django::migrate(&mut site, &database);
    Some(site)
}

fn yes_or_no(value: &Value) -> String {
    match value.as_bool() {
        Some(true) => YES.to_owned(),
        Some(false) => NO.to_owned(),
        None => value.as_str().expect("a probe emits true, false or a text").to_owned(),
    }
}

fn results(site: &Site) -> String {
    let _host = site.host(&[]);
    let code = r#"
values = [None, True, "ü\U0001f600", [1, {"a": [2.5]}], 10**30, "x" * 100_000]
same = [call("tasks.echo", value) == value for value in values]
failed = fails("tasks.fail", "no")
emit([same, failed["type"], failed["args"], fails("nobody.knows")["type"]])
"#;
    let all = vec![true; 6];
    assert_eq!(site.client(code), json!([all, "ValueError", ["no"], "NotRegistered"]));
    YES.to_owned()
}

fn progress(site: &Site) -> String {
    let _host = site.host(&["--set", "task.track_started=true"]);
    let code = r#"
result = send("tasks.progress", 4, 0.5)
seen = until(lambda: result.state == "PROGRESS" and result.info or result.ready() and {"total": None}, "progress, or the end")
emit(seen["total"] == 4 and get(result) == 4)
"#;
    yes_or_no(&site.client(code))
}

/// Another process than the one that published can ask, and `host result` can.
fn kept(site: &Site) -> String {
    let _host = site.host(&[]);
    let id = site.client(r#"result = send("tasks.add", 2, 3); get(result); emit(result.id)"#);
    let id = id.as_str().expect("an id");
    let state = site.client(&format!(r#"emit(app.AsyncResult("{id}").state)"#));
    let shown = site.command(&["result", id]);
    if state == "SUCCESS" {
        assert!(shown.success().out.contains('5'));
        return YES.to_owned();
    }
    assert_eq!(state, "PENDING");
    shown.refused(&["results only", "the program that published the task"]);
    NO.to_owned()
}

fn forget(site: &Site) -> String {
    let _host = site.host(&[]);
    let code = r#"
result = send("tasks.add", 2, 3)
get(result)
try:
    result.forget()
    emit(app.AsyncResult(result.id).state == "PENDING")
except NotImplementedError:
    emit(False)
"#;
    yes_or_no(&site.client(code))
}

/// By itself, or when Celery's own task for it runs, which its beat sends each night.
fn expiry(site: &Site) -> String {
    let _host = site.host(&["--set", "result.expires=2s"]);
    let code = r#"
app.conf.result_expires = 2
result = send("tasks.add", 2, 3)
get(result)
gone = lambda: app.AsyncResult(result.id).state == "PENDING"
if gone() and BACKEND == "amqp://":
    # It was there for one reader. Another that nobody asks for, which would keep it:
    result = send("tasks.add", 2, 3)
    until(lambda: not gone(), "the result")
    time.sleep(5)
    emit("by itself" if gone() else False)
elif gone():
    emit(False)
else:
    until_gone = time.monotonic() + 6
    while time.monotonic() < until_gone and not gone():
        time.sleep(INTERVAL)
    if gone():
        emit("by itself")
    else:
        cleanup = send("celery.backend_cleanup")
        until(gone, "the result has expired")
        emit("`celery.backend_cleanup`")
"#;
    yes_or_no(&site.client(code))
}

fn groups(site: &Site) -> String {
    let _host = site.host(&[]);
    let code = r#"
from celery import group
from celery.result import GroupResult
add = lambda n: app.signature("tasks.add", args=(n, n))
result = group(add(n) for n in range(5)).apply_async()
values = result.get(timeout=PATIENCE)
try:
    result.save()
    restored = GroupResult.restore(result.id, app=app)
    emit(values == [0, 2, 4, 6, 8] and restored.get(timeout=PATIENCE) == values)
except (NotImplementedError, AttributeError):
    emit("not saved" if values == [0, 2, 4, 6, 8] else False)
"#;
    yes_or_no(&site.client(code))
}

/// How the last member of a chord is found: the store counts, or a task looks.
fn chords(site: &Site) -> String {
    let host = site.host(&["--set", &default_queue(site)]);
    let code = r#"
from celery import chord
header = [app.signature("tasks.add", args=(n, n)) for n in range(10)]
try:
    result = chord(header)(app.signature("tasks.echo"))
    emit(result.get(timeout=PATIENCE) == [n * 2 for n in range(10)])
except NotImplementedError:
    emit(False)
"#;
    match (site.client(code), host.lines_with("celery.chord_unlock").is_empty()) {
        (Value::Bool(true), true) => "counted".to_owned(),
        (Value::Bool(true), false) => "`celery.chord_unlock`".to_owned(),
        (answer, _) => yes_or_no(&answer),
    }
}

/// Which of the two exceptions it is depends on what the client sees first.
fn failing_chord(site: &Site) -> String {
    let _host = site.host(&["--set", &default_queue(site)]);
    let code = r#"
from celery import chord
header = [app.signature("tasks.add", args=(1, 1)), app.signature("tasks.fail", args=("no",))]
try:
    result = chord(header)(app.signature("tasks.echo"))
    emit(outcome(result)["type"] in ("ChordError", "ValueError"))
except NotImplementedError:
    emit("–")
"#;
    let said = site.client(code);
    assert_ne!(said, json!(false), "the body was to fail");
    yes_or_no(&said)
}

fn extended(site: &Site) -> String {
    let _host = site.host(&["--set", "result.extended=true"]);
    let code = r#"
app.conf.result_extended = True
result = send("tasks.add", 2, 3)
get(result)
# In Django's tables the name is `task_name`, and arguments are what Python shows of them.
name = result.name or result._get_task_meta().get("task_name")
emit(name == "tasks.add" and (result.args == "(2, 3)" or list(result.args or []) == [2, 3]))
"#;
    yes_or_no(&site.client(code))
}

fn usage(site: &Site) -> String {
    let _host = site.host(&["--set", "result.usage=true"]);
    let code = r#"
result = send("tasks.add", 2, 3)
get(result)
emit((result._get_task_meta().get("usage") or {}).get("memory", 0) > 0)
"#;
    yes_or_no(&site.client(code))
}

/// What follows a task goes where this worker is.
fn default_queue(site: &Site) -> String {
    format!("task.default_queue={}", site.queue)
}

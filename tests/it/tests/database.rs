//! Results in PostgreSQL and MySQL: real servers, the real client, and servers that go away meanwhile.

use it::{Server, Site, settings};
use serde_json::json;

/// Each scenario a test on each database.
macro_rules! on_every_database {
    ($($scenario:ident)*) => {
        mod postgresql {
            $(#[test] fn $scenario() { super::on(it::settings::POSTGRESQL, super::$scenario) })*
        }
        mod mariadb {
            $(#[test] fn $scenario() { super::on(it::settings::MARIADB, super::$scenario) })*
        }
    };
}

on_every_database! {
    a_client_finds_every_kind_of_result
    groups_and_chords_come_together
    commands_ask_for_results
    a_cleanup_deletes_what_has_expired
    tables_of_other_names_are_shared_with_clients
}

/// Which lends a connection for no longer than a transaction takes.
#[test]
fn groups_and_chords_come_together_behind_a_pgbouncer() {
    on(settings::PGBOUNCER, groups_and_chords_come_together);
}

#[track_caller]
fn on(server: &str, scenario: fn(&Site)) {
    let (Some(broker), Some(backend)) = (settings::required(settings::REDIS), settings::required(server)) else {
        return;
    };
    let Some(site) = Site::on(&broker, &backend) else { return };
    scenario(&site);
}

fn a_client_finds_every_kind_of_result(site: &Site) {
    site.write("host.toml", "[result]\nextended = true\n");
    let host = site.host(&["--set", "task.track_started=true"]);
    let code = r#"
app.conf.result_extended = True
values = [None, True, "ü\0\U0001f980", [1, {"a": [2.5]}], 10**30, "x" * 200_000]
same = [call("tasks.echo", value) == value for value in values]
failed, retried = send("tasks.fail", "no", "KeyError"), send("tasks.flaky", 1, kwargs={"countdown": 0})
end = outcome(failed)
late = app.signature("tasks.add", args=(1, 1)).apply_async(expires=-5)
revoked = outcome(late)
slow = send("tasks.sleep", 1.0)
until(lambda: slow.state == "STARTED", "it is stored that a task runs")
running = sorted(slow.info)
emit([same, end["type"], end["args"], retried.get(), revoked["state"], revoked["type"], running, slow.get(),
      failed.name, failed.worker, failed.queue == QUEUE, failed.date_done is not None])
"#;
    let same = vec![true; 6];
    let expected = json!([
        same,
        "KeyError",
        ["no"],
        1,
        "REVOKED",
        "TaskRevokedError",
        ["hostname", "pid"],
        1.0,
        "tasks.fail",
        host.node,
        true,
        true
    ]);
    assert_eq!(site.client(code), expected);
}

fn groups_and_chords_come_together(site: &Site) {
    // Where the task is sent that looks whether a chord is complete.
    let _host = site.host(&["--set", &format!("task.default_queue={}", site.queue)]);
    let code = r#"
from celery import group, chord
from celery.result import GroupResult

add = lambda *args: app.signature("tasks.add", args=args)
applied = group(add(n, n) for n in range(5)).apply_async()
applied.save()
together = GroupResult.restore(applied.id, app=app).get(timeout=60)
body = chord([add(n, 1) for n in range(4)], app.signature("tasks.echo")).apply_async()
failing = chord([add(1, 1), app.signature("tasks.fail", args=("no",))], app.signature("tasks.echo")).apply_async()
chain = (add(1, 2) | add(3)).apply_async()
emit([together, body.get(timeout=60), outcome(failing)["type"], chain.get(timeout=60), chain.parent.children == [chain]])
"#;
    assert_eq!(site.client(code), json!([[0, 2, 4, 6, 8], [1, 2, 3, 4], "ValueError", 6, true]));
}

fn commands_ask_for_results(site: &Site) {
    let _host = site.host(&[]);
    let called =
        ["call", "tasks.add", "--args", "[1, 2]", "--queue", &site.queue, "--id", &format!("{}-c", site.queue)];
    let called = site.command(&[&called[..], &["--wait"]].concat()).success();
    assert_eq!(called.out, "3\n");
    let shown = site.command(&["result", &format!("{}-c", site.queue)]).success();
    assert!(shown.out.contains("SUCCESS") && shown.out.contains('3'), "{}", shown.out);
    let config = site.command(&["config"]).success();
    assert!(config.out.contains("taskhost:**@") && !config.out.contains("secret"), "{}", config.out);
}

fn a_cleanup_deletes_what_has_expired(site: &Site) {
    let code = r#"
from datetime import datetime, timedelta
from sqlalchemy import text
old, young = QUEUE + "-old", QUEUE + "-young"
for name in (old, young):
    app.backend.store_result(name, 1, "SUCCESS")
session = app.backend.ResultSession()
before = datetime(2020, 1, 1)
session.execute(text("UPDATE celery_taskmeta SET date_done = :before WHERE task_id = :id"), {"before": before, "id": old})
session.commit()
emit("old")
"#;
    // The worker looks through the store when it starts, so it starts before.
    let _host = site.host(&[]);
    site.client(code);
    let code = r#"
app.send_task("celery.backend_cleanup", queue=QUEUE).get(timeout=60)
emit([app.backend.task_result_exists(QUEUE + name) for name in ("-old", "-young")])
"#;
    assert_eq!(site.client(code), json!([false, true]));
}

fn tables_of_other_names_are_shared_with_clients(site: &Site) {
    let table = site.queue.replace('-', "_");
    // In PostgreSQL all of Celery's tables have indexes of the same name, so the worker's are made first.
    site.write(
        "host.toml",
        &format!(
            "[database]\ntable_names = [\"task={table}_t\", \"group={table}_g\"]\nengine_options = [\"pool_size=1\"]\n"
        ),
    );
    let _host = site.host(&[]);
    let code = format!(
        r#"
app.conf.database_table_names = {{"task": "{table}_t", "group": "{table}_g"}}
from sqlalchemy import text
value = call("tasks.add", 2, 3)
rows = app.backend.ResultSession().execute(text("SELECT count(*) FROM {table}_t")).scalar()
emit([value, rows])
"#
    );
    assert_eq!(site.client(&code), json!([5, 1]));
}

#[test]
fn results_wait_for_a_postgresql_that_is_started_again() {
    let Some(server) = Server::postgresql() else { return };
    results_wait_for(server);
}

#[test]
fn results_wait_for_a_mariadb_that_is_started_again() {
    let Some(server) = Server::mariadb() else { return };
    results_wait_for(server);
}

fn results_wait_for(mut server: Server) {
    let Some(broker) = settings::required(settings::REDIS) else { return };
    let Some(site) = Site::on(&broker, &server.url) else { return };
    let mut host = site.host(&["-c", "4"]);
    assert_eq!(site.client("emit(call('tasks.add', 1, 1))"), json!(2));
    // A client without results of its own, since it could not reach them.
    let publish = r#"
other = Celery("other", broker=os.environ["BROKER"], backend="disabled://")
for n in range(30):
    other.send_task("tasks.sleep", (0.1,), task_id=f"{QUEUE}-{n}", queue=QUEUE)
"#;
    site.client(publish);
    host.wait_for("-3] received");
    server.kill();
    host.wait_for("results wait here");
    server.start_again();
    let code = "emit([get(app.AsyncResult(f'{QUEUE}-{n}')) for n in range(30)].count(0.1))";
    assert_eq!(site.client(code), json!(30));
    assert_eq!(site.client("emit(call('tasks.add', 3, 3))"), json!(6));
    assert!(host.stop().success());
}

#[test]
fn a_worker_without_its_database_says_so() {
    let Some(broker) = settings::required(settings::REDIS) else { return };
    for backend in ["db+postgresql+psycopg2://me:secret@127.0.0.1:1/d", "db+mysql+pymysql://me:secret@127.0.0.1:1/d"] {
        let Some(site) = Site::on(&broker, backend) else { return };
        let shown = site.command(&["result", "some-id"]);
        shown.refused(&["127.0.0.1:1", "refused"]);
    }
}

/// The certificates of the tests, and a worker that believes whoever has signed them, and one that does not.
fn reached_over_tls(server: &Server, certificates: &std::path::Path, options: [String; 3], expected: [&str; 2]) {
    let Some(broker) = settings::required(settings::REDIS) else { return };
    let [good, bad, none] = options.map(|options| format!("{}?{options}", server.url));
    let Some(site) = Site::on(&broker, &good) else { return };
    let _host = site.host(&[]);
    assert_eq!(site.client("emit(call('tasks.add', 2, 3))"), json!(5), "{}", certificates.display());
    for (url, words) in [(&bad, expected[0]), (&none, expected[1])] {
        site.bare_command(&["result", "some-id", "-r", url]).refused(&[words]);
    }
}

#[test]
fn postgresql_is_reached_over_tls() {
    let Some(certificates) = settings::required_path(settings::CERTIFICATES) else { return };
    let Some(server) = Server::postgresql() else { return };
    let Some(broker) = settings::required(settings::REDIS) else { return };
    let Some(site) = Site::on(&broker, &server.url) else { return };
    // Files of its own user's, which nobody else may read.
    let code = format!(
        r#"
from sqlalchemy import text
engine = app.backend.ResultSession().get_bind()
with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
    for name in ("server.pem", "server.key"):
        lines = open({:?} + "/" + name).read().splitlines()
        rows = ", ".join(f"('{{line}}')" for line in lines)
        connection.exec_driver_sql(f"COPY (VALUES {{rows}}) TO PROGRAM 'cat > {{name}} && chmod 600 {{name}}'")
    connection.exec_driver_sql("ALTER SYSTEM SET ssl_cert_file = 'server.pem'")
    connection.exec_driver_sql("ALTER SYSTEM SET ssl_key_file = 'server.key'")
    connection.exec_driver_sql("ALTER SYSTEM SET ssl = on")
    connection.exec_driver_sql("SELECT pg_reload_conf()")
def speaks():
    with engine.connect() as connection:
        return connection.exec_driver_sql("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").scalar()
until(speaks, "the server speaks TLS")
emit("on")
"#,
        certificates.display().to_string()
    );
    assert_eq!(site.client(&code), json!("on"));
    let file = |name: &str| certificates.join(name).display().to_string();
    let options = [
        format!("sslmode=verify-full&sslrootcert={}", file("ca.pem")),
        format!("sslmode=verify-ca&sslrootcert={}", file("other-ca.pem")),
        "sslmode=maybe".to_owned(),
    ];
    reached_over_tls(&server, &certificates, options, ["certificate", "sslmode"]);
    // As a broker, too, where settings speak of TLS and the URL does not.
    let plain = server.url.replacen("db+", "sqla+", 1);
    let Some(site) = Site::on(&plain, &server.url) else { return };
    let use_ssl = |ca: &str| format!("[broker]\nuse_ssl = {{ ca_certs = {:?} }}\n", file(ca));
    site.write("host.toml", &use_ssl("other-ca.pem"));
    site.bare_command(&["purge", "--force", "-b", &plain, "-Q", site.queue()]).refused(&["sslrootcert names who is"]);
    site.write("host.toml", &use_ssl("ca.pem"));
    let _host = site.host(&[]);
    let code = r#"
engine = app.backend.ResultSession().get_bind()
with engine.connect() as connection:
    ways = "SELECT DISTINCT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE strpos(query, 'kombu_message') > 0 AND application_name <> ''"
    emit([call('tasks.add', 2, 3), [row[0] for row in connection.exec_driver_sql(ways)]])
"#;
    assert_eq!(site.client(code), json!([5, [true]]));
}

#[test]
fn mariadb_is_reached_over_tls() {
    let Some(certificates) = settings::required_path(settings::CERTIFICATES) else { return };
    let Some(mut server) = Server::mariadb() else { return };
    let file = |name: &str| certificates.join(name).display().to_string();
    server.stop();
    let (certificate, key) = (file("server.pem"), file("server.key"));
    server.start_again_with(&format!("--ssl-cert={certificate} --ssl-key={key} --require-secure-transport=ON"));
    let options = [
        format!("ssl_ca={}", file("ca.pem")),
        format!("ssl_ca={}", file("other-ca.pem")),
        "ssl_disabled=true".to_owned(),
    ];
    reached_over_tls(&server, &certificates, options, ["certificate", "denied"]);
}

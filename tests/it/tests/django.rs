//! A Django application that reads results as django-celery-results keeps them, which a host has written.

use it::process::Stream;
use it::{Engine, Process, Site, settings};
use serde_json::{Value, json};

/// Runs the application to its end and gives what it printed.
#[track_caller]
fn django(site: &Site, database: &str, command: &str) -> String {
    let environment = [("DATABASE", database), ("BROKER", &*site.broker), ("QUEUE", &*site.queue)];
    let mut process: Process = site.start_fixture("django_app.py", &environment, &[command]);
    let status = process.wait();
    assert!(status.success(), "the application ended with {status}");
    process.written(Stream::Out)
}

#[track_caller]
fn check(site: &mut Site, database: &str) {
    site.host_backend = Some(format!("django-{database}"));
    django(site, database, "migrate");
    let _host = site.host(&["--set", "result_extended=true", "--set", "task_track_started=true"]);
    let told: Value = serde_json::from_str(django(site, database, "call").trim()).expect("it prints JSON");
    let row = |outcome: Value, state: &str, name: &str, args: &str, kwargs: &str| {
        json!({
            "outcome": outcome, "state": state, "name": name, "args": args, "kwargs": kwargs, "worker": true,
            "content": ["application/json", "utf-8"], "meta": {"children": []},
            "traceback": state == "FAILURE", "times": [true, true, true],
        })
    };
    let expected = json!({
        "sum": row(json!(5), "SUCCESS", "tasks.add", "(2,)", "{'y': 3}"),
        "text": row(json!("naïve ☃ 🦀"), "SUCCESS", "tasks.echo", "('naïve ☃ 🦀',)", "{}"),
        "failure": row(json!(["ValueError", "no luck"]), "FAILURE", "tasks.fail", "('no luck',)", "{}"),
        "retried": row(json!(1), "SUCCESS", "tasks.flaky", "(1,)", "{}"),
        "states": ["FAILURE"],
    });
    assert_eq!(told, expected);
}

#[test]
fn a_django_application_reads_results_in_its_own_database_file() {
    let Some(mut site) = Site::open(Engine::Redis) else { return };
    let database = format!("db+sqlite:///{}", site.path("django.db").display());
    // Before its tables are there, it is said what makes them. An empty file is an empty database.
    site.write("django.db", "");
    site.host_backend = Some(format!("django-{database}"));
    let refused = site.command(&["result", "c0ffee00-1111-4222-8333-444455556666"]);
    refused.refused(&["django_celery_results_taskresult", "manage.py migrate django_celery_results"]);
    check(&mut site, &database);
}

#[test]
fn a_django_application_reads_results_in_its_postgresql() {
    let (Some(mut site), Some(url)) = (Site::open(Engine::Redis), settings::required(settings::POSTGRESQL)) else {
        return;
    };
    check(&mut site, &url);
}

#[test]
fn a_django_application_reads_results_in_its_mariadb() {
    let (Some(mut site), Some(url)) = (Site::open(Engine::Redis), settings::required(settings::MARIADB)) else {
        return;
    };
    check(&mut site, &url);
}

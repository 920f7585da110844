//! A Django application that reads results as django-celery-results keeps them, which a host has written.

use std::sync::{Mutex, PoisonError};

use it::process::Stream;
use it::{Engine, Process, Server, Site, settings};
use serde_json::{Value, json};

/// Starts the application.
#[track_caller]
fn start(site: &Site, database: &str, arguments: &[&str]) -> Process {
    let environment = [("DATABASE", database), ("BROKER", &*site.broker), ("QUEUE", &*site.queue)];
    site.start_fixture("django_app.py", &environment, arguments)
}

/// Runs the application to its end and gives what it printed.
#[track_caller]
fn django(site: &Site, database: &str, command: &str) -> String {
    let mut process = start(site, database, &[command]);
    let status = process.wait();
    assert!(status.success(), "the application ended with {status}");
    process.written(Stream::Out)
}

#[track_caller]
fn check(site: &mut Site, database: &str) {
    migrate(site, database);
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

/// Makes the tables, in which the host keeps its results from then on.
#[track_caller]
pub(crate) fn migrate(site: &mut Site, database: &str) {
    /// Two at the same time are in each other's way.
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    site.host_backend = Some(format!("django-{database}"));
    django(site, database, "migrate");
}

/// Chords that the application applies, and such as the host applies for it, all members and bodies on the host.
#[track_caller]
fn check_chords(site: &Site, database: &str) {
    let host = site.host(&["-c", "4", "--set", &format!("task.default_queue={}", site.queue())]);
    let told: Value = serde_json::from_str(django(site, database, "chords").trim()).expect("it prints JSON");
    let reason = format!("Dependency {} raised ValueError('no')", told["culprit"].as_str().expect("an id"));
    let expected = json!({
        "flat": true, "nested": [2, [4, 6], 10, 8], "followed": [4, 5], "upgraded": [2, 4], "again": [3, 2],
        "failed": true, "body": ["FAILURE", "ChordError", [reason]], "culprit": told["culprit"], "left": [],
    });
    assert_eq!(told, expected);
    assert!(host.lines_with("celery.chord_unlock").is_empty());
    assert!(host.lines_with("Can't find ChordCounter").is_empty());
}

#[track_caller]
fn check_shared_chords(site: &Site, database: &str) {
    let host = site.host(&["-c", "2", "--set", &format!("task.default_queue={}", site.queue())]);
    let node = format!("django-{}@localhost", site.queue());
    let python = start(site, database, &["worker", "-Q", site.queue(), "-n", &node, "-c", "2"]);
    python.wait_for(&format!("{node} ready."));
    let told: Value = serde_json::from_str(django(site, database, "shared").trim()).expect("it prints JSON");
    assert_eq!(told, json!({"right": 40, "left": []}));
    for worker in [&*host, &python] {
        assert!(!worker.lines_with("] succeeded in ").is_empty(), "one of both got nothing");
        assert!(worker.lines_with("Can't find ChordCounter").is_empty(), "one was counted twice");
    }
}

#[test]
fn a_chord_of_a_django_application_survives_its_hosts_and_its_database() {
    let (Some(broker), Some(mut server)) = (settings::required(settings::AMQP), Server::mariadb()) else { return };
    let Some(mut site) = Site::on(&broker, "disabled://") else { return };
    migrate(&mut site, &server.url);
    let queue = format!("task.default_queue={}", site.queue());
    let options = ["-c", "2", "--set", &queue];
    let mut host = site.host(&options);
    django(&site, &server.url, "apply");
    // Three die amidst the members, at whatever they are doing.
    for _ in 0..3 {
        host.wait_for_count("] succeeded in ", 30);
        host.kill();
        host = site.host(&options);
    }
    host.wait_for_count("] succeeded in ", 10);
    server.kill();
    host.wait_for("results wait here");
    server.start_again();
    host.wait_for("took all results that waited");
    let told: Value = serde_json::from_str(django(&site, &server.url, "join").trim()).expect("it prints JSON");
    assert_eq!(told, json!({"right": true, "left": []}));
    // Whoever is to send the body is told of it once, and nobody else.
    assert_eq!(host.lines_with(&format!("tasks.echo[{}-body] succeeded", site.queue)).len(), 1);
}

#[test]
fn chords_of_a_django_application_come_together_in_its_own_database_file() {
    let Some(mut site) = Site::open(Engine::Redis) else { return };
    let database = format!("db+sqlite:///{}", site.path("django.db").display());
    migrate(&mut site, &database);
    check_chords(&site, &database);
}

#[test]
fn chords_of_a_django_application_come_together_in_its_postgresql() {
    let (Some(mut site), Some(url)) = (Site::open(Engine::Redis), settings::required(settings::POSTGRESQL)) else {
        return;
    };
    migrate(&mut site, &url);
    check_chords(&site, &url);
    check_shared_chords(&site, &url);
}

#[test]
fn chords_of_a_django_application_come_together_in_its_mariadb() {
    let (Some(mut site), Some(url)) = (Site::open(Engine::Redis), settings::required(settings::MARIADB)) else {
        return;
    };
    migrate(&mut site, &url);
    check_chords(&site, &url);
    check_shared_chords(&site, &url);
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

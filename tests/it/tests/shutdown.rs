//! The ways of ending: a warm shutdown finishes what runs, a cold one does not, neither loses anything.

use std::time::{Duration, Instant};

use it::{Client, Host, Site};
use serde_json::json;

on_every_engine! {
    a_warm_shutdown_finishes_what_runs_and_gives_the_rest_back
    a_cold_shutdown_gives_back_what_runs
    a_second_interrupt_makes_a_shutdown_cold
    a_soft_shutdown_lets_what_runs_come_to_its_end
    a_cold_shutdown_lets_a_task_that_listens_come_to_its_end
}

fn a_soft_shutdown_lets_what_runs_come_to_its_end(site: &Site) {
    let options = ["-c", "1", "--set", "task.track_started=true", "--set", "worker.soft_shutdown_timeout=60s"];
    let mut first = site.host(&options);
    let client = site.start_client(
        r#"
running = send("tasks.sleep", 2.0)
until(lambda: running.state == "STARTED", "the task runs")
emit("published")
emit(get(running))
"#,
    );
    client.wait_for("published");
    first.signal("QUIT");
    first.wait_for("Initiating Soft Shutdown, terminating in 60 seconds");
    assert!(first.wait().success(), "a soft shutdown ends with 0");
    assert_eq!(client.finish(), json!(2.0));
    assert_eq!(first.lines_with("Cold shutdown"), [""; 0]);
}

fn a_warm_shutdown_finishes_what_runs_and_gives_the_rest_back(site: &Site) {
    let mut first = site.host(&["-c", "1", "--set", "task.track_started=true"]);
    let client = site.start_client(
        r#"
running = send("tasks.sleep", 3.0)
until(lambda: running.state == "STARTED", "the task runs")
rest = [send("tasks.add", n, n) for n in range(20)]
rest += [send("tasks.add", 100, 100, countdown=4)]
emit("published")
emit([get(running)] + [get(result) for result in rest])
"#,
    );
    client.wait_for("published");
    first.signal("TERM");
    assert!(first.wait().success(), "a warm shutdown ends with 0");
    assert_eq!(first.lines_with("tasks.sleep[").iter().filter(|line| line.contains("succeeded")).count(), 1);
    let second = site.host(&["-c", "1"]);
    let mut expected = vec![json!(3.0)];
    expected.extend((0..20).map(|n| json!(2 * n)));
    expected.push(json!(200));
    assert_eq!(client.finish(), json!(expected));
    assert_eq!(first.lines_with("tasks.add[").iter().filter(|line| line.contains("succeeded")).count(), 0);
    assert_eq!(second.wait_for_count("] succeeded in ", 21).len(), 21);
}

fn a_cold_shutdown_gives_back_what_runs(site: &Site) {
    let mut first = site.host(&["-c", "1", "--set", "task.track_started=true"]);
    let client = start_long_task(site, &first);
    let started = Instant::now();
    first.signal("QUIT");
    assert!(first.wait().success(), "a cold shutdown ends with 0");
    check_given_back(site, client, &first, started);
}

fn a_second_interrupt_makes_a_shutdown_cold(site: &Site) {
    let mut first = site.host(&["-c", "1", "--set", "task.track_started=true"]);
    let client = start_long_task(site, &first);
    let started = Instant::now();
    first.signal("INT");
    first.wait_for("Warm shutdown");
    first.signal("INT");
    assert!(first.wait().success(), "a cold shutdown ends with 0");
    check_given_back(site, client, &first, started);
}

fn a_cold_shutdown_lets_a_task_that_listens_come_to_its_end(site: &Site) {
    let mut host = site.host(&["-c", "1", "--set", "task.track_started=true"]);
    let client = site.start_client(
        r#"
result = send("tasks.graceful", 600.0)
until(lambda: result.state == "STARTED", "the task runs")
emit("running")
emit(get(result))
"#,
    );
    client.wait_for("running");
    host.signal("QUIT");
    assert!(host.wait().success(), "a cold shutdown ends with 0");
    assert_eq!(client.finish(), json!(true));
}

const LONG: Duration = Duration::from_secs(8);

/// A client whose task is running when this returns.
fn start_long_task(site: &Site, host: &Host) -> Client {
    let seconds = LONG.as_secs();
    let client = site.start_client(&format!(
        r#"
result = send("tasks.sleep", {seconds}.0)
until(lambda: result.state == "STARTED", "the task runs")
emit("running")
emit(get(result))
"#
    ));
    client.wait_for("running");
    assert!(host.lines_with("succeeded").is_empty());
    client
}

fn check_given_back(site: &Site, client: Client, first: &Host, started: Instant) {
    assert!(started.elapsed() < LONG, "it waited for the task");
    assert!(first.lines_with("succeeded").is_empty());
    let second = site.host(&["-c", "1"]);
    assert_eq!(client.finish(), json!(LONG.as_secs_f64()));
    second.wait_for("] succeeded in ");
}

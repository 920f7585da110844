//! Tasks that run for longer than RabbitMQ lets their messages be unacknowledged.

use it::{Server, Site};
use serde_json::{Value, json};

/// A broker that waits for ten seconds in place of half an hour, and looks every second in place of every
/// minute.
fn impatient_broker() -> Option<(Server, Site)> {
    let mut server = Server::rabbitmq()?;
    server.control("eval application:set_env(rabbit,consumer_timeout,10000).");
    server.control("eval application:set_env(rabbit,channel_tick_interval,1000).");
    let site = Site::with_broker(&server.url)?;
    Some((server, site))
}

fn depth(site: &Site) -> Value {
    site.client("emit(depth())")
}

#[test]
fn a_task_that_runs_for_longer_than_the_broker_waits_runs_once_rabbitmq() {
    let Some((_server, site)) = impatient_broker() else { return };
    // The broker is as impatient as it was told to be.
    let mut careless = site.host(&["--set", "broker.consumer_timeout=none"]);
    site.client(r#"emit(send("tasks.sleep", 14, task_id=QUEUE + "-careless").id)"#);
    careless.wait_for("Connection to broker lost");
    assert!(careless.stop().success());

    let mut host = site.host(&["--set", "broker.consumer_timeout=10s", "-c", "1"]);
    let results = site.client(
        r#"
long = send("tasks.sleep", 25, task_id=QUEUE + "-long")
behind = send("tasks.add", 1, 2, task_id=QUEUE + "-behind")
emit([get(long), get(behind)])
"#,
    );
    assert_eq!(results, json!([25.0, 3]));
    assert!(host.stop().success());
    assert_eq!(host.lines_with("Connection to broker lost").len(), 0);
    assert_eq!(host.lines_with("-long] received").len(), 1);
    assert_eq!(host.lines_with("-long] succeeded").len(), 1);
    // What only waited went to the end of its queue, and came again.
    assert!(host.lines_with("-behind] received").len() > 1);
    assert_eq!(host.lines_with("-behind] succeeded").len(), 1);
    assert_eq!(depth(&site), json!(0));
}

#[test]
fn a_long_task_is_resumed_when_its_worker_was_killed_rabbitmq() {
    let Some((mut server, site)) = impatient_broker() else { return };
    let options = ["--set", "broker.consumer_timeout=10s", "--statedb", "w.state.db"];
    let mut first = site.host(&options);
    site.client(r#"emit(send("tasks.sleep", 25, task_id=QUEUE + "-long").id)"#);
    first.wait_for("is kept in the state file until it ends: tasks.sleep[");
    wait_until_acknowledged(&mut server, &site);
    first.kill();
    assert_eq!(depth(&site), json!(0), "the broker has heard that it is done with");

    let mut second = site.host(&options);
    second.wait_for("resuming 1 task");
    second.wait_for("-long] received");
    assert_eq!(site.client(r#"emit(get(app.AsyncResult(QUEUE + "-long")))"#), json!(25.0));
    assert!(second.stop().success());
    assert_eq!(depth(&site), json!(0));

    let third = site.host(&options);
    assert_eq!(site.client(r#"emit(get(send("tasks.add", 1, 2)))"#), json!(3));
    assert_eq!(third.lines_with("resuming").len(), 0, "nothing is left");
}

#[test]
fn a_long_task_that_is_stopped_goes_back_to_its_queue_rabbitmq() {
    let Some((_server, site)) = impatient_broker() else { return };
    let options = ["--set", "broker.consumer_timeout=10s", "--statedb", "w.state.db"];
    let mut first = site.host(&options);
    site.client(r#"emit(send("tasks.sleep", 25, task_id=QUEUE + "-long").id)"#);
    first.wait_for("is kept in the state file until it ends: tasks.sleep[");
    first.signal("QUIT");
    assert!(first.wait().success());
    assert_eq!(depth(&site), json!(1));
    // Any worker can have it.
    let mut second = site.host(&["--set", "broker.consumer_timeout=10s"]);
    second.wait_for("-long] received");
    second.signal("QUIT");
    second.wait();
}

/// Waits until no delivery of the site's queue is unacknowledged. Each question takes rabbitmqctl a second.
#[track_caller]
fn wait_until_acknowledged(server: &mut Server, site: &Site) {
    const QUESTIONS_MAX: usize = 60;
    let settled = format!("{}\t0", site.queue());
    let mut ask = || server.control("list_queues name messages_unacknowledged");
    let found = (0..QUESTIONS_MAX).any(|_| ask().lines().any(|line| line == settled));
    assert!(found, "a delivery stays unacknowledged");
}

//! What monitors hear of a whole worker.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_monitor_hears_the_life_of_a_task_from_the_first_to_the_last() {
    let events = EventSettings { task_events: true, sent_events: true, heartbeat: Some(PATIENCE), ..silent() };
    let world = World::start_telling(Arc::new(StateMemory::default()), events).await;
    let monitor = world.broker.connect().expect("not told to refuse");
    let monitor = monitor.subscribe(&Subscription::events("celeryev", "celeryev", "m", "#")).await.expect("memory");
    world.send("retry", "a").await;
    world.until_state("a", State::Success).await;
    world.stop(Shutdown::Warm).await;

    let mut heard: Vec<Json> = Vec::new();
    while heard.last().and_then(|event| event.get("type")) != Some(Json::text("worker-offline")) {
        for publication in monitor.next().await.expect("connected").expect("not closed") {
            let body = Json::parse(publication.message.body).expect("JSON");
            match publication.route.routing_key.as_str() {
                "task.multi" => heard.extend(body.elements()),
                _ => heard.push(body),
            }
        }
    }
    heard.sort_by_key(|event| event.get("clock").and_then(|clock| clock.as_i64()));
    let kinds: Vec<String> =
        heard.iter().filter_map(|event| event.get("type")?.as_text().map(|kind| kind.into_owned())).collect();
    let life: Vec<&str> = kinds.iter().map(String::as_str).filter(|kind| kind.starts_with("task-")).collect();
    // The retry may be here before it is told that there is one.
    assert_eq!(life[..3], ["task-received", "task-started", "task-sent"]);
    assert!(matches!(life[3..5], ["task-retried", "task-received"] | ["task-received", "task-retried"]), "{life:?}");
    assert_eq!(life[5..], ["task-started", "task-succeeded"]);
    let offline = heard.last().expect("it was there");
    let number = |key| offline.get(key).and_then(|value| value.as_i64());
    assert_eq!((number("processed"), number("active")), (Some(2), Some(0)));
}

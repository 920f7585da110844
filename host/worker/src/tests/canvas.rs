//! The order in which what follows a task is carried out.

use taskhost_core::record::ResultValue;

use super::*;

/// A task with all that its message carries besides.
async fn send(world: &World, task: &str, id: &str, embed: &str, group: Option<(&str, i64)>) {
    let text = |text: &str| HeaderValue::Text(text.to_owned());
    let mut headers = Headers(vec![("task".to_owned(), text(task)), ("id".to_owned(), text(id))]);
    if let Some((group, index)) = group {
        headers.set("group", text(group));
        headers.set("group_index", HeaderValue::Int(index));
    }
    let body = format!("[[], {{}}, {embed}]");
    world.publish(Message { headers, body: body.into(), ..Message::default() }).await;
}

async fn result(world: &World, id: &str) -> String {
    let id = TaskId::parse(id).expect("valid");
    let stored = world.store.get(&id).await.expect("memory").expect("it is there");
    format!("{} {}", stored.result, stored.children)
}

/// What follows may begin before all of it is said about what it follows.
#[track_caller]
fn assert_order(journal: &Journal, expected: &[&str]) {
    let lines = journal.lines();
    let mut found = lines.iter();
    let all = expected.iter().all(|expected| found.any(|line| line == expected));
    assert!(all, "not in this order: {expected:?} in {lines:?}");
}

#[tokio::test(start_paused = true)]
async fn the_next_step_is_published_before_the_result_that_names_it() {
    let world = World::start().await;
    send(&world, "add", "a", r#"{"chain": [{"task": "add", "options": {"task_id": "b"}}]}"#, None).await;
    world.until_state("b", State::Success).await;
    assert_eq!(result(&world, "a").await, r#"4 [[["b", null], null]]"#);
    world.until(|world| world.journal.count("ack") == 2).await;
    let journal = world.stop(Shutdown::Warm).await;
    assert_order(&journal, &["run a #0", "publish", "store SUCCESS", "ack"]);
}

#[tokio::test(start_paused = true)]
async fn the_last_part_of_a_chord_publishes_its_body_and_is_acknowledged_then() {
    let world = World::start().await;
    world.store.inner.set_chord_size("g", 2, false).await.expect("memory");
    let embed = r#"{"chord": {"task": "celery.accumulate", "options": {"task_id": "body"}}}"#;
    send(&world, "add", "a", embed, Some(("g", 1))).await;
    world.until(|world| world.journal.count("ack") == 1).await;
    send(&world, "report", "b", embed, Some(("g", 0))).await;
    world.until_state("body", State::Success).await;
    assert_eq!(result(&world, "body").await, r#"[["Ok(())", 4]] []"#);
    world.until(|world| world.journal.count("ack") == 3).await;
    let journal = world.stop(Shutdown::Warm).await;
    assert_order(&journal, &["run a #0", "store SUCCESS", "count a", "ack"]);
    assert_order(&journal, &["run b #0", "store SUCCESS", "count b", "publish", "finish g", "ack"]);
    assert_eq!((journal.count("publish"), journal.count("finish g")), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_failed_part_fails_the_body_and_its_errbacks_look_at_what_is_stored() {
    let world = World::start().await;
    world.store.inner.set_chord_size("g", 1, false).await.expect("memory");
    let embed = r#"{"chord": {"task": "add", "options": {"task_id": "body", "link_error": [
        {"task": "celery.accumulate", "options": {"task_id": "caught"}}]}}}"#;
    send(&world, "panic", "a", embed, Some(("g", 0))).await;
    world.until_state("caught", State::Success).await;
    assert_eq!(result(&world, "caught").await, r#"["body"] []"#);
    assert!(result(&world, "body").await.contains("Dependency a raised Trap("));
    world.until(|world| world.journal.count("ack") == 2).await;
    let journal = world.stop(Shutdown::Warm).await;
    assert_order(&journal, &["store FAILURE", "count a", "store FAILURE", "publish", "fail g", "ack"]);
}

#[tokio::test(start_paused = true)]
async fn a_part_that_comes_again_is_counted_though_it_does_not_run_again() {
    let world = World::start().await;
    world.store.inner.set_chord_size("g", 1, false).await.expect("memory");
    let record = settle::revoked_elsewhere(TaskId::parse("a").expect("valid"), clock());
    let record = ResultRecord { state: State::Success, result: ResultValue::Json(Json::int(7)), ..record };
    world.store.inner.put(&[record]).await.pop().expect("one answer").expect("memory");
    let text = |text: &str| HeaderValue::Text(text.to_owned());
    let mut headers = Headers(vec![("task".to_owned(), text("add")), ("id".to_owned(), text("a"))]);
    headers.set("group", text("g"));
    headers.set(taskhost_core::message::PUT_BACK_HEADER, HeaderValue::Bool(true));
    let embed = r#"{"chord": {"task": "celery.accumulate", "options": {"task_id": "body"}}}"#;
    let body = format!("[[], {{}}, {embed}]");
    world.publish(Message { headers, body: body.into(), ..Message::default() }).await;
    world.until_state("body", State::Success).await;
    assert_eq!(result(&world, "body").await, "[[7]] []");
    assert_eq!(world.journal.count("run a #0"), 0);
    world.stop(Shutdown::Warm).await;
}

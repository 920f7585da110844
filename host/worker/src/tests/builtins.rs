//! Celery's own tasks beside those of plugins.

use taskhost_core::Exception;
use taskhost_core::record::ResultValue;

use super::*;

async fn send(world: &World, task: &str, id: &str, args: &str, kwargs: &str) {
    send_with(world, task, id, args, kwargs, |_| {}).await;
}

async fn send_with(world: &World, task: &str, id: &str, args: &str, kwargs: &str, change: impl FnOnce(&mut Headers)) {
    let text = |text: &str| HeaderValue::Text(text.to_owned());
    let mut headers = Headers(vec![("task".to_owned(), text(task)), ("id".to_owned(), text(id))]);
    change(&mut headers);
    let body = format!("[{args}, {kwargs}, {{}}]");
    world.publish(Message { headers, body: body.into(), ..Message::default() }).await;
}

/// State and result, once it has one.
async fn ready(world: &World, id: &str) -> String {
    let id = TaskId::parse(id).expect("valid");
    let waiting = async {
        loop {
            match world.store.get(&id).await.expect("memory") {
                Some(stored) if stored.state.is_ready() => return stored,
                _ => sleep(Duration::from_millis(5)).await,
            }
        }
    };
    let stored = timeout(PATIENCE, waiting).await;
    let stored = stored.unwrap_or_else(|_| panic!("{id} never came to an end: {:?}", world.journal.lines()));
    format!("{} {}", stored.state.as_str(), stored.result)
}

fn runs(world: &World) -> usize {
    world.journal.lines().iter().filter(|line| line.starts_with("run ")).count()
}

#[tokio::test(start_paused = true)]
async fn those_that_need_no_other_task_answer_by_themselves() {
    let world = World::start().await;
    for (id, task, args, kwargs, expected) in [
        ("a", "celery.ping", "[]", "{}", r#"SUCCESS "pong""#),
        ("b", "celery.accumulate", "[1, [2]]", "{}", "SUCCESS [1, [2]]"),
        ("c", "celery.accumulate", "[1, [2]]", r#"{"index": -1}"#, "SUCCESS [2]"),
        ("d", "celery.backend_cleanup", "[]", "{}", "SUCCESS null"),
    ] {
        send(&world, task, id, args, kwargs).await;
        assert_eq!(ready(&world, id).await, expected, "{task}");
    }
    assert_eq!(world.journal.count("delete what is older than 60s"), 1);
    send(&world, "celery.chain", "e", "[1]", "{}").await;
    let failed = ready(&world, "e").await;
    assert!(failed.starts_with("FAILURE") && failed.contains("chain is not a real task"), "{failed}");
    assert_eq!(runs(&world), 0, "no plugin was asked");
    world.stop(Shutdown::Warm).await;
}

#[tokio::test(start_paused = true)]
async fn a_map_runs_its_calls_one_after_the_other_and_sends_what_they_sent() {
    let world = World::start().await;
    send(&world, "celery.map", "a", r#"[{"task": "call"}, [1, 2, 3]]"#, "{}").await;
    assert_eq!(ready(&world, "a").await, "SUCCESS [4, 4, 4]");
    assert_eq!(runs(&world), 3);
    let calls = QueueName::parse("calls").expect("valid");
    assert_eq!(world.broker.connect().expect("not told to refuse").depth(&calls).await.expect("memory"), 6);
    send(&world, "celery.starmap", "b", r#"[{"task": "add"}, [[1, 2], []]]"#, "{}").await;
    assert_eq!(ready(&world, "b").await, "SUCCESS [4, 4]");
    world.stop(Shutdown::Warm).await;
}

#[tokio::test(start_paused = true)]
async fn a_map_ends_with_its_first_failure_and_sends_nothing() {
    let world = World::start().await;
    send(&world, "celery.map", "a", r#"["nobodys", [1]]"#, "{}").await;
    let failed = ready(&world, "a").await;
    assert!(failed.contains(r#""NotRegistered", "exc_message": ["nobodys"]"#), "{failed}");
    // Within a map nobody can run it again.
    send(&world, "celery.map", "b", r#"["retry", [1, 2]]"#, "{}").await;
    let failed = ready(&world, "b").await;
    assert!(failed.contains("Task can be retried"), "{failed}");
    assert_eq!(runs(&world), 1);
    send(&world, "celery.starmap", "c", r#"["call", [[1], 2]]"#, "{}").await;
    let failed = ready(&world, "c").await;
    assert!(failed.contains("argument after * must be an iterable, not int"), "{failed}");
    assert_eq!(world.journal.count("declare calls"), 0);
    world.stop(Shutdown::Warm).await;
}

#[tokio::test(start_paused = true)]
async fn the_calls_of_a_map_share_its_time() {
    let world = World::start().await;
    let limit = |headers: &mut Headers| {
        headers.set("timelimit", HeaderValue::List(vec![HeaderValue::Int(4), HeaderValue::Null]));
    };
    // Each takes a second and a half.
    send_with(&world, "celery.map", "a", r#"["slow", [1, 2, 3, 4]]"#, "{}", limit).await;
    let failed = ready(&world, "a").await;
    assert!(failed.contains(r#""TimeLimitExceeded", "exc_message": [4]"#), "{failed}");
    assert_eq!(runs(&world), 3);
    world.stop(Shutdown::Warm).await;
}

#[tokio::test(start_paused = true)]
async fn the_results_of_a_map_have_a_limit() {
    let world = World::start().await;
    let items = vec!["0"; 1001].join(", ");
    send(&world, "celery.map", "a", &format!(r#"["add", [{items}]]"#), "{}").await;
    let failed = ready(&world, "a").await;
    assert!(failed.contains("ResultTooLarge") && failed.contains("raise limits.result"), "{failed}");
    world.stop(Shutdown::Warm).await;
}

#[tokio::test(start_paused = true)]
async fn a_map_is_stopped_with_the_call_that_runs() {
    let world = World::start().await;
    send(&world, "celery.map", "a", r#"["gate", [1, 2]]"#, "{}").await;
    world.until(|world| runs(world) == 1).await;
    let journal = world.stop(Shutdown::Cold).await;
    assert_eq!(journal.count("requeue"), 1);
    assert_eq!(journal.lines().iter().filter(|line| line.starts_with("run ")).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn they_are_still_there_when_plugins_change() {
    let world = World::start().await;
    let plugins = Catalog::clone(&catalog(&["other"])).with_builtins(builtin::specs(Duration::from_secs(1)));
    world.catalogs.send(Arc::new(plugins)).expect("the worker listens");
    world.until(|world| world.catalogs.borrow().get(&TaskName::parse("other").expect("valid")).is_some()).await;
    send(&world, "celery.map", "a", r#"["other", [1]]"#, "{}").await;
    assert_eq!(ready(&world, "a").await, "SUCCESS [4]");
    send(&world, "celery.map", "b", r#"["add", [1]]"#, "{}").await;
    assert!(ready(&world, "b").await.contains("NotRegistered"));
    world.stop(Shutdown::Warm).await;
}

/// A result, as another worker would store it.
async fn store(world: &World, id: &str, state: State, result: ResultValue) {
    let record =
        ResultRecord { state, result, ..settle::revoked_elsewhere(TaskId::parse(id).expect("valid"), clock()) };
    world.store.put(&[record]).await.into_iter().for_each(|stored| stored.expect("memory"));
}

/// Looks after a chord of two members, whose body returns what it is called with.
async fn unlock(world: &World, id: &str, kwargs: &str) {
    let body = format!(r#"{{"task": "celery.accumulate", "options": {{"task_id": "body of {id}"}}}}"#);
    let header = format!(r#"[[["one of {id}", null], null], [["g", null], [[["two of {id}", null], null]]]]"#);
    let args = format!(r#"["header of {id}", {body}]"#);
    send(world, "celery.chord_unlock", id, &args, &format!(r#"{{"result": {header}{kwargs}}}"#)).await;
}

fn number(number: i64) -> ResultValue {
    ResultValue::Json(Json::int(number))
}

#[tokio::test(start_paused = true)]
async fn a_chord_is_looked_at_until_all_results_are_there() {
    let world = World::start().await;
    store(&world, "one of u", State::Success, number(1)).await;
    unlock(&world, "u", "").await;
    world.until(|world| world.journal.count("publish") >= 3).await;
    store(&world, "two of u", State::Success, number(2)).await;
    assert_eq!(ready(&world, "body of u").await, "SUCCESS [[1, [2]]]");
    let journal = world.stop(Shutdown::Warm).await;
    assert_eq!(journal.count("store RETRY"), 0, "nobody wants to know");
}

#[tokio::test(start_paused = true)]
async fn a_chord_with_a_failed_member_fails_its_body() {
    let world = World::start().await;
    store(&world, "one of u", State::Success, number(1)).await;
    let no = Exception::new("builtins", "ValueError", [Json::text("no")]);
    store(&world, "two of u", State::Failure, ResultValue::Exception(no)).await;
    unlock(&world, "u", "").await;
    let failed = ready(&world, "body of u").await;
    assert!(failed.starts_with("FAILURE") && failed.contains("ChordError"), "{failed}");
    assert!(failed.contains("ValueError('no')"), "{failed}");
    world.stop(Shutdown::Warm).await;
}

#[tokio::test(start_paused = true)]
async fn a_chord_that_is_not_looked_at_any_more_fails_its_body() {
    let world = World::start().await;
    unlock(&world, "u", r#", "max_retries": 2, "interval": 0.5"#).await;
    let failed = ready(&world, "body of u").await;
    assert!(failed.contains("chord_unlock could not be retried: MaxRetriesExceededError"), "{failed}");
    assert_eq!(world.journal.count("publish"), 2);
    world.stop(Shutdown::Warm).await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_does_not_answer_is_asked_again() {
    let world = World::start().await;
    store(&world, "one of u", State::Success, number(1)).await;
    store(&world, "two of u", State::Success, number(2)).await;
    world.store.silent.store(true, Ordering::Relaxed);
    unlock(&world, "u", "").await;
    world.until(|world| world.journal.count("publish") >= 2).await;
    world.store.silent.store(false, Ordering::Relaxed);
    assert_eq!(ready(&world, "body of u").await, "SUCCESS [[1, [2]]]");
    world.stop(Shutdown::Warm).await;
}

#[tokio::test(start_paused = true)]
async fn chunks_are_published_and_run() {
    let world = World::start().await;
    send(&world, "celery.chunks", "a", r#"[{"task": "add"}, [[1, 2], [3, 4], [5, 6]], 2]"#, "{}").await;
    ready(&world, "a").await;
    let id = TaskId::parse("a").expect("valid");
    let tuple = world.store.get(&id).await.expect("memory").expect("it is there").result;
    let parts: Vec<String> = tuple
        .elements()
        .nth(1)
        .expect("members")
        .elements()
        .filter_map(|part| Some(part.elements().next()?.elements().next()?.as_text()?.into_owned()))
        .collect();
    assert_eq!(parts.len(), 2, "{tuple}");
    assert_eq!(ready(&world, &parts[0]).await, "SUCCESS [4, 4]");
    assert_eq!(ready(&world, &parts[1]).await, "SUCCESS [4]");
    world.stop(Shutdown::Warm).await;
}

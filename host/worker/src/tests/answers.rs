//! Questions of remote control on their way through the driver.

use store::state::NodeState;
use taskhost_core::Json;
use taskhost_core::control::Command;
use tokio::sync::oneshot;

use super::*;

impl World {
    async fn ask(&self, method: &str, arguments: &str) -> String {
        let arguments = Json::parse(arguments.to_owned()).expect("JSON");
        let command = Command::parse(method, &arguments).expect("a command");
        let (answer, answered) = oneshot::channel();
        self.questions.send(Question { command, answer }).await.expect("the driver listens");
        timeout(PATIENCE, answered).await.expect("in time").expect("an answer").to_string()
    }
}

#[tokio::test(start_paused = true)]
async fn a_revoke_of_what_nobody_has_begun_is_stored_before_it_is_answered() {
    let world = World::start().await;
    world.send("add", "done").await;
    world.until_state("done", State::Success).await;
    let answer = world.ask("revoke", r#"{"task_id": ["done", "elsewhere"]}"#).await;
    assert_eq!(answer, r#"{"ok": "tasks {'done', 'elsewhere'} flagged as revoked"}"#);
    let state = |id: &'static str| {
        let id = TaskId::parse(id).expect("an id");
        let store = world.store.clone();
        async move { store.get(&id).await.expect("memory").map(|stored| stored.state) }
    };
    assert_eq!((state("elsewhere").await, state("done").await), (Some(State::Revoked), Some(State::Success)));
    world.stop(Shutdown::Warm).await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_does_not_keep_an_answer_back() {
    let world = World::start().await;
    world.store.down.store(true, Ordering::Relaxed);
    let answer = world.ask("revoke", r#"{"task_id": "elsewhere"}"#).await;
    assert_eq!(answer, r#"{"ok": "tasks {'elsewhere'} flagged as revoked"}"#);
    world.stop(Shutdown::Warm).await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_says_nothing_does_not_keep_an_answer_back_for_ever() {
    let world = World::start().await;
    world.store.silent.store(true, Ordering::Relaxed);
    let began = Instant::now();
    let answer = world.ask("revoke", r#"{"task_id": ["a", "b"]}"#).await;
    assert_eq!(answer, r#"{"ok": "tasks {'a', 'b'} flagged as revoked"}"#);
    assert!(began.elapsed() <= Duration::from_secs(11), "{:?}", began.elapsed());
    world.stop(Shutdown::Warm).await;
}

#[tokio::test(start_paused = true)]
async fn what_runs_is_listed_and_terminated() {
    let world = World::start().await;
    world.send("gate", "a").await;
    world.until(|world| world.journal.count("run a #0") == 1).await;
    assert!(world.ask("active", "{}").await.contains(r#""id": "a""#));
    assert_eq!(world.ask("terminate", r#"{"signal": "KILL", "task_id": "a"}"#).await, r#"{"ok": "terminate: a"}"#);
    world.until_state("a", State::Revoked).await;
    assert_eq!(world.ask("active", "{}").await, "[]");
    world.stop(Shutdown::Warm).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_revoked_and_then_allowed_is_allowed_after_a_restart() {
    let state = Arc::new(StateMemory::default());
    let world = World::start_with(state.clone()).await;
    world.ask("revoke", r#"{"task_id": ["a", "b"]}"#).await;
    assert_eq!(world.ask("unrevoke", r#"{"task_id": "a"}"#).await, r#"{"ok": "tasks {'a'} may run again"}"#);
    world.stop(Shutdown::Warm).await;
    let ids: Vec<_> = state.revocations().await.expect("memory").into_iter().map(|(it, _)| format!("{it:?}")).collect();
    assert_eq!(ids, ["Id(\"b\")"]);
}

#[tokio::test(start_paused = true)]
async fn a_queue_is_added_while_the_worker_runs() {
    let world = World::start().await;
    assert_eq!(world.ask("add_consumer", r#"{"queue": "second"}"#).await, r#"{"ok": "add consumer second"}"#);
    assert!(world.ask("active_queues", "{}").await.contains(r#""name": "second""#));
    world.stop(Shutdown::Warm).await;
}

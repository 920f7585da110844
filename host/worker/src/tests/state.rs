//! What a worker remembers for itself, from one start to the next.

use store::state::{JournalId, NodeState};

use super::*;

fn header(text: &str) -> HeaderValue {
    HeaderValue::Text(text.to_owned())
}

#[tokio::test(start_paused = true)]
async fn what_expired_is_revoked_after_a_restart() {
    let state = Arc::new(StateMemory::default());
    let world = World::start_with(state.clone()).await;
    world.send_with("add", "a", |headers| headers.set("expires", header("2020-01-01T00:00:00+00:00"))).await;
    world.until_state("a", State::Revoked).await;
    let journal = world.stop(Shutdown::Warm).await;
    assert_eq!(journal.lines(), ["store REVOKED", "ack"]);
    let ids: Vec<_> = state.revocations().await.expect("memory").into_iter().map(|(it, _)| format!("{it:?}")).collect();
    assert_eq!(ids, ["Id(\"a\")"]);

    let world = World::start_with(state).await;
    world.send("add", "a").await;
    world.send("add", "b").await;
    world.until_state("a", State::Revoked).await;
    world.until_state("b", State::Success).await;
    let journal = world.stop(Shutdown::Warm).await;
    assert_eq!(journal.count("run a #0"), 0);
    assert_eq!(journal.count("run b #0"), 1);
}

/// Runs a task for longer than its broker bears, and ends the worker in the middle of it.
async fn journaled(state: &Arc<StateMemory>) -> World {
    let world = World::start_with(state.clone()).await;
    world.send("gate", "a").await;
    world.until(|world| world.journal.count("run a #0") == 1).await;
    sleep(CONSUMER_TIMEOUT / 2).await;
    assert_eq!(world.journal.count("ack"), 0);
    sleep(CONSUMER_TIMEOUT / 2).await;
    assert_eq!(world.journal.count("ack"), 1, "the broker is told that it is done with");
    assert!(state.read_journal(JournalId(1)).await.expect("memory").is_some(), "it is in the journal");
    world
}

#[tokio::test(start_paused = true)]
async fn a_long_task_is_kept_here_until_it_ends() {
    let state = Arc::new(StateMemory::default());
    let world = journaled(&state).await;
    // A lost connection is no matter any more.
    world.broker.lose_connections();
    world.send("add", "b").await;
    world.until_state("b", State::Success).await;
    world.gate.notify_one();
    world.until_state("a", State::Success).await;
    let journal = world.stop(Shutdown::Warm).await;
    assert_eq!(journal.count("run a #0"), 1);
    assert_eq!(state.read_journal(JournalId(1)).await.expect("memory"), None, "nothing is left");
}

#[tokio::test(start_paused = true)]
async fn a_long_task_is_resumed_after_a_crash() {
    let state = Arc::new(StateMemory::default());
    let world = journaled(&state).await;
    world.worker.abort();
    assert!(world.worker.await.is_err(), "it was killed");

    let world = World::start_with(state.clone()).await;
    world.until(|world| world.journal.count("run a #0") == 1).await;
    world.gate.notify_one();
    world.until_state("a", State::Success).await;
    world.stop(Shutdown::Warm).await;
    assert_eq!(state.read_journal(JournalId(1)).await.expect("memory"), None, "nothing is left");
}

#[tokio::test(start_paused = true)]
async fn a_long_task_that_killed_its_worker_too_often_is_kept_aside() {
    let state = Arc::new(StateMemory::default());
    let world = journaled(&state).await;
    world.worker.abort();
    for _ in 0..2 {
        let world = World::start_with(state.clone()).await;
        world.until(|world| world.journal.count("run a #0") == 1).await;
        world.worker.abort();
    }
    let world = World::start_with(state.clone()).await;
    world.until_state("a", State::Failure).await;
    let journal = world.stop(Shutdown::Warm).await;
    assert_eq!(journal.count("run a #0"), 0);
    assert_eq!(state.read_journal(JournalId(1)).await.expect("memory"), None, "nothing is left");
}

#[tokio::test(start_paused = true)]
async fn a_long_task_that_is_interrupted_goes_back_to_its_queue() {
    let state = Arc::new(StateMemory::default());
    let world = journaled(&state).await;
    let broker = world.broker.clone();
    world.stop(Shutdown::Cold).await;
    let client = broker.connect().expect("not told to refuse");
    assert_eq!(client.depth(&queue()).await.expect("memory"), 1);
    assert_eq!(state.read_journal(JournalId(1)).await.expect("memory"), None, "nothing is left");
}

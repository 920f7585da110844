//! What a worker remembers for itself, from one start to the next.

use store::state::NodeState;

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

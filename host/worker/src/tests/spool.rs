//! What becomes of results that the store does not take.

use super::*;

/// Attempts that were begun.
fn runs(world: &World) -> usize {
    world.journal.lines().iter().filter(|line| line.starts_with("run")).count()
}

#[tokio::test(start_paused = true)]
async fn tasks_run_on_within_bounds_while_the_store_is_down_and_every_result_is_written_once_it_is_back() {
    let world = World::start().await;
    world.store.down.store(true, Ordering::Relaxed);
    for number in 0..60 {
        world.send("add", &format!("t{number}")).await;
    }
    let outcomes = limits().spool.outcomes;
    world.until(|world| runs(world) >= outcomes).await;
    sleep(Duration::from_secs(60)).await;
    assert!(runs(&world) < outcomes + limits().concurrency, "{} began", runs(&world));
    assert_eq!(world.journal.count("ack"), 0, "nothing is acknowledged before it is stored");
    world.store.down.store(false, Ordering::Relaxed);
    for number in 0..60 {
        world.until_state(&format!("t{number}"), State::Success).await;
    }
    world.until(|world| world.journal.count("ack") == 60).await;
    assert_eq!((runs(&world), world.depth().await), (60, 0));
    world.stop(Shutdown::Warm).await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_does_not_answer_holds_up_only_what_is_to_be_stored() {
    let world = World::start().await;
    world.send("add", "a").await;
    world.until(|world| world.journal.count("ack") == 1).await;
    world.store.deaf.store(true, Ordering::Relaxed);
    world.send("add", "b").await;
    world.until(|world| world.journal.count("run b #0") == 1).await;
    let began = Instant::now();
    let ignore = |headers: &mut Headers| headers.set("ignore_result", HeaderValue::Bool(true));
    world.send_with("add", "c", ignore).await;
    world.until(|world| world.journal.count("ack") == 2).await;
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    world.store.deaf.store(false, Ordering::Relaxed);
    // What was not answered is written again.
    world.until_state("b", State::Success).await;
    world.until(|world| world.journal.count("ack") == 3).await;
    assert_eq!(runs(&world), 3);
    world.stop(Shutdown::Warm).await;
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_ends_without_its_store_gives_back_what_it_could_not_write() {
    let world = World::start().await;
    world.store.down.store(true, Ordering::Relaxed);
    world.send("add", "a").await;
    world.until(|world| world.journal.count("run a #0") == 1).await;
    let broker = world.broker.clone();
    let journal = world.stop(Shutdown::Warm).await;
    assert_eq!((journal.count("requeue"), journal.count("ack")), (1, 0));
    assert_eq!(broker.connect().expect("not told to refuse").depth(&queue()).await.expect("memory"), 1);
}

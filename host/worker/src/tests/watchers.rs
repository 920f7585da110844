//! What is written down for those who watch from outside.

use super::*;
use crate::{OCCURRENCES, Pulse, Tally, Unready};

#[tokio::test(start_paused = true)]
async fn a_watched_worker_says_what_it_does_and_whether_it_takes_tasks() {
    let (pulse, tally) = (Arc::<Pulse>::default(), Arc::<Tally>::default());
    assert_eq!(pulse.unready(), Some(Unready::NotConnected), "it has not begun");
    let watchers = Watchers { pulse: Some(pulse.clone()), tally: Some(tally.clone()) };
    let world = World::start_watched(Arc::new(StateMemory::default()), silent(), watchers).await;
    world.send("gate", "a").await;
    world.until(|_| pulse.census().running == 1).await;
    assert_eq!(pulse.unready(), None);
    world.send("add", "b").await;
    world.until_state("b", State::Success).await;
    world.gate.notify_one();
    world.until_state("a", State::Success).await;
    world.send("retry", "c").await;
    world.until_state("c", State::Success).await;
    world.stop(Shutdown::Warm).await;

    assert_eq!(pulse.unready(), Some(Unready::Stopping));
    assert_eq!(pulse.census().running, 0);
    let told = tally.read().into_iter().filter_map(|tally| {
        let counts = OCCURRENCES.iter().zip(tally.occurrences).filter(|(_, count)| *count > 0);
        let counts: Vec<String> = counts.map(|(name, count)| format!("{name}={count}")).collect();
        let attempts = tally.wall.buckets.last().map_or(0, |(_, count)| *count);
        let (task, ..) = tally.task?;
        Some(format!("{task}: {} attempts={attempts}", counts.join(" ")))
    });
    assert_eq!(
        told.collect::<Vec<_>>(),
        [
            "add: received=1 started=1 succeeded=1 attempts=1",
            "gate: received=1 started=1 succeeded=1 attempts=1",
            "retry: received=2 started=2 succeeded=1 retried=1 attempts=2",
        ]
    );
}

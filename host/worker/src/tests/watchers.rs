//! What is written down for those who watch from outside.

use super::*;
use crate::{OCCURRENCES, Pulse, SpanSink, Tally, Tracing, Unready};
use taskhost_core::trace::{Sampling, Span, TraceContext};

#[tokio::test(start_paused = true)]
async fn a_watched_worker_says_what_it_does_and_whether_it_takes_tasks() {
    let (pulse, tally) = (Arc::<Pulse>::default(), Arc::<Tally>::default());
    assert_eq!(pulse.unready(), Some(Unready::NotConnected), "it has not begun");
    let watchers = Watchers { pulse: Some(pulse.clone()), tally: Some(tally.clone()), tracing: None };
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

/// Keeps what it gets.
#[derive(Default)]
struct Spans(Mutex<Vec<Span>>);

impl SpanSink for Spans {
    fn put(&self, span: Span) {
        self.0.lock().expect("no panics").push(span);
    }
}

async fn traced(sampling: Sampling) -> (World, Arc<Spans>) {
    let spans = Arc::<Spans>::default();
    let tracing = Tracing { sink: spans.clone(), sampling, system: "memory", seeds: [1, 2] };
    let watchers = Watchers { tracing: Some(tracing), ..Watchers::default() };
    (World::start_watched(Arc::new(StateMemory::default()), silent(), watchers).await, spans)
}

#[tokio::test(start_paused = true)]
async fn a_retry_is_below_the_attempt_that_asked_for_it_in_the_trace_of_the_client() {
    let (world, spans) = traced(Sampling::default()).await;
    let client = TraceContext::root([7; 16], [8; 8], true);
    world.send_with("retry", "a", |headers| client.write(headers)).await;
    world.until_state("a", State::Success).await;
    world.send("add", "b").await;
    world.until_state("b", State::Success).await;
    world.stop(Shutdown::Warm).await;

    let spans = spans.0.lock().expect("no panics");
    let [first, second, alone] = &spans[..] else { panic!("not three: {spans:?}") };
    assert_eq!((first.context.trace, first.parent), (client.trace, Some(client.span)));
    assert_eq!((second.context.trace, second.parent), (client.trace, Some(first.context.span)));
    assert_eq!(alone.parent, None);
    let state =
        |span: &Span| span.attributes.iter().find(|(key, _)| *key == "celery.state").map(|(_, value)| value.clone());
    let states = [first, second, alone].map(state);
    let text = |text: &str| Some(taskhost_core::trace::Value::Text(text.to_owned()));
    assert_eq!(states, [text("RETRY"), text("SUCCESS"), text("SUCCESS")]);
    let ids: std::collections::BTreeSet<_> = spans.iter().map(|span| span.context.span).collect();
    assert_eq!(ids.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_trace_that_nobody_records_costs_no_span() {
    let (world, spans) = traced(Sampling::default()).await;
    let client = TraceContext::root([7; 16], [8; 8], false);
    world.send_with("retry", "a", |headers| client.write(headers)).await;
    world.until_state("a", State::Success).await;
    world.stop(Shutdown::Warm).await;
    assert_eq!(spans.0.lock().expect("no panics").len(), 0);
}

//! What the dispatcher does about outcomes that cannot be stored.

use super::super::fixture::{limits, spec};
use super::super::tests::{Bench, NOW, at, committed, received, success};
use super::super::{CommitFailure, Input, Limits, Shutdown};
use super::*;
use crate::catalog::Catalog;
use crate::task::TaskOptions;
use std::sync::Arc;

/// A worker with so many slots and room for so many outcomes.
fn bench(concurrency: usize, outcomes: usize) -> Bench {
    let spool = SpoolLimits { outcomes, bytes: 1 << 20 };
    let early = TaskOptions { acks_late: Some(false), ..TaskOptions::default() };
    let tasks = [spec("tasks.add", TaskOptions::default()), spec("tasks.early", early)];
    let limits = Limits { spool, ..limits(concurrency) };
    Bench(Dispatcher::new(limits, Arc::new(Catalog::new(tasks)), 1))
}

/// Runs a task to its end, and has its result refused.
fn run_and_refuse(bench: &mut Bench, now: Timestamp, number: u64, task: &str) -> Vec<Action> {
    bench.0.handle(received(number, task, &format!("id{number}")), now);
    let actions = bench.0.handle(success(number), now);
    refuse(bench, now, number, actions)
}

fn refuse(bench: &mut Bench, now: Timestamp, number: u64, actions: Vec<Action>) -> Vec<Action> {
    let remaining = actions.into_iter().find_map(|action| match action {
        Action::Commit(delivery, settlement) if delivery == DeliveryId(number) => Some(settlement),
        _ => None,
    });
    let remaining = remaining.expect("it is committed");
    let failure = CommitFailure { remaining, transient: true, wait: None, reason: "refused".to_owned() };
    bench.0.handle(Input::CommitFailed(DeliveryId(number), Box::new(failure)), now)
}

fn commits(actions: &[Action]) -> Vec<u64> {
    let commit = |action: &Action| match action {
        Action::Commit(delivery, _) => Some(delivery.0),
        _ => None,
    };
    actions.iter().filter_map(commit).collect()
}

fn events(actions: Vec<Action>) -> Vec<SpoolEvent> {
    let event = |action| match action {
        Action::Spool(event) => Some(event),
        _ => None,
    };
    actions.into_iter().filter_map(event).collect()
}

#[test]
fn tasks_run_on_while_the_store_is_away_and_the_prefetch_makes_room_for_what_waits() {
    let mut bench = bench(1, 100);
    let first = run_and_refuse(&mut bench, NOW, 1, "tasks.add");
    assert!(first.contains(&Action::SetPrefetch(5)), "{first:?}");
    assert_eq!(events(first), [SpoolEvent::Began { reason: "refused".to_owned() }]);
    for number in 2..=10 {
        let actions = run_and_refuse(&mut bench, NOW, number, "tasks.add");
        assert!(actions.contains(&Action::SetPrefetch(4 + number as u32)));
        assert_eq!(events(actions), [], "it is said once");
    }
    assert_eq!(bench.0.census().spooled, 10);
}

#[test]
fn what_the_broker_was_told_is_done_takes_none_of_the_prefetch() {
    let mut bench = bench(1, 100);
    let actions = run_and_refuse(&mut bench, NOW, 1, "tasks.early");
    assert!(!actions.iter().any(|action| matches!(action, Action::SetPrefetch(_))), "{actions:?}");
    assert_eq!(bench.0.census().spooled, 1);
}

#[test]
fn nothing_starts_when_there_is_room_for_no_more_however_it_is_acknowledged() {
    for task in ["tasks.add", "tasks.early"] {
        let mut bench = bench(1, 2);
        run_and_refuse(&mut bench, NOW, 1, task);
        let full = events(run_and_refuse(&mut bench, NOW, 2, task));
        assert!(matches!(full[..], [SpoolEvent::Full { outcomes: 2, .. }]), "{full:?}");
        bench.0.handle(received(3, task, "id3"), NOW);
        let census = bench.0.census();
        assert_eq!((census.running, census.ready, census.spool_full), (0, 1, true));
        let probe = commits(&bench.0.handle(Input::Due, at(100)));
        assert_eq!(probe, [1]);
        let actions = bench.0.handle(committed(1), at(101));
        assert!(actions.iter().any(|action| matches!(action, Action::Start(_))), "{actions:?}");
    }
}

#[test]
fn what_a_silent_store_was_given_counts_before_it_has_failed() {
    let mut bench = bench(1, 2);
    for number in 1..=3 {
        bench.0.handle(received(number, "tasks.early", &format!("id{number}")), NOW);
        bench.0.handle(success(number), NOW);
    }
    let census = bench.0.census();
    assert_eq!((census.committing, census.ready, census.spooled), (2, 1, 0));
    let actions = bench.0.handle(committed(1), NOW);
    assert!(actions.iter().any(|action| matches!(action, Action::Start(_))), "{actions:?}");
}

#[test]
fn bytes_are_bounded_as_well() {
    let mut bench = bench(1, 100);
    bench.0.spool.limits.bytes = 2 * OUTCOME_BYTES;
    run_and_refuse(&mut bench, NOW, 1, "tasks.add");
    assert!(!bench.0.census().spool_full);
    run_and_refuse(&mut bench, NOW, 2, "tasks.add");
    assert!(bench.0.census().spool_full);
}

#[test]
fn the_store_is_tried_with_one_after_the_other_and_ever_more_seldom() {
    let mut bench = bench(3, 100);
    for number in 1..=3 {
        run_and_refuse(&mut bench, NOW, number, "tasks.add");
    }
    let (mut now, mut tried) = (NOW, Vec::new());
    for wait in [100, 200, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000] {
        let early = now + Duration::from_millis(wait - 1);
        assert_eq!(commits(&bench.0.handle(Input::Due, early)), [], "not yet");
        now = now + Duration::from_millis(wait);
        let actions = bench.0.handle(Input::Due, now);
        let probes = commits(&actions);
        assert_eq!(probes.len(), 1, "after {wait} ms");
        tried.push(probes[0]);
        assert_eq!(events(refuse(&mut bench, now, probes[0], actions)), []);
    }
    assert_eq!(tried, [1, 2, 3, 1, 2, 3, 1, 2, 3]);
}

#[test]
fn when_the_store_takes_one_the_others_follow_at_once_in_growing_numbers() {
    let mut bench = bench(1, 1_000);
    for number in 1..=200 {
        run_and_refuse(&mut bench, NOW, number, "tasks.add");
    }
    let mut open = commits(&bench.0.handle(Input::Due, at(100)));
    assert_eq!(open, [1]);
    let mut over = Vec::new();
    while let Some(number) = open.pop() {
        let actions = bench.0.handle(committed(number), at(101));
        open.extend(commits(&actions));
        assert!(open.len() <= 100, "no more than may be on their way");
        over.extend(events(actions));
    }
    assert_eq!(over, [SpoolEvent::Over { most: 200 }]);
    assert_eq!(bench.0.census().spooled, 0);
    assert_eq!(bench.0.prefetch(), 4);
}

#[test]
fn a_result_of_another_task_shows_as_well_that_the_store_is_back() {
    let mut bench = bench(1, 100);
    run_and_refuse(&mut bench, NOW, 1, "tasks.add");
    bench.0.handle(received(2, "tasks.add", "id2"), NOW);
    bench.0.handle(success(2), NOW);
    assert_eq!(commits(&bench.0.handle(committed(2), NOW)), [1]);
}

#[test]
fn a_worker_that_ends_gives_back_what_it_cannot_store() {
    let mut bench = bench(1, 100);
    run_and_refuse(&mut bench, NOW, 1, "tasks.add");
    run_and_refuse(&mut bench, NOW, 2, "tasks.early");
    let actions = bench.0.handle(Input::Stop(Shutdown::Warm), NOW);
    // Once more, since it ends.
    for number in commits(&actions) {
        let remaining = actions.iter().find_map(|action| match action {
            Action::Commit(delivery, settlement) if delivery.0 == number => Some(settlement.clone()),
            _ => None,
        });
        let remaining = remaining.expect("it is committed");
        let failure = CommitFailure { remaining, transient: true, wait: None, reason: "refused".to_owned() };
        bench.0.handle(Input::CommitFailed(DeliveryId(number), Box::new(failure)), NOW);
    }
    let mut ended = Vec::new();
    for second in 1..=11 {
        let now = NOW + Duration::from_secs(second);
        let actions = bench.0.handle(Input::Due, now);
        for number in commits(&actions) {
            let copy = actions.iter().find_map(|action| match action {
                Action::Commit(delivery, settlement) if delivery.0 == number => Some(settlement.clone()),
                _ => None,
            });
            let remaining = copy.expect("it is committed");
            let failure = CommitFailure { remaining, transient: true, wait: None, reason: "refused".to_owned() };
            ended.extend(bench.0.handle(Input::CommitFailed(DeliveryId(number), Box::new(failure)), now));
        }
        ended.extend(actions);
    }
    assert!(ended.contains(&Action::Settle(DeliveryId(1), Acknowledgement::Requeue)), "{ended:?}");
    assert!(!ended.contains(&Action::Settle(DeliveryId(2), Acknowledgement::Requeue)), "{ended:?}");
    let id = |id: &str| Some(TaskId::parse(id).expect("an id"));
    let lost = |id, acknowledged| Action::Spool(SpoolEvent::GivenUp { id, acknowledged });
    assert!(ended.contains(&lost(id("id1"), false)) && ended.contains(&lost(id("id2"), true)), "{ended:?}");
    assert!(ended.contains(&Action::Stopped));
}

//! What the dispatcher does with one thing after another.

use std::time::Duration;

use super::fixture::{self, limits, request, spec};
use super::*;
use crate::canvas::SendSettings;
use crate::chord::ChordStyle;
use crate::concurrency::KeyPath;
use crate::control::Command;
use crate::message::{DELIVERY_COUNT_HEADER, HeaderValue, PUT_BACK_HEADER};
use crate::name::NodeName;
use crate::outcome::{Outcome, RetryDelay, RetryRequest, Trap};
use crate::protocol::content::Json;
use crate::rate::{Rate, RateScope};
use crate::record::{ResultValue, State};
use crate::request::DecodeError;
use crate::settle::{ChordStep, Settlement, Step};
use crate::task::{Disposition, TaskOptions};
use crate::usage::Usage;

pub(super) const NOW: Timestamp = Timestamp::from_micros(1_795_343_528_000_000);

pub(super) fn at(ms: u64) -> Timestamp {
    NOW + Duration::from_millis(ms)
}

pub(super) fn dispatcher(concurrency: usize) -> Dispatcher {
    let limited =
        TaskOptions { rate_limit: Some(Some(Rate { interval: Duration::from_millis(100) })), ..TaskOptions::default() };
    let early = TaskOptions { acks_late: Some(false), track_started: Some(true), ..TaskOptions::default() };
    let tasks = [spec("tasks.add", TaskOptions::default()), spec("tasks.limited", limited), spec("tasks.early", early)];
    Dispatcher::new(limits(concurrency), Arc::new(Catalog::new(tasks)), 1)
}

/// One line an action; log lines are left out.
pub(super) fn render(actions: Vec<Action>) -> String {
    let line = |action| match action {
        Action::LookUp(delivery, id) => Some(format!("look up {id} for {}", delivery.0)),
        Action::Count(delivery, execution) => {
            Some(format!("count {} for {}", execution.replace('\n', " "), delivery.0))
        }
        Action::Journal(delivery, kept) => {
            Some(format!("journal {} deliveries={}", delivery.0, kept.message.headers.delivery_count()))
        }
        Action::ForgetCount(execution) => Some(format!("forget the count of {}", execution.replace('\n', " "))),
        Action::Start(attempt) => Some(format!("start {} as {}", attempt.delivery.0, attempt.id.0)),
        Action::Settle(delivery, acknowledgement) => {
            Some(format!("{} {}", format!("{acknowledgement:?}").to_lowercase(), delivery.0))
        }
        Action::Adopt { known, redelivered } => {
            Some(format!("{known:?} adopts {redelivered:?}").replace("DeliveryId", ""))
        }
        Action::PutBack { delivery, until, .. } => {
            Some(format!("put back {} until {}", delivery.0, until.since(NOW).as_millis()))
        }
        Action::Record(record) => Some(format!("record {}", record.state.as_str())),
        Action::Commit(delivery, settlement) => {
            let states = settlement.records.iter().map(|record| record.state.as_str().to_owned());
            let published = settlement.before.iter().map(|step| match step {
                Step::Send(it) if it.message.headers.get(PUT_BACK_HEADER).is_some() => "publish again".to_owned(),
                Step::Shelve { queue, .. } => format!("shelve in {queue}"),
                Step::Send(_) | Step::SendTo(..) => "publish".to_owned(),
                step => panic!("{step:?} is not expected"),
            });
            let acknowledged = settlement.acknowledgement.map(|ack| format!("{ack:?}").to_lowercase());
            let steps: Vec<String> = published.chain(states).chain(acknowledged).collect();
            Some(format!("commit {}: {}", delivery.0, steps.join(", ")))
        }
        Action::Remember(revocations) => Some(format!("remember {}", revocations.len())),
        Action::Unremember(revocations) => Some(format!("forget {}", revocations.len())),
        Action::Reply(question, answer) => Some(format!("reply {} {answer}", question.0)),
        Action::LookUpStates(question, ids) => {
            Some(format!("states for {}: {}", question.0, ids.iter().map(TaskId::as_str).collect::<Vec<_>>().join(" ")))
        }
        Action::StoreThenReply { question, records, answer } => {
            let ids: Vec<&str> = records.iter().map(|record| record.id.as_str()).collect();
            Some(format!("store {} for {} then reply {answer}", ids.join(" "), question.0))
        }
        Action::Terminating(..) => None,
        Action::Terminate(attempt) => Some(format!("terminate {}", attempt.0)),
        Action::WakeAt(time) => Some(format!("wake at {}", time.since(NOW).as_millis())),
        Action::SetPrefetch(prefetch) => Some(format!("prefetch {prefetch}")),
        Action::Consume(queues) => {
            let names = queues.iter().map(|queue| queue.name.as_str());
            Some(std::iter::once("consume").chain(names).collect::<Vec<_>>().join(" "))
        }
        Action::StopConsuming => Some("stop consuming".to_owned()),
        Action::Acquire { delivery, rate, .. } => {
            Some(format!("ask for {} every {}", delivery.0, rate.interval.as_millis()))
        }
        Action::SoftShutdown(timeout) => Some(format!("soft shutdown for {}", timeout.as_secs())),
        Action::ColdShutdown => Some("cold shutdown".to_owned()),
        Action::Announce(_) => None,
        Action::Spool(_) => None,
        Action::Plugin(event) => Some(match event {
            PluginEvent::Quarantined { version, first, .. } => format!("quarantine {version} first={first}"),
            PluginEvent::HalfOpen { version, .. } => format!("half open {version}"),
            PluginEvent::Recovered { version, .. } => format!("recovered {version}"),
            PluginEvent::Judged(verdict) => {
                format!("{} promoted={} {}/{}", verdict.version, verdict.promoted, verdict.failures, verdict.attempts)
            }
        }),
        Action::BringHome { plugin, at_most } => {
            let whose = plugin.map_or("all".to_owned(), |plugin| plugin.to_string());
            Some(format!("bring home {whose}{}", at_most.map(|most| format!(" at most {most}")).unwrap_or_default()))
        }
        Action::Stopped => Some("stopped".to_owned()),
    };
    actions.into_iter().filter_map(line).collect::<Vec<_>>().join("; ")
}

pub(super) struct Bench(pub(super) Dispatcher);

impl Bench {
    #[track_caller]
    pub(super) fn step(&mut self, now: Timestamp, input: Input, expected: &str) {
        assert_eq!(render(self.0.handle(input, now)), expected);
    }

    /// Tells it something by remote control.
    #[track_caller]
    pub(super) fn tell(&mut self, now: Timestamp, command: Command, expected: &str) {
        assert_eq!(render(self.told(now, command)), expected);
    }

    /// What that leads to, but for the answer.
    pub(super) fn told(&mut self, now: Timestamp, command: Command) -> Vec<Action> {
        let actions = self.0.handle(Input::Control(QuestionId(1), Box::new(command)), now).into_iter();
        actions.filter(|action| !matches!(action, Action::Reply(..) | Action::LookUpStates(..))).collect()
    }
}

pub(super) fn received(delivery: u64, task: &str, id: &str) -> Input {
    Input::Received(DeliveryId(delivery), Ok(Box::new(request(task, id))))
}

pub(super) fn redelivered(delivery: u64, task: &str, id: &str, retries: u32) -> Input {
    let mut request = request(task, id);
    request.delivery.redelivered = true;
    request.retries = retries;
    Input::Received(DeliveryId(delivery), Ok(Box::new(request)))
}

pub(super) fn finished(attempt: u64, outcome: Outcome) -> Input {
    Input::Finished(AttemptId(attempt), Finished::alone(outcome, Usage::default()).into())
}

pub(super) fn success(attempt: u64) -> Input {
    finished(attempt, Outcome::Success(Json::int(4)))
}

pub(super) fn retry_now(attempt: u64) -> Input {
    let delay = RetryDelay::Countdown(Duration::ZERO);
    finished(attempt, Outcome::Retry(RetryRequest { cause: None, delay, max_retries: None, args: None, kwargs: None }))
}

pub(super) fn committed(delivery: u64) -> Input {
    Input::Committed(DeliveryId(delivery))
}

pub(super) fn failed(delivery: u64, transient: bool, before: Vec<Step>) -> Input {
    let remaining = Settlement { before, acknowledgement: Some(Acknowledgement::Ack), ..Settlement::default() };
    Input::CommitFailed(
        DeliveryId(delivery),
        Box::new(CommitFailure { remaining, transient, wait: None, reason: "x".into() }),
    )
}

#[test]
fn whatever_becomes_of_a_task_is_told_with_its_version() {
    let mut late = request("tasks.add", "a");
    late.expires = Some(NOW);
    for (request, plugin) in [(late, Some("demo")), (request("tasks.unknown", "b"), None)] {
        let actions = dispatcher(1).handle(Input::Received(DeliveryId(1), Ok(Box::new(request))), NOW);
        let events = actions.iter().filter_map(|action| match action {
            Action::Commit(_, settlement) => Some(&settlement.events),
            _ => None,
        });
        let plugins: Vec<_> = events.flatten().map(|it| it.spec.as_ref().map(|spec| spec.plugin.as_str())).collect();
        assert_eq!(plugins, [plugin]);
    }
}

#[test]
fn a_task_runs_when_there_is_a_slot_and_frees_it_before_its_commit() {
    let mut bench = Bench(dispatcher(1));
    bench.step(NOW, received(1, "tasks.add", "a"), "start 1 as 1");
    bench.step(NOW, received(2, "tasks.add", "b"), "");
    bench.step(NOW, success(1), "commit 1: SUCCESS, ack; start 2 as 2");
    bench.step(NOW, committed(1), "");
    bench.step(NOW, success(2), "commit 2: SUCCESS, ack");
}

fn limited_by_key() -> Dispatcher {
    let options = TaskOptions {
        concurrency: std::num::NonZeroU32::new(1),
        concurrency_key: Some(KeyPath::parse("kwargs.tenant").expect("a path")),
        ..TaskOptions::default()
    };
    let tasks = [spec("tasks.add", TaskOptions::default()), spec("tasks.turns", options)];
    Dispatcher::new(limits(2), Arc::new(Catalog::new(tasks)), 1)
}

fn of_tenant(delivery: u64, tenant: &str) -> Input {
    let mut request = request("tasks.turns", &format!("t-{delivery}"));
    request.kwargs = Json::object([("tenant", Json::text(tenant))]);
    Input::Received(DeliveryId(delivery), Ok(Box::new(request)))
}

#[test]
fn keys_take_turns_and_those_who_wait_for_one_stand_in_nobodys_way() {
    let mut bench = Bench(limited_by_key());
    bench.step(NOW, of_tenant(1, "noisy"), "start 1 as 1");
    bench.step(NOW, of_tenant(2, "noisy"), "prefetch 9");
    bench.step(NOW, of_tenant(3, "noisy"), "prefetch 10");
    bench.step(NOW, of_tenant(4, "quiet"), "start 4 as 2");
    bench.step(NOW, received(5, "tasks.add", "a"), "");
    bench.step(NOW, of_tenant(6, "third"), "");
    // The noisy one has its turn again, behind those who came meanwhile.
    bench.step(NOW, success(1), "commit 1: SUCCESS, ack; start 5 as 3; prefetch 9");
    bench.step(NOW, success(2), "commit 4: SUCCESS, ack; start 6 as 4");
    bench.step(NOW, success(3), "commit 5: SUCCESS, ack; start 2 as 5");
    bench.step(NOW, success(4), "commit 6: SUCCESS, ack");
    bench.step(NOW, success(5), "commit 2: SUCCESS, ack; start 3 as 6; prefetch 8");
}

#[test]
fn a_turn_is_kept_over_a_lost_connection_by_what_runs_alone() {
    let mut bench = Bench(limited_by_key());
    bench.step(NOW, of_tenant(1, "a"), "start 1 as 1");
    bench.step(NOW, of_tenant(2, "a"), "prefetch 9");
    bench.step(NOW, Input::BrokerLost, "prefetch 8");
    bench.step(NOW, of_tenant(3, "a"), "prefetch 9");
    bench.step(NOW, success(1), "commit 1: SUCCESS, ack; start 3 as 2; prefetch 8");
}

#[test]
fn a_rate_limit_of_the_cluster_is_asked_for_each_start() {
    let options = TaskOptions {
        rate_limit: Some(Some(Rate { interval: Duration::from_millis(100) })),
        rate_limit_scope: RateScope::Cluster,
        ..TaskOptions::default()
    };
    let catalog = Catalog::new([spec("tasks.shared", options)]);
    let mut bench = Bench(Dispatcher::new(limits(2), Arc::new(catalog), 1));
    let permit = |delivery, wait: Option<u64>| {
        let task = TaskName::parse("tasks.shared").expect("a name");
        Input::Permit(DeliveryId(delivery), task, wait.map(Duration::from_millis))
    };
    bench.step(NOW, received(1, "tasks.shared", "a"), "ask for 1 every 100; prefetch 9");
    bench.step(NOW, received(2, "tasks.shared", "b"), "prefetch 10");
    bench.step(NOW, permit(1, Some(0)), "start 1 as 1; ask for 2 every 100; prefetch 9");
    bench.step(NOW, permit(2, Some(70)), "wake at 70");
    bench.step(at(70), Input::Due, "start 2 as 2; prefetch 8");
}

#[test]
fn a_changed_rate_limit_holds_at_once() {
    let limit = |rate| Command::RateLimit { task: "tasks.limited".to_owned(), rate, disabled: false };
    let mut bench = Bench(dispatcher(4));
    bench.step(NOW, received(1, "tasks.limited", "a"), "start 1 as 1");
    bench.step(NOW, received(2, "tasks.limited", "b"), "wake at 100; prefetch 17");
    let hourly = Some(Rate { interval: Duration::from_secs(3_600) });
    bench.tell(NOW, limit(hourly), "start 2 as 2; prefetch 16");
    bench.step(NOW, received(3, "tasks.limited", "c"), "prefetch 17");
    bench.tell(NOW, limit(None), "start 3 as 3; prefetch 16");
    bench.step(NOW, received(4, "tasks.limited", "d"), "start 4 as 4");
}

#[test]
fn the_prefetch_follows_short_tasks_and_comes_back() {
    let short = Limits { prefetch_max: 256, ..limits(1) };
    let catalog = || Arc::new(Catalog::new([spec("tasks.add", TaskOptions::default())]));
    let mut dispatcher = Dispatcher::new(short.clone(), catalog(), 1);
    for task in 0..1_000 {
        dispatcher.handle(received(task, "tasks.add", &format!("t{task}")), at(task));
        dispatcher.handle(success(task + 1), at(task));
        dispatcher.handle(committed(task), at(task));
    }
    assert_eq!(dispatcher.prefetch(), 128);
    dispatcher.handle(Input::Due, at(3_000));
    assert_eq!(dispatcher.prefetch(), 4);

    let disabled = Limits { disable_prefetch: true, ..short };
    let mut dispatcher = Dispatcher::new(disabled, catalog(), 1);
    assert_eq!(dispatcher.prefetch(), 1);
    for task in 0..1_000 {
        dispatcher.handle(received(task, "tasks.add", &format!("t{task}")), at(task));
        dispatcher.handle(success(task + 1), at(task));
        dispatcher.handle(committed(task), at(task));
    }
    assert_eq!(dispatcher.prefetch(), 1);
}

#[test]
fn a_soft_shutdown_gives_what_runs_some_time() {
    let soft = Limits { soft_shutdown_timeout: Some(Duration::from_secs(5)), ..limits(2) };
    let catalog = || Arc::new(Catalog::new([spec("tasks.add", TaskOptions::default())]));
    let mut bench = Bench(Dispatcher::new(soft.clone(), catalog(), 1));
    bench.step(NOW, received(1, "tasks.add", "a"), "start 1 as 1");
    bench.step(NOW, received(2, "tasks.add", "b"), "start 2 as 2");
    bench.step(NOW, received(3, "tasks.add", "c"), "");
    let soft_phase = "stop consuming; requeue 3; soft shutdown for 5; wake at 5000";
    bench.step(NOW, Input::Stop(Shutdown::Cold), soft_phase);
    bench.step(at(100), success(1), "commit 1: SUCCESS, ack");
    bench.step(at(5_000), Input::Due, "cold shutdown; terminate 2");
    bench.step(at(5_001), finished(2, Outcome::Interrupted), "commit 2: requeue");
    bench.step(at(5_002), committed(1), "");
    bench.step(at(5_002), committed(2), "stopped");

    // Without anything that runs there is nothing to wait for.
    let mut bench = Bench(Dispatcher::new(soft, catalog(), 1));
    bench.step(NOW, Input::Stop(Shutdown::Cold), "stop consuming; cold shutdown; stopped");
}

#[test]
fn an_unknown_name_and_an_unreadable_body_are_refused() {
    let mut bench = Bench(dispatcher(1));
    bench.step(NOW, received(1, "tasks.nosuch", "a"), "commit 1: FAILURE, reject");
    bench.step(NOW, Input::Received(DeliveryId(2), Err(DecodeError::UnknownMessage)), "commit 2: reject");
}

#[test]
fn a_task_that_nobody_has_fares_as_it_is_configured() {
    let catalog = || Arc::new(Catalog::new([spec("tasks.add", TaskOptions::default())]));
    let mut dispatcher = Dispatcher::new(limits(1), catalog(), 1);
    dispatcher.remember_served([TaskName::parse("tasks.gone").expect("a name")]);
    let mut bench = Bench(dispatcher);
    bench.step(NOW, received(1, "tasks.nosuch", "a"), "commit 1: FAILURE, reject");
    bench.step(NOW, received(2, "tasks.gone", "b"), "commit 2: shelve in celery.parked, ack");

    // It comes back from where it was kept, marked as given back, and its task is not there yet.
    bench.step(NOW, committed(2), "");
    let mut back = request("tasks.gone", "b");
    back.message.headers.set(PUT_BACK_HEADER, HeaderValue::Bool(true));
    bench.step(NOW, Input::Received(DeliveryId(3), Ok(Box::new(back))), "look up b for 3");
    bench.step(NOW, Input::LookedUp(DeliveryId(3), Lookup::default()), "commit 3: shelve in celery.parked, ack");

    let requeue = Limits { unknown_task: Disposition::Requeue, ..limits(1) };
    let mut bench = Bench(Dispatcher::new(requeue, catalog(), 1));
    bench.step(NOW, received(1, "tasks.nosuch", "a"), "commit 1: requeue");
    bench.step(NOW, committed(1), "");
    // A second time it waits, so that it does not go in circles as fast as the broker can.
    let _ = bench.0.handle(received(2, "tasks.nosuch", "a"), NOW);
    bench.step(at(100), Input::Due, "commit 2: requeue; prefetch 4");
}

#[test]
fn early_acknowledgement_is_given_at_the_start() {
    let mut bench = Bench(dispatcher(1));
    bench.step(NOW, received(1, "tasks.early", "a"), "ack 1; record STARTED; start 1 as 1");
    bench.step(NOW, success(1), "commit 1: SUCCESS");
}

#[test]
fn an_eta_is_held_and_raises_the_prefetch() {
    let mut bench = Bench(dispatcher(1));
    let mut early = request("tasks.add", "a");
    early.eta = Some(at(500));
    let mut later = request("tasks.add", "b");
    later.eta = Some(at(900));
    bench.step(NOW, Input::Received(DeliveryId(1), Ok(Box::new(later))), "wake at 900; prefetch 5");
    bench.step(NOW, Input::Received(DeliveryId(2), Ok(Box::new(early))), "wake at 500; prefetch 6");
    bench.step(at(499), Input::Due, "wake at 500");
    bench.step(at(500), Input::Due, "start 2 as 1; wake at 900; prefetch 5");
    bench.step(at(900), Input::Due, "prefetch 4");
    bench.step(at(900), success(1), "commit 2: SUCCESS, ack; start 1 as 2");
}

#[test]
fn a_task_that_expires_while_it_waits_for_a_slot_does_not_run() {
    let mut bench = Bench(dispatcher(1));
    bench.step(NOW, received(1, "tasks.add", "a"), "start 1 as 1");
    let mut expiring = request("tasks.add", "b");
    expiring.expires = Some(at(100));
    bench.step(NOW, Input::Received(DeliveryId(2), Ok(Box::new(expiring))), "");
    bench.step(at(200), success(1), "commit 1: SUCCESS, ack; remember 1; commit 2: REVOKED, ack");
}

#[test]
fn a_rate_limit_spaces_starts_and_lets_other_tasks_pass() {
    let mut bench = Bench(dispatcher(4));
    bench.step(NOW, received(1, "tasks.limited", "a"), "start 1 as 1");
    bench.step(NOW, received(2, "tasks.limited", "b"), "wake at 100; prefetch 17");
    bench.step(NOW, received(3, "tasks.limited", "c"), "prefetch 18");
    bench.step(NOW, received(4, "tasks.add", "d"), "start 4 as 2");
    bench.step(at(100), Input::Due, "start 2 as 3; wake at 200; prefetch 17");
    bench.step(at(200), Input::Due, "start 3 as 4; prefetch 16");
}

#[test]
fn a_redelivery_of_a_running_task_is_adopted() {
    let mut bench = Bench(dispatcher(1));
    bench.step(NOW, received(1, "tasks.add", "a"), "start 1 as 1");
    bench.step(NOW, Input::BrokerLost, "");
    bench.step(NOW, Input::BrokerBack { puts_back: false, times_out: false, clock_is_wrong: false }, "");
    bench.step(NOW, redelivered(2, "tasks.add", "a", 0), "(1) adopts (2)");
    bench.step(NOW, success(1), "commit 1: SUCCESS, ack");
    bench.step(NOW, committed(1), "");
    bench.step(NOW, redelivered(3, "tasks.add", "a", 0), "ack 3");
}

#[test]
fn what_was_refused_is_refused_again_if_the_broker_has_not_heard_it() {
    let mut bench = Bench(dispatcher(1));
    bench.step(NOW, received(1, "tasks.add", "a"), "start 1 as 1");
    bench.step(NOW, finished(1, Outcome::Rejected { requeue: false }), "commit 1: FAILURE, reject");
    bench.step(NOW, committed(1), "");
    bench.step(NOW, redelivered(2, "tasks.add", "a", 0), "reject 2");
}

#[test]
fn an_adoption_during_the_commit_is_acknowledged_after_it() {
    let mut bench = Bench(dispatcher(1));
    bench.step(NOW, received(1, "tasks.add", "a"), "start 1 as 1");
    bench.step(NOW, success(1), "commit 1: SUCCESS, ack");
    bench.step(NOW, Input::BrokerLost, "");
    bench.step(NOW, redelivered(2, "tasks.add", "a", 0), "(1) adopts (2)");
    bench.step(NOW, committed(1), "ack 1");
}

#[test]
fn a_redelivery_of_an_early_acknowledged_task_is_acknowledged_again() {
    let mut bench = Bench(dispatcher(1));
    bench.step(NOW, received(1, "tasks.early", "a"), "ack 1; record STARTED; start 1 as 1");
    bench.step(NOW, Input::BrokerLost, "");
    bench.step(NOW, redelivered(2, "tasks.early", "a", 0), "ack 2");
}

#[test]
fn a_retry_is_not_a_redelivery() {
    let mut bench = Bench(dispatcher(2));
    bench.step(NOW, received(1, "tasks.add", "a"), "start 1 as 1");
    bench.step(NOW, retry_now(1), "commit 1: publish, RETRY, ack");
    // The retry is here before the state RETRY is stored: it waits for that.
    let mut retry = request("tasks.add", "a");
    retry.retries = 1;
    bench.step(NOW, Input::Received(DeliveryId(2), Ok(Box::new(retry))), "");
    bench.step(NOW, committed(1), "start 2 as 2");
    // The first one comes again, and the second as well: neither runs twice.
    bench.step(NOW, redelivered(3, "tasks.add", "a", 0), "ack 3");
    bench.step(NOW, redelivered(4, "tasks.add", "a", 1), "(2) adopts (4)");
}

#[test]
fn what_a_client_sends_twice_runs_twice() {
    let mut bench = Bench(dispatcher(2));
    bench.step(NOW, received(1, "tasks.add", "a"), "start 1 as 1");
    bench.step(NOW, received(2, "tasks.add", "a"), "start 2 as 2");
}

#[test]
fn an_unknown_redelivery_is_looked_up() {
    let mut bench = Bench(dispatcher(1));
    bench.step(NOW, redelivered(1, "tasks.add", "a", 0), "look up a for 1");
    bench.step(
        NOW,
        Input::LookedUp(DeliveryId(1), Lookup { succeeded: Some(Json::null()) }),
        "forget the count of 0 0 tasks.add a; ack 1",
    );
    bench.step(NOW, redelivered(2, "tasks.add", "b", 0), "look up b for 2");
    bench.step(NOW, Input::LookedUp(DeliveryId(2), Lookup::default()), "count 0 0 tasks.add b for 2");
    bench.step(NOW, Input::Counted(DeliveryId(2), 1), "start 2 as 1");
}

#[test]
fn a_loss_drops_what_has_not_started() {
    let mut bench = Bench(dispatcher(1));
    bench.step(NOW, received(1, "tasks.add", "a"), "start 1 as 1");
    bench.step(NOW, received(2, "tasks.add", "b"), "");
    bench.step(NOW, Input::BrokerLost, "");
    bench.step(NOW, success(1), "commit 1: SUCCESS, ack");
    bench.step(NOW, redelivered(3, "tasks.add", "b", 0), "look up b for 3");
}

#[test]
fn a_transient_failure_repeats_the_rest_of_the_commit() {
    let mut bench = Bench(dispatcher(1));
    bench.step(NOW, received(1, "tasks.add", "a"), "start 1 as 1");
    bench.step(NOW, success(1), "commit 1: SUCCESS, ack");
    bench.step(NOW, failed(1, true, Vec::new()), "wake at 100");
    bench.step(at(100), Input::Due, "commit 1: ack");
    bench.step(at(100), failed(1, true, Vec::new()), "wake at 300");
    bench.step(
        at(150),
        Input::BrokerBack { puts_back: false, times_out: false, clock_is_wrong: false },
        "commit 1: ack",
    );
    bench.step(at(300), Input::Due, "");
    bench.step(at(300), committed(1), "");
}

#[test]
fn a_retry_that_can_never_be_published_is_a_failure() {
    let mut bench = Bench(dispatcher(1));
    bench.step(NOW, received(1, "tasks.add", "a"), "start 1 as 1");
    let actions = bench.0.handle(retry_now(1), NOW);
    let Some(Action::Commit(_, settlement)) = actions.into_iter().next() else { panic!("no commit") };
    bench.step(NOW, failed(1, false, settlement.before), "commit 1: FAILURE, reject");
}

#[test]
fn a_warm_shutdown_finishes_what_runs_and_gives_back_the_rest() {
    let mut bench = Bench(dispatcher(1));
    bench.step(NOW, received(1, "tasks.add", "a"), "start 1 as 1");
    bench.step(NOW, received(2, "tasks.add", "b"), "");
    bench.step(NOW, Input::Stop(Shutdown::Warm), "stop consuming; requeue 2");
    bench.step(NOW, received(3, "tasks.add", "c"), "requeue 3");
    bench.step(NOW, success(1), "commit 1: SUCCESS, ack");
    bench.step(NOW, committed(1), "stopped");
}

#[test]
fn a_cold_shutdown_stops_what_runs() {
    let mut bench = Bench(dispatcher(2));
    bench.step(NOW, received(1, "tasks.add", "a"), "start 1 as 1");
    bench.step(NOW, received(2, "tasks.early", "b"), "ack 2; record STARTED; start 2 as 2");
    bench.step(NOW, Input::Stop(Shutdown::Warm), "stop consuming");
    bench.step(NOW, Input::Stop(Shutdown::Cold), "cold shutdown; terminate 1; terminate 2");
    bench.step(NOW, finished(1, Outcome::Interrupted), "commit 1: requeue");
    bench.step(NOW, finished(2, Outcome::Interrupted), "commit 2: publish");
    bench.step(NOW, committed(1), "");
    bench.step(NOW, committed(2), "stopped");
}

#[test]
fn an_idle_worker_stops_at_once() {
    Bench(dispatcher(1)).step(NOW, Input::Stop(Shutdown::Warm), "stop consuming; stopped");
}

#[test]
fn nothing_starts_while_too_much_waits_to_be_committed() {
    let mut limits = limits(2);
    limits.committing_max = 1;
    let catalog = Catalog::new([spec("tasks.add", TaskOptions::default())]);
    let mut bench = Bench(Dispatcher::new(limits, Arc::new(catalog), 1));
    bench.step(NOW, received(1, "tasks.add", "a"), "start 1 as 1");
    bench.step(NOW, finished(1, Outcome::Trapped(Trap::StackOverflow)), "commit 1: FAILURE, ack");
    bench.step(NOW, received(2, "tasks.add", "b"), "");
    bench.step(NOW, committed(1), "start 2 as 2");
}

#[test]
fn limits_come_from_the_message_then_the_task_then_the_worker_and_end_at_the_ceiling() {
    let seconds = |n| Some(Duration::from_secs(n));
    let mut limits = limits(1);
    let options = TaskOptions { time_limit: seconds(20), soft_time_limit: seconds(10), ..TaskOptions::default() };
    let mut call = request("tasks.add", "a");
    assert_eq!(limits.time_limits(&call, (None, None)), (Duration::from_secs(1_800), None));
    limits.task.time_limit = seconds(50);
    assert_eq!(limits.time_limits(&call, (None, None)), (Duration::from_secs(50), None));
    assert_eq!(
        limits.time_limits(&call, (options.time_limit, options.soft_time_limit)),
        (Duration::from_secs(20), seconds(10))
    );
    call.time_limit = seconds(5);
    assert_eq!(
        limits.time_limits(&call, (options.time_limit, options.soft_time_limit)),
        (Duration::from_secs(5), None)
    );
    call.time_limit = seconds(0);
    call.soft_time_limit = seconds(3);
    assert_eq!(
        limits.time_limits(&call, (options.time_limit, options.soft_time_limit)),
        (Duration::from_secs(20), seconds(3))
    );
    call.time_limit = seconds(10_000);
    assert_eq!(limits.time_limits(&call, (options.time_limit, options.soft_time_limit)).0, Duration::from_secs(1_800));
}

fn with_headers(delivery: u64, id: &str, eta: Option<u64>, headers: &[(&str, HeaderValue)]) -> Input {
    let mut request = request("tasks.add", id);
    request.eta = eta.map(at);
    for (name, value) in headers {
        request.message.headers.set(name, value.clone());
    }
    Input::Received(DeliveryId(delivery), Ok(Box::new(request)))
}

#[test]
fn a_long_eta_goes_back_to_the_broker_and_a_short_one_waits_here() {
    let mut bench = Bench(dispatcher(1));
    bench.step(NOW, Input::BrokerBack { puts_back: true, times_out: false, clock_is_wrong: false }, "");
    bench.step(NOW, with_headers(1, "a", Some(60_001), &[]), "put back 1 until 60001");
    bench.step(NOW, with_headers(2, "b", Some(60_000), &[]), "wake at 60000; prefetch 5");
    bench.step(NOW, Input::PutBack(DeliveryId(1), true), "");
    // The broker is early: the rest of the wait is here.
    let back = [(PUT_BACK_HEADER, HeaderValue::Bool(true))];
    bench.step(at(60_000), with_headers(3, "a", Some(60_001), &back), "look up a for 3");
    bench.step(at(60_000), Input::LookedUp(DeliveryId(3), Lookup::default()), "prefetch 6");
    bench.step(at(60_001), Input::Due, "start 2 as 1; prefetch 4");
}

#[test]
fn a_broker_that_does_not_take_it_back_leaves_it_here() {
    let mut bench = Bench(dispatcher(1));
    bench.step(NOW, Input::BrokerBack { puts_back: true, times_out: false, clock_is_wrong: false }, "");
    bench.step(NOW, with_headers(1, "a", Some(90_000), &[]), "put back 1 until 90000");
    bench.step(NOW, Input::PutBack(DeliveryId(1), false), "wake at 90000; prefetch 5");
    bench.step(at(90_000), Input::Due, "start 1 as 1; prefetch 4");
}

#[test]
fn of_two_that_were_put_back_for_one_execution_one_runs() {
    let mut bench = Bench(dispatcher(1));
    let back = [(PUT_BACK_HEADER, HeaderValue::Bool(true))];
    bench.step(NOW, with_headers(1, "a", None, &back), "look up a for 1");
    bench.step(NOW, Input::LookedUp(DeliveryId(1), Lookup::default()), "start 1 as 1");
    bench.step(NOW, with_headers(2, "a", None, &back), "ack 2");
    bench.step(NOW, success(1), "commit 1: SUCCESS, ack");
    bench.step(NOW, committed(1), "");
    bench.step(NOW, with_headers(3, "a", None, &back), "ack 3");
}

#[test]
fn a_message_that_is_delivered_again_and_again_is_kept_aside() {
    let mut bench = Bench(dispatcher(1));
    let count = |count| [(DELIVERY_COUNT_HEADER, HeaderValue::Int(count))];
    bench.step(NOW, with_headers(1, "a", None, &count(19)), "start 1 as 1");
    bench.step(NOW, with_headers(2, "b", None, &count(20)), "commit 2: shelve in celery.dead, FAILURE, ack");
}

#[test]
fn a_shutdown_waits_for_what_is_being_put_back() {
    let mut bench = Bench(dispatcher(1));
    bench.step(NOW, Input::BrokerBack { puts_back: true, times_out: false, clock_is_wrong: false }, "");
    bench.step(NOW, with_headers(1, "a", Some(90_000), &[]), "put back 1 until 90000");
    bench.step(NOW, with_headers(2, "b", Some(90_000), &[]), "put back 2 until 90000");
    bench.step(NOW, Input::Stop(Shutdown::Warm), "stop consuming");
    bench.step(NOW, Input::PutBack(DeliveryId(1), true), "");
    bench.step(NOW, Input::PutBack(DeliveryId(2), false), "requeue 2; stopped");
}

fn requeue(attempt: u64) -> Input {
    finished(attempt, Outcome::Rejected { requeue: true })
}

#[test]
fn a_task_that_requeues_again_and_again_is_slowed_down_and_holds_up_nobody() {
    let mut bench =
        Bench(Dispatcher::new(limits(1), Arc::new(Catalog::new([spec("tasks.add", TaskOptions::default())])), 1));
    bench.step(NOW, received(1, "tasks.add", "a"), "start 1 as 1");
    bench.step(NOW, requeue(1), "commit 1: requeue");
    bench.step(NOW, committed(1), "");
    bench.step(NOW, received(2, "tasks.add", "a"), "start 2 as 2");
    let mut actions = bench.0.handle(requeue(2), NOW);
    // Its slot is free, its receipt is kept, and another message may be fetched in its place.
    assert_eq!(actions.pop(), Some(Action::SetPrefetch(5)));
    let [Action::WakeAt(pause)] = actions[..] else { panic!("{actions:?}") };
    assert!((50..=100).contains(&pause.since(NOW).as_millis()), "{pause:?}");
    bench.step(NOW, received(3, "tasks.add", "b"), "start 3 as 3");
    bench.step(at(100), Input::Due, "commit 2: requeue; prefetch 4");
    bench.step(at(100), committed(2), "");
    // Another end closes the matter.
    bench.step(at(100), success(3), "commit 3: SUCCESS, ack");
    bench.step(at(100), committed(3), "");
    bench.step(at(100), received(4, "tasks.add", "c"), "start 4 as 4");
    bench.step(at(100), requeue(4), "commit 4: requeue");
}

#[test]
fn a_shutdown_sends_back_what_waits_to_go_back() {
    let mut bench = Bench(dispatcher(1));
    for n in 1..=2 {
        bench.step(NOW, received(n, "tasks.add", "a"), &format!("start {n} as {n}"));
        if n == 1 {
            bench.step(NOW, requeue(1), "commit 1: requeue");
            bench.step(NOW, committed(1), "");
        }
    }
    bench.0.handle(requeue(2), NOW);
    bench.step(NOW, Input::Stop(Shutdown::Warm), "stop consuming; commit 2: requeue");
    bench.step(NOW, committed(2), "stopped");
}

#[test]
fn what_is_published_again_says_so() {
    let mut bench = Bench(dispatcher(1));
    bench.step(NOW, received(1, "tasks.add", "a"), "start 1 as 1");
    let Some(Action::Commit(_, remaining)) = bench.0.handle(retry_now(1), NOW).pop() else { panic!("no commit") };
    let failed = CommitFailure { remaining, transient: true, wait: None, reason: "lost".to_owned() };
    bench.step(NOW, Input::CommitFailed(DeliveryId(1), Box::new(failed)), "wake at 100");
    bench.step(at(100), Input::Due, "commit 1: publish again, RETRY, ack");
}

#[test]
fn who_waits_for_a_result_that_the_store_refuses_hears_of_it_once() {
    let mut bench = Bench(dispatcher(1));
    bench.step(NOW, received(1, "tasks.add", "a"), "start 1 as 1");
    let mut actions = bench.0.handle(success(1), NOW);
    let mut refuse = |actions: &mut Vec<Action>| {
        let Some(Action::Commit(_, remaining)) = actions.pop() else { panic!("no commit") };
        let failed = CommitFailure { remaining, transient: false, wait: None, reason: "too large".to_owned() };
        *actions = bench.0.handle(Input::CommitFailed(DeliveryId(1), Box::new(failed)), NOW);
        match &actions[..] {
            [Action::Commit(_, settlement)] => (settlement.records.clone(), settlement.acknowledgement),
            other => panic!("{other:?}"),
        }
    };
    let (records, acknowledgement) = refuse(&mut actions);
    assert_eq!(acknowledgement, Some(Acknowledgement::Ack));
    let [record] = &records[..] else { panic!("{records:?}") };
    let ResultValue::Exception(exception) = &record.result else { panic!("{record:?}") };
    assert_eq!((&record.state, &*exception.kind), (&State::Failure, "ResultRefused"));
    assert!(exception.arguments.as_str().contains("too large"), "{}", exception.arguments);
    // A store that does not take this either takes nothing.
    assert_eq!(refuse(&mut actions), (Vec::new(), Some(Acknowledgement::Ack)));
}

#[test]
fn a_chord_has_failed_also_if_nobody_can_be_told() {
    let chord = vec![ChordStep::Fail { group: "g".to_owned() }];
    let told = |actions: Vec<Action>| match &actions[..] {
        [Action::Commit(_, settlement)] => (settlement.after.clone(), settlement.chord.clone()),
        other => panic!("{other:?}"),
    };
    for transient in [true, false] {
        let mut bench = Bench(dispatcher(1));
        bench.step(NOW, received(1, "tasks.add", "a"), "start 1 as 1");
        let Some(Action::Commit(_, retry)) = bench.0.handle(retry_now(1), NOW).pop() else { panic!("no commit") };
        let mut after = retry.before;
        let remaining = Settlement { after: after.clone(), chord: chord.clone(), ..Settlement::default() };
        let failed = CommitFailure { remaining, transient, wait: None, reason: "lost".to_owned() };
        let mut actions = bench.0.handle(Input::CommitFailed(DeliveryId(1), Box::new(failed)), NOW);
        if transient {
            after.iter_mut().for_each(Step::mark_as_repeated);
            actions = bench.0.handle(Input::Due, at(100));
        } else {
            after.clear();
        }
        assert_eq!(told(actions), (after, chord.clone()), "transient: {transient}");
    }
}

#[test]
fn extended_results_tell_what_the_call_was() {
    let mut dispatcher = dispatcher(1);
    dispatcher.limits.result_extended = Some(NodeName::parse("w@box").expect("a name"));
    let mut expired = request("tasks.add", "b");
    expired.expires = Some(NOW);
    let inputs = [
        received(1, "tasks.early", "a"),
        success(1),
        Input::Received(DeliveryId(2), Ok(Box::new(expired))),
        received(3, "tasks.nosuch", "c"),
    ];
    let mut told = Vec::new();
    for input in inputs {
        for action in dispatcher.handle(input, NOW) {
            let records = match action {
                Action::Record(record) => vec![record],
                Action::Commit(_, settlement) => settlement.records,
                _ => continue,
            };
            told.extend(records.into_iter().map(|record| {
                let call = record.call.expect("it is told");
                format!("{} {:?} {:?} {:?}", record.state.as_str(), call.name, call.worker, call.retries)
            }));
        }
    }
    let of = |state: &str, task: &str| format!("{state} Some(\"{task}\") Some(\"w@box\") Some(0)");
    let expected = [of("STARTED", "tasks.early"), of("SUCCESS", "tasks.early"), of("REVOKED", "tasks.add")];
    assert_eq!(told[..3], expected);
    // Celery knows nothing of the call of a task that it does not know.
    assert_eq!(told[3..], ["FAILURE None None None"]);
}

#[test]
fn only_a_store_that_counts_is_told_of_the_members_of_chords() {
    for (chords, told) in
        [(ChordStyle::Native, 1), (ChordStyle::Counter, 1), (ChordStyle::Unlock, 0), (ChordStyle::Refused("rpc"), 0)]
    {
        let sending = Arc::new(SendSettings { chords, ..fixture::sending() });
        let catalog = Arc::new(Catalog::new([spec("tasks.add", TaskOptions::default())]));
        let mut dispatcher = Dispatcher::new(Limits { sending, ..limits(1) }, catalog, 1);
        let mut member = request("tasks.add", "a");
        member.group_id = Some("g".to_owned());
        member.embed = Json::object([("chord", Json::object([("task", "tasks.body")]))]);
        dispatcher.handle(Input::Received(DeliveryId(1), Ok(Box::new(member))), NOW);
        let actions = dispatcher.handle(success(1), NOW);
        let steps = actions.iter().find_map(|action| match action {
            Action::Commit(_, settlement) => Some(settlement.chord.len()),
            _ => None,
        });
        assert_eq!(steps, Some(told), "{chords:?}");
    }
}

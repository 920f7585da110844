//! What every outcome and refusal comes to.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use expect_test::{Expect, expect};

mod unlock;

use super::*;
use crate::canvas::SendSettings;
use crate::catalog::Catalog;
use crate::control::Signal;
use crate::dispatcher::fixture::{self, request, spec};
use crate::message::VERSION_HEADER;
use crate::outcome::{AttemptId, DeliveryId, RetryDelay, RetryRequest, Trap};
use crate::protocol::codec::Codec;
use crate::protocol::content::JsonError;
use crate::protocol::v2;
use crate::record::ResultRecord;
use crate::retry;
use crate::task::{Disposition, PluginVersion, RetryKwargs, RetryOn, TaskOptions};
use crate::usage::Usage;

const NOW: Timestamp = Timestamp::from_micros(1_795_343_528_000_000);

fn attempt(options: TaskOptions) -> Attempt {
    Attempt {
        id: AttemptId(1),
        delivery: DeliveryId(1),
        request: request("tasks.add", "id-1").into(),
        spec: spec("tasks.add", options).into(),
        call: None,
        started: NOW,
        time_limit: Duration::from_secs(9),
        soft_time_limit: None,
        pinned: None,
        policy: Policy::default(),
    }
}

fn exception() -> Exception {
    Exception::new("builtins", "ValueError", [Json::text("no")])
}

/// What a worker sends with that nobody has configured.
fn means() -> Means<'static> {
    static SETTINGS: LazyLock<SendSettings> = LazyLock::new(fixture::sending);
    static CATALOG: LazyLock<Catalog> = LazyLock::new(Catalog::default);
    Means { settings: &SETTINGS, catalog: &CATALOG, tells_calls: false }
}

fn wish() -> RetryRequest {
    RetryRequest { cause: None, delay: RetryDelay::Default, max_retries: None, args: None, kwargs: None }
}

/// Who is published where.
fn render_step(step: &Step) -> String {
    let (made, publication) = match step {
        Step::Send(publication) => (String::new(), publication),
        Step::SendTo(queue, publication) => (format!("make `{}`\n", queue.name), publication),
        Step::Shelve { queue, message } => {
            let reason = dead::reason(&message.headers).map(|why| why.reason.to_owned());
            return format!("shelve in `{queue}` because of {reason:?}\n");
        }
        Step::SetChordSize { group, size, again, .. } => return format!("chord {group} of {size} again={again}\n"),
        Step::ExtendChord { group, member } => return format!("chord {group} with {member}\n"),
        Step::SaveGroup { group, result } => return format!("group {group} {result}\n"),
    };
    let again = v2::decode(publication.message.clone(), request("tasks.add", "x").delivery, &Codec::default())
        .expect("we wrote it");
    let wait = again.eta.map_or(0, |eta| eta.since(NOW).as_secs());
    let to = &publication.route.routing_key;
    format!("{made}publish {} retries={} in {wait} s to `{to}`\n", again.id, again.retries)
}

fn render(settlement: &Settlement) -> String {
    let mut text: String = settlement.before.iter().map(render_step).collect();
    for ResultRecord { state, result, traceback, date_done, .. } in &settlement.records {
        let shown = match result {
            ResultValue::Json(json) => json.to_string(),
            ResultValue::Exception(exception) => exception.repr(),
        };
        let done = if date_done.is_some() { "" } else { " (not done)" };
        let traceback = if traceback.is_some() { " with traceback" } else { "" };
        text += &format!("store {} {shown}{traceback}{done}\n", state.as_str());
    }
    for step in &settlement.chord {
        text += &match step {
            ChordStep::Count(part) => format!("count {} {} in {}\n", part.task, part.state.as_str(), part.group),
            ChordStep::Finish { group, token } => format!("finish {group} by {token}\n"),
            ChordStep::Fail { group } => format!("fail {group}\n"),
        };
    }
    text.extend(settlement.after.iter().map(|step| format!("then {}", render_step(step))));
    if let Some(acknowledgement) = settlement.acknowledgement {
        text += &format!("{acknowledgement:?}\n").to_lowercase();
    }
    for event in &settlement.events {
        let what = format!("{:?}", event.what);
        text += &format!("event {}\n", what.split([' ', '{']).next().unwrap_or_default());
    }
    text
}

#[track_caller]
fn check_attempt(attempt: &Attempt, outcome: Outcome, expected: Expect) {
    let finished = Finished::alone(outcome, Usage::default());
    expected.assert_eq(&render(&settle(attempt, finished, NOW, Jitter(0.5), means())));
}

#[track_caller]
fn check(outcome: Outcome, expected: Expect) {
    check_attempt(&attempt(TaskOptions::default()), outcome, expected);
}

#[test]
fn success_is_stored_and_acknowledged() {
    check(
        Outcome::Success(Json::int(4)),
        expect![[r#"
        store SUCCESS 4
        ack
        event Succeeded
    "#]],
    );
}

#[test]
fn failure_is_stored_with_its_traceback() {
    check(
        Outcome::Failure(exception(), Some("Traceback".into())),
        expect![[r#"
        store FAILURE ValueError('no') with traceback
        ack
        event Failed
    "#]],
    );
}

#[test]
fn a_retry_is_published_before_it_is_stored() {
    check(
        Outcome::Retry(wish()),
        expect![[r#"
        publish id-1 retries=1 in 180 s to `celery`
        store RETRY null (not done)
        ack
        event Retried
    "#]],
    );
    let cause = Some((exception(), Some("Traceback".into())));
    let soon = RetryDelay::Countdown(Duration::from_secs(5));
    check(
        Outcome::Retry(RetryRequest { cause, delay: soon, ..wish() }),
        expect![[r#"
        publish id-1 retries=1 in 5 s to `celery`
        store RETRY ValueError('no') with traceback (not done)
        ack
        event Retried
    "#]],
    );
    let now = RetryDelay::Countdown(Duration::ZERO);
    check(
        Outcome::Retry(RetryRequest { delay: now, ..wish() }),
        expect![[r#"
        publish id-1 retries=1 in 0 s to `celery`
        store RETRY null (not done)
        ack
        event Retried
    "#]],
    );
}

#[test]
fn without_retries_left_the_cause_is_the_failure() {
    let none_left = attempt(TaskOptions { max_retries: Some(0), ..TaskOptions::default() });
    let cause = Some((exception(), None));
    check_attempt(
        &none_left,
        Outcome::Retry(RetryRequest { cause, ..wish() }),
        expect![[r#"
        store FAILURE ValueError('no')
        ack
        event Failed
    "#]],
    );
    check_attempt(
        &none_left,
        Outcome::Retry(wish()),
        expect![[r#"
        store FAILURE MaxRetriesExceededError("Can't retry tasks.add[id-1] args:[2, 2] kwargs:{}")
        ack
        event Failed
    "#]],
    );
    check_attempt(
        &none_left,
        Outcome::Retry(RetryRequest { max_retries: Some(1), ..wish() }),
        expect![[r#"
        publish id-1 retries=1 in 180 s to `celery`
        store RETRY null (not done)
        ack
        event Retried
    "#]],
    );
}

#[test]
fn a_declared_exception_retries_by_itself() {
    let options = TaskOptions {
        autoretry_for: vec!["ValueError".into(), "SoftTimeLimitExceeded".into()],
        retry_backoff: 4.0,
        ..TaskOptions::default()
    };
    check_attempt(
        &attempt(options.clone()),
        Outcome::Failure(exception(), None),
        expect![[r#"
        publish id-1 retries=1 in 2 s to `celery`
        store RETRY ValueError('no') (not done)
        ack
        event Retried
    "#]],
    );
    let few = RetryKwargs { max_retries: Some(0), countdown: None };
    check_attempt(
        &attempt(TaskOptions { retry_kwargs: few, ..options.clone() }),
        Outcome::Failure(exception(), None),
        expect![[r#"
            store FAILURE ValueError('no')
            ack
            event Failed
        "#]],
    );
    let soft = Outcome::TimedOut(Limit::Soft(Duration::from_secs(1)));
    check_attempt(
        &attempt(options),
        soft,
        expect![[r#"
        publish id-1 retries=1 in 2 s to `celery`
        store RETRY SoftTimeLimitExceeded() with traceback (not done)
        ack
        event Retried
    "#]],
    );
}

#[test]
fn time_limits_fail_with_celerys_classes() {
    check(
        Outcome::TimedOut(Limit::Soft(Duration::from_secs(1))),
        expect![[r#"
        store FAILURE SoftTimeLimitExceeded() with traceback
        ack
        event Failed
    "#]],
    );
    check(
        Outcome::TimedOut(Limit::Hard(Duration::from_secs(2))),
        expect![[r#"
        store FAILURE TimeLimitExceeded(2)
        ack
        event Failed
    "#]],
    );
}

#[test]
fn a_trap_is_a_failure_and_is_not_retried() {
    check(
        Outcome::Trapped(Trap::Instruction("unreachable".into())),
        expect![[r#"
        store FAILURE Trap('unreachable')
        ack
        event Failed
    "#]],
    );
    check(
        Outcome::Trapped(Trap::MemoryLimit { limit_bytes: 128 << 20 }),
        expect![[r#"
        store FAILURE MemoryLimitExceeded('128 MiB; raise limits.memory')
        ack
        event Failed
    "#]],
    );
    check(
        Outcome::Trapped(Trap::Exited { code: 77, words: None }),
        expect![[r#"
        store FAILURE GuestExited('the task called exit(77)')
        ack
        event Failed
    "#]],
    );
}

/// An attempt that is acknowledged late, under these rules.
fn under(policy: Policy) -> Attempt {
    Attempt { policy, ..attempt(TaskOptions::default()) }
}

#[test]
fn a_failure_is_rejected_where_failures_are_not_acknowledged() {
    let strict = Policy { acks_on_failure: false, ..Policy::default() };
    check_attempt(
        &under(strict),
        Outcome::Failure(exception(), None),
        expect![[r#"
            store FAILURE ValueError('no')
            reject
            event Failed
        "#]],
    );
    // In Celery it is an exception like any other, and so is a wrong answer of the guest.
    check_attempt(
        &under(strict),
        Outcome::TimedOut(Limit::Soft(Duration::from_secs(1))),
        expect![[r#"
            store FAILURE SoftTimeLimitExceeded() with traceback
            reject
            event Failed
        "#]],
    );
    check_attempt(
        &under(strict),
        Outcome::Trapped(Trap::InvalidResult("no JSON".into())),
        expect![[r#"
            store FAILURE InvalidResult('no JSON')
            reject
            event Failed
        "#]],
    );
    let exhausted =
        Attempt { policy: strict, ..attempt(TaskOptions { max_retries: Some(0), ..TaskOptions::default() }) };
    check_attempt(
        &exhausted,
        Outcome::Retry(RetryRequest { cause: Some((exception(), None)), ..wish() }),
        expect![[r#"
            store FAILURE ValueError('no')
            reject
            event Failed
        "#]],
    );
    // Neither a time limit nor a retry is a failure.
    check_attempt(
        &under(strict),
        Outcome::TimedOut(Limit::Hard(Duration::from_secs(2))),
        expect![[r#"
            store FAILURE TimeLimitExceeded(2)
            ack
            event Failed
        "#]],
    );
    check_attempt(
        &under(strict),
        Outcome::Retry(wish()),
        expect![[r#"
            publish id-1 retries=1 in 180 s to `celery`
            store RETRY null (not done)
            ack
            event Retried
        "#]],
    );
    let early = Policy { acks_late: false, ..strict };
    check_attempt(
        &under(early),
        Outcome::Failure(exception(), None),
        expect![[r#"
            store FAILURE ValueError('no')
            event Failed
        "#]],
    );
}

#[test]
fn a_task_over_its_hard_limit_is_given_back_where_timeouts_are_not_acknowledged() {
    let strict = Policy { acks_on_timeout: false, ..Policy::default() };
    let outcome = || Outcome::TimedOut(Limit::Hard(Duration::from_secs(2)));
    check_attempt(
        &under(strict),
        outcome(),
        expect![[r#"
            store FAILURE TimeLimitExceeded(2)
            requeue
            event Failed
        "#]],
    );
    check_attempt(
        &under(Policy { acks_late: false, ..strict }),
        outcome(),
        expect![[r#"
            store FAILURE TimeLimitExceeded(2)
            event Failed
        "#]],
    );
    check_attempt(
        &under(strict),
        Outcome::Failure(exception(), None),
        expect![[r#"
            store FAILURE ValueError('no')
            ack
            event Failed
        "#]],
    );
}

#[test]
fn a_trap_is_given_back_or_retried_where_that_is_wanted() {
    let trap = || Outcome::Trapped(Trap::StackOverflow);
    let giving_back = Policy { reject_on_worker_lost: true, ..Policy::default() };
    check_attempt(
        &under(giving_back),
        trap(),
        expect![[r#"
            requeue
            event Lost
        "#]],
    );
    check_attempt(
        &under(Policy { acks_late: false, ..giving_back }),
        trap(),
        expect![[r#"
            store FAILURE StackOverflow('call stack exhausted; raise limits.stack')
            event Failed
        "#]],
    );
    // That one ended, and said something wrong.
    check_attempt(
        &under(giving_back),
        Outcome::Trapped(Trap::ResultTooLarge { limit_bytes: 1 }),
        expect![[r#"
            store FAILURE ResultTooLarge('more than 1 bytes; raise limits.result')
            ack
            event Failed
        "#]],
    );
    let retrying = Policy { retry_on_worker_lost: true, ..giving_back };
    check_attempt(
        &under(retrying),
        trap(),
        expect![[r#"
            publish id-1 retries=1 in 180 s to `celery`
            store RETRY StackOverflow('call stack exhausted; raise limits.stack') (not done)
            ack
            event Retried
        "#]],
    );
    let exhausted =
        Attempt { policy: retrying, ..attempt(TaskOptions { max_retries: Some(0), ..TaskOptions::default() }) };
    check_attempt(
        &exhausted,
        trap(),
        expect![[r#"
            store FAILURE StackOverflow('call stack exhausted; raise limits.stack')
            ack
            event Failed
        "#]],
    );
}

#[test]
fn what_a_task_says_about_its_message_is_done() {
    check(
        Outcome::Ignored,
        expect![[r#"
        ack
        event Ignored
    "#]],
    );
    check(
        Outcome::Rejected { requeue: true },
        expect![[r#"
        requeue
        event Rejected
    "#]],
    );
    check(
        Outcome::Rejected { requeue: false },
        expect![[r#"
        store FAILURE Reject('rejected by the task', False)
        reject
        event Rejected
    "#]],
    );
}

/// A call of another task.
fn sent(id: &str) -> Step {
    let publication = retry::publication(&request("tasks.add", id));
    let message = v2::retry(&request("tasks.add", id), None, Some(&Json::empty_list()), None, NOW);
    Step::SendTo(Box::new(QueueName::parse("mail").expect("a name").into()), Publication { message, ..publication })
}

#[test]
fn what_a_task_sent_is_published_if_it_succeeds_and_else_dropped() {
    let check = |outcome, expected: Expect| {
        let finished = Finished {
            outcome,
            effects: vec![sent("child-1"), sent("child-2")],
            children: Vec::new(),
            usage: Usage::default(),
        };
        expected.assert_eq(&render(&settle(&attempt(TaskOptions::default()), finished, NOW, Jitter(0.5), means())));
    };
    check(
        Outcome::Success(Json::int(4)),
        expect![[r#"
            make `mail`
            publish child-1 retries=1 in 0 s to `celery`
            make `mail`
            publish child-2 retries=1 in 0 s to `celery`
            store SUCCESS 4
            ack
            event Succeeded
        "#]],
    );
    check(
        Outcome::Failure(exception(), None),
        expect![[r#"
            store FAILURE ValueError('no')
            ack
            event Failed
        "#]],
    );
    check(
        Outcome::Retry(wish()),
        expect![[r#"
            publish id-1 retries=1 in 180 s to `celery`
            store RETRY null (not done)
            ack
            event Retried
        "#]],
    );
    check(
        Outcome::Ignored,
        expect![[r#"
            ack
            event Ignored
        "#]],
    );
}

#[test]
fn a_replaced_task_stores_nothing_and_is_followed_by_its_replacement() {
    let finished = Finished {
        outcome: Outcome::Replaced(vec![sent("id-1")]),
        effects: vec![sent("child-1")],
        children: Vec::new(),
        usage: Usage::default(),
    };
    let settlement = settle(&attempt(TaskOptions::default()), finished, NOW, Jitter(0.5), means());
    let expected = expect![[r#"
        make `mail`
        publish child-1 retries=1 in 0 s to `celery`
        make `mail`
        publish id-1 retries=1 in 0 s to `celery`
        ack
        event Ignored
    "#]];
    expected.assert_eq(&render(&settlement));
}

#[test]
fn a_task_whose_calls_can_never_be_published_fails() {
    let done = Settlement { events: vec![event(&request("t", "i"), Happening::Ignored)], ..Settlement::default() };
    expect![[r#"
        store FAILURE OperationalError('no queue')
        ack
        event Failed
    "#]]
    .assert_eq(&render(&unpublishable(&attempt(TaskOptions::default()), &done, "no queue", NOW, means())));
}

#[test]
fn an_interrupted_task_goes_back_or_is_published_again() {
    check(
        Outcome::Interrupted,
        expect![[r#"
        requeue
        event Interrupted
    "#]],
    );
    let mut early = attempt(TaskOptions::default());
    early.policy.acks_late = false;
    check_attempt(
        &early,
        Outcome::Interrupted,
        expect![[r#"
        publish id-1 retries=0 in 0 s to `celery`
        event Interrupted
    "#]],
    );
    check_attempt(
        &early,
        Outcome::Success(Json::int(4)),
        expect![[r#"
        store SUCCESS 4
        event Succeeded
    "#]],
    );
}

#[test]
fn an_ignored_result_is_not_stored_but_a_failure_may_be() {
    let mut ignoring = attempt(TaskOptions::default());
    ignoring.policy = Policy { ignore_result: true, store_errors: false, ..Policy::default() };
    check_attempt(
        &ignoring,
        Outcome::Success(Json::int(4)),
        expect![[r#"
        ack
        event Succeeded
    "#]],
    );
    check_attempt(
        &ignoring,
        Outcome::Failure(exception(), None),
        expect![[r#"
        ack
        event Failed
    "#]],
    );
    check_attempt(
        &ignoring,
        Outcome::Retry(wish()),
        expect![[r#"
        publish id-1 retries=1 in 180 s to `celery`
        ack
        event Retried
    "#]],
    );
    ignoring.policy.store_errors = true;
    check_attempt(
        &ignoring,
        Outcome::Failure(exception(), None),
        expect![[r#"
        store FAILURE ValueError('no')
        ack
        event Failed
    "#]],
    );
}

#[track_caller]
fn check_refusal(refusal: Refusal, expected: Expect) {
    expected.assert_eq(&render(&refuse(refusal, NOW, means())));
}

#[test]
fn refusals_follow_celerys_matrix() {
    let undecodable = JsonError::Syntax { what: "no value", at: 0 };
    check_refusal(
        Refusal::Unreadable(DecodeError::Body(undecodable.into())),
        expect![[r#"
        ack
    "#]],
    );
    check_refusal(
        Refusal::Unreadable(DecodeError::UnknownMessage),
        expect![[r#"
        reject
    "#]],
    );
    let unknown = |disposition, once_served| Refusal::Unknown {
        request: request("tasks.nosuch", "id"),
        disposition,
        once_served,
    };
    check_refusal(
        unknown(Disposition::Reject, false),
        expect![[r#"
        store FAILURE NotRegistered('tasks.nosuch')
        reject
        event Unregistered
    "#]],
    );
    check_refusal(
        unknown(Disposition::Requeue, false),
        expect![[r#"
        requeue
        event Unregistered
    "#]],
    );
    check_refusal(
        unknown(Disposition::Park, true),
        expect![[r#"
            shelve in `celery.parked` because of Some("removed_task")
            ack
            event Parked
        "#]],
    );
    check_refusal(
        Refusal::Expired(request("tasks.add", "id"), Policy::default()),
        expect![[r#"
        store REVOKED TaskRevokedError('expired')
        ack
        event Revoked
    "#]],
    );
    check_refusal(
        Refusal::Revoked(request("tasks.add", "id"), Policy::default()),
        expect![[r#"
        store REVOKED TaskRevokedError('revoked')
        ack
        event Revoked
    "#]],
    );
    let nobody_asks = Policy { ignore_result: true, store_errors: false, ..Policy::default() };
    for refusal in [Refusal::Expired, Refusal::Revoked] {
        check_refusal(
            refusal(request("tasks.add", "id"), nobody_asks),
            expect![[r#"
            ack
            event Revoked
        "#]],
        );
    }
}

#[test]
fn a_task_that_was_stopped_by_a_revoke_is_revoked() {
    check(
        Outcome::Terminated(Signal::TERM),
        expect![[r#"
        store REVOKED TaskRevokedError('terminated')
        ack
        event Revoked
    "#]],
    );
    let mut early = attempt(TaskOptions::default());
    early.policy.acks_late = false;
    early.policy.ignore_result = true;
    check_attempt(
        &early,
        Outcome::Terminated(Signal::TERM),
        expect![[r#"
        store REVOKED TaskRevokedError('terminated')
        event Revoked
    "#]],
    );
}

#[test]
fn what_nobody_can_finish_is_kept_aside() {
    check_refusal(
        Refusal::Undeliverable(request("tasks.add", "id"), 20),
        expect![[r#"
            shelve in `celery.dead` because of Some("delivery_limit")
            store FAILURE WorkerLostError('delivered 20 times, and each time the worker was lost')
            ack
            event DeadLettered
        "#]],
    );
}

#[test]
fn a_retry_that_nobody_takes_is_rejected_for_good() {
    expect![[r#"
        store FAILURE Reject('no queue', False)
        reject
        event Rejected
    "#]]
    .assert_eq(&render(&unpublishable(
        &attempt(TaskOptions::default()),
        &Settlement::default(),
        "no queue",
        NOW,
        means(),
    )));
}

#[test]
fn a_state_of_a_running_task_is_stored_whatever_becomes_of_its_result() {
    let mut attempt = attempt(TaskOptions::default());
    attempt.policy.ignore_result = true;
    let state = State::of_task("PROGRESS").expect("a state");
    let records = vec![updated(&attempt, state, Json::object([("current", Json::int(1))]))];
    let settlement = Settlement { records, ..Settlement::default() };
    assert_eq!(render(&settlement), "store PROGRESS {\"current\": 1} (not done)\n");
}

#[test]
fn a_task_is_retried_for_what_its_retry_on_names() {
    let trap = || Outcome::Trapped(Trap::StackOverflow);
    let memory = || Outcome::Trapped(Trap::MemoryLimit { limit_bytes: 1 });
    let cpu = || Outcome::Trapped(Trap::CpuTimeLimit { limit: Duration::from_secs(1) });
    let hard = || Outcome::TimedOut(Limit::Hard(Duration::from_secs(1)));
    let soft = || Outcome::TimedOut(Limit::Soft(Duration::from_secs(1)));
    let wrong = || Outcome::Trapped(Trap::InvalidResult("x".to_owned()));
    let on = |trap, memory, time| RetryOn { trap, memory, time };
    let state = |retry_on, retries, outcome| {
        let mut attempt = attempt(TaskOptions { retry_on, ..TaskOptions::default() });
        Arc::make_mut(&mut attempt.request).retries = retries;
        let settlement = settle(&attempt, Finished::alone(outcome, Usage::default()), NOW, Jitter(0.0), means());
        settlement.records[0].state.as_str().to_owned()
    };
    for (retry_on, outcome, expected) in [
        (on(true, false, false), trap(), "RETRY"),
        (on(false, true, true), trap(), "FAILURE"),
        (on(false, true, false), memory(), "RETRY"),
        (on(true, false, true), memory(), "FAILURE"),
        (on(false, false, true), cpu(), "RETRY"),
        (on(false, false, true), hard(), "RETRY"),
        (on(false, false, true), soft(), "RETRY"),
        (on(true, true, false), hard(), "FAILURE"),
        (on(true, true, true), wrong(), "FAILURE"),
    ] {
        assert_eq!(state(retry_on, 0, outcome.clone()), expected, "{retry_on:?} {outcome:?}");
        assert_eq!(state(retry_on, 3, outcome.clone()), "FAILURE", "no retry is left: {outcome:?}");
    }
}

#[test]
fn a_pinned_retry_names_its_version_and_any_other_does_not() {
    let version = |pin_retries, pinned: Option<&str>| {
        let pinned = pinned.map(PluginVersion::of);
        let attempt = Attempt { pinned, ..attempt(TaskOptions { pin_retries, ..TaskOptions::default() }) };
        let finished = Finished::alone(Outcome::Retry(wish()), Usage::default());
        let settlement = settle(&attempt, finished, NOW, Jitter(0.0), means());
        let Some(Step::Send(publication)) = settlement.before.first() else { panic!("{settlement:?}") };
        publication.message.headers.get(VERSION_HEADER).cloned()
    };
    assert_eq!(version(false, None), None);
    assert_eq!(version(true, None), Some(HeaderValue::Text("a".to_owned())));
    assert_eq!(version(true, Some("old")), Some(HeaderValue::Text("old".to_owned())));
}

#[test]
fn a_task_of_a_plugin_in_quarantine_is_kept_aside() {
    let plugin = PluginName::parse("demo").expect("a name");
    let settlement = refuse(Refusal::Quarantined(request("tasks.add", "id-1"), plugin), NOW, means());
    assert_eq!(settlement.acknowledgement, Some(Acknowledgement::Ack));
    assert_eq!(settlement.records, []);
    let [Step::Shelve { queue, message }] = &settlement.before[..] else { panic!("{settlement:?}") };
    assert_eq!(queue.as_str(), "celery.parked");
    let why = dead::reason(&message.headers).expect("it says why");
    assert_eq!((why.reason, why.error), ("quarantine", "plugin `demo` is in quarantine"));
}

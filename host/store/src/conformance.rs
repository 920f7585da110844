//! What every store with storage does: one suite that all adapters pass.
//!
//! Says nothing about how things are stored; that is tested beside each adapter.

pub(crate) mod chords;
pub(crate) mod counters;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use taskhost_core::record::ResultValue;
use taskhost_core::{Exception, Json, ResultRecord, State, StoredResult, TaskId, Timestamp};
use tokio::time::Instant;

use crate::port::{ResultStore, StoreError};

/// 2026-11-22T10:32:08.348566 UTC.
const DONE: Timestamp = Timestamp::from_micros(1_795_343_528_348_566);
/// How long a wait may take that is expected to end early.
const LONG: Duration = Duration::from_secs(20);

/// What a store cannot keep, and refuses for good.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// The longest document.
    pub document_bytes: usize,
    /// Ids are part of a name that has neither spaces nor anything beyond ASCII.
    pub plain_ids: bool,
}

/// Runs the suite. Panics where the store is wrong. Ids are new in each run: the store need not be empty.
pub async fn run(store: Arc<dyn ResultStore>) {
    run_within(store, Bounds { document_bytes: usize::MAX, plain_ids: false }).await;
}

/// As [`run`], for a store that has bounds.
pub async fn run_within(store: Arc<dyn ResultStore>, bounds: Bounds) {
    store.ping().await.expect("a store under test is reachable");
    every_state_is_read_as_it_was_written(&*store).await;
    an_exception_is_read_as_celerys_map(&*store).await;
    odd_values_are_kept_as_they_were_written(&*store, bounds).await;
    an_unknown_id_is_pending(&*store).await;
    the_last_state_counts_until_success(&*store).await;
    success_is_sticky(&*store).await;
    success_is_sticky_inside_a_batch(&*store).await;
    a_batch_is_answered_in_order(&*store).await;
    what_is_forgotten_is_unknown(&*store).await;
    a_final_result_wakes_who_waits(&store).await;
    a_wait_ends(&*store).await;
    puts_at_the_same_time_are_all_stored(&store).await;
    children_are_read_as_they_were_written(&*store).await;
    chords::run(&store).await;
}

/// A record without anything that is optional; final states are done at some time in 2026.
pub fn record(id: &TaskId, state: State, result: &str) -> ResultRecord {
    ResultRecord {
        id: id.clone(),
        date_done: state.is_ready().then_some(DONE),
        state,
        result: ResultValue::Json(json(result)),
        traceback: None,
        children: Json::empty_list(),
        group_id: None,
        parent_id: None,
        reply_to: None,
        correlation_id: None,
        call: None,
        usage: None,
    }
}

/// An id that no other test and no other run has.
pub fn fresh(name: &str) -> TaskId {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    TaskId::parse(&format!("{name}-{}-{nanos}-{count}", std::process::id())).expect("a short name makes a short id")
}

fn json(text: &str) -> Json {
    Json::parse(text.to_owned()).expect("the suite writes valid JSON")
}

fn failure(id: &TaskId, state: State, exception: Exception, traceback: Option<&str>) -> ResultRecord {
    ResultRecord {
        result: ResultValue::Exception(exception),
        traceback: traceback.map(str::to_owned),
        ..record(id, state, "null")
    }
}

async fn put(store: &dyn ResultStore, records: &[ResultRecord]) {
    let answers = store.put(records).await;
    assert_eq!(answers.len(), records.len(), "an answer for each record");
    answers.into_iter().collect::<Result<(), StoreError>>().expect("every record is stored");
}

async fn get(store: &dyn ResultStore, id: &TaskId) -> Option<StoredResult> {
    store.get(id).await.expect("a result can be read")
}

#[track_caller]
fn assert_stored(stored: Option<StoredResult>, state: State, result: &str) {
    let stored = stored.expect("there is a result");
    assert_eq!((stored.state, stored.result.as_str()), (state, result));
}

async fn every_state_is_read_as_it_was_written(store: &dyn ResultStore) {
    let states = [
        (State::Started, r#"{"pid": 7, "hostname": "taskhost@box"}"#),
        (State::Custom("PROGRESS".into()), r#"{"done": 3}"#),
        (State::Success, "[1, \"two\", null, true]"),
        (State::Success, "null"),
    ];
    for (state, result) in states {
        let id = fresh("state");
        put(store, &[record(&id, state.clone(), result)]).await;
        let stored = get(store, &id).await.expect("there is a result");
        assert_eq!((&stored.state, stored.result.as_str()), (&state, result));
        assert_eq!(stored.traceback, None);
        let done = stored.date_done.map(|text| Timestamp::parse(&text).expect("a time that can be read"));
        assert_eq!(done, state.is_ready().then_some(DONE));
    }
}

async fn an_exception_is_read_as_celerys_map(store: &dyn ResultStore) {
    let traceback = "Traceback (most recent call last):\n  File \"größe.py\", line 1, in <module>\nKeyError: 'x'\n";
    for state in [State::Failure, State::Retry, State::Revoked] {
        let id = fresh("exception");
        let exception =
            Exception { kind: "KeyError".into(), module: Some("builtins".into()), arguments: json(r#"["x", 1]"#) };
        put(store, &[failure(&id, state.clone(), exception, Some(traceback))]).await;
        let stored = get(store, &id).await.expect("there is a result");
        assert_eq!(stored.state, state);
        assert_eq!(stored.traceback.as_deref(), Some(traceback));
        let result = stored.result.as_str();
        for part in [r#""exc_type": "KeyError""#, r#""exc_message": ["x", 1]"#, r#""exc_module": "builtins""#] {
            assert!(result.contains(part), "{part} is in {result}");
        }
    }
    let id = fresh("exception");
    let exception = Exception { kind: "Trap".into(), module: None, arguments: json("[]") };
    put(store, &[failure(&id, State::Failure, exception, None)]).await;
    let stored = get(store, &id).await.expect("there is a result");
    assert!(stored.result.as_str().contains(r#""exc_module": null"#), "{}", stored.result);
    assert_eq!(stored.traceback, None);
}

async fn children_are_read_as_they_were_written(store: &dyn ResultStore) {
    let id = fresh("parent");
    let children = json(r#"[[["c", ["p", null]], null], [["g", null], [[["m", null], null]]]]"#);
    let parent = ResultRecord { children: children.clone(), ..record(&id, State::Success, "1") };
    put(store, &[parent]).await;
    assert_eq!(get(store, &id).await.expect("there is a result").children, children);
    let id = fresh("childless");
    put(store, &[record(&id, State::Success, "1")]).await;
    // Celery's tables say null for none.
    let none = get(store, &id).await.expect("there is a result").children;
    assert!(none.elements().next().is_none(), "{none}");
}

async fn odd_values_are_kept_as_they_were_written(store: &dyn ResultStore, bounds: Bounds) {
    let digits = "1234567890".repeat(30);
    let large = format!("\"{}\"", "ä0123456789".repeat(90_000));
    let values = [
        "\"\u{1F980} größe \\u00e4 \\ud800 \\u0000 \\\" \\\\\"",
        "NaN",
        "[Infinity, -Infinity, 1e400, -0.0]",
        &digits,
        "{\"a\":1,\"a\":2}",
        &large,
    ];
    for value in values {
        let id = fresh("odd");
        if value.len() > bounds.document_bytes {
            is_refused(store, &record(&id, State::Success, value)).await;
            continue;
        }
        put(store, &[record(&id, State::Success, value)]).await;
        assert_stored(get(store, &id).await, State::Success, value);
    }
    let id = TaskId::parse(&format!("übung 'one' \"two\" %s {}", fresh("id"))).expect("a short id");
    if bounds.plain_ids {
        return is_refused(store, &record(&id, State::Success, "1")).await;
    }
    put(store, &[record(&id, State::Success, "1")]).await;
    assert_stored(get(store, &id).await, State::Success, "1");
}

/// What cannot be kept fails alone, and for good.
async fn is_refused(store: &dyn ResultStore, refused: &ResultRecord) {
    let (one, other) = (fresh("one"), fresh("other"));
    let batch = [record(&one, State::Success, "1"), refused.clone(), record(&other, State::Success, "2")];
    let answers = store.put(&batch).await;
    assert!(answers[0].is_ok() && answers[2].is_ok(), "{answers:?}");
    assert!(answers[1].as_ref().is_err_and(|error| !error.is_transient()), "{answers:?}");
    assert_stored(get(store, &one).await, State::Success, "1");
    assert_stored(get(store, &other).await, State::Success, "2");
}

async fn an_unknown_id_is_pending(store: &dyn ResultStore) {
    assert_eq!(get(store, &fresh("unknown")).await, None);
}

async fn the_last_state_counts_until_success(store: &dyn ResultStore) {
    let id = fresh("states");
    let states = [State::Started, State::Retry, State::Started, State::Failure, State::Revoked, State::Started];
    for (n, state) in states.into_iter().enumerate() {
        put(store, &[record(&id, state.clone(), &n.to_string())]).await;
        assert_stored(get(store, &id).await, state, &n.to_string());
    }
    let stored = get(store, &id).await.expect("there is a result");
    assert_eq!(stored.date_done, None, "what is not final is not done");
}

async fn success_is_sticky(store: &dyn ResultStore) {
    let id = fresh("sticky");
    put(store, &[record(&id, State::Success, "1")]).await;
    for state in [State::Started, State::Failure, State::Success] {
        put(store, &[record(&id, state, "2")]).await;
        assert_stored(get(store, &id).await, State::Success, "1");
    }
}

async fn success_is_sticky_inside_a_batch(store: &dyn ResultStore) {
    let (id, other) = (fresh("batch"), fresh("batch"));
    let batch = [
        record(&id, State::Started, "1"),
        record(&other, State::Failure, "2"),
        record(&id, State::Success, "3"),
        record(&other, State::Started, "4"),
        record(&id, State::Failure, "5"),
        record(&other, State::Revoked, "6"),
        record(&id, State::Success, "7"),
    ];
    put(store, &batch).await;
    assert_stored(get(store, &id).await, State::Success, "3");
    assert_stored(get(store, &other).await, State::Revoked, "6");
}

async fn a_batch_is_answered_in_order(store: &dyn ResultStore) {
    put(store, &[]).await;
    // More than adapters write in one go.
    let ids: Vec<TaskId> = (0..1_200).map(|_| fresh("many")).collect();
    let batch: Vec<_> = ids.iter().enumerate().map(|(n, id)| record(id, State::Success, &n.to_string())).collect();
    put(store, &batch).await;
    for (n, id) in ids.iter().enumerate().step_by(97) {
        assert_stored(get(store, id).await, State::Success, &n.to_string());
    }
}

async fn what_is_forgotten_is_unknown(store: &dyn ResultStore) {
    let id = fresh("forget");
    put(store, &[record(&id, State::Success, "1")]).await;
    store.forget(&id).await.expect("a result can be forgotten");
    assert_eq!(get(store, &id).await, None);
    store.forget(&id).await.expect("what is unknown can be forgotten");
    put(store, &[record(&id, State::Started, "2")]).await;
    assert_stored(get(store, &id).await, State::Started, "2");
}

async fn a_final_result_wakes_who_waits(store: &Arc<dyn ResultStore>) {
    let id = fresh("wake");
    let waits: Vec<_> = (0..3)
        .map(|_| {
            let (store, id) = (Arc::clone(store), id.clone());
            tokio::spawn(async move {
                let began = Instant::now();
                store.changed(&id, LONG).await;
                assert!(began.elapsed() < LONG / 2, "the wait ended because of the result");
                assert_stored(get(&*store, &id).await, State::Success, "5");
            })
        })
        .collect();
    // Whether this comes before or after a wait listens, the wait has to end.
    tokio::task::yield_now().await;
    put(&**store, &[record(&id, State::Started, "null")]).await;
    put(&**store, &[record(&id, State::Success, "5")]).await;
    for wait in waits {
        wait.await.expect("a wait ends well");
    }
    let began = Instant::now();
    store.changed(&id, LONG).await;
    assert!(began.elapsed() < LONG / 2, "what is final already is not waited for");
}

async fn a_wait_ends(store: &dyn ResultStore) {
    let within = Duration::from_millis(50);
    let began = Instant::now();
    store.changed(&fresh("silence"), within).await;
    assert!(began.elapsed() >= within && began.elapsed() < LONG);
}

async fn puts_at_the_same_time_are_all_stored(store: &Arc<dyn ResultStore>) {
    let shared = fresh("shared");
    let puts: Vec<_> = (0..8)
        .map(|n| {
            let (store, shared) = (Arc::clone(store), shared.clone());
            tokio::spawn(async move {
                let mut ids = Vec::new();
                for round in 0..10 {
                    let own = fresh("own");
                    let batch = [
                        record(&own, State::Started, "null"),
                        record(&own, State::Success, &format!("[{n}, {round}]")),
                        record(&shared, State::Started, "null"),
                    ];
                    put(&*store, &batch).await;
                    ids.push((own, format!("[{n}, {round}]")));
                }
                ids
            })
        })
        .collect();
    for put in puts {
        for (id, result) in put.await.expect("every put ends well") {
            assert_stored(get(&**store, &id).await, State::Success, &result);
        }
    }
    assert_stored(get(&**store, &shared).await, State::Started, "null");
}

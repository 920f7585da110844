//! What every store does that counts the parts of chords itself, and what the others say.

use std::sync::Arc;
use std::time::Duration;

use taskhost_core::chord::{ChordPart, ChordStyle, ClaimedChord, Part, Progress};
use taskhost_core::record::ResultValue;
use taskhost_core::{Exception, Json, State, TaskId};

use super::{fresh, json};
use crate::port::{ResultStore, StoreError};

/// As long as a claim lasts, at most, before the body is being published.
const CLAIM_MAX: Duration = Duration::from_secs(6);

/// Runs the suite for what this store says of itself.
pub(crate) async fn run(store: &Arc<dyn ResultStore>) {
    match store.chords() {
        ChordStyle::Native => native(store).await,
        ChordStyle::Counter => super::counters::run(store).await,
        ChordStyle::Unlock | ChordStyle::Refused(_) => a_store_that_does_not_count_says_so(&**store).await,
    }
}

async fn native(store: &Arc<dyn ResultStore>) {
    the_last_part_claims_its_chord(&**store).await;
    values_and_exceptions_are_kept_as_they_were_written(&**store).await;
    a_part_that_comes_again_counts_once(&**store).await;
    the_same_task_at_two_places_counts_twice(&**store).await;
    a_chord_without_its_size_waits(&**store).await;
    a_chord_is_claimed_by_one_at_a_time(&**store).await;
    a_claim_is_proved_by_its_token(&**store, complete(&**store).await).await;
    a_chord_that_is_done_stays_done(&**store).await;
    a_chord_that_is_applied_anew_begins_anew(&**store).await;
    a_new_part_of_a_chord_that_is_over_is_kept_for_its_next_run(&**store).await;
    a_chord_that_failed_is_not_claimed_again(&**store).await;
    a_chord_grows_once_for_each_member(&**store).await;
    a_chord_comes_with_the_shape_of_its_header(&**store).await;
    a_large_chord_is_read_in_order(&**store).await;
    a_batch_may_hold_parts_of_many_chords(&**store).await;
    of_all_who_count_one_claims(store).await;
    groups_are_kept(&**store).await;
}

async fn a_store_that_does_not_count_says_so(store: &dyn ResultStore) {
    let (group, id) = (name("refused"), fresh("part"));
    let mut errors = vec![
        store.set_chord_size(&group, 1, false).await.err(),
        store.extend_chord(&group, &id).await.err(),
        store.extend_claim(&group, "token").await.err(),
        store.finish_chord(&group, "token").await.err(),
        store.fail_chord(&group).await.err(),
        store.begin_chord(&group, 1, &Json::empty_list(), false).await.err(),
    ];
    let counted = store.count_chord_parts(&[part(&group, &id, 0, "1"), part(&group, &id, 1, "1")]).await;
    assert_eq!(counted.len(), 2);
    errors.extend(counted.into_iter().map(Result::err));
    for error in errors {
        let error = error.expect("it is refused");
        assert!(!error.is_transient() && matches!(error, StoreError::Without { .. }), "{error}");
    }
    if store.chords() == ChordStyle::Unlock {
        groups_are_kept(store).await;
    }
}

pub(super) fn name(kind: &str) -> String {
    fresh(kind).to_string()
}

/// A part with a result, at a place in the header.
pub(crate) fn part(group: &str, task: &TaskId, index: impl Into<Option<i64>>, result: &str) -> ChordPart {
    ChordPart {
        group: group.to_owned(),
        task: task.clone(),
        index: index.into(),
        state: State::Success,
        result: ResultValue::Json(json(result)),
        is_new: false,
        body: Json::null(),
    }
}

pub(crate) async fn count(store: &dyn ResultStore, part: &ChordPart) -> Progress {
    let mut answers = store.count_chord_parts(std::slice::from_ref(part)).await;
    assert_eq!(answers.len(), 1, "an answer for each part");
    answers.remove(0).expect("a part is counted")
}

pub(crate) async fn size(store: &dyn ResultStore, group: &str, size: u64) {
    store.set_chord_size(group, size, false).await.expect("a size is set");
}

#[track_caller]
pub(crate) fn claimed(progress: Progress) -> ClaimedChord {
    match progress {
        Progress::Claimed(chord) => chord,
        other => panic!("not claimed, but {other:?}"),
    }
}

pub(crate) fn values(chord: &ClaimedChord) -> Vec<String> {
    chord.parts.iter().map(|part| part.result.to_string()).collect()
}

/// A chord of one part that is claimed.
async fn complete(store: &dyn ResultStore) -> (ChordPart, ClaimedChord) {
    let group = name("complete");
    size(store, &group, 1).await;
    let only = part(&group, &fresh("only"), 0, "1");
    let chord = claimed(count(store, &only).await);
    (only, chord)
}

async fn the_last_part_claims_its_chord(store: &dyn ResultStore) {
    let (group, ids) = (name("chord"), [fresh("a"), fresh("b"), fresh("c"), fresh("d")]);
    size(store, &group, 4).await;
    for (id, index) in [(&ids[3], None), (&ids[2], Some(10)), (&ids[0], Some(0))] {
        assert_eq!(count(store, &part(&group, id, index, "1")).await, Progress::Waiting);
    }
    let chord = claimed(count(store, &part(&group, &ids[1], 9, "[1, 2]")).await);
    assert_eq!(chord.group, group);
    assert_eq!(chord.structure, None);
    let expected = ids.clone().map(|task| Part {
        result: json(if task == ids[1] { "[1, 2]" } else { "1" }),
        state: State::Success,
        task,
    });
    assert_eq!(chord.parts, expected, "in the order of the header, and what has no place last");
}

/// A frozen chord that is applied again has the same ids, and its client sets the size before the last member only.
async fn a_new_part_of_a_chord_that_is_over_is_kept_for_its_next_run(store: &dyn ResultStore) {
    let (only, chord) = complete(store).await;
    assert!(store.finish_chord(&only.group, &chord.token).await.expect("the store answers"));
    assert_eq!(count(store, &only).await, Progress::Over, "it came before");
    assert_eq!(count(store, &ChordPart { is_new: true, ..only.clone() }).await, Progress::Over);
    size(store, &only.group, 2).await;
    let other = ChordPart { is_new: true, ..part(&only.group, &fresh("other"), 1, "2") };
    assert_eq!(values(&claimed(count(store, &other).await)), ["1", "2"]);
}

async fn values_and_exceptions_are_kept_as_they_were_written(store: &dyn ResultStore) {
    let odd = ["NaN", "[1e400, -0.0]", "\"\u{1F980} \\ud800 \\u0000\"", "{\"a\":1,\"a\":2}", "null"];
    let group = name("values");
    size(store, &group, odd.len() as u64 + 2).await;
    for (n, value) in odd.iter().enumerate() {
        count(store, &part(&group, &fresh("odd"), n as i64, value)).await;
    }
    let exception = |kind: &str| ResultValue::Exception(Exception::new("builtins", kind, [Json::text("x")]));
    let failed = |state: State, index: i64, kind: &str| ChordPart {
        state,
        result: exception(kind),
        ..part(&group, &fresh("failed"), index, "null")
    };
    count(store, &failed(State::Failure, 8, "KeyError")).await;
    let chord = claimed(count(store, &failed(State::Revoked, 9, "Gone")).await);
    assert_eq!(values(&chord)[..odd.len()], odd);
    let states: Vec<_> = chord.parts[odd.len()..].iter().map(|part| part.state.clone()).collect();
    assert_eq!(states, [State::Failure, State::Revoked]);
    let map = r#"{"exc_type": "KeyError", "exc_message": ["x"], "exc_module": "builtins"}"#;
    assert_eq!(values(&chord)[odd.len()], map);
}

async fn a_part_that_comes_again_counts_once(store: &dyn ResultStore) {
    let (group, first, second) = (name("again"), fresh("first"), fresh("second"));
    size(store, &group, 2).await;
    for result in ["1", "2", "2"] {
        assert_eq!(count(store, &part(&group, &first, 0, result)).await, Progress::Waiting);
    }
    let chord = claimed(count(store, &part(&group, &second, 1, "3")).await);
    assert_eq!(values(&chord), ["1", "3"], "what came first counts");
}

async fn the_same_task_at_two_places_counts_twice(store: &dyn ResultStore) {
    let (group, id) = (name("twice"), fresh("twice"));
    size(store, &group, 2).await;
    assert_eq!(count(store, &part(&group, &id, 0, "1")).await, Progress::Waiting);
    assert_eq!(values(&claimed(count(store, &part(&group, &id, 1, "2")).await)), ["1", "2"]);
}

async fn a_chord_without_its_size_waits(store: &dyn ResultStore) {
    let (group, first, second) = (name("early"), fresh("first"), fresh("second"));
    // Celery sets the size just before the last member is published, when others may be done.
    assert_eq!(count(store, &part(&group, &first, 0, "1")).await, Progress::Waiting);
    size(store, &group, 2).await;
    assert_eq!(values(&claimed(count(store, &part(&group, &second, 1, "2")).await)), ["1", "2"]);
}

async fn a_chord_is_claimed_by_one_at_a_time(store: &dyn ResultStore) {
    let (group, first, second) = (name("held"), fresh("first"), fresh("second"));
    size(store, &group, 2).await;
    let (first, second) = (part(&group, &first, 0, "1"), part(&group, &second, 1, "2"));
    count(store, &first).await;
    let chord = claimed(count(store, &second).await);
    // Some other part again, as after its worker was lost.
    match count(store, &first).await {
        Progress::Held(left) => assert!(!left.is_zero() && left <= CLAIM_MAX, "{left:?}"),
        other => panic!("not held, but {other:?}"),
    }
    let same = claimed(count(store, &second).await);
    assert!(!chord.again && same.again, "the body may have been published meanwhile");
    assert_eq!(same, ClaimedChord { again: true, ..chord }, "who did not hear that it has the claim may ask again");
}

pub(super) async fn a_claim_is_proved_by_its_token(store: &dyn ResultStore, complete: (ChordPart, ClaimedChord)) {
    let (only, chord) = complete;
    let group = &only.group;
    assert!(!store.extend_claim(group, "stranger").await.unwrap());
    assert!(!store.finish_chord(group, "stranger").await.unwrap());
    assert!(store.extend_claim(group, &chord.token).await.unwrap());
    assert_eq!(claimed(count(store, &only).await).parts, chord.parts, "nothing was deleted");
    assert!(store.finish_chord(group, &chord.token).await.unwrap());
    assert!(store.finish_chord(group, &chord.token).await.unwrap(), "an answer may be lost");
    assert!(!store.extend_claim(group, &chord.token).await.unwrap(), "nothing is left to claim");
    assert!(!store.extend_claim(&name("unknown"), &chord.token).await.unwrap());
}

async fn a_chord_that_is_done_stays_done(store: &dyn ResultStore) {
    let (only, chord) = complete(store).await;
    store.finish_chord(&only.group, &chord.token).await.unwrap();
    assert_eq!(count(store, &only).await, Progress::Over);
    assert_eq!(count(store, &part(&only.group, &fresh("late"), 1, "1")).await, Progress::Over);
    // Who applied it runs again, since nobody heard that it was done.
    store.set_chord_size(&only.group, 1, true).await.unwrap();
    store.extend_chord(&only.group, &fresh("late")).await.unwrap();
    assert_eq!(count(store, &only).await, Progress::Over);
}

async fn a_chord_that_is_applied_anew_begins_anew(store: &dyn ResultStore) {
    let (only, chord) = complete(store).await;
    store.finish_chord(&only.group, &chord.token).await.unwrap();
    size(store, &only.group, 2).await;
    assert_eq!(count(store, &only).await, Progress::Waiting);
    assert_eq!(claimed(count(store, &part(&only.group, &fresh("more"), 1, "2")).await).parts.len(), 2);
}

async fn a_chord_that_failed_is_not_claimed_again(store: &dyn ResultStore) {
    let (only, chord) = complete(store).await;
    store.fail_chord(&only.group).await.unwrap();
    store.fail_chord(&only.group).await.unwrap();
    assert_eq!(count(store, &only).await, Progress::Waiting);
    store.set_chord_size(&only.group, 1, true).await.unwrap();
    assert_eq!(count(store, &only).await, Progress::Waiting, "who applied it does not bring it back");
    assert_eq!(chord.parts.len(), 1);
}

async fn a_chord_grows_once_for_each_member(store: &dyn ResultStore) {
    let (group, more, other) = (name("grows"), fresh("more"), fresh("other"));
    store.set_chord_size(&group, 1, true).await.unwrap();
    for member in [&more, &more, &other, &more] {
        store.extend_chord(&group, member).await.unwrap();
    }
    store.set_chord_size(&group, 1, true).await.unwrap();
    assert_eq!(count(store, &part(&group, &fresh("only"), 0, "1")).await, Progress::Waiting);
    assert_eq!(count(store, &part(&group, &more, None, "2")).await, Progress::Waiting);
    let chord = claimed(count(store, &part(&group, &other, None, "3")).await);
    assert_eq!(values(&chord)[0], "1");
    assert!(store.finish_chord(&group, &chord.token).await.unwrap());
    // Once more, with the same members: what was known of them went with the parts.
    size(store, &group, 1).await;
    store.extend_chord(&group, &more).await.unwrap();
    assert_eq!(count(store, &part(&group, &fresh("only"), 0, "1")).await, Progress::Waiting);
    claimed(count(store, &part(&group, &more, None, "2")).await);
}

async fn a_chord_comes_with_the_shape_of_its_header(store: &dyn ResultStore) {
    let (group, id) = (name("shape"), fresh("leaf"));
    let tuple = json(&format!(r#"[["{group}", null], [[["inner", null], [[["{id}", null], null]]]]]"#));
    store.save_group(&group, &tuple).await.unwrap();
    size(store, &group, 1).await;
    let chord = claimed(count(store, &part(&group, &id, 0, "1")).await);
    assert_eq!(chord.structure, Some(tuple));
}

async fn a_large_chord_is_read_in_order(store: &dyn ResultStore) {
    const PARTS: i64 = 2_345;
    let group = name("large");
    size(store, &group, PARTS as u64).await;
    // Backwards, so that the order is the store's.
    let parts: Vec<_> = (0..PARTS).rev().map(|n| part(&group, &fresh("many"), n, &n.to_string())).collect();
    let mut answers = store.count_chord_parts(&parts).await;
    let chord = claimed(answers.pop().expect("an answer for each").expect("a part is counted"));
    assert!(answers.iter().all(|answer| matches!(answer, Ok(Progress::Waiting))));
    let expected: Vec<_> = (0..PARTS).map(|n| n.to_string()).collect();
    assert_eq!(values(&chord), expected);
}

async fn a_batch_may_hold_parts_of_many_chords(store: &dyn ResultStore) {
    let (one, two) = (name("one"), name("two"));
    size(store, &one, 2).await;
    size(store, &two, 1).await;
    let first = part(&one, &fresh("first"), 0, "1");
    let batch = [
        first.clone(),
        part(&two, &fresh("only"), 0, "2"),
        first,
        part(&one, &fresh("second"), 1, "3"),
        part(&name("sizeless"), &fresh("x"), 0, "4"),
    ];
    let answers = store.count_chord_parts(&batch).await;
    let answers: Vec<_> = answers.into_iter().map(|answer| answer.expect("a part is counted")).collect();
    assert_eq!((&answers[0], &answers[2], &answers[4]), (&Progress::Waiting, &Progress::Waiting, &Progress::Waiting));
    assert_eq!(values(&claimed(answers[1].clone())), ["2"]);
    assert_eq!(values(&claimed(answers[3].clone())), ["1", "3"]);
    assert!(store.count_chord_parts(&[]).await.is_empty());
}

async fn of_all_who_count_one_claims(store: &Arc<dyn ResultStore>) {
    const PARTS: i64 = 50;
    let group = name("race");
    size(&**store, &group, PARTS as u64).await;
    let counting: Vec<_> = (0..PARTS)
        .map(|n| {
            let (store, part) = (Arc::clone(store), part(&group, &fresh("racer"), n, "1"));
            tokio::spawn(async move { count(&*store, &part).await })
        })
        .collect();
    let mut claims = 0;
    for counted in counting {
        claims += usize::from(matches!(counted.await.expect("counting ends well"), Progress::Claimed(_)));
    }
    assert_eq!(claims, 1);
}

pub(super) async fn groups_are_kept(store: &dyn ResultStore) {
    let group = name("group");
    assert_eq!(store.group(&group).await.unwrap(), None);
    for members in ["[]", r#"[[["a", null], null], [["b", ["p", null]], null]]"#] {
        // Saved again by who does not know whether it was.
        let tuple = json(&format!(r#"[["{group}", null], {members}]"#));
        store.save_group(&group, &tuple).await.unwrap();
        store.save_group(&group, &tuple).await.unwrap();
        assert_eq!(store.group(&group).await.unwrap(), Some(tuple));
    }
}

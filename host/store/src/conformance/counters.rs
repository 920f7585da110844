//! What every store does that counts how many members of a chord are done: the header is saved before, and the results
//! are those that are stored of the members.
//!
//! Members of Python workers are counted under the same keys; that is tested beside each adapter.

use std::sync::Arc;

use taskhost_core::chord::{self, ChordPart, ClaimedChord, Progress};
use taskhost_core::record::ResultValue;
use taskhost_core::{Exception, Json, ResultRecord, State, TaskId};

use super::chords::{a_claim_is_proved_by_its_token, claimed, count, groups_are_kept, name, part, values};
use super::{fresh, json, put, record};
use crate::port::ResultStore;

pub(super) async fn run(store: &Arc<dyn ResultStore>) {
    the_last_member_claims_its_chord(&**store).await;
    results_are_those_that_are_stored(&**store).await;
    a_member_that_comes_again_counts_once(&**store).await;
    a_member_may_be_at_two_places(&**store).await;
    a_result_that_is_not_there_is_named(&**store).await;
    a_chord_comes_with_the_shape_of_its_header(&**store).await;
    a_chord_is_claimed_by_one_at_a_time(&**store).await;
    a_claim_is_proved_by_its_token(&**store, complete(&**store).await).await;
    a_chord_that_is_done_stays_done(&**store).await;
    a_chord_that_failed_stays_failed(&**store).await;
    a_chord_that_is_applied_anew_begins_anew(&**store).await;
    what_is_said_again_of_a_chord_changes_nothing(&**store).await;
    a_large_chord_is_read_in_order(&**store).await;
    a_batch_may_hold_members_of_many_chords(&**store).await;
    of_all_who_count_one_claims(store).await;
    groups_are_kept(&**store).await;
}

/// What more a store does whose members say themselves how many there are, and which has forgotten a chord rather than
/// never heard of it.
pub(crate) async fn run_for_keys(store: &dyn ResultStore) {
    the_body_may_say_how_many_there_are(store).await;
    a_chord_without_its_header_is_broken_once(store).await;
}

/// Members of a chord that has been applied.
async fn applied(store: &dyn ResultStore, group: &str, members: usize) -> Vec<ChordPart> {
    let ids: Vec<TaskId> = (0..members).map(|_| fresh("member")).collect();
    apply(store, group, &ids).await;
    ids.iter().enumerate().map(|(n, id)| part(group, id, n as i64, &n.to_string())).collect()
}

async fn apply(store: &dyn ResultStore, group: &str, ids: &[TaskId]) {
    begin(store, group, ids.len() as u64, &header(group, ids), false).await;
}

fn header(group: &str, ids: &[TaskId]) -> Json {
    let members = Json::array(ids.iter().map(|id| json(&format!(r#"[["{id}", null], null]"#))));
    Json::array([json(&format!(r#"["{group}", null]"#)), members])
}

async fn begin(store: &dyn ResultStore, group: &str, size: u64, header: &Json, again: bool) {
    store.begin_chord(group, size, header, again).await.expect("a chord begins");
}

/// What a worker does when a member has ended.
async fn ends(store: &dyn ResultStore, part: &ChordPart) -> Progress {
    store_result(store, part).await;
    count(store, part).await
}

async fn store_result(store: &dyn ResultStore, part: &ChordPart) {
    let ended = record(&part.task, part.state.clone(), "null");
    put(store, &[ResultRecord { result: part.result.clone(), ..ended }]).await;
}

async fn complete(store: &dyn ResultStore) -> (ChordPart, ClaimedChord) {
    let only = applied(store, &name("complete"), 1).await.remove(0);
    let chord = claimed(ends(store, &only).await);
    (only, chord)
}

async fn the_last_member_claims_its_chord(store: &dyn ResultStore) {
    let group = name("chord");
    let parts = applied(store, &group, 3).await;
    for n in [2, 0] {
        assert_eq!(ends(store, &parts[n]).await, Progress::Waiting);
    }
    let chord = claimed(ends(store, &parts[1]).await);
    assert_eq!((&chord.group, chord.again, &chord.structure, &chord.broken), (&group, false, &None, &None));
    assert_eq!(values(&chord), ["0", "1", "2"], "in the order of the header");
}

async fn results_are_those_that_are_stored(store: &dyn ResultStore) {
    let mut parts = applied(store, &name("values"), 3).await;
    parts[0].result = ResultValue::Json(json("[NaN, 1e400, \"\u{1F980} \\ud800\"]"));
    parts[1].state = State::Failure;
    parts[1].result = ResultValue::Exception(Exception::new("builtins", "KeyError", [Json::text("x")]));
    for part in &parts[..2] {
        assert_eq!(ends(store, part).await, Progress::Waiting);
    }
    let chord = claimed(ends(store, &parts[2]).await);
    assert_eq!(values(&chord)[0], "[NaN, 1e400, \"\u{1F980} \\ud800\"]");
    assert_eq!(chord.parts[1].state, State::Failure);
    assert_eq!(values(&chord)[1], r#"{"exc_type": "KeyError", "exc_message": ["x"], "exc_module": "builtins"}"#);
}

async fn a_member_that_comes_again_counts_once(store: &dyn ResultStore) {
    let parts = applied(store, &name("again"), 2).await;
    for _ in 0..3 {
        assert_eq!(ends(store, &parts[0]).await, Progress::Waiting);
    }
    assert_eq!(values(&claimed(ends(store, &parts[1]).await)), ["0", "1"]);
}

async fn a_member_may_be_at_two_places(store: &dyn ResultStore) {
    let (group, id) = (name("twice"), fresh("twice"));
    apply(store, &group, &[id.clone(), id.clone()]).await;
    assert_eq!(ends(store, &part(&group, &id, 0, "1")).await, Progress::Waiting);
    assert_eq!(values(&claimed(ends(store, &part(&group, &id, 1, "2")).await)), ["1", "1"]);
}

async fn the_body_may_say_how_many_there_are(store: &dyn ResultStore) {
    let mut parts = applied(store, &name("sized"), 3).await;
    parts.iter_mut().for_each(|part| part.body = json(r#"{"task": "body", "chord_size": 2}"#));
    store_result(store, &parts[2]).await;
    assert_eq!(ends(store, &parts[0]).await, Progress::Waiting);
    assert_eq!(values(&claimed(ends(store, &parts[1]).await)), ["0", "1", "2"]);
}

async fn a_result_that_is_not_there_is_named(store: &dyn ResultStore) {
    let parts = applied(store, &name("missing"), 2).await;
    assert_eq!(count(store, &parts[0]).await, Progress::Waiting, "its result was not stored");
    let chord = claimed(ends(store, &parts[1]).await);
    assert_eq!(chord::missing(&chord), [parts[0].task.clone()]);
}

async fn a_chord_comes_with_the_shape_of_its_header(store: &dyn ResultStore) {
    let (group, ids) = (name("shape"), [fresh("a"), fresh("b")]);
    let [a, b] = &ids;
    let members = format!(r#"[[["{a}", null], null], [["inner", null], [[["{b}", null], null]]]]"#);
    begin(store, &group, 2, &json(&format!(r#"[["{group}", null], {members}]"#)), false).await;
    assert_eq!(ends(store, &part(&group, b, 0, "2")).await, Progress::Waiting);
    let chord = claimed(ends(store, &part(&group, a, 0, "1")).await);
    assert_eq!(chord.structure.as_ref().map(chord::leaves), Some(ids.to_vec()));
    assert_eq!(values(&chord), ["1", "2"]);
}

async fn a_chord_is_claimed_by_one_at_a_time(store: &dyn ResultStore) {
    let parts = applied(store, &name("held"), 2).await;
    ends(store, &parts[0]).await;
    let chord = claimed(ends(store, &parts[1]).await);
    match count(store, &parts[0]).await {
        Progress::Held(left) => assert!(!left.is_zero(), "{left:?}"),
        other => panic!("not held, but {other:?}"),
    }
    let same = claimed(count(store, &parts[1]).await);
    assert_eq!(same, ClaimedChord { again: true, ..chord }, "who did not hear that it has the claim may ask again");
}

async fn a_chord_that_is_done_stays_done(store: &dyn ResultStore) {
    let (only, chord) = complete(store).await;
    assert!(store.finish_chord(&only.group, &chord.token).await.unwrap());
    assert_eq!(store.group(&only.group).await.unwrap(), None, "its header is deleted");
    assert_eq!(count(store, &only).await, Progress::Over);
    let late = ChordPart { is_new: true, ..part(&only.group, &fresh("late"), 1, "1") };
    assert_eq!(count(store, &late).await, Progress::Over);
}

async fn a_chord_that_failed_stays_failed(store: &dyn ResultStore) {
    let (only, _) = complete(store).await;
    store.fail_chord(&only.group).await.unwrap();
    store.fail_chord(&only.group).await.unwrap();
    assert_eq!(store.group(&only.group).await.unwrap(), None, "its header is deleted");
    assert_eq!(count(store, &only).await, Progress::Over);
}

/// A frozen chord that is applied again has the same ids.
async fn a_chord_that_is_applied_anew_begins_anew(store: &dyn ResultStore) {
    let group = name("anew");
    let parts = applied(store, &group, 2).await;
    let ids: Vec<TaskId> = parts.iter().map(|part| part.task.clone()).collect();
    for finished in [true, false, true] {
        assert_eq!(ends(store, &parts[0]).await, Progress::Waiting);
        let chord = claimed(ends(store, &parts[1]).await);
        if finished {
            assert!(store.finish_chord(&group, &chord.token).await.unwrap());
        }
        apply(store, &group, &ids).await;
    }
}

async fn what_is_said_again_of_a_chord_changes_nothing(store: &dyn ResultStore) {
    let group = name("repeated");
    let parts = applied(store, &group, 2).await;
    let ids: Vec<TaskId> = parts.iter().map(|part| part.task.clone()).collect();
    let again = async || begin(store, &group, 2, &header(&group, &ids), true).await;
    assert_eq!(ends(store, &parts[0]).await, Progress::Waiting);
    again().await;
    assert_eq!(ends(store, &parts[0]).await, Progress::Waiting, "it is still counted");
    let chord = claimed(ends(store, &parts[1]).await);
    assert!(store.finish_chord(&group, &chord.token).await.unwrap());
    again().await;
    assert_eq!(store.group(&group).await.unwrap(), None);
    assert_eq!(count(store, &parts[0]).await, Progress::Over);
    assert_eq!(count(store, &parts[1]).await, Progress::Over);
}

async fn a_chord_without_its_header_is_broken_once(store: &dyn ResultStore) {
    let group = name("headless");
    let (one, other) = (part(&group, &fresh("one"), 0, "1"), part(&group, &fresh("other"), 1, "2"));
    let chord = claimed(ends(store, &one).await);
    assert_eq!(chord.broken, Some(format!("GroupResult {group} no longer exists")));
    assert!(chord.parts.is_empty());
    assert!(matches!(ends(store, &other).await, Progress::Held(_)));
    store.fail_chord(&group).await.unwrap();
    assert_eq!(count(store, &other).await, Progress::Over);
}

async fn a_large_chord_is_read_in_order(store: &dyn ResultStore) {
    const MEMBERS: usize = 1_234;
    let group = name("large");
    let mut parts = applied(store, &group, MEMBERS).await;
    parts.reverse();
    let records: Vec<ResultRecord> = parts
        .iter()
        .map(|it| ResultRecord { result: it.result.clone(), ..record(&it.task, State::Success, "null") })
        .collect();
    put(store, &records).await;
    let mut answers = store.count_chord_parts(&parts).await;
    let chord = claimed(answers.pop().expect("an answer for each").expect("a part is counted"));
    assert!(answers.iter().all(|answer| matches!(answer, Ok(Progress::Waiting))));
    let expected: Vec<_> = (0..MEMBERS).map(|n| n.to_string()).collect();
    assert_eq!(values(&chord), expected);
}

async fn a_batch_may_hold_members_of_many_chords(store: &dyn ResultStore) {
    let (one, two) = (applied(store, &name("one"), 2).await, applied(store, &name("two"), 1).await);
    for part in one.iter().chain(&two) {
        store_result(store, part).await;
    }
    let batch = [one[0].clone(), two[0].clone(), one[0].clone(), one[1].clone()];
    let answers: Vec<_> = store.count_chord_parts(&batch).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(answers[0], Progress::Waiting);
    assert_eq!(values(&claimed(answers[1].clone())), ["0"]);
    // Said a second time, in whatever order, it is not the one that completes it.
    assert!(matches!(answers[2], Progress::Waiting | Progress::Held(_)), "{:?}", answers[2]);
    assert_eq!(values(&claimed(answers[3].clone())), ["0", "1"]);
    assert!(store.count_chord_parts(&[]).await.is_empty());
}

async fn of_all_who_count_one_claims(store: &Arc<dyn ResultStore>) {
    let parts = applied(&**store, &name("race"), 50).await;
    let counting: Vec<_> = parts
        .into_iter()
        .map(|part| {
            let store = Arc::clone(store);
            tokio::spawn(async move { ends(&*store, &part).await })
        })
        .collect();
    let mut claims = 0;
    for counted in counting {
        claims += usize::from(matches!(counted.await.expect("counting ends well"), Progress::Claimed(_)));
    }
    assert_eq!(claims, 1);
}

//! Chords in Redis: keys, claims, and servers in trouble.

mod mixed;
mod model;

use taskhost_core::protocol::codec::Serializer;

use super::*;
use crate::conformance::chords::{claimed, count, part, size};
use crate::conformance::fresh;
use crate::connect::StoreOptions;
use crate::port::ResultStore;
use crate::redis::tests::{raw, refusing, server, store, store_with};

const PREFIX: &str = "app_celery-taskset-meta-";

fn name(kind: &str) -> String {
    fresh(kind).to_string()
}

#[tokio::test]
async fn keys_and_parts_are_celerys_and_expire() {
    let Some(url) = server() else { return };
    let options = StoreOptions {
        expires: Duration::from_secs(200),
        chord_expires: Some(Duration::from_secs(100)),
        key_prefix: Some("app".into()),
        ..StoreOptions::default()
    };
    let (store, group) = (store_with(&url, &options), name("keys"));
    let key = |suffix: &str| format!("{PREFIX}{group}{suffix}");
    size(&store, &group, 2).await;
    store.extend_chord(&group, &fresh("more")).await.unwrap();
    store.save_group(&group, &Json::parse("[[\"g\", null], []]").unwrap()).await.unwrap();
    let (first, second, third) = (fresh("first"), fresh("second"), fresh("third"));
    count(&store, &part(&group, &first, 7, "[NaN]")).await;
    count(&store, &part(&group, &second, None, "1")).await;

    let parts: Vec<String> = raw(&store, &["ZRANGE", &key(".j"), "0", "-1", "WITHSCORES"]).await;
    let stored = [
        format!("[1, \"{first}\", \"SUCCESS\", [NaN]]"),
        "7".to_owned(),
        format!("[1, \"{second}\", \"SUCCESS\", 1]"),
        "inf".to_owned(),
    ];
    assert_eq!(parts, stored);
    let mut counted: Vec<String> = raw(&store, &["SMEMBERS", &key(".d")]).await;
    counted.sort();
    assert_eq!(counted, [format!("{first}:7"), format!("{second}:+inf")]);
    assert_eq!(raw::<String>(&store, &["GET", &key(".s")]).await, "2");
    assert_eq!(raw::<String>(&store, &["GET", &key(".t")]).await, "1");
    assert_eq!(raw::<String>(&store, &["GET", &key("")]).await, r#"{"result": [["g", null], []]}"#);
    for suffix in [".j", ".d", ".s", ".t", ".x"] {
        let left: i64 = raw(&store, &["TTL", &key(suffix)]).await;
        assert!((90..=100).contains(&left), "{suffix}: {left} s");
    }
    let left: i64 = raw(&store, &["TTL", &key("")]).await;
    assert!((190..=200).contains(&left), "results are not kept for less time than results: {left} s");

    let chord = claimed(count(&store, &part(&group, &third, 8, "2")).await);
    let left: i64 = raw(&store, &["TTL", &key(".c")]).await;
    assert!((1..=6).contains(&left), "a claim lasts for twice the join time-out: {left} s");
    assert!(store.extend_claim(&group, &chord.token).await.unwrap());
    let left: i64 = raw(&store, &["TTL", &key(".c")]).await;
    assert!((7..=21).contains(&left), "publishing may take longer: {left} s");
    assert!(store.finish_chord(&group, &chord.token).await.unwrap());
    assert_eq!(raw::<String>(&store, &["GET", &key(".c")]).await, "done");
    let left: i64 = raw(&store, &["TTL", &key(".c")]).await;
    assert!((290..=300).contains(&left), "{left} s");
    let gone: i64 = raw(&store, &["EXISTS", &key(".j"), &key(".t"), &key(".s"), &key(".d"), &key(".x")]).await;
    assert_eq!(gone, 0);
}

#[tokio::test]
async fn chords_may_be_kept_for_ever() {
    let Some(url) = server() else { return };
    let (store, group) =
        (store_with(&url, &StoreOptions { expires: Duration::ZERO, ..StoreOptions::default() }), name("ever"));
    size(&store, &group, 2).await;
    let id = fresh("first");
    store.extend_chord(&group, &id).await.unwrap();
    store.save_group(&group, &Json::empty_list()).await.unwrap();
    count(&store, &part(&group, &id, 0, "1")).await;
    for suffix in [".j", ".d", ".s", ".t", ""] {
        let left: i64 = raw(&store, &["TTL", &store.keys.of_group(&group, suffix)]).await;
        assert_eq!(left, -1, "{suffix}");
        raw::<i64>(&store, &["DEL", &store.keys.of_group(&group, suffix)]).await;
    }
}

#[tokio::test]
async fn parts_may_be_kept_in_the_order_in_which_they_came() {
    let Some(url) = server() else { return };
    let (store, group) =
        (store_with(&url, &StoreOptions { chord_ordered: false, ..StoreOptions::default() }), name("list"));
    const PARTS: i64 = 1_100;
    size(&store, &group, PARTS as u64).await;
    let parts: Vec<_> = (0..PARTS).map(|n| part(&group, &fresh("part"), PARTS - n, &n.to_string())).collect();
    let mut answers = store.count_chord_parts(&parts).await;
    let chord = claimed(answers.pop().unwrap().unwrap());
    let came: Vec<_> = chord.parts.iter().filter_map(|part| part.result.as_i64()).collect();
    assert_eq!(came, (0..PARTS).collect::<Vec<_>>());
    assert_eq!(raw::<String>(&store, &["TYPE", &store.keys.of_group(&group, ".j")]).await, "list");
}

#[tokio::test]
async fn parts_are_written_with_the_serializer_of_results() {
    let Some(url) = server() else { return };
    for serializer in [Serializer::Yaml, Serializer::Msgpack] {
        let format = Format { serializer, seal: None };
        let (store, group) = (store_with(&url, &StoreOptions { format, ..StoreOptions::default() }), name("format"));
        let tuple = Json::parse("[[\"g\", null], []]").unwrap();
        store.save_group(&group, &tuple).await.unwrap();
        size(&store, &group, 2).await;
        count(&store, &part(&group, &fresh("first"), 0, "{\"a\": [1, null]}")).await;
        // No serializer but JSON has numbers of any size.
        let huge = part(&group, &fresh("second"), 1, &"9".repeat(30));
        let chord = claimed(count(&store, &huge).await);
        assert_eq!(chord.structure, Some(tuple));
        assert_eq!(chord.parts[0].result.to_string(), "{\"a\": [1, null]}", "{serializer:?}");
        match serializer {
            Serializer::Msgpack => {
                assert_eq!(chord.parts[1].state, State::Failure);
                assert!(chord.parts[1].result.to_string().contains("EncodeError"));
            }
            _ => assert_eq!(chord.parts[1].result.to_string(), "9".repeat(30)),
        }
    }
}

#[tokio::test]
async fn a_chord_that_cannot_be_read_fails_and_does_not_wait_for_ever() {
    let Some(url) = server() else { return };
    let (store, group) = (store(&url), name("pickle"));
    size(&store, &group, 2).await;
    raw::<i64>(&store, &["ZADD", &store.keys.of_group(&group, ".j"), "0", "\u{1}\u{2}"]).await;
    let chord = claimed(count(&store, &part(&group, &fresh("second"), 1, "1")).await);
    assert_eq!(chord.parts.len(), 1);
    assert_eq!(chord.parts[0].state, State::Failure);
    assert!(chord.parts[0].result.to_string().contains("DecodeError"), "{}", chord.parts[0].result);
}

#[tokio::test]
async fn a_claim_that_ran_out_is_taken_by_whoever_counts() {
    let Some(url) = server() else { return };
    let (lost, other, group) = (store(&url), store(&url), name("lost"));
    size(&lost, &group, 2).await;
    let parts = ["a", "b"].map(|id| part(&group, &fresh(id), 0, "1"));
    count(&lost, &parts[0]).await;
    let first = claimed(count(&lost, &parts[1]).await);
    // The same part on another worker is not the same claim.
    assert!(matches!(count(&other, &parts[1]).await, Progress::Held(_)));
    raw::<i64>(&lost, &["DEL", &lost.keys.of_group(&group, ".c")]).await;
    let second = claimed(count(&other, &parts[1]).await);
    assert_eq!(second.parts, first.parts);
    assert!(!lost.extend_claim(&group, &first.token).await.unwrap());
    assert!(!lost.finish_chord(&group, &first.token).await.unwrap());
    // Slow, and alone: the claim is taken again.
    raw::<i64>(&lost, &["DEL", &lost.keys.of_group(&group, ".c")]).await;
    assert!(other.extend_claim(&group, &second.token).await.unwrap());
    assert!(matches!(count(&lost, &parts[0]).await, Progress::Held(_)));
    assert!(other.finish_chord(&group, &second.token).await.unwrap());
}

#[tokio::test]
async fn a_server_that_forgot_the_scripts_learns_them_again() {
    let Some(url) = server() else { return };
    let (store, group) = (store(&url), name("flush"));
    for n in 0..2 {
        raw::<String>(&store, &["SCRIPT", "FLUSH"]).await;
        size(&store, &group, 4).await;
        raw::<String>(&store, &["SCRIPT", "FLUSH"]).await;
        let parts = [2 * n, 2 * n + 1].map(|index| part(&group, &fresh("part"), index, "1"));
        let answers = store.count_chord_parts(&parts).await;
        let answers: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
        assert_eq!(answers[0], Progress::Waiting);
        assert_eq!(matches!(answers[1], Progress::Claimed(_)), n == 1);
    }
}

#[tokio::test]
async fn one_part_that_is_refused_fails_alone() {
    let Some(url) = server() else { return };
    let (store, good, bad) = (store(&url), name("good"), name("bad"));
    size(&store, &good, 1).await;
    raw::<String>(&store, &["SET", &store.keys.of_group(&bad, ".j"), "no set"]).await;
    let parts = [part(&bad, &fresh("bad"), 0, "1"), part(&good, &fresh("good"), 0, "1")];
    let mut answers = store.count_chord_parts(&parts).await;
    claimed(answers.pop().unwrap().unwrap());
    let error = answers.pop().unwrap().unwrap_err();
    assert_eq!(error.to_string(), format!("count part of group {bad}"));
    assert!(!error.is_transient());
    raw::<i64>(&store, &["DEL", &store.keys.of_group(&bad, ".j")]).await;
}

#[tokio::test]
async fn a_part_that_a_replica_refuses_goes_to_the_next_server() {
    // As Redis says it from within a script.
    const ANSWER: &str = "-READONLY You can't write against a read only replica. script: 0a, on @user_script:1.\r\n";
    let (url, accepted, _serving) = refusing(|_| ANSWER).await;
    let store = store(&url);
    for attempt in 1..=2 {
        let only = part("g", &fresh("part"), 0, "1");
        let error = store.count_chord_parts(std::slice::from_ref(&only)).await.remove(0).unwrap_err();
        assert!(error.is_transient(), "{error:?}");
        assert_eq!(accepted.load(std::sync::atomic::Ordering::SeqCst), attempt);
    }
}

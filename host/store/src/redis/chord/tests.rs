//! Chords in Redis: the keys, and a Python worker on the same chord.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use taskhost_core::protocol::codec::Serializer;

use super::*;
use crate::conformance::chords::{claimed, count, part, size};
use crate::conformance::fresh;
use crate::port::ResultStore;
use crate::redis::tests::{raw, refusing, server, store, store_with};

const PREFIX: &str = "app_celery-taskset-meta-";

/// A store as the Python worker's, with a connection of its own.
fn ours(url: &str) -> RedisStore {
    store_with(url, &StoreOptions { key_prefix: Some("app".into()), ..StoreOptions::default() })
}

fn name(kind: &str) -> String {
    fresh(kind).to_string()
}

/// Celery's Redis backend in another process.
struct Peer {
    child: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Peer {
    #[expect(clippy::print_stdout, reason = "a test that is skipped says so")]
    fn start(url: &str, options: &[&str]) -> Option<Self> {
        const PYTHON: &str = "TASKHOST_TEST_PYTHON";
        let Some(python) = std::env::var_os(PYTHON).filter(|python| !python.is_empty()) else {
            println!("skipped: {PYTHON} is not set");
            return None;
        };
        let mut command = Command::new(python);
        command.args(["-c", include_str!("peer.py"), url, "app"]).args(options);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("Python is started");
        let commands = child.stdin.take().expect("it has an input");
        let answers = BufReader::new(child.stdout.take().expect("it has an output"));
        Some(Self { child, commands, answers })
    }

    /// What Celery publishes after this command, as JSON.
    fn tell(&mut self, command: &str) -> String {
        writeln!(self.commands, "{command}").expect("Python listens");
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("Python answers");
        answer.trim_end().to_owned()
    }

    fn part(&mut self, group: &str, task: &TaskId, index: Option<i64>, state: &str, value: &str) -> String {
        let index = index.map_or("null".to_owned(), |index| index.to_string());
        self.tell(&format!(r#"["part", "{group}", "{task}", {index}, "{state}", {value}]"#))
    }

    fn size(&mut self, group: &str, size: usize) {
        assert_eq!(self.tell(&format!(r#"["size", "{group}", {size}]"#)), "[]");
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
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

#[tokio::test]
async fn python_workers_count_on_the_same_chord() {
    let Some(url) = server() else { return };
    for options in [&[][..], &["unordered"]] {
        let Some(mut peer) = Peer::start(&url, options) else { return };
        let ordered = options.is_empty();
        let ours = store_with(
            &url,
            &StoreOptions { key_prefix: Some("app".into()), chord_ordered: ordered, ..StoreOptions::default() },
        );
        const PARTS: usize = 6;
        for (size_is_ours, last_is_ours) in [(true, true), (true, false), (false, true), (false, false)] {
            let (group, ids) = (name("mixed"), [(); PARTS].map(|()| fresh("part")));
            if size_is_ours {
                size(&ours, &group, PARTS as u64).await
            } else {
                peer.size(&group, PARTS)
            }
            for (n, id) in ids.iter().enumerate() {
                let (index, is_last) = (PARTS - 1 - n, n == PARTS - 1);
                let value = format!("[{index}, \"\\u00fc\"]");
                if (PARTS - 1 - n).is_multiple_of(2) == last_is_ours {
                    match count(&ours, &part(&group, id, index as i64, &value)).await {
                        Progress::Claimed(chord) if is_last => {
                            let values: Vec<_> = chord.parts.iter().map(|part| part.result.to_string()).collect();
                            let mut expected = [(); PARTS].map(|()| String::new());
                            for (place, value) in expected.iter_mut().enumerate() {
                                let index = if ordered { place } else { PARTS - 1 - place };
                                *value = format!("[{index}, \"\\u00fc\"]");
                            }
                            assert_eq!(values, expected);
                            // A Python worker got a part again while the body is being published.
                            assert_eq!(peer.part(&group, &ids[1], Some(4), "SUCCESS", "0"), "[]");
                            assert!(ours.extend_claim(&group, &chord.token).await.unwrap());
                            assert!(ours.finish_chord(&group, &chord.token).await.unwrap());
                        }
                        progress => assert_eq!((progress, is_last), (Progress::Waiting, false)),
                    }
                } else {
                    let published = peer.part(&group, id, Some(index as i64), "SUCCESS", &value);
                    let mut places: Vec<_> = (0..PARTS).map(|n| format!("[{n}, \"\\u00fc\"]")).collect();
                    if !ordered {
                        places.reverse();
                    }
                    let body = format!("[[\"body\", [{}]]]", places.join(", "));
                    assert_eq!(published, if is_last { &*body } else { "[]" });
                }
            }
            // Whoever was first, nobody is second.
            for (n, id) in ids.iter().enumerate() {
                let index = (PARTS - 1 - n) as i64;
                assert_eq!(peer.part(&group, id, Some(index), "SUCCESS", "0"), "[]");
                assert_eq!(count(&ours, &part(&group, id, index, "0")).await, Progress::Over);
            }
        }
    }
}

#[tokio::test]
async fn a_chord_that_failed_here_or_there_failed_once() {
    let Some(url) = server() else { return };
    let Some(mut peer) = Peer::start(&url, &[]) else { return };
    let ours = ours(&url);
    for failed_here in [true, false] {
        let (group, good, bad) = (name("failed"), fresh("good"), fresh("bad"));
        peer.size(&group, 2);
        if failed_here {
            assert_eq!(peer.part(&group, &bad, Some(0), "FAILURE", "\"x\""), "[]");
            let chord = claimed(count(&ours, &part(&group, &good, 1, "1")).await);
            assert_eq!(chord.parts[0].state, State::Failure);
            let map = r#"{"exc_type": "Boom", "exc_message": ["x"], "exc_module": "__main__"}"#;
            assert_eq!(chord.parts[0].result.to_string(), map);
            ours.fail_chord(&group).await.unwrap();
        } else {
            let exception = Exception::new("builtins", "KeyError", [Json::text("x")]);
            let result = ResultValue::Exception(exception);
            let failure = ChordPart { state: State::Failure, result, ..part(&group, &bad, 0, "null") };
            assert_eq!(count(&ours, &failure).await, Progress::Waiting);
            let published = peer.part(&group, &good, Some(1), "SUCCESS", "1");
            assert_eq!(published, format!(r#"[["error", "Dependency {bad} raised KeyError('x')"]]"#));
        }
        assert_eq!(peer.part(&group, &good, Some(1), "SUCCESS", "1"), "[]");
        assert_eq!(count(&ours, &part(&group, &good, 1, "1")).await, Progress::Waiting);
    }
}

#[tokio::test]
async fn chords_grow_here_and_there() {
    let Some(url) = server() else { return };
    let Some(mut peer) = Peer::start(&url, &[]) else { return };
    let (ours, group, more) = (ours(&url), name("grown"), fresh("more"));
    for _ in 0..2 {
        // The second time, what Python deleted of the first is forgotten here as well.
        peer.size(&group, 1);
        ours.extend_chord(&group, &more).await.unwrap();
        ours.extend_chord(&group, &more).await.unwrap();
        assert_eq!(peer.tell(&format!(r#"["extend", "{group}"]"#)), "[]");
        assert_eq!(peer.part(&group, &fresh("first"), Some(0), "SUCCESS", "1"), "[]");
        assert_eq!(count(&ours, &part(&group, &more, None, "2")).await, Progress::Waiting);
        let published = peer.part(&group, &fresh("zlast"), None, "SUCCESS", "3");
        assert_eq!(published, r#"[["body", [1, 2, 3]]]"#);
    }
}

#[tokio::test]
async fn a_group_is_read_here_and_there() {
    let Some(url) = server() else { return };
    let Some(mut peer) = Peer::start(&url, &[]) else { return };
    let (ours, group, theirs) = (ours(&url), name("group"), name("group"));
    assert_eq!(peer.tell(&format!(r#"["restore", "{group}"]"#)), "[null]");
    let tuple = format!(r#"[["{group}", null], [[["a", null], null], [["in", null], [[["b", null], null]]]]]"#);
    ours.save_group(&group, &Json::parse(tuple.clone()).unwrap()).await.unwrap();
    assert_eq!(peer.tell(&format!(r#"["restore", "{group}"]"#)), format!("[{tuple}]"));
    assert_eq!(peer.tell(&format!(r#"["save", "{theirs}", "a"]"#)), "[]");
    let restored = ours.group(&theirs).await.unwrap().map(|tuple| tuple.to_string());
    assert_eq!(restored, Some(format!(r#"[["{theirs}", null], [[["a", null], null]]]"#)));
}

#[test]
fn claims_last_as_long_as_in_celery() {
    let claim = |timeout: Option<f64>| {
        let chord_join_timeout = timeout.map(Duration::from_secs_f64);
        let terms = ChordTerms::new(&StoreOptions { chord_join_timeout, ..StoreOptions::default() });
        (terms.claim_s, terms.done_s)
    };
    assert_eq!(claim(Some(3.0)), (6, 300));
    assert_eq!(claim(Some(0.5)), (5, 300));
    assert_eq!(claim(Some(100.7)), (201, 402));
    assert_eq!(claim(None), (10, 300));
}

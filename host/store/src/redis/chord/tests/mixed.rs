//! A Python worker on the same chord.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use super::*;

/// A store as the Python worker's, with a connection of its own.
fn ours(url: &str) -> RedisStore {
    store_with(url, &StoreOptions { key_prefix: Some("app".into()), ..StoreOptions::default() })
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

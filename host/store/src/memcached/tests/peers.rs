//! Celery's own cache backend on the same keys, and workers that are lost on the way.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use taskhost_core::chord::ClaimedChord;
use taskhost_core::record::ResultValue;
use taskhost_core::{Exception, ResultRecord};

use super::*;
use crate::conformance::chords::{claimed, count, part};

/// Python in another process.
struct Peer {
    child: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Peer {
    #[expect(clippy::print_stdout, reason = "a test that is skipped says so")]
    fn start(url: &str) -> Option<Self> {
        const PYTHON: &str = "TASKHOST_TEST_PYTHON";
        let Some(python) = std::env::var_os(PYTHON).filter(|python| !python.is_empty()) else {
            println!("skipped: {PYTHON} is not set");
            return None;
        };
        let mut command = Command::new(python);
        command.args(["-c", include_str!("peer.py"), url, "app"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("Python is started");
        let commands = child.stdin.take().expect("it has an input");
        let answers = BufReader::new(child.stdout.take().expect("it has an output"));
        Some(Self { child, commands, answers })
    }

    fn tell(&mut self, command: &str) -> String {
        writeln!(self.commands, "{command}").expect("Python listens");
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("Python answers");
        answer.trim_end().to_owned()
    }

    fn apply(&mut self, group: &str, ids: &[TaskId]) {
        let ids: Vec<String> = ids.iter().map(|id| format!("\"{id}\"")).collect();
        assert_eq!(self.tell(&format!(r#"["apply", "{group}", [{}]]"#, ids.join(", "))), "[]");
    }

    fn end(&mut self, group: &str, id: &TaskId, index: usize, state: &str, value: &str) -> String {
        self.tell(&format!(r#"["end", "{group}", "{id}", {index}, "{state}", {value}]"#))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A store as the Python worker's.
fn ours(url: &str) -> MemcachedStore {
    store_with(url, &StoreOptions { key_prefix: Some("app".into()), ..StoreOptions::default() })
}

async fn ends(store: &MemcachedStore, group: &str, id: &TaskId, index: usize) -> Progress {
    let value = index.to_string();
    store.put(&[record(id, State::Success, &value)]).await.remove(0).expect("it is stored");
    count(store, &part(group, id, index as i64, &value)).await
}

fn values(chord: &ClaimedChord) -> Vec<&str> {
    chord.parts.iter().map(|part| part.result.as_str()).collect()
}

#[tokio::test]
async fn results_are_read_by_celery_and_read_from_it() {
    let Some(url) = server() else { return };
    let Some(mut peer) = Peer::start(&url) else { return };
    let (store, id) = (ours(&url), fresh("ours"));
    let put = async |record: ResultRecord| store.put(&[record]).await.remove(0).expect("it is stored");
    assert_eq!(peer.tell(&format!(r#"["get", "{id}"]"#)), r#"["PENDING", null, null]"#);
    put(record(&id, State::Started, r#"{"pid": 1}"#)).await;
    assert_eq!(peer.tell(&format!(r#"["get", "{id}"]"#)), r#"["STARTED", {"pid": 1}, null]"#);
    put(record(&id, State::Success, "[\"größe\", 1.5]")).await;
    assert_eq!(peer.tell(&format!(r#"["get", "{id}"]"#)), r#"["SUCCESS", ["gr\u00f6\u00dfe", 1.5], null]"#);
    let failed = fresh("failed");
    let exception = ResultValue::Exception(Exception::new("builtins", "KeyError", [Json::text("x")]));
    let traceback = Some("Traceback: x".to_owned());
    put(ResultRecord { result: exception, traceback, ..record(&failed, State::Failure, "null") }).await;
    assert_eq!(peer.tell(&format!(r#"["get", "{failed}"]"#)), r#"["FAILURE", "KeyError('x')", "Traceback: x"]"#);
    let theirs = fresh("theirs");
    peer.tell(&format!(r#"["put", "{theirs}", "SUCCESS", {{"a": "\u00fc"}}]"#));
    let stored = store.get(&theirs).await.unwrap().expect("it is stored");
    assert_eq!((stored.state, stored.result.as_str()), (State::Success, r#"{"a": "\u00fc"}"#));
    // Whoever comes second leaves SUCCESS as it is, on both sides.
    put(record(&theirs, State::Failure, "{}")).await;
    peer.tell(&format!(r#"["put", "{id}", "SUCCESS", 2]"#));
    assert_eq!(peer.tell(&format!(r#"["get", "{theirs}"]"#)), r#"["SUCCESS", {"a": "\u00fc"}, null]"#);
    assert_eq!(store.get(&id).await.unwrap().unwrap().result.as_str(), "[\"größe\", 1.5]");
}

#[tokio::test]
async fn python_workers_count_on_the_same_chord() {
    const MEMBERS: usize = 5;
    let Some(url) = server() else { return };
    let Some(mut peer) = Peer::start(&url) else { return };
    let ours = ours(&url);
    for (applied_by_us, last_is_ours) in [(true, true), (true, false), (false, true), (false, false)] {
        let (group, ids) = (fresh("mixed").to_string(), [(); MEMBERS].map(|()| fresh("member")));
        if applied_by_us {
            ours.set_chord_size(&group, MEMBERS as u64, false).await.unwrap();
            let members = ids.iter().map(|id| Json::parse(format!(r#"[["{id}", null], null]"#)).unwrap());
            let tuple = Json::array([Json::parse(format!(r#"["{group}", null]"#)).unwrap(), Json::array(members)]);
            ours.save_group(&group, &tuple).await.unwrap();
            let seen: Vec<String> = ids.iter().map(|id| format!("\"{id}\"")).collect();
            assert_eq!(peer.tell(&format!(r#"["group", "{group}"]"#)), format!("[{}]", seen.join(", ")));
        } else {
            peer.apply(&group, &ids);
        }
        for (n, id) in ids.iter().enumerate() {
            let is_last = n == MEMBERS - 1;
            if n.is_multiple_of(2) == last_is_ours {
                match ends(&ours, &group, id, n).await {
                    Progress::Claimed(chord) if is_last => {
                        assert_eq!(values(&chord), ["0", "1", "2", "3", "4"]);
                        assert!(ours.finish_chord(&group, &chord.token).await.unwrap());
                    }
                    progress => assert!(!is_last && progress == Progress::Waiting, "{n}: {progress:?}"),
                }
                // Our members come again as often as they like.
                let again = count(&ours, &part(&group, id, n as i64, "0")).await;
                assert_eq!(again, if is_last { Progress::Over } else { Progress::Waiting });
            } else {
                let published = peer.end(&group, id, n, "SUCCESS", &n.to_string());
                assert_eq!(published, if is_last { r#"[["body", [0, 1, 2, 3, 4]]]"# } else { "[]" });
            }
        }
        assert_eq!(ours.group(&group).await.unwrap(), None, "the header is deleted");
        assert_eq!(raw(&ours, &format!("app_chord-unlock-{group}")).await, None, "and the counter");
        for (n, id) in ids.iter().enumerate().filter(|(n, _)| n.is_multiple_of(2) == last_is_ours) {
            assert_eq!(count(&ours, &part(&group, id, n as i64, "0")).await, Progress::Over);
        }
    }
}

#[tokio::test]
async fn a_member_that_failed_fails_the_body_on_either_side() {
    let Some(url) = server() else { return };
    let Some(mut peer) = Peer::start(&url) else { return };
    let (ours, group, ids) = (ours(&url), fresh("failing").to_string(), [fresh("a"), fresh("b")]);
    peer.apply(&group, &ids);
    peer.end(&group, &ids[0], 0, "FAILURE", "\"x\"");
    let chord = claimed(ends(&ours, &group, &ids[1], 1).await);
    assert_eq!(chord.parts[0].state, State::Failure);
    ours.fail_chord(&group).await.unwrap();
    let (group, ids) = (fresh("failing").to_string(), [fresh("a"), fresh("b")]);
    peer.apply(&group, &ids);
    let failed = ResultValue::Exception(Exception::new("builtins", "KeyError", [Json::text("x")]));
    ours.put(&[ResultRecord { result: failed, ..record(&ids[0], State::Failure, "null") }]).await.remove(0).unwrap();
    assert_eq!(count(&ours, &part(&group, &ids[0], 0, "null")).await, Progress::Waiting);
    let published = peer.end(&group, &ids[1], 1, "SUCCESS", "1");
    assert!(published.starts_with(r#"[["error", ""#) && published.contains("KeyError('x')"), "{published}");
}

/// Whoever counted the last member may be lost before he has claimed the chord, or after.
#[tokio::test]
async fn a_last_member_that_comes_again_sends_the_body() {
    let Some(url) = server() else { return };
    let hasty = StoreOptions { chord_join_timeout: Some(Duration::from_millis(100)), ..StoreOptions::default() };
    let (lost, next) = (store_with(&url, &hasty), store_with(&url, &hasty));
    for claims_first in [false, true] {
        let (group, ids) = (fresh("lost").to_string(), [fresh("a"), fresh("b")]);
        lost.set_chord_size(&group, 2, false).await.unwrap();
        let member = |id: &TaskId| Json::parse(format!(r#"[["{id}", null], null]"#)).unwrap();
        let head = Json::parse(format!(r#"["{group}", null]"#)).unwrap();
        lost.save_group(&group, &Json::array([head, Json::array(ids.iter().map(member))])).await.unwrap();
        assert_eq!(ends(&lost, &group, &ids[0], 0).await, Progress::Waiting);
        claimed(ends(&lost, &group, &ids[1], 1).await);
        if !claims_first {
            let key = format!("chord-unlock-{group}.c");
            lost.ask(&format!("chord-unlock-{group}"), |it| it.delete(&key)).await.expect("it is deleted");
        }
        let last = part(&group, &ids[1], 1, "1");
        let chord = loop {
            match count(&next, &last).await {
                Progress::Held(wait) => tokio::time::sleep(wait).await,
                progress => break claimed(progress),
            }
        };
        assert!(chord.again, "the body may have been sent");
        assert_eq!(values(&chord), ["0", "1"]);
        assert!(next.finish_chord(&group, &chord.token).await.unwrap());
    }
}

/// memcached may forget the counter and keep the rest.
#[tokio::test]
async fn without_its_counter_a_chord_is_counted_by_its_results() {
    let Some(url) = server() else { return };
    let Some(mut peer) = Peer::start(&url) else { return };
    let (ours, group, ids) = (ours(&url), fresh("forgotten").to_string(), [fresh("a"), fresh("b"), fresh("c")]);
    peer.apply(&group, &ids);
    peer.end(&group, &ids[0], 0, "SUCCESS", "0");
    let key = format!("app_chord-unlock-{group}");
    ours.ask(&key, |it| it.delete(&key)).await.expect("it is deleted");
    assert_eq!(ends(&ours, &group, &ids[1], 1).await, Progress::Waiting);
    assert_eq!(values(&claimed(ends(&ours, &group, &ids[2], 2).await)), ["0", "1", "2"]);
}

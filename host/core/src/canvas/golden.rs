//! Signatures against what Celery 5.7 makes of them: `testdata/canvas.jsonl`, which
//! `tests/fixtures/capture_canvas.py` writes; or any other file of its making that `TASKHOST_CANVAS_CASES` names.

use std::collections::HashMap;
use std::path::PathBuf;

use crate::chord::ChordStyle;
use crate::dispatcher::fixture;
use crate::message::{HeaderValue, Message};
use crate::protocol::content::{Json, Kind, MapWriter};
use crate::request::Request;
use crate::settle::Step;

use super::tests::NOW;
use super::{Applied, Canvas, Ids, PartialCall, SendSettings, Sender, SignatureError};

#[test]
fn signatures_come_to_what_they_come_to_in_celery() {
    let path = std::env::var_os("TASKHOST_CANVAS_CASES").map_or_else(testdata, PathBuf::from);
    let cases = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let (mut count, mut wrong) = (0, Vec::new());
    for line in cases.lines() {
        let case = Json::parse(line.to_owned()).expect("a line is JSON");
        let expected = canonical(&get(&case, "expected"), &mut HashMap::new());
        let ours = match apply(&case) {
            Err(_) if get(&case, "expected").get("error").is_some() => expected.clone(),
            // The store of the capture takes whatever it is told. Celery's own refuse this, unless they count.
            Err(SignatureError::Inextensible) if text(&case, "chords").as_deref() != Some("native") => expected.clone(),
            Err(error) => format!("error: {error}"),
            Ok(applied) => told(&case, &applied),
        };
        count += 1;
        if ours != expected {
            wrong.push(format!("case {line}\nCelery {expected}\nours   {ours}\n"));
        }
    }
    assert!(count > 0, "there are cases");
    assert!(wrong.is_empty(), "{} of {count} differ, such as\n{}", wrong.len(), wrong[..wrong.len().min(5)].join("\n"));
}

fn testdata() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/canvas.jsonl")
}

fn get(json: &Json, key: &str) -> Json {
    json.get(key).unwrap_or(Json::null())
}

fn text(json: &Json, key: &str) -> Option<String> {
    json.get(key).and_then(|value| value.as_text().map(|text| text.into_owned()))
}

fn apply(case: &Json) -> Result<Applied, SignatureError> {
    let settings = SendSettings {
        chords: match text(case, "chords").as_deref() {
            Some("native") => ChordStyle::Native,
            Some("unlock") => ChordStyle::Unlock,
            _ => ChordStyle::Refused("rpc"),
        },
        error_cb_on_chord_header: get(case, "error_cb_on_header").as_bool() == Some(true),
        ..fixture::sending()
    };
    let request = request(&get(case, "request"));
    let sender = Sender { request: &request, settings: &settings };
    let (signature, call) = (get(case, "signature"), get(case, "call"));
    let args: Vec<Json> = get(&call, "args").elements().collect();
    let chain: Vec<Json> = get(&call, "chain").elements().collect();
    let kwargs = call.get("kwargs");
    let partial = PartialCall {
        args: &args,
        kwargs: kwargs.as_ref(),
        chain: &chain,
        parent_id: text(&call, "parent_id"),
        root_id: text(&call, "root_id"),
        follows: get(&call, "follows").as_bool() == Some(true),
        priority: call.get("priority").and_then(|priority| u8::try_from(priority.as_i64()?).ok()),
    };
    let mut ids = Ids::of_call(&request, 0);
    match text(case, "mode").as_deref() {
        Some("apply") => sender.apply(&Canvas::read(&signature)?, partial, &mut ids, NOW),
        Some("group") => {
            let members: Vec<Json> = signature.elements().collect();
            sender.apply_group(&members, partial, &mut ids, NOW)
        }
        Some("replace") => sender.replace(Canvas::read(&signature)?, NOW),
        _ => sender.add_to_chord(Canvas::read(&signature)?, &mut ids, NOW),
    }
}

fn request(of: &Json) -> Request {
    let mut request = fixture::request("tasks.work", "id-1");
    request.root_id = text(of, "root_id");
    request.parent_id = text(of, "parent_id");
    request.group_id = text(of, "group_id");
    request.embed = Json::object(["callbacks", "errbacks", "chain", "chord"].map(|key| (key, get(of, key))));
    if let Some(index) = of.get("group_index").and_then(|index| index.as_i64()) {
        request.message.headers.set("group_index", HeaderValue::Int(index));
    }
    request
}

/// What the captured lines say, of ours.
fn told(case: &Json, applied: &Applied) -> String {
    let mode = text(case, "mode").expect("a mode");
    let (mut messages, mut sizes, mut groups, mut extended) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for step in &applied.steps {
        match step {
            Step::Send(publication) => messages.push(told_message(&publication.message, "nowhere")),
            Step::SendTo(queue, publication) => {
                messages.push(told_message(&publication.message, queue.name.as_str()));
            }
            Step::SetChordSize { group, size, .. } => {
                sizes.push(Json::array([Json::text(group), Json::of(size)]));
            }
            Step::SaveGroup { group, result } => groups.push(Json::array([Json::text(group), result.clone()])),
            Step::ExtendChord { group, .. } => extended.push(Json::text(group)),
            Step::Shelve { .. } => panic!("nothing is kept aside"),
        }
    }
    let mut map = MapWriter::new();
    map.put("messages", &Json::array(messages)).put("sizes", &Json::array(sizes));
    map.put("groups", &Json::array(groups)).put("extended", &Json::array(extended));
    map.put("children", &Json::array(&applied.children));
    if matches!(mode.as_str(), "apply" | "group") {
        map.put("result", &applied.result);
    }
    canonical(&map.finish(), &mut HashMap::new())
}

fn told_message(message: &Message, queue: &str) -> Json {
    let body = Json::parse_wrapped(message.body.clone()).expect("we wrote it");
    let parts: Vec<Json> = body.elements().collect();
    let header = |key: &str| Json::of(&message.headers.get(key));
    let mut map = MapWriter::new();
    map.put("task", &header("task")).put("args", &parts[0]).put("kwargs", &parts[1]);
    for key in ["callbacks", "errbacks", "chain", "chord"] {
        map.put(key, &get(&parts[2], key));
    }
    let same = ["id", "group", "group_index", "root_id", "eta", "retries", "timelimit", "shadow"];
    for key in same.into_iter().chain(["replaced_task_nesting", "stamps", "ignore_result"]) {
        map.put(key, &header(key));
    }
    // Here a replacement has the parent of the task that it replaces.
    let parent = match header("id").as_text().as_deref() {
        Some("id-1") => Json::text("id-1"),
        _ => header("parent_id"),
    };
    let mut names: Vec<String> =
        header("stamped_headers").elements().filter_map(|name| Some(name.as_text()?.into_owned())).collect();
    names.sort();
    map.put("parent_id", &parent).put("stamped_headers", &Json::array(names));
    map.put("priority", &message.properties.priority).put("queue", queue);
    map.put("reply_to", &message.properties.reply_to.as_ref().filter(|queue| !queue.is_empty()));
    map.finish()
}

/// With sorted keys, and numbers for ids that were derived.
fn canonical(json: &Json, ids: &mut HashMap<String, usize>) -> String {
    match json.kind() {
        Kind::Map => {
            let mut members: Vec<(String, Json)> =
                json.members().map(|(key, value)| (key.into_owned(), value)).collect();
            members.sort_by(|(one, _), (other, _)| one.cmp(other));
            let members: Vec<String> = members
                .iter()
                .map(|(key, value)| match key.as_str() {
                    // Celery says a size before it sends the last member, and here it is said before the first.
                    "sizes" => {
                        let mut sizes: Vec<String> = value.elements().map(|size| canonical(&size, ids)).collect();
                        sizes.sort();
                        format!("sizes: {sizes:?}")
                    }
                    _ => format!("{key}: {}", canonical(value, ids)),
                })
                .collect();
            format!("{{{}}}", members.join(", "))
        }
        Kind::List => {
            let elements: Vec<String> = json.elements().map(|element| canonical(&element, ids)).collect();
            format!("[{}]", elements.join(", "))
        }
        Kind::Text => {
            let text = json.as_text().expect("a text").into_owned();
            match uuid::Uuid::parse_str(&text) {
                Ok(id) if id.get_version_num() == 5 => {
                    let next = ids.len() + 1;
                    format!("\"#{}\"", ids.entry(text).or_insert(next))
                }
                _ => format!("{text:?}"),
            }
        }
        _ => json.to_string(),
    }
}

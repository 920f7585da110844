//! What a signature may say, and the message that it becomes.

use expect_test::{Expect, expect};

use super::*;
use crate::chord::ChordStyle;
use crate::dispatcher::fixture;
use crate::exception::Exception;
use crate::message::{HeaderValue, Message, PUT_BACK_HEADER};
use crate::name::TaskId;
use crate::protocol::codec::Codec;
use crate::protocol::content::MapWriter;
use crate::protocol::v2;
use crate::request::Request;
use crate::route::Destination;
use crate::signature::was_sent_before;

pub(super) const NOW: Timestamp = Timestamp::from_micros(1_795_343_528_000_000);

fn canvas(text: &str) -> Canvas {
    Canvas::parse(text.to_owned()).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// A task with a place in a workflow, and others that hang on it.
fn request() -> Request {
    let mut request = fixture::request("tasks.work", "id-1");
    request.root_id = Some("root".to_owned());
    request.parent_id = Some("parent".to_owned());
    request.group_id = Some("group".to_owned());
    request.embed = Json::parse(
        r#"{"callbacks": [{"task": "done"}], "errbacks": [{"task": "failed"}], "chord": {"task": "body"},
            "chain": [{"task": "last", "options": {"task_id": "z"}}, {"task": "celery.chord", "kwargs": {"x": NaN}}]}"#,
    )
    .expect("it is JSON");
    request.message.properties.reply_to = Some("client".to_owned());
    request.message.properties.correlation_id = Some("correlation".to_owned());
    let headers = &mut request.message.headers;
    headers.set("group_index", HeaderValue::Int(3));
    let stamp = |name: &str, value: &str| (name.to_owned(), HeaderValue::Text(value.to_owned()));
    headers.set("stamps", HeaderValue::Map(vec![stamp("tenant", "acme"), stamp("run", "1")]));
    request
}

fn apply(request: &Request, text: &str) -> Result<Applied, SignatureError> {
    let settings = fixture::sending();
    let sender = Sender { request, settings: &settings };
    sender.apply(&Canvas::parse(text.to_owned())?, PartialCall::default(), &mut Ids::of_call(request, 0), NOW)
}

fn replace(text: &str) -> Result<Applied, SignatureError> {
    Sender { request: &request(), settings: &fixture::sending() }.replace(Canvas::parse(text.to_owned())?, NOW)
}

fn only(applied: Applied) -> Step {
    let [step] = <[Step; 1]>::try_from(applied.steps).expect("one step");
    step
}

/// Everything of a message that the client of a task can see.
fn render(step: &Step) -> String {
    let (to, publication) = match step {
        Step::Send(publication) => ("somewhere".to_owned(), publication),
        Step::SendTo(queue, publication) => (queue.name.to_string(), publication),
        step => panic!("{step:?} publishes nothing"),
    };
    let Message { properties, headers, body } = &publication.message;
    let mut text = format!("to {to} by {}/{}\n", publication.route.exchange, publication.route.routing_key);
    for (name, value) in &headers.0 {
        let dull = matches!(value, HeaderValue::Null) || ["lang", "argsrepr", "kwargsrepr"].contains(&name.as_str());
        if !dull {
            text += &format!("{name} {}\n", Json::from(value));
        }
    }
    let of = |text: &Option<String>| text.clone().unwrap_or_default();
    text += &format!("reply to `{}`, correlation `{}`", of(&properties.reply_to), of(&properties.correlation_id));
    text += &format!(", priority {:?}, mode {:?}\n", properties.priority, properties.delivery_mode);
    text + &String::from_utf8_lossy(body) + "\n"
}

#[track_caller]
fn check_sent(text: &str, expected: Expect) {
    expected.assert_eq(&render(&only(apply(&request(), text).expect("queues are made"))));
}

#[test]
fn a_task_that_is_called_is_a_child_of_the_one_that_calls_it() {
    check_sent(
        r#"{"task": "mail.send", "args": [1, NaN], "kwargs": {"x": "y"}, "options": {}, "immutable": false}"#,
        expect![[r#"
            to celery by /celery
            task "mail.send"
            id "3373d674-80b8-5ef0-98ca-0bc1db49b0b2"
            retries 0
            timelimit [null, null]
            root_id "root"
            parent_id "id-1"
            origin "taskhost@box"
            replaced_task_nesting 0
            stamps {}
            reply to ``, correlation `3373d674-80b8-5ef0-98ca-0bc1db49b0b2`, priority Some(0), mode Some(2)
            [[1, NaN], {"x": "y"}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]
        "#]],
    );
}

#[test]
fn every_option_has_its_place_in_the_message() {
    check_sent(
        r#"{"task": "mail.send", "options": {
            "task_id": "mine", "queue": "mail", "reply_to": "me", "countdown": 1.5, "eta": "2000-01-01",
            "expires": 60, "time_limit": 9, "soft_time_limit": 8.5, "priority": 5, "delivery_mode": "transient",
            "retries": 1, "replaced_task_nesting": 2, "ignore_result": true, "shadow": "shown", "origin": "gen1@box",
            "root_id": "r", "parent_id": "p", "group_id": "g", "group_index": 4, "headers": {"tenant": "acme"},
            "link": {"task": "a"}, "link_error": [{"task": "b", "args": []}], "chain": [{"task": "c"}],
            "stamped_headers": ["stamp"], "stamp": ["s"], "serializer": "json", "compression": null, "retry": true,
            "argsrepr": "(hidden)"}}"#,
        expect![[r#"
            to mail by /mail
            task "mail.send"
            id "mine"
            shadow "shown"
            eta "2026-11-22T10:32:09.500000+00:00"
            expires "2026-11-22T10:33:08+00:00"
            group "g"
            group_index 4
            retries 1
            timelimit [9, 8.5]
            root_id "r"
            parent_id "p"
            origin "gen1@box"
            ignore_result true
            replaced_task_nesting 2
            stamped_headers ["stamp"]
            stamps {"stamp": ["s"]}
            tenant "acme"
            reply to `me`, correlation `mine`, priority Some(5), mode Some(1)
            [[], {}, {"callbacks": [{"task": "a"}], "errbacks": [{"task": "b", "args": []}], "chain": [{"task": "c"}], "chord": null}]
        "#]],
    );
}

#[test]
fn a_replacement_takes_the_place_of_its_task_with_all_that_hangs_on_it() {
    let text = r#"{"task": "tasks.other", "args": [1], "options": {"task_id": "not this one", "priority": 2,
        "link": [{"task": "own"}, {"task": "done"}], "chain": [{"task": "soon"}], "stamped_headers": ["run"], "run": "2"}}"#;
    let step = only(replace(text).expect("queues are made"));
    let expected = expect![[r#"
        to celery by /celery
        task "tasks.other"
        id "id-1"
        group "group"
        group_index 3
        retries 0
        timelimit [null, null]
        root_id "root"
        parent_id "parent"
        origin "taskhost@box"
        replaced_task_nesting 1
        stamped_headers ["tenant", "run"]
        stamps {"tenant": "acme", "run": "2"}
        reply to `client`, correlation `correlation`, priority Some(2), mode Some(2)
        [[1], {}, {"callbacks": [{"task": "own"}, {"task": "done"}], "errbacks": [{"task": "failed"}], "chain": [{"task": "last", "args": [], "kwargs": {}, "options": {"task_id": "z", "replaced_task_nesting": 1}, "subtask_type": null, "immutable": false}, {"task": "celery.chord", "args": [], "kwargs": {"x": NaN}, "options": {"replaced_task_nesting": 1, "task_id": "d55eae57-103a-51ab-9f09-4b2a9740922d"}, "subtask_type": null, "immutable": false}, {"task": "soon", "args": [], "kwargs": {}, "options": {"task_id": "1ab5bccf-1594-53c6-b663-0b35fa63aebe"}, "subtask_type": null, "immutable": false}], "chord": {"task": "body"}}]
    "#]];
    expected.assert_eq(&render(&step));
}

/// What is done, in order, in few words.
fn outline(applied: &Applied) -> Vec<String> {
    let line = |step: &Step| match step {
        Step::Send(publication) | Step::SendTo(_, publication) => {
            let Message { properties, headers, .. } = &publication.message;
            let text = |key: &str| Json::of(&headers.get(key)).as_text().unwrap_or_default().into_owned();
            let reply_to = properties.reply_to.clone().unwrap_or_default();
            let id = if text("id") == "id-1" { " as id-1" } else { "" };
            format!("{}{id} of `{}`, reply to `{reply_to}`", text("task"), text("parent_id"))
        }
        Step::SetChordSize { size, again, header: None, .. } => format!("size {size}, again: {again}"),
        Step::SetChordSize { size, again, header: Some(header), .. } => {
            let members = header.elements().nth(1).map_or(0, |members| members.elements().count());
            format!("size {size}, again: {again}, header of {members} members")
        }
        Step::ExtendChord { group, .. } => format!("one more in {group}"),
        Step::SaveGroup { result, .. } => {
            format!("shape of {} members", result.elements().nth(1).map_or(0, |members| members.elements().count()))
        }
        Step::Shelve { .. } => panic!("nothing is kept aside"),
    };
    applied.steps.iter().map(line).collect()
}

const CHORD: &str =
    r#"{"subtask_type": "chord", "kwargs": {"header": [{"task": "a"}, {"task": "b"}], "body": {"task": "c"}}}"#;
const GROUP: &str = r#"{"subtask_type": "group", "kwargs": {"tasks": [{"task": "a"}, {"task": "b"}]}}"#;

#[test]
fn the_size_of_a_chord_is_told_before_its_header_is_sent() {
    let header = ["a of `id-1`, reply to ``", "b of `id-1`, reply to ``"];
    let first = apply(&request(), CHORD).expect("it is sent");
    assert_eq!(outline(&first), ["size 2, again: false", header[0], header[1]]);
    let mut again = request();
    again.delivery.redelivered = true;
    let again = apply(&again, CHORD).expect("it is sent");
    assert_eq!(outline(&again)[0], "size 2, again: true");
    assert_eq!(again.result, first.result, "with the same ids");
}

#[test]
fn the_shape_of_a_header_is_saved_if_its_results_alone_would_not_tell() {
    let chain = format!(r#"{{"subtask_type": "chain", "kwargs": {{"tasks": [{{"task": "x"}}, {GROUP}]}}}}"#);
    let text = CHORD.replace(r#"{"task": "a"}"#, &chain);
    let applied = apply(&request(), &text).expect("it is sent");
    let expected =
        ["shape of 2 members", "size 3, again: false", "x of `id-1`, reply to ``", "b of `id-1`, reply to ``"];
    assert_eq!(outline(&applied), expected);
}

#[test]
fn a_store_that_counts_no_chords_has_a_task_look_after_them() {
    let with = |chords| {
        let (request, settings) = (request(), SendSettings { chords, ..fixture::sending() });
        let sender = Sender { request: &request, settings: &settings };
        sender.apply(&canvas(CHORD), PartialCall::default(), &mut Ids::of_call(&request, 0), NOW)
    };
    let unlock = with(ChordStyle::Unlock).expect("it is sent");
    assert_eq!(outline(&unlock)[0], "celery.chord_unlock of `id-1`, reply to ``");
    assert_eq!((unlock.steps.len(), unlock.children.len()), (3, 2), "and it is a child as the header is");
    let refused = with(ChordStyle::Refused("rpc")).expect_err("there are no chords");
    assert!(refused.to_string().starts_with("The \"rpc\" result backend does not support chords!"), "{refused}");
    assert_eq!(refused.exception().kind, "NotImplementedError");
}

#[test]
fn a_store_that_only_counts_is_told_the_header_and_the_members_how_many_there_are() {
    let with = |request: &Request, text: &str| {
        let settings = SendSettings { chords: ChordStyle::Counter, ..fixture::sending() };
        let sender = Sender { request, settings: &settings };
        sender.apply(&canvas(text), PartialCall::default(), &mut Ids::of_call(request, 0), NOW).expect("it is sent")
    };
    // A chain that ends in a group has one result and two members that count.
    let chain = format!(r#"{{"subtask_type": "chain", "kwargs": {{"tasks": [{{"task": "x"}}, {GROUP}]}}}}"#);
    let text = CHORD.replace(r#"{"task": "a"}"#, &chain);
    let applied = with(&request(), &text);
    let expected =
        ["size 3, again: false, header of 2 members", "x of `id-1`, reply to ``", "b of `id-1`, reply to ``"];
    assert_eq!(outline(&applied), expected);
    assert!(render(&applied.steps[2]).contains(r#""chord_size": 3"#), "{}", render(&applied.steps[2]));
    let mut again = request();
    again.delivery.redelivered = true;
    assert_eq!(outline(&with(&again, CHORD))[0], "size 2, again: true, header of 2 members");
}

#[test]
fn the_last_task_of_a_replacement_answers_for_the_replaced_one() {
    let chain = r#"{"subtask_type": "chain", "kwargs": {"tasks": [{"task": "a"}, {"task": "b"}]}}"#;
    let applied = replace(chain).expect("it is sent");
    assert_eq!(outline(&applied), ["a of `id-1`, reply to ``"]);
    let sent = render(&only(applied));
    assert!(sent.contains(r#""reply_to": "client""#) && sent.contains(r#""task_id": "id-1""#), "{sent}");
    assert!(sent.contains(r#"stamps {"tenant": "acme", "run": "1"}"#), "{sent}");
    // A group has no such task, and gets one.
    let applied = replace(GROUP).expect("it is sent");
    assert_eq!(outline(&applied)[0], "size 2, again: false");
    let sent = render(&applied.steps[1]);
    assert!(sent.contains(r#""task": "celery.accumulate", "args": [], "kwargs": {"index": 0}"#), "{sent}");
    assert_eq!(
        outline(&replace(r#"{"task": "a"}"#).expect("it is sent")),
        ["a as id-1 of `parent`, reply to `client`"]
    );
}

#[test]
fn what_cannot_take_the_place_of_a_task_is_refused_in_celerys_words() {
    for (text, expected) in [
        (r#"{"subtask_type": "chain", "kwargs": {"tasks": []}}"#, "Cannot replace with an empty chain"),
        (
            r#"{"task": "a", "options": {"chord": {"task": "b"}}}"#,
            "A signature replacing a task must not be part of a chord",
        ),
    ] {
        let error = replace(text).expect_err(text);
        assert_eq!((error.to_string(), error.exception().kind), (expected.into(), "ImproperlyConfigured".into()));
    }
}

#[test]
fn every_task_that_is_added_to_a_chord_is_counted() {
    let add = |request: &Request, text: &str| {
        let settings = fixture::sending();
        let sender = Sender { request, settings: &settings };
        sender.add_to_chord(canvas(text), &mut Ids::of_call(request, 0), NOW)
    };
    let one = add(&request(), r#"{"task": "a"}"#).expect("it is sent");
    assert_eq!(outline(&one), ["one more in group", "a of `id-1`, reply to ``"]);
    let sent = render(&one.steps[1]);
    assert!(sent.contains("group \"group\"") && sent.contains(r#""chord": {"task": "body"}"#), "{sent}");
    let several = add(&request(), GROUP).expect("they are sent");
    assert_eq!(outline(&several)[..2], ["one more in group", "one more in group"]);
    assert!(several.steps[3..].iter().all(|step| render(step).contains("group \"group\"")));
    let alone = Request { embed: Json::null(), ..request() };
    let error = add(&alone, GROUP).expect_err("there is no chord");
    assert_eq!(error.to_string(), "Current task is not member of any chord");
}

#[test]
fn a_task_has_the_priority_of_its_caller_where_that_is_wanted() {
    let priority = |inherit_parent_priority, text: &str| {
        let (mut request, settings) = (request(), SendSettings { inherit_parent_priority, ..fixture::sending() });
        request.message.properties.priority = Some(7);
        let sender = Sender { request: &request, settings: &settings };
        let sent = sender.apply(&canvas(text), PartialCall::default(), &mut Ids::of_call(&request, 0), NOW);
        let Step::SendTo(_, publication) = only(sent.expect("it is sent")) else { panic!("it goes to a queue") };
        publication.message.properties.priority
    };
    assert_eq!(priority(false, r#"{"task": "a"}"#), Some(0));
    assert_eq!(priority(true, r#"{"task": "a"}"#), Some(7));
    assert_eq!(priority(true, r#"{"task": "a", "options": {"priority": 2}}"#), Some(2));
}

#[test]
fn what_joins_a_chord_is_counted_before_it_is_sent_if_the_store_counts() {
    let join = |request: &Request, chords: ChordStyle| {
        let settings = SendSettings { chords, ..fixture::sending() };
        let sender = Sender { request, settings: &settings };
        sender.add_to_chord(canvas(r#"{"task": "tasks.other"}"#), &mut Ids::of_call(request, 0), NOW)
    };
    let joined = join(&request(), ChordStyle::Native).expect("it is in a chord");
    let [Step::ExtendChord { group, member }, sent] = joined.steps.as_slice() else { panic!("{:?}", joined.steps) };
    assert_eq!((group.as_str(), joined.result.to_string().contains(member.as_str())), ("group", true));
    let expected = expect![[r#"
        to celery by /celery
        task "tasks.other"
        id "3373d674-80b8-5ef0-98ca-0bc1db49b0b2"
        group "group"
        group_index 3
        retries 0
        timelimit [null, null]
        root_id "root"
        parent_id "id-1"
        origin "taskhost@box"
        replaced_task_nesting 0
        stamps {}
        reply to ``, correlation `3373d674-80b8-5ef0-98ca-0bc1db49b0b2`, priority Some(0), mode Some(2)
        [[], {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": {"task": "body"}}]
    "#]];
    expected.assert_eq(&render(sent));
    let refused = |request: &Request, chords| join(request, chords).expect_err("it cannot").exception();
    let error = |kind, why| Exception::new("builtins", kind, [Json::text(why)]);
    let no_store = error("NotImplementedError", "Backend does not support add_to_chord");
    for style in [ChordStyle::Counter, ChordStyle::Unlock, ChordStyle::Refused("rpc")] {
        assert_eq!(refused(&request(), style), no_store);
    }
    let outside = Request { embed: Json::null(), ..request() };
    assert_eq!(refused(&outside, ChordStyle::Unlock), error("ValueError", "Current task is not member of any chord"));
}

#[test]
fn ids_follow_from_the_execution_and_its_number() {
    let ids = |request: &Request| {
        let mut all: Vec<TaskId> = (0..2).map(|index| Ids::of_call(request, index).next_id()).collect();
        let mut more = [Ids::of_call(request, 0), Ids::of_callbacks(request), Ids::of_replacement(request)];
        more.iter_mut().for_each(|ids| all.extend([ids.next_id(), ids.next_id()]));
        all.remove(2);
        all
    };
    let first = ids(&request());
    assert_eq!(first, ids(&request()), "a repeat sends the same");
    let retry = Request { retries: 1, ..request() };
    let replacement = Request { replaced_task_nesting: 1, ..request() };
    let other = Request { id: TaskId::parse("id-2").expect("an id"), ..request() };
    let last_of_replacement = Request { parent_id: Some("step".to_owned()), ..request() };
    let mut all = [first, ids(&retry), ids(&replacement), ids(&last_of_replacement), ids(&other)].concat();
    all.extend([Ids::of_errbacks("id-1"), Ids::of_chord("id-1")].map(|mut ids| ids.next_id()));
    assert_eq!(all.iter().collect::<std::collections::HashSet<_>>().len(), all.len());
    let mut drawn = Ids::of_chord("g");
    let both = [drawn.next_id(), drawn.next_id()];
    assert_eq!(drawn.into_drawn(), both);
}

#[test]
fn a_retry_knows_what_it_sent_before() {
    let ids = [0, 1].map(|index| Ids::of_call(&request(), index).next_id());
    let retry = Request { retries: 2, ..request() };
    assert!(ids.iter().all(|id| was_sent_before(&retry, id, 2)));
    assert!(!was_sent_before(&retry, &ids[1], 1), "it sends no more than one");
    assert!(!was_sent_before(&request(), &ids[0], 2), "this is the first execution");
    let others = Request { id: TaskId::parse("id-2").expect("an id"), ..retry.clone() };
    assert!(!was_sent_before(&others, &ids[0], 2));
    for foreign in ["mine", "7f3c2b1e-9d64-4c1a-8a55-0d5f5d1e2b77", "71fce12e-3b10-541f-a9d2-d5c60a9e4c1f"] {
        assert!(!was_sent_before(&retry, &TaskId::parse(foreign).expect("an id"), 2), "{foreign}");
    }
}

#[test]
fn the_first_id_is_that_of_the_result() {
    let first = Ids::of_call(&request(), 0).next_id();
    let body =
        r#"{"subtask_type": "chord", "kwargs": {"header": [{"task": "a"}, {"task": "b"}], "body": {"task": "c"}}}"#;
    for text in [
        r#"{"task": "a"}"#,
        r#"{"subtask_type": "chain", "kwargs": {"tasks": [{"task": "a"}, {"task": "b"}]}}"#,
        r#"{"subtask_type": "group", "kwargs": {"tasks": [{"task": "a"}, {"task": "b"}]}}"#,
        body,
        &format!(r#"{{"subtask_type": "chain", "kwargs": {{"tasks": [{{"task": "a"}}, {body}]}}}}"#),
    ] {
        let applied = apply(&request(), text).expect(text);
        let id = applied.result.elements().next().and_then(|head| head.elements().next()).expect("a tuple");
        assert_eq!(id.as_text().as_deref(), Some(first.as_str()), "{text}");
    }
}

#[test]
fn what_a_repeat_sends_says_that_it_may_be_there_twice() {
    let is_marked = |request: &Request| {
        let sent = only(apply(request, r#"{"task": "t"}"#).expect("queues are made"));
        let Step::SendTo(_, publication) = sent else { panic!("it goes to a queue") };
        publication.message.headers.get(PUT_BACK_HEADER).is_some()
    };
    assert!(!is_marked(&request()));
    let mut again = request();
    again.delivery.redelivered = true;
    assert!(is_marked(&again));
}

#[test]
fn a_worker_that_signs_says_so() {
    let settings = SendSettings { signs: true, ..fixture::sending() };
    let request = request();
    let sender = Sender { request: &request, settings: &settings };
    let canvas = canvas(r#"{"task": "t"}"#);
    let applied = sender.apply(&canvas, PartialCall::default(), &mut Ids::of_call(&request, 0), NOW);
    let Step::SendTo(_, publication) = only(applied.expect("queues are made")) else { panic!("it goes to a queue") };
    assert!(crate::protocol::auth::is_open(&publication.message), "it is signed before it leaves");
}

/// What a guest needs a grant for.
fn needs(text: &str) -> Vec<String> {
    let all = canvas(text).signatures().unwrap_or_else(|error| panic!("{text}: {error}"));
    all.iter()
        .map(|signature| {
            let Destination { queue, exchange, routing_key } = signature.destination();
            let queue = queue.as_ref().map(|queue| format!("@{queue}")).unwrap_or_default();
            let free = exchange.is_some() || routing_key.is_some() || signature.has_reply_to();
            format!("{}{queue}{}", signature.task, if free { "@*" } else { "" })
        })
        .collect()
}

#[test]
fn all_that_a_signature_may_publish_is_found() {
    let text = r#"{"task": "a", "options": {"link": [{"task": "b", "options": {"link_error": {"task": "c"}}}],
        "chain": [{"task": "d", "options": {"queue": "q"}}], "chord": {"task": "e"}}}"#;
    assert_eq!(needs(text), ["a", "b", "c", "d@q", "e"]);
}

#[test]
fn what_a_signature_is_made_of_goes_where_it_is_sent() {
    let chord = r#"{"subtask_type": "chord", "options": {"queue": "q", "link": {"task": "l"}}, "kwargs":
        {"header": [{"task": "a"}, {"subtask_type": "group", "options": {"routing_key": "k"}, "kwargs":
        {"tasks": [{"task": "b", "options": {"queue": "own"}}]}}], "body": {"task": "c"}}}"#;
    assert_eq!(needs(chord), ["a", "a@q", "b@own", "b@q", "b@*", "c", "c@q", "l"]);
    let chunks =
        r#"{"subtask_type": "chunks", "options": {"queue": "q"}, "kwargs": {"task": {"task": "a"}, "it": [], "n": 2}}"#;
    assert_eq!(needs(chunks), ["celery.chunks@q", "celery.starmap@q", "a", "a@q"]);
}

#[test]
fn tasks_that_call_others_have_those_in_them() {
    let map = r#"{"task": "celery.map", "immutable": true, "kwargs": {"task": {"task": "a"}, "it": [1]}}"#;
    assert_eq!(needs(map), ["celery.map", "a"]);
    assert_eq!(
        needs(r#"{"subtask_type": "xstarmap", "kwargs": {"task": {"task": "a"}, "it": []}}"#),
        ["celery.starmap", "a"]
    );
    for text in [
        // Whoever calls it may say which.
        r#"{"task": "celery.map", "kwargs": {"task": {"task": "a"}, "it": [1]}}"#,
        r#"{"task": "celery.map", "immutable": true, "args": [{"task": "a"}, [1]]}"#,
        r#"{"task": "celery.chord_unlock", "immutable": true, "args": ["g", {"task": "a"}]}"#,
        r#"{"task": "celery.group", "immutable": true, "kwargs": {"task": {"task": "a"}}}"#,
    ] {
        let error = canvas(text).signatures().expect_err(text);
        assert!(matches!(error, SignatureError::Builtin(_)), "{text}: {error}");
    }
}

#[test]
fn what_is_no_signature_is_refused_with_what_is_wrong() {
    let options = |options: &str| format!(r#"{{"task": "t", "options": {options}}}"#);
    for (text, expected) in [
        ("{", "the signature is not JSON: "),
        ("[]", "all of the signature is not a JSON object"),
        ("{}", "`task` of the signature is not there"),
        (r#"{"task": 1}"#, "`task` of the signature is not a text"),
        (r#"{"task": ""}"#, "the signature: task name is empty"),
        (r#"{"task": "t", "args": {}}"#, "`args` of the signature is not a JSON array"),
        (r#"{"task": "t", "kwargs": []}"#, "`kwargs` of the signature is not a JSON object"),
        (r#"{"task": "t", "options": 1}"#, "`options` of the signature is not a JSON object"),
        (r#"{"subtask_type": "swarm"}"#, "the signature is of the type `swarm`, which nobody knows"),
        (r#"{"subtask_type": "group", "kwargs": {"tasks": 1}}"#, "`kwargs.tasks` of the signature is not a JSON array"),
        (
            r#"{"subtask_type": "group", "kwargs": {"tasks": [{"task": "t", "options": {"link": [{"task": "a"}, {"subtask_type": "chord", "kwargs": {"header": [{}]}}]}}]}}"#,
            "`kwargs.tasks[0].options.link[1].kwargs.header[0]`: `task` of the signature is not there",
        ),
        (r#"{"subtask_type": "chord", "kwargs": {"header": []}}"#, "the chord has no body"),
        (&options(r#"{"chord": 1}"#), "option `chord` of the signature is not a signature"),
        (&options(r#"{"link": "t"}"#), "option `link` of the signature is not a signature, or an array of them"),
        (&options(r#"{"eta": "soon"}"#), "option `eta` of the signature is not an ISO 8601 time"),
        (&options(r#"{"expires": "soon"}"#), "option `expires` of the signature is not seconds, or an ISO 8601 time"),
        (&options(r#"{"countdown": 1e99}"#), "option `countdown` of the signature is not seconds"),
        (&options(r#"{"time_limit": -1}"#), "option `time_limit` of the signature is not seconds, zero or more"),
        (&options(r#"{"priority": 256}"#), "option `priority` of the signature is not a number from 0 to 255"),
        (&options(r#"{"serializer": "pickle"}"#), "option `serializer` of the signature is not \"json\""),
        (&options(r#"{"compression": "gzip"}"#), "option `compression` of the signature is not null"),
        (&options(r#"{"user_id": "guest"}"#), "the signature has an option `user_id`, which nobody knows"),
        (&options(r#"{"headers": {"task": "other"}}"#), "header `task` of the signature cannot be set"),
        (&options(r#"{"headers": {"BCC": ["other"]}}"#), "header `BCC` of the signature cannot be set"),
        (&options(r#"{"headers": {"x-death": []}}"#), "header `x-death` of the signature cannot be set"),
    ] {
        let error = Canvas::parse(text.to_owned()).and_then(|canvas| canvas.signatures()).expect_err(text).to_string();
        assert!(error.starts_with(expected), "{text}: {error}");
    }
}

#[test]
fn options_that_mean_something_to_the_client_alone_break_nothing() {
    check_sent(
        r#"{"task": "t", "options": {"user_id": "guest", "serializer": "pickle", "compression": "gzip", "priority": 3.5,
            "headers": {"task": "other", "mine": 1}, "time_limit": -1, "shadow": 4, "queue": "q"}}"#,
        expect![[r#"
            to q by /q
            task "t"
            id "3373d674-80b8-5ef0-98ca-0bc1db49b0b2"
            retries 0
            timelimit [null, null]
            root_id "root"
            parent_id "id-1"
            origin "taskhost@box"
            replaced_task_nesting 0
            stamps {}
            mine 1
            reply to ``, correlation `3373d674-80b8-5ef0-98ca-0bc1db49b0b2`, priority Some(0), mode Some(2)
            [[], {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]
        "#]],
    );
    for decisive in [r#"{"eta": "soon"}"#, r#"{"queue": 1}"#, r#"{"link": "t"}"#] {
        apply(&request(), &format!(r#"{{"task": "t", "options": {decisive}}}"#)).expect_err(decisive);
    }
}

#[test]
fn a_signature_of_too_many_is_refused() {
    let all = |count: usize| {
        let tasks = vec![r#"{"task": "t"}"#; count].join(",");
        Canvas::parse(format!(r#"{{"subtask_type": "group", "kwargs": {{"tasks": [{tasks}]}}}}"#))
    };
    assert!(all(99_999).is_ok());
    assert!(all(100_000).expect_err("one too many").to_string().contains("more than 100,000 others"));
}

#[test]
fn what_hangs_on_signatures_is_bounded() {
    let chain = |steps: usize, errbacks: usize, text: usize| {
        let tasks = vec![r#"{"task": "t"}"#; steps].join(",");
        let errback = |index| format!(r#"{{"task": "e{index}", "args": ["{}"]}}"#, "x".repeat(text));
        let errbacks = (0..errbacks).map(errback).collect::<Vec<_>>().join(",");
        let options = format!(r#"{{"link_error": [{errbacks}]}}"#);
        format!(r#"{{"subtask_type": "chain", "kwargs": {{"tasks": [{tasks}]}}, "options": {options}}}"#)
    };
    assert!(apply(&request(), &chain(100, 300, 0)).is_ok());
    assert_eq!(apply(&request(), &chain(1, 1001, 0)), Err(SignatureError::Hung), "on one");
    assert_eq!(apply(&request(), &chain(500, 201, 0)), Err(SignatureError::Hung), "on all");
    assert_eq!(apply(&request(), &chain(300, 1, 1024 * 1024)), Err(SignatureError::Bodies));
}

#[test]
fn chunks_are_no_way_around_the_number_of_members() {
    let chunks = |n| {
        let items = vec!["0"; 100_001].join(",");
        format!(r#"{{"subtask_type": "chunks", "kwargs": {{"task": {{"task": "t"}}, "it": [{items}], "n": {n}}}}}"#)
    };
    assert_eq!(apply(&request(), &chunks(1)), Err(SignatureError::Members));
    assert_eq!(apply(&request(), &chunks(50_000)).expect("three slices").steps.len(), 3);
    assert!(apply(&request(), &chunks(0)).is_err());
}

#[test]
fn signatures_lie_within_each_other_up_to_a_depth() {
    for wrap in [
        r#"{"subtask_type": "chain", "kwargs": {"tasks": [@]}}"#,
        r#"{"subtask_type": "chain", "kwargs": {"tasks": [{"task": "x"}, @]}}"#,
        r#"{"subtask_type": "group", "kwargs": {"tasks": [@]}}"#,
        r#"{"subtask_type": "group", "kwargs": {"tasks": [@, {"task": "x"}]}}"#,
        r#"{"subtask_type": "chord", "kwargs": {"header": [@], "body": {"task": "x"}}}"#,
        r#"{"subtask_type": "chord", "kwargs": {"header": [{"task": "x"}, {"task": "x"}], "body": @}}"#,
        r#"{"subtask_type": "chain", "kwargs": {"tasks": [{"subtask_type": "chord", "kwargs": {"header": [@], "body": @}}]}}"#,
        r#"{"task": "x", "options": {"link": [@]}}"#,
    ] {
        let mut text = r#"{"task": "t"}"#.to_owned();
        // Two in each double it.
        let levels = if wrap.matches('@').count() > 1 { 9 } else { 99 };
        let levels = if wrap.matches("subtask").count() > 1 { levels / 2 } else { levels };
        for _ in 0..levels {
            text = wrap.replace('@', &text);
        }
        assert!(apply(&request(), &text).is_ok(), "{wrap}");
        assert!(canvas(&text).signatures().is_ok(), "{wrap}");
        assert!(replace(&text).is_ok(), "{wrap}");
        if levels > 9 {
            let deeper = wrap.replace('@', &wrap.replace('@', &text));
            let error = Canvas::parse(deeper).and_then(|canvas| canvas.signatures()).expect_err(wrap);
            assert!(error.to_string().ends_with("deeper than 100"), "{wrap}: {error}");
        }
    }
}

#[test]
fn a_body_that_is_too_large_for_so_many_members_is_refused() {
    let tasks = vec![r#"{"task": "t"}"#; 20].join(",");
    let body = format!(r#"{{"task": "b", "args": ["{}"]}}"#, "x".repeat(1024 * 1024));
    let text = format!(r#"{{"subtask_type": "chord", "kwargs": {{"header": [{tasks}], "body": {body}}}}}"#);
    assert_eq!(apply(&request(), &text), Err(SignatureError::Bodies));
}

#[test]
fn a_time_may_be_typed_as_kombu_types_it() {
    let typed = r#"{"task": "t", "options": {"eta": {"__type__": "datetime", "__value__": "2026-12-24T18:00:00"}}}"#;
    let plain = r#"{"task": "t", "options": {"eta": "2026-12-24T18:00:00Z", "countdown": 0}}"#;
    let sent = |text: &str| render(&only(apply(&request(), text).expect("queues are made")));
    assert_eq!(sent(typed), sent(plain));
}

/// Names that a guest may try, to say another way what its grant has heard.
const TRIED: [&str; 33] = [
    "task",
    "id",
    "task_id",
    "queue",
    "exchange",
    "routing_key",
    "reply_to",
    "countdown",
    "eta",
    "expires",
    "time_limit",
    "soft_time_limit",
    "priority",
    "delivery_mode",
    "retries",
    "replaced_task_nesting",
    "ignore_result",
    "shadow",
    "origin",
    "root_id",
    "parent_id",
    "group_id",
    "group_index",
    "link",
    "link_error",
    "chain",
    "chord",
    "headers",
    "argsrepr",
    "stamped_headers",
    "stamps",
    "CC",
    "x-put-back",
];

#[test]
fn whatever_is_published_is_the_task_that_was_read() {
    let name = |index: u8| TRIED[usize::from(index) % TRIED.len()];
    let value = |kind: u8, text: &str| match kind % 6 {
        0 => Json::text(text),
        1 => Json::int(i64::from(kind)),
        2 => Json::float(f64::from(kind) * 1e7 - 1e9),
        3 => Json::parse(text.to_owned()).unwrap_or(Json::null()),
        4 => Json::object([("task", Json::text(text))]),
        _ => Json::array([Json::text(text)]),
    };
    let made_up = bolero::check!().with_type::<([(u8, u8); 2], [u8; 2], u8, String)>();
    made_up.for_each(|(options, headers, parts, text)| {
        let mut map = MapWriter::new();
        for (index, kind) in options.iter().take(usize::from(parts % 3)) {
            map.put(name(*index), &value(*kind, text));
        }
        if parts & 0x40 != 0 {
            let headers = headers.iter().take(usize::from(parts >> 7) + 1);
            map.put("headers", &Json::object(headers.map(|index| (name(*index), value(*parts, text)))));
        }
        let signature = Json::object([("task", Json::text("tasks.add")), ("options", map.finish())]);
        let Ok(canvas) = Canvas::read(&signature) else { return };
        if canvas.signatures().is_err() {
            return;
        }
        let (request, settings) = (request(), fixture::sending());
        let sender = Sender { request: &request, settings: &settings };
        let sent = sender.apply(&canvas, PartialCall::default(), &mut Ids::of_call(&request, 0), NOW);
        for applied in [sent, sender.replace(canvas, NOW)] {
            let Ok(applied) = applied else { continue };
            let (Step::Send(publication) | Step::SendTo(_, publication)) = &applied.steps[0] else {
                panic!("not sent: {applied:?}")
            };
            let message = publication.message.clone();
            assert!(message.headers.get("CC").is_none() && message.headers.get(PUT_BACK_HEADER).is_none());
            let read = v2::decode(message, request.delivery.clone(), &Codec::default()).expect("we wrote it");
            assert_eq!((read.task.as_str(), read.parent_id.is_some()), ("tasks.add", true));
        }
    });
}

//! Guests that call other tasks, and ask what became of them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sandbox::{Grant, Limits, Outlet, PublishSink, ResultSource};
use taskhost_core::canvas::SendSettings;
use taskhost_core::settle::Step;
use taskhost_core::{
    Attempt, ChordStyle, Finished, NodeName, Outcome, PluginName, Router, State, StoredResult, TaskId, Trap,
};

use crate::guest::{Answer, CALLS, Guest, Import};
use crate::world::{World, json};

/// The id that follows from the attempt of these tests, for its first call.
const FIRST: &str = "9e130c0e-b4c1-58c3-a81e-cd8435bfe13b";

/// Notes what is published; answers at once, or never.
#[derive(Default)]
pub(crate) struct Sink {
    published: Mutex<Vec<String>>,
    silent: bool,
}

#[sandbox::async_trait]
impl PublishSink for Sink {
    async fn publish(&self, steps: Vec<Step>) -> Result<(), String> {
        self.published.lock().expect("no panics").extend(steps.iter().map(describe));
        if self.silent {
            std::future::pending::<()>().await;
        }
        Ok(())
    }
}

impl Sink {
    pub(crate) fn published(&self) -> Vec<String> {
        self.published.lock().expect("no panics").clone()
    }
}

/// Knows some results, each with its parent.
#[derive(Default)]
pub(crate) struct Source(BTreeMap<&'static str, (State, Option<&'static str>)>);

#[sandbox::async_trait]
impl ResultSource for Source {
    async fn get(&self, id: &TaskId) -> Result<Option<StoredResult>, String> {
        let known = self.0.get(id.as_str());
        Ok(known.map(|(state, parent)| StoredResult {
            state: state.clone(),
            result: json("[NaN]"),
            traceback: None,
            date_done: None,
            children: json("null"),
            parent_id: parent.map(str::to_owned),
            call: Vec::new(),
        }))
    }

    async fn changed(&self, _: &TaskId, within: Duration) {
        tokio::time::sleep(within).await;
    }
}

/// The id of a message, or what the store is told.
pub(crate) fn describe(step: &Step) -> String {
    match step {
        Step::Send(publication) | Step::SendTo(_, publication) => {
            publication.message.properties.correlation_id.clone().expect("a call has one")
        }
        Step::SetChordSize { size, again, .. } => format!("size {size}, again: {again}"),
        Step::ExtendChord { group, member } => format!("extend {group} by {member}"),
        Step::SaveGroup { .. } => "save".to_owned(),
        Step::Shelve { .. } => panic!("nothing is kept aside"),
    }
}

/// A guest that makes this call so many times, and returns the last text that it was told, as a JSON string.
fn caller(call: &str, texts: &[&str], times: u32) -> Guest {
    caller_of(CALLS, call, texts, times)
}

/// The same with these imports.
pub(crate) fn caller_of(import: Import, call: &str, texts: &[&str], times: u32) -> Guest {
    let mut at = 300;
    let mut guest = Guest::new(&format!(
        "(loop $l {call} (local.set 8 (i32.add (local.get 8) (i32.const 1)))
           (br_if $l (i32.lt_u (local.get 8) (i32.const {last}))))
         (if (i32.load8_u (i32.const 64))
           (then (local.set 0 (i32.load (i32.const 72))) (local.set 1 (i32.load (i32.const 76))))
           (else (local.set 0 (i32.load (i32.const 68))) (local.set 1 (i32.load (i32.const 72)))))
         (i32.store8 (i32.sub (local.get 0) (i32.const 1)) (i32.const 0x27))
         (i32.store8 (i32.add (local.get 0) (local.get 1)) (i32.const 0x27))
         (call $quote (i32.sub (local.get 0) (i32.const 1)) (i32.add (local.get 1) (i32.const 2)))",
        // The attempt is the third retry.
        last = 3 + times,
    ))
    .import(import)
    .memory("(import \"shared\" \"memory\" (memory 32)) (export \"memory\" (memory 0))")
    // A text with quotes in it becomes a JSON string by having them replaced.
    .field(
        "(func $quote (param i32 i32) (result i32) (local i32)
           (local.set 2 (local.get 0))
           (loop $l
             (if (i32.eq (i32.load8_u (local.get 2)) (i32.const 0x22)) (then (i32.store8 (local.get 2) (i32.const 0x27))))
             (local.set 2 (i32.add (local.get 2) (i32.const 1)))
             (br_if $l (i32.lt_u (local.get 2) (i32.add (local.get 0) (local.get 1)))))
           (i32.store8 (local.get 0) (i32.const 0x22))
           (i32.store8 (i32.sub (i32.add (local.get 0) (local.get 1)) (i32.const 1)) (i32.const 0x22))
           (call $ok (local.get 0) (local.get 1)))",
    );
    for text in texts {
        let escaped: String = text.bytes().map(|byte| format!("\\{byte:02x}")).collect();
        guest = guest.field(&format!("(data (i32.const {at}) \"{escaped}\")"));
        at += 400;
    }
    guest
}

fn sender(function: &str, signature: &str, times: u32) -> Guest {
    let length = signature.len();
    caller(&format!("(call ${function} (i32.const 300) (i32.const {length}) (i32.const 64))"), &[signature], times)
}

const ADD: &str = r#"{"task": "tasks.add", "args": [1, NaN]}"#;

/// Serves a guest that declares these powers and is granted them.
pub(crate) async fn world(guest: &Guest, limits: Limits, powers: &[(&str, &[&str])], sink: &Arc<Sink>) -> World {
    let mut grant = Grant::default();
    let mut manifest = "name = \"guest\"\ncomponent = \"guest.wasm\"\n[needs]\n".to_owned();
    for (power, entries) in powers {
        let values: Vec<String> = entries.iter().map(|entry| (*entry).to_owned()).collect();
        grant.set(power, &values).expect("a power");
        manifest += &format!("{power} = {values:?}\n");
    }
    let grants = BTreeMap::from([(PluginName::parse("guest").expect("a name"), grant)]);
    let files = [("guest/guest.wasm", guest.build()), ("guest/plugin.toml", manifest.into_bytes())];
    let world = World::with_grants(limits, grants, &files).await;
    assert_eq!(world.loaded.refused, [], "{:?}", world.loaded.refused);
    let settings = SendSettings {
        node: NodeName::parse("taskhost@test").expect("a name"),
        router: Router::default(),
        signs: false,
        chords: ChordStyle::Native,
        error_cb_on_chord_header: false,
        inherit_parent_priority: false,
    };
    world.sandbox.publish_through(Outlet { sink: sink.clone(), settings: Arc::new(settings) });
    world
}

async fn run(world: &World) -> (Outcome, Vec<String>) {
    let Finished { outcome, effects, .. } = world.run(world.attempt("t")).await;
    world.check_alive().await;
    (outcome, effects.iter().map(describe).collect())
}

pub(crate) fn told(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Success(text) => text.as_text().expect("a text").into_owned(),
        other => panic!("no answer: {other:?}"),
    }
}

const ADDS: &[(&str, &[&str])] = &[("publish", &["tasks.add"])];

#[tokio::test]
async fn what_is_sent_waits_for_the_end_and_what_is_sent_at_once_does_not() {
    let sink = Arc::new(Sink::default());
    let (outcome, effects) = run(&world(&sender("send", ADD, 2), Limits::default(), ADDS, &sink).await).await;
    assert_eq!((effects.len(), &effects[0][..], &effects[1]), (2, FIRST, &told(&outcome)));
    assert_eq!(sink.published(), Vec::<String>::new());

    let (outcome, effects) = run(&world(&sender("immediately", ADD, 1), Limits::default(), ADDS, &sink).await).await;
    assert_eq!((told(&outcome).as_str(), effects.len()), (FIRST, 0));
    assert_eq!(sink.published(), [FIRST]);
}

#[tokio::test]
async fn a_guest_that_floods_the_broker_is_stopped_by_number_and_by_size() {
    let sink = Arc::new(Sink::default());
    let few = Limits { publish: 5, ..Limits::default() };
    for function in ["send", "immediately"] {
        let (outcome, effects) = run(&world(&sender(function, ADD, 100_000), few, ADDS, &sink).await).await;
        assert_eq!(told(&outcome), "the task has published 5 others; limits.publish is 5");
        assert_eq!(effects.len().max(sink.published().len()), 5);
    }
    let short = Limits { result_bytes: 100, ..Limits::default() };
    let (outcome, effects) = run(&world(&sender("send", ADD, 3), short, ADDS, &sink).await).await;
    assert_eq!(told(&outcome), "the signatures of the task have 117 bytes; limits.result is 100 bytes");
    assert_eq!(effects.len(), 2);
}

#[tokio::test]
async fn nothing_passes_that_is_not_granted_or_is_no_signature() {
    let sink = Arc::new(Sink::default());
    let denied = |name: &str| {
        format!(
            "publish `{name}` is denied: the plugin does not declare it; add `publish = ['{name}']` to [needs] of \
             plugin.toml and grant it in [grants.'guest'] of host.toml"
        )
    };
    for (signature, expected) in [
        (r#"{"task": "tasks.noop"}"#, denied("tasks.noop")),
        (r#"{"task": "tasks.add", "options": {"queue": "q"}}"#, denied("tasks.add@q")),
        (r#"{"task": "tasks.add", "options": {"reply_to": "q"}}"#, denied("tasks.add@*")),
        (r#"{"task": "tasks.add", "options": {"link": {"task": "tasks.noop"}}}"#, denied("tasks.noop")),
        (
            r#"{"task": "tasks.add", "options": {"headers": {"task": "x"}}}"#,
            "header `task` of the signature".to_owned(),
        ),
        (r#"{"task": "tasks.add", "options": {"chord": {"task": "tasks.noop"}}}"#, denied("tasks.noop")),
        ("{", "the signature is not JSON".to_owned()),
    ] {
        let (outcome, effects) = run(&world(&sender("send", signature, 1), Limits::default(), ADDS, &sink).await).await;
        assert!(told(&outcome).starts_with(&expected), "{signature}: {}", told(&outcome));
        assert_eq!(effects.len(), 0);
    }
    let (outcome, _) = run(&world(&sender("send", ADD, 1), Limits::default(), &[], &sink).await).await;
    assert_eq!(told(&outcome), denied("tasks.add"));
}

#[tokio::test]
async fn a_broker_that_never_confirms_does_not_keep_a_guest() {
    let sink = Arc::new(Sink { silent: true, ..Sink::default() });
    let guest = sender("immediately", ADD, 1);
    let guest = guest.task("t", &[("handles_soft_limit", "true"), ("soft_time_limit", "0.05")]);
    let (outcome, _) = run(&world(&guest, Limits::default(), ADDS, &sink).await).await;
    assert!(told(&outcome).starts_with(&format!("the broker did not confirm task {FIRST} within 0.0")), "{outcome:?}");
    // One that is told to end returns at once.
    let guest = sender("immediately", ADD, 1).task("t", &[("handles_soft_limit", "true")]);
    let world = world(&guest, Limits::default(), ADDS, &sink).await;
    let cancel = async {
        while sink.published().len() < 2 {
            tokio::task::yield_now().await
        }
    };
    let outcome = world.sandbox.invoke(world.attempt("t"), cancel).await.outcome;
    assert!(told(&outcome).starts_with("the task is to end"), "{outcome:?}");
}

#[tokio::test]
async fn a_replacement_passes_the_same_gate() {
    let sink = Arc::new(Sink::default());
    let replacement = Answer::failure(4).text(16, ADD).guest();
    let Finished { outcome, .. } = {
        let world = world(&replacement, Limits::default(), ADDS, &sink).await;
        world.run(world.attempt("t")).await
    };
    let Outcome::Replaced(steps) = outcome else { panic!("not replaced: {outcome:?}") };
    assert_eq!(steps.iter().map(describe).collect::<Vec<_>>(), ["id-1"]);
    let (outcome, _) = run(&world(&replacement, Limits::default(), &[("publish", &["tasks.a"])], &sink).await).await;
    assert!(
        matches!(&outcome, Outcome::Trapped(Trap::CapabilityDenied(why)) if why.starts_with("publish `tasks.add`"))
    );
    let broken = Answer::failure(4).text(16, "[]").guest();
    let (outcome, _) = run(&world(&broken, Limits::default(), ADDS, &sink).await).await;
    assert!(matches!(&outcome, Outcome::Trapped(Trap::InvalidResult(why)) if why.contains("not a JSON object")));
}

/// What a guest is told that asks for this result, and may see these.
async fn asked(call: &str, texts: &[&str], scope: &str) -> Outcome {
    let sink = Arc::new(Sink::default());
    let powers: &[(&str, &[&str])] = &[("publish", &["tasks.add"]), ("results", &[scope])];
    let world = world(&caller(call, texts, 1), Limits::default(), powers, &sink).await;
    let mut source = Source::default();
    for (id, state, parent) in [
        ("child", State::Success, Some("id-1")),
        ("slow", State::Started, Some("id-1")),
        ("grandchild", State::Success, Some("child")),
        ("foreign", State::Success, Some("stranger")),
        ("circle", State::Success, Some("circle")),
    ] {
        source.0.insert(id, (state, parent));
    }
    world.sandbox.read_results_from(Arc::new(source));
    world.run(Attempt { time_limit: Duration::from_secs(60), ..world.attempt("t") }).await.outcome
}

async fn got(id: &str, scope: &str) -> String {
    let call = format!("(call $get (i32.const 300) (i32.const {}) (i32.const 64))", id.len());
    told(&asked(&call, &[id], scope).await)
}

#[tokio::test]
async fn a_guest_sees_the_results_of_its_descendants_and_of_others_if_that_is_granted() {
    let known = |id: &str, parent: &str| {
        format!(
            "{{'task_id': '{id}', 'state': 'SUCCESS', 'result': [NaN], 'traceback': null, 'date_done': null, \
             'parent_id': '{parent}'}}"
        )
    };
    assert_eq!(got("child", "own").await, known("child", "id-1"));
    assert_eq!(got("grandchild", "own").await, known("grandchild", "child"));
    for id in ["foreign", "circle", "unknown"] {
        let denied = format!("task {id} is not known to descend from this one; results `any` is denied: ");
        assert!(got(id, "own").await.starts_with(&denied), "{}", got(id, "own").await);
    }
    assert_eq!(got("foreign", "any").await, known("foreign", "stranger"));
    assert!(got("unknown", "any").await.contains("'state': 'PENDING', 'result': null"));
}

#[tokio::test]
async fn waiting_has_an_end() {
    let wait = |id: &str, ms: u32| {
        format!("(call $wait (i32.const 300) (i32.const {}) (i64.const {ms}) (i32.const 64))", id.len())
    };
    let outcome = asked(&wait("child", 0), &["child"], "own").await;
    assert!(told(&outcome).contains("'state': 'SUCCESS'"), "{outcome:?}");
    let outcome = asked(&wait("slow", 50), &["slow"], "own").await;
    assert_eq!(told(&outcome), "task slow was not done after 0.05 s");
    // A call that waits for the end of the task that waits for it.
    let send = format!("(call $send (i32.const 700) (i32.const {}) (i32.const 64))", ADD.len());
    let outcome = asked(&format!("{send} {}", wait(FIRST, 50)), &[FIRST, ADD], "own").await;
    assert!(told(&outcome).starts_with(&format!("task {FIRST} is published when this one has succeeded")));
}

//! `host plugin run`: runs one task in this process and shows all that happens.
//!
//! What runs it is a [`Rehearsal`].

use std::io::{IsTerminal, Read};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use taskhost_core::dispatcher::Shutdown;
use taskhost_core::event::CustomEvent;
use taskhost_core::protocol::content::{Json, Kind, MapWriter};
use taskhost_core::protocol::repr::{repr, repr_args};
use taskhost_core::protocol::v2::Call;
use taskhost_core::{Attempt, Catalog, Finished, Outcome, ResultRecord, State, StoredResult, TaskId, TaskName, Usage};
use tokio::runtime::Handle;

use super::outcome::{exception_text, is_failed};
use super::rehearsal::{self, Audience, Called, Entries, Fate, Record, Recorder, Rehearsal, Terms, ending, meta};
use super::{call, wiring};
use crate::args::{PluginRunArgs, RehearsalArgs};
use crate::config::{self, Config, nearest};
use crate::exit::{Failure, OrHint};
use crate::logging::{self, print};
use crate::signals::{Signals, Stop};

/// How much of an argument or a result is shown in a line, in characters.
const SHOWN_CHARS_MAX: usize = 200;

/// Digits of an id that are enough for people.
const ID_DIGITS: usize = 8;

/// What ends a command that was interrupted (128 and the number of the signal).
const INTERRUPTED: u8 = 130;

/// Runs the task, and prints its result.
pub(crate) fn run(args: &PluginRunArgs) -> Result<ExitCode, Failure> {
    let (config, grants) = prepare(&args.rehearsal)?;
    let config = granted(config, args, &grants)?;
    let task = TaskName::parse(&args.task).map_err(Failure::usage)?;
    let call = read_call(args, task)?;
    logging::start_for_guests(config.log, std::io::stderr);
    let host = wiring::host_runtime()?;
    let guests = wiring::guest_runtime()?;
    let result = host.block_on(carry_out(&config, args, &call, guests.handle().clone()));
    // A guest that ignores everything must not keep the process alive.
    guests.shutdown_background();
    result
}

/// The configuration of a command that runs tasks in its own process, and what it is told to grant.
pub(super) fn prepare(args: &RehearsalArgs) -> Result<(Config, Entries), Failure> {
    let mut config = config::load(args.settings.config.as_deref(), &args.settings.sets, args.flags())?;
    rehearsal::confine(&mut config);
    let mut grants = Entries::new();
    for text in &args.grants {
        let Some((option, entry)) = text.split_once('=') else {
            let error = anyhow!("--grant: expected OPTION=ENTRY, found \"{}\"", text.escape_debug());
            return Err(Failure::usage(error).hint("such as --grant config=region=eu or --grant fs=/in=./data"));
        };
        let entry = rehearsal::seen_from(Path::new("."), option, entry).context("cannot find the current folder")?;
        match grants.iter_mut().find(|(known, _)| known == option) {
            Some((_, entries)) => entries.push(entry),
            None => grants.push((option.to_owned(), vec![entry])),
        }
    }
    Ok((config, grants))
}

fn granted(mut config: Config, args: &PluginRunArgs, grants: &Entries) -> Result<Config, Failure> {
    check_path(&args.path)?;
    rehearsal::grant(&mut config, &args.path, grants)?;
    Ok(config)
}

/// A plugin that somebody names must be there.
pub(super) fn check_path(path: &Path) -> Result<(), Failure> {
    if path.exists() {
        return Ok(());
    }
    Err(Failure::usage(anyhow!("{}: there is no such file or folder", path.display())))
}

async fn carry_out(config: &Config, args: &PluginRunArgs, call: &Call, guests: Handle) -> Result<ExitCode, Failure> {
    let mut signals = Signals::listen().context("cannot listen for signals")?;
    let teller = Arc::new(Teller { id: call.id.clone(), recorder: Recorder::default() });
    teller.recorder.begin(call.id.clone());
    let terms = Terms { waits: args.wait, follows: !args.no_follow };
    let mut rehearsal = tokio::select! {
        opened = Rehearsal::open(config, &args.path, teller.clone(), guests) => opened?,
        _ = signals.next() => return Ok(ExitCode::from(INTERRUPTED)),
    };
    rehearsal.warn();
    check_task(rehearsal.catalog(), &call.task)?;
    let stop = rehearsal.stopper();
    let stopping = tokio::spawn(async move {
        loop {
            match signals.next().await {
                Stop::Now => std::process::exit(INTERRUPTED.into()),
                // Who asked before is heard.
                Stop::Warm | Stop::Cold => drop(stop.try_send(Shutdown::Cold)),
            }
        }
    });
    let result = rehearsal.play(call, terms).await;
    stopping.abort();
    let result = result?;
    let record = teller.recorder.read();
    let ready = result.as_ref().filter(|result| result.state.is_ready());
    rehearsal.end().await;
    let state = state(ready, &record);
    if !args.json {
        show(ready, &record, state)?;
    } else {
        print(&(as_json(ready, &record, state).to_string() + "\n"))?;
    }
    Ok(match (ready, record.ending) {
        (Some(result), _) if is_failed(&result.state) => ExitCode::FAILURE,
        (Some(_), _) | (None, "IGNORED" | "REPLACED") => ExitCode::SUCCESS,
        (None, "INTERRUPTED") => ExitCode::from(INTERRUPTED),
        (None, _) => ExitCode::FAILURE,
    })
}

/// How the task ended: as the result says, or in our words where there is none.
pub(super) fn state<'a>(result: Option<&'a StoredResult>, record: &Record) -> &'a str {
    match result {
        // It is stored as a failure, which tells less.
        Some(_) if record.ending == "REJECTED" => record.ending,
        Some(result) => result.state.as_str(),
        None => record.ending,
    }
}

/// The traceback as Python shows it, what was used, and the result.
fn show(result: Option<&StoredResult>, record: &Record, state: &str) -> Result<(), Failure> {
    if let Some(result) = result.filter(|result| is_failed(&result.state) && state != "REJECTED") {
        eprint!("{}", exception_text(result));
    }
    let why = match (&record.replaced_by, state) {
        (Some(task), "REPLACED") => format!(" by {task}, which this plugin does not have"),
        (None, "RETRY") => ": more retries than are reasonable".to_owned(),
        _ => String::new(),
    };
    eprintln!("{state}{why} {}{}", used(&record.usage), tries(record.retries));
    if let Some(result) = result.filter(|result| result.state == State::Success) {
        print(&format!("{}\n", result.result))?;
    }
    Ok(())
}

fn tries(retries: u32) -> String {
    match retries {
        0 => String::new(),
        1 => ", after 1 retry".to_owned(),
        count => format!(", after {count} retries"),
    }
}

fn as_json(result: Option<&StoredResult>, record: &Record, state: &str) -> Json {
    let pairs = |pairs: &[(String, Json)], name: &str, value: &str| {
        Json::array(pairs.iter().map(|(key, meta)| Json::object([(name, Json::text(key)), (value, meta.clone())])))
    };
    let traceback = result.and_then(|result| result.traceback.as_deref());
    let mut map = MapWriter::new();
    map.put("state", state)
        .put("result", &result.map_or(Json::null(), |result| result.result.clone()))
        .put("traceback", &traceback.map_or(Json::null(), Json::text))
        .put("retries", &record.retries)
        .put("states", &pairs(&record.states, "state", "meta"))
        .put("calls", &Json::array(record.calls.iter().cloned()))
        .put("events", &pairs(&record.events, "type", "fields"))
        .put("usage", &record.usage.to_json());
    map.finish()
}

/// The task must be there; if it is not, the one that is most like it is named.
pub(super) fn check_task(catalog: &Catalog, task: &TaskName) -> Result<(), Failure> {
    if catalog.get(task).is_some() {
        return Ok(());
    }
    let mut names: Vec<&str> = catalog.tasks().map(|spec| spec.name.as_str()).collect();
    names.sort_unstable();
    let last = |name: &str| name.rsplit('.').next().unwrap_or_default().to_owned();
    let by_end = names.iter().find(|name| last(name) == last(task.as_str())).copied();
    let hint = match nearest(task.as_str(), names.iter().copied()).or(by_end) {
        Some(name) => format!("did you mean `{name}`?"),
        None => format!("it has {}", names.join(", ")),
    };
    Err(Failure::usage(anyhow!("the plugin has no task `{task}`")).hint(hint))
}

/// A call with the arguments of the command line.
fn read_call(args: &PluginRunArgs, task: TaskName) -> Result<Call, Failure> {
    let id = TaskId::parse(&uuid::Uuid::new_v4().to_string()).expect("a UUID is an id");
    let mut call = new_call(task, id);
    let given = |option: &str, text: &Option<String>, kind, expected| {
        text.as_ref().map(|text| call::json(option, text, kind, expected)).transpose()
    };
    let before = given("--args", &args.args, Kind::List, "a JSON array such as '[2, 2]'")?;
    let beside = given("--kwargs", &args.kwargs, Kind::Map, "a JSON object such as '{\"width\": 800}'")?;
    let mut positional: Vec<Json> = before.iter().flat_map(|list| list.elements().collect::<Vec<_>>()).collect();
    let mut named: Vec<(String, Json)> = Vec::new();
    if let Some(map) = &beside {
        named.extend(map.members().map(|(name, value)| (name.into_owned(), value)));
    }
    let mut stdin = None;
    for word in &args.words {
        match keyword(word) {
            Some((name, text)) => {
                let value = value(text, &mut stdin)?;
                named.retain(|(known, _)| known != name);
                named.push((name.to_owned(), value));
            }
            None => positional.push(value(word, &mut stdin)?),
        }
    }
    call.args = Json::array(positional);
    call.kwargs = Json::object(named);
    Ok(call)
}

/// A call whose result is kept, whatever the task says.
pub(super) fn new_call(task: TaskName, id: TaskId) -> Call {
    let mut call = Call::new(task, id, format!("gen{}@{}", std::process::id(), wiring::host_name()));
    call.ignore_result = Some(false);
    call
}

/// Name and value, if the word is a keyword argument: the name is one that a parameter can have.
fn keyword(word: &str) -> Option<(&str, &str)> {
    let (name, value) = word.split_once('=')?;
    let mut chars = name.chars();
    let starts = chars.next().is_some_and(|first| first.is_alphabetic() || first == '_');
    (starts && chars.all(|char| char.is_alphanumeric() || char == '_' || char == '-')).then_some((name, value))
}

/// JSON if it is JSON, else text. `-` is what stdin has, which is read once.
fn value(text: &str, stdin: &mut Option<Json>) -> Result<Json, Failure> {
    if text != "-" {
        return Ok(json_or_text(text));
    }
    if let Some(read) = stdin {
        return Ok(read.clone());
    }
    if std::io::stdin().is_terminal() {
        eprintln!("reading an argument from stdin");
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).context("cannot read stdin").or_hint("it has to be UTF-8")?;
    Ok(stdin.insert(json_or_text(&text)).clone())
}

fn json_or_text(text: &str) -> Json {
    Json::parse(text.to_owned()).unwrap_or_else(|_| Json::text(text))
}

/// Says on stderr what happens.
struct Teller {
    id: TaskId,
    recorder: Recorder,
}

impl Teller {
    /// Nothing for the task itself, since there is mostly no other.
    fn who(&self, task: &str, id: &TaskId) -> String {
        if *id == self.id {
            return String::new();
        }
        let digits: String = id.as_str().chars().take(ID_DIGITS).collect();
        format!("{task}[{digits}] ")
    }
}

impl Audience for Teller {
    fn called(&self, called: &Called) {
        self.recorder.called(called);
        let Called { request, delay, fate, waits } = called;
        let (who, task) = (self.who(request.task.as_str(), &request.id), &request.task);
        let delay = delay.filter(|_| *fate != Fate::Elsewhere).map_or_else(String::new, |delay| {
            let seconds = (delay.as_secs_f64() * 10.0).round() / 10.0;
            let at_once = if *waits { "" } else { ", at once here" };
            format!(" in {seconds} s{at_once}")
        });
        let line = match fate {
            Fate::First => return,
            Fate::Retried => format!("{who}retry {}{delay}", request.retries),
            Fate::TakesOver => format!("{who}replaced by {task}{}", arguments(called)),
            Fate::TakesOverElsewhere => {
                format!("{who}replaced by {task}{}: this plugin does not have it", arguments(called))
            }
            Fate::Runs => format!("{who}called{}{delay}", arguments(called)),
            Fate::Elsewhere => format!("{who}called{}, not run: this plugin does not have it", arguments(called)),
            Fate::NotFollowed => format!("{who}called{}, not run: --no-follow", arguments(called)),
            Fate::TooMany => format!("{who}not run: more came of one call than is reasonable"),
        };
        eprintln!("{line}");
    }

    fn ended(&self, attempt: &Attempt, finished: &Finished) {
        self.recorder.ended(attempt, finished);
        let (task, id) = (&attempt.request.task, &attempt.request.id);
        let (who, state, used) = (self.who(task.as_str(), id), ending(&finished.outcome), used(&finished.usage));
        match &finished.outcome {
            // Of the task itself it is said at the end.
            _ if *id == self.id && state != "RETRY" => {}
            Outcome::Success(result) => eprintln!("{who}{state} {used}: {}", repr(result, SHOWN_CHARS_MAX)),
            Outcome::Failure(exception, _) => eprintln!("{who}{state} {used}: {}", exception.headline()),
            Outcome::Retry(wish) => {
                let cause = wish.cause.as_ref().map(|(cause, _)| format!(": {}", cause.headline()));
                eprintln!("{who}{state} {used}{}", cause.unwrap_or_default());
            }
            _ => eprintln!("{who}{state} {used}"),
        }
    }

    fn state(&self, record: &ResultRecord) {
        self.recorder.state(record);
        eprintln!("{}{} {}", self.who("task", &record.id), record.state.as_str(), meta(record));
    }

    fn event(&self, event: &CustomEvent) {
        self.recorder.event(event);
        eprintln!("{}event {} {}", self.who("task", event.id()), event.kind(), event.fields());
    }
}

/// Arguments as Python writes a call, and where it goes.
fn arguments(called: &Called) -> String {
    let request = &called.request;
    let positional = repr_args(&request.args, SHOWN_CHARS_MAX);
    let inside = positional.strip_prefix('(').and_then(|text| text.strip_suffix(')')).unwrap_or(&positional);
    let inside = inside.strip_suffix(',').unwrap_or(inside).to_owned();
    let named = request.kwargs.members().map(|(name, value)| format!("{name}={}", repr(&value, SHOWN_CHARS_MAX)));
    let all: Vec<String> = Some(inside).filter(|text| !text.is_empty()).into_iter().chain(named).collect();
    format!("({}) by queue {}", all.join(", "), request.delivery.routing_key)
}

/// What an attempt used, for people.
pub(super) fn used(usage: &Usage) -> String {
    let calls = if usage.host_calls == 1 { "call" } else { "calls" };
    format!(
        "in {:.1} ms: CPU {:.1} ms, memory {:.1} MiB, {} host {calls}",
        usage.wall.as_secs_f64() * 1e3,
        usage.cpu.as_secs_f64() * 1e3,
        usage.memory_bytes_peak as f64 / f64::from(1 << 20),
        usage.host_calls,
    )
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Command, CommandLine, PluginCommand};

    #[track_caller]
    fn check(words: &[&str], args: &str, kwargs: &str) {
        let words = ["host", "plugin", "run", "p.wasm", "t"].iter().chain(words);
        let command = CommandLine::try_parse_from(words).expect("options are right").command;
        let Command::Plugin(PluginCommand::Run(read)) = command else { panic!("not `plugin run`") };
        let call = read_call(&read, TaskName::parse("t").unwrap()).expect("arguments are right");
        assert_eq!((call.args.as_str(), call.kwargs.as_str()), (args, kwargs));
        assert_eq!(call.ignore_result, Some(false));
    }

    #[test]
    fn words_are_json_or_text_and_keywords_have_names() {
        check(&[], "[]", "{}");
        check(&["2", "-2.5", "true", "null", "[1]"], "[2, -2.5, true, null, [1]]", "{}");
        check(&["in/cat.png", "é", "\"80\"", ""], r#"["in/cat.png", "\u00e9", "80", ""]"#, "{}");
        check(&["width=80", "to=a b", "x=", "text=\"1\""], "[]", r#"{"width": 80, "to": "a b", "x": "", "text": "1"}"#);
        // Neither is a name of a parameter.
        check(&["a/b=c", "2=3"], r#"["a/b=c", "2=3"]"#, "{}");
        check(&["\"a=b\""], r#"["a=b"]"#, "{}");
        check(&["3", "--args", "[1, 2]", "-k", r#"{"x": 1, "y": 2}"#, "y=3"], "[1, 2, 3]", r#"{"x": 1, "y": 3}"#);
        check(&["NaN", "123456789012345678901234567890"], "[NaN, 123456789012345678901234567890]", "{}");
    }
}

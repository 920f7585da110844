//! `host plugin test`: runs the cases of a plugin and says which of them come out as they should.
//!
//! Each case is played for itself, one after the other; the plugin is loaded once for all that are granted the same.

mod case;
mod compare;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, anyhow};
use sandbox::Grant;
use taskhost_core::protocol::content::Json;
use taskhost_core::{Exception, PluginName, StoredResult, TaskId};
use tokio::runtime::Handle;

use super::outcome::{exception_text, is_failed};
use super::plugin_run::{check_path, check_task, new_call, prepare, state};
use super::rehearsal::{self, Entries, Record, Recorder, Rehearsal, Terms};
use super::wiring;
use crate::args::PluginTestArgs;
use crate::config::Config;
use crate::exit::Failure;
use crate::logging::{self, print};
use crate::signals::Signals;

use case::Case;

/// The file of cases that is looked for.
const FILE: &str = "cases.jsonl";

/// How much of the log of a case is kept, in bytes.
const LOG_BYTES_MAX: usize = 1 << 20;

/// What ends a command that was interrupted (128 and the number of the signal).
const INTERRUPTED: u8 = 130;

/// Runs all cases, or those that are asked for.
pub(crate) fn run(args: &PluginTestArgs) -> Result<ExitCode, Failure> {
    let (config, grants) = prepare(&args.rehearsal)?;
    check_path(&args.path)?;
    let file = find_cases(args)?;
    let mut cases = case::read(&file).map_err(Failure::usage)?;
    let all = cases.len();
    if let Some(text) = &args.filter {
        cases.retain(|case| case.name.contains(text) || case.task.as_str().contains(text));
    }
    if cases.is_empty() {
        let what = if all == 0 { "has no cases" } else { "has no case with that in its name or task" };
        return Err(Failure::usage(anyhow!("{} {what}", file.display())));
    }
    let log = Log::default();
    let writer = log.clone();
    logging::start_for_guests(config.log, move || writer.clone());
    let host = wiring::host_runtime()?;
    let guests = wiring::guest_runtime()?;
    let secrets = Secrets::default();
    let mut run = Run {
        grants_before: config.grants.clone(),
        config,
        args,
        grants,
        file,
        log,
        secrets: &secrets,
        guests: guests.handle().clone(),
        left_out: all - cases.len(),
    };
    let result = host.block_on(async {
        let mut signals = Signals::listen().context("cannot listen for signals")?;
        tokio::select! {
            result = run.all(&cases) => result,
            _ = signals.next() => Ok(ExitCode::from(INTERRUPTED)),
        }
    });
    secrets.remove();
    guests.shutdown_background();
    result
}

fn find_cases(args: &PluginTestArgs) -> Result<PathBuf, Failure> {
    if let Some(file) = &args.cases {
        return Ok(file.clone());
    }
    let folder = if args.path.is_dir() { Some(args.path.as_path()) } else { args.path.parent() };
    let file = folder.unwrap_or(Path::new("")).join(FILE);
    if file.is_file() {
        return Ok(file);
    }
    let error = Failure::usage(anyhow!("{}: there is no such file", file.display()));
    Err(error.hint(
        "write one with a line such as {\"task\": \"tasks.add\", \"args\": [1, 2], \"result\": 3}, or name it with \
         --cases; `host plugin test --help` shows what a case can say",
    ))
}

struct Run<'a> {
    config: Config,
    grants_before: BTreeMap<PluginName, Grant>,
    args: &'a PluginTestArgs,
    grants: Entries,
    file: PathBuf,
    log: Log,
    secrets: &'a Secrets,
    guests: Handle,
    left_out: usize,
}

/// A plugin that is loaded, and what it was granted for that.
struct Open {
    grants: Entries,
    rehearsal: Rehearsal,
    recorder: Arc<Recorder>,
}

impl Run<'_> {
    async fn all(&mut self, cases: &[Case]) -> Result<ExitCode, Failure> {
        let mut open: Option<Open> = None;
        let (mut failed, mut is_checked) = (0, false);
        for case in cases {
            let grants = self.grants_of(case)?;
            let mut session = match open.take() {
                Some(session) if session.grants == grants => session,
                before => {
                    if let Some(before) = before {
                        before.rehearsal.end().await;
                    }
                    let session = self.open(grants).await?;
                    if !is_checked {
                        self.check(&session.rehearsal, cases)?;
                        is_checked = true;
                    }
                    session
                }
            };
            failed += usize::from(!self.one(case, &mut session).await?);
            open = Some(session);
        }
        if let Some(session) = open {
            session.rehearsal.end().await;
        }
        let left_out = if self.left_out > 0 { format!(", {} left out", self.left_out) } else { String::new() };
        print(&format!("\n{} passed, {failed} failed{left_out}\n", cases.len() - failed))?;
        Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    /// Says what is wrong before the first case runs.
    fn check(&self, rehearsal: &Rehearsal, cases: &[Case]) -> Result<(), Failure> {
        rehearsal.warn();
        for case in cases {
            check_task(rehearsal.catalog(), &case.task)
                .map_err(|failure| failure.at(&format!("{}:{}", self.file.display(), case.line)))?;
        }
        Ok(())
    }

    async fn open(&mut self, grants: Entries) -> Result<Open, Failure> {
        self.config.grants = self.grants_before.clone();
        rehearsal::grant(&mut self.config, &self.args.path, &grants)?;
        let recorder = Arc::new(Recorder::default());
        let audience = recorder.clone();
        let rehearsal = Rehearsal::open(&self.config, &self.args.path, audience, self.guests.clone()).await?;
        Ok(Open { grants, rehearsal, recorder })
    }

    /// What the command line grants, and the case.
    fn grants_of(&self, case: &Case) -> Result<Entries, Failure> {
        let mut grants = self.grants.clone();
        let mut add = |option: &str, entries: Vec<String>| match grants.iter_mut().find(|(known, _)| known == option) {
            Some((_, before)) => {
                // Of two about the same thing the case's counts.
                let name = |entry: &str| entry.split('=').next().unwrap_or_default().to_owned();
                before.retain(|entry| entries.iter().all(|other| name(other) != name(entry)));
                before.extend(entries);
            }
            None => grants.push((option.to_owned(), entries)),
        };
        for (option, entries) in &case.grants {
            let folder = self.file.parent().unwrap_or(Path::new(""));
            let entries = entries.iter().map(|entry| rehearsal::seen_from(folder, option, entry));
            add(option, entries.collect::<Result<_, _>>().context("cannot find the folder of the cases")?);
        }
        if !case.secrets.is_empty() {
            let mut entries = Vec::new();
            for (name, value) in &case.secrets {
                let file = self.secrets.file(name, value).context("cannot hand over a secret")?;
                entries.push(format!("{name}=file:{}", file.display()));
            }
            add("secrets", entries);
        }
        Ok(grants)
    }

    /// Plays a case and says how it came out.
    async fn one(&self, case: &Case, session: &mut Open) -> Result<bool, Failure> {
        let id = TaskId::parse(&uuid::Uuid::new_v4().to_string()).expect("a UUID is an id");
        let mut call = new_call(case.task.clone(), id.clone());
        (call.args, call.kwargs) = (case.args.clone(), case.kwargs.clone());
        session.recorder.begin(id);
        session.rehearsal.forget_values();
        self.log.take();
        let terms = Terms { waits: false, follows: case.follows };
        let result = session.rehearsal.play(&call, terms).await?;
        let record = session.recorder.read();
        let log = self.log.take();
        let problems = problems(case, result.as_ref().filter(|result| result.state.is_ready()), &record);
        let wall = record.usage.wall.as_secs_f64() * 1e3;
        let shows_log = !problems.is_empty() || self.args.rehearsal.loglevel.is_some();
        let mut text = match problems.is_empty() {
            true => format!("ok      {} ({wall:.1} ms)\n", case.name),
            false => format!("FAILED  {}\n  {}:{}: {}\n", case.name, self.file.display(), case.line, case.task),
        };
        for problem in &problems {
            text.push_str(&indented(problem));
        }
        if shows_log {
            text.push_str(&indented(&log));
        }
        print(&text)?;
        Ok(problems.is_empty())
    }
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}

/// All that is not as the case has it.
fn problems(case: &Case, result: Option<&StoredResult>, record: &Record) -> Vec<String> {
    let mut problems = Vec::new();
    let state = state(result, record);
    let value = result.map_or_else(Json::null, |result| result.result.clone());
    // A task that is rejected has failed, for those who look at its result.
    let is_stored = result.is_some_and(|result| result.state.as_str() == case.state);
    if state != case.state && !is_stored {
        let what = match (state, result) {
            ("SUCCESS", _) => format!(" with {value}"),
            _ => String::new(),
        };
        problems.push(format!("expected {}, found {state}{what}", expected(case)));
        if let Some(result) = result.filter(|result| is_failed(&result.state)) {
            problems.push(exception_text(result));
        }
        return problems;
    }
    if let Some(expected) = &case.result
        && let Some(difference) = compare::difference(expected, &value)
    {
        problems.push(format!("expected result: {expected}\nfound result:    {value}"));
        if !difference.starts_with("expected") {
            problems.push(format!("differs at {difference}"));
        }
    }
    if let Some(error) = &case.error {
        problems.extend(wrong_error(error, &value));
    }
    if let Some(retries) = case.retries.filter(|retries| *retries != i64::from(record.retries)) {
        problems.push(format!("expected {retries} retries, found {}", record.retries));
    }
    if let Some(states) = &case.states {
        problems.extend(wrong_states(states, &record.states));
    }
    if let Some(calls) = &case.publishes {
        problems.extend(wrong_calls(calls, &record.calls));
    }
    problems
}

/// What the case wants, in words.
fn expected(case: &Case) -> String {
    match (&case.result, &case.error) {
        (Some(result), _) => format!("{} with {result}", case.state),
        (_, Some(error)) => {
            let kind = error.kind.as_ref().map(|kind| format!(" {kind}"));
            let message = error.message.as_ref().map(|message| format!(" with \"{message}\""));
            format!("FAILURE{}{}", kind.unwrap_or_default(), message.unwrap_or_default())
        }
        (None, None) => case.state.clone(),
    }
}

fn wrong_error(expected: &case::Error, document: &Json) -> Option<String> {
    let exception = Exception::read(document);
    let full = exception.module.as_ref().map(|module| format!("{module}.{}", exception.kind));
    let headline = exception.headline();
    let fits_kind = expected.kind.as_ref().is_none_or(|kind| *kind == exception.kind || Some(kind) == full.as_ref());
    let message = headline.strip_prefix(&format!("{}: ", exception.kind)).unwrap_or_default();
    let fits_message = expected.message.as_ref().is_none_or(|part| message.contains(part));
    if fits_kind && fits_message {
        return None;
    }
    let wanted = match (&expected.kind, &expected.message) {
        (Some(kind), Some(message)) => format!("{kind} with \"{message}\""),
        (Some(kind), None) => kind.clone(),
        (None, Some(message)) => format!("an error with \"{message}\""),
        (None, None) => "an error".to_owned(),
    };
    Some(format!("expected error: {wanted}\nfound error:    {headline}"))
}

fn wrong_states(expected: &[(String, Option<Json>)], found: &[(String, Json)]) -> Option<String> {
    let same = |(expected, found): (&(String, Option<Json>), &(String, Json))| {
        let same_meta = expected.1.as_ref().is_none_or(|meta| compare::difference(meta, &found.1).is_none());
        expected.0 == found.0 && same_meta
    };
    if expected.len() == found.len() && expected.iter().zip(found).all(same) {
        return None;
    }
    let expected = expected.iter().map(|(state, meta)| match meta {
        Some(meta) => format!("{state} {meta}"),
        None => state.clone(),
    });
    let found = found.iter().map(|(state, meta)| format!("{state} {meta}"));
    Some(format!("expected states: {}\nfound states:    {}", joined(expected), joined(found)))
}

fn wrong_calls(expected: &[Json], found: &[Json]) -> Option<String> {
    let differences = expected.iter().zip(found).enumerate();
    let difference = differences
        .map(|(index, (expected, found))| {
            compare::lacks(expected, found).map(|difference| format!("call {}{difference}", index + 1))
        })
        .find_map(|difference| difference);
    if expected.len() == found.len() && difference.is_none() {
        return None;
    }
    let (wanted, there) = (expected.iter().map(Json::to_string), found.iter().map(Json::to_string));
    let mut text = format!("expected calls: {}\nfound calls:    {}", joined(wanted), joined(there));
    if let Some(difference) = difference {
        text.push_str(&format!("\ndiffers at {difference}"));
    }
    Some(text)
}

fn joined(texts: impl Iterator<Item = String>) -> String {
    let texts: Vec<String> = texts.collect();
    if texts.is_empty() { "none".to_owned() } else { texts.join(", ") }
}

/// What is logged while a case runs.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn take(&self) -> String {
        let bytes = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let room = LOG_BYTES_MAX.saturating_sub(log.len()).min(bytes.len());
        log.extend_from_slice(&bytes[..room]);
        // What is too much is dropped.
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Secrets that cases name, as files that only this user reads.
#[derive(Default)]
struct Secrets(Mutex<Option<PathBuf>>);

impl Secrets {
    /// The file with this value; the same for the same.
    fn file(&self, name: &str, value: &str) -> std::io::Result<PathBuf> {
        let mut folder = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = match &*folder {
            Some(folder) => folder.clone(),
            None => folder.insert(private_folder()?).clone(),
        };
        let unique = uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, format!("{name}={value}").as_bytes());
        let file = folder.join(unique.to_string());
        std::fs::write(&file, format!("{value}\n"))?;
        Ok(file)
    }

    fn remove(&self) {
        if let Some(folder) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // It is in the folder for what is temporary in any case.
            let _ = std::fs::remove_dir_all(folder);
        }
    }
}

fn private_folder() -> std::io::Result<PathBuf> {
    let folder = std::env::temp_dir().join(format!("taskhost-test-{}", uuid::Uuid::new_v4()));
    #[cfg_attr(not(unix), expect(unused_mut, reason = "only Unix has modes"))]
    let mut builder = std::fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(&folder)?;
    Ok(folder)
}

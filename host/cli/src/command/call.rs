//! `host call`: publishes a task, and waits for its result if asked to.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow};
use taskhost_core::protocol::content::{Json, Kind};
use taskhost_core::protocol::v2::{self, Call};
use taskhost_core::{Publication, QueueName, Route, TaskId, TaskName, Timestamp};

use super::outcome::{exception_text, is_failed, wait_for};
use super::{Wait, duration, wiring};
use crate::args::CallArgs;
use crate::config::{self, Config, parse_duration, show_duration};
use crate::exit::{Failure, OrHint};
use crate::logging::print;

/// Publishes, and prints id or result.
pub(crate) fn run(args: &CallArgs) -> Result<ExitCode, Failure> {
    let config = config::load(args.settings.config.as_deref(), &args.settings.sets, args.flags())?;
    let wait = Wait::parse(&args.wait)?;
    let now = wiring::now();
    let call = read_call(args, now)?;
    let queue = match &args.queue {
        Some(name) => QueueName::parse(name).map_err(Failure::usage)?,
        None => config.task.default_queue.clone(),
    };
    wiring::client_runtime()?.block_on(carry_out(&config, &call, &queue, wait, now))
}

async fn carry_out(
    config: &Config,
    call: &Call,
    queue: &QueueName,
    wait: Wait,
    now: Timestamp,
) -> Result<ExitCode, Failure> {
    // Before the task is on its way: otherwise it would run, and nobody would see the result.
    let store = match wait {
        Wait::No => None,
        Wait::AtMost(_) | Wait::WithoutEnd => Some(wiring::readable_store(config, "--wait").await?),
    };
    publish(config, call, queue, now).await?;
    let Some(store) = store else {
        print(&format!("{}\n", call.id))?;
        return Ok(ExitCode::SUCCESS);
    };
    let result = wait_for(&*store, &call.id, wait).await?;
    let Some(result) = result.filter(|result| result.state.is_ready()) else {
        let waited = match wait {
            Wait::AtMost(duration) => show_duration(duration),
            Wait::No | Wait::WithoutEnd => "some time".to_owned(),
        };
        let hint = format!("it may still run; ask with: host result {}", call.id);
        return Err(anyhow!("no result of task {} after {waited}", call.id)).or_hint(hint);
    };
    if is_failed(&result.state) {
        eprint!("{}", exception_text(&result));
        return Ok(ExitCode::FAILURE);
    }
    print(&format!("{}\n", result.result))?;
    Ok(ExitCode::SUCCESS)
}

async fn publish(config: &Config, call: &Call, queue: &QueueName, now: Timestamp) -> Result<(), Failure> {
    let broker = wiring::broker(config).await?;
    let publication = Publication { message: v2::message(call, now), route: Route::queue(queue) };
    // As Celery's producers do: the first who speaks of a queue creates it.
    broker.declare(queue).await.with_context(|| format!("cannot call `{}`", call.task))?;
    broker.publish(&[publication]).await.with_context(|| format!("cannot call `{}`", call.task))?;
    broker.close().await;
    Ok(())
}

fn read_call(args: &CallArgs, now: Timestamp) -> Result<Call, Failure> {
    let task = TaskName::parse(&args.name).map_err(Failure::usage)?;
    let id = match &args.id {
        Some(id) => TaskId::parse(id),
        None => TaskId::parse(&uuid::Uuid::new_v4().to_string()),
    };
    let id = id.map_err(Failure::usage)?;
    // As Celery names a client (celery/utils/nodenames.py `anon_nodename`).
    let origin = format!("gen{}@{}", std::process::id(), wiring::host_name());
    let mut call = Call::new(task, id, origin);
    // Whether the result is kept is left to the task.
    call.ignore_result = None;
    call.priority = args.priority;
    if let Some(text) = &args.args {
        call.args = json("--args", text, Kind::List, "a JSON array such as '[2, 2]'")?;
    }
    if let Some(text) = &args.kwargs {
        call.kwargs = json("--kwargs", text, Kind::Map, "a JSON object such as '{\"width\": 800}'")?;
    }
    if let Some(text) = &args.countdown {
        call.eta = Some(now + duration("--countdown", text)?);
    }
    if let Some(text) = &args.eta {
        call.eta = Some(Timestamp::parse(text).map_err(|error| Failure::usage(anyhow!("--eta: {error}")))?);
    }
    if let Some(text) = &args.expires {
        call.expires = Some(expires(text, call.eta.unwrap_or(now), now)?);
    }
    Ok(call)
}

/// A date, or a time from now.
fn expires(text: &str, start: Timestamp, now: Timestamp) -> Result<Timestamp, Failure> {
    let expires = match parse_duration(text) {
        Some(from_now) => now + from_now,
        None => Timestamp::parse(text).map_err(|_| {
            let expected = "seconds, a time such as \"5m\", or a date such as 2026-12-24T18:00:00Z";
            Failure::usage(anyhow!("--expires: expected {expected}, found \"{}\"", text.escape_debug()))
        })?,
    };
    if start.since(expires) > Duration::ZERO {
        return Err(Failure::usage(anyhow!("--expires: the task would expire before it may start")));
    }
    Ok(expires)
}

fn json(option: &str, text: &str, kind: Kind, expected: &str) -> Result<Json, Failure> {
    let value = Json::parse(text.to_owned())
        .map_err(|error| Failure::usage(anyhow!("{option}: expected {expected}: {error}")))?;
    if value.kind() != kind {
        return Err(Failure::usage(anyhow!("{option}: expected {expected}, found {value}")));
    }
    Ok(value)
}

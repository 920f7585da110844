//! Turns what a guest answered, or how it broke, into an outcome.
//!
//! The guest is not trusted: whatever does not follow the interface is `InvalidResult`, and an
//! exception speaks only for the modules that its plugin may speak for.

use std::time::Duration;

use taskhost_core::exception::SANDBOX_MODULE;
use taskhost_core::protocol::content::Kind;
use taskhost_core::{Exception, Json, Outcome, RetryDelay, RetryRequest, Timestamp, Trap};
use wasmtime::WasmBacktrace;
use wasmtime::component::ResourceTableError;
use wasmtime_wasi::I32Exit;

use crate::abi::Answer;
use crate::abi::exports::taskhost::task::tasks::Failure;
use crate::abi::taskhost::task::types;
use crate::instance::Guest;
use crate::invoke::Broken;
use crate::limits::{Limits, TABLE_ELEMENTS_MAX};
use crate::memory::Denied;
use crate::plugin::Plugin;
use crate::typed::Reply;

/// Modules that every plugin may speak for.
const MODULES: &[&str] = &["builtins", "celery.exceptions"];
/// How many frames of a backtrace are shown.
const FRAMES_MAX: usize = 5;

/// What a call gives back.
pub(crate) enum Returned {
    /// Of `run`.
    Answer(Answer),
    /// Of a function of the plugin's own.
    Reply(Reply),
}

/// The outcome of a call that came back.
pub(crate) fn outcome(returned: Returned, plugin: &Plugin, guest: &Guest) -> Outcome {
    let limit_bytes = plugin.limits.result_bytes;
    if bytes(&returned) > limit_bytes {
        return Outcome::Trapped(Trap::ResultTooLarge { limit_bytes: limit_bytes as u64 });
    }
    let outcome = match returned {
        Returned::Answer(answer) => answered(answer, plugin, guest),
        Returned::Reply(Reply::Value(text)) => json("result", text).map(Outcome::Success),
        Returned::Reply(Reply::Error(text)) => text.map(|text| json("error", text)).transpose().map(task_error),
    };
    outcome.unwrap_or_else(|what| Outcome::Trapped(Trap::InvalidResult(what)))
}

fn answered(answer: Answer, plugin: &Plugin, guest: &Guest) -> Result<Outcome, String> {
    match answer {
        Ok(result) => json("result", result).map(Outcome::Success),
        Err(Failure::Failed(error)) => {
            exception(error, plugin).map(|(exception, traceback)| Outcome::Failure(exception, traceback))
        }
        Err(Failure::Retry(wish)) => retry(wish, plugin).map(Outcome::Retry),
        Err(Failure::Reject(requeue)) => Ok(Outcome::Rejected { requeue }),
        Err(Failure::Ignore) => Ok(Outcome::Ignored),
        Err(Failure::Replace(signature)) => Ok(guest.replaced(signature)),
    }
}

/// What a function fails with that gives back an `err`.
fn task_error(value: Option<Json>) -> Outcome {
    Outcome::Failure(Exception::new(SANDBOX_MODULE, "TaskError", value), None)
}

/// Size of all texts together.
pub(crate) fn bytes(returned: &Returned) -> usize {
    let error = |error: &types::Error| {
        let optional = [&error.exc_module, &error.traceback];
        let optional: usize = optional.into_iter().flatten().map(String::len).sum();
        error.exc_type.len() + error.arguments.len() + optional
    };
    let answer = match returned {
        Returned::Answer(answer) => answer,
        Returned::Reply(Reply::Value(text)) => return text.len(),
        Returned::Reply(Reply::Error(text)) => return text.as_ref().map_or(0, String::len),
    };
    match answer {
        Ok(text) | Err(Failure::Replace(text)) => text.len(),
        Err(Failure::Failed(failed)) => error(failed),
        Err(Failure::Retry(wish)) => {
            let optional: usize = [&wish.args, &wish.kwargs].into_iter().flatten().map(String::len).sum();
            wish.cause.as_ref().map_or(0, error) + optional
        }
        Err(Failure::Reject(_) | Failure::Ignore) => 0,
    }
}

fn json(what: &str, text: String) -> Result<Json, String> {
    Json::parse(text).map_err(|error| format!("{what} is not JSON: {error}"))
}

fn typed(what: &str, text: String, kind: Kind) -> Result<Json, String> {
    let json = json(what, text)?;
    match (json.kind() == kind, kind) {
        (true, _) => Ok(json),
        (false, Kind::List) => Err(format!("{what} is not a JSON array")),
        (false, _) => Err(format!("{what} is not a JSON object")),
    }
}

fn exception(error: types::Error, plugin: &Plugin) -> Result<(Exception, Option<String>), String> {
    if error.exc_type.is_empty() {
        return Err("exc-type is empty".to_owned());
    }
    let arguments = typed("arguments of the exception", error.arguments, Kind::List)?;
    let may_claim = |module: &String| MODULES.contains(&module.as_str()) || plugin.exception_modules.contains(module);
    let module = error.exc_module.filter(may_claim);
    Ok((Exception { kind: error.exc_type, module, arguments }, error.traceback))
}

fn retry(wish: types::Retry, plugin: &Plugin) -> Result<RetryRequest, String> {
    let delay = match wish.delay {
        types::Delay::Default => RetryDelay::Default,
        // Celery runs a retry at once whose countdown lies in the past.
        types::Delay::Countdown(seconds) => match Duration::try_from_secs_f64(seconds.max(0.0)) {
            Ok(countdown) if !seconds.is_nan() => RetryDelay::Countdown(countdown),
            _ => return Err(format!("countdown {seconds} is not a time in seconds")),
        },
        types::Delay::Eta(text) => RetryDelay::At(Timestamp::parse(&text).map_err(|error| format!("eta: {error}"))?),
    };
    let cause = wish.cause.map(|cause| exception(cause, plugin)).transpose()?;
    let args = wish.args.map(|args| typed("args of the retry", args, Kind::List)).transpose()?;
    let kwargs = wish.kwargs.map(|kwargs| typed("kwargs of the retry", kwargs, Kind::Map)).transpose()?;
    Ok(RetryRequest { cause, delay, max_retries: wish.max_retries, args, kwargs })
}

/// Why a call did not come back.
pub(crate) fn trap(broken: &Broken, guest: &Guest, limits: &Limits) -> Trap {
    let error = match broken {
        Broken::Instantiate(error) | Broken::Call(error) => error,
    };
    let trap = error.downcast_ref::<wasmtime::Trap>().copied();
    let exit = error.downcast_ref::<I32Exit>().map(|exit| exit.0);
    if let Some(limit) = guest.calls.exceeded() {
        return Trap::HostCallLimit { limit };
    }
    match guest.memory.denied() {
        Some(Denied::Memory) if exit != Some(0) => {
            return Trap::MemoryLimit { limit_bytes: guest.memory.limit_bytes() as u64 };
        }
        Some(Denied::Table) if exit != Some(0) => return Trap::TableLimit { elements: TABLE_ELEMENTS_MAX as u64 },
        _ => {}
    }
    if let Some(code) = exit {
        return Trap::Exited { code, words: guest.last_words().filter(|_| code != 0) };
    }
    if trap == Some(wasmtime::Trap::StackOverflow) {
        return Trap::StackOverflow;
    }
    let what = error.root_cause().to_string();
    let backtrace = error.downcast_ref::<WasmBacktrace>();
    // wasmtime has no public type for it. It guards what is lifted: out of a call if wasm was running, which
    // leaves a backtrace, and else out of the answer.
    if what.contains("fuel allocated for hostcalls has been exhausted") {
        return match backtrace {
            Some(_) => Trap::HostCallTooLarge { limit_bytes: limits.host_call_bytes as u64 },
            None => Trap::ResultTooLarge { limit_bytes: limits.result_bytes as u64 },
        };
    }
    // The host's resources have a typed error, those that a guest makes for itself only a text.
    let full = matches!(error.downcast_ref::<ResourceTableError>(), Some(ResourceTableError::Full));
    if full || what.contains("store handle limit exceeded") {
        return Trap::HandleLimit { limit: limits.handles as u64 };
    }
    match broken {
        Broken::Instantiate(_) if trap.is_none() && backtrace.is_none() => Trap::NotInstantiated(what),
        // What goes wrong while wasm runs has a backtrace; lowering and lifting have none.
        Broken::Call(_) if trap.is_none() && backtrace.is_none() => Trap::InvalidResult(what),
        _ => Trap::Instruction(story(&what, backtrace, guest.last_words())),
    }
}

/// What happened, where, and what the guest said last.
fn story(what: &str, backtrace: Option<&WasmBacktrace>, last_words: Option<String>) -> String {
    let mut story = what.strip_prefix("wasm trap: ").unwrap_or(what).to_owned();
    if let Some(backtrace) = backtrace {
        // The display has the demangled names; a frame only has the mangled one.
        let frames = backtrace.to_string();
        let names = frames.lines().filter_map(|line| line.split_once(" - ")).map(|(_, name)| name);
        for (depth, name) in names.take(FRAMES_MAX).enumerate() {
            story.push_str(if depth == 0 { " in " } else { ", called by " });
            story.push_str(name.strip_prefix("<unknown>!").unwrap_or(name));
        }
    }
    if let Some(words) = last_words {
        story.push_str("; stderr: ");
        story.push_str(&words);
    }
    story
}

/// A trap in words, for a plugin that could not even be loaded. `describe` has the limits of an attempt.
pub(crate) fn words(trap: &Trap) -> String {
    match trap {
        Trap::Instruction(text) => format!("trap: {text}"),
        Trap::ResultTooLarge { limit_bytes } => format!("its answer is longer than {limit_bytes} bytes"),
        Trap::Exited { code, words: None } => format!("it called exit({code})"),
        Trap::Exited { code, words: Some(words) } => format!("it called exit({code}); stderr: {words}"),
        Trap::InvalidResult(text) => format!("its answer does not follow the interface: {text}"),
        Trap::CapabilityDenied(text) | Trap::NotInstantiated(text) => text.clone(),
        trap => Exception::trap(trap).headline(),
    }
}

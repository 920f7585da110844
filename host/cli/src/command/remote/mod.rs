//! `host status`, `host inspect` and `host control`: ask and tell workers, ours and Python's.
//!
//! Knows how questions and answers travel; what an answer looks like for people is the business of `show`.

mod ask;
mod here;
mod show;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::anyhow;
use taskhost_core::control::{METHODS, Method, MethodKind};
use taskhost_core::protocol::content::Json;

use super::{duration, wiring};
use crate::args::{ControlArgs, InspectArgs, MethodArgs, RemoteArgs, StatusArgs, method_list};
use crate::config::{self, Config, nearest};
use crate::exit::Failure;
use crate::logging::print;

use ask::{Question, Replies};
pub(super) use ask::{broker_that_broadcasts, tell};
pub(super) use show::line;

/// The method by which workers are told to end. They do, and answer nothing.
const SHUTDOWN: &str = "shutdown";

/// Asks workers.
pub(crate) fn inspect(args: &InspectArgs) -> Result<ExitCode, Failure> {
    run(MethodKind::Inspect, &args.method)
}

/// Tells workers.
pub(crate) fn control(args: &ControlArgs) -> Result<ExitCode, Failure> {
    run(MethodKind::Control, &args.method)
}

/// Says who is there.
pub(crate) fn status(args: &StatusArgs) -> Result<ExitCode, Failure> {
    let remote = &args.remote;
    let config = load(remote)?;
    let replies = ping(&config, remote)?;
    if remote.json {
        print(&format!("{}\n", show::json(&replies)))?;
    } else {
        print(&show::status(&replies))?;
    }
    Ok(code(&replies))
}

fn run(kind: MethodKind, args: &MethodArgs) -> Result<ExitCode, Failure> {
    let Some(name) = args.method.as_deref().filter(|_| !args.list) else {
        print(&method_list(kind))?;
        return Ok(ExitCode::SUCCESS);
    };
    let method = find(kind, name)?;
    let arguments = method.arguments(&args.words).map_err(Failure::usage)?;
    if let Some(missing) = method.missing(&arguments) {
        let error = anyhow!("`{name}` needs {missing}: {name} {}", method.signature);
        return Err(Failure::usage(error));
    }
    let remote = &args.remote;
    let config = load(remote)?;
    if method.name == SHUTDOWN {
        return shut_down(&config, remote);
    }
    let timeout = timeout(remote, method)?;
    let question = Question { method: method.name, arguments: &arguments, destination: &remote.destination, timeout };
    let replies = wiring::client_runtime()?.block_on(ask::ask(&config, remote, &question))?;
    let now = wiring::now();
    print(&if remote.json {
        format!("{}\n", show::json(&replies))
    } else {
        show::replies(method.name, &replies, now)
    })?;
    Ok(code(&replies))
}

/// Workers that end answer nothing, so it is looked who is there before.
fn shut_down(config: &Config, remote: &RemoteArgs) -> Result<ExitCode, Failure> {
    let nodes: Vec<String> = ping(config, remote)?.into_keys().collect();
    let arguments = Json::empty_map();
    // Named, so that none is meant that nobody was told of.
    wiring::client_runtime()?.block_on(ask::tell_through(config, remote, SHUTDOWN, &arguments, &nodes))?;
    if remote.json {
        let told = nodes.iter().map(|node| (node, Json::object([("ok", "told to shut down")])));
        print(&format!("{}\n", Json::object(told)))?;
    } else {
        let told: Vec<String> = nodes.iter().map(|node| format!("{}: told to shut down\n", line(node))).collect();
        print(&told.concat())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn ping(config: &Config, remote: &RemoteArgs) -> Result<Replies, Failure> {
    let method = Method::find("ping").expect("it is in the table");
    let (arguments, timeout) = (Json::empty_map(), timeout(remote, method)?);
    let question = Question { method: method.name, arguments: &arguments, destination: &remote.destination, timeout };
    wiring::client_runtime()?.block_on(ask::ask(config, remote, &question))
}

fn load(remote: &RemoteArgs) -> Result<Config, Failure> {
    Ok(config::load(remote.settings.config.as_deref(), &remote.settings.sets, remote.flags())?)
}

fn find(kind: MethodKind, name: &str) -> Result<&'static Method, Failure> {
    let (ours, other) = match kind {
        MethodKind::Inspect => ("inspect", "control"),
        MethodKind::Control => ("control", "inspect"),
    };
    match Method::find(name).filter(|method| !method.hidden) {
        Some(method) if method.kind == kind => Ok(method),
        Some(_) => Err(Failure::usage(anyhow!("`{name}` is a method of `host {other}`"))),
        None => {
            let known = METHODS.iter().filter(|method| method.kind == kind && !method.hidden);
            let error = Failure::usage(anyhow!("there is no method `{}`", line(name)));
            Err(match nearest(name, known.map(|method| method.name)) {
                Some(near) => error.hint(format!("did you mean `{near}`? `host {ours} --list` lists all methods")),
                None => error.hint(format!("`host {ours} --list` lists all methods")),
            })
        }
    }
}

/// As long as somebody says, or as Celery's command waits; longer for methods that are known to be slow.
fn timeout(remote: &RemoteArgs, method: &Method) -> Result<Duration, Failure> {
    const USUAL: Duration = Duration::from_secs(1);
    match &remote.timeout {
        Some(text) => duration("--timeout", text),
        None => Ok(method.timeout.max(USUAL)),
    }
}

/// One if any worker answered that it could not.
fn code(replies: &Replies) -> ExitCode {
    match replies.values().any(|reply| show::error(reply).is_some()) {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    }
}

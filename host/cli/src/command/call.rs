//! `host call`: publishes a task, and waits for its result if asked to.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use broker::{Broker, Consumer};
use store::ResultStore;
use taskhost_core::protocol::auth::{self, Seal};
use taskhost_core::protocol::codec::Serializer;
use taskhost_core::protocol::content::{Json, Kind};
use taskhost_core::protocol::v2::{self, Call};
use taskhost_core::{Destination, Publication, QueueName, Routed, TaskId, TaskName, Timestamp};

use super::outcome::{exception_text, is_failed, wait_for, wait_for_reply};
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
    let mut call = read_call(args, now)?;
    let destination = match &args.queue {
        Some(name) => Destination::queue(QueueName::parse(name).map_err(Failure::usage)?),
        None => Destination::default(),
    };
    let routed = config.router().route(&destination).map_err(Failure::usage)?;
    wiring::client_runtime()?.block_on(carry_out(&config, &mut call, routed, wait, now))
}

/// Where the result is going to be seen.
enum Listening {
    Store(Arc<dyn ResultStore>),
    /// A queue of our own, which rpc:// results are sent to, and those of amqp:// as well.
    Replies(Box<dyn Consumer>),
}

async fn carry_out(
    config: &Config,
    call: &mut Call,
    routed: Routed,
    wait: Wait,
    now: Timestamp,
) -> Result<ExitCode, Failure> {
    let format = wiring::format(config)?;
    let broker = wiring::broker(config).await?;
    // Before the task is on its way: otherwise it would run, and nobody would see the result.
    let listening = match wait {
        Wait::No => None,
        Wait::AtMost(_) | Wait::WithoutEnd => Some(listen(config, &*broker, call).await?),
    };
    let signs = config.accept.content.contains(&Serializer::Auth);
    publish(&*broker, call, routed, format.seal.as_deref().filter(|_| signs), now).await?;
    let result = match &listening {
        None => None,
        Some(Listening::Store(store)) => wait_for(&**store, &call.id, wait).await?,
        Some(Listening::Replies(replies)) => wait_for_reply(&**replies, &call.id, wait, &format).await?,
    };
    broker.close().await;
    if listening.is_none() {
        print(&format!("{}\n", call.id))?;
        return Ok(ExitCode::SUCCESS);
    }
    let Some(result) = result.filter(|result| result.state.is_ready()) else {
        let waited = match wait {
            Wait::AtMost(duration) => show_duration(duration),
            Wait::No | Wait::WithoutEnd => "some time".to_owned(),
        };
        let failure = anyhow!("no result of task {} after {waited}", call.id);
        return Err(failure).or_hint(match listening {
            Some(Listening::Replies(_)) => "it may still run; its result went to this command alone".to_owned(),
            _ => format!("it may still run; ask with: host result {}", call.id),
        });
    };
    if is_failed(&result.state) {
        eprint!("{}", exception_text(&result));
        return Ok(ExitCode::FAILURE);
    }
    print(&format!("{}\n", result.result))?;
    Ok(ExitCode::SUCCESS)
}

/// Gets ready for the result, and tells the worker where to send it if it is sent.
async fn listen(config: &Config, broker: &dyn Broker, call: &mut Call) -> Result<Listening, Failure> {
    let scheme = config.result.backend.scheme();
    if scheme == "rpc" || wiring::is_left_at_broker(&scheme) {
        let replies = broker.replies().await.context("cannot make a queue for the result")?;
        if let Some((queue, replies)) = replies {
            call.reply_to = Some(queue.to_string());
            return Ok(Listening::Replies(replies));
        }
    }
    Ok(Listening::Store(wiring::readable_store(config, "--wait").await?))
}

async fn publish(
    broker: &dyn Broker,
    call: &Call,
    routed: Routed,
    seal: Option<&dyn Seal>,
    now: Timestamp,
) -> Result<(), Failure> {
    let mut message = v2::message(call, now);
    if let Some(seal) = seal {
        auth::sign(&mut message, seal).with_context(|| format!("cannot call `{}`", call.task))?;
    }
    let publication = Publication { message, route: routed.route };
    if let Some(queue) = &routed.queue {
        broker.declare(queue).await.with_context(|| format!("cannot call `{}`", call.task))?;
    }
    broker.publish(&[publication]).await.with_context(|| format!("cannot call `{}`", call.task))?;
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
        call.eta = Some(
            Timestamp::parse(text)
                .map_err(|error| Failure::usage(anyhow!("--eta: {error} such as 2026-12-24T18:00:00Z")))?,
        );
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

pub(super) fn json(option: &str, text: &str, kind: Kind, expected: &str) -> Result<Json, Failure> {
    let value = Json::parse(text.to_owned())
        .map_err(|error| Failure::usage(anyhow!("{option}: expected {expected}: {error}")))?;
    if value.kind() != kind {
        return Err(Failure::usage(anyhow!("{option}: expected {expected}, found {value}")));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use expect_test::{Expect, expect};

    use super::*;
    use crate::args::{Command, CommandLine};

    const NOW: Timestamp = Timestamp::from_micros(1_795_343_528_000_000);

    fn call(options: &[&str]) -> Result<Call, Failure> {
        let words = ["host", "call", "tasks.add"].iter().chain(options);
        let Command::Call(args) = CommandLine::try_parse_from(words).expect("options are right").command else {
            panic!("not `call`");
        };
        read_call(&args, NOW)
    }

    #[track_caller]
    fn check_error(options: &[&str], expected: Expect) {
        expected.assert_eq(&call(options).expect_err("this is a mistake").to_string());
    }

    #[test]
    fn a_call_has_what_the_options_say() {
        let call = call(&["-a", "[1, NaN]", "-k", r#"{"x": 1}"#, "--countdown", "1m", "--expires", "2m", "--id", "i"]);
        let call = call.expect("options are right");
        assert_eq!((call.args.as_str(), call.kwargs.as_str()), ("[1, NaN]", r#"{"x": 1}"#));
        assert_eq!((call.task.as_str(), call.id.as_str()), ("tasks.add", "i"));
        assert_eq!(call.eta, Some(NOW + Duration::from_secs(60)));
        assert_eq!(call.expires, Some(NOW + Duration::from_secs(120)));
    }

    #[test]
    fn times_are_dates_as_well() {
        let call =
            call(&["--eta", "2026-11-22T12:00:00Z", "--expires", "2026-11-23 00:00"]).expect("options are right");
        assert_eq!(call.eta.map(Timestamp::isoformat).as_deref(), Some("2026-11-22T12:00:00+00:00"));
        assert_eq!(call.expires.map(Timestamp::isoformat).as_deref(), Some("2026-11-23T00:00:00+00:00"));
    }

    #[test]
    fn a_wrong_option_is_an_error_that_shows_a_right_one() {
        check_error(
            &["-a", "{}"],
            expect![[r#"
            error: --args: expected a JSON array such as '[2, 2]', found {}
        "#]],
        );
        check_error(
            &["-k", "width=3"],
            expect![[r#"
            error: --kwargs: expected a JSON object such as '{"width": 800}': no value at byte 0
        "#]],
        );
        check_error(
            &["--countdown", "soon"],
            expect![[r#"
            error: --countdown: expected seconds, or a time such as "30s", "5m" or "1h", found "soon"
        "#]],
        );
        check_error(
            &["--eta", "soon"],
            expect![[r#"
                error: --eta: `soon` is not an ISO 8601 time such as 2026-12-24T18:00:00Z
            "#]],
        );
        check_error(
            &["--expires", "soon"],
            expect![[r#"
            error: --expires: expected seconds, a time such as "5m", or a date such as 2026-12-24T18:00:00Z, found "soon"
        "#]],
        );
        check_error(
            &["--expires", "5", "--countdown", "10"],
            expect![[r#"
            error: --expires: the task would expire before it may start
        "#]],
        );
        check_error(
            &["--id", ""],
            expect![[r#"
            error: task id is empty
        "#]],
        );
    }
}

//! Retries: whether there is one left, when it is due, and the message that brings it
//! (celery/app/task.py `Task.retry`, celery/app/autoretry.py).
//!
//! Chance is an argument, and nothing is published here.

use std::time::Duration;

use crate::exception::Exception;
use crate::message::{HeaderValue, Publication, Route, VERSION_HEADER};
use crate::outcome::{Attempt, RetryDelay, RetryRequest};
use crate::protocol::v2;
use crate::request::Request;
use crate::task::TaskOptions;
use crate::timestamp::{Jitter, Timestamp};

/// What a wish to be retried comes to.
#[derive(Debug, Clone, PartialEq)]
pub enum Retry {
    /// The message to publish, and how long until it runs.
    Again { publication: Box<Publication>, delay: Duration },
    /// No retry is left. The exception is the cause, where one was given.
    Exhausted(Exception, Option<String>),
}

/// Decides about a retry that a task asked for.
pub fn decide(attempt: &Attempt, wish: &RetryRequest, now: Timestamp) -> Retry {
    let request = &attempt.request;
    let options = &attempt.spec.options;
    let allowed = wish.max_retries.or(options.max_retries);
    if allowed.is_some_and(|max| request.retries >= max) {
        return match wish.cause.clone() {
            Some((cause, traceback)) => Retry::Exhausted(cause, traceback),
            None => Retry::Exhausted(Exception::max_retries_exceeded(request), None),
        };
    }
    let due = match wish.delay {
        RetryDelay::Default => now + options.default_retry_delay,
        RetryDelay::Countdown(countdown) => now + countdown,
        RetryDelay::At(eta) => eta,
    };
    // A retry without delay has no eta at all, as with Celery's `countdown=0`.
    let eta = (due > now).then_some(due);
    let mut message = v2::retry(request, eta, wish.args.as_ref(), wish.kwargs.as_ref(), now);
    if options.pin_retries {
        let version = attempt.pinned.as_ref().unwrap_or(&attempt.spec.version);
        message.headers.set(VERSION_HEADER, HeaderValue::Text(version.to_string()));
    }
    Retry::Again { publication: Box::new(Publication { message, route: route(request) }), delay: due.since(now) }
}

/// The retry that `autoretry_for` makes of an exception, if the task declared one for its class.
pub fn automatic(options: &TaskOptions, retries: u32, cause: &Exception, jitter: Jitter) -> Option<RetryDelay> {
    // Every Python exception that a task raises is an `Exception`.
    let qualified = cause.module.as_ref().map(|module| format!("{module}.{}", cause.kind));
    let matches = |name: &String| name == "Exception" || *name == cause.kind || qualified.as_ref() == Some(name);
    let wanted = options.autoretry_for.iter().any(matches) && !options.dont_autoretry_for.iter().any(matches);
    wanted.then(|| backoff(options, retries, jitter))
}

/// celery/utils/time.py `get_exponential_backoff_interval`.
fn backoff(options: &TaskOptions, retries: u32, Jitter(chance): Jitter) -> RetryDelay {
    if options.retry_backoff <= 0.0 {
        return options.retry_kwargs.countdown.map_or(RetryDelay::Default, RetryDelay::Countdown);
    }
    // Python makes the factor a whole number.
    let exponential = options.retry_backoff.max(1.0).trunc() * 2f64.powi(retries.min(1_000) as i32);
    let bounded = exponential.min(options.retry_backoff_max.as_secs_f64());
    // Python draws a whole number of seconds in 0..=bounded.
    let seconds = if options.retry_jitter { ((bounded.floor() + 1.0) * chance).floor().min(bounded) } else { bounded };
    RetryDelay::Countdown(Duration::try_from_secs_f64(seconds).unwrap_or(options.retry_backoff_max))
}

/// The message as it came, to where it came from.
pub(crate) fn publication(request: &Request) -> Publication {
    Publication { message: request.message.clone(), route: route(request) }
}

/// Back to where the message came from: straight to its queue when it was published to the default
/// exchange, else the same exchange and routing key.
fn route(request: &Request) -> Route {
    let delivery = &request.delivery;
    if delivery.exchange.is_empty() {
        return Route::queue(&delivery.queue);
    }
    Route { exchange: delivery.exchange.clone(), routing_key: delivery.routing_key.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::RetryKwargs;

    fn options(backoff: f64, jitter: bool) -> TaskOptions {
        TaskOptions {
            autoretry_for: vec!["KeyError".into(), "shop.errors.Busy".into()],
            retry_backoff: backoff,
            retry_jitter: jitter,
            ..TaskOptions::default()
        }
    }

    fn exception(module: &str, kind: &str) -> Exception {
        Exception::new(module, kind, [])
    }

    #[test]
    fn only_declared_classes_retry_by_themselves() {
        let asked = |module, kind| automatic(&options(0.0, false), 0, &exception(module, kind), Jitter(0.0));
        assert_eq!(asked("builtins", "KeyError"), Some(RetryDelay::Default));
        assert_eq!(asked("shop.errors", "Busy"), Some(RetryDelay::Default));
        assert_eq!(asked("other", "Busy"), None);
        assert_eq!(asked("builtins", "ValueError"), None);
    }

    #[test]
    fn what_is_excepted_is_not_retried() {
        let asked = |options: &TaskOptions, kind| automatic(options, 0, &exception("builtins", kind), Jitter(0.0));
        let all = TaskOptions {
            autoretry_for: vec!["Exception".into()],
            dont_autoretry_for: vec!["KeyError".into(), "builtins.IndexError".into()],
            retry_kwargs: RetryKwargs { max_retries: None, countdown: Some(Duration::from_secs(7)) },
            ..options(0.0, false)
        };
        assert_eq!(asked(&all, "ValueError"), Some(RetryDelay::Countdown(Duration::from_secs(7))));
        assert_eq!(asked(&all, "KeyError"), None);
        assert_eq!(asked(&all, "IndexError"), None);
        let doubling = TaskOptions { retry_backoff: 2.5, ..all };
        let two = RetryDelay::Countdown(Duration::from_secs(2));
        assert_eq!(asked(&doubling, "ValueError"), Some(two), "the backoff counts more, in whole seconds");
    }

    #[test]
    fn backoff_doubles_up_to_its_bound_and_jitter_stays_within() {
        let delay = |factor, retries, jitter: Option<f64>| match backoff(
            &options(factor, jitter.is_some()),
            retries,
            Jitter(jitter.unwrap_or(0.0)),
        ) {
            RetryDelay::Countdown(delay) => delay.as_secs_f64(),
            other => panic!("{other:?}"),
        };
        assert_eq!(delay(1.0, 0, None), 1.0);
        assert_eq!(delay(1.0, 3, None), 8.0);
        assert_eq!(delay(5.0, 2, None), 20.0);
        assert_eq!(delay(0.5, 1, None), 2.0);
        assert_eq!(delay(1.0, 50, None), 600.0);
        assert_eq!(delay(1.0, 4_000_000_000, None), 600.0);
        assert_eq!(delay(1.0, 3, Some(0.0)), 0.0);
        assert_eq!(delay(1.0, 3, Some(0.999_999)), 8.0);
    }
}

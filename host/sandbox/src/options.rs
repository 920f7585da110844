//! Task options under Celery's names, from `describe` and from `plugin.toml`.
//!
//! Only reads values: which of two sources wins is decided by the order in which they are set.

use std::num::NonZeroU32;
use std::time::Duration;

use taskhost_core::concurrency::KeyPath;
use taskhost_core::protocol::content::Kind;
use taskhost_core::rate::{Rate, RateScope};
use taskhost_core::task::RetryKwargs;
use taskhost_core::{Json, RetryOn, TaskOptions};

/// Options that this version honours.
pub(crate) const HONOURED: &[&str] = &[
    "acks_late",
    "acks_on_failure",
    "acks_on_failure_or_timeout",
    "acks_on_timeout",
    "autoretry_for",
    "concurrency",
    "concurrency_key",
    "default_retry_delay",
    "dont_autoretry_for",
    "handles_soft_limit",
    "ignore_result",
    "max_retries",
    "pin_retries",
    "rate_limit",
    "rate_limit_scope",
    "reject_on_worker_lost",
    "retry_backoff",
    "retry_backoff_max",
    "retry_jitter",
    "retry_kwargs",
    "retry_on",
    "retry_on_worker_lost",
    "soft_time_limit",
    "store_errors_even_if_ignored",
    "time_limit",
    "track_started",
];

/// Options for those who publish a task: they know them from the stubs that `host plugin stubs` writes. The worker does
/// nothing with them.
pub const FOR_CLIENTS: &[&str] = &[
    "compression",
    "delivery_mode",
    "exchange",
    "expires",
    "mandatory",
    "priority",
    "queue",
    "routing_key",
    "serializer",
];

/// Celery's other task options: the attributes of `celery.app.task.Task` and what `apply_async` takes.
pub(crate) const WITHOUT_EFFECT: &[&str] = &[
    "backend",
    "bind",
    "countdown",
    "eta",
    "immutable",
    "link",
    "link_error",
    "name",
    "pydantic",
    "resultrepr_maxsize",
    "send_events",
    "shadow_name",
    "throws",
    "trail",
    "typing",
];

/// What setting an option does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    Honoured,
    /// Clients do.
    ForClients,
    /// Celery has it, this version of the host does nothing with it.
    Nothing,
    Unknown,
}

/// Why an option cannot be set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("option `{option}` is {value}, expected {expected}")]
pub struct OptionError {
    pub option: String,
    pub value: String,
    pub expected: String,
}

/// Sets one option. Kebab case is read as snake case.
pub(crate) fn set(options: &mut TaskOptions, option: &str, value: &Json) -> Result<Effect, OptionError> {
    let name = option.replace('-', "_");
    let honoured = match name.as_str() {
        "acks_late" => flag(value).map(|on| options.acks_late = on),
        "autoretry_for" => texts(value).map(|classes| options.autoretry_for = classes),
        "concurrency" => slots(value).map(|limit| options.concurrency = limit),
        "concurrency_key" => key_path(value).map(|path| options.concurrency_key = Some(path)),
        "default_retry_delay" => seconds(value).map(|delay| options.default_retry_delay = delay),
        "handles_soft_limit" => truth(value).map(|on| options.handles_soft_limit = on),
        "ignore_result" => flag(value).map(|on| options.ignore_result = on),
        "max_retries" => count(value).map(|retries| options.max_retries = retries),
        "rate_limit" => rate(value).map(|rate| options.rate_limit = Some(rate)),
        "acks_on_failure" => flag(value).map(|on| options.acks_on_failure = on),
        "acks_on_failure_or_timeout" => flag(value).map(|on| options.acks_on_failure_or_timeout = on),
        "acks_on_timeout" => flag(value).map(|on| options.acks_on_timeout = on),
        "dont_autoretry_for" => texts(value).map(|classes| options.dont_autoretry_for = classes),
        "reject_on_worker_lost" => flag(value).map(|on| options.reject_on_worker_lost = on),
        "retry_kwargs" => retry_kwargs(value).map(|kwargs| options.retry_kwargs = kwargs),
        "pin_retries" => truth(value).map(|on| options.pin_retries = on),
        "retry_on" => retry_on(value).map(|on| options.retry_on = on),
        "retry_on_worker_lost" => flag(value).map(|on| options.retry_on_worker_lost = on),
        "rate_limit_scope" => scope(value).map(|scope| options.rate_limit_scope = scope),
        "retry_backoff" => factor(value).map(|factor| options.retry_backoff = factor),
        "retry_backoff_max" => seconds(value).map(|longest| options.retry_backoff_max = longest),
        "retry_jitter" => truth(value).map(|on| options.retry_jitter = on),
        "soft_time_limit" => limit(value).map(|limit| options.soft_time_limit = limit),
        "store_errors_even_if_ignored" => flag(value).map(|on| options.store_errors_even_if_ignored = on),
        "time_limit" => limit(value).map(|limit| options.time_limit = limit),
        "track_started" => flag(value).map(|on| options.track_started = on),
        other if FOR_CLIENTS.contains(&other) => return Ok(Effect::ForClients),
        other if WITHOUT_EFFECT.contains(&other) => return Ok(Effect::Nothing),
        _ => return Ok(Effect::Unknown),
    };
    match honoured {
        Ok(()) => Ok(Effect::Honoured),
        Err(expected) => Err(OptionError { option: option.to_owned(), value: shown(value), expected }),
    }
}

fn shown(value: &Json) -> String {
    const CHARS_MAX: usize = 80;
    let text = value.as_str();
    match text.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn truth(value: &Json) -> Result<bool, String> {
    value.as_bool().ok_or_else(|| "true or false".to_owned())
}

/// A truth value, or null for: as the worker is configured.
fn flag(value: &Json) -> Result<Option<bool>, String> {
    match value.is_null() {
        true => Ok(None),
        false => truth(value).map(Some),
    }
}

fn seconds(value: &Json) -> Result<Duration, String> {
    let seconds = value.as_f64().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds.ok_or_else(|| "seconds, zero or more".to_owned())
}

/// Seconds; null and zero are no limit.
fn limit(value: &Json) -> Result<Option<Duration>, String> {
    if value.is_null() {
        return Ok(None);
    }
    seconds(value).map(|limit| Some(limit).filter(|limit| !limit.is_zero()))
}

/// A whole number; null is no bound.
fn count(value: &Json) -> Result<Option<u32>, String> {
    if value.is_null() {
        return Ok(None);
    }
    let count = value.as_i64().and_then(|count| u32::try_from(count).ok());
    count.map(Some).ok_or_else(|| "a whole number, zero or more, or null".to_owned())
}

/// A whole number above zero; null is no bound.
fn slots(value: &Json) -> Result<Option<NonZeroU32>, String> {
    match count(value) {
        Ok(None) => Ok(None),
        Ok(Some(limit)) if limit > 0 => Ok(NonZeroU32::new(limit)),
        _ => Err("a whole number of 1 or more, or null".to_owned()),
    }
}

/// A factor in seconds; true is one and false is none, as in Celery.
fn factor(value: &Json) -> Result<f64, String> {
    if let Some(on) = value.as_bool() {
        return Ok(f64::from(u8::from(on)));
    }
    let factor = value.as_f64().filter(|factor| factor.is_finite() && *factor >= 0.0);
    factor.ok_or_else(|| "true, false or seconds".to_owned())
}

/// What Celery passes to `retry` on its own account; the other arguments of `retry` are the task's to give.
fn retry_kwargs(value: &Json) -> Result<RetryKwargs, String> {
    let expected = || "an object with `max_retries` and `countdown`, or one of them".to_owned();
    if value.kind() != Kind::Map {
        return Err(expected());
    }
    let mut kwargs = RetryKwargs::default();
    for (key, value) in value.members() {
        match &*key {
            "max_retries" => kwargs.max_retries = count(&value).map_err(|_| expected())?,
            "countdown" if value.is_null() => kwargs.countdown = None,
            "countdown" => kwargs.countdown = Some(seconds(&value).map_err(|_| expected())?),
            _ => return Err(expected()),
        }
    }
    Ok(kwargs)
}

fn retry_on(value: &Json) -> Result<RetryOn, String> {
    let expected = || "a list of `trap`, `memory` and `time`, or some of them".to_owned();
    let mut on = RetryOn::default();
    for violation in texts(value).map_err(|_| expected())? {
        match violation.as_str() {
            "trap" => on.trap = true,
            "memory" => on.memory = true,
            "time" => on.time = true,
            _ => return Err(expected()),
        }
    }
    Ok(on)
}

fn texts(value: &Json) -> Result<Vec<String>, String> {
    let expected = || "a list of class names".to_owned();
    if value.kind() != Kind::List {
        return Err(expected());
    }
    value.elements().map(|item| item.as_text().map(String::from).ok_or_else(expected)).collect()
}

fn rate(value: &Json) -> Result<Option<Rate>, String> {
    match value.kind() {
        Kind::Null => Ok(None),
        Kind::Number => Rate::parse(value.as_str()).map_err(|error| error.to_string()),
        _ => {
            let text = value.as_text().ok_or_else(|| "a rate limit such as `10/m`".to_owned())?;
            Rate::parse(&text).map_err(|error| error.to_string())
        }
    }
}

fn scope(value: &Json) -> Result<RateScope, String> {
    let scope = value.as_text().and_then(|text| RateScope::parse(&text));
    scope.ok_or_else(|| "`worker` or `cluster`".to_owned())
}

fn key_path(value: &Json) -> Result<KeyPath, String> {
    let path = value.as_text().and_then(|text| KeyPath::parse(&text).ok());
    path.ok_or_else(|| "a path such as `kwargs.tenant`".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Json {
        Json::parse(text.to_owned()).expect("valid JSON")
    }

    #[test]
    fn options_are_read_as_celery_means_them() {
        let mut options = TaskOptions::default();
        let mut set = |name, value| set(&mut options, name, &json(value));
        for (name, value) in [
            ("max_retries", "null"),
            ("default_retry_delay", "1.5"),
            ("autoretry_for", r#"["IOError", "ValueError"]"#),
            ("retry_backoff", "true"),
            ("time_limit", "30"),
            ("soft-time-limit", "0"),
            ("handles-soft-limit", "true"),
            ("acks_late", "false"),
            ("acks_on_failure", "false"),
            ("acks_on_timeout", "null"),
            ("dont_autoretry_for", r#"["ValueError"]"#),
            ("retry_kwargs", r#"{"max_retries": 5, "countdown": 0.5}"#),
            ("rate_limit", "\"10/m\""),
            ("rate_limit_scope", "\"cluster\""),
            ("retry_on", r#"["memory", "time"]"#),
            ("pin_retries", "true"),
            ("concurrency", "2"),
            ("concurrency_key", "\"kwargs.tenant\""),
        ] {
            assert_eq!(set(name, value), Ok(Effect::Honoured), "{name}");
        }
        assert_eq!(set("queue", "\"slow\""), Ok(Effect::ForClients));
        assert_eq!(set("throws", "[]"), Ok(Effect::Nothing));
        assert_eq!(set("time_limits", "1"), Ok(Effect::Unknown));
        assert_eq!(options.max_retries, None);
        assert_eq!(options.default_retry_delay, Duration::from_millis(1500));
        assert_eq!(options.autoretry_for, ["IOError", "ValueError"]);
        assert_eq!(options.retry_backoff, 1.0);
        assert_eq!(options.time_limit, Some(Duration::from_secs(30)));
        assert_eq!(options.soft_time_limit, None);
        assert!(options.handles_soft_limit);
        assert_eq!(
            (options.acks_late, options.acks_on_failure, options.acks_on_timeout),
            (Some(false), Some(false), None)
        );
        assert_eq!(options.dont_autoretry_for, ["ValueError"]);
        let kwargs = RetryKwargs { max_retries: Some(5), countdown: Some(Duration::from_millis(500)) };
        assert_eq!(options.retry_kwargs, kwargs);
        assert_eq!(options.rate_limit_scope, RateScope::Cluster);
        assert_eq!(options.retry_on, RetryOn { trap: false, memory: true, time: true });
        assert!(options.pin_retries);
        assert_eq!(options.concurrency, NonZeroU32::new(2));
        assert_eq!(options.concurrency_key.map(|path| path.to_string()).as_deref(), Some("kwargs.tenant"));
        assert_eq!(options.rate_limit.flatten().map(|rate| rate.interval), Some(Duration::from_secs(6)));
    }

    #[test]
    fn a_wrong_value_is_named_with_what_was_expected() {
        for (name, value) in [
            ("max_retries", "-1"),
            ("max_retries", "1.5"),
            ("time_limit", "\"10\""),
            ("time_limit", "NaN"),
            ("default_retry_delay", "null"),
            ("acks_late", "1"),
            ("autoretry_for", "\"IOError\""),
            ("autoretry_for", "[1]"),
            ("rate_limit", "\"fast\""),
            ("retry_kwargs", r#"{"eta": 1}"#),
            ("retry_kwargs", r#"{"countdown": -1}"#),
            ("rate_limit", "[]"),
            ("retry_on", "[\"fire\"]"),
            ("retry_on", "\"trap\""),
            ("rate_limit_scope", "\"galaxy\""),
            ("concurrency", "0"),
            ("concurrency_key", "\"tenant\""),
        ] {
            let error = set(&mut TaskOptions::default(), name, &json(value)).expect_err(name);
            let text = error.to_string();
            assert!(text.starts_with(&format!("option `{name}` is {value}, expected ")), "{text}");
        }
    }

    #[test]
    fn every_name_in_the_list_is_honoured() {
        for name in HONOURED {
            let wrong = if *name == "retry_kwargs" { "[]" } else { "{}" };
            let effect = set(&mut TaskOptions::default(), name, &json(wrong));
            assert!(effect.is_err(), "{name}");
        }
    }
}

//! The operator's last word on the options of single tasks.
//!
//! Only says what is different; the rest stays as the plugin wants it.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use taskhost_core::RetryOn;
use taskhost_core::TaskOptions;

use crate::config::origin::Origin;
use crate::config::value::Value;

/// Options of one task that `[tasks."name"]` gives, by their names.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct TaskOverrides(BTreeMap<&'static str, Value>);

impl TaskOverrides {
    /// Takes the values without their origins.
    pub(crate) fn new(options: &BTreeMap<&'static str, (Value, Origin)>) -> Self {
        Self(options.iter().map(|(name, (value, _))| (*name, value.clone())).collect())
    }

    /// Changes what is different.
    pub(crate) fn apply(&self, options: &mut TaskOptions) {
        for (name, value) in &self.0 {
            match (*name, value) {
                ("acks_late", Value::Bool(value)) => options.acks_late = Some(*value),
                ("acks_on_failure", Value::Bool(value)) => options.acks_on_failure = Some(*value),
                ("acks_on_failure", Value::None) => options.acks_on_failure = None,
                ("acks_on_failure_or_timeout", Value::Bool(value)) => {
                    options.acks_on_failure_or_timeout = Some(*value);
                }
                ("acks_on_timeout", Value::Bool(value)) => options.acks_on_timeout = Some(*value),
                ("acks_on_timeout", Value::None) => options.acks_on_timeout = None,
                ("autoretry_for", Value::Texts(classes)) => options.autoretry_for.clone_from(classes),
                ("concurrency", Value::Count(limit)) => options.concurrency = NonZeroU32::new(*limit),
                ("concurrency", Value::None) => options.concurrency = None,
                ("concurrency_key", Value::KeyPath(path)) => options.concurrency_key = Some(path.clone()),
                ("default_retry_delay", Value::Duration(delay)) => options.default_retry_delay = *delay,
                ("dont_autoretry_for", Value::Texts(classes)) => options.dont_autoretry_for.clone_from(classes),
                ("ignore_result", Value::Bool(value)) => options.ignore_result = Some(*value),
                ("max_retries", Value::Count(retries)) => options.max_retries = Some(*retries),
                ("max_retries", Value::None) => options.max_retries = None,
                ("rate_limit", Value::Rate(rate, _)) => options.rate_limit = Some(Some(*rate)),
                ("rate_limit", Value::None) => options.rate_limit = Some(None),
                ("rate_limit_scope", Value::RateScope(scope)) => options.rate_limit_scope = *scope,
                ("reject_on_worker_lost", Value::Bool(value)) => options.reject_on_worker_lost = Some(*value),
                ("retry_backoff", Value::Factor(factor)) => options.retry_backoff = *factor,
                ("retry_backoff_max", Value::Duration(longest)) => options.retry_backoff_max = *longest,
                ("retry_jitter", Value::Bool(value)) => options.retry_jitter = *value,
                ("pin_retries", Value::Bool(value)) => options.pin_retries = *value,
                ("retry_on", Value::Texts(violations)) => {
                    let has = |name: &str| violations.iter().any(|violation| violation == name);
                    options.retry_on = RetryOn { trap: has("trap"), memory: has("memory"), time: has("time") };
                }
                ("retry_on_worker_lost", Value::Bool(value)) => options.retry_on_worker_lost = Some(*value),
                ("soft_time_limit", Value::Duration(limit)) => options.soft_time_limit = Some(*limit),
                ("soft_time_limit", Value::None) => options.soft_time_limit = None,
                ("store_errors_even_if_ignored", Value::Bool(value)) => {
                    options.store_errors_even_if_ignored = Some(*value);
                }
                ("time_limit", Value::Duration(limit)) => options.time_limit = Some(*limit),
                ("time_limit", Value::None) => options.time_limit = None,
                ("track_started", Value::Bool(value)) => options.track_started = Some(*value),
                (name, value) => unreachable!("the table of task options has no `{name}` = {value:?}"),
            }
        }
    }
}

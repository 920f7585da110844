//! Sends what a task logs with the crate `log` to the host, which writes it with its level, the task's id and its name.
//!
//! Filters nothing: whether a level is wanted is the operator's choice.

use log::{LevelFilter, Log, Metadata, Record};

struct Host;

/// Makes the host the logger of this instance, unless the plugin has chosen another one.
pub(crate) fn install() {
    if log::set_logger(&Host).is_ok() {
        log::set_max_level(LevelFilter::Trace);
    }
}

impl Log for Host {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        #[cfg(target_family = "wasm")]
        {
            use crate::bindings::logging::wasi::logging::logging::{Level, log};
            let level = match record.level() {
                log::Level::Trace => Level::Trace,
                log::Level::Debug => Level::Debug,
                log::Level::Info => Level::Info,
                log::Level::Warn => Level::Warn,
                log::Level::Error => Level::Error,
            };
            log(level, record.target(), &record.args().to_string());
        }
        // In a unit test there is no host; libtest shows stderr.
        #[cfg(not(target_family = "wasm"))]
        eprintln!("{} {}: {}", record.level(), record.target(), record.args());
    }

    fn flush(&self) {}
}

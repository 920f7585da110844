//! Whoever has the plugins, as the worker sees them: catalogs come from there, and what the ends of attempts say
//! about a plugin goes there.
//!
//! What is to be done about a plugin is decided in `core`.

use taskhost_core::dispatcher::PluginEvent;
use tracing::{error, info, warn};

/// Hears what became of a plugin.
pub trait Plugins: Send + Sync {
    /// Must not block: the worker's loop calls it.
    fn happened(&self, event: PluginEvent);
}

/// Says it in the log, as loud as it is.
pub(crate) fn log(event: &PluginEvent) {
    match event {
        PluginEvent::Quarantined { plugin, version, rule, first: true } => {
            let (pause, window) = (rule.pause.as_secs_f64(), rule.window.as_secs_f64());
            error!(
                plugin = %plugin, version = %version,
                "QUARANTINE: plugin `{plugin}` trapped, timed out or exhausted its memory {} times within {window} s; \
                 its tasks are parked for {pause} s, or until there is a new version", rule.violations
            );
        }
        PluginEvent::Quarantined { plugin, version, rule, first: false } => {
            let pause = rule.pause.as_secs_f64();
            error!(plugin = %plugin, version = %version,
                "QUARANTINE: plugin `{plugin}` is no better; its tasks stay parked for another {pause} s");
        }
        PluginEvent::HalfOpen { plugin, version } => {
            info!(plugin = %plugin, version = %version, "the next task of plugin `{plugin}` shows whether it is better now");
        }
        PluginEvent::Recovered { plugin, version } => {
            warn!(plugin = %plugin, version = %version, "plugin `{plugin}` is out of quarantine: its tasks run again");
        }
        PluginEvent::Judged(verdict) => {
            let (plugin, attempts, failures) = (&verdict.plugin, verdict.attempts, verdict.failures);
            let version = &verdict.version;
            match verdict.promoted {
                true => info!(plugin = %plugin, version = %version, attempts, failures,
                    "the new version of plugin `{plugin}` has stood its trial: {failures} of {attempts} attempts failed"),
                false => error!(plugin = %plugin, version = %version, attempts, failures,
                    "the new version of plugin `{plugin}` is taken back: {failures} of {attempts} attempts failed"),
            }
        }
    }
}

//! Plugins on the page: which there are, what their attempts used, and which limits they reached.

use super::Reached;
use super::page::Page;
use crate::status::{Plugin, Plugins, State, Used};

/// All of them.
pub(super) fn write(page: &mut Page, plugins: &Plugins, reached: &[Reached]) {
    page.family("taskhost_plugin_info", "gauge", "Versions of plugins that are there, and what is done with them.");
    for plugin in &plugins.plugins {
        let state = match plugin.state {
            State::Serving => "serving",
            State::OnTrial { .. } => "on_trial",
            State::Quarantined => "quarantined",
        };
        let [name, version] = of(plugin);
        page.sample("taskhost_plugin_info", &[name, version, ("state", state)], 1.0);
    }
    page.family("taskhost_plugin_refused", "gauge", "Files that are not served; the reason is in host plugin list.");
    for refused in &plugins.refused {
        let kept = refused.kept.as_deref().unwrap_or_default();
        page.sample("taskhost_plugin_refused", &[("path", &refused.path), ("kept", kept)], 1.0);
    }
    page.family("taskhost_plugin_reloads_total", "counter", "Changes of plugins while the worker ran.");
    for (result, count) in [("done", plugins.reloads.done), ("refused", plugins.reloads.refused)] {
        page.sample("taskhost_plugin_reloads_total", &[("result", result)], count as f64);
    }
    type Read = fn(&Used) -> f64;
    let families: [(&str, &str, &str, Read); 9] = [
        ("taskhost_attempts_total", "counter", "Attempts that ended.", |used| used.attempts as f64),
        ("taskhost_attempt_failures_total", "counter", "Those that failed.", |used| used.failures as f64),
        ("taskhost_attempt_traps_total", "counter", "Those that the sandbox or a time limit ended.", |used| {
            used.traps as f64
        }),
        ("taskhost_attempt_seconds_total", "counter", "Their time on the wall.", |used| used.wall),
        ("taskhost_attempt_cpu_seconds_total", "counter", "Their time on a processor.", |used| used.cpu),
        ("taskhost_attempt_memory_peak_bytes", "gauge", "Memory of the one that had most.", |used| {
            used.memory_bytes_peak as f64
        }),
        ("taskhost_attempt_host_calls_total", "counter", "Their calls into the host.", |used| used.host_calls as f64),
        ("taskhost_attempt_received_bytes_total", "counter", "Arguments, and what came over the network.", |used| {
            used.bytes_in as f64
        }),
        ("taskhost_attempt_sent_bytes_total", "counter", "Results, and what went over the network.", |used| {
            used.bytes_out as f64
        }),
    ];
    for (name, kind, help, read) in families {
        page.family(name, kind, help);
        for plugin in &plugins.plugins {
            if let Some(used) = &plugin.used {
                page.sample(name, &of(plugin), read(used));
            }
        }
    }
    page.family("taskhost_limit_reached_total", "counter", "How often a limit was reached, by its key in [limits].");
    for (plugin, limit, count) in reached {
        let labels = [("plugin", plugin.as_str()), ("limit", limit.as_str())];
        page.sample("taskhost_limit_reached_total", &labels, *count as f64);
    }
}

fn of(plugin: &Plugin) -> [(&str, &str); 2] {
    [("plugin", &plugin.name), ("version", &plugin.digest)]
}

//! What `host run` says when it starts.
//!
//! Also what to do next when there is nothing to run.

use sandbox::{Loaded, PluginReport};
use taskhost_core::QueueName;

use crate::config::Config;
use crate::wiring;

/// The banner for people.
pub(super) fn text(config: &Config, loaded: &Loaded) -> String {
    let mut text = format!("\n {} (taskhost {})\n\n", config.worker.hostname, env!("CARGO_PKG_VERSION"));
    let mut line = |name: &str, value: &str| text.push_str(&format!(" {name:<12} {value}\n"));
    line("broker", &config.broker.url.to_string());
    if let Some(url) = wiring::client_url("sqla", &config.broker.url) {
        line("", &format!("for Python: {url}"));
    }
    line("results", &config.result.backend.to_string());
    if let Some(url) = wiring::client_url("db", &config.result.backend) {
        line("", &format!("for Python: {url}"));
    }
    line("queues", &config.task.queues.iter().map(QueueName::as_str).collect::<Vec<_>>().join(", "));
    line("concurrency", &config.worker.concurrency.to_string());
    line("plugins", &config.plugins.dir.display().to_string());
    text.push('\n');
    text.push_str(&plugins(loaded));
    if loaded.catalog.is_empty() {
        text.push_str(&next_step(config));
    }
    text.push('\n');
    text
}

/// Plugins with their tasks, and refused ones with the reason.
pub(super) fn plugins(loaded: &Loaded) -> String {
    let mut text = String::new();
    for plugin in &loaded.plugins {
        text.push_str(&format!(" [{}]\n", title(plugin)));
        for task in &plugin.tasks {
            match task.spec.summary.as_str() {
                "" => text.push_str(&format!("   . {}\n", task.spec.name)),
                summary => text.push_str(&format!("   . {}  {summary}\n", task.spec.name)),
            }
        }
        for warning in &plugin.warnings {
            text.push_str(&format!("   ! {warning}\n"));
        }
    }
    for refused in &loaded.refused {
        text.push_str(&format!(" refused: {}\n   {}\n", refused.path.display(), refused.reason));
    }
    text
}

/// Name and version of a plugin.
fn title(plugin: &PluginReport) -> String {
    match &plugin.version {
        Some(version) => format!("{} {version}", plugin.name),
        None => plugin.name.clone(),
    }
}

fn next_step(config: &Config) -> String {
    let dir = config.plugins.dir.display();
    format!(
        " There are no tasks to run: put a plugin (.wasm) into {dir}, or name another folder with\n \
         --plugins, and start again. `host plugin check FILE` says what is wrong with a plugin.\n"
    )
}

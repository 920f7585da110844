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
    if let Some(url) = &config.broker.write_url {
        line("", &format!("publishes to {url}"));
    }
    if let Some(url) = wiring::client_url("sqla", &config.broker.url) {
        line("", &format!("for Python: {url}"));
    }
    if let Some(options) = wiring::client_options(config) {
        line("", &format!("for Python: {options}"));
    }
    line("results", &config.result.backend.to_string());
    if let Some(url) = wiring::client_url("db", &config.result.backend) {
        line("", &format!("for Python: {url}"));
    }
    line("queues", &queues(config));
    line(
        "concurrency",
        &match config.worker.autoscale {
            Some((max, min)) => format!("{min} to {max}, as the load wants"),
            None => config.worker.concurrency.to_string(),
        },
    );
    line("plugins", &config.plugins.dir.display().to_string());
    text.push('\n');
    text.push_str(&plugins(loaded));
    if loaded.catalog.is_empty() {
        text.push_str(&next_step(config));
    }
    text.push('\n');
    text
}

/// The queues with commas between them.
pub(super) fn queues(config: &Config) -> String {
    config.task.queues.iter().map(QueueName::as_str).collect::<Vec<_>>().join(",")
}

/// Plugins with their tasks, and refused ones with the reason.
pub(super) fn plugins(loaded: &Loaded) -> String {
    let mut text = String::new();
    for plugin in &loaded.plugins {
        text.push_str(&format!(" [{}]\n", title(plugin)));
        let width = plugin.tasks.iter().map(|task| task.spec.name.as_str().chars().count()).max().unwrap_or(0);
        for task in &plugin.tasks {
            let line = format!("   . {:width$}  {}", task.spec.name.as_str(), task.spec.summary);
            text.push_str(&format!("{}\n", line.trim_end()));
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

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use sandbox::{Refused, TaskReport};
    use taskhost_core::{Catalog, PluginName, PluginVersion, TaskName, TaskOptions, TaskSpec};

    use super::*;
    use crate::config::{Machine, Sources};

    fn task(name: &str, summary: &str) -> TaskReport {
        let spec = TaskSpec {
            name: TaskName::parse(name).unwrap(),
            plugin: PluginName::parse("images").unwrap(),
            version: PluginVersion::of("ab12"),
            plugin_concurrency: None,
            summary: summary.to_owned(),
            takes: None,
            options: TaskOptions::default(),
        };
        TaskReport { spec, signature: None, types: Vec::new(), schema: None, options: Vec::new() }
    }

    #[track_caller]
    fn check(broker: &str, loaded: &Loaded, expected: Expect) {
        let sources = Sources {
            sets: vec![format!("broker_url={broker}")],
            machine: Machine { host_name: "box".to_owned(), cpus: 4, ..Machine::default() },
            ..Sources::default()
        };
        let text = text(&Config::resolve(&sources).unwrap(), loaded);
        // The margin keeps the snapshot from losing the indentation that all lines share.
        let framed = text.lines().map(|line| format!("|{line}\n")).collect::<String>();
        expected.assert_eq(&framed.replace(env!("CARGO_PKG_VERSION"), "<version>"));
    }

    #[test]
    fn the_banner_says_where_clients_of_a_folder_have_to_write() {
        let options =
            "broker.transport_options=data_folder_in=/srv/q,data_folder_out=/srv/q,control_folder=/srv/control";
        let sources = Sources {
            sets: vec!["broker_url=filesystem://".to_owned(), options.to_owned()],
            machine: Machine { host_name: "box".to_owned(), cpus: 4, ..Machine::default() },
            ..Sources::default()
        };
        let text = text(&Config::resolve(&sources).unwrap(), &Loaded::default());
        let line = "for Python: broker_transport_options={\"data_folder_in\": \"/srv/q\", \
                    \"data_folder_out\": \"/srv/q\", \"control_folder\": \"/srv/control\"}";
        assert!(text.contains(line), "{text}");
    }

    #[test]
    fn the_banner_says_what_is_served_and_what_is_not() {
        let tasks = vec![task("images.resize", "Makes a picture smaller."), task("images.rotate_by", "")];
        let images = PluginReport {
            name: "images".to_owned(),
            version: Some("1.2.0".to_owned()),
            warnings: vec!["task `images.resize`: unknown option `colour` is ignored".to_owned()],
            tasks,
            ..PluginReport::default()
        };
        let loaded = Loaded {
            catalog: Catalog::new(images.tasks.iter().map(|task| task.spec.clone())),
            plugins: vec![images],
            refused: vec![Refused { path: "plugins/old.wasm".into(), reason: "it is empty".to_owned(), kept: None }],
        };
        check(
            "amqp://me:secret@box//",
            &loaded,
            expect![[r#"
                |
                | taskhost@box (taskhost <version>)
                |
                | broker       amqp://me:**@box//
                | results      rpc://
                | queues       celery
                | concurrency  4
                | plugins      plugins
                |
                | [images 1.2.0]
                |   . images.resize     Makes a picture smaller.
                |   . images.rotate_by
                |   ! task `images.resize`: unknown option `colour` is ignored
                | refused: plugins/old.wasm
                |   it is empty
                |
            "#]],
        );
    }

    #[test]
    fn the_banner_says_what_to_do_if_there_is_nothing_to_serve() {
        check(
            "sqlite:////var/lib/host.db",
            &Loaded::default(),
            expect![[r#"
                |
                | taskhost@box (taskhost <version>)
                |
                | broker       sqlite:////var/lib/host.db
                |              for Python: sqla+sqlite:////var/lib/host.db
                | results      sqlite:////var/lib/host.db
                |              for Python: db+sqlite:////var/lib/host.db
                | queues       celery
                | concurrency  4
                | plugins      plugins
                |
                | There are no tasks to run: put a plugin (.wasm) into plugins, or name another folder with
                | --plugins, and start again. `host plugin check FILE` says what is wrong with a plugin.
                |
            "#]],
        );
    }
}

//! Plugins as `host plugin list` shows them, of a folder or of a running worker.
//!
//! Only data and its text; what is true is found out elsewhere.

use std::fmt::Write as _;

use sandbox::{Loaded, PluginReport, PluginUsage, Sum};
use serde::{Deserialize, Serialize};

/// All plugins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Plugins {
    /// The worker that serves them; none, if this is only what is in the folder.
    pub(crate) worker: Option<String>,
    pub(crate) plugins: Vec<Plugin>,
    pub(crate) refused: Vec<Refused>,
    /// Since the worker started.
    pub(crate) reloads: Reloads,
}

/// How often plugins were loaded while the worker ran.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reloads {
    pub(crate) done: u64,
    pub(crate) refused: u64,
}

/// One version of a plugin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Plugin {
    pub(crate) name: String,
    /// What the manifest calls it.
    pub(crate) version: Option<String>,
    pub(crate) digest: String,
    pub(crate) state: State,
    pub(crate) tasks: Vec<Task>,
    pub(crate) warnings: Vec<String>,
    /// None, if nothing runs it.
    pub(crate) used: Option<Used>,
}

/// What is done with a version.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    Serving,
    /// A share of the attempts runs on it.
    OnTrial {
        percent: f64,
    },
    /// Its tasks are parked.
    Quarantined,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Task {
    pub(crate) name: String,
    pub(crate) summary: String,
}

/// What its attempts used. Times in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Used {
    pub(crate) attempts: u64,
    pub(crate) failures: u64,
    pub(crate) traps: u64,
    pub(crate) wall: f64,
    pub(crate) cpu: f64,
    pub(crate) memory_bytes_peak: u64,
    pub(crate) host_calls: u64,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
}

/// A file that is not served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Refused {
    pub(crate) path: String,
    pub(crate) reason: String,
    /// The digest of the version that goes on serving in its place.
    pub(crate) kept: Option<String>,
}

impl Plugins {
    pub(crate) fn new(loaded: &Loaded) -> Self {
        let refused = loaded.refused.iter().map(|refused| Refused {
            path: refused.path.display().to_string(),
            reason: refused.reason.clone(),
            kept: refused.kept.as_ref().map(|(_, version)| version.to_string()),
        });
        Self {
            worker: None,
            plugins: loaded.plugins.iter().map(Plugin::new).collect(),
            refused: refused.collect(),
            reloads: Reloads::default(),
        }
    }

    /// Adds what the attempts of a running worker used.
    pub(crate) fn add_usage(&mut self, usage: &[PluginUsage]) {
        for plugin in &mut self.plugins {
            let of =
                |usage: &&PluginUsage| usage.plugin.as_str() == plugin.name && usage.version.as_str() == plugin.digest;
            plugin.used = usage.iter().find(of).map(|usage| Used::new(&usage.whole()));
        }
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for plugin in &self.plugins {
            plugin.write(&mut text);
        }
        for Refused { path, reason, kept } in &self.refused {
            let _ = writeln!(text, " refused: {path}\n   {reason}");
            if let Some(kept) = kept {
                let _ = writeln!(text, "   version {kept} goes on serving in its place");
            }
        }
        if let Some(worker) = &self.worker {
            let Reloads { done, refused } = self.reloads;
            let _ = writeln!(text, " as {worker} serves them now; reloads: {done}, refused: {refused}");
        }
        text
    }
}

impl Plugin {
    fn new(report: &PluginReport) -> Self {
        let task =
            |task: &sandbox::TaskReport| Task { name: task.spec.name.to_string(), summary: task.spec.summary.clone() };
        Self {
            name: report.name.clone(),
            version: report.version.clone(),
            digest: report.digest.as_ref().map(ToString::to_string).unwrap_or_default(),
            state: report.trial.map_or(State::Serving, |terms| State::OnTrial { percent: terms.percent }),
            tasks: report.tasks.iter().map(task).collect(),
            warnings: report.warnings.clone(),
            used: None,
        }
    }

    fn write(&self, text: &mut String) {
        let version = self.version.as_ref().map(|version| format!(" {version}")).unwrap_or_default();
        let state = match self.state {
            State::Serving => String::new(),
            State::OnTrial { percent } => format!("  on trial with {percent} % of the attempts"),
            State::Quarantined => "  IN QUARANTINE: its tasks are parked".to_owned(),
        };
        let _ = writeln!(text, " [{}{version}] {}{state}", self.name, self.digest);
        let width = self.tasks.iter().map(|task| task.name.chars().count()).max().unwrap_or(0);
        for task in &self.tasks {
            let line = format!("   . {:width$}  {}", task.name, task.summary);
            let _ = writeln!(text, "{}", line.trim_end());
        }
        if let Some(used) = self.used.filter(|used| used.attempts > 0) {
            used.write(text);
        }
        for warning in &self.warnings {
            let _ = writeln!(text, "   ! {warning}");
        }
    }
}

impl Used {
    fn new(sum: &Sum) -> Self {
        Self {
            attempts: sum.attempts,
            failures: sum.failures,
            traps: sum.traps,
            wall: sum.wall.as_secs_f64(),
            cpu: sum.cpu.as_secs_f64(),
            memory_bytes_peak: sum.memory_bytes_peak,
            host_calls: sum.host_calls,
            bytes_in: sum.bytes_in,
            bytes_out: sum.bytes_out,
        }
    }

    fn write(&self, text: &mut String) {
        let Self { attempts, failures, traps, cpu, host_calls, .. } = self;
        let mean = |sum: f64| sum * 1e3 / *attempts as f64;
        let _ = writeln!(
            text,
            "   {attempts} attempts, {failures} failed, {traps} of them trapped or out of time; each {:.3} ms, {:.3} ms of \
             CPU; all {cpu:.3} s of CPU",
            mean(self.wall),
            mean(*cpu)
        );
        let _ = writeln!(
            text,
            "   memory at most {} KiB; {host_calls} host calls; {} KiB in, {} KiB out",
            self.memory_bytes_peak.div_ceil(1024),
            self.bytes_in.div_ceil(1024),
            self.bytes_out.div_ceil(1024)
        );
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn plugins_are_shown_with_what_is_done_with_them() {
        let used = Used {
            attempts: 200,
            failures: 3,
            traps: 1,
            wall: 0.5,
            cpu: 0.25,
            memory_bytes_peak: 1_500_000,
            host_calls: 400,
            bytes_in: 9_000,
            bytes_out: 100,
        };
        let task = |name: &str, summary: &str| Task { name: name.to_owned(), summary: summary.to_owned() };
        let plugin = |digest: &str, state, used| Plugin {
            name: "images".to_owned(),
            version: Some("1.2.0".to_owned()),
            digest: digest.to_owned(),
            state,
            tasks: vec![task("images.resize", "Makes a picture smaller."), task("images.rotate_by", "")],
            warnings: vec!["unpinned".to_owned()],
            used,
        };
        let plugins = Plugins {
            worker: Some("taskhost@box".to_owned()),
            plugins: vec![
                plugin("aaaaaaaaaaaa", State::Quarantined, Some(used)),
                plugin("bbbbbbbbbbbb", State::OnTrial { percent: 10.0 }, None),
            ],
            refused: vec![Refused {
                path: "plugins/images.wasm".to_owned(),
                reason: "it is empty".to_owned(),
                kept: Some("aaaaaaaaaaaa".to_owned()),
            }],
            reloads: Reloads { done: 2, refused: 1 },
        };
        expect![[r#"
            .[images 1.2.0] aaaaaaaaaaaa  IN QUARANTINE: its tasks are parked
            .  . images.resize     Makes a picture smaller.
            .  . images.rotate_by
            .  200 attempts, 3 failed, 1 of them trapped or out of time; each 2.500 ms, 1.250 ms of CPU; all 0.250 s of CPU
            .  memory at most 1465 KiB; 400 host calls; 9 KiB in, 1 KiB out
            .  ! unpinned
            .[images 1.2.0] bbbbbbbbbbbb  on trial with 10 % of the attempts
            .  . images.resize     Makes a picture smaller.
            .  . images.rotate_by
            .  ! unpinned
            .refused: plugins/images.wasm
            .  it is empty
            .  version aaaaaaaaaaaa goes on serving in its place
            .as taskhost@box serves them now; reloads: 2, refused: 1
        "#]]
        .assert_eq(&plugins.text().lines().map(|line| format!(".{}\n", &line[1..])).collect::<String>());
    }
}

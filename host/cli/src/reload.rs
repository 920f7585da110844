//! Keeps the plugins of a running worker as they are in their folder: loads what changes, ends trials, and says
//! what it did.
//!
//! Which version an attempt runs on, and when a plugin comes into quarantine, is decided in `core`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sandbox::{Grant, Loaded, Look, Refreshed, Refused, Sandbox, Watch};
use taskhost_core::dispatcher::PluginEvent;
use taskhost_core::rollout::Verdict;
use taskhost_core::{Catalog, PluginName, PluginVersion};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tracing::{error, info, warn};

use crate::local::Request;
use crate::metrics;
use crate::status::{self, Reloads, State};

/// Questions that wait for their turn.
pub(crate) const QUESTIONS_MAX: usize = 8;

/// What is known about the plugins of this worker, for whoever asks.
pub(crate) struct Board {
    worker: String,
    sandbox: Arc<Sandbox>,
    state: Mutex<BoardState>,
    /// There is a verdict to be carried out.
    judged: Notify,
}

#[derive(Default)]
struct BoardState {
    loaded: Loaded,
    reloads: Reloads,
    quarantined: BTreeSet<(PluginName, PluginVersion)>,
    /// At most one of each plugin.
    verdicts: BTreeMap<PluginName, Verdict>,
}

impl Board {
    pub(crate) fn new(worker: String, sandbox: Arc<Sandbox>, loaded: Loaded) -> Self {
        let state = BoardState { loaded, ..BoardState::default() };
        Self { worker, sandbox, state: Mutex::new(state), judged: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, BoardState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often limits were reached, by plugin and key.
    pub(crate) fn reached(&self) -> Vec<metrics::Reached> {
        let counts = self.sandbox.reached().into_iter();
        counts.map(|(plugin, limit, count)| (plugin.to_string(), limit, count)).collect()
    }

    /// All that is known now.
    pub(crate) fn status(&self) -> status::Plugins {
        let usage = self.sandbox.usage();
        let state = self.state();
        let mut plugins = status::Plugins::new(&state.loaded);
        plugins.worker = Some(self.worker.clone());
        plugins.reloads = state.reloads;
        plugins.add_usage(&usage);
        for plugin in &mut plugins.plugins {
            let is_it = |(name, version): &&(PluginName, PluginVersion)| {
                name.as_str() == plugin.name && version.as_str() == plugin.digest
            };
            if state.quarantined.iter().any(|quarantined| is_it(&quarantined)) {
                plugin.state = State::Quarantined;
            }
        }
        plugins
    }
}

impl worker::Plugins for Board {
    fn happened(&self, event: PluginEvent) {
        let mut state = self.state();
        match event {
            PluginEvent::Quarantined { plugin, version, .. } => drop(state.quarantined.insert((plugin, version))),
            PluginEvent::HalfOpen { .. } => {}
            PluginEvent::Recovered { plugin, version } => drop(state.quarantined.remove(&(plugin, version))),
            PluginEvent::Judged(verdict) => {
                state.verdicts.insert(verdict.plugin.clone(), verdict);
                self.judged.notify_one();
            }
        }
    }
}

/// A question of the local socket, and where its answer goes.
pub(crate) type Question = (Request, oneshot::Sender<Result<status::Plugins, String>>);

/// What is granted now, or why nobody knows.
pub(crate) type ReadGrants = Box<dyn Fn() -> Result<BTreeMap<PluginName, Grant>, String> + Send>;

/// Carries all this out.
pub(crate) struct Reloader {
    pub(crate) sandbox: Arc<Sandbox>,
    pub(crate) board: Arc<Board>,
    pub(crate) dir: PathBuf,
    /// False: nothing is loaded unless somebody asks for it.
    pub(crate) watches: bool,
    pub(crate) read_grants: ReadGrants,
    /// Puts the operator's options over those of the plugins.
    pub(crate) adjust: Box<dyn Fn(&Catalog) -> Catalog + Send>,
    pub(crate) catalogs: watch::Sender<Arc<Catalog>>,
    pub(crate) questions: mpsc::Receiver<Question>,
}

impl Reloader {
    /// Runs as long as the worker does.
    pub(crate) async fn run(mut self) {
        let mut watch = Watch::new(&self.dir);
        let mut look_again: Option<Duration> = None;
        let mut asks = true;
        loop {
            let board = self.board.clone();
            tokio::select! {
                () = board.judged.notified() => self.carry_out_verdicts().await,
                question = self.questions.recv(), if asks => match question {
                    Some((request, answer)) => {
                        let answered = self.answer(request).await;
                        // Whoever asked may be gone.
                        let _ = answer.send(answered);
                    }
                    None => asks = false,
                },
                () = watch.changed(look_again), if self.watches => {
                    let refreshed = self.sandbox.refresh(&self.dir, Look::Settled).await;
                    look_again = refreshed.look_again;
                    self.publish_if_changed(refreshed);
                }
            }
        }
    }

    async fn answer(&mut self, request: Request) -> Result<status::Plugins, String> {
        match request {
            Request::Plugins => {}
            Request::Reload => {
                self.sandbox.grant((self.read_grants)()?);
                let refreshed = self.sandbox.refresh(&self.dir, Look::Now).await;
                self.publish_if_changed(refreshed);
            }
        }
        Ok(self.board.status())
    }

    async fn carry_out_verdicts(&mut self) {
        let verdicts = std::mem::take(&mut self.board.state().verdicts);
        for Verdict { plugin, version, promoted, attempts, failures } in verdicts.into_values() {
            let why = format!("{failures} of {attempts} attempts failed");
            let ended = self.sandbox.end_trial(&plugin, &version, (!promoted).then_some(why)).await;
            if let Some(loaded) = ended {
                self.publish(loaded);
            }
        }
    }

    fn publish_if_changed(&mut self, refreshed: Refreshed) {
        if refreshed.changed {
            self.publish(refreshed.loaded);
        }
    }

    fn publish(&mut self, loaded: Loaded) {
        let catalog = Arc::new((self.adjust)(&loaded.catalog));
        {
            let mut state = self.board.state();
            say_what_changed(&state.loaded, &loaded);
            let new = loaded.refused.iter().filter(|refused| !state.loaded.refused.contains(refused)).count() as u64;
            state.reloads.refused += new;
            state.reloads.done += u64::from(versions(&loaded) != versions(&state.loaded));
            let there: BTreeSet<_> = versions(&loaded).into_iter().map(|(name, digest, _)| (name, digest)).collect();
            state.quarantined.retain(|(plugin, version)| there.contains(&(plugin.as_str(), version.as_str())));
            state.loaded = loaded;
        }
        self.catalogs.send_replace(catalog);
    }
}

/// Name, digest and whether it is on trial.
fn versions(loaded: &Loaded) -> BTreeSet<(&str, &str, bool)> {
    loaded
        .plugins
        .iter()
        .map(|report| {
            let digest = report.digest.as_ref().map_or("", PluginVersion::as_str);
            (report.name.as_str(), digest, report.trial.is_some())
        })
        .collect()
}

fn say_what_changed(before: &Loaded, now: &Loaded) {
    let (old, new) = (versions(before), versions(now));
    for (name, digest, on_trial) in new.difference(&old) {
        let report = now.plugins.iter().find(|report| report.name == *name && report.trial.is_some() == *on_trial);
        let terms = report.and_then(|report| report.trial);
        let count = report.map_or(0, |report| report.tasks.len());
        match terms {
            Some(terms) => info!(
                plugin = %name, version = %digest,
                "plugin `{name}`: version {digest} is tried with {} % of the attempts for {} s",
                terms.percent, terms.period.as_secs_f64()
            ),
            None => {
                info!(plugin = %name, version = %digest, "plugin `{name}`: version {digest} serves now, with {count} tasks")
            }
        }
        for warning in report.iter().flat_map(|report| &report.warnings) {
            warn!(plugin = %name, "plugin `{name}`: {warning}");
        }
    }
    let names: BTreeSet<&str> = new.iter().map(|(name, ..)| *name).collect();
    for name in old.iter().map(|(name, ..)| *name).filter(|name| !names.contains(name)).collect::<BTreeSet<_>>() {
        warn!(plugin = %name, "plugin `{name}` is gone: its tasks fare as worker.removed_task says");
    }
    for refused in now.refused.iter().filter(|refused| !before.refused.contains(refused)) {
        let Refused { path, reason, kept } = refused;
        match kept {
            Some((plugin, version)) => error!(
                plugin = %plugin, path = %path.display(),
                "refused {}: {reason}; version {version} of plugin `{plugin}` goes on serving", path.display()
            ),
            None => error!(path = %path.display(), "refused {}: {reason}", path.display()),
        }
    }
}

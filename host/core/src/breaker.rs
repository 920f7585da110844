//! Quarantine: a version of a plugin that traps, times out or exhausts its memory again and again is not
//! run for a while, so that it costs nobody else a slot.
//!
//! Knows nothing of deliveries: what becomes of the tasks of such a plugin is decided elsewhere.

use std::collections::VecDeque;
use std::time::Duration;

use rustc_hash::FxHashMap;

use crate::name::PluginName;
use crate::outcome::AttemptId;
use crate::task::{PluginVersion, TaskSpec};
use crate::timestamp::Timestamp;

/// When a breaker trips, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerRule {
    /// So many violations ..
    pub violations: u32,
    /// .. within this time trip it.
    pub window: Duration,
    /// After this time one attempt may show whether it is better now.
    pub pause: Duration,
}

/// The breakers of all plugins. One is made at the first violation.
#[derive(Debug, Default)]
pub struct Breakers {
    rule: Option<BreakerRule>,
    breakers: FxHashMap<PluginName, Vec<Breaker>>,
}

#[derive(Debug)]
struct Breaker {
    version: PluginVersion,
    /// The latest violations, the oldest first; no more than trip it.
    violations: VecDeque<Timestamp>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Everything runs.
    Closed,
    /// Nothing runs.
    Open,
    /// The next attempt shows how it is.
    HalfOpen,
    /// That attempt runs, and nothing else.
    Trying(AttemptId),
}

/// Whether an attempt may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passage {
    Free,
    /// It may, and shows whether others may.
    Trial,
    Closed,
}

/// What an attempt did to its breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turned {
    /// It tripped: nothing runs for the time of the rule's pause. False, if that was a trial after such a pause.
    Open { first: bool },
    /// It closed: everything runs again.
    Closed,
}

impl Breakers {
    /// Breakers with this rule; none trips without one.
    pub fn new(rule: Option<BreakerRule>) -> Self {
        Self { rule, breakers: FxHashMap::default() }
    }

    /// The rule.
    pub fn rule(&self) -> Option<BreakerRule> {
        self.rule
    }

    /// Whether an attempt of this task may start now.
    pub fn passage(&self, spec: &TaskSpec) -> Passage {
        if self.breakers.is_empty() {
            return Passage::Free;
        }
        match self.get(&spec.plugin, &spec.version).map(|breaker| breaker.state) {
            None | Some(State::Closed) => Passage::Free,
            Some(State::HalfOpen) => Passage::Trial,
            Some(State::Open | State::Trying(_)) => Passage::Closed,
        }
    }

    /// This attempt is the trial.
    pub fn try_with(&mut self, spec: &TaskSpec, attempt: AttemptId) {
        if let Some(breaker) = self.get_mut(&spec.plugin, &spec.version) {
            breaker.state = State::Trying(attempt);
        }
    }

    /// An attempt ended. `violated` is none if it says nothing about the plugin.
    pub fn finished(
        &mut self,
        spec: &TaskSpec,
        attempt: AttemptId,
        violated: Option<bool>,
        now: Timestamp,
    ) -> Option<Turned> {
        let rule = self.rule?;
        if violated == Some(true) {
            return self.violated(rule, spec, attempt, now);
        }
        if self.breakers.is_empty() {
            return None;
        }
        let breaker = self.get_mut(&spec.plugin, &spec.version)?;
        if breaker.state != State::Trying(attempt) {
            return None;
        }
        if violated.is_none() {
            breaker.state = State::HalfOpen;
            return None;
        }
        self.forget(&spec.plugin, &spec.version);
        Some(Turned::Closed)
    }

    fn violated(&mut self, rule: BreakerRule, spec: &TaskSpec, attempt: AttemptId, now: Timestamp) -> Option<Turned> {
        let versions = self.breakers.entry(spec.plugin.clone()).or_default();
        let at = versions.iter().position(|breaker| breaker.version == spec.version).unwrap_or_else(|| {
            let (version, violations) = (spec.version.clone(), VecDeque::new());
            versions.push(Breaker { version, violations, state: State::Closed });
            versions.len() - 1
        });
        let breaker = &mut versions[at];
        match breaker.state {
            State::Trying(trial) if trial == attempt => {
                breaker.state = State::Open;
                Some(Turned::Open { first: false })
            }
            // It began before the breaker tripped.
            State::Open | State::HalfOpen | State::Trying(_) => None,
            State::Closed => {
                breaker.violations.retain(|at| now.since(*at) < rule.window);
                breaker.violations.push_back(now);
                if breaker.violations.len() < rule.violations as usize {
                    return None;
                }
                breaker.violations.clear();
                breaker.state = State::Open;
                Some(Turned::Open { first: true })
            }
        }
    }

    /// The pause of a plugin is over. True if the next attempt is a trial.
    pub fn half_open(&mut self, plugin: &PluginName, version: &PluginVersion) -> bool {
        match self.get_mut(plugin, version) {
            Some(breaker) if breaker.state == State::Open => {
                breaker.state = State::HalfOpen;
                true
            }
            _ => false,
        }
    }

    /// Keeps what is known about these versions, and nothing about others: a new version begins anew.
    pub fn retain(&mut self, is_served: impl Fn(&PluginName, &PluginVersion) -> bool) {
        self.breakers.retain(|plugin, versions| {
            versions.retain(|breaker| is_served(plugin, &breaker.version));
            !versions.is_empty()
        });
    }

    /// True if tasks of this plugin cannot run now.
    pub fn is_open(&self, spec: &TaskSpec) -> bool {
        self.passage(spec) == Passage::Closed
    }

    fn forget(&mut self, plugin: &PluginName, version: &PluginVersion) {
        if let Some(versions) = self.breakers.get_mut(plugin) {
            versions.retain(|breaker| breaker.version != *version);
            if versions.is_empty() {
                self.breakers.remove(plugin);
            }
        }
    }

    fn get(&self, plugin: &PluginName, version: &PluginVersion) -> Option<&Breaker> {
        self.breakers.get(plugin)?.iter().find(|breaker| breaker.version == *version)
    }

    fn get_mut(&mut self, plugin: &PluginName, version: &PluginVersion) -> Option<&mut Breaker> {
        self.breakers.get_mut(plugin)?.iter_mut().find(|breaker| breaker.version == *version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatcher::fixture::spec;
    use crate::task::TaskOptions;

    const RULE: BreakerRule =
        BreakerRule { violations: 3, window: Duration::from_secs(60), pause: Duration::from_secs(30) };

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    fn version(text: &str) -> TaskSpec {
        TaskSpec { version: PluginVersion::of(text), ..spec("tasks.add", TaskOptions::default()) }
    }

    fn tripped() -> Breakers {
        let mut breakers = Breakers::new(Some(RULE));
        for second in 0..2 {
            assert_eq!(breakers.finished(&version("a"), AttemptId(1), Some(true), at(second)), None);
            assert_eq!(breakers.passage(&version("a")), Passage::Free);
        }
        let turned = breakers.finished(&version("a"), AttemptId(1), Some(true), at(2));
        assert_eq!(turned, Some(Turned::Open { first: true }));
        breakers
    }

    #[test]
    fn so_many_violations_within_the_window_trip_it_and_not_over_a_longer_time() {
        let breakers = tripped();
        assert_eq!(breakers.passage(&version("a")), Passage::Closed);
        assert_eq!(breakers.passage(&version("b")), Passage::Free);
        let mut slow = Breakers::new(Some(RULE));
        for second in [0, 40, 80, 120, 160] {
            assert_eq!(slow.finished(&version("a"), AttemptId(1), Some(true), at(second)), None);
        }
        let mut off = Breakers::new(None);
        for _ in 0..10 {
            assert_eq!(off.finished(&version("a"), AttemptId(1), Some(true), at(0)), None);
        }
    }

    #[test]
    fn after_the_pause_one_attempt_shows_whether_others_may_run() {
        let (a, demo) = (version("a"), version("a").plugin);
        for (violated, turned, passage) in [
            (Some(true), Some(Turned::Open { first: false }), Passage::Closed),
            (Some(false), Some(Turned::Closed), Passage::Free),
            // It was stopped with the worker, or given back.
            (None, None, Passage::Trial),
        ] {
            let mut breakers = tripped();
            assert!(breakers.half_open(&demo, &a.version));
            assert_eq!(breakers.passage(&a), Passage::Trial);
            breakers.try_with(&a, AttemptId(7));
            assert!(breakers.is_open(&a));
            // Others that began before say nothing.
            assert_eq!(breakers.finished(&a, AttemptId(6), Some(true), at(40)), None);
            assert_eq!(breakers.finished(&a, AttemptId(6), Some(false), at(40)), None);
            assert_eq!(breakers.finished(&a, AttemptId(7), violated, at(41)), turned);
            assert_eq!(breakers.passage(&a), passage);
        }
    }

    #[test]
    fn a_new_version_begins_anew() {
        let mut breakers = tripped();
        breakers.retain(|_, version| version.as_str() == "b");
        assert_eq!(breakers.passage(&version("a")), Passage::Free);
        assert!(!breakers.half_open(&version("a").plugin, &version("a").version));
    }
}

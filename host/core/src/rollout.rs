//! Canaries: counts how the attempts of a version on trial end, and says when it has shown itself.
//!
//! Which attempt runs on it is decided by chance, that is an argument; what is done about a verdict is
//! somebody else's business.

use rustc_hash::FxHashMap;

use crate::catalog::{Catalog, Rollout};
use crate::name::PluginName;
use crate::task::{PluginVersion, TaskSpec};
use crate::timestamp::{Jitter, Timestamp};

/// Fewer attempts than these say too little to end a trial before its time.
pub const ATTEMPTS_MIN: u32 = 10;

/// The trials that go on.
#[derive(Debug, Default)]
pub struct Trials(FxHashMap<PluginName, Trial>);

#[derive(Debug)]
struct Trial {
    rollout: Rollout,
    until: Timestamp,
    attempts: u32,
    failures: u32,
    /// It has ended, and the catalog that says so is on its way.
    over: Option<bool>,
}

/// What came of a trial.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    pub plugin: PluginName,
    pub version: PluginVersion,
    /// The version serves alone from now on, or is taken back.
    pub promoted: bool,
    pub attempts: u32,
    pub failures: u32,
}

impl Trials {
    /// Goes on with those of this catalog, and says when new ones are to end. What is known about one that
    /// went on before is kept.
    pub fn begin(&mut self, catalog: &Catalog, now: Timestamp) -> Vec<(PluginName, Timestamp)> {
        let mut new = Vec::new();
        let mut before = std::mem::take(&mut self.0);
        for (plugin, rollout) in catalog.rollouts() {
            let trial = before.remove(plugin).filter(|trial| trial.rollout == *rollout).unwrap_or_else(|| {
                let until = now + rollout.terms.period;
                new.push((plugin.clone(), until));
                Trial { rollout: rollout.clone(), until, attempts: 0, failures: 0, over: None }
            });
            self.0.insert(plugin.clone(), trial);
        }
        new.sort();
        new
    }

    /// True if this attempt is to run on the version that is on trial.
    pub fn takes(&self, plugin: &PluginName, Jitter(chance): Jitter) -> bool {
        self.0.get(plugin).is_some_and(|trial| match trial.over {
            None => chance * 100.0 < trial.rollout.terms.percent,
            Some(promoted) => promoted,
        })
    }

    /// An attempt ended; it failed, or it did not.
    pub fn finished(&mut self, spec: &TaskSpec, failed: bool) -> Option<Verdict> {
        if self.0.is_empty() {
            return None;
        }
        let trial = self.0.get_mut(&spec.plugin)?;
        if trial.over.is_some() || trial.rollout.version != spec.version {
            return None;
        }
        trial.attempts += 1;
        trial.failures += u32::from(failed);
        let is_clear = failed && trial.attempts >= ATTEMPTS_MIN && trial.is_failing();
        is_clear.then(|| trial.end(&spec.plugin, false))
    }

    /// The version has tripped its breaker.
    pub fn tripped(&mut self, spec: &TaskSpec) -> Option<Verdict> {
        let trial = self.0.get_mut(&spec.plugin)?;
        (trial.over.is_none() && trial.rollout.version == spec.version).then(|| trial.end(&spec.plugin, false))
    }

    /// The time of a trial may be over.
    pub fn due(&mut self, plugin: &PluginName, now: Timestamp) -> Option<Verdict> {
        let trial = self.0.get_mut(plugin)?;
        if trial.over.is_some() || now < trial.until {
            return None;
        }
        let promoted = !trial.is_failing();
        Some(trial.end(plugin, promoted))
    }
}

impl Trial {
    fn is_failing(&self) -> bool {
        f64::from(self.failures) > f64::from(self.attempts) * self.rollout.terms.max_failure_rate
    }

    fn end(&mut self, plugin: &PluginName, promoted: bool) -> Verdict {
        self.over = Some(promoted);
        let (attempts, failures) = (self.attempts, self.failures);
        Verdict { plugin: plugin.clone(), version: self.rollout.version.clone(), promoted, attempts, failures }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::catalog::RolloutTerms;
    use crate::dispatcher::fixture::spec;
    use crate::task::TaskOptions;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    fn version(text: &str) -> TaskSpec {
        TaskSpec { version: PluginVersion::of(text), ..spec("tasks.add", TaskOptions::default()) }
    }

    fn trials() -> (Trials, PluginName) {
        let (mut trials, demo) = (Trials::default(), version("a").plugin);
        let terms = RolloutTerms { percent: 10.0, period: Duration::from_secs(300), max_failure_rate: 0.2 };
        let mut catalog = Catalog::new([version("a")]);
        catalog.try_out(demo.clone(), Rollout { version: version("b").version, terms }, [version("b")]);
        assert_eq!(trials.begin(&catalog, at(0)), [(demo.clone(), at(300))]);
        // The same catalog with another plugin changed.
        assert_eq!(trials.begin(&catalog, at(10)), []);
        (trials, demo)
    }

    #[test]
    fn a_share_of_the_attempts_runs_on_it() {
        let (mut trials, demo) = trials();
        assert!(trials.takes(&demo, Jitter(0.09)));
        assert!(!trials.takes(&demo, Jitter(0.1)));
        // Once it is over, all or none, until the catalog says so.
        assert!(trials.due(&demo, at(300)).is_some());
        assert!(trials.takes(&demo, Jitter(0.99)));
        trials.begin(&Catalog::new([version("b")]), at(301));
        assert!(!trials.takes(&demo, Jitter(0.0)));
    }

    #[test]
    fn what_fails_too_often_is_taken_back_at_once_and_what_does_not_is_promoted_in_time() {
        // Attempts, failures among them (the last ones), whether it is over before its time, and promoted.
        for (attempts, failures, early, promoted) in [
            (9, 9, false, false),
            (10, 3, true, false),
            (10, 2, false, true),
            (0, 0, false, true),
            (4, 1, false, false),
        ] {
            let (mut trials, demo) = trials();
            let verdicts = (0..attempts).map(|n| trials.finished(&version("b"), n >= attempts - failures));
            let verdict = verdicts.collect::<Vec<_>>().into_iter().flatten().next();
            assert_eq!(verdict.is_some(), early, "{attempts} {failures}");
            assert_eq!(trials.due(&demo, at(299)), None);
            let verdict = verdict.or_else(|| trials.due(&demo, at(300))).expect("its time is over");
            let version = version("b").version;
            assert_eq!(verdict, Verdict { plugin: demo.clone(), version, promoted, attempts, failures });
            assert_eq!(trials.due(&demo, at(400)), None, "once is enough");
        }
    }

    #[test]
    fn other_versions_say_nothing_and_a_breaker_ends_it() {
        let (mut trials, _) = trials();
        for _ in 0..20 {
            assert_eq!(trials.finished(&version("a"), true), None);
        }
        assert_eq!(trials.tripped(&version("a")), None);
        assert_eq!(trials.tripped(&version("b")).map(|verdict| verdict.promoted), Some(false));
        assert_eq!(trials.tripped(&version("b")), None);
    }
}

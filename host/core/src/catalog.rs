//! Which tasks can be run now, and on which version of their plugins.
//!
//! An immutable snapshot that is replaced as a whole, whenever a plugin comes, goes or changes.

use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashMap;

use crate::name::{PluginName, TaskName};
use crate::task::{PluginVersion, TaskSpec};

/// All tasks that can be run now.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    tasks: FxHashMap<TaskName, Offer>,
    /// Celery's own, which no plugin brings.
    builtins: FxHashMap<TaskName, Arc<TaskSpec>>,
    rollouts: FxHashMap<PluginName, Rollout>,
}

/// What there is for one task.
#[derive(Debug, Clone)]
struct Offer {
    spec: Arc<TaskSpec>,
    /// The task in a version that is on trial.
    candidate: Option<Arc<TaskSpec>>,
}

/// A version that is on trial: a share of the attempts runs on it until it has shown itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Rollout {
    pub version: PluginVersion,
    pub terms: RolloutTerms,
}

/// How a new version is tried (`[rollout]` of a manifest).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RolloutTerms {
    /// How much of a hundred attempts runs on it.
    pub percent: f64,
    /// For how long it is tried.
    pub period: Duration,
    /// It is taken back once more of its attempts fail, between 0 and 1.
    pub max_failure_rate: f64,
}

impl Catalog {
    /// A catalog of these tasks. Of two with the same name the later one is kept; whoever builds a
    /// catalog refuses a clash before.
    pub fn new(tasks: impl IntoIterator<Item = TaskSpec>) -> Self {
        let offer = |spec| Offer { spec: Arc::new(spec), candidate: None };
        let tasks = tasks.into_iter().map(|spec: TaskSpec| (spec.name.clone(), offer(spec))).collect();
        Self { tasks, ..Self::default() }
    }

    /// With tasks that are there whatever plugins there are. A plugin's own of the same name counts more.
    pub fn with_builtins(mut self, builtins: impl IntoIterator<Item = TaskSpec>) -> Self {
        self.builtins = builtins.into_iter().map(|spec| (spec.name.clone(), Arc::new(spec))).collect();
        self
    }

    /// Adds a version that is on trial, with its tasks. Those that the version before it does not have run
    /// on it alone; those that it does not have any more run on the one before.
    pub fn try_out(&mut self, plugin: PluginName, rollout: Rollout, tasks: impl IntoIterator<Item = TaskSpec>) {
        for spec in tasks {
            let spec = Arc::new(spec);
            match self.tasks.get_mut(&spec.name) {
                Some(offer) => offer.candidate = Some(spec),
                None => drop(self.tasks.insert(spec.name.clone(), Offer { spec, candidate: None })),
            }
        }
        self.rollouts.insert(plugin, rollout);
    }

    /// The same tasks with other options, or whatever else this does to them.
    pub fn map(&self, adjust: impl Fn(&TaskSpec) -> TaskSpec) -> Self {
        let adjust = |spec: &Arc<TaskSpec>| Arc::new(adjust(spec));
        let offer =
            |offer: &Offer| Offer { spec: adjust(&offer.spec), candidate: offer.candidate.as_ref().map(adjust) };
        let tasks = self.tasks.iter().map(|(name, task)| (name.clone(), offer(task))).collect();
        let builtins = self.builtins.iter().map(|(name, spec)| (name.clone(), adjust(spec))).collect();
        Self { tasks, builtins, rollouts: self.rollouts.clone() }
    }

    /// The task of that name.
    pub fn get(&self, name: &TaskName) -> Option<&Arc<TaskSpec>> {
        self.tasks.get(name).map(|offer| &offer.spec).or_else(|| self.builtins.get(name))
    }

    /// The task of that name in the version that is on trial, if it is in both.
    pub fn candidate(&self, name: &TaskName) -> Option<&Arc<TaskSpec>> {
        self.tasks.get(name).and_then(|offer| offer.candidate.as_ref())
    }

    /// What is on trial.
    pub fn rollouts(&self) -> impl Iterator<Item = (&PluginName, &Rollout)> {
        self.rollouts.iter()
    }

    /// True if nothing is on trial.
    pub fn is_settled(&self) -> bool {
        self.rollouts.is_empty()
    }

    /// All tasks of plugins, in no order.
    pub fn tasks(&self) -> impl Iterator<Item = &Arc<TaskSpec>> {
        self.tasks.values().map(|offer| &offer.spec)
    }

    /// Celery's own tasks, but for those that a plugin has as well, in no order.
    pub fn builtins(&self) -> impl Iterator<Item = &Arc<TaskSpec>> {
        self.builtins.values().filter(|spec| !self.tasks.contains_key(&spec.name))
    }

    /// True if no plugin has a task.
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builtin;
    use crate::dispatcher::fixture::spec;
    use crate::task::TaskOptions;

    fn of(version: &str, task: &str) -> TaskSpec {
        TaskSpec { version: PluginVersion::of(version), ..spec(task, TaskOptions::default()) }
    }

    #[test]
    fn a_version_on_trial_stands_beside_the_one_before() {
        let mut catalog = Catalog::new([of("old", "both"), of("old", "gone")]);
        assert!(catalog.is_settled());
        let terms = RolloutTerms { percent: 10.0, period: Duration::from_secs(60), max_failure_rate: 0.1 };
        let rollout = Rollout { version: PluginVersion::of("new"), terms };
        let demo = PluginName::parse("demo").expect("a name");
        catalog.try_out(demo.clone(), rollout.clone(), [of("new", "both"), of("new", "added")]);

        let name = |text: &str| TaskName::parse(text).expect("a name");
        let now = |task: &str| catalog.get(&name(task)).map(|spec| spec.version.to_string());
        let next = |task: &str| catalog.candidate(&name(task)).map(|spec| spec.version.to_string());
        assert_eq!((now("both"), next("both")), (Some("old".to_owned()), Some("new".to_owned())));
        assert_eq!((now("gone"), next("gone")), (Some("old".to_owned()), None));
        assert_eq!((now("added"), next("added")), (Some("new".to_owned()), None));
        assert_eq!(catalog.rollouts().collect::<Vec<_>>(), [(&demo, &rollout)]);
        assert_eq!(catalog.tasks().count(), 3);
    }

    #[test]
    fn celerys_own_tasks_stand_behind_those_of_plugins() {
        let builtins = || builtin::specs(Duration::from_secs(1));
        assert!(Catalog::default().with_builtins(builtins()).is_empty(), "they are nothing to start a worker for");
        let catalog = Catalog::new([of("a", "celery.ping"), of("a", "tasks.add")]).with_builtins(builtins());
        let catalog = catalog.map(|spec| TaskSpec { summary: "adjusted".to_owned(), ..spec.clone() });
        let owner = |task: &str| catalog.get(&TaskName::parse(task).expect("a name")).map(|it| it.plugin.to_string());
        assert_eq!(owner("celery.map").as_deref(), Some("celery"));
        assert_eq!(owner("celery.ping").as_deref(), Some("demo"));
        assert_eq!(catalog.tasks().count(), 2);
        assert_eq!(catalog.builtins().count(), builtins().count() - 1);
        assert!(catalog.builtins().all(|spec| spec.summary == "adjusted"));
    }
}

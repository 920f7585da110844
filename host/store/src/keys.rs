//! The keys under which Celery's stores of documents keep them: `KeyValueStoreBackend` of celery/backends/base.py.

use taskhost_core::TaskId;

/// What keys begin with.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    pub(crate) task: String,
    pub(crate) group: String,
    /// Of a chord whose members are counted.
    pub(crate) chord: String,
}

impl Keys {
    /// With a prefix of all of them, as `_add_global_keyprefix` makes it.
    pub(crate) fn new(global: Option<&str>) -> Self {
        let global = global.unwrap_or_default();
        let separator = if global.is_empty() || global.ends_with([':', '_', '-', '.']) { "" } else { "_" };
        let prefix = |kind: &str| format!("{global}{separator}{kind}");
        Self {
            task: prefix("celery-task-meta-"),
            group: prefix("celery-taskset-meta-"),
            chord: prefix("chord-unlock-"),
        }
    }

    /// The key of a task.
    pub(crate) fn of(&self, id: &TaskId) -> String {
        [self.task.as_str(), id.as_str()].concat()
    }

    /// The key of a group, or of what is kept about its chord.
    pub(crate) fn of_group(&self, group: &str, suffix: &str) -> String {
        [self.group.as_str(), group, suffix].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_parted_from_what_follows() {
        for (global, expected) in [
            (None, "celery-task-meta-a"),
            (Some(""), "celery-task-meta-a"),
            (Some("app"), "app_celery-task-meta-a"),
            (Some("app:"), "app:celery-task-meta-a"),
            (Some("app_"), "app_celery-task-meta-a"),
            (Some("app-"), "app-celery-task-meta-a"),
            (Some("app."), "app.celery-task-meta-a"),
        ] {
            let id = TaskId::parse("a").expect("it is an id");
            assert_eq!(Keys::new(global).of(&id), expected, "{global:?}");
        }
        let keys = Keys::new(Some("app"));
        assert_eq!(keys.of_group("g", ".j"), "app_celery-taskset-meta-g.j");
        assert_eq!(keys.chord, "app_chord-unlock-");
    }
}

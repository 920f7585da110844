//! What is measured side by side: which worker, on which broker, with or without results.

use std::fmt;

/// One line of the table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lane {
    pub(crate) setting: Setting,
    pub(crate) who: Who,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    Bare,
    /// With the same prefetch as the others, and more attempts at a time than processors.
    Host,
    /// As the host, and tells monitors what happens to each task.
    Events,
    /// As it is without any option.
    Defaults,
    Celery,
}

/// Where messages come from, and whether anybody wants results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Setting {
    pub(crate) broker: Broker,
    /// In Redis, or in the same file; without, the messages say that nobody wants the result.
    pub(crate) results: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broker {
    Classic,
    Quorum,
    Redis,
    /// The host's own file.
    Embedded,
}

const BROKERS: [Broker; 4] = [Broker::Classic, Broker::Quorum, Broker::Redis, Broker::Embedded];
const CONTENDERS: [Who; 5] = [Who::Bare, Who::Host, Who::Events, Who::Defaults, Who::Celery];

/// All lanes, in the order in which they are measured and shown.
pub(crate) fn all() -> Vec<Lane> {
    let settings = BROKERS.into_iter().flat_map(|broker| [true, false].map(|results| Setting { broker, results }));
    // The embedded file reaches no monitors.
    let exists = |lane: &Lane| lane.who != Who::Events || lane.setting.broker != Broker::Embedded;
    settings.flat_map(|setting| CONTENDERS.map(|who| Lane { setting, who })).filter(exists).collect()
}

impl Lane {
    /// So many tasks keep the worker busy for some seconds on two processors.
    pub(crate) fn tasks(self) -> u64 {
        match (self.who, self.setting.broker) {
            (Who::Celery, Broker::Embedded) => 1_000,
            (Who::Celery, _) => 4_000,
            (_, Broker::Classic | Broker::Quorum) => 60_000,
            (_, Broker::Redis) => 120_000,
            (_, Broker::Embedded) => 40_000,
        }
    }
}

/// What `--only` looks at: `redis-results-host`.
impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let broker = match self.setting.broker {
            Broker::Classic => "classic",
            Broker::Quorum => "quorum",
            Broker::Redis => "redis",
            Broker::Embedded => "embedded",
        };
        let results = if self.setting.results { "results" } else { "ignored" };
        let who = match self.who {
            Who::Bare => "bare",
            Who::Host => "host",
            Who::Events => "events",
            Who::Defaults => "defaults",
            Who::Celery => "celery",
        };
        write!(f, "{broker}-{results}-{who}")
    }
}

impl Who {
    pub(crate) fn title(self, broker: Broker) -> &'static str {
        match self {
            Self::Bare => match broker {
                Broker::Classic | Broker::Quorum => "bare loop on lapin",
                Broker::Redis => "bare loop on redis",
                Broker::Embedded => "bare loop on rusqlite",
            },
            Self::Host => "host",
            Self::Events => "host, events on (-E)",
            Self::Defaults => "host, default settings",
            Self::Celery => "Celery prefork",
        }
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (broker, store) = match self.broker {
            Broker::Classic => ("RabbitMQ, durable classic queue", "results in Redis"),
            Broker::Quorum => ("RabbitMQ, quorum queue", "results in Redis"),
            Broker::Redis => ("Redis", "results in another database of it"),
            Broker::Embedded => ("embedded SQLite file", "results in it"),
        };
        write!(f, "{broker}, {}", if self.results { store } else { "results ignored" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_lane_has_a_name_of_its_own() {
        let mut names: Vec<String> = all().iter().map(Lane::to_string).collect();
        assert_eq!(names.len(), 38);
        assert!(names.contains(&"quorum-ignored-defaults".to_owned()));
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 38);
    }
}

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
    pub(crate) results: Results,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Results {
    /// In Redis, or in the same file.
    Beside,
    /// The messages say that nobody wants them.
    Ignored,
    PostgreSql,
    MySql,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broker {
    Classic,
    Quorum,
    Redis,
    /// The host's own file.
    Embedded,
    /// An emulator, which is slower than any worker: only CPU times say something.
    Sqs,
}

const BROKERS: [Broker; 5] = [Broker::Classic, Broker::Quorum, Broker::Redis, Broker::Embedded, Broker::Sqs];
const CONTENDERS: [Who; 5] = [Who::Bare, Who::Host, Who::Events, Who::Defaults, Who::Celery];

/// All lanes, in the order in which they are measured and shown.
pub(crate) fn all() -> Vec<Lane> {
    let both = [Results::Beside, Results::Ignored];
    let settings = BROKERS.into_iter().flat_map(|broker| both.map(|results| Setting { broker, results }));
    let databases = [Results::PostgreSql, Results::MySql].map(|results| Setting { broker: Broker::Redis, results });
    let exists = |lane: &Lane| match lane.who {
        // The embedded file and SQS reach no monitors.
        Who::Events => !matches!(lane.setting.broker, Broker::Embedded | Broker::Sqs),
        // One option of the worker is no other with every store.
        Who::Defaults => !matches!(lane.setting.results, Results::PostgreSql | Results::MySql),
        _ => true,
    };
    settings.chain(databases).flat_map(|setting| CONTENDERS.map(|who| Lane { setting, who })).filter(exists).collect()
}

impl Lane {
    /// So many tasks keep the worker busy for some seconds on two processors.
    pub(crate) fn tasks(self) -> u64 {
        match (self.who, self.setting.broker) {
            (Who::Celery, Broker::Embedded | Broker::Sqs) => 1_000,
            (_, Broker::Sqs) => 3_000,
            (Who::Celery, _) if self.setting.is_in_a_database() => 2_000,
            (_, Broker::Redis) if self.setting.is_in_a_database() => 30_000,
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
            Broker::Sqs => "sqs",
        };
        let results = match self.setting.results {
            Results::Beside => "results",
            Results::Ignored => "ignored",
            Results::PostgreSql => "postgresql",
            Results::MySql => "mysql",
        };
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
                Broker::Sqs => "bare loop on aws-sdk-sqs",
            },
            Self::Host => "host",
            Self::Events => "host, events on (-E)",
            Self::Defaults => "host, default settings",
            Self::Celery => "Celery prefork",
        }
    }
}

impl Setting {
    /// True if results go into a database server.
    pub(crate) fn is_in_a_database(self) -> bool {
        matches!(self.results, Results::PostgreSql | Results::MySql)
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let broker = match self.broker {
            Broker::Classic => "RabbitMQ, durable classic queue",
            Broker::Quorum => "RabbitMQ, quorum queue",
            Broker::Redis => "Redis",
            Broker::Embedded => "embedded SQLite file",
            Broker::Sqs => "SQS, emulated",
        };
        let results = match (self.results, self.broker) {
            (Results::Beside, Broker::Redis) => "results in another database of it",
            (Results::Beside, Broker::Embedded) => "results in it",
            (Results::Beside, _) => "results in Redis",
            (Results::Ignored, _) => "results ignored",
            (Results::PostgreSql, _) => "results in PostgreSQL",
            (Results::MySql, _) => "results in MariaDB",
        };
        write!(f, "{broker}, {results}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LANES: usize = 54;

    #[test]
    fn every_lane_has_a_name_of_its_own() {
        let mut names: Vec<String> = all().iter().map(Lane::to_string).collect();
        assert_eq!(names.len(), LANES);
        assert!(names.contains(&"quorum-ignored-defaults".to_owned()));
        names.sort();
        names.dedup();
        assert_eq!(names.len(), LANES);
    }
}

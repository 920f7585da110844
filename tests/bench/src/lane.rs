//! What is measured side by side: which worker, on which servers, with or without results.

/// One line of the table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lane {
    /// What `--only` calls it.
    pub(crate) name: &'static str,
    pub(crate) who: Who,
    pub(crate) setting: Setting,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    Bare,
    Host,
    Celery,
}

/// Where messages come from and results go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Setting {
    Results,
    /// The messages say that nobody wants the result.
    Ignored,
    /// Messages and results in the host's own file.
    Embedded,
}

const fn lane(name: &'static str, who: Who, setting: Setting) -> Lane {
    Lane { name, who, setting }
}

/// All lanes, in the order in which they are measured and shown.
pub(crate) const LANES: &[Lane] = &[
    lane("bare", Who::Bare, Setting::Results),
    lane("host", Who::Host, Setting::Results),
    lane("celery", Who::Celery, Setting::Results),
    lane("bare-ignored", Who::Bare, Setting::Ignored),
    lane("host-ignored", Who::Host, Setting::Ignored),
    lane("celery-ignored", Who::Celery, Setting::Ignored),
    lane("host-embedded", Who::Host, Setting::Embedded),
];

impl Who {
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Bare => "bare lapin + redis loop",
            Self::Host => "host",
            Self::Celery => "Celery prefork",
        }
    }
}

impl Setting {
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Results => "RabbitMQ, results in Redis",
            Self::Ignored => "RabbitMQ, results ignored",
            Self::Embedded => "embedded file, results in it",
        }
    }
}

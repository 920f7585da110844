//! What the dispatcher tells about what it has (celery/worker/control.py, the inspect commands).
//!
//! Keeps nothing for it but counts: whoever asks has everything walked through.

use rustc_hash::{FxHashMap, FxHashSet};

use crate::control::{self, RequestInfo, queue_facts};
use crate::name::{NAME_BYTES_MAX, TaskId, TaskName};
use crate::outcome::DeliveryId;
use crate::protocol::content::{Json, ListWriter, MapWriter};
use crate::rate::Rate;
use crate::request::Request;
use crate::task::TaskSpec;
use crate::timestamp::Timestamp;

use super::Dispatcher;
use super::queues::QueueState;
use super::stage::{Stage, Tracked};

/// What Celery gives to the timer that waits for an ETA (celery/worker/strategy.py).
const ETA_PRIORITY: i64 = 6;

/// How many names are counted each for itself. Clients can make up names (`shadow`).
const NAMES_MAX: usize = 10_000;

/// How often each task was started, by the name that is shown.
#[derive(Debug, Default)]
pub(super) struct Totals(FxHashMap<Box<str>, u64>);

impl Totals {
    /// One was started.
    pub(super) fn count(&mut self, request: &Request) {
        let name = request.display_name();
        if let Some(count) = self.0.get_mut(name) {
            *count += 1;
            return;
        }
        let is_plain = self.0.len() < NAMES_MAX && name.len() <= NAME_BYTES_MAX;
        let name = if is_plain { name } else { request.task.as_str() };
        *self.0.entry(name.into()).or_default() += 1;
    }

    fn to_json(&self) -> Json {
        let mut totals: Vec<_> = self.0.iter().collect();
        totals.sort_unstable();
        Json::object(totals)
    }
}

/// Where a request stands, in Celery's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Active,
    Reserved,
    Scheduled,
}

impl Dispatcher {
    pub(super) fn active(&self, safe: bool) -> Json {
        self.list(Standing::Active, safe)
    }

    pub(super) fn reserved_requests(&self) -> Json {
        self.list(Standing::Reserved, false)
    }

    pub(super) fn scheduled(&self, now: Timestamp) -> Json {
        let mut list = ListWriter::new();
        let mut push = |eta: Option<Timestamp>, request: &Json| {
            let mut entry = MapWriter::new();
            let eta = eta.map(Timestamp::isoformat);
            entry.put("eta", &eta).put("priority", &ETA_PRIORITY).put("request", request);
            list.push(&entry.finish());
        };
        for (_, tracked, request) in self.standing(Standing::Scheduled) {
            push(request.eta, &self.info(tracked, request, false));
        }
        for (until, info) in self.away.iter(now) {
            push(Some(until), info);
        }
        list.finish()
    }

    pub(super) fn query(&self, ids: &[TaskId], now: Timestamp) -> Json {
        let mut found = MapWriter::new();
        let wanted: FxHashSet<&TaskId> = ids.iter().collect();
        let mut known = FxHashSet::default();
        for (standing, name) in
            [(Standing::Active, "active"), (Standing::Reserved, "reserved"), (Standing::Scheduled, "scheduled")]
        {
            for (_, tracked, request) in self.standing(standing) {
                if wanted.contains(&request.id) && known.insert(request.id.clone()) {
                    let info = self.info(tracked, request, false);
                    found.put(request.id.as_str(), &Json::array([Json::text(name), info]));
                }
            }
        }
        for id in ids.iter().filter(|id| !known.contains(*id)) {
            if let Some((_, info)) = self.away.get(id, now) {
                found.put(id.as_str(), &Json::array([Json::text("scheduled"), info.clone()]));
            }
        }
        found.finish()
    }

    /// Sorted names with attributes. Names that begin as Celery's own tasks do are hidden, as there.
    pub(super) fn registered(&self, wanted: &[String], builtins: bool) -> Json {
        let own = self.catalog.builtins().filter(|_| builtins);
        let specs = self.catalog.tasks().filter(|spec| builtins || !spec.name.as_str().starts_with("celery."));
        let mut lines: Vec<String> = specs
            .chain(own)
            .map(|spec| {
                let mut options = spec.options.clone();
                if let Some((hard, soft)) = self.times.get(&spec.name) {
                    (options.time_limit, options.soft_time_limit) = (*hard, *soft);
                }
                let attributes = control::attributes(spec.name.as_str(), &options, self.rate_of(spec), wanted);
                format!("{}{attributes}", spec.name)
            })
            .collect();
        lines.sort_unstable();
        Json::array(lines)
    }

    /// The rate limit of a task as it is now.
    fn rate_of(&self, spec: &TaskSpec) -> Option<Rate> {
        let changed = self.rates.get(&spec.name).copied();
        changed.unwrap_or_else(|| spec.options.rate_limit.unwrap_or(self.limits.task.rate_limit))
    }

    pub(super) fn active_queues(&self) -> Json {
        let consuming = self.queues().filter(|(_, state)| !self.is_quiet() && *state == QueueState::Consuming);
        Json::array(consuming.map(|(queue, _)| queue_facts(queue)))
    }

    pub(super) fn revoked_ids(&self) -> Json {
        Json::array(self.revoked.ids().map(TaskId::as_str))
    }

    /// The part of `stats` that is known here.
    pub(super) fn stats(&self) -> Json {
        let mut stats = MapWriter::new();
        stats
            .put("total", &self.totals.to_json())
            .put("prefetch_count", &self.prefetch)
            .put("concurrency", &self.concurrency());
        if let Some(bounds) = self.autoscaled() {
            let sizes =
                [("max", bounds.max), ("min", bounds.min), ("current", self.concurrency()), ("qty", self.reserved())];
            stats.put("autoscaler", &Json::object(sizes));
        }
        if self.is_quiet() {
            stats.put("quiet", &true);
        }
        let paused = self.queues().filter(|(_, state)| *state == QueueState::Paused);
        let paused: Vec<&str> = paused.map(|(queue, _)| queue.name.as_str()).collect();
        if !paused.is_empty() {
            stats.put("paused_queues", &Json::array(paused));
        }
        stats.finish()
    }

    pub(super) fn serves(&self, task: &str) -> Option<TaskName> {
        TaskName::parse(task).ok().filter(|name| self.catalog.get(name).is_some())
    }

    fn list(&self, standing: Standing, safe: bool) -> Json {
        let standing = self.standing(standing).into_iter();
        Json::array(standing.map(|(_, tracked, request)| self.info(tracked, request, safe)))
    }

    /// All that stand so, in the order in which they came.
    fn standing(&self, wanted: Standing) -> Vec<(DeliveryId, &Tracked, &Request)> {
        let deliveries = self.deliveries.iter();
        let mut standing: Vec<_> = deliveries
            .filter_map(|(delivery, tracked)| match standing(&tracked.stage) {
                Some((standing, request)) if standing == wanted => Some((*delivery, tracked, request)),
                _ => None,
            })
            .collect();
        standing.sort_unstable_by_key(|(delivery, ..)| *delivery);
        standing
    }

    fn info(&self, tracked: &Tracked, request: &Request, safe: bool) -> Json {
        let started = match &tracked.stage {
            Stage::Running(attempt) => Some(attempt.started),
            _ => None,
        };
        let journaled = match &tracked.stage {
            Stage::Running(attempt) => self.overtime.is_journaled(attempt.delivery),
            _ => false,
        };
        let pid = self.limits.started_meta.get("pid").unwrap_or_else(Json::null);
        RequestInfo {
            request,
            hostname: &self.hostname(),
            worker_pid: started.map(|_| &pid),
            started,
            acknowledged: journaled || tracked.stage.is_acknowledged(),
            safe,
        }
        .to_json()
    }

    /// This node's name, as results tell it.
    pub(super) fn hostname(&self) -> Json {
        self.limits.started_meta.get("hostname").unwrap_or_else(Json::null)
    }
}

/// What waits for its turn counts as reserved: Celery lists it nowhere, which helps nobody. What has ended and is
/// only to be committed is done with.
fn standing(stage: &Stage) -> Option<(Standing, &Request)> {
    match stage {
        Stage::Running(attempt) => Some((Standing::Active, &attempt.request)),
        Stage::Ready(work) | Stage::Behind(work) | Stage::Waiting(work) | Stage::Counting(work) => {
            Some((Standing::Reserved, &work.request))
        }
        Stage::LookingUp(request) => Some((Standing::Reserved, request)),
        Stage::Held(work) | Stage::PuttingBack { work, .. } => Some((Standing::Scheduled, &work.request)),
        Stage::Committing { .. } | Stage::CommitDelayed { .. } => None,
    }
}

//! Revoked tasks: ids, and stamps that tasks may carry (celery/worker/state.py `revoked`, `revoked_stamps`).
//!
//! Says whether a request is revoked; what becomes of it is decided in `settle`. Where the set outlives the
//! worker is somebody else's business.

use std::time::Duration;

use lru::LruCache;
use rustc_hash::FxBuildHasher;

use crate::message::HeaderValue;
use crate::name::TaskId;
use crate::protocol::content::Json;
use crate::request::Request;
use crate::timestamp::Timestamp;

/// How many ids are remembered (`CELERY_WORKER_REVOKES_MAX`).
pub const IDS_MAX: usize = 50_000;

/// How many stamps are remembered. Celery has no bound.
pub const STAMPS_MAX: usize = 10_000;

/// What is older than this goes when the set is full (`CELERY_WORKER_REVOKE_EXPIRES`).
pub const EXPIRES: Duration = Duration::from_secs(10_800);

/// One thing that is revoked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Revocation {
    Id(TaskId),
    /// All tasks with this stamp: the name of the header and the value as JSON.
    Stamp {
        header: String,
        value: String,
    },
}

impl Revocation {
    /// All tasks whose stamp of that name is, or holds, this value.
    pub fn stamp(header: &str, value: &HeaderValue) -> Self {
        Self::Stamp { header: header.to_owned(), value: Json::of(value).to_string() }
    }
}

/// Everything that is revoked, up to a bound.
#[derive(Debug)]
pub struct Revoked {
    ids: Newest<TaskId>,
    stamps: Newest<(String, String)>,
}

impl Default for Revoked {
    fn default() -> Self {
        Self { ids: Newest::new(IDS_MAX), stamps: Newest::new(STAMPS_MAX) }
    }
}

impl Revoked {
    /// Adds one, or makes it the newest.
    pub fn insert(&mut self, revocation: Revocation, now: Timestamp) {
        match revocation {
            Revocation::Id(id) => self.ids.insert(id, now),
            Revocation::Stamp { header, value } => self.stamps.insert((header, value), now),
        }
    }

    /// True if nothing is revoked, as is usual.
    pub fn is_empty(&self) -> bool {
        self.ids.0.is_empty() && self.stamps.0.is_empty()
    }

    /// The revoked ids, the oldest first.
    pub fn ids(&self) -> impl Iterator<Item = &TaskId> {
        self.ids.0.iter().rev().map(|(id, _)| id)
    }

    /// The ids that were revoked a short while ago: the oldest first, as Celery's workers tell each other.
    pub fn recent_ids(&self, now: Timestamp) -> impl Iterator<Item = &TaskId> {
        self.ids.0.iter().rev().filter(move |(_, at)| **at + EXPIRES > now).map(|(id, _)| id)
    }

    /// True if just this is revoked.
    pub fn contains(&self, revocation: &Revocation) -> bool {
        match revocation {
            Revocation::Id(id) => self.ids.0.contains(id),
            Revocation::Stamp { header, value } => self.stamps.0.contains(&(header.clone(), value.clone())),
        }
    }

    /// It is no longer revoked. False if it was not.
    pub fn remove(&mut self, revocation: &Revocation) -> bool {
        match revocation {
            Revocation::Id(id) => self.ids.0.pop(id).is_some(),
            Revocation::Stamp { header, value } => self.stamps.0.pop(&(header.clone(), value.clone())).is_some(),
        }
    }

    /// The stamps of this request that are revoked, each with its header.
    pub fn stamps_of<'a>(&'a self, request: &'a Request) -> impl Iterator<Item = (&'a str, Json)> {
        let stamps = stamps(request).map(|(header, value)| (header, Json::of(value)));
        stamps.filter(|(header, value)| self.stamps.0.contains(&((*header).to_owned(), value.to_string())))
    }

    /// True if this request is not to run.
    pub fn covers(&self, request: &Request) -> bool {
        (!self.ids.0.is_empty() && self.ids.0.contains(&request.id)) || self.covers_stamp_of(request)
    }

    fn covers_stamp_of(&self, request: &Request) -> bool {
        if self.stamps.0.is_empty() {
            return false;
        }
        stamps(request).any(|(header, value)| self.stamps.0.contains(&(header.to_owned(), Json::of(value).to_string())))
    }
}

/// Every stamp of a request with each of its values: those that `stamped_headers` names, from `stamps`.
fn stamps(request: &Request) -> impl Iterator<Item = (&str, &HeaderValue)> {
    let headers = &request.message.headers;
    let names = match headers.get("stamped_headers") {
        Some(HeaderValue::List(names)) => names.as_slice(),
        _ => &[],
    };
    let stamps = match headers.get("stamps") {
        Some(HeaderValue::Map(stamps)) => stamps.as_slice(),
        _ => &[],
    };
    let is_named = |name: &str| names.iter().any(|it| matches!(it, HeaderValue::Text(text) if text == name));
    stamps.iter().filter(move |(name, _)| is_named(name)).flat_map(|(name, value)| {
        let values = match value {
            HeaderValue::List(values) => values.as_slice(),
            single => std::slice::from_ref(single),
        };
        values.iter().map(|value| (name.as_str(), value))
    })
}

/// The newest of many, with the times at which they came (celery/utils/collections.py `LimitedSet`).
#[derive(Debug)]
struct Newest<T: std::hash::Hash + Eq>(LruCache<T, Timestamp, FxBuildHasher>, usize);

impl<T: std::hash::Hash + Eq> Newest<T> {
    fn new(max: usize) -> Self {
        // With a capacity it would take all its memory at once.
        Self(LruCache::unbounded_with_hasher(FxBuildHasher), max)
    }

    fn insert(&mut self, item: T, now: Timestamp) {
        let Self(items, max) = self;
        items.put(item, now);
        if items.len() < *max {
            return;
        }
        while items.len() > *max || items.peek_lru().is_some_and(|(_, at)| *at + EXPIRES <= now) {
            items.pop_lru();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatcher::fixture::request;

    const NOW: Timestamp = Timestamp::from_micros(1_795_343_528_000_000);

    fn id(text: &str) -> TaskId {
        TaskId::parse(text).expect("a name")
    }

    fn text(text: &str) -> HeaderValue {
        HeaderValue::Text(text.to_owned())
    }

    fn stamped(names: &[&str], stamps: &[(&str, HeaderValue)]) -> Request {
        let mut request = request("tasks.add", "t-1");
        let headers = &mut request.message.headers;
        headers.set("stamped_headers", HeaderValue::List(names.iter().map(|name| text(name)).collect()));
        let stamps = stamps.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
        headers.set("stamps", HeaderValue::Map(stamps.collect()));
        request
    }

    #[test]
    fn an_id_covers_every_request_with_it() {
        let mut revoked = Revoked::default();
        assert!(revoked.is_empty() && !revoked.covers(&request("tasks.add", "t-1")));
        revoked.insert(Revocation::Id(id("t-1")), NOW);
        assert!(!revoked.is_empty() && revoked.covers(&request("tasks.add", "t-1")));
        assert!(!revoked.covers(&request("tasks.add", "t-2")));
    }

    #[test]
    fn a_stamp_covers_requests_that_carry_its_value() {
        let mut revoked = Revoked::default();
        revoked.insert(Revocation::stamp("tenant", &text("acme")), NOW);
        revoked.insert(Revocation::stamp("batch", &HeaderValue::Int(7)), NOW);
        let list = HeaderValue::List;
        for (names, stamps, covered) in [
            (&["tenant"][..], vec![("tenant", text("acme"))], true),
            (&["tenant"], vec![("tenant", list(vec![text("other"), text("acme")]))], true),
            (&["tenant", "batch"], vec![("tenant", text("other")), ("batch", list(vec![HeaderValue::Int(7)]))], true),
            (&["tenant"], vec![("tenant", text("other"))], false),
            (&["batch"], vec![("batch", text("7"))], false),
            (&["other"], vec![("other", text("acme"))], false),
            // It is not said to be a stamp.
            (&[], vec![("tenant", text("acme"))], false),
            (&["tenant"], vec![], false),
        ] {
            assert_eq!(revoked.covers(&stamped(names, &stamps)), covered, "{names:?} {stamps:?}");
        }
        assert!(!revoked.covers(&request("tasks.add", "t-1")), "without stamps");
    }

    #[test]
    fn the_oldest_go_when_it_is_full_and_nothing_goes_before() {
        let mut newest = Newest::new(3);
        let items = |newest: &Newest<u32>| newest.0.iter().rev().map(|(item, _)| *item).collect::<Vec<_>>();
        newest.insert(1, NOW);
        newest.insert(2, NOW + EXPIRES * 2);
        assert_eq!(items(&newest), [1, 2], "old, but there is room");
        newest.insert(3, NOW + EXPIRES * 2);
        assert_eq!(items(&newest), [2, 3], "full, so what is old goes");
        newest.insert(4, NOW + EXPIRES * 2);
        newest.insert(5, NOW + EXPIRES * 2);
        assert_eq!(items(&newest), [3, 4, 5], "full, and nothing is old");
        newest.insert(3, NOW + EXPIRES * 2);
        newest.insert(6, NOW + EXPIRES * 2);
        assert_eq!(items(&newest), [5, 3, 6], "what is added again is new again");
    }
}

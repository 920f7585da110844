//! What this node has given back to the broker until its time comes, for whoever asks what is scheduled.
//!
//! Decides nothing, and may know of less than there is: of a bounded number, and of none that another node or an
//! earlier process put there. What a client can make long is cut.

use lru::LruCache;
use rustc_hash::FxBuildHasher;

use crate::control::RequestInfo;
use crate::name::TaskId;
use crate::protocol::content::Json;
use crate::request::Request;
use crate::timestamp::Timestamp;

/// How many are remembered: the newest.
const AWAY_MAX: usize = 10_000;

/// Arguments longer than this are remembered as text, which is cut.
const ARGUMENTS_BYTES_MAX: usize = 1024;

/// What is longer even so, as its client gave it a long name, is not remembered.
const INFO_BYTES_MAX: usize = 16 << 10;

/// The newest of those that were put back, by id.
#[derive(Debug)]
pub(super) struct Away(LruCache<TaskId, Waiting, FxBuildHasher>);

/// One that waits at the broker.
#[derive(Debug)]
struct Waiting {
    until: Timestamp,
    /// As it was told when it was put back.
    info: Json,
}

impl Default for Away {
    fn default() -> Self {
        // With a capacity it would take all its memory at once.
        Self(LruCache::unbounded_with_hasher(FxBuildHasher))
    }
}

impl Away {
    /// The broker has it.
    pub(super) fn insert(&mut self, request: &Request, until: Timestamp, hostname: &Json) {
        let safe = request.args.byte_len() + request.kwargs.byte_len() > ARGUMENTS_BYTES_MAX;
        let info = RequestInfo { request, hostname, worker_pid: None, started: None, acknowledged: true, safe };
        let info = info.to_json();
        if info.byte_len() > INFO_BYTES_MAX {
            return;
        }
        self.0.put(request.id.clone(), Waiting { until, info });
        if self.0.len() > AWAY_MAX {
            self.0.pop_lru();
        }
    }

    /// It came again, or never will.
    pub(super) fn remove(&mut self, id: &TaskId) -> bool {
        !self.0.is_empty() && self.0.pop(id).is_some()
    }

    /// When it comes and what it is. Those whose time has come are with some worker by now.
    pub(super) fn get(&self, id: &TaskId, now: Timestamp) -> Option<(Timestamp, &Json)> {
        self.0.peek(id).filter(|it| it.until > now).map(|it| (it.until, &it.info))
    }

    /// All of them, the oldest first.
    pub(super) fn iter(&self, now: Timestamp) -> impl Iterator<Item = (Timestamp, &Json)> {
        let waiting = self.0.iter().rev().map(|(_, it)| it);
        waiting.filter(move |it| it.until > now).map(|it| (it.until, &it.info))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::dispatcher::fixture::request;
    use crate::message::HeaderValue;

    #[test]
    fn the_newest_are_remembered_until_their_time_comes() {
        let now = Timestamp::from_micros(1_000_000);
        let mut away = Away::default();
        for index in 0..AWAY_MAX + 2 {
            away.insert(&request("tasks.add", &index.to_string()), now + Duration::from_secs(10), &Json::null());
        }
        assert_eq!(away.iter(now).count(), AWAY_MAX);
        let id = |index: usize| TaskId::parse(&index.to_string()).expect("an id");
        assert!(!away.remove(&id(1)) && away.remove(&id(2)) && !away.remove(&id(2)));
        assert!(away.get(&id(3), now).is_some());
        assert_eq!(away.iter(now + Duration::from_secs(10)).count(), 0);
        assert!(away.get(&id(3), now + Duration::from_secs(10)).is_none());
    }

    #[test]
    fn long_arguments_are_cut() {
        let mut away = Away::default();
        let mut long = request("tasks.add", "a");
        long.args = Json::array(["x".repeat(100_000)]);
        away.insert(&long, Timestamp::from_micros(2), &Json::null());
        let bytes = away.iter(Timestamp::from_micros(1)).map(|(_, info)| info.byte_len()).sum::<usize>();
        assert!((1_000..2_000).contains(&bytes), "{bytes}");
        long.message.headers.set("argsrepr", HeaderValue::Text("y".repeat(100_000)));
        away.insert(&long, Timestamp::from_micros(2), &Json::null());
        let bytes = away.iter(Timestamp::from_micros(1)).map(|(_, info)| info.byte_len()).sum::<usize>();
        assert!((1_000..2_000).contains(&bytes), "{bytes}");
        let mut named = request("tasks.add", "b");
        named.message.headers.set("shadow", HeaderValue::Text("z".repeat(100_000)));
        away.insert(&named, Timestamp::from_micros(2), &Json::null());
        assert_eq!(away.iter(Timestamp::from_micros(1)).count(), 1);
    }
}

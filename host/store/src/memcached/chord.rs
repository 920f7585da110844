//! Chords that are counted in memcached, together with Python workers on the same keys (celery/backends/base.py
//! `on_chord_part_return` of `BaseKeyValueStoreBackend`).
//!
//! Celery's keys are the saved header (`celery-taskset-meta-<group>`) and a counter (`chord-unlock-<group>`). A Python
//! worker counts a member again that runs again, and loses the body if it is lost between counting and sending it. We
//! remember beside them, under keys that Celery does not know, which members we have counted and who sends the body.

mod claim;
mod complete;
mod steps;

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use taskhost_core::Json;
use taskhost_core::chord::{ChordPart, Progress};
use taskhost_core::protocol::document;

use super::link::Trouble;
use super::protocol::{Item, Reply, Store};
use super::{MemcachedStore, checked, expiry, put};
use crate::port::StoreError;

/// How many parts are counted in one go.
const PARTS_MAX: usize = 100;
/// How long a member may be about to be counted: somebody else's mark is not waited for longer.
const COUNTING_S: u64 = 10;
/// When to look again whether somebody else has counted, or has sent the body.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The keys of a chord. Ours lie on the server that has the counter, so that one packet changes both.
struct Keys {
    /// Where the counter is.
    server: usize,
    counter: String,
    group: String,
    /// Who sends the body, or that it is done.
    claim: String,
    /// Somebody found the chord complete and gave whoever completed it time to send the body.
    waited: String,
}

/// A part on its way.
struct Counting<'a> {
    part: &'a ChordPart,
    keys: Keys,
    /// Says that this member was counted.
    mark: String,
    token: String,
}

/// What is known of a member before it is counted.
enum Known {
    New,
    /// In this run of its chord: the number of the header's value.
    Counted(String),
    /// Somebody is about to count it.
    Elsewhere,
}

/// The saved header of a chord.
struct Header {
    /// Its number, which tells a run of the chord from the one before.
    run: String,
    tuple: Result<Json, String>,
}

impl MemcachedStore {
    pub(super) async fn count_all(&self, parts: &[ChordPart]) -> Vec<Result<Progress, StoreError>> {
        let mut answers: Vec<Option<Result<Progress, Trouble>>> = parts.iter().map(|_| None).collect();
        let mut open: Vec<usize> = (0..parts.len()).collect();
        while !open.is_empty() {
            // The same part twice is counted one after the other.
            let mut seen = HashSet::new();
            let (now, later): (Vec<_>, Vec<_>) =
                open.into_iter().partition(|&n| seen.insert((&parts[n].group, &parts[n].task, parts[n].index)));
            for wave in now.chunks(PARTS_MAX) {
                self.count_wave(parts, wave, &mut answers).await;
            }
            open = later;
        }
        let unanswered = || Err(Trouble::refused("the part was not counted", true));
        let answer = |(part, answer): (&ChordPart, Option<_>)| {
            answer
                .unwrap_or_else(unanswered)
                .map_err(|trouble| self.group_error(&trouble, "count part of", &part.group))
        };
        parts.iter().zip(answers).map(answer).collect()
    }

    /// Counts these, each of which occurs once.
    async fn count_wave(&self, parts: &[ChordPart], wave: &[usize], answers: &mut [Option<Result<Progress, Trouble>>]) {
        let mut countings = Vec::with_capacity(wave.len());
        for &n in wave {
            match self.counting(&parts[n]) {
                Ok(counting) => countings.push((n, counting)),
                Err(trouble) => answers[n] = Some(Err(trouble)),
            }
        }
        let known = match self.look_at(&countings).await {
            Ok(known) => known,
            Err(trouble) => {
                countings.iter().for_each(|(n, _)| answers[*n] = Some(Err(trouble.clone())));
                return;
            }
        };
        let (headers, marks) = known;
        let mut fresh = Vec::new();
        for ((n, counting), known) in countings.iter().zip(marks) {
            let header = headers.get(counting.part.group.as_str());
            answers[*n] = match (known, header) {
                (Known::Elsewhere, _) => Some(Ok(Progress::Held(LOOK_AGAIN))),
                // It was counted, and whoever completed the chord has tidied up.
                (Known::Counted(_), None) => Some(Ok(Progress::Over)),
                (Known::New, None) => Some(self.without_header(counting).await),
                (Known::Counted(run), Some(header)) if run == header.run => {
                    Some(self.counted_before(counting, header).await)
                }
                (Known::New | Known::Counted(_), Some(header)) => {
                    fresh.push((*n, counting, header));
                    None
                }
            };
        }
        if fresh.is_empty() {
            return;
        }
        let numbers = self.increment(&fresh).await;
        for ((n, counting, header), number) in fresh.into_iter().zip(numbers) {
            answers[n] = Some(match number {
                Ok(number) => self.counted(counting, header, number).await,
                Err(trouble) => Err(trouble),
            });
        }
    }

    fn counting<'a>(&self, part: &'a ChordPart) -> Result<Counting<'a>, Trouble> {
        let keys = self.chord_keys(&part.group)?;
        let index = part.index.map_or_else(String::new, |index| index.to_string());
        let member = format!("{}:{index}", part.task);
        let mark = checked(format!("{}.{member}", keys.counter))?;
        Ok(Counting { part, keys, mark, token: format!("{}:{member}", self.chords.owner) })
    }

    fn chord_keys(&self, group: &str) -> Result<Keys, Trouble> {
        let counter = checked(format!("{}{group}", self.keys.chord))?;
        Ok(Keys {
            server: self.cluster.servers.of(&counter),
            group: checked(format!("{}{group}", self.keys.group))?,
            claim: checked(format!("{counter}.c"))?,
            waited: checked(format!("{counter}.w"))?,
            counter,
        })
    }

    /// Reads the headers of these chords, and puts a mark on each member unless it has one.
    async fn look_at<'a>(
        &self,
        countings: &[(usize, Counting<'a>)],
    ) -> Result<(HashMap<&'a str, Header>, Vec<Known>), Trouble> {
        let mut batch = self.cluster.batch();
        let counting = format!("{} counting", self.chords.owner);
        for (_, it) in countings {
            batch.ask(it.keys.server, |ask| ask.store(Store::Add, &it.mark, counting.as_bytes(), COUNTING_S));
        }
        let mut groups = HashMap::new();
        for (_, it) in countings {
            groups.entry(it.part.group.as_str()).or_insert_with(|| it.keys.group.as_str());
        }
        let groups: Vec<(&str, &str)> = groups.into_iter().collect();
        for (_, key) in &groups {
            batch.ask(self.cluster.servers.of(key), |ask| ask.read([*key]));
        }
        let mut answers = self.cluster.run(&batch).await;
        let mut headers = HashMap::with_capacity(groups.len());
        for ((group, _), answer) in groups.into_iter().zip(answers.split_off(countings.len())) {
            if let Some(item) = values(answer?)?.pop() {
                headers.insert(group, self.header(&item));
            }
        }
        let mut marks = Vec::with_capacity(countings.len());
        let mut batch = self.cluster.batch();
        for ((_, it), answer) in countings.iter().zip(answers) {
            match answer? {
                Reply::Done => marks.push(Some(Known::New)),
                Reply::NotStored => {
                    marks.push(None);
                    batch.ask(it.keys.server, |ask| ask.read([it.mark.as_str()]));
                }
                other => return Err(strange(other)),
            }
        }
        let mut read = if batch.is_empty() { Vec::new() } else { self.cluster.run(&batch).await }.into_iter();
        let mut known = Vec::with_capacity(marks.len());
        for mark in marks {
            known.push(match mark {
                Some(mark) => mark,
                None => match read.next() {
                    Some(answer) => self.known(values(answer?)?.pop()),
                    None => Known::Elsewhere,
                },
            });
        }
        Ok((headers, known))
    }

    fn known(&self, mark: Option<Item>) -> Known {
        // One that has just expired is put anew when it is looked at again.
        let Some(mark) = mark else { return Known::Elsewhere };
        match String::from_utf8_lossy(&mark.value).split_once(' ') {
            Some((run, "counted")) => Known::Counted(run.to_owned()),
            // We were about to count it and lost the connection: nothing was counted, since the packet that counts
            // changes the mark.
            Some((owner, _)) if owner == self.chords.owner => Known::New,
            _ => Known::Elsewhere,
        }
    }

    fn header(&self, item: &Item) -> Header {
        let read = document::decode_value(&item.value, &self.format).map_err(|error| error.to_string());
        let tuple = read.and_then(|document| document.get("result").ok_or_else(|| "it holds no result".to_owned()));
        Header { run: item.unique.to_string(), tuple }
    }

    /// Counts members and says so of each in the same packet; what each counter has come to, none without one.
    async fn increment(&self, fresh: &[(usize, &Counting<'_>, &Header)]) -> Vec<Result<Option<u64>, Trouble>> {
        let (counter, marks) = (expiry(self.chords.expires_s), expiry(self.chords.marks_s()));
        let results = expiry(self.chords.results_expire_s);
        let mut batch = self.cluster.batch();
        for (_, it, header) in fresh {
            let counted = format!("{} counted", header.run);
            batch.ask(it.keys.server, |ask| ask.increment(&it.keys.counter));
            batch.ask(it.keys.server, |ask| ask.store(Store::Set, &it.mark, counted.as_bytes(), marks));
        }
        // Whatever the last member needs is kept for as long as it may take, the results of the others among it.
        let mut kept = HashSet::new();
        for (_, it, _) in fresh {
            if kept.insert(it.keys.counter.as_str()) {
                batch.ask(it.keys.server, |ask| ask.touch(&it.keys.counter, counter));
                batch.ask(self.cluster.servers.of(&it.keys.group), |ask| ask.touch(&it.keys.group, results));
            }
        }
        if self.chords.results_expire_s != self.expires_s {
            for key in fresh.iter().filter_map(|(_, it, _)| checked(self.keys.of(&it.part.task)).ok()) {
                batch.ask(self.cluster.servers.of(&key), |ask| ask.touch(&key, results));
            }
        }
        let answers = self.cluster.run(&batch).await;
        let number = |pair: &[Result<Reply, Trouble>]| match pair {
            [Ok(Reply::Number(number)), Ok(_)] => Ok(Some(*number)),
            [Ok(Reply::Missing), Ok(_)] => Ok(None),
            [Ok(Reply::Refused(text)), _] => Err(put::refused(text, 0)),
            [Err(trouble), _] | [_, Err(trouble)] => Err(trouble.clone()),
            [Ok(other), _] => Err(strange(other.clone())),
            _ => Err(Trouble::refused("the part was not counted", true)),
        };
        answers.chunks(2).take(fresh.len()).map(number).collect()
    }
}

fn values(reply: Reply) -> Result<Vec<Item>, Trouble> {
    match reply {
        Reply::Values(items) => Ok(items),
        other => Err(strange(other)),
    }
}

fn strange(reply: Reply) -> Trouble {
    match reply {
        Reply::Refused(text) => put::refused(&text, 0),
        other => Trouble::refused(&format!("the server answered {other:?}"), false),
    }
}

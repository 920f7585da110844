//! Chords that are counted in Django's `ChordCounter`, together with Python workers on the same rows
//! (django_celery_results/backends/database.py `apply_chord`, `on_chord_part_return`).
//!
//! A Python worker locks the row and subtracts one; it counts a member again that runs again, and loses the body if it
//! is lost between counting and sending it. We lock nothing: a row is changed if it still is what was read, in one
//! statement that is harmless if it is sent twice. Which members we have counted stands behind the JSON of `sub_tasks`,
//! as white space, which Python reads over. A row whose count has come to zero is deleted, in Django; we rename it
//! first, so that there is none of the group any more, and keep in it who sends the body until that is done.

use std::collections::HashSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::future::join_all;
use taskhost_core::chord::{self, ChordPart, ClaimedChord, Part, Progress};
use taskhost_core::protocol::content::Kind;
use taskhost_core::{Json, TaskId};
use tokio::sync::Mutex;
use tracing::warn;

use super::SqlStore;
use super::driver::pause;
use super::table::{Table, Which};
use super::value::{Row, Value};
use crate::cause::Cause;
use crate::port::StoreError;
use crate::terms::ChordTerms;
use crate::unreadable::unreadable;

/// Behind the id of a group whose chord is complete.
const CLAIMED: &str = ".claimed";
/// How often others may count a member between a look and a change.
const ROUNDS_MAX: u32 = 100;
/// How many chords, and how many results of one, are looked at together.
const AT_ONCE: usize = 4;
/// When to look again whether somebody else has sent the body.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// From when the end of a claim is counted, 2026-01-01: the column takes 31 bits.
const EPOCH_S: u64 = 1_767_225_600;
/// The white space of JSON, two bits each.
const LETTERS: [char; 4] = [' ', '\t', '\n', '\r'];
/// That of a mark.
const MARK_CHARS: usize = 32;

/// How chords are counted.
pub(super) struct Counters {
    terms: ChordTerms,
    /// One at a time counts: those of one process would only be in each other's way.
    turn: Mutex<()>,
}

impl Counters {
    pub(super) fn new(terms: ChordTerms) -> Self {
        Self { terms, turn: Mutex::new(()) }
    }

    fn token(&self, part: &ChordPart) -> String {
        format!("{}:{}", self.terms.owner, member(part))
    }
}

/// A row.
struct Counter {
    key: String,
    sub_tasks: String,
    /// How many members are missing; of a chord that is claimed, when the claim ends.
    count: i64,
    id: i64,
}

impl Counter {
    fn of(row: Vec<Value>) -> Result<Self, Cause> {
        match <[Value; 4]>::try_from(row) {
            Ok([Value::Text(key), Value::Text(sub_tasks), Value::Int(count), Value::Int(id)]) => {
                Ok(Self { key, sub_tasks, count, id })
            }
            other => Err(Cause::permanent(format!("a row of ChordCounter is no such row: {other:?}"))),
        }
    }

    /// The JSON, and the marks.
    fn split(&self) -> (&str, &[u8]) {
        let end = self.sub_tasks.rfind(']').map_or(self.sub_tasks.len(), |at| at + 1);
        let (json, marks) = self.sub_tasks.split_at(end);
        (json, marks.as_bytes())
    }

    fn marks(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.split().1.chunks_exact(MARK_CHARS)
    }

    fn has(&self, mark: &str) -> bool {
        self.marks().any(|there| there == mark.as_bytes())
    }

    /// True if the claim was made with this token.
    fn is_claimed_by(&self, token: &str) -> bool {
        self.marks().next_back() == Some(mark(token).as_bytes())
    }

    /// The result tuple of the header.
    fn header(&self, group: &str) -> Result<Json, String> {
        let members = Json::parse(self.split().0.to_owned()).map_err(|error| error.to_string())?;
        if members.kind() != Kind::List {
            return Err("its sub_tasks are no list".to_owned());
        }
        Ok(Json::array([Json::array([Json::text(group), Json::null()]), members]))
    }
}

impl SqlStore {
    /// The row, as before the members of a chord are sent (`apply_chord`). Django refuses a second of a group; here
    /// the chord begins anew.
    pub(super) async fn chord_began(
        &self,
        table: &Table,
        group: &str,
        size: u64,
        header: &Json,
        again: bool,
    ) -> Result<(), Cause> {
        let claimed = claimed_key(group)?;
        if !again {
            self.chord_forgotten(table, group).await?;
        } else if self.counter(table, group).await?.is_some() || self.counter(table, &claimed).await?.is_some() {
            return Ok(());
        } else if let Some(first) = chord::leaves(header).first()
            && self.driver.state(first.as_str()).await?.is_some()
        {
            // A member ran, so there was a row, and it went when the chord was over.
            return Ok(());
        }
        let members = header.elements().nth(1).unwrap_or_else(Json::empty_list);
        let count = Value::Int(i64::try_from(size).map_err(Cause::permanent)?);
        let row = Row { values: vec![Value::Text(group.to_owned()), Value::Text(members.to_string()), count] };
        if let Some(reason) = table.unfit(&row) {
            return Err(Cause::permanent(reason));
        }
        self.driver.change(&self.driver.dialect().begin_counter(table), &row.values).await.map(drop)
    }

    /// The rows are deleted, whoever has the claim.
    pub(super) async fn chord_forgotten(&self, table: &Table, group: &str) -> Result<(), Cause> {
        self.driver.forget(table, group).await?;
        self.driver.forget(table, &claimed_key(group)?).await
    }

    pub(super) async fn count_all(&self, table: &Table, parts: &[ChordPart]) -> Vec<Result<Progress, StoreError>> {
        let mut groups: Vec<(&str, Vec<usize>)> = Vec::new();
        for (at, part) in parts.iter().enumerate() {
            match groups.iter_mut().find(|(group, _)| *group == part.group) {
                Some((_, places)) => places.push(at),
                None => groups.push((&part.group, vec![at])),
            }
        }
        let mut answers: Vec<Option<Result<Progress, StoreError>>> = parts.iter().map(|_| None).collect();
        let _turn = self.counters.turn.lock().await;
        for groups in groups.chunks(AT_ONCE) {
            let mut counting = Vec::with_capacity(AT_ONCE);
            for (group, places) in groups {
                counting.push(self.count_members(table, group, places.iter().map(|at| &parts[*at]).collect()));
            }
            for ((group, places), counted) in groups.iter().zip(join_all(counting).await) {
                match counted {
                    Ok(progress) => {
                        places.iter().zip(progress).for_each(|(at, progress)| answers[*at] = Some(Ok(progress)));
                    }
                    Err(cause) => places.iter().for_each(|at| {
                        answers[*at] = Some(Err(self.explained(cause.clone()).group("count part of", group)));
                    }),
                }
            }
        }
        let unanswered =
            |part: &ChordPart| Err(Cause::transient("it was not counted").group("count part of", &part.group));
        parts.iter().zip(answers).map(|(part, answer)| answer.unwrap_or_else(|| unanswered(part))).collect()
    }

    /// Counts members of one chord.
    async fn count_members(&self, table: &Table, group: &str, parts: Vec<&ChordPart>) -> Result<Vec<Progress>, Cause> {
        let claimed = claimed_key(group)?;
        let marks: Vec<String> = parts.iter().map(|part| mark(&member(part))).collect();
        for attempt in 1..=ROUNDS_MAX {
            // In this order: a row is renamed once, and never back.
            let Some(counter) = self.counter(table, group).await? else {
                let Some(counter) = self.counter(table, &claimed).await? else {
                    // As Django says it.
                    warn!("Can't find ChordCounter for Group {group}");
                    return Ok(vec![Progress::Over; parts.len()]);
                };
                return self.counted_before(table, counter, group, &parts, &marks).await;
            };
            let mut known: HashSet<&[u8]> = counter.marks().collect();
            let mut fresh: Vec<usize> = (0..parts.len()).filter(|at| known.insert(marks[*at].as_bytes())).collect();
            fresh.truncate(usize::try_from(counter.count).unwrap_or(0).max(1));
            let mut progress = vec![Progress::Waiting; parts.len()];
            let Some(last) = fresh.last().copied() else { return Ok(progress) };
            let left = counter.count - fresh.len() as i64;
            let mut suffix: String = fresh.iter().map(|at| &*marks[*at]).collect();
            if left > 0 {
                if self.changed_counter(table, &counter, &counter.key, left, suffix).await? {
                    return Ok(progress);
                }
            } else {
                // That of an earlier run, whose body nobody came to send.
                let older = [Value::Text(claimed.clone()), Value::Int(counter.id)];
                self.driver.change(&self.driver.dialect().end_older_counter(table), &older).await?;
                let token = self.counters.token(parts[last]);
                suffix.push_str(&mark(&token));
                let until = in_s(self.counters.terms.claim_s);
                if self.changed_counter(table, &counter, &claimed, until, suffix).await? {
                    progress[last] = self.claimed(&counter, group, token, false).await?;
                    return Ok(progress);
                }
            }
            // What is ours to answer for may have been written, and the answer lost: the next look finds it.
            tokio::time::sleep(pause(attempt)).await;
        }
        Err(Cause::transient("others count members of the chord all the time"))
    }

    /// The chord is complete. Who has the claim hears so again; whose member was counted waits until it has run out.
    async fn counted_before(
        &self,
        table: &Table,
        counter: Counter,
        group: &str,
        parts: &[&ChordPart],
        marks: &[String],
    ) -> Result<Vec<Progress>, Cause> {
        let mut progress = Vec::with_capacity(parts.len());
        let mut is_taken = false;
        for (part, own) in parts.iter().zip(marks) {
            let token = self.counters.token(part);
            let left = counter.count - in_s(0);
            progress.push(if !counter.has(own) {
                Progress::Over
            } else if is_taken {
                Progress::Held(LOOK_AGAIN)
            } else if counter.is_claimed_by(&token) {
                is_taken = true;
                self.claimed(&counter, group, token, true).await?
            } else if left > 0 {
                Progress::Held(Duration::from_secs(left.unsigned_abs()))
            } else {
                is_taken = true;
                let until = in_s(self.counters.terms.claim_s);
                match self.changed_counter(table, &counter, &counter.key, until, mark(&token)).await? {
                    true => self.claimed(&counter, group, token, true).await?,
                    false => Progress::Held(LOOK_AGAIN),
                }
            });
        }
        Ok(progress)
    }

    /// Gives whoever holds the claim the time that publishing may take.
    pub(super) async fn claim_extended(&self, table: &Table, group: &str, token: &str) -> Result<bool, Cause> {
        for attempt in 1..=ROUNDS_MAX {
            let Some(counter) = self.counter(table, &claimed_key(group)?).await? else { return Ok(false) };
            if !counter.is_claimed_by(token) {
                return Ok(false);
            }
            let until = in_s(self.counters.terms.publishing_s());
            // Nothing would change of one that was extended in this second, and that is what others have done, too.
            if until <= counter.count
                || self.changed_counter(table, &counter, &counter.key, until, String::new()).await?
            {
                return Ok(true);
            }
            tokio::time::sleep(pause(attempt)).await;
        }
        Ok(false)
    }

    /// The body is published.
    pub(super) async fn chord_finished(&self, table: &Table, group: &str, token: &str) -> Result<bool, Cause> {
        for attempt in 1..=ROUNDS_MAX {
            // It may have been said before.
            let Some(counter) = self.counter(table, &claimed_key(group)?).await? else { return Ok(true) };
            if !counter.is_claimed_by(token) {
                return Ok(false);
            }
            let row = [Value::Text(counter.key), Value::Int(counter.id), Value::Int(counter.count)];
            if self.driver.change(&self.driver.dialect().end_counter(table), &row).await? > 0 {
                return Ok(true);
            }
            tokio::time::sleep(pause(attempt)).await;
        }
        Err(Cause::transient("others claim the chord all the time"))
    }

    async fn counter(&self, table: &Table, key: &str) -> Result<Option<Counter>, Cause> {
        self.driver.get(table, key).await?.map(Counter::of).transpose()
    }

    /// False if the row is not what it was.
    async fn changed_counter(
        &self,
        table: &Table,
        counter: &Counter,
        key: &str,
        count: i64,
        suffix: String,
    ) -> Result<bool, Cause> {
        let values = [
            Value::Text(key.to_owned()),
            Value::Int(count),
            Value::Text(suffix),
            Value::Int(counter.id),
            Value::Text(counter.key.clone()),
            Value::Int(counter.count),
        ];
        Ok(self.driver.change(&self.driver.dialect().change_counter(table), &values).await? > 0)
    }

    async fn claimed(&self, counter: &Counter, group: &str, token: String, again: bool) -> Result<Progress, Cause> {
        let group = group.to_owned();
        let broken = |group, reason| ClaimedChord {
            group,
            token: token.clone(),
            again,
            parts: Vec::new(),
            structure: None,
            broken: Some(reason),
        };
        let tuple = match counter.header(&group) {
            Ok(tuple) => tuple,
            Err(reason) => return Ok(Progress::Claimed(broken(group, format!("Cannot restore group: {reason}")))),
        };
        let leaves = chord::leaves(&tuple);
        let mut parts = Vec::with_capacity(leaves.len());
        for tasks in leaves.chunks(AT_ONCE) {
            let mut reading = Vec::with_capacity(AT_ONCE);
            for task in tasks {
                reading.push(self.part(task));
            }
            for part in join_all(reading).await {
                parts.extend(part?);
            }
        }
        // Whoever publishes the body waits for results that are not there; those have no place in a plain list.
        let is_plain = parts.len() == leaves.len() && chord::is_flat(&tuple);
        let structure = (!is_plain).then_some(tuple);
        Ok(Progress::Claimed(ClaimedChord { group, token, again, parts, structure, broken: None }))
    }

    /// What is stored of a member, if it is final.
    async fn part(&self, task: &TaskId) -> Result<Option<Part>, Cause> {
        let Some(row) = self.driver.get(self.layout.table(Which::Tasks), task.as_str()).await? else { return Ok(None) };
        Ok(match self.layout.stored(row, &self.format) {
            Ok(stored) => {
                stored.state.is_ready().then(|| Part { task: task.clone(), state: stored.state, result: stored.result })
            }
            Err(error) => Some(unreadable(task, &error.to_string())),
        })
    }
}

/// What a row is called whose chord is complete.
fn claimed_key(group: &str) -> Result<String, Cause> {
    const KEY_CHARS_MAX: usize = 255;
    let key = format!("{group}{CLAIMED}");
    match key.chars().count() <= KEY_CHARS_MAX {
        true => Ok(key),
        false => Err(Cause::permanent(format!("with `{CLAIMED}` its id has more than {KEY_CHARS_MAX} characters"))),
    }
}

/// A member of a chord: a task may stand at two places.
fn member(part: &ChordPart) -> String {
    format!("{}:{}", part.task, part.index.map_or_else(String::new, |index| index.to_string()))
}

/// 64 bits of it (FNV-1a) as white space. Hosts of all versions have to agree about it.
fn mark(text: &str) -> String {
    let hash = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    (0..MARK_CHARS).map(|at| LETTERS[(hash >> (2 * at)) as usize & 3]).collect()
}

/// When it is in so many seconds, as the column has it.
fn in_s(seconds: u64) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let then = now.saturating_sub(EPOCH_S).saturating_add(seconds);
    i64::from(i32::try_from(then).unwrap_or(i32::MAX).max(1))
}

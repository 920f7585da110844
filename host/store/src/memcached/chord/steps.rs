//! What is said about a chord before its members run and after its body was sent.
//!
//! Counts nothing.

use taskhost_core::protocol::document;
use taskhost_core::{Json, chord};

use super::super::link::Trouble;
use super::super::protocol::{Reply, Store};
use super::super::{MemcachedStore, checked, expiry, put};
use super::claim::is_done;
use super::{Keys, strange, values};
use crate::cause::Cause;
use crate::port::StoreError;

impl MemcachedStore {
    pub(in super::super) fn group_error(&self, trouble: &Trouble, operation: &'static str, group: &str) -> StoreError {
        match trouble.connecting {
            true => self.cluster.connect_error(&trouble.cause),
            false => trouble.cause.clone().group(operation, group),
        }
    }

    /// The counter begins, as before the members of a chord are sent (`_apply_chord_incr` of celery/backends/cache.py).
    pub(in super::super) async fn chord_began(&self, group: &str, again: bool) -> Result<(), StoreError> {
        let began = async {
            let keys = self.chord_keys(group)?;
            if again { self.goes_on(&keys).await } else { self.begins(&keys).await }
        };
        began.await.map_err(|trouble: Trouble| self.group_error(&trouble, "set size of", group))
    }

    async fn begins(&self, keys: &Keys) -> Result<(), Trouble> {
        let mut batch = self.cluster.batch();
        let expires = expiry(self.chords.expires_s);
        batch.ask(keys.server, |ask| ask.store(Store::Set, &keys.counter, b"0", expires));
        batch.ask(keys.server, |ask| ask.delete(&keys.claim));
        batch.ask(keys.server, |ask| ask.delete(&keys.waited));
        // The header that is saved next has a number of its own: members of an earlier run were not counted in it.
        batch.ask(self.cluster.servers.of(&keys.group), |ask| ask.delete(&keys.group));
        self.all(&batch).await
    }

    /// This may have been said before, and members may have been counted.
    async fn goes_on(&self, keys: &Keys) -> Result<(), Trouble> {
        if self.claim_item(keys).await?.is_some_and(|item| is_done(&item)) {
            return Ok(());
        }
        let expires = expiry(self.chords.expires_s);
        let add = self.ask_server(keys.server, |ask| ask.store(Store::Add, &keys.counter, b"0", expires));
        add.await.map(drop)
    }

    async fn all(&self, batch: &super::super::link::Batch) -> Result<(), Trouble> {
        for answer in self.cluster.run(batch).await {
            if let Reply::Refused(text) = answer? {
                return Err(put::refused(&text, 0));
            }
        }
        Ok(())
    }

    pub(in super::super) async fn claim_extended(&self, group: &str, token: &str) -> Result<bool, StoreError> {
        let held = match self.chord_keys(group) {
            Ok(keys) => self.hold(&keys, token).await,
            Err(trouble) => Err(trouble),
        };
        held.map_err(|trouble| self.group_error(&trouble, "hold", group))
    }

    pub(in super::super) async fn chord_finished(&self, group: &str, token: &str) -> Result<bool, StoreError> {
        let finished = self.ended(group, Some(token)).await;
        finished.map_err(|trouble| self.group_error(&trouble, "finish", group))
    }

    pub(in super::super) async fn chord_failed(&self, group: &str) -> Result<(), StoreError> {
        let failed = self.ended(group, None).await;
        failed.map(drop).map_err(|trouble| self.group_error(&trouble, "fail", group))
    }

    /// Says that the chord is over and tidies up, in this order: whoever comes in between sees the first.
    async fn ended(&self, group: &str, token: Option<&str>) -> Result<bool, Trouble> {
        let keys = self.chord_keys(group)?;
        if !self.close(&keys, token).await? {
            return Ok(false);
        }
        let mut batch = self.cluster.batch();
        if self.chords.results_expire_s != self.expires_s {
            // Results of members are kept no longer than others from now on.
            let header = self.ask(&keys.group, |ask| ask.read([keys.group.as_str()])).await?;
            let tuple = values(header)?.pop().and_then(|item| self.header(&item).tuple.ok());
            for task in tuple.iter().flat_map(chord::leaves) {
                let Ok(key) = checked(self.keys.of(&task)) else { continue };
                batch.ask(self.cluster.servers.of(&key), |ask| ask.touch(&key, self.expires()));
            }
        }
        batch.ask(self.cluster.servers.of(&keys.group), |ask| ask.delete(&keys.group));
        for key in [&keys.counter, &keys.waited] {
            batch.ask(keys.server, |ask| ask.delete(key));
        }
        self.all(&batch).await?;
        Ok(true)
    }

    /// As `_save_group` of celery/backends/base.py.
    pub(in super::super) async fn put_group(&self, group: &str, result: &Json) -> Result<(), StoreError> {
        const OPERATION: &str = "save";
        let document = Json::object([("result", result)]).bytes();
        let document =
            self.format.serialize(document).map_err(|error| Cause::permanent(error).group(OPERATION, group))?;
        let saved = match self.chord_keys(group) {
            Ok(keys) => self.save_header(&keys, &document).await,
            Err(trouble) => Err(trouble),
        };
        saved.map_err(|trouble| self.group_error(&trouble, OPERATION, group))
    }

    async fn save_header(&self, keys: &Keys, document: &[u8]) -> Result<(), Trouble> {
        let expires = expiry(self.chords.results_expire_s);
        // Said again of a chord that is over: nobody would delete it.
        if self.claim_item(keys).await?.is_some_and(|item| is_done(&item)) {
            return Ok(());
        }
        let server = self.cluster.servers.of(&keys.group);
        let mut batch = self.cluster.batch();
        batch.ask(server, |ask| ask.store(Store::Add, &keys.group, document, expires));
        match self.cluster.run(&batch).await.pop() {
            Some(Ok(Reply::Done)) => return Ok(()),
            Some(Ok(Reply::NotStored)) => {}
            Some(Ok(Reply::Refused(text))) => return Err(put::refused(&text, document.len())),
            Some(Ok(other)) => return Err(strange(other)),
            Some(Err(trouble)) => return Err(trouble),
            None => return Err(Trouble::refused("the server was not asked", true)),
        }
        // The same again keeps its number, by which it is known which members were counted.
        let there = values(self.ask_server(server, |ask| ask.read([keys.group.as_str()])).await?)?.pop();
        let is_same = there.is_some_and(|item| item.value == document);
        let write = self.ask_server(server, |ask| match is_same {
            true => ask.touch(&keys.group, expires),
            false => ask.store(Store::Set, &keys.group, document, expires),
        });
        write.await.map(drop)
    }

    pub(in super::super) async fn get_group(&self, group: &str) -> Result<Option<Json>, StoreError> {
        const OPERATION: &str = "read";
        let read = async {
            let keys = self.chord_keys(group)?;
            let reply = self.ask(&keys.group, |ask| ask.read([keys.group.as_str()])).await?;
            Ok(values(reply)?.pop())
        };
        let item = read.await.map_err(|trouble: Trouble| self.group_error(&trouble, OPERATION, group))?;
        let Some(item) = item else { return Ok(None) };
        let document = document::decode_value(&item.value, &self.format)
            .map_err(|error| Cause::permanent(error).group("understand", group))?;
        let missing = || Cause::permanent("it holds no result").group("understand", group);
        document.get("result").map(Some).ok_or_else(missing)
    }
}

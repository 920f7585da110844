//! Who sends the body of a chord: one at a time, and once.
//!
//! A key that Celery does not know holds the run of the chord, and who has the claim or that the chord is done.

use super::super::MemcachedStore;
use super::super::expiry;
use super::super::link::Trouble;
use super::super::protocol::{Item, Reply, Store};
use super::{Keys, strange, values};

/// In place of a run, if the header is gone.
pub(super) const NO_RUN: &str = "-";
/// In place of who has the claim.
const DONE: &str = "done";
/// How often somebody else may be faster.
const ROUNDS_MAX: u32 = 8;

/// How a claim stands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Claim {
    Ours,
    Held,
    Done,
}

impl MemcachedStore {
    /// Claims the chord, if nobody has.
    pub(super) async fn claim(&self, keys: &Keys, run: &str, token: &str) -> Result<Claim, Trouble> {
        let claim = format!("{run} {token}");
        let expires = expiry(self.chords.claim_s);
        let mut how = Store::Add;
        for _ in 0..ROUNDS_MAX {
            let store = self.ask_server(keys.server, |ask| ask.store(how, &keys.claim, claim.as_bytes(), expires));
            match store.await? {
                Reply::Done => return Ok(Claim::Ours),
                Reply::NotStored | Reply::Changed | Reply::Missing => {}
                other => return Err(strange(other)),
            }
            how = match self.claim_item(keys).await? {
                None => Store::Add,
                Some(item) => match read(&item, run, token) {
                    Some(Claim::Ours) | None => Store::Over(item.unique),
                    Some(other) => return Ok(other),
                },
            };
        }
        Ok(Claim::Held)
    }

    /// How the claim of this run stands; none if there is none.
    pub(super) async fn held(&self, keys: &Keys, run: &str, token: &str) -> Result<Option<Claim>, Trouble> {
        Ok(self.claim_item(keys).await?.and_then(|item| read(&item, run, token)))
    }

    pub(super) async fn claim_item(&self, keys: &Keys) -> Result<Option<Item>, Trouble> {
        Ok(values(self.ask_server(keys.server, |ask| ask.read([keys.claim.as_str()])).await?)?.pop())
    }

    /// Gives the claim the time that publishing may take.
    pub(super) async fn hold(&self, keys: &Keys, token: &str) -> Result<bool, Trouble> {
        let expires = expiry(self.chords.publishing_s());
        for _ in 0..ROUNDS_MAX {
            let (how, claim) = match self.claim_item(keys).await? {
                Some(item) if holder(&item).is_some_and(|(_, holder)| holder == token) => {
                    (Store::Over(item.unique), String::from_utf8_lossy(&item.value).into_owned())
                }
                Some(_) => return Ok(false),
                None => {
                    let header = self.ask(&keys.group, |ask| ask.read([keys.group.as_str()])).await?;
                    let Some(header) = values(header)?.pop() else { return Ok(false) };
                    (Store::Add, format!("{} {token}", header.unique))
                }
            };
            let store = self.ask_server(keys.server, |ask| ask.store(how, &keys.claim, claim.as_bytes(), expires));
            match store.await? {
                Reply::Done => return Ok(true),
                Reply::NotStored | Reply::Changed | Reply::Missing => {}
                other => return Err(strange(other)),
            }
        }
        Ok(false)
    }

    /// Whoever holds the claim says that the chord is done; without a token it is said whoever holds it.
    pub(super) async fn close(&self, keys: &Keys, token: Option<&str>) -> Result<bool, Trouble> {
        let expires = expiry(self.chords.done_s);
        for _ in 0..ROUNDS_MAX {
            let item = self.claim_item(keys).await?;
            let (how, run) = match item.as_ref().and_then(|item| Some((item.unique, holder(item)?))) {
                Some((_, (_, holder))) if holder == DONE => return Ok(true),
                Some((unique, (run, holder))) if token.is_none_or(|token| token == holder) => {
                    (Store::Over(unique), run)
                }
                None if token.is_none() => (Store::Add, NO_RUN.to_owned()),
                _ => return Ok(false),
            };
            let done = format!("{run} {DONE}");
            let store = self.ask_server(keys.server, |ask| ask.store(how, &keys.claim, done.as_bytes(), expires));
            match store.await? {
                Reply::Done => return Ok(true),
                Reply::NotStored | Reply::Changed | Reply::Missing => {}
                other => return Err(strange(other)),
            }
        }
        Err(Trouble::refused("others write its claim all the time", true))
    }
}

/// The run, and who has the claim.
fn holder(item: &Item) -> Option<(String, String)> {
    let text = String::from_utf8_lossy(&item.value);
    text.split_once(' ').map(|(run, holder)| (run.to_owned(), holder.to_owned()))
}

/// What a claim says about this run; none if it is of another.
fn read(item: &Item, run: &str, token: &str) -> Option<Claim> {
    let (claimed, holder) = holder(item)?;
    match holder == DONE {
        // The header goes when a chord is done, and its run is not known any more.
        true if claimed == run || run == NO_RUN => Some(Claim::Done),
        false if claimed == run && holder == token => Some(Claim::Ours),
        false if claimed == run => Some(Claim::Held),
        _ => None,
    }
}

/// True if the chord that this claim is of is over.
pub(super) fn is_done(item: &Item) -> bool {
    holder(item).is_some_and(|(_, holder)| holder == DONE)
}

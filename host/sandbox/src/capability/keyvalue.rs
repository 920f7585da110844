//! `wasi:keyvalue`, store and atomics: values that a plugin keeps from one task to the next.
//!
//! Two drafts are linked, which differ in cursors and in what atomics there are. Nothing is kept here; see
//! [`Values`]. Whoever asks for a bucket that was not granted is told which line is missing.

mod link;
mod operate;

use std::fmt;
use std::sync::Arc;

use taskhost_core::PluginName;

use crate::instance::Guest;
use crate::logs::Speaker;

pub(crate) use link::VERSIONS;
pub(super) use link::link;

/// Opens stores of values.
#[wasmtime_wasi::async_trait]
pub trait ValuesSource: Send + Sync {
    /// The store at this URL, or the one of all buckets that have none of their own.
    async fn open(&self, url: Option<&str>) -> Result<Arc<dyn Values>, String>;
}

/// An open store. A space is a plugin's bucket; spaces do not see each other. An error is a text for the guest.
#[wasmtime_wasi::async_trait]
pub trait Values: Send + Sync {
    async fn get(&self, space: &str, key: &str) -> Result<Option<Vec<u8>>, String>;
    async fn set(&self, space: &str, key: &str, value: Vec<u8>) -> Result<(), String>;
    async fn delete(&self, space: &str, key: &str) -> Result<(), String>;
    async fn exists(&self, space: &str, key: &str) -> Result<bool, String>;
    /// Some keys, and where to go on.
    async fn list(&self, space: &str, cursor: Option<u64>) -> Result<(Vec<String>, Option<u64>), String>;
    async fn increment(&self, space: &str, key: &str, delta: i64) -> Result<i64, String>;
    /// Puts a value there if what is there is still `current`; else what is there.
    async fn swap(
        &self,
        space: &str,
        key: &str,
        current: Option<Vec<u8>>,
        value: Vec<u8>,
    ) -> Result<Result<(), Option<Vec<u8>>>, String>;
}

/// The resource `bucket`.
#[derive(Clone)]
pub(crate) struct Bucket {
    space: Arc<str>,
    values: Arc<dyn Values>,
}

/// The resource `cas`: what a value was, for putting another in its place.
pub(crate) struct Cas {
    bucket: Bucket,
    key: String,
    current: Option<Vec<u8>>,
}

/// The variant `error` of the interface.
#[derive(Debug, PartialEq)]
enum Trouble {
    AccessDenied,
    Other(String),
}

impl Trouble {
    fn other(text: impl fmt::Display) -> Self {
        Self::Other(text.to_string())
    }
}

/// What stands before the keys of a bucket. Plugins are named as people like, so what parts the names is
/// escaped in theirs.
fn space(plugin: &PluginName, bucket: &str) -> Arc<str> {
    let plugin = plugin.as_str().replace('%', "%25").replace(':', "%3A");
    format!("{plugin}:{bucket}:").into()
}

impl Guest {
    /// The bucket of that name, if the plugin may have it.
    async fn bucket(&mut self, name: &str) -> Result<Bucket, Trouble> {
        let Some(url) = self.capabilities().and_then(|all| all.keyvalue.get(name)).cloned() else {
            // The case `access-denied` has no room for the text, and who is told no more cannot help himself.
            return Err(Trouble::Other(self.remarks().deny("keyvalue", name)));
        };
        let Speaker::Task(attempt, _) = self.speaker() else { return Err(Trouble::AccessDenied) };
        let space = space(&attempt.spec.plugin, name);
        let Some(source) = self.surroundings().values.get().cloned() else {
            return Err(Trouble::other("this host keeps no values"));
        };
        let waiting = self.waiting();
        let url = url.as_ref().map(|url| url.expose());
        let opened = operate::timely(&waiting, source.open(url)).await?;
        Ok(Bucket { space, values: opened })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_buckets_have_the_same_space() {
        let space = |plugin: &str, bucket: &str| space(&PluginName::parse(plugin).expect("a name"), bucket);
        assert_eq!(&*space("images", "cache"), "images:cache:");
        assert_ne!(space("a:b", "c"), space("a", "b:c"));
        assert_ne!(space("a%3Ab", "c"), space("a:b", "c"));
    }
}

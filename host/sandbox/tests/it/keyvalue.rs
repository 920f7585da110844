//! Guests that keep values.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sandbox::{Grant, Limits, Values, ValuesSource};
use taskhost_core::{Limit, Outcome, PluginName};

use crate::guest::{Guest, KEYVALUE};
use crate::world::{World, json};

/// Counts, or never answers.
#[derive(Clone, Default)]
struct Counter {
    asked: Arc<Mutex<Vec<String>>>,
    silent: bool,
}

#[sandbox::async_trait]
impl ValuesSource for Counter {
    async fn open(&self, url: Option<&str>) -> Result<Arc<dyn Values>, String> {
        self.note(format!("open {url:?}"));
        Ok(Arc::new(self.clone()))
    }
}

#[sandbox::async_trait]
impl Values for Counter {
    async fn get(&self, _: &str, _: &str) -> Result<Option<Vec<u8>>, String> {
        Err("not here".to_owned())
    }

    async fn set(&self, _: &str, _: &str, _: Vec<u8>) -> Result<(), String> {
        Err("not here".to_owned())
    }

    async fn delete(&self, _: &str, _: &str) -> Result<(), String> {
        Err("not here".to_owned())
    }

    async fn exists(&self, _: &str, _: &str) -> Result<bool, String> {
        Err("not here".to_owned())
    }

    async fn list(&self, _: &str, _: Option<u64>) -> Result<(Vec<String>, Option<u64>), String> {
        Err("not here".to_owned())
    }

    async fn increment(&self, space: &str, key: &str, delta: i64) -> Result<i64, String> {
        self.note(format!("{space}{key} {delta}"));
        if self.silent {
            std::future::pending::<()>().await;
        }
        Ok(delta + 2)
    }

    async fn swap(
        &self,
        _: &str,
        _: &str,
        _: Option<Vec<u8>>,
        _: Vec<u8>,
    ) -> Result<Result<(), Option<Vec<u8>>>, String> {
        Err("not here".to_owned())
    }
}

impl Counter {
    fn note(&self, line: String) {
        self.asked.lock().expect("no panics").push(line);
    }
}

/// Adds 5 to `n` in the bucket `b`, and returns the sum; traps if it is not given the bucket.
fn adder() -> Guest {
    Guest::new(
        "(call $open (i32.const 300) (i32.const 1) (i32.const 64))
         (if (i32.load8_u (i32.const 64)) (then unreachable))
         (call $increment (i32.load (i32.const 68)) (i32.const 310) (i32.const 1) (i64.const 5) (i32.const 80))
         (if (i32.load8_u (i32.const 80)) (then unreachable))
         (i32.store8 (i32.const 100) (i32.add (i32.const 0x30) (i32.load (i32.const 88))))
         (call $ok (i32.const 100) (i32.const 1))",
    )
    .import(KEYVALUE)
    .memory("(import \"shared\" \"memory\" (memory 32)) (export \"memory\" (memory 0))")
    .field("(data (i32.const 300) \"b\") (data (i32.const 310) \"n\")")
}

async fn world(entry: &str, values: &Counter) -> World {
    let mut grant = Grant::default();
    grant.set("keyvalue", &[entry.to_owned()]).expect("a bucket");
    let grants = BTreeMap::from([(PluginName::parse("guest").expect("a name"), grant)]);
    let bucket = entry.split('=').next().expect("a name");
    let manifest = format!("name = \"guest\"\ncomponent = \"guest.wasm\"\n[needs]\nkeyvalue = [\"{bucket}\"]\n");
    let files = [("guest/guest.wasm", adder().build()), ("guest/plugin.toml", manifest.into_bytes())];
    let world = World::with_grants(Limits::default(), grants, &files).await;
    assert_eq!(world.loaded.refused, [], "{:?}", world.loaded.refused);
    world.sandbox.keep_values_in(Arc::new(values.clone()));
    world
}

#[tokio::test]
async fn a_bucket_is_the_plugins_own_and_where_its_grant_says() {
    let values = Counter::default();
    assert_eq!(world("b", &values).await.outcome().await, Outcome::Success(json("7")));
    assert_eq!(world("b=redis://box/2", &values).await.outcome().await, Outcome::Success(json("7")));
    let asked = values.asked.lock().expect("no panics").clone();
    assert_eq!(asked, ["open None", "guest:b:n 5", "open Some(\"redis://box/2\")", "guest:b:n 5"]);
}

#[tokio::test]
async fn another_bucket_is_not_even_opened() {
    let values = Counter::default();
    let outcome = world("other", &values).await.outcome().await;
    assert!(matches!(outcome, Outcome::Trapped(_)), "{outcome:?}");
    assert_eq!(values.asked.lock().expect("no panics").len(), 0);
}

#[tokio::test]
async fn a_store_that_never_answers_does_not_keep_a_guest_beyond_its_limits() {
    let values = Counter { silent: true, ..Counter::default() };
    let limit = Duration::from_millis(50);
    let outcome = world("b", &values).await.outcome_within(limit).await;
    assert_eq!(outcome, Outcome::TimedOut(Limit::Hard(limit)));
}

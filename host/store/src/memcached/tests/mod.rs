//! The memcached store against a real server if there is one, and against servers that misbehave.

mod peers;
mod trouble;

use std::sync::Arc;

use super::*;
use crate::conformance::{self, Bounds, fresh, record};
use crate::target::Target;

const SERVER: &str = "TASKHOST_TEST_MEMCACHED";

/// The URL of the real server, if there is one; says so if there is none.
#[expect(clippy::print_stdout, reason = "a test that is skipped says so")]
fn server() -> Option<String> {
    let url = std::env::var(SERVER).ok().filter(|url| !url.is_empty());
    if url.is_none() {
        println!("skipped: {SERVER} is not set");
    }
    url
}

fn store_with(url: &str, options: &StoreOptions) -> MemcachedStore {
    match Target::parse(url) {
        Ok(Target::Memcached(servers)) => MemcachedStore::new(RedactedUrl::new(url), servers, options),
        other => panic!("{url} is no URL of memcached: {other:?}"),
    }
}

fn store(url: &str) -> MemcachedStore {
    store_with(url, &StoreOptions::default())
}

/// What is under a key, as it is.
async fn raw(store: &MemcachedStore, key: &str) -> Option<String> {
    let Ok(mut found) = store.read(&[key.to_owned()]).await else { panic!("{key} is answered") };
    found.remove(key).map(|item| String::from_utf8(item.value).expect("text"))
}

#[tokio::test]
async fn the_memcached_store_conforms() {
    let Some(url) = server() else { return };
    let bounds = Bounds { document_bytes: 1024 * 1024 - 1024, plain_ids: true };
    conformance::run_within(Arc::new(store(&url)), bounds).await;
    conformance::counters::run_for_keys(&store(&url)).await;
}

#[tokio::test]
async fn keys_and_documents_are_celerys() {
    let Some(url) = server() else { return };
    for (prefix, key) in [(None, ""), (Some("app"), "app_"), (Some("app:"), "app:")] {
        let options = StoreOptions { key_prefix: prefix.map(str::to_owned), ..StoreOptions::default() };
        let (store, id) = (store_with(&url, &options), fresh("key"));
        store.put(&[record(&id, State::Started, "null")]).await.remove(0).unwrap();
        let stored = raw(&store, &format!("{key}celery-task-meta-{id}")).await.expect("it is under Celery's key");
        let expected = format!(
            r#"{{"status": "STARTED", "result": null, "traceback": null, "children": [], "date_done": null, "task_id": "{id}"}}"#
        );
        assert_eq!(stored, expected);
    }
}

#[tokio::test]
async fn results_expire() {
    let Some(url) = server() else { return };
    let brief = store_with(&url, &StoreOptions { expires: Duration::from_millis(500), ..StoreOptions::default() });
    // More than thirty days, which memcached would take for a date in 1970.
    let long = store_with(&url, &StoreOptions { expires: Duration::from_secs(31 * 86_400), ..StoreOptions::default() });
    let forever = store_with(&url, &StoreOptions { expires: Duration::ZERO, ..StoreOptions::default() });
    let ids = [fresh("brief"), fresh("long"), fresh("forever")];
    for (store, id) in [&brief, &long, &forever].into_iter().zip(&ids) {
        store.put(&[record(id, State::Success, "1")]).await.remove(0).unwrap();
    }
    // One second is the least that memcached counts, and it may come some time later.
    while brief.get(&ids[0]).await.unwrap().is_some() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(long.get(&ids[1]).await.unwrap().is_some());
    assert!(forever.get(&ids[2]).await.unwrap().is_some());
}

#[test]
fn an_expiry_is_seconds_or_a_date_or_never() {
    let day = 86_400;
    assert_eq!(expiry(0), 0);
    assert_eq!(expiry(30 * day), 30 * day);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    assert!(expiry(31 * day) - now - 31 * day <= 1);
    assert_eq!(expiry(100 * 365 * day), 0, "beyond what memcached counts");
}

#[tokio::test]
async fn a_value_that_is_too_large_says_what_to_do() {
    let Some(url) = server() else { return };
    let (store, id) = (store(&url), fresh("large"));
    store.put(&[record(&id, State::Started, "null")]).await.remove(0).unwrap();
    let large = record(&id, State::Success, &format!("\"{}\"", "x".repeat(2 << 20)));
    let error = store.put(&[large]).await.remove(0).unwrap_err();
    assert!(!error.is_transient());
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("1 MiB") && cause.contains("`-I`") && cause.contains("2097"), "{cause}");
    assert_eq!(store.get(&id).await.unwrap().expect("what was there stays").state, State::Started);
}

#[tokio::test]
async fn of_two_who_finish_a_task_at_once_the_first_counts() {
    let Some(url) = server() else { return };
    let stores = [store(&url), store(&url)].map(Arc::new);
    for _ in 0..20 {
        let id = fresh("race");
        stores[0].put(&[record(&id, State::Started, "null")]).await.remove(0).unwrap();
        let puts: Vec<_> = (0..8)
            .map(|n: usize| {
                let (store, id) = (stores[n % 2].clone(), id.clone());
                let (state, result) =
                    if n == 0 { (State::Success, "\"done\"") } else { (State::Failure, "{\"exc_type\": \"E\"}") };
                tokio::spawn(async move { store.put(&[record(&id, state, result)]).await.remove(0).unwrap() })
            })
            .collect();
        for put in puts {
            put.await.unwrap();
        }
        let stored = stores[0].get(&id).await.unwrap().expect("it is stored");
        assert_eq!((stored.state, stored.result.as_str()), (State::Success, "\"done\""));
    }
}

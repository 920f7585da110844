//! What both stores of values do.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::task::JoinSet;

use super::*;

fn entry<'a>(space: &'a str, key: &'a str) -> Entry<'a> {
    Entry { space, key }
}

/// `space` is new, and ends as spaces do.
async fn check(values: Arc<dyn KeyValue>, space: &str) {
    let values = &*values;
    let odd = "a \u{fc}*?[\\]:b";
    for key in ["k", odd] {
        let at = entry(space, key);
        assert_eq!((values.get(at).await.unwrap(), values.exists(at).await.unwrap()), (None, false));
        for value in [&b""[..], b"\0\xff", b"text"] {
            values.set(at, Bytes::from_static(value)).await.unwrap();
            assert_eq!(values.get(at).await.unwrap().as_deref(), Some(value));
        }
        assert!(values.exists(at).await.unwrap());
    }
    // Nobody else sees them, be his name ever so much like this one.
    let beside = format!("{space}k:");
    assert_eq!(values.get(entry(&beside, "")).await.unwrap(), None);
    assert_eq!(list(values, space).await.0, BTreeSet::from(["k".to_owned(), odd.to_owned()]));
    for key in ["k", odd, "never there"] {
        values.delete(entry(space, key)).await.unwrap();
        assert!(!values.exists(entry(space, key)).await.unwrap());
    }
    assert_eq!(list(values, space).await.0, BTreeSet::new());
}

/// All keys of a space, and in how many pages they came. A database that is full of other things has many.
async fn list(values: &dyn KeyValue, space: &str) -> (BTreeSet<String>, usize) {
    let (mut found, mut cursor, mut pages) = (BTreeSet::new(), None, 0);
    loop {
        let page = values.list(space, cursor).await.unwrap();
        found.extend(page.keys);
        pages += 1;
        cursor = page.cursor;
        if cursor.is_none() {
            return (found, pages);
        }
    }
}

async fn numbers(values: Arc<dyn KeyValue>, space: &str) {
    let at = entry(space, "n");
    assert_eq!(values.increment(at, 5).await.unwrap(), 5);
    assert_eq!(values.increment(at, -7).await.unwrap(), -2);
    assert_eq!(values.get(at).await.unwrap().as_deref(), Some(&b"-2"[..]));
    values.set(at, Bytes::from(i64::MAX.to_string())).await.unwrap();
    assert!(matches!(values.increment(at, 1).await, Err(KeyValueError::NoNumber(_))));
    values.set(at, Bytes::from_static(b"seven")).await.unwrap();
    assert!(matches!(values.increment(at, 1).await, Err(KeyValueError::NoNumber(_))));
    assert_eq!(values.get(at).await.unwrap().as_deref(), Some(&b"seven"[..]));
    let mut adding = JoinSet::new();
    for _ in 0..4 {
        let (values, space) = (values.clone(), space.to_owned());
        adding.spawn(async move {
            for _ in 0..25 {
                values.increment(entry(&space, "many"), 1).await.unwrap();
            }
        });
    }
    adding.join_all().await;
    assert_eq!(values.increment(entry(space, "many"), 0).await.unwrap(), 100);
}

async fn swaps(values: &dyn KeyValue, space: &str) {
    let at = entry(space, "s");
    let bytes = |text: &'static str| Bytes::from_static(text.as_bytes());
    assert_eq!(values.swap(at, Some(bytes("x")), bytes("a")).await.unwrap(), Swap::Changed(None));
    assert_eq!(values.swap(at, None, bytes("a")).await.unwrap(), Swap::Done);
    assert_eq!(values.swap(at, None, bytes("b")).await.unwrap(), Swap::Changed(Some(bytes("a"))));
    assert_eq!(values.swap(at, Some(bytes("a")), bytes("")).await.unwrap(), Swap::Done);
    // An empty value is one.
    assert_eq!(values.swap(at, None, bytes("b")).await.unwrap(), Swap::Changed(Some(bytes(""))));
    assert_eq!(values.swap(at, Some(bytes("")), bytes("c")).await.unwrap(), Swap::Done);
    assert_eq!(values.get(at).await.unwrap(), Some(bytes("c")));
}

async fn pages(values: &dyn KeyValue, space: &str) {
    let keys: BTreeSet<String> = (0..PAGE_MAX + 500).map(|number| format!("key {number}")).collect();
    for key in &keys {
        values.set(entry(space, key), Bytes::new()).await.unwrap();
    }
    let (found, count) = list(values, space).await;
    assert!(count > 1, "all in one page");
    assert_eq!(found, keys);
    for key in &keys {
        values.delete(entry(space, key)).await.unwrap();
    }
}

async fn all(values: Box<dyn KeyValue>, name: &str) {
    let values: Arc<dyn KeyValue> = Arc::from(values);
    let nanos = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
    let space = |what: &str| format!("{name}{}-{nanos}:{what}:", std::process::id());
    check(values.clone(), &space("plain")).await;
    numbers(values.clone(), &space("numbers")).await;
    swaps(&*values, &space("swaps")).await;
    pages(&*values, &space("pages")).await;
}

#[tokio::test]
async fn values_are_kept_in_a_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let url = format!("sqlite:///{}", folder.path().join("values.db").display());
    all(keep_values(&url, &StoreOptions::default()).await.unwrap(), "t").await;
    // Who opens it again finds what was there.
    let one = keep_values(&url, &StoreOptions::default()).await.unwrap();
    one.set(entry("p:b:", "k"), Bytes::from_static(b"v")).await.unwrap();
    let other = keep_values(&url, &StoreOptions::default()).await.unwrap();
    assert_eq!(other.get(entry("p:b:", "k")).await.unwrap().as_deref(), Some(&b"v"[..]));
}

#[tokio::test]
#[expect(clippy::print_stdout, reason = "a test that is skipped says so")]
async fn values_are_kept_in_redis() {
    for variable in ["TASKHOST_TEST_REDIS", "TASKHOST_TEST_REDISS", "TASKHOST_TEST_SENTINEL"] {
        match std::env::var(variable).ok().filter(|url| !url.is_empty()) {
            Some(url) => all(keep_values(&url, &StoreOptions::default()).await.unwrap(), "t*[").await,
            None => println!("skipped: {variable} is not set"),
        }
    }
}

#[test]
fn only_redis_and_files_keep_values() {
    for url in [
        "redis://localhost/1",
        "rediss://box",
        "sentinel://a;sentinel://b",
        "sqlite:///host.db",
        "sqla+sqlite:///host.db",
    ] {
        assert!(can_keep_values(url), "{url}");
    }
    for url in ["amqp://localhost//", "rpc://", "memory://", "cache", ""] {
        assert!(!can_keep_values(url), "{url}");
    }
}

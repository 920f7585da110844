//! Servers that are down, go away, or are none.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::*;

/// A server that says the same to everything.
async fn saying(answer: &'static str) -> (String, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("cache+memcached://{}/", listener.local_addr().unwrap());
    let mut serving = JoinSet::new();
    serving.spawn(async move {
        loop {
            let Ok((mut stream, _)) = listener.accept().await else { return };
            tokio::spawn(async move {
                let mut heard = [0; 4096];
                while stream.read(&mut heard).await.is_ok_and(|bytes| bytes > 0) {
                    if answer.is_empty() || stream.write_all(answer.as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (url, serving)
}

#[tokio::test]
async fn a_server_that_is_down_is_transient() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("cache+memcached://{}/", listener.local_addr().unwrap());
    drop(listener);
    let (store, id) = (store(&url), fresh("down"));
    let error = store.ping().await.unwrap_err();
    assert!(error.is_transient());
    assert!(error.to_string().starts_with("connect to cache+memcached://127.0.0.1:"), "{error}");
    assert!(store.get(&id).await.unwrap_err().is_transient());
    assert!(store.put(&[record(&id, State::Success, "1")]).await[0].as_ref().is_err_and(StoreError::is_transient));
    let part = conformance::chords::part("g", &id, 0, "1");
    assert!(store.count_chord_parts(&[part]).await[0].as_ref().is_err_and(StoreError::is_transient));
}

#[tokio::test]
async fn a_server_that_hangs_up_is_transient_and_one_that_speaks_otherwise_is_not() {
    let (url, _serving) = saying("").await;
    assert!(store(&url).get(&fresh("x")).await.unwrap_err().is_transient());
    for answer in ["HTTP/1.1 400 Bad Request\r\n\r\n", "ERROR\r\n", "CLIENT_ERROR unauthenticated\r\n"] {
        let (url, _serving) = saying(answer).await;
        let error = store(&url).get(&fresh("x")).await.unwrap_err();
        assert!(!error.is_transient(), "{answer}: {error}");
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains(answer.lines().next().unwrap()), "{cause}");
        let answers = store(&url).put(&[record(&fresh("x"), State::Success, "1")]).await;
        assert!(answers[0].as_ref().is_err_and(|error| !error.is_transient()), "{answers:?}");
    }
    let (url, _serving) = saying("SERVER_ERROR out of memory storing object\r\n").await;
    let answers = store(&url).put(&[record(&fresh("x"), State::Success, "1")]).await;
    assert!(answers[0].as_ref().is_err_and(StoreError::is_transient), "it is full for now: {answers:?}");
}

#[tokio::test]
async fn an_answer_is_read_within_bounds() {
    let endless: &'static str = Box::leak("x".repeat(100_000).into_boxed_str());
    for answer in [endless, "VALUE k 0 99999999999 1\r\n", "VALUE k 0 3 1\r\nabcdef\r\nEND\r\n"] {
        let (url, _serving) = saying(answer).await;
        let error = store(&url).get(&fresh("x")).await.unwrap_err();
        assert!(!error.is_transient(), "{error}");
    }
}

#[tokio::test]
async fn a_connection_that_was_closed_is_replaced() {
    let Some(url) = server() else { return };
    let real = url.trim_start_matches("cache+memcached://").trim_end_matches('/').to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let store = store(&format!("cache+memcached://{}/", listener.local_addr().unwrap()));
    let accepted = Arc::new(AtomicUsize::new(0));
    let cuts = Arc::new(tokio::sync::Notify::new());
    let (count, cut) = (accepted.clone(), cuts.clone());
    let mut relaying = JoinSet::new();
    relaying.spawn(async move {
        loop {
            let Ok((mut near, _)) = listener.accept().await else { return };
            count.fetch_add(1, Ordering::SeqCst);
            let (real, cut) = (real.clone(), cut.clone());
            tokio::spawn(async move {
                let mut far = TcpStream::connect(&real).await.unwrap();
                tokio::select! {
                    _ = copy_bidirectional(&mut near, &mut far) => {}
                    () = cut.notified() => {}
                }
            });
        }
    });
    let id = fresh("closed");
    store.put(&[record(&id, State::Started, "null")]).await.remove(0).unwrap();
    assert_eq!(accepted.load(Ordering::SeqCst), 1);
    cuts.notify_waiters();
    store.put(&[record(&id, State::Success, "1")]).await.remove(0).unwrap();
    assert_eq!(accepted.load(Ordering::SeqCst), 2);
    assert_eq!(store.get(&id).await.unwrap().unwrap().state, State::Success);
}

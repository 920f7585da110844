//! The other ways to a server: with TLS, and through Sentinels.

use tokio::net::TcpListener;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn redis_with_tls_passes_the_suite() {
    let Some(bench) = Bench::at("TASKHOST_TEST_REDISS").await else { return };
    suite(&bench).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_behind_sentinels_passes_the_suite() {
    let Some(bench) = Bench::at("TASKHOST_TEST_SENTINEL").await else { return };
    suite(&bench).await;
}

#[tokio::test]
async fn a_stranger_is_a_permanent_error_that_says_what_was_wrong() {
    let Some(url) = server("TASKHOST_TEST_REDISS") else { return };
    let url = url.replace("/ca.pem", "/other-ca.pem").replace("//127", "//me:secret@127");
    let error = RedisBroker::connect(&url, &RedisOptions::default()).await.err().unwrap();
    assert!(!error.is_transient());
    assert!(error.to_string().starts_with("connect to rediss://me:**@127.0.0.1:"), "{error}");
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("certificate is signed by nobody who is believed"), "{cause}");
}

#[tokio::test]
async fn sentinels_that_are_gone_are_transient() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let url = format!("sentinel://:secret@{closed};sentinel://:secret@{closed}");
    let mut options = RedisOptions::default();
    options.set(&url, &[("master_name".to_owned(), "m".to_owned())]).unwrap();
    let error = RedisBroker::connect(&url, &options).await.err().unwrap();
    assert!(error.is_transient());
    assert_eq!(error.to_string(), format!("connect to sentinel://:**@{closed};sentinel://:**@{closed}"));
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.starts_with(&format!("no Sentinel names the master `m` ({closed}: ")), "{cause}");
}

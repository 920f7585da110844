//! Servers, connections and messages that are not as they should be.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

#[tokio::test]
async fn what_is_no_message_is_set_aside() {
    let Some(bench) = Bench::new().await else { return };
    let broker = bench.broker().await;
    bench.ask::<u64>("LPUSH", "q", &["not json", "[]"]).await;
    publish(&broker, &["good"]).await;
    let consumer = broker.consume(&queue(), 1).await.unwrap();
    let taken = take(&*consumer, 1).await;
    assert_eq!(texts(&taken), ["good"]);
    settle(&*consumer, taken, Acknowledgement::Ack).await;
    let aside: Vec<String> = bench.ask("LRANGE", "_taskhost.unreadable", &["0", "-1"]).await;
    assert_eq!(aside, ["[]", "not json"]);
    assert_eq!(bench.scores().await, []);
}

#[tokio::test]
async fn a_script_that_was_flushed_is_loaded_again() {
    let Some(bench) = Bench::new().await else { return };
    let broker = bench.broker().await;
    let consumer = broker.consume(&queue(), 1).await.unwrap();
    bench.raw.run(redis::cmd("SCRIPT").arg("FLUSH")).await.unwrap();
    publish(&broker, &["a"]).await;
    let taken = take(&*consumer, 1).await;
    settle(&*consumer, taken, Acknowledgement::Requeue).await;
    assert_eq!(texts(&take(&*consumer, 1).await), ["a"]);
}

#[tokio::test]
async fn a_killed_connection_ends_consumers_at_once() {
    let Some(bench) = Bench::new().await else { return };
    let broker = bench.broker().await;
    let consumer = broker.consume(&queue(), 1).await.unwrap();
    let id: u64 = broker.link.connection.ask(redis::cmd("CLIENT").arg("ID")).await.unwrap();
    bench.raw.run(redis::cmd("CLIENT").arg("KILL").arg("ID").arg(id)).await.unwrap();
    let began = Instant::now();
    assert!(matches!(consumer.next().await, Err(BrokerError::Lost { .. })));
    assert!(began.elapsed() < Duration::from_secs(2));
}

/// A server that greets, and then answers everything in one way.
async fn refusing(answer: &'static str) -> (String, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://me:secret@{}", listener.local_addr().unwrap());
    let mut serving = JoinSet::new();
    serving.spawn(async move {
        let mut open = JoinSet::new();
        while let Ok((mut client, _)) = listener.accept().await {
            open.spawn(async move {
                let mut command = [0; 65536];
                while let Ok(bytes) = client.read(&mut command).await
                    && bytes > 0
                {
                    let text = String::from_utf8_lossy(&command[..bytes]).into_owned();
                    // The login is several commands at once.
                    for text in text.split("\r\n*") {
                        let is_one_of = |words: &[&str]| words.iter().any(|word| text.contains(word));
                        let answer = match () {
                            () if text.contains("AUTH") && answer.contains("WRONGPASS") => answer,
                            () if is_one_of(&["AUTH", "HELLO", "SETNAME", "TRACKING"]) => "+OK\r\n",
                            () if text.contains("INFO") => "$0\r\n\r\n",
                            () if text.contains("TIME") => "*2\r\n$1\r\n0\r\n$1\r\n0\r\n",
                            () if text.contains("LOAD") => "$1\r\nx\r\n",
                            () => answer,
                        };
                        client.write_all(answer.as_bytes()).await.unwrap();
                    }
                }
            });
        }
    });
    (url, serving)
}

#[tokio::test]
async fn trouble_of_the_server_is_told_apart() {
    for (answer, lost) in [
        ("-READONLY You can't write against a read only replica.\r\n", true),
        ("-MOVED 1 127.0.0.1:1\r\n", true),
        ("-CLUSTERDOWN Hash slot not served\r\n", true),
        ("-LOADING Redis is loading the dataset in memory\r\n", true),
        ("-OOM command not allowed when used memory > 'maxmemory'.\r\n", false),
    ] {
        let (url, _serving) = refusing(answer).await;
        let broker = RedisBroker::connect(&url, &RedisOptions::default()).await.unwrap();
        let error = broker.publish(&[publication("a", 0)]).await.unwrap_err();
        assert!(error.is_transient(), "{answer}: {error:?}");
        assert_eq!(matches!(error, BrokerError::Lost { .. }), lost, "{answer}: {error:?}");
    }
    let (url, _serving) = refusing("-WRONGPASS invalid username-password pair or user is disabled.\r\n").await;
    let error = RedisBroker::connect(&url, &RedisOptions::default()).await.err().unwrap();
    assert!(!error.is_transient());
    assert!(error.to_string().starts_with("connect to redis://me:**@127.0.0.1:"), "{error}");
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("WRONGPASS"), "{error:?}");
}

/// Host and port of a URL.
fn address(url: &str) -> &str {
    url.split("://").nth(1).unwrap().split(['/', '?']).next().unwrap().rsplit('@').next().unwrap()
}

/// Passes on what is said until it is told to be silent, with both ends open.
async fn half_open(url: &str) -> (String, Arc<AtomicBool>, JoinSet<()>) {
    let address = address(url).to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = url.replace(&address, &listener.local_addr().unwrap().to_string());
    let silent = Arc::new(AtomicBool::new(false));
    let is_silent = Arc::clone(&silent);
    let mut serving = JoinSet::new();
    serving.spawn(async move {
        let mut open = JoinSet::new();
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(&address).await.unwrap();
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            for (mut from, mut to) in [(from_client, to_server), (from_server, to_client)] {
                let is_silent = Arc::clone(&is_silent);
                open.spawn(async move {
                    let mut bytes = vec![0; 65536];
                    while let Ok(count) = from.read(&mut bytes).await
                        && count > 0
                    {
                        if !is_silent.load(Ordering::Relaxed) {
                            to.write_all(&bytes[..count]).await.unwrap();
                        }
                    }
                });
            }
        }
    });
    (url, silent, serving)
}

#[tokio::test]
async fn a_silent_server_is_noticed_and_its_messages_go_to_others() {
    let Some(bench) = Bench::new().await else { return };
    let bench = bench.with_short_lease();
    let (url, silent, _serving) = half_open(&bench.url).await;
    let options = RedisOptions { socket_timeout: Duration::from_millis(700), ..bench.options.clone() };
    let broker = RedisBroker::connect(&url, &options).await.unwrap();
    let consumer = broker.consume(&queue(), 1).await.unwrap();
    publish(&broker, &["a"]).await;
    let held = take(&*consumer, 1).await;
    silent.store(true, Ordering::Relaxed);
    let began = Instant::now();
    assert!(matches!(consumer.next().await, Err(BrokerError::Lost { .. })));
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    let receipts = held.into_iter().map(|it| (it.receipt, Acknowledgement::Ack)).collect();
    assert!(consumer.settle(receipts).await.is_err_and(|error| error.is_transient()));
    let other = bench.broker().await;
    let consumer = other.consume(&queue(), 1).await.unwrap();
    assert_eq!(texts(&take(&*consumer, 1).await), ["a"]);
}

#[tokio::test]
async fn a_server_that_tells_us_nothing_is_asked() {
    let Some(bench) = Bench::new().await else { return };
    let user = format!("user-{}", uuid::Uuid::new_v4().simple());
    let mut allow = redis::cmd("ACL");
    allow.arg("SETUSER").arg(&user).arg(&["on", ">secret", "~*", "&*", "+@all", "-client|tracking"]);
    bench.raw.run(&allow).await.unwrap();
    let url = format!("redis://{user}:secret@{}", address(&bench.url));
    let broker = RedisBroker::connect(&url, &bench.options).await.unwrap();
    assert!(!broker.link.is_told);
    let consumer = broker.consume(&queue(), 1).await.unwrap();
    for text in ["a", "b"] {
        publish(&broker, &[text]).await;
        let taken = take(&*consumer, 1).await;
        assert_eq!(texts(&taken), [text]);
        settle(&*consumer, taken, Acknowledgement::Ack).await;
    }
    broker.close().await;
    bench.raw.run(redis::cmd("ACL").arg("DELUSER").arg(&user)).await.unwrap();
}

//! Real servers with TLS and behind Sentinels: what is said on every way to them, and who is refused.

use redis::{Value, cmd};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::*;
use crate::redis::Options;

/// A variable of the environment that `cargo xtask test` makes; says so if it is not set.
#[expect(clippy::print_stdout, reason = "a test that is skipped says so")]
fn given(name: &str) -> Option<String> {
    let value = std::env::var(name).ok().filter(|value| !value.is_empty());
    if value.is_none() {
        println!("skipped: {name} is not set");
    }
    value
}

fn dialer(url: &str) -> Dialer {
    Dialer::new(Target::parse(url, &Options::default()).unwrap()).unwrap()
}

fn opening() -> Opening<'static> {
    Opening { name: Some("dial-test"), within: Duration::from_secs(20) }
}

async fn open(url: &str, protocol: ProtocolVersion) -> Result<Connection, OpenError> {
    let config = AsyncConnectionConfig::new().set_response_timeout(Some(Duration::from_secs(20)));
    dialer(url).connect(opening(), protocol, config).await
}

async fn info(connection: &Connection) -> String {
    let mut command = cmd("CLIENT");
    command.arg("INFO").query_async(&mut connection.multiplexed()).await.unwrap()
}

/// Why this cannot be opened, and never will.
async fn refused(url: &str) -> String {
    match open(url, ProtocolVersion::RESP2).await {
        Err(error @ OpenError::Other { transient: false, .. }) => error.to_string(),
        Err(error) => panic!("{url}: {error:?}"),
        Ok(_) => panic!("{url} is opened"),
    }
}

/// Another address of the server.
async fn forward(from: &str, port: u16) -> (u16, JoinSet<()>) {
    let listener = TcpListener::bind((from, 0)).await.unwrap();
    let near = listener.local_addr().unwrap().port();
    let mut serving = JoinSet::new();
    serving.spawn(async move {
        let mut open = JoinSet::new();
        while let Ok((mut client, _)) = listener.accept().await {
            open.spawn(async move {
                let mut server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                let _ = copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    (near, serving)
}

fn port(url: &str) -> u16 {
    let Address::Tcp(_, port) = Target::parse(url, &Options::default()).unwrap().address else { panic!("{url}") };
    port
}

#[tokio::test]
async fn nothing_is_forgotten_on_any_way_to_a_server() {
    let ways = [("TASKHOST_TEST_REDIS", 5), ("TASKHOST_TEST_REDISS", 6), ("TASKHOST_TEST_SENTINEL", 7)];
    for (variable, db) in ways {
        let Some(url) = given(variable) else { continue };
        let url = url.replace("/0", &format!("/{db}"));
        for protocol in [ProtocolVersion::RESP2, ProtocolVersion::RESP3] {
            let resp = if protocol == ProtocolVersion::RESP2 { 2 } else { 3 };
            let opened = open(&url, protocol).await.unwrap();
            let info = info(&opened).await;
            for part in [" name=dial-test ".to_owned(), format!(" db={db} "), format!(" resp={resp}")] {
                assert!(info.contains(&part), "{variable}: no {part:?} in {info}");
            }
            let role: Value = cmd("ROLE").query_async(&mut opened.multiplexed()).await.unwrap();
            assert!(format!("{role:?}").contains("master"), "{role:?}");
        }
        let mut subscriber = dialer(&url).subscriber(opening()).await.unwrap();
        subscriber.subscribe("dial-test").await.unwrap();
        let opened = open(&url, ProtocolVersion::RESP2).await.unwrap();
        let clients: String =
            cmd("CLIENT").arg("LIST").arg("TYPE").arg("PUBSUB").query_async(&mut opened.multiplexed()).await.unwrap();
        assert!(clients.contains(" name=dial-test "), "{clients}");
    }
}

#[tokio::test]
async fn a_connection_is_closed_with_its_last_copy() {
    let Some(url) = given("TASKHOST_TEST_REDIS") else { return };
    let (watching, opened) =
        (open(&url, ProtocolVersion::RESP2).await.unwrap(), open(&url, ProtocolVersion::RESP3).await.unwrap());
    let id: u64 = cmd("CLIENT").arg("ID").query_async(&mut opened.multiplexed()).await.unwrap();
    let copy = opened.clone();
    drop(opened);
    assert!(info(&copy).await.contains(&format!("id={id} ")));
    drop(copy);
    let listed = async || -> String {
        cmd("CLIENT").arg("LIST").arg("ID").arg(id).query_async(&mut watching.multiplexed()).await.unwrap()
    };
    tokio::time::timeout(Duration::from_secs(20), async {
        while !listed().await.is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the server sees it closed");
}

#[tokio::test]
async fn a_server_that_is_not_the_one_that_is_meant_is_refused() {
    let (Some(url), Some(certificates)) = (given("TASKHOST_TEST_REDISS"), given("TASKHOST_TEST_CERTIFICATES")) else {
        return;
    };
    // Signed by somebody else, and believed by nobody.
    let stranger = refused(&url.replace("/ca.pem", "/other-ca.pem")).await;
    assert_eq!(stranger, "the server's certificate is signed by nobody who is believed; ssl_ca_certs names who is");
    let port = port(&url);
    assert!(refused(&format!("rediss://127.0.0.1:{port}")).await.contains("signed by nobody"));
    assert!(open(&format!("rediss://127.0.0.1:{port}?ssl_cert_reqs=none"), ProtocolVersion::RESP3).await.is_ok());
    // The certificate is for 127.0.0.1.
    let (elsewhere, _serving) = forward("127.0.0.2", port).await;
    let elsewhere = format!("rediss://127.0.0.2:{elsewhere}?ssl_ca_certs={certificates}/ca.pem");
    let name = refused(&elsewhere).await;
    assert!(name.contains("not for 127.0.0.2; "), "{name}");
    assert!(open(&format!("{elsewhere}&ssl_check_hostname=false"), ProtocolVersion::RESP3).await.is_ok());
}

#[tokio::test]
async fn a_wrong_password_behind_sentinels_is_told_from_a_wrong_one_of_theirs() {
    let Some(url) = given("TASKHOST_TEST_SENTINEL") else { return };
    let error = open(&url.replace(":secret@", ":wrong@"), ProtocolVersion::RESP2).await.err().unwrap();
    assert!(matches!(&error, OpenError::Redis(error) if error.code() == Some("WRONGPASS")), "{error:?}");
    let error = open(&url.replace("guard", "wrong"), ProtocolVersion::RESP2).await.err().unwrap().to_string();
    assert!(
        error.starts_with("no Sentinel names the master `mymaster` (127.0.0.1:") && error.contains("WRONGPASS"),
        "{error}"
    );
    assert!(refused(&url.replace("mymaster", "other")).await.contains("does not know it"));
}

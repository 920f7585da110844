//! What a guest can do with wasi:sockets, and what is done with a guest that tries more.

use std::net::SocketAddr;
use std::time::Duration;

use sandbox::Limits;
use taskhost_core::{Attempt, Outcome};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinSet;
use tracing::Level;

use crate::http::{done, world};
use crate::logs;
use crate::world::World;

/// Gives back what each connection sends, until the set is dropped.
async fn echo() -> (SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let mut serving = JoinSet::new();
    serving.spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.expect("the listener stays");
            let mut text = Vec::new();
            stream.read_to_end(&mut text).await.expect("the guest closes its side");
            stream.write_all(&text).await.expect("the guest reads");
        }
    });
    (address, serving)
}

/// Why the task failed, and what the log says beside.
async fn failed(world: &World, task: &str, args: &str) -> (String, String) {
    let (outcome, log) = logs::capture(Level::WARN, async { world.run(world.call(task, args)).await.outcome }).await;
    match outcome {
        Outcome::Failure(exception, _) => (format!("{exception:?}"), log.join("\n")),
        other => panic!("{task} {args}: {other:?}"),
    }
}

#[track_caller]
fn denied(failure: &(String, String), in_log: &str) {
    assert!(failure.0.contains("PermissionDenied") || failure.0.contains("access-denied"), "{failure:?}");
    assert!(failure.1.contains(in_log), "no {in_log} in {}", failure.1);
}

#[tokio::test]
async fn a_connection_to_an_address_that_is_granted_as_such() {
    let (address, _serving) = echo().await;
    let pattern = format!("tcp://{address}");
    let needs = format!("sockets = [\"{pattern}\"]");
    let Some(world) = world(Limits::default(), &needs, &[("sockets", &[&pattern])]).await else { return };
    let call = format!(r#"["{address}", "hello"]"#);
    assert_eq!(done(&world, "net.tcp", &call).await, r#""hello""#);
    let usage = world.run(world.call("net.tcp", &call)).await.usage;
    // Five bytes each way beside the arguments and the result.
    assert_eq!((usage.bytes_in, usage.bytes_out), (call.len() as u64 + 2 + 5, 7 + 5), "{usage:?}");
    let report = world.loaded.plugins.iter().find(|report| report.name == "net").expect("it is loaded");
    assert!(
        report.warnings.iter().any(|warning| warning.starts_with("its sockets are granted to whatever")),
        "{report:?}"
    );
    let elsewhere = failed(&world, "net.tcp", r#"["127.0.0.2:1", "hello"]"#).await;
    denied(&elsewhere, "sockets `tcp://127.0.0.2:1` is denied: the plugin does not declare it; add `sockets = [");
}

#[tokio::test]
async fn a_connection_to_where_a_granted_name_leads() {
    let (address, _serving) = echo().await;
    let port = address.port();
    let needs = format!("sockets = [\"tcp://localhost:{port}\"]");
    let granted: &[&str] = &["tcp://*:*"];
    let allowed: &[(&str, &[&str])] = &[("sockets", granted), ("networks", &["loopback"])];
    let Some(allowing) = world(Limits::default(), &needs, allowed).await else { return };
    assert_eq!(done(&allowing, "net.tcp", &format!(r#"["localhost:{port}", "hello"]"#)).await, r#""hello""#);
    assert!(done(&allowing, "net.lookup", r#"["LocalHost."]"#).await.contains("127.0.0.1"));
    // The name is declared, its address is not, and it has one port.
    denied(&failed(&allowing, "net.tcp", &format!(r#"["127.0.0.1:{port}", "hello"]"#)).await, "is denied");
    denied(&failed(&allowing, "net.tcp", r#"["localhost:1", "hello"]"#).await, "tcp://127.0.0.1:1` is denied");
    // And the name leads nowhere that was not granted.
    let Some(refusing) = world(Limits::default(), &needs, &[("sockets", granted)]).await else { return };
    for task in ["net.tcp", "net.lookup"] {
        let args =
            if task == "net.tcp" { format!(r#"["localhost:{port}", ""]"#) } else { r#"["localhost"]"#.to_owned() };
        let failure = failed(&refusing, task, &args).await;
        denied(&failure, "sockets `localhost` is denied: its address ");
        assert!(failure.1.contains("is loopback; add `networks = [\"loopback\"]`"), "{failure:?}");
    }
}

#[tokio::test]
async fn names_that_are_not_granted_are_not_even_looked_up() {
    let needs = r#"sockets = ["tcp://db.invalid:5432", "tcp://127.0.0.1:1"]"#;
    let grant: &[(&str, &[&str])] = &[("sockets", &["tcp://*:*"]), ("networks", &["loopback"])];
    let Some(world) = world(Limits::default(), needs, grant).await else { return };
    for name in ["localhost", "example.com", "secret-data.evil.example", "db.invalid.evil.example"] {
        denied(&failed(&world, "net.lookup", &format!(r#"["{name}"]"#)).await, "is denied");
    }
    for name in ["127.1", "2130706433", "0x7f.1", "a b", "bücher.example"] {
        let failure = failed(&world, "net.lookup", &format!(r#"["{name}"]"#)).await;
        assert!(failure.1.contains("is no name of a machine"), "{name}: {failure:?}");
    }
    assert_eq!(done(&world, "net.lookup", r#"["127.0.0.1"]"#).await, r#"["127.0.0.1"]"#);
    // This one is asked for, and there is none of that name.
    let unknown = failed(&world, "net.lookup", r#"["db.invalid"]"#).await;
    assert!(!unknown.1.contains("is denied"), "{unknown:?}");
}

#[tokio::test]
async fn without_a_grant_there_are_no_sockets() {
    let (address, _serving) = echo().await;
    let Some(world) = world(Limits::default(), "", &[]).await else { return };
    let line = "is denied: the plugin does not declare it; add `sockets = [";
    denied(
        &failed(&world, "net.tcp", &format!(r#"["{address}", ""]"#)).await,
        &format!("sockets `tcp://HOST:PORT` {line}"),
    );
    denied(
        &failed(&world, "net.udp", &format!(r#"[["{address}"], ""]"#)).await,
        &format!("sockets `udp://HOST:PORT` {line}"),
    );
    denied(&failed(&world, "net.lookup", r#"["localhost"]"#).await, &format!("sockets `tcp://localhost:PORT` {line}"));
    // TCP alone is no UDP.
    let granted = format!("tcp://{address}");
    let needs = format!("sockets = [\"{granted}\"]");
    let Some(tcp) = crate::http::world(Limits::default(), &needs, &[("sockets", &[&granted])]).await else { return };
    denied(&failed(&tcp, "net.udp", &format!(r#"[["{address}"], ""]"#)).await, "udp://HOST:PORT");
}

#[tokio::test]
async fn nobody_listens() {
    let needs = r#"sockets = ["tcp://*:*", "udp://*:*"]"#;
    let grant: &[(&str, &[&str])] = &[("sockets", &["tcp://*:*", "udp://*:*"]), ("networks", &["0.0.0.0/0", "::/0"])];
    let Some(world) = world(Limits::default(), needs, grant).await else { return };
    for address in ["0.0.0.0:0", "127.0.0.1:0", "0.0.0.0:18080", "[::]:0", "[::1]:18080"] {
        let failure = failed(&world, "net.listen", &format!(r#"["{address}"]"#)).await;
        denied(&failure, "sockets: no plugin may ");
    }
    denied(&failed(&world, "net.listen_late", "[]").await, "sockets: no plugin may listen");
    for address in ["127.0.0.1:0", "0.0.0.0:18053"] {
        denied(
            &failed(&world, "net.receive", &format!(r#"["{address}"]"#)).await,
            "no plugin may choose its own address",
        );
    }
    done(&world, "net.receive", r#"["0.0.0.0:0"]"#).await;
}

#[tokio::test]
async fn datagrams_go_to_and_come_from_where_they_may() {
    let (granted, stranger) = (UdpSocket::bind("127.0.0.1:0").await, UdpSocket::bind("127.0.0.1:0").await);
    let (granted, stranger) = (granted.expect("a free port"), stranger.expect("a free port"));
    let address = granted.local_addr().expect("it is bound");
    let other = stranger.local_addr().expect("it is bound");
    let pattern = format!("udp://{address}");
    let needs = format!("sockets = [\"{pattern}\"]");
    let Some(world) = world(Limits::default(), &needs, &[("sockets", &[&pattern])]).await else { return };
    let answer = async {
        let mut buffer = [0; 100];
        let (bytes, from) = granted.recv_from(&mut buffer).await.expect("the guest sends");
        assert_eq!(&buffer[..bytes], b"hello");
        stranger.send_to(b"evil", from).await.expect("anybody can send");
        granted.send_to(b"good", from).await.expect("so can we");
    };
    let call = format!(r#"[["{address}"], "hello"]"#);
    let (got, ()) = tokio::join!(done(&world, "net.udp", &call), answer);
    assert_eq!(got, format!(r#"["good","{address}"]"#));
    let failure = failed(&world, "net.udp", &format!(r#"[["{other}"], "exfiltrated"]"#)).await;
    denied(&failure, &format!("sockets `udp://{other}` is denied"));
    assert!(stranger.try_recv(&mut [0; 100]).is_err());
}

#[tokio::test]
async fn the_number_of_sockets_is_bounded() {
    let patterns: &[&str] = &["tcp://127.0.0.1:1", "udp://127.0.0.1:1"];
    let limits = Limits { sockets: 5, ..Limits::default() };
    let needs = format!("sockets = {patterns:?}");
    let Some(world) = world(limits, &needs, &[("sockets", patterns)]).await else { return };
    let (hoarded, log) = logs::capture(Level::WARN, done(&world, "net.hoard", "[100]")).await;
    assert!(hoarded.starts_with("[5,") && hoarded.contains("new-socket-limit"), "{hoarded}");
    assert!(log.iter().any(|line| line.contains("sockets: more than 5 at once; raise limits.sockets")), "{log:?}");
    assert_eq!(done(&world, "net.hoard", "[5]").await, "[5,null]");
    world.check_alive().await;
}

#[tokio::test]
async fn a_guest_that_listens_is_told_while_it_reads() {
    // Connected by the system, and never answered.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let pattern = format!("tcp://{address}");
    let needs = format!("sockets = [\"{pattern}\"]");
    let Some(world) = world(Limits::default(), &needs, &[("sockets", &[&pattern])]).await else { return };
    let soft_time_limit = Some(Duration::from_secs(1));
    let attempt = Attempt { soft_time_limit, ..world.call("net.patient_tcp", &format!(r#"["{address}", "hello"]"#)) };
    let outcome = world.run(attempt).await.outcome;
    assert!(matches!(outcome, Outcome::Failure(..)), "{outcome:?}");
    world.check_alive().await;
}

//! What a guest can do with wasi:http, and what is done with a guest that tries more.

use std::collections::BTreeMap;
use std::time::Duration;

use sandbox::{Grant, Limits};
use taskhost_core::{Limit, Outcome, PluginName};
use tracing::Level;

use crate::logs;
use crate::server::{Server, TOGETHER};
use crate::world::World;

/// A world with the guest `net`, which needs this and is granted that; none if it is not built.
pub(crate) async fn world(limits: Limits, needs: &str, grant: &[(&str, &[&str])]) -> Option<World> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/guests/net/net.wasm");
    let Ok(component) = std::fs::read(path) else {
        skip(&format!("{path} is not there; `cargo xtask plugins net` builds it"));
        return None;
    };
    let mut granted = Grant::default();
    for (option, entries) in grant {
        let entries: Vec<String> = entries.iter().map(|entry| (*entry).to_owned()).collect();
        granted.set(option, &entries).unwrap_or_else(|problem| panic!("{option}: {problem}"));
    }
    let grants = BTreeMap::from([(PluginName::parse("net").expect("a name"), granted)]);
    let manifest = format!("name = \"net\"\n[needs]\n{needs}\n");
    let files = [("net/plugin.toml", manifest.into_bytes()), ("net/net.wasm", component)];
    let world = World::with_grants(limits, grants, &files).await;
    assert_eq!(world.loaded.refused, [], "{:?}", world.loaded.refused);
    Some(world)
}

#[expect(clippy::print_stdout, reason = "libtest shows it and `cargo xtask test` counts it")]
fn skip(reason: &str) {
    println!("skipped: {reason}");
}

/// A server, and a guest that may talk to it, and to nobody else.
pub(crate) async fn served(limits: Limits) -> Option<(World, Server)> {
    let server = Server::start().await;
    let address = format!("http://{}", server.address);
    let world = world(limits, &format!("http = [\"{address}\"]"), &[("http", &[&address])]).await?;
    Some((world, server))
}

/// What a task gives back, as text.
pub(crate) async fn done(world: &World, task: &str, args: &str) -> String {
    match world.run(world.call(task, args)).await.outcome {
        Outcome::Success(json) => json.as_str().to_owned(),
        other => panic!("{task} {args}: {other:?}"),
    }
}

async fn fetch(world: &World, server: &Server, order: &str) -> String {
    let order = format!(r#"[{{"authority": "{}", {order}}}]"#, server.address);
    done(world, "net.fetch", &order).await
}

#[track_caller]
fn says(report: &str, texts: &[&str]) {
    for text in texts {
        assert!(report.contains(text), "no {text} in {report}");
    }
}

#[tokio::test]
async fn a_request_is_sent_where_it_may_go_and_says_so_itself() {
    let Some((world, server)) = served(Limits::default()).await else { return };
    let order = r#""path": "/a?b=c", "headers": [["x-y", "z"]], "send": 5, "method": "POST""#;
    says(&fetch(&world, &server, order).await, &[r#""status":200"#, r#""text":"hello""#, r#""error":null"#]);
    let heads = server.heads();
    let [head] = heads.as_slice() else { panic!("{heads:?}") };
    assert!(head.starts_with("POST /a?b=c HTTP/1.1\r\n"), "{head}");
    says(head, &[&format!("host: {}\r\n", server.address), "x-y: z\r\n"]);
    // Both ways count, with what the connection needs beside the bodies.
    let usage = world.run(world.call("net.fetch", &format!(r#"[{{"authority": "{}"}}]"#, server.address))).await.usage;
    assert!(usage.bytes_in > 80 && usage.bytes_out > 100, "{usage:?}");
    // What concerns the connection alone is not the guest's business.
    assert!(!fetch(&world, &server, r#""path": "/""#).await.contains("keep-alive"));
}

#[tokio::test]
async fn a_client_that_others_wrote_works_and_says_why_it_is_denied() {
    let Some((world, server)) = served(Limits::default()).await else { return };
    let url = format!("http://{}/a?b=c", server.address);
    assert_eq!(done(&world, "net.send", &format!(r#"["{url}"]"#)).await, r#"[200,"hello"]"#);
    assert_eq!(done(&world, "net.send", &format!(r#"["{url}", "text"]"#)).await, r#"[200,"hello"]"#);
    let heads = server.heads();
    assert!(heads[0].starts_with("GET /a?b=c HTTP/1.1\r\n") && heads[1].starts_with("POST /a?b=c"), "{heads:?}");
    let outcome = world.run(world.call("net.send", r#"["https://elsewhere.example/"]"#)).await.outcome;
    says(&format!("{outcome:?}"), &["http `https://elsewhere.example` is denied: the plugin does not declare it"]);
    let endless = format!(r#"["http://{}/endless"]"#, server.address);
    let outcome = world.run(world.call("net.send", &endless)).await.outcome;
    says(&format!("{outcome:?}"), &["raise limits.http_response_body"]);
}

#[tokio::test]
async fn what_is_denied_is_told_to_the_guest_and_once_in_the_log_and_nobody_is_asked() {
    let server = Server::start().await;
    let Some(world) = world(Limits::default(), "", &[]).await else { return };
    let (told, log) = logs::capture(Level::WARN, async {
        let first = fetch(&world, &server, r#""path": "/""#).await;
        let flood = format!(r#"[{{"authority": "{}"}}, 3]"#, server.address);
        (first, done(&world, "net.flood", &flood).await)
    })
    .await;
    let words = format!(
        "http `http://{0}` is denied: the plugin does not declare it; add `http = [\\\"http://{0}\\\"]` to [needs] of \
         plugin.toml and grant it in [grants.\\\"net\\\"] of host.toml",
        server.address
    );
    // Shown as Rust shows texts, in JSON.
    says(&told.0, &["InternalError", &words.replace('\\', r"\\\")]);
    assert_eq!(told.1.matches("is denied").count(), 3, "{}", told.1);
    // Once for each of the two attempts.
    let lines: Vec<_> = log.iter().filter(|line| line.contains(&words.replace('\\', ""))).collect();
    assert_eq!(lines.len(), 2, "{log:?}");
    assert!(lines[0].contains("WARN") && lines[0].contains("net.fetch"), "{lines:?}");
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn no_spelling_of_an_address_gets_around_the_grant() {
    let server = Server::start().await;
    let needs = r#"http = ["*://allowed.example:*", "*://*.allowed.example:*"]"#;
    let grant: &[(&str, &[&str])] = &[("http", &["*://*:*"]), ("networks", &["loopback"])];
    let Some(world) = world(Limits::default(), needs, grant).await else { return };
    let port = server.port();
    for host in [
        "127.0.0.1",
        "localhost",
        "LOCALHOST",
        "localhost.",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "[::ffff:127.0.0.1]",
        "[::1]",
        "allowed.example@127.0.0.1",
        "allowed.example:80@127.0.0.1",
        "allowed.example.evil.example",
        "xallowed.example",
    ] {
        for scheme in ["http", "https", ""] {
            let order = format!(r#"[{{"authority": "{host}:{port}", "scheme": "{scheme}"}}]"#);
            let report = done(&world, "net.fetch", &order).await;
            assert!(report.contains("is denied") || report.contains(r#""error":"authority""#), "{host}: {report}");
        }
    }
    // Anything but a path in the place of the path would be for a proxy.
    for path in ["http://evil.example/", "evil.example", "*", "//evil.example@"] {
        let order = format!(r#"[{{"authority": "allowed.example:{port}", "path": "{path}", "timeouts": [1, 1, 1]}}]"#);
        let report = done(&world, "net.fetch", &order).await;
        assert!(!report.contains(r#""error":null"#), "{path}: {report}");
    }
    let other = format!(r#"[{{"authority": "allowed.example:{port}", "scheme": "ftp"}}]"#);
    says(&done(&world, "net.fetch", &other).await, &["HttpProtocolError"]);
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn a_name_that_leads_to_this_machine_needs_a_network() {
    let server = Server::start().await;
    let port = server.port();
    let needs = format!(r#"http = ["http://localhost:{port}", "http://127.0.0.1:{port}", "http://[::1]:{port}"]"#);
    let everything: &[&str] = &["*://*:*"];
    let ask = async |world: &World, host: &str| {
        done(world, "net.fetch", &format!(r#"[{{"authority": "{host}:{port}"}}]"#)).await
    };
    let Some(refusing) = world(Limits::default(), &needs, &[("http", everything)]).await else { return };
    for host in ["localhost", "LOCALHOST.", "127.0.0.1", "[::1]", "[::ffff:127.0.0.1]"] {
        // The address itself is told to the operator alone.
        let (report, log) = logs::capture(Level::WARN, ask(&refusing, host)).await;
        says(&report, &["is denied: its address is loopback; add `networks = [", "loopback"]);
        let line = log.join("\n");
        assert!(line.contains("its address 127.0.0.1 is loopback") || line.contains("its address ::1 is"), "{line}");
    }
    assert_eq!(server.connections(), 0);
    let grant: &[(&str, &[&str])] = &[("http", everything), ("networks", &["loopback"])];
    let Some(allowing) = world(Limits::default(), &needs, grant).await else { return };
    says(&ask(&allowing, "localhost").await, &[r#""status":200"#]);
    // A name is no way to an address that is granted as such.
    let literal = format!("http://127.0.0.1:{port}");
    let Some(literal) = world(Limits::default(), &needs, &[("http", &[&literal, everything[0]])]).await else { return };
    says(&ask(&literal, "127.0.0.1").await, &[r#""status":200"#]);
    says(&ask(&literal, "localhost").await, &["is denied"]);
}

#[tokio::test]
async fn a_redirect_is_for_the_guest_to_follow_and_is_looked_at_again() {
    let Some((world, server)) = served(Limits::default()).await else { return };
    let forbidden = Server::start().await;
    let path = format!(r#""path": "/redirect?http://{}/x""#, forbidden.address);
    says(&fetch(&world, &server, &path).await, &[r#""status":302"#]);
    let order = format!(r#"[{{"authority": "{}", {path}}}]"#, server.address);
    says(&done(&world, "net.follow", &order).await, &["is denied"]);
    assert_eq!(forbidden.connections(), 0);
    let back = format!(r#"[{{"authority": "{0}", "path": "/redirect?http://{0}/x"}}]"#, server.address);
    says(&done(&world, "net.follow", &back).await, &[r#""status":200"#]);
}

#[tokio::test]
async fn headers_cannot_smuggle_anything() {
    let Some((world, server)) = served(Limits::default()).await else { return };
    let header =
        async |headers: &str, extra: &str| fetch(&world, &server, &format!(r#""headers": {headers}{extra}"#)).await;
    for wrong in [
        r#"[["x", "a\r\nhost: evil.example"]]"#,
        r#"[["x", "a\nb"]]"#,
        r#"[["x\r\ny", "a"]]"#,
        r#"[["x y", "a"]]"#,
        r#"[["", "a"]]"#,
        r#"[["content-length", "1"], ["content-length", "2"]]"#,
        r#"[["content-length", "1"], ["Content-Length", "1"]]"#,
    ] {
        says(&header(wrong, "").await, &["InvalidSyntax"]);
    }
    for forbidden in ["host", "Host", "transfer-encoding", "connection", "upgrade", "proxy-authorization", "keep-alive"]
    {
        says(&header(&format!(r#"[["{forbidden}", "a"]]"#), "").await, &["Forbidden"]);
    }
    for length in ["+5", "5, 5", "-1", "5 5", "x"] {
        let report = header(&format!(r#"[["content-length", "{length}"]]"#), r#", "send": 5, "method": "POST""#).await;
        assert!(!report.contains(r#""error":null"#), "{length}: {report}");
    }
    assert_eq!(server.heads(), [] as [String; 0]);
    says(&header("[]", r#", "method": "CONNECT""#).await, &["HttpRequestMethodInvalid"]);
    says(&header("[]", r#", "method": "GET / HTTP/1.1\r\n""#).await, &[r#""error":"method""#]);
    assert_eq!(server.heads(), [] as [String; 0]);
    // And one length that is right.
    says(&header(r#"[["content-length", "5"]]"#, r#", "send": 5, "method": "POST""#).await, &[r#""status":200"#]);
}

#[tokio::test]
async fn header_fields_are_bounded_and_too_many_are_no_trap() {
    let Some((world, server)) = served(Limits::default()).await else { return };
    let appended = done(&world, "net.append", "[40000]").await;
    let count: usize = appended[1..].split(',').next().and_then(|count| count.parse().ok()).expect("a number");
    assert!((100..1000).contains(&count), "{appended}");
    says(&appended, &["InvalidSyntax"]);
    let (listed, log) = logs::capture(Level::WARN, done(&world, "net.list", "[40000]")).await;
    says(&listed, &["InvalidSyntax"]);
    assert!(
        log.iter().any(|line| line.contains(
            "http: header fields of more than 32768 bytes, forty for each beside its text; raise limits.http_header"
        )),
        "{log:?}"
    );
    assert_eq!(done(&world, "net.list", "[100]").await, "null");
    let many = format!(r#"["x", [{}]]"#, vec![r#""y""#; 2000].join(","));
    says(&done(&world, "net.field", &many).await, &["InvalidSyntax"]);
    for path in ["/fields?2000", "/fields?40000", "/field?1000000"] {
        let report = fetch(&world, &server, &format!(r#""path": "{path}""#)).await;
        says(
            &report,
            &["the header of the response has more than 32768 bytes or 1000 fields; raise limits.http_header"],
        );
    }
    says(&fetch(&world, &server, r#""path": "/fields?900""#).await, &[r#""text":"hello""#]);
    // Where more bytes are allowed, the number of fields is bounded still.
    let limits = Limits { http_header_bytes: 1 << 20, ..Limits::default() };
    let Some((generous, server)) = served(limits).await else { return };
    let headers = vec![r#"["x", "y"]"#; 1100].join(",");
    let many = fetch(&generous, &server, &format!(r#""headers": [{headers}]"#)).await;
    says(&many, &["the header of the request has more than 1000 fields"]);
    says(&fetch(&generous, &server, r#""path": "/field?100000""#).await, &[r#""text":"hello""#]);
    world.check_alive().await;
}

#[tokio::test]
async fn a_server_that_does_not_follow_http_is_an_error_of_the_guest() {
    let Some((world, server)) = served(Limits::default()).await else { return };
    for (path, error) in
        [("/lengths", "HttpProtocolError"), ("/nonsense", "HttpProtocolError"), ("/cut", "HttpResponseIncomplete")]
    {
        says(&fetch(&world, &server, &format!(r#""path": "{path}""#)).await, &[error]);
    }
    // What is compressed stays so.
    says(&fetch(&world, &server, r#""path": "/gzip""#).await, &[r#""bytes":11"#, r#""error":null"#]);
}

#[tokio::test]
async fn a_body_is_bounded_in_both_directions() {
    let limits = Limits { http_request_bytes: 100_000, http_response_bytes: 100_000, ..Limits::default() };
    let Some((world, server)) = served(limits).await else { return };
    let endless = fetch(&world, &server, r#""path": "/endless""#).await;
    says(
        &endless,
        &["InternalError", "the body of the response has more than 100000 bytes; raise limits.http_response_body"],
    );
    // Whoever does not want all of it may have a part.
    says(&fetch(&world, &server, r#""path": "/endless", "enough": 50000"#).await, &[r#""error":null"#]);
    let too_large = "the body of the request has more than 100000 bytes; raise limits.http_request_body";
    let (sent, log) =
        logs::capture(Level::WARN, fetch(&world, &server, r#""path": "/upload", "method": "POST", "send": 10000000"#))
            .await;
    says(&sent, &[too_large]);
    assert!(log.iter().any(|line| line.contains(too_large)), "{log:?}");
    let before = server.connections();
    let announced = r#""path": "/upload", "method": "POST", "send": 100001, "headers": [["content-length", "100001"]]"#;
    says(&fetch(&world, &server, announced).await, &[too_large]);
    assert_eq!(server.connections(), before);
    world.check_alive().await;
}

#[tokio::test]
async fn no_wait_is_for_ever_or_for_no_time() {
    let limits = Limits { http_timeout: Duration::from_secs(1), ..Limits::default() };
    let Some((world, server)) = served(limits).await else { return };
    let ask = async |path: &str, timeouts: &str| {
        fetch(&world, &server, &format!(r#""path": "{path}", "timeouts": {timeouts}"#)).await
    };
    const MS: u64 = 1_000_000;
    let max = u64::MAX;
    // The guest's own time has the code of the interface, the host's names the key.
    says(&ask("/silent", &format!("[{max}, {}, {max}]", 50 * MS)).await, &["ConnectionReadTimeout"]);
    says(&ask("/stalled", &format!("[{max}, {max}, {}]", 50 * MS)).await, &[r#""bytes":5"#, "ConnectionReadTimeout"]);
    let response = "waited 1 s for the response; raise limits.http_timeout";
    says(&ask("/silent", "null").await, &[response]);
    says(&ask("/silent", &format!("[{max}, {max}, {max}]")).await, &[response]);
    says(&ask("/stalled", "null").await, &["waited 1 s for the next bytes; raise limits.http_timeout"]);
    // The server is waited for when it has heard all: two seconds of sending are none of waiting.
    let slowly = r#""path": "/hear", "method": "POST", "send": 20480, "pause_ms": 100"#;
    says(&fetch(&world, &server, slowly).await, &[r#""text":"hello""#]);
    for zero in ["[0, 0, 0]", "[1, 1, 1]"] {
        for path in ["/silent", "/stalled", "/drip"] {
            let report = ask(path, zero).await;
            assert!(report.contains("Timeout"), "{path} {zero}: {report}");
        }
    }
    world.check_alive().await;
}

#[tokio::test]
async fn a_server_that_keeps_a_guest_waiting_does_not_keep_it_beyond_its_own_time() {
    let Some((world, server)) = served(Limits::default()).await else { return };
    let limit = Duration::from_millis(300);
    for path in ["/silent", "/stalled", "/drip"] {
        let order = format!(r#"[{{"authority": "{}", "path": "{path}"}}]"#, server.address);
        let attempt = taskhost_core::Attempt { time_limit: limit, ..world.call("net.fetch", &order) };
        let outcome = world.run(attempt).await.outcome;
        let told =
            matches!(&outcome, Outcome::Success(json) if json.as_str().contains("the time of the task was over"));
        assert!(told || outcome == Outcome::TimedOut(Limit::Hard(limit)), "{path}: {outcome:?}");
    }
    world.check_alive().await;
}

#[tokio::test]
async fn many_requests_at_once_take_turns() {
    let limits = Limits { handles: 10_000, ..Limits::default() };
    let Some((world, server)) = served(limits).await else { return };
    // The server answers sixteen at a time: with fewer at once nothing would come of it, and no more get through.
    let flood = format!(r#"[{{"authority": "{}", "path": "/together"}}, 1008]"#, server.address);
    assert_eq!(done(&world, "net.flood", &flood).await.matches("200").count(), 1008);
    assert_eq!(server.open_most(), TOGETHER);

    // Two wait for the server until their time is over, the third for one of those, and less long.
    let limits = Limits { http_requests: 2, http_timeout: Duration::from_secs(2), ..Limits::default() };
    let Some((world, server)) = served(limits).await else { return };
    let order =
        format!(r#"{{"authority": "{}", "path": "/silent", "timeouts": [500000000, null, null]}}"#, server.address);
    let flood = format!("[{order}, 3]").replace("null", &u64::MAX.to_string());
    let ends = done(&world, "net.flood", &flood).await;
    assert_eq!(ends.matches("raise limits.http_timeout").count(), 2, "{ends}");
    says(
        &ends,
        &["none of the 2 requests that a task may have at once came to an end in time; raise limits.http_requests"],
    );
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn tls_that_cannot_be_trusted_is_refused_and_the_log_says_why() {
    let server = Server::start().await;
    let address = format!("https://{}", server.address);
    let granted: &[(&str, &[&str])] = &[("http", &[&address])];
    let Some(world) = world(Limits::default(), &format!("http = [\"{address}\"]"), granted).await else { return };
    let order = format!(r#"[{{"authority": "{}", "scheme": "https", "timeouts": [200000000, 1, 1]}}]"#, server.address);
    let (report, _) = logs::capture(Level::WARN, done(&world, "net.fetch", &order)).await;
    // The server waits for a line that does not come.
    says(&report, &["ConnectionTimeout"]);
    assert_eq!(server.heads(), [] as [String; 0]);
}

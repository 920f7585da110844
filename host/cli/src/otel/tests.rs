//! What a collector gets, and what happens while there is none.

use expect_test::expect;
use taskhost_core::Timestamp;
use taskhost_core::trace::{TraceContext, Value};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::config::SecretText;

fn example() -> Span {
    let parent = TraceContext::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", Some("v=1"));
    let parent = parent.expect("is valid");
    Span {
        context: parent.child([0xab; 8], true),
        parent: Some(parent.span),
        name: "run tasks.add".to_owned(),
        started: Timestamp::from_micros(1_700_000_000_000_001),
        ended: Timestamp::from_micros(1_700_000_000_500_001),
        attributes: vec![("messaging.system", Value::Text("redis".to_owned())), ("celery.retries", Value::Int(2))],
        error: Some("ValueError('x')".to_owned()),
        exception: vec![("exception.type", Value::Text("ValueError".to_owned()))],
    }
}

fn target(url: &str) -> Target {
    let config = OtelConfig {
        endpoint: traces_below(&SecretUrl::new(url)),
        headers: Some(SecretText::new("Api-Key=a%20b, tenant=c")),
        service_name: "images".to_owned(),
        resource_attributes: vec![("env".to_owned(), "prod".to_owned()), ("service.name".to_owned(), "no".to_owned())],
        sampling: taskhost_core::trace::Sampling::default(),
    };
    Target::new(&config, "w@h").expect("is right")
}

#[test]
fn spans_are_written_as_otlp_has_them() {
    let document = wire::document(&[("service.name".to_owned(), "images".to_owned())], &[example()]);
    let document: serde_json::Value = serde_json::from_slice(&document).expect("is JSON");
    let spans = &document["resourceSpans"][0]["scopeSpans"][0]["spans"];
    expect![[r#"
        [
          {
            "attributes": [
              {
                "key": "messaging.system",
                "value": {
                  "stringValue": "redis"
                }
              },
              {
                "key": "celery.retries",
                "value": {
                  "intValue": "2"
                }
              }
            ],
            "endTimeUnixNano": "1700000000500001000",
            "events": [
              {
                "attributes": [
                  {
                    "key": "exception.type",
                    "value": {
                      "stringValue": "ValueError"
                    }
                  }
                ],
                "name": "exception",
                "timeUnixNano": "1700000000500001000"
              }
            ],
            "flags": 1,
            "kind": 5,
            "name": "run tasks.add",
            "parentSpanId": "00f067aa0ba902b7",
            "spanId": "abababababababab",
            "startTimeUnixNano": "1700000000000001000",
            "status": {
              "code": 2,
              "message": "ValueError('x')"
            },
            "traceId": "4bf92f3577b34da6a3ce929d0e0e4736",
            "traceState": "v=1"
          }
        ]"#]]
    .assert_eq(&serde_json::to_string_pretty(spans).expect("is JSON"));
    assert_eq!(document["resourceSpans"][0]["resource"]["attributes"][0]["value"]["stringValue"], "images");
}

#[test]
fn settings_become_a_target() {
    let target = target("http://collector:4318/");
    assert_eq!(target.url, "http://collector:4318/v1/traces");
    let headers: Vec<String> =
        target.headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().expect("text"))).collect();
    assert_eq!(headers, ["api-key: a b", "tenant: c"]);
    let resource: Vec<String> = target.resource.iter().map(|(key, value)| format!("{key}={value}")).collect();
    assert_eq!(resource[..2], ["service.name=images", "service.instance.id=w@h"]);
    assert_eq!(resource.last().map(String::as_str), Some("env=prod"));
    for (url, expected) in [
        ("http://localhost:4318", true),
        ("http://[::1]:4318/base", true),
        ("https://collector:4318", false),
        ("http://me:secret@collector", false),
        ("localhost:4318", false),
        ("grpc://collector", false),
        ("", false),
    ] {
        assert_eq!(is_collector(url), expected, "{url}");
    }
}

/// Answers each request with the next of these, and gives what was asked.
async fn collector(answers: Vec<&'static str>) -> (String, tokio::task::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("is bound"));
    let serving = tokio::spawn(async move {
        let mut requests = Vec::new();
        for status in answers {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut request = Vec::new();
            // The body is one document, which ends where its braces do.
            while !request.ends_with(b"}]}]}") {
                stream.read_buf(&mut request).await.expect("a request");
            }
            requests.push(String::from_utf8(request).expect("is text"));
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{{}}");
            stream.write_all(answer.as_bytes()).await.expect("it listens");
        }
        requests
    });
    (url, serving)
}

#[tokio::test]
async fn spans_are_sent_together_and_again_if_the_collector_asks_for_it() {
    let (url, serving) = collector(vec!["503 Busy", "200 OK"]).await;
    let (queue, exporter, counts) = exporter(target(&url));
    queue.put(example());
    queue.put(example());
    drop(queue);
    exporter.run().await;
    assert_eq!((counts.sent.load(Relaxed), counts.dropped.load(Relaxed)), (2, 0));
    let requests = serving.await.expect("no panic");
    assert!(requests[0].starts_with("POST /v1/traces HTTP/1.1\r\n"), "{}", requests[0]);
    assert!(requests[0].contains("api-key: a b\r\n") && requests[0].contains("content-type: application/json\r\n"));
    assert_eq!(requests[1].matches("\"spanId\"").count(), 2);
}

#[tokio::test]
async fn spans_that_nobody_takes_are_counted() {
    let (url, serving) = collector(vec!["400 Bad"]).await;
    let (queue, exporter, counts) = exporter(target(&url));
    for _ in 0..QUEUE_MAX + 3 {
        queue.put(example());
    }
    assert_eq!(counts.dropped.load(Relaxed), 3, "the queue is full");
    let exporting = tokio::spawn(exporter.run());
    serving.await.expect("one request");
    while counts.dropped.load(Relaxed) < 3 + BATCH_MAX as u64 {
        tokio::task::yield_now().await;
    }
    assert_eq!(counts.sent.load(Relaxed), 0);
    exporting.abort();
}

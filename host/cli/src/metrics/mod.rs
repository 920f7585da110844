//! `--metrics`: what tasks and plugins do, as Prometheus reads it, and whether the worker lives and is ready.
//!
//! Everything is counted elsewhere and only written down here, when somebody asks. Bounded in clients and in time.

mod page;
mod plugins;
mod tasks;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::debug;
use worker::{Announcer, Pulse, Tally};

use crate::otel;
use crate::reload::Board;

use page::Page;

/// Clients at a time; more wait.
const CLIENTS_MAX: usize = 16;
/// Until the next client is waited for when one could not be accepted: there may be no file handle left.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);
/// How long a client may take for its request, and a connection altogether.
const REQUEST_WAIT: Duration = Duration::from_secs(5);
const CONNECTION_MAX: Duration = Duration::from_secs(60);
const TEXT: &str = "text/plain; charset=utf-8";

/// A limit that was reached, by plugin and key.
pub(crate) type Reached = (String, String, u64);

/// Listens there.
pub(crate) async fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Who is asked for what is on the page.
pub(crate) struct Sources {
    pub(crate) board: Arc<Board>,
    pub(crate) announcer: Arc<Announcer>,
    pub(crate) pulse: Arc<Pulse>,
    pub(crate) tally: Arc<Tally>,
    /// What became of spans; none, if nothing is traced.
    pub(crate) traces: Option<Arc<otel::Counts>>,
}

/// Answers whoever asks.
pub(crate) async fn serve(listener: TcpListener, sources: Sources) {
    let sources = Arc::new(sources);
    let room = Arc::new(Semaphore::new(CLIENTS_MAX));
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                debug!("metrics: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let sources = sources.clone();
        tokio::spawn(async move {
            let answer = service_fn(|request: Request<Incoming>| {
                let answer = answer(request.method(), request.uri().path(), &sources);
                async { Ok::<_, Infallible>(answer) }
            });
            let mut server = http1::Builder::new();
            server.timer(TokioTimer::new()).header_read_timeout(REQUEST_WAIT);
            let connection = server.serve_connection(TokioIo::new(stream), answer);
            if let Ok(Err(error)) = timeout(CONNECTION_MAX, connection).await {
                debug!("a client of the metrics: {error}");
            }
            drop(permit);
        });
    }
}

/// The answer to one request. That of HEAD loses its body on the way.
fn answer(method: &Method, path: &str, sources: &Sources) -> Response<Full<Bytes>> {
    let pulse = &sources.pulse;
    let (status, format, text) = match path {
        "/metrics" | "/health" | "/ready" if !matches!(*method, Method::GET | Method::HEAD) => {
            (StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET\n".to_owned())
        }
        "/metrics" => (StatusCode::OK, page::FORMAT, text(sources)),
        "/health" => told(tasks::health(pulse), "it lives"),
        "/ready" => told(pulse.unready().map_or(Ok(()), |reason| Err(reason.as_str().to_owned())), "it takes tasks"),
        _ => (StatusCode::NOT_FOUND, TEXT, "there are /metrics, /health and /ready\n".to_owned()),
    };
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(format));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    response
}

fn told(state: Result<(), String>, good: &str) -> (StatusCode, &'static str, String) {
    match state {
        Ok(()) => (StatusCode::OK, TEXT, format!("{good}\n")),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{reason}\n")),
    }
}

/// The whole page.
fn text(sources: &Sources) -> String {
    let mut page = Page::default();
    plugins::write(&mut page, &sources.board.status(), &sources.board.reached());
    tasks::write(&mut page, &sources.tally.read());
    tasks::write_worker(&mut page, &sources.pulse);
    page.family("taskhost_events_dropped_total", "counter", "Events that monitors did not get.");
    page.sample("taskhost_events_dropped_total", &[], sources.announcer.dropped() as f64);
    if let Some(traces) = &sources.traces {
        page.family("taskhost_trace_spans_total", "counter", "Spans for the collector.");
        for (result, count) in [("sent", &traces.sent), ("dropped", &traces.dropped)] {
            page.sample("taskhost_trace_spans_total", &[("result", result)], count.load(Relaxed) as f64);
        }
    }
    page.finish()
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use taskhost_core::{PluginName, PluginVersion, TaskName};
    use worker::{Distribution, OCCURRENCES, TaskTally};

    use super::*;
    use crate::status::{Plugin, Plugins, Refused, Reloads, State, Used};

    #[test]
    fn plugins_have_a_family_for_everything_that_is_counted() {
        let used = Used {
            attempts: 3,
            failures: 2,
            traps: 1,
            wall: 0.5,
            cpu: 0.25,
            memory_bytes_peak: 65536,
            host_calls: 7,
            bytes_in: 8,
            bytes_out: 9,
        };
        let plugin = Plugin {
            name: "images".to_owned(),
            version: None,
            digest: "ab12".to_owned(),
            state: State::Quarantined,
            tasks: Vec::new(),
            warnings: Vec::new(),
            used: Some(used),
        };
        let refused = Refused {
            path: "a \"b\".wasm".to_owned(),
            reason: "it is empty".to_owned(),
            kept: Some("cd34".to_owned()),
        };
        let plugins = Plugins {
            worker: None,
            plugins: vec![plugin],
            refused: vec![refused],
            reloads: Reloads { done: 4, refused: 1 },
        };
        let mut page = Page::default();
        plugins::write(&mut page, &plugins, &[("images".to_owned(), "memory".to_owned(), 5)]);
        let page = page.finish();
        let samples: String =
            page.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect();
        expect![[r#"
            taskhost_plugin_info{plugin="images",version="ab12",state="quarantined"} 1
            taskhost_plugin_refused{path="a \"b\".wasm",kept="cd34"} 1
            taskhost_plugin_reloads_total{result="done"} 4
            taskhost_plugin_reloads_total{result="refused"} 1
            taskhost_attempts_total{plugin="images",version="ab12"} 3
            taskhost_attempt_failures_total{plugin="images",version="ab12"} 2
            taskhost_attempt_traps_total{plugin="images",version="ab12"} 1
            taskhost_attempt_seconds_total{plugin="images",version="ab12"} 0.5
            taskhost_attempt_cpu_seconds_total{plugin="images",version="ab12"} 0.25
            taskhost_attempt_memory_peak_bytes{plugin="images",version="ab12"} 65536
            taskhost_attempt_host_calls_total{plugin="images",version="ab12"} 7
            taskhost_attempt_received_bytes_total{plugin="images",version="ab12"} 8
            taskhost_attempt_sent_bytes_total{plugin="images",version="ab12"} 9
            taskhost_limit_reached_total{plugin="images",limit="memory"} 5
        "#]]
        .assert_eq(&samples);
        let families = page.lines().filter(|line| line.starts_with("# TYPE")).count();
        assert_eq!(page.lines().filter(|line| line.starts_with("# HELP")).count(), families);
    }

    #[test]
    fn tasks_have_their_counts_and_their_histograms() {
        let distribution =
            |counts: [u64; 2], sum| Distribution { buckets: vec![(0.5, counts[0]), (f64::INFINITY, counts[1])], sum };
        let tally = |task: Option<&str>, occurrences: [u64; OCCURRENCES.len()]| TaskTally {
            task: task.map(|task| {
                let plugin = PluginName::parse("images").expect("a name");
                (TaskName::parse(task).expect("a name"), plugin, PluginVersion::of("ab12"))
            }),
            occurrences,
            waited: distribution([1, 2], 3.5),
            wall: distribution([0, 1], 0.75),
            cpu: distribution([1, 1], 0.25),
            memory: distribution([0, 1], 65536.0),
        };
        let mut counts = [0; OCCURRENCES.len()];
        (counts[0], counts[2]) = (3, 2);
        let mut page = Page::default();
        tasks::write(&mut page, &[tally(Some("a\"b"), counts), tally(None, counts)]);
        let page = page.finish();
        let samples: String =
            page.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect();
        expect![[r#"
            taskhost_task_events_total{task="a\"b",plugin="images",version="ab12",event="received"} 3
            taskhost_task_events_total{task="a\"b",plugin="images",version="ab12",event="succeeded"} 2
            taskhost_task_events_total{task="unknown",plugin="",version="",event="received"} 3
            taskhost_task_events_total{task="unknown",plugin="",version="",event="succeeded"} 2
            taskhost_task_wait_seconds_bucket{task="a\"b",plugin="images",version="ab12",le="0.5"} 1
            taskhost_task_wait_seconds_bucket{task="a\"b",plugin="images",version="ab12",le="+Inf"} 2
            taskhost_task_wait_seconds_sum{task="a\"b",plugin="images",version="ab12"} 3.5
            taskhost_task_wait_seconds_count{task="a\"b",plugin="images",version="ab12"} 2
            taskhost_task_duration_seconds_bucket{task="a\"b",plugin="images",version="ab12",le="0.5"} 0
            taskhost_task_duration_seconds_bucket{task="a\"b",plugin="images",version="ab12",le="+Inf"} 1
            taskhost_task_duration_seconds_sum{task="a\"b",plugin="images",version="ab12"} 0.75
            taskhost_task_duration_seconds_count{task="a\"b",plugin="images",version="ab12"} 1
            taskhost_task_cpu_seconds_bucket{task="a\"b",plugin="images",version="ab12",le="0.5"} 1
            taskhost_task_cpu_seconds_bucket{task="a\"b",plugin="images",version="ab12",le="+Inf"} 1
            taskhost_task_cpu_seconds_sum{task="a\"b",plugin="images",version="ab12"} 0.25
            taskhost_task_cpu_seconds_count{task="a\"b",plugin="images",version="ab12"} 1
            taskhost_task_memory_bytes_bucket{task="a\"b",plugin="images",version="ab12",le="0.5"} 0
            taskhost_task_memory_bytes_bucket{task="a\"b",plugin="images",version="ab12",le="+Inf"} 1
            taskhost_task_memory_bytes_sum{task="a\"b",plugin="images",version="ab12"} 65536
            taskhost_task_memory_bytes_count{task="a\"b",plugin="images",version="ab12"} 1
        "#]]
        .assert_eq(&samples);
    }

    #[test]
    fn a_worker_that_has_not_begun_lives_and_is_not_ready() {
        let pulse = Pulse::default();
        assert_eq!(tasks::health(&pulse), Ok(()));
        let mut page = Page::default();
        tasks::write_worker(&mut page, &pulse);
        let page = page.finish();
        assert!(page.contains("# TYPE taskhost_ready gauge\ntaskhost_ready 0\n"), "{page}");
        let (status, _, text) = told(Err("it is quiet".to_owned()), "good");
        assert_eq!((status, text.as_str()), (StatusCode::SERVICE_UNAVAILABLE, "it is quiet\n"));
    }
}

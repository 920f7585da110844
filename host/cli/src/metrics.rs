//! `--metrics`: what plugins do, as Prometheus reads it.
//!
//! Everything is counted elsewhere and only written down here, when somebody asks. Bounded in clients and in time.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::debug;

use crate::reload::Board;
use crate::status::{Plugins, State};

/// Clients at a time; more wait.
const CLIENTS_MAX: usize = 16;
/// How long a client may take for its request, and a connection altogether.
const REQUEST_WAIT: Duration = Duration::from_secs(5);
const CONNECTION_MAX: Duration = Duration::from_secs(60);
/// What Prometheus calls its text format.
const FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A limit that was reached, by plugin and key.
pub(crate) type Reached = (String, String, u64);

/// Listens there.
pub(crate) async fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Answers whoever asks.
pub(crate) async fn serve(listener: TcpListener, board: Arc<Board>) {
    let room = Arc::new(Semaphore::new(CLIENTS_MAX));
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                debug!("metrics: {error}");
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
        };
        let board = board.clone();
        tokio::spawn(async move {
            let answer = service_fn(|request| {
                let answer = answer(&request, &board);
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

fn answer(request: &Request<Incoming>, board: &Board) -> Response<Full<Bytes>> {
    let mut response = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/metrics") => {
            Response::new(Full::from(text(&board.status(), &board.reached())))
        }
        (_, "/metrics") => {
            let mut response = Response::new(Full::from("only GET\n"));
            *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
            response.headers_mut().insert(ALLOW, "GET, HEAD".parse().expect("valid"));
            response
        }
        _ => {
            let mut response = Response::new(Full::from("there is only /metrics\n"));
            *response.status_mut() = StatusCode::NOT_FOUND;
            response
        }
    };
    response.headers_mut().insert(CONTENT_TYPE, FORMAT.parse().expect("valid"));
    response
}

/// The whole page.
fn text(plugins: &Plugins, reached: &[Reached]) -> String {
    let mut page = Page::default();
    let of = |plugin: &crate::status::Plugin| vec![("plugin", plugin.name.clone()), ("version", plugin.digest.clone())];
    page.family("taskhost_plugin_info", "gauge", "Versions of plugins that are there, and what is done with them.");
    for plugin in &plugins.plugins {
        let state = match plugin.state {
            State::Serving => "serving",
            State::OnTrial { .. } => "on_trial",
            State::Quarantined => "quarantined",
        };
        page.sample("taskhost_plugin_info", [of(plugin), vec![("state", state.to_owned())]].concat(), 1.0);
    }
    page.family("taskhost_plugin_refused", "gauge", "Files that are not served; the reason is in host plugin list.");
    for refused in &plugins.refused {
        let kept = refused.kept.clone().unwrap_or_default();
        page.sample("taskhost_plugin_refused", vec![("path", refused.path.clone()), ("kept", kept)], 1.0);
    }
    page.family("taskhost_plugin_reloads_total", "counter", "Changes of plugins while the worker ran.");
    for (result, count) in [("done", plugins.reloads.done), ("refused", plugins.reloads.refused)] {
        page.sample("taskhost_plugin_reloads_total", vec![("result", result.to_owned())], count as f64);
    }
    type Read = fn(&crate::status::Used) -> f64;
    let families: [(&str, &str, &str, Read); 9] = [
        ("taskhost_attempts_total", "counter", "Attempts that ended.", |used| used.attempts as f64),
        ("taskhost_attempt_failures_total", "counter", "Those that failed.", |used| used.failures as f64),
        ("taskhost_attempt_traps_total", "counter", "Those that the sandbox or a time limit ended.", |used| {
            used.traps as f64
        }),
        ("taskhost_attempt_seconds_total", "counter", "Their time on the wall.", |used| used.wall),
        ("taskhost_attempt_cpu_seconds_total", "counter", "Their time on a processor.", |used| used.cpu),
        ("taskhost_attempt_memory_peak_bytes", "gauge", "Memory of the one that had most.", |used| {
            used.memory_bytes_peak as f64
        }),
        ("taskhost_attempt_host_calls_total", "counter", "Their calls into the host.", |used| used.host_calls as f64),
        ("taskhost_attempt_received_bytes_total", "counter", "Arguments, and what came over the network.", |used| {
            used.bytes_in as f64
        }),
        ("taskhost_attempt_sent_bytes_total", "counter", "Results, and what went over the network.", |used| {
            used.bytes_out as f64
        }),
    ];
    for (name, kind, help, read) in families {
        page.family(name, kind, help);
        for plugin in &plugins.plugins {
            if let Some(used) = &plugin.used {
                page.sample(name, of(plugin), read(used));
            }
        }
    }
    page.family("taskhost_limit_reached_total", "counter", "How often a limit was reached, by its key in [limits].");
    for (plugin, limit, count) in reached {
        let labels = vec![("plugin", plugin.clone()), ("limit", limit.clone())];
        page.sample("taskhost_limit_reached_total", labels, *count as f64);
    }
    page.0
}

/// Text in the format of Prometheus.
#[derive(Default)]
struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn sample(&mut self, name: &str, labels: Vec<(&str, String)>, value: f64) {
        let escape = |text: String| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let labels: Vec<String> =
            labels.into_iter().map(|(label, text)| format!("{label}=\"{}\"", escape(text))).collect();
        let _ = writeln!(self.0, "{name}{{{}}} {value}", labels.join(","));
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::status::{Plugin, Refused, Reloads, Used};

    #[test]
    fn the_page_has_a_family_for_everything_that_is_counted() {
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
        let page = text(&plugins, &[("images".to_owned(), "memory".to_owned(), 5)]);
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
}

//! HTTP requests.

use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use taskhost::task;
use wasip2::http::outgoing_handler::{ErrorCode, FutureIncomingResponse, OutgoingRequest, RequestOptions, handle};
use wasip2::http::types::{Fields, IncomingBody, IncomingResponse, Method, OutgoingBody, Scheme, http_error_code};
use wasip2::io::streams::{OutputStream, StreamError};

use crate::shown;

/// Most that is written or read at once.
const PIECE_BYTES: usize = 4096;

#[derive(Deserialize)]
pub(crate) struct Order {
    #[serde(default = "get")]
    method: String,
    /// Empty: none.
    #[serde(default = "http")]
    scheme: String,
    authority: String,
    #[serde(default = "slash")]
    path: String,
    #[serde(default)]
    headers: Vec<(String, String)>,
    /// Length of the body to send.
    #[serde(default)]
    send: u64,
    /// Between the parts of 1 KiB of it.
    #[serde(default)]
    pause_ms: u64,
    /// Connect, first byte and between bytes, in nanoseconds.
    #[serde(default)]
    timeouts: Option<(u64, u64, u64)>,
    /// Stops reading then.
    #[serde(default)]
    enough: Option<u64>,
}

fn get() -> String {
    "GET".to_owned()
}

fn http() -> String {
    "http".to_owned()
}

fn slash() -> String {
    "/".to_owned()
}

#[derive(Default, Serialize)]
pub(crate) struct Report {
    status: u16,
    headers: Vec<(String, String)>,
    /// Bytes of the body, and the beginning of it.
    bytes: u64,
    text: String,
    error: Option<String>,
}

/// Makes one request and says what came of it.
#[task(name = "net.fetch")]
pub(crate) fn fetch(order: Order) -> Report {
    report(&order)
}

/// The same as a task that wants to know when its time is over.
#[task(name = "net.patient", handles_soft_limit)]
pub(crate) fn patient(order: Order) -> Report {
    report(&order)
}

/// Makes so many requests at once and says how each ended.
#[task(name = "net.flood")]
pub(crate) fn flood(order: Order, count: usize) -> Vec<String> {
    let sent: Vec<_> = (0..count).map(|_| send(&order)).collect();
    let ended = sent.into_iter().map(|sent| match sent.and_then(wait) {
        Ok(response) => response.status().to_string(),
        Err(error) => error,
    });
    ended.collect()
}

/// Makes a request, and as long as the answer is a redirect another to where that says.
#[task(name = "net.follow")]
pub(crate) fn follow(mut order: Order) -> Report {
    loop {
        let report = report(&order);
        let location = report.headers.iter().find(|(name, _)| name == "location").map(|(_, value)| value.clone());
        let Some((scheme, rest)) = location.as_deref().and_then(|location| location.split_once("://")) else {
            return report;
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        (order.scheme, order.authority, order.path) = (scheme.to_owned(), authority.to_owned(), format!("/{path}"));
    }
}

fn report(order: &Order) -> Report {
    let mut report = Report::default();
    report.error = send(order).and_then(wait).and_then(|response| read(&response, order, &mut report)).err();
    report
}

fn send(order: &Order) -> Result<FutureIncomingResponse, String> {
    let fields = Fields::new();
    for (name, value) in &order.headers {
        fields.append(name, value.as_bytes()).map_err(|error| format!("header {name}: {error:?}"))?;
    }
    let request = OutgoingRequest::new(fields);
    request.set_method(&method(&order.method)).map_err(|()| "method".to_owned())?;
    let scheme = match order.scheme.as_str() {
        "" => None,
        "http" => Some(Scheme::Http),
        "https" => Some(Scheme::Https),
        other => Some(Scheme::Other(other.to_owned())),
    };
    request.set_scheme(scheme.as_ref()).map_err(|()| "scheme".to_owned())?;
    request.set_authority(Some(&order.authority)).map_err(|()| "authority".to_owned())?;
    request.set_path_with_query(Some(&order.path)).map_err(|()| "path".to_owned())?;
    let options = order.timeouts.map(|(connect, first_byte, between_bytes)| {
        let options = RequestOptions::new();
        options.set_connect_timeout(Some(connect)).expect("a time");
        options.set_first_byte_timeout(Some(first_byte)).expect("a time");
        options.set_between_bytes_timeout(Some(between_bytes)).expect("a time");
        options
    });
    let body = request.body().map_err(|()| "body".to_owned())?;
    let sent = handle(request, options).map_err(|error| shown(&error))?;
    let written = write(&body, order);
    match written {
        Ok(()) => OutgoingBody::finish(body, None).map_err(|error| format!("finish: {error:?}"))?,
        // The host has ended it; the response says why.
        Err(()) => drop(body),
    }
    Ok(sent)
}

fn method(text: &str) -> Method {
    match text {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "CONNECT" => Method::Connect,
        other => Method::Other(other.to_owned()),
    }
}

fn write(body: &OutgoingBody, order: &Order) -> Result<(), ()> {
    let mut left = order.send;
    if left == 0 {
        return Ok(());
    }
    let stream: OutputStream = body.write()?;
    let piece = [b'x'; PIECE_BYTES];
    let most = if order.pause_ms > 0 { 1024 } else { PIECE_BYTES as u64 };
    while left > 0 {
        let bytes = left.min(most);
        stream.blocking_write_and_flush(&piece[..bytes as usize]).map_err(|_closed| ())?;
        left -= bytes;
        if order.pause_ms > 0 {
            thread::sleep(Duration::from_millis(order.pause_ms));
        }
    }
    Ok(())
}

fn wait(sent: FutureIncomingResponse) -> Result<IncomingResponse, String> {
    sent.subscribe().block();
    let answer: Result<_, ErrorCode> = sent.get().expect("it is ready").expect("it is asked once");
    answer.map_err(|error| shown(&error))
}

fn read(response: &IncomingResponse, order: &Order, report: &mut Report) -> Result<(), String> {
    report.status = response.status();
    let headers = response.headers().entries().into_iter();
    report.headers = headers.map(|(name, value)| (name, String::from_utf8_lossy(&value).into_owned())).collect();
    let body: IncomingBody = response.consume().map_err(|()| "consumed".to_owned())?;
    let stream = body.stream().map_err(|()| "stream".to_owned())?;
    loop {
        if order.enough.is_some_and(|enough| report.bytes >= enough) {
            return Ok(());
        }
        match stream.blocking_read(PIECE_BYTES as u64) {
            Ok(piece) => {
                if report.bytes < 200 {
                    report.text.push_str(&String::from_utf8_lossy(&piece[..piece.len().min(200)]));
                }
                report.bytes += piece.len() as u64;
            }
            Err(StreamError::Closed) => return Ok(()),
            Err(StreamError::LastOperationFailed(error)) => {
                return Err(http_error_code(&error).map_or_else(|| error.to_debug_string(), shown));
            }
        }
    }
}

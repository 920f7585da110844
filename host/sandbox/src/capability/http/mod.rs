//! `wasi:http/outgoing-handler`: requests to where the plugin may send them.
//!
//! Does not speak HTTP itself, and keeps no connections: each request has its own, and ends with it. What is checked is
//! what is sent, by the host's own reading of it, before any name is looked up.

mod body;
mod exchange;
mod fields;
mod patience;
mod tls;

use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use hyper::header::{CONTENT_LENGTH, HOST, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, Uri};
use tokio::sync::Semaphore;
use wasmtime::component::Linker;
use wasmtime_wasi_http::{
    DEFAULT_FORBIDDEN_HEADERS, Error, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks,
};

use super::network::TrafficMeter;
use super::remarks::Remarks;
use crate::clock::{Deadlines, Notice};
use crate::grant::{Destination, Scheme};
use crate::instance::Guest;
use crate::limits::Limits;

use body::{RequestBody, Sink};
use exchange::Exchange;
use patience::Patience;

/// Fields in the header of a request or a response.
const FIELDS_MAX: usize = 1_000;
/// Most that a guest hands over in one write of a body.
const WRITE_BYTES_MAX: usize = 64 << 10;

/// The HTTP of one attempt. Made for its first request.
pub(crate) struct Http {
    context: WasiHttpCtx,
    hooks: Hooks,
}

struct Hooks {
    limits: Limits,
    deadlines: Deadlines,
    notice: Option<Arc<Notice>>,
    meter: Arc<TrafficMeter>,
    remarks: Arc<Remarks>,
    turns: Arc<Semaphore>,
    sink: Sink,
}

/// Links `wasi:http`, with what wasmtime's own host does otherwise.
pub(super) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(linker)?;
    fields::link(linker)
}

impl Http {
    pub(crate) fn new(
        limits: Limits,
        deadlines: Deadlines,
        notice: Option<Arc<Notice>>,
        meter: Arc<TrafficMeter>,
        remarks: Arc<Remarks>,
    ) -> Self {
        let mut context = WasiHttpCtx::new();
        // Each counts forty bytes beside its text.
        context.set_field_size_limit(limits.http_header_bytes);
        let turns = Arc::new(Semaphore::new(limits.http_requests.min(Semaphore::MAX_PERMITS)));
        Self { context, hooks: Hooks { limits, deadlines, notice, meter, remarks, turns, sink: Sink::default() } }
    }

    pub(crate) fn view<'a>(&'a mut self, table: &'a mut wasmtime::component::ResourceTable) -> WasiHttpCtxView<'a> {
        WasiHttpCtxView { hooks: &mut self.hooks, table, ctx: &mut self.context }
    }
}

type Answer = Result<(Response<WasiBody>, Box<dyn Future<Output = Result<(), Error>> + Send>), Error>;

impl WasiHttpHooks for Hooks {
    fn is_forbidden_header(&mut self, name: &HeaderName) -> bool {
        DEFAULT_FORBIDDEN_HEADERS.contains(name)
    }

    /// It is written from what was checked, not from what the guest wrote.
    fn set_host_header(&mut self) -> bool {
        false
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        WRITE_BYTES_MAX
    }

    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _fut: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Answer> + Send> {
        match self.prepare(request, &options.unwrap_or_default()) {
            Ok((exchange, request)) => Box::new(async move {
                let response = exchange.run(request).await?;
                // The response drives its connection itself.
                Ok((response, Box::new(ready(Ok(()))) as Box<dyn Future<Output = Result<(), Error>> + Send>))
            }),
            Err(error) => Box::new(ready(Err(error))),
        }
    }
}

impl Hooks {
    /// Decides whether the request may be sent, and makes it ready.
    fn prepare(
        &self,
        request: Request<WasiBody>,
        options: &RequestOptions,
    ) -> Result<(Exchange, Request<RequestBody>), Error> {
        let limit_bytes = self.limits.http_request_bytes as u64;
        let mut request = request.map(|body| RequestBody::new(body, limit_bytes, &self.sink));
        let denied = |text: String| Error::InternalError(Some(text));
        let destination = self.destination(request.uri()).map_err(denied)?;
        let powers = self.remarks.capabilities().and_then(|capabilities| capabilities.http.as_ref());
        let Some(powers) = powers.filter(|powers| powers.allow(&destination)) else {
            return Err(denied(self.remarks.deny("http", &destination.to_string())));
        };
        let networks = powers.networks(&destination).cloned();
        // It would make the connection something else than HTTP.
        if *request.method() == Method::CONNECT {
            return Err(Error::HttpRequestMethodInvalid);
        }
        *request.uri_mut() = origin(request.uri()).ok_or(Error::HttpRequestUriInvalid)?;
        let host = HeaderValue::try_from(destination.authority()).map_err(|_invalid| Error::HttpRequestUriInvalid)?;
        request.headers_mut().insert(HOST, host);
        self.check_length(&request)?;
        if request.headers().len() > FIELDS_MAX {
            let text = format!("the header of the request has more than {FIELDS_MAX} fields");
            return Err(Error::InternalError(Some(self.remarks.make(text))));
        }
        let exchange = Exchange {
            destination,
            networks,
            header_bytes_max: self.limits.http_header_bytes,
            response_bytes_max: self.limits.http_response_bytes as u64,
            connect: self.patience(options.connect_timeout, || Error::ConnectionTimeout),
            first_byte: self.patience(options.first_byte_timeout, || Error::ConnectionReadTimeout),
            between_bytes: self.patience(options.between_bytes_timeout, || Error::ConnectionReadTimeout),
            turns: Arc::clone(&self.turns),
            turns_max: self.limits.http_requests,
            meter: Arc::clone(&self.meter),
            remarks: Arc::clone(&self.remarks),
        };
        Ok((exchange, request))
    }

    /// Where the request goes, as the host reads it.
    fn destination(&self, uri: &Uri) -> Result<Destination, String> {
        let (scheme, authority) = (uri.scheme_str().unwrap_or_default(), uri.authority().map_or("", |a| a.as_str()));
        let read = match scheme {
            "http" => Destination::parse(Scheme::Http, authority),
            "https" => Destination::parse(Scheme::Https, authority),
            _ => Err("the scheme is neither http nor https".to_owned()),
        };
        read.map_err(|problem| {
            let (scheme, authority) = (scheme.escape_debug(), authority.escape_debug());
            self.remarks.make(format!("http `{scheme}://{authority}` is denied: {problem}"))
        })
    }

    /// A body that says it is too large is not even begun.
    fn check_length(&self, request: &Request<RequestBody>) -> Result<(), Error> {
        let limit = self.limits.http_request_bytes as u64;
        let length = request.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        match length.is_some_and(|length| length > limit) {
            true => Err(Error::InternalError(Some(self.remarks.make(RequestBody::too_large(limit))))),
            false => Ok(()),
        }
    }

    fn patience(&self, wanted: Option<Duration>, its_error: fn() -> Error) -> Patience {
        let (ceiling, deadlines) = (self.limits.http_timeout, self.deadlines);
        Patience { wanted, its_error, ceiling, deadlines, notice: self.notice.clone() }
    }
}

/// The path and the query alone. With a host in it, the request would be for a proxy to pass on.
fn origin(uri: &Uri) -> Option<Uri> {
    let text = uri.path_and_query().map_or("/", |path| path.as_str());
    let text = match text.as_bytes().first() {
        Some(b'/') => text.to_owned(),
        Some(b'?') => format!("/{text}"),
        None => "/".to_owned(),
        Some(_) => return None,
    };
    text.parse().ok().filter(|uri: &Uri| uri.authority().is_none() && uri.path().starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_path_and_a_query_are_sent() {
        let uri = |path: &'static str| {
            let parts = Uri::builder().scheme("https").authority("allowed.example").path_and_query(path);
            parts.build().ok().and_then(|uri| origin(&uri)).map(|uri| uri.to_string())
        };
        for (path, expected) in [
            ("/", Some("/")),
            ("", Some("/")),
            ("/a/b?c=http://evil.example/", Some("/a/b?c=http://evil.example/")),
            ("?a=b", Some("/?a=b")),
            ("http://evil.example/", None),
            ("evil.example:80", None),
            ("*", None),
            ("x", None),
            ("/a b", None),
            ("/a\r\nHost: evil.example", None),
        ] {
            assert_eq!(uri(path).as_deref(), expected, "{path}");
        }
        // Two slashes are a path here, not a host.
        assert!(uri("//evil.example/x").is_none_or(|text| text == "//evil.example/x"));
    }
}

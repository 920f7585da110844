//! One request to one server: its addresses, the connection, and the wait for the response.
//!
//! Whether the plugin may go there by name was decided before. What the name leads to is decided here, and the
//! connection is made to the very address that was looked at. A redirect is a response like any other: a guest that
//! follows it sends another request, which is looked at as well.

use std::error::Error as _;
use std::io::{Error as IoError, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use wasmtime_wasi::runtime::{AbortOnDropJoinHandle, spawn};
use wasmtime_wasi_http::io::TokioIo;
use wasmtime_wasi_http::{Error, WasiBody};

use super::body::{RequestBody, ResponseBody};
use super::patience::Patience;
use super::{FIELDS_MAX, tls};
use crate::capability::network::{Metered, TrafficMeter, look_up};
use crate::capability::remarks::Remarks;
use crate::grant::{Destination, Host, Networks, Scheme};

/// The smallest buffer that hyper reads into.
const BUFFER_BYTES_MIN: usize = 8 << 10;
/// After this time the next address of the same name is tried.
const NEXT_ADDRESS_AFTER: Duration = Duration::from_secs(3);

pub(super) struct Exchange {
    pub(super) destination: Destination,
    /// None if the destination is an address that was granted as such.
    pub(super) networks: Option<Networks>,
    pub(super) header_bytes_max: usize,
    pub(super) response_bytes_max: u64,
    pub(super) connect: Patience,
    pub(super) first_byte: Patience,
    pub(super) between_bytes: Patience,
    /// For the requests of the attempt that run at once, and how many these are.
    pub(super) turns: Arc<Semaphore>,
    pub(super) turns_max: usize,
    pub(super) meter: Arc<TrafficMeter>,
    pub(super) remarks: Arc<Remarks>,
}

/// A connection that is ready for its only request.
type Connection = (SendRequest<RequestBody>, AbortOnDropJoinHandle<()>);

impl Exchange {
    pub(super) async fn run(self, request: Request<RequestBody>) -> Result<Response<WasiBody>, Error> {
        let mut waiting = self.connect.begin("a connection");
        let turn = tokio::select! {
            turn = Arc::clone(&self.turns).acquire_owned() => turn.expect("the semaphore is never closed"),
            _ = &mut waiting => return Err(self.too_many()),
        };
        let (mut sender, connection) = tokio::select! {
            connected = Box::pin(self.connect()) => connected?,
            error = &mut waiting => return Err(error),
        };
        let (verdict, moved) = (Arc::clone(&request.body().verdict), Arc::clone(&request.body().moved));
        let mut sending = std::pin::pin!(sender.send_request(request));
        let mut waiting = self.first_byte.begin("the response");
        let response = loop {
            tokio::select! {
                response = &mut sending => break response,
                // A server need not answer what it has not heard to the end.
                () = moved.notified() => waiting = self.first_byte.begin("the response"),
                error = &mut waiting => return Err(error),
            }
        };
        let response = response.map_err(|error| match verdict.get() {
            Some(text) => Error::InternalError(Some(self.remarks.make(text.clone()))),
            None if error.is_parse_too_large() => self.header_too_large(),
            None => failed(&error),
        })?;
        let limit_bytes = self.response_bytes_max;
        Ok(response.map(|inner| {
            let body = ResponseBody {
                inner,
                limit_bytes,
                left_bytes: limit_bytes,
                patience: self.between_bytes,
                waiting: None,
                verdict,
                connection: Some(connection),
                turn: Some(turn),
                remarks: self.remarks,
            };
            body.boxed_unsync()
        }))
    }

    fn header_too_large(&self) -> Error {
        let bytes = self.header_bytes_max.max(BUFFER_BYTES_MIN);
        let what = format!("the header of the response has more than {bytes} bytes or {FIELDS_MAX} fields");
        Error::InternalError(Some(self.remarks.make(format!("{what}; raise limits.http_header"))))
    }

    fn too_many(&self) -> Error {
        let max = self.turns_max;
        let text = format!("none of the {max} requests that a task may have at once came to an end in time");
        Error::InternalError(Some(self.remarks.make(format!("{text}; raise limits.http_requests"))))
    }

    async fn connect(&self) -> Result<Connection, Error> {
        let addresses = self.addresses().await?;
        let stream = open(&addresses, self.destination.port).await.map_err(|error| unreachable(&error))?;
        let stream = Metered { inner: stream, meter: Arc::clone(&self.meter) };
        match self.destination.scheme {
            Scheme::Http => self.handshake(stream).await,
            Scheme::Https => {
                let wrong = |why: String| Error::InternalError(Some(self.failed(&why)));
                let name = tls::server_name(&self.destination.host).map_err(wrong)?;
                let connector = tls::connector().map_err(wrong)?;
                match connector.connect(name, stream).await {
                    Ok(stream) => self.handshake(stream).await,
                    Err(error) => {
                        // The codes of wasi:http have no room for the reason.
                        self.failed(&error.to_string());
                        Err(untrusted(&error))
                    }
                }
            }
        }
    }

    async fn handshake<S>(&self, stream: S) -> Result<Connection, Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut builder = http1::Builder::new();
        // The buffer bounds the header, and what is read ahead of the guest.
        builder.max_headers(FIELDS_MAX).max_buf_size(self.header_bytes_max.max(BUFFER_BYTES_MIN));
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(|error| failed(&error))?;
        // What goes wrong there, the request and the body are told as well.
        Ok((sender, spawn(async move { drop(connection.await) })))
    }

    /// The addresses of the host that the plugin may connect to.
    async fn addresses(&self) -> Result<Vec<IpAddr>, Error> {
        let found = match &self.destination.host {
            Host::Address(address) => vec![*address],
            Host::Name(name) => look_up(name.clone()).await.map_err(|error| {
                self.failed(&error.to_string());
                Error::DnsError { rcode: Some(error.to_string()), info_code: None }
            })?,
        };
        let Some(networks) = &self.networks else { return Ok(found) };
        let allowed: Vec<IpAddr> =
            found.iter().copied().filter(|address| networks.refuse(*address).is_none()).collect();
        let refused = found.iter().find_map(|address| Some((*address, networks.refuse(*address)?)));
        match refused {
            Some((address, range)) if allowed.is_empty() => {
                let text = self.remarks.deny_network("http", &self.destination.to_string(), address, range);
                Err(Error::InternalError(Some(text)))
            }
            _ => Ok(allowed),
        }
    }

    /// Says what went wrong on the way.
    fn failed(&self, why: &str) -> String {
        self.remarks.make(format!("http `{}` failed: {why}", self.destination))
    }
}

async fn open(addresses: &[IpAddr], port: u16) -> Result<TcpStream, IoError> {
    let mut error = IoError::from(ErrorKind::AddrNotAvailable);
    for (n, address) in addresses.iter().enumerate() {
        let connecting = TcpStream::connect(SocketAddr::new(*address, port));
        let connected = match n + 1 < addresses.len() {
            true => timeout(NEXT_ADDRESS_AFTER, connecting).await.unwrap_or(Err(ErrorKind::TimedOut.into())),
            // Whoever asked is waiting with a time of his own.
            false => connecting.await,
        };
        match connected {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(why) => error = why,
        }
    }
    Err(error)
}

/// Why there is no connection.
fn unreachable(error: &IoError) -> Error {
    match error.kind() {
        ErrorKind::ConnectionRefused => Error::ConnectionRefused,
        ErrorKind::TimedOut => Error::ConnectionTimeout,
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable | ErrorKind::NetworkDown => {
            Error::DestinationUnavailable
        }
        ErrorKind::AddrNotAvailable => Error::DestinationNotFound,
        _ => Error::InternalError(Some(format!("cannot connect: {error}"))),
    }
}

/// Why there is no TLS.
fn untrusted(error: &IoError) -> Error {
    match error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(_)) => Error::TlsCertificateError,
        Some(rustls::Error::AlertReceived(alert)) => {
            Error::TlsAlertReceived { alert_id: Some(u8::from(*alert)), alert_message: Some(format!("{alert:?}")) }
        }
        _ => Error::TlsProtocolError,
    }
}

/// What became of a request or a response.
pub(super) fn failed(error: &hyper::Error) -> Error {
    let io = error.source().and_then(|cause| cause.downcast_ref::<IoError>()).map(IoError::kind);
    if error.is_incomplete_message() || io == Some(ErrorKind::UnexpectedEof) {
        return Error::HttpResponseIncomplete;
    }
    if error.is_canceled() || error.is_closed() || io.is_some() {
        return Error::ConnectionTerminated;
    }
    Error::HttpProtocolError
}

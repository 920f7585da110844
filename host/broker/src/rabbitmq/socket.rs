//! Opens connections to an AMQP server on sockets that notice when the other end has vanished.
//!
//! lapin gives each connection a thread, which reads until its socket ends. So the socket of a connection
//! that did not come about in time is ended here: a server that accepts and says nothing would otherwise
//! cost a thread for each try.

use std::net::Shutdown;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use dial::tls::Tls;
use lapin::tcp::{AMQPUriTcpExt, AsyncTcpStream, RustlsConnector};
use lapin::uri::AMQPUri;
use lapin::{Connection, ConnectionProperties};
use socket2::{SockRef, Socket, TcpKeepalive};

use super::failure::Failure;

/// When a silent connection is probed, and how often: where heartbeats are switched off, and where a
/// router forgets connections that are silent for minutes.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(15);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
#[cfg(any(target_os = "linux", target_os = "macos", target_os = "freebsd", target_os = "windows"))]
const KEEPALIVE_PROBES_MAX: u32 = 3;

/// How long what we sent may stay without the other end's receipt.
#[cfg(target_os = "linux")]
const UNRECEIVED_MAX: Duration = Duration::from_secs(30);

/// Connects, over TLS if there is one, and logs in, all within the deadline.
pub(super) async fn connect(
    uri: AMQPUri,
    tls: Option<Tls>,
    properties: ConnectionProperties,
    deadline: Duration,
) -> Result<Connection, Failure> {
    let mut attempt = Attempt::default();
    let socket = Arc::clone(&attempt.socket);
    let runtime = lapin::runtime::default_runtime()?;
    // The one that lapin hands over is the same; only of this one the compiler knows the type.
    let ours = runtime.clone();
    let connector = tls.map(|tls| RustlsConnector::from(tls.config()));
    let open = async move |uri: AMQPUri, _| {
        let opening = async {
            // Plain, whatever the scheme: which certificates are believed is not lapin's to decide.
            let stream = uri.connect_async(&ours).await?;
            if let AsyncTcpStream::Plain(plain) = &stream {
                let tcp = SockRef::from(plain.get_ref());
                watch_over(&tcp)?;
                let _ = socket.set(tcp.try_clone()?);
            }
            match &connector {
                Some(connector) => stream.into_rustls(connector, &uri.authority.host).await,
                None => Ok(stream),
            }
        };
        let opened = tokio::time::timeout(deadline, opening).await;
        Ok(opened.map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))??)
    };
    let connecting = Connection::connector(uri, runtime, open, properties);
    let connected = tokio::time::timeout(deadline, connecting).await;
    let connection = connected.map_err(|_| Failure::TimedOut(deadline))??;
    attempt.succeeded = true;
    Ok(connection)
}

/// Ends its socket when it is dropped, unless it succeeded.
#[derive(Default)]
struct Attempt {
    socket: Arc<OnceLock<Socket>>,
    succeeded: bool,
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if let Some(socket) = self.socket.get().filter(|_| !self.succeeded) {
            // An error means that it has ended by itself.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

/// Has the system end the connection when the other end is gone.
fn watch_over(socket: &SockRef<'_>) -> std::io::Result<()> {
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_AFTER).with_interval(KEEPALIVE_INTERVAL);
    #[cfg(any(target_os = "linux", target_os = "macos", target_os = "freebsd", target_os = "windows"))]
    let keepalive = keepalive.with_retries(KEEPALIVE_PROBES_MAX);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(UNRECEIVED_MAX))?;
    socket.set_tcp_nodelay(true)
}

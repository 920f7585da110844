//! Opens connections to one server, or to whichever server is the master when they are opened.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::{MultiplexedConnection, PubSub};
use redis::{AsyncConnectionConfig, IntoConnectionInfo, ProtocolVersion, RedisConnectionInfo};
use tokio::task::JoinHandle;

use super::address::{Address, Target};
use super::error::OpenError;
use super::login::{Login, log_in};
use super::sentinel;
use super::stream::Stream;
use crate::tls::{Tls, TlsOptions};

/// Knows where a server is and how to log in.
pub struct Dialer {
    target: Target,
}

/// How one connection is opened.
#[derive(Debug, Clone, Copy)]
pub struct Opening<'a> {
    /// What the server shows to its operators.
    pub name: Option<&'a str>,
    /// How long all of it may take, from the first name that is looked up.
    pub within: Duration,
}

/// An open connection for many at once. It is closed with its last copy.
#[derive(Clone)]
pub struct Connection {
    multiplexed: MultiplexedConnection,
    _driver: Arc<Driver>,
}

/// Reads and writes for a connection.
struct Driver(JoinHandle<()>);

impl Dialer {
    /// Checks what can be checked without connecting, certificates among it.
    pub fn new(target: Target) -> Result<Self, OpenError> {
        target.check().map_err(OpenError::permanent)?;
        target.check_tls()?;
        Ok(Self { target })
    }

    /// What is dialled.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Connects and logs in. The protocol is Redis' third if the server may speak first.
    pub async fn connect(
        &self,
        opening: Opening<'_>,
        protocol: ProtocolVersion,
        config: AsyncConnectionConfig,
    ) -> Result<Connection, OpenError> {
        in_time(opening.within, async {
            let stream = self.stream(opening.name).await?;
            let info = plain()?.set_protocol(protocol);
            let (multiplexed, driver) = MultiplexedConnection::new_with_config(&info, stream, config).await?;
            Ok(Connection { multiplexed, _driver: Arc::new(Driver(tokio::spawn(driver))) })
        })
        .await
    }

    /// Connects for subscriptions.
    pub async fn subscriber(&self, opening: Opening<'_>) -> Result<PubSub, OpenError> {
        in_time(opening.within, async {
            let stream = self.stream(opening.name).await?;
            Ok(PubSub::new(&plain()?, stream).await?)
        })
        .await
    }

    /// A stream on which we are logged in.
    async fn stream(&self, name: Option<&str>) -> Result<Stream, OpenError> {
        let Target { address, db, username, password, options, .. } = &self.target;
        let mut login = Login {
            username: username.as_deref(),
            password: password.as_deref(),
            db: *db,
            name,
            must_be_master: false,
        };
        // Anew for each connection: a certificate that is renewed needs no restart.
        let load = |options: &Option<TlsOptions>| options.as_ref().map(TlsOptions::load).transpose();
        let tls = load(&options.tls)?;
        let mut stream = match address {
            Address::Tcp(host, port) => Stream::tcp(host, *port, tls.as_ref()).await?,
            #[cfg(unix)]
            Address::Socket(path) => Stream::socket(path).await?,
            #[cfg(not(unix))]
            Address::Socket(_) => return Err(OpenError::permanent("this system has no Unix sockets")),
            Address::Sentinels(hosts) => {
                let (host, port) = sentinel::master(hosts, options, load(&options.sentinel.tls)?.as_ref()).await?;
                login.must_be_master = true;
                return match master(&host, port, tls.as_ref(), &login).await {
                    Err(error) => {
                        sentinel::distrust(hosts);
                        Err(error)
                    }
                    opened => opened,
                };
            }
        };
        log_in(&mut stream, &login).await?;
        Ok(stream)
    }
}

/// The server that Sentinels named.
async fn master(host: &str, port: u16, tls: Option<&Tls>, login: &Login<'_>) -> Result<Stream, OpenError> {
    let at = |error: OpenError| match error {
        // Whether a login is refused for good, its code says.
        OpenError::Redis(error) if error.code().is_some() => OpenError::Redis(error),
        OpenError::Redis(error) => OpenError::transient(format!("the master at {host}:{port}: {error}")),
        OpenError::Other { reason, transient } => {
            OpenError::Other { reason: format!("the master at {host}:{port}: {reason}"), transient }
        }
    };
    let mut stream = Stream::tcp(host, port, tls).await.map_err(|error| at(error.into()))?;
    log_in(&mut stream, login).await.map_err(at)?;
    Ok(stream)
}

impl Connection {
    /// What commands are sent with. It works as long as the connection is kept.
    pub fn multiplexed(&self) -> MultiplexedConnection {
        self.multiplexed.clone()
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn in_time<T>(within: Duration, opening: impl Future<Output = Result<T, OpenError>>) -> Result<T, OpenError> {
    let late = |_| OpenError::transient(format!("no answer within {} s", within.as_secs_f64()));
    tokio::time::timeout(within, opening).await.map_err(late)?
}

/// Nothing that the client library would do: all of it is done when it gets the stream.
fn plain() -> Result<RedisConnectionInfo, OpenError> {
    // It has no constructor, and the address is for nobody.
    let info = ("localhost", 0).into_connection_info()?;
    Ok(info.redis_settings().clone().set_skip_set_lib_name())
}

#[cfg(test)]
mod tests;

//! One multiplexed connection that is made when it is needed and made anew when it is lost.
//!
//! Does not wait between attempts: who calls again, and when, is the worker's decision.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis::aio::{MultiplexedConnection, PubSub};
use redis::io::tcp::{TcpSettings, socket2::TcpKeepalive};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, IntoConnectionInfo, Pipeline, RedisError, RedisResult, Value,
};
use taskhost_core::{NodeName, RedactedUrl};
use tokio::sync::OnceCell;
use tracing::{debug, info};

use super::failure::{Failure, Phase};
use crate::port::StoreError;
use crate::target::{RedisAddress, RedisTarget};

/// How long it may take to reach the server, from the name look-up to the login.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an answer may take, unless the URL says it. A batch has at most some ten megabytes, or one large result.
pub(crate) const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);
/// When a silent connection is probed, how often, and how many probes may stay unanswered: a peer that
/// vanished is noticed within half a minute even if nothing is sent.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(15);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
#[cfg(any(target_os = "linux", target_os = "macos", target_os = "freebsd", target_os = "windows"))]
const KEEPALIVE_PROBES_MAX: u32 = 3;

type Cell = Arc<OnceCell<MultiplexedConnection>>;

/// The connection of one store.
pub(crate) struct Connection {
    url: RedactedUrl,
    /// Without login and database, which `open` sends itself to see what the server says about them.
    client: Client,
    /// With both, for subscriptions.
    subscriber: Client,
    login: RedisTarget,
    node: Option<NodeName>,
    current: Mutex<Cell>,
}

/// What is sent to the server in one go.
#[derive(Clone, Copy)]
pub(crate) enum Exchange<'a> {
    Command(&'a Cmd),
    /// As that, and never repeated.
    Once(&'a Cmd),
    /// Nobody wants to know what each command said if all went well.
    Transaction(&'a Pipeline),
    /// An array of what each command said, errors among them.
    Each(&'a Pipeline),
}

/// Why there is no answer.
pub(crate) enum Trouble {
    Connect(Failure),
    Operation(Failure),
}

impl Connection {
    pub(crate) fn new(url: RedactedUrl, target: &RedisTarget, node: Option<NodeName>) -> Result<Self, StoreError> {
        let refused =
            |source: RedisError| StoreError::Connect { url: url.clone(), source: Box::new(source), transient: false };
        Ok(Self {
            client: client(target, false).map_err(refused)?,
            subscriber: client(target, true).map_err(refused)?,
            url,
            login: target.clone(),
            node,
            current: Mutex::default(),
        })
    }

    /// Sends `exchange` and returns what the server says. A connection that turns out to be closed is
    /// replaced and the exchange is repeated once, so it must bear repetition unless it says that it does not.
    pub(crate) async fn run(&self, exchange: Exchange<'_>) -> Result<Value, Trouble> {
        let mut repeated = false;
        loop {
            let cell = self.current();
            let reused = cell.initialized();
            let mut connection = match cell.get_or_try_init(|| self.open()).await {
                Ok(connection) => connection.clone(),
                Err(error) => return Err(Trouble::Connect(Failure::new(error, Phase::Connecting))),
            };
            let answered = match exchange {
                Exchange::Command(command) | Exchange::Once(command) => command.query_async(&mut connection).await,
                Exchange::Transaction(commands) => commands.exec_async(&mut connection).await.map(|()| Value::Okay),
                Exchange::Each(commands) => {
                    connection.send_packed_commands(commands, 0, commands.len()).await.map(Value::Array)
                }
            };
            let error = match answered {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            let failure = Failure::new(error, Phase::Operating);
            if failure.lost {
                debug!(url = %self.url, error = %failure.cause, "connection to the result store is given up");
                self.give_up(&cell);
            }
            let is_repeatable = !matches!(exchange, Exchange::Once(_));
            if !failure.dropped || !reused || repeated || !is_repeatable {
                return Err(Trouble::Operation(failure));
            }
            repeated = true;
        }
    }

    /// A connection of its own for subscriptions.
    pub(crate) async fn subscriber(&self) -> RedisResult<PubSub> {
        let connecting = tokio::time::timeout(CONNECT_TIMEOUT, self.subscriber.get_async_pubsub());
        connecting.await.unwrap_or_else(|_| Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()))
    }

    /// The error for a failure to connect.
    pub(crate) fn connect_error(&self, failure: &Failure) -> StoreError {
        let cause = failure.cause.clone();
        StoreError::Connect { url: self.url.clone(), transient: cause.transient, source: Box::new(cause) }
    }

    async fn open(&self) -> RedisResult<MultiplexedConnection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(CONNECT_TIMEOUT));
        let mut connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;
        self.log_in(&mut connection).await?;
        connection.set_response_timeout(self.login.socket_timeout.unwrap_or(RESPONSE_TIMEOUT));
        info!(url = %self.url, "connected to the result store");
        Ok(connection)
    }

    /// The client library could log in by itself, but then a wrong password, a server that is loading and
    /// one that is full of clients are all the same error.
    async fn log_in(&self, connection: &mut MultiplexedConnection) -> RedisResult<()> {
        let RedisTarget { db, username, password, .. } = &self.login;
        if let Some(password) = password {
            let mut auth = redis::cmd("AUTH");
            if let Some(username) = username {
                auth.arg(username);
            }
            auth.arg(password).exec_async(connection).await?;
        }
        if *db != 0 {
            redis::cmd("SELECT").arg(*db).exec_async(connection).await?;
        }
        if let Some(node) = &self.node {
            // For people who read CLIENT LIST; a server that refuses it is as good.
            let _: Result<Value, _> =
                redis::cmd("CLIENT").arg("SETNAME").arg(node.as_str()).query_async(connection).await;
        }
        Ok(())
    }

    /// The next exchange is made on a new connection.
    pub(crate) fn reconnect(&self) {
        self.give_up(&self.current());
    }

    fn current(&self) -> Cell {
        Arc::clone(&self.current.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts an empty cell in the place of `lost`, unless somebody did so already.
    fn give_up(&self, lost: &Cell) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if Arc::ptr_eq(&current, lost) {
            *current = Cell::default();
        }
    }
}

fn client(target: &RedisTarget, with_login: bool) -> RedisResult<Client> {
    let address = match &target.address {
        RedisAddress::Tcp(host, port) => ConnectionAddr::Tcp(host.clone(), *port),
        RedisAddress::Socket(path) => ConnectionAddr::Unix(path.clone()),
    };
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_AFTER).with_interval(KEEPALIVE_INTERVAL);
    #[cfg(any(target_os = "linux", target_os = "macos", target_os = "freebsd", target_os = "windows"))]
    let keepalive = keepalive.with_retries(KEEPALIVE_PROBES_MAX);
    let tcp = TcpSettings::default().set_nodelay(true).set_keepalive(keepalive);
    let info = address.into_connection_info()?.set_tcp_settings(tcp);
    let mut settings = info.redis_settings().clone().set_skip_set_lib_name();
    if with_login {
        if let Some(username) = &target.username {
            settings = settings.set_username(username);
        }
        if let Some(password) = &target.password {
            settings = settings.set_password(password);
        }
    }
    Client::open(info.set_redis_settings(settings))
}

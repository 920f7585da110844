//! One multiplexed connection that is made when it is needed and made anew when it is lost.
//!
//! Does not wait between attempts: who calls again, and when, is the worker's decision.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dial::redis::{Dialer, OpenError, Opening, Target};
use redis::aio::PubSub;
use redis::{AsyncConnectionConfig, Cmd, Pipeline, ProtocolVersion, Value};
use taskhost_core::{NodeName, RedactedUrl};
use tokio::sync::OnceCell;
use tracing::{debug, info};

use super::failure::{Failure, Phase};
use crate::port::StoreError;
use crate::target;

/// How long it may take to reach the server, from the name look-up to the login.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an answer may take, unless the URL says it. A batch has at most some ten megabytes, or one large result.
pub(crate) const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);
type Cell = Arc<OnceCell<dial::redis::Connection>>;

/// The connection of one store.
pub(crate) struct Connection {
    url: RedactedUrl,
    dialer: Dialer,
    response_timeout: Duration,
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
    pub(crate) fn new(url: RedactedUrl, target: &Target, node: Option<NodeName>) -> Result<Self, StoreError> {
        let refused = |reason: String| StoreError::Url { url: url.clone(), reason };
        let response_timeout = target::socket_timeout(target).map_err(refused)?.unwrap_or(RESPONSE_TIMEOUT);
        let dialer = Dialer::new(target.clone()).map_err(|error| refused(error.to_string()))?;
        Ok(Self { dialer, response_timeout, url, node, current: Mutex::default() })
    }

    /// Sends `exchange` and returns what the server says. A connection that turns out to be closed is
    /// replaced and the exchange is repeated once, so it must bear repetition unless it says that it does not.
    pub(crate) async fn run(&self, exchange: Exchange<'_>) -> Result<Value, Trouble> {
        let mut repeated = false;
        loop {
            let cell = self.current();
            let reused = cell.initialized();
            let mut connection = match cell.get_or_try_init(|| self.open()).await {
                Ok(connection) => connection.multiplexed(),
                Err(error) => return Err(Trouble::Connect(error.into())),
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
    pub(crate) async fn subscriber(&self) -> Result<PubSub, OpenError> {
        self.dialer.subscriber(self.opening()).await
    }

    /// The error for a failure to connect.
    pub(crate) fn connect_error(&self, failure: &Failure) -> StoreError {
        let cause = failure.cause.clone();
        StoreError::Connect { url: self.url.clone(), transient: cause.transient, source: Box::new(cause) }
    }

    async fn open(&self) -> Result<dial::redis::Connection, OpenError> {
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(self.response_timeout));
        let connection = self.dialer.connect(self.opening(), ProtocolVersion::RESP2, config).await?;
        info!(url = %self.url, "connected to the result store");
        Ok(connection)
    }

    fn opening(&self) -> Opening<'_> {
        Opening { name: self.node.as_ref().map(NodeName::as_str), within: CONNECT_TIMEOUT }
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

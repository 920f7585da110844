//! Connections to the servers: made when they are needed, kept while they are good, given up when in doubt.
//!
//! Does not wait between attempts: who calls again, and when, is the worker's decision. A server that is lost is an
//! error of its keys; they are not looked for elsewhere, as a client would after a while.

use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use taskhost_core::RedactedUrl;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader, ReadHalf, WriteHalf, split};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use tracing::{debug, info};

use super::address::{Address, Servers};
use super::protocol::{Exchange, Reply};
use crate::cause::Cause;
use crate::port::StoreError;

/// How long it may take to reach a server, as Celery's default (`connect_timeout`).
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the answers to one batch may take. A batch has at most some megabytes, or one large result.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);
/// How many connections there are to one server: the committer's, and those of chords and waits.
const CONNECTIONS_MAX: usize = 8;

/// All servers of a store.
pub(super) struct Cluster {
    url: RedactedUrl,
    pub(super) servers: Servers,
    links: Vec<Link>,
}

/// Commands to several servers, and in which order their answers are wanted.
pub(super) struct Batch {
    exchanges: Vec<Exchange>,
    /// Which server was asked, one for each answer.
    asked: Vec<usize>,
}

/// Why there is no answer.
#[derive(Debug, Clone)]
pub(super) struct Trouble {
    pub(super) cause: Cause,
    pub(super) connecting: bool,
}

/// The connections to one server.
struct Link {
    address: Address,
    idle: Mutex<Vec<Wire>>,
    permits: Semaphore,
}

struct Wire {
    from: BufReader<ReadHalf<Box<dyn Stream>>>,
    to: WriteHalf<Box<dyn Stream>>,
}

trait Stream: AsyncRead + AsyncWrite + Send + Sync + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Stream for T {}

impl Cluster {
    pub(super) fn new(url: RedactedUrl, servers: Servers) -> Self {
        let link = |address: &Address| Link {
            address: address.clone(),
            idle: Mutex::default(),
            permits: Semaphore::new(CONNECTIONS_MAX),
        };
        Self { url, links: servers.addresses.iter().map(link).collect(), servers }
    }

    pub(super) fn batch(&self) -> Batch {
        Batch { exchanges: self.links.iter().map(|_| Exchange::new()).collect(), asked: Vec::new() }
    }

    /// How many servers there are.
    pub(super) fn len(&self) -> usize {
        self.links.len()
    }

    /// Asks all servers at once. An answer for each command, in the order of the batch.
    pub(super) async fn run(&self, batch: &Batch) -> Vec<Result<Reply, Trouble>> {
        let runs = self.links.iter().zip(&batch.exchanges).map(|(link, exchange)| async {
            if exchange.is_empty() { Ok(Vec::new()) } else { link.run(exchange).await }
        });
        let mut answers: Vec<_> = join_all(runs).await.into_iter().map(|run| run.map(Vec::into_iter)).collect();
        let answer = |&server: &usize| match &mut answers[server] {
            Ok(replies) => replies.next().ok_or_else(|| Trouble::of(io::ErrorKind::UnexpectedEof.into())),
            Err(trouble) => Err(trouble.clone()),
        };
        batch.asked.iter().map(answer).collect()
    }

    /// The error of not getting to a server.
    pub(super) fn connect_error(&self, cause: &Cause) -> StoreError {
        StoreError::Connect { url: self.url.clone(), transient: cause.transient, source: Box::new(cause.clone()) }
    }
}

impl Batch {
    /// Adds one command for a server.
    pub(super) fn ask(&mut self, server: usize, command: impl FnOnce(&mut Exchange)) {
        let exchange = &mut self.exchanges[server];
        let before = exchange.len();
        command(exchange);
        debug_assert_eq!(exchange.len(), before + 1, "one command at a time");
        self.asked.push(server);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.asked.is_empty()
    }
}

impl Link {
    /// Sends an exchange and returns what the server says. A connection that turns out to be closed is replaced, and
    /// the exchange repeated once if it bears that.
    async fn run(&self, exchange: &Exchange) -> Result<Vec<Reply>, Trouble> {
        let deadline = Instant::now() + RESPONSE_TIMEOUT;
        let permit = timeout_at(deadline, self.permits.acquire()).await;
        let Ok(Ok(_permit)) = permit else {
            return Err(Trouble::of(io::Error::new(io::ErrorKind::TimedOut, "all connections are in use")));
        };
        loop {
            let reused = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let is_reused = reused.is_some();
            let mut wire = match reused {
                Some(wire) => wire,
                None => self.open().await?,
            };
            let answered = timeout_at(Instant::now() + RESPONSE_TIMEOUT, wire.carry(exchange)).await;
            let answered = answered.unwrap_or_else(|_| {
                let text = format!("{self} did not answer within {} s", RESPONSE_TIMEOUT.as_secs());
                Err(io::Error::new(io::ErrorKind::TimedOut, text))
            });
            match answered {
                // Whoever is cancelled in between takes the connection with him, with all that is still to come on it.
                Ok(replies) => {
                    self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(wire);
                    return Ok(replies);
                }
                Err(error) => {
                    debug!(server = %self, %error, "connection to the result store is given up");
                    let is_closed =
                        error.kind() != io::ErrorKind::TimedOut && error.kind() != io::ErrorKind::InvalidData;
                    if !(is_reused && is_closed && exchange.is_repeatable) {
                        return Err(Trouble::of(error));
                    }
                }
            }
        }
    }

    async fn open(&self) -> Result<Wire, Trouble> {
        let opened = timeout_at(Instant::now() + CONNECT_TIMEOUT, self.connect()).await.unwrap_or_else(|_| {
            let text = format!("{self} was not reached within {} s", CONNECT_TIMEOUT.as_secs());
            Err(io::Error::new(io::ErrorKind::TimedOut, text))
        });
        match opened {
            Ok(stream) => {
                info!(server = %self, "connected to the result store");
                let (from, to) = split(stream);
                Ok(Wire { from: BufReader::new(from), to })
            }
            Err(error) => {
                let error = io::Error::new(error.kind(), format!("{self}: {error}"));
                Err(Trouble { cause: Cause::transient(error), connecting: true })
            }
        }
    }

    async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        match &self.address {
            Address::Tcp(host, port) => {
                let stream = TcpStream::connect((&**host, *port)).await?;
                stream.set_nodelay(true)?;
                Ok(Box::new(stream))
            }
            #[cfg(unix)]
            Address::Socket(path) => Ok(Box::new(tokio::net::UnixStream::connect(path).await?)),
            #[cfg(not(unix))]
            Address::Socket(_) => Err(io::Error::new(io::ErrorKind::Unsupported, "there are no Unix sockets here")),
        }
    }
}

impl std::fmt::Display for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.address {
            Address::Tcp(host, port) => write!(f, "{host}:{port}"),
            Address::Socket(path) => write!(f, "{}", path.display()),
        }
    }
}

impl Wire {
    /// Reads while it writes: a server whose answers nobody takes stops reading what is sent.
    async fn carry(&mut self, exchange: &Exchange) -> io::Result<Vec<Reply>> {
        let write = async {
            self.to.write_all(exchange.bytes()).await?;
            self.to.flush().await
        };
        let (_, replies) = tokio::try_join!(write, exchange.answers(&mut self.from))?;
        // What belongs to no command would be taken for the next one's answer.
        if self.from.buffer().is_empty() {
            Ok(replies)
        } else {
            Err(io::Error::new(io::ErrorKind::InvalidData, "the server said more than it was asked"))
        }
    }
}

impl Trouble {
    fn of(error: io::Error) -> Self {
        // Whoever does not speak the protocol will not learn it.
        let transient = error.kind() != io::ErrorKind::InvalidData;
        Self { cause: Cause::new(error, transient), connecting: false }
    }

    /// The server has refused a command, with these words.
    pub(super) fn refused(text: &str, transient: bool) -> Self {
        Self { cause: Cause::new(text.to_owned(), transient), connecting: false }
    }
}

//! Reads lists of brokers, and connects to the first server of one that works.
//!
//! Which server is the next is decided by the [cursor](crate::failover). There is one for a whole process, so
//! that tasks, mailbox and events of a worker meet at the same server.

use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dial::tls::TlsOptions;
use taskhost_core::RedactedUrl;
use tokio::sync::watch;
use tracing::{error, info};

use crate::connect::{self, ConnectOptions};
use crate::failover::{Cursor, FailoverStrategy};
use crate::port::{Broker, BrokerError};
use crate::split::Split;

/// Schemes of what is a file or a part of this process, and so no server that could fail over.
const EMBEDDED: [&str; 4] = ["sqlite", "sqla+sqlite", "filesystem", "memory"];

/// The servers that a broker URL names: `;` stands between them (kombu/connection.py `Connection.__init__`). One
/// after the first may be only a host, with what else the first one says. Sentinels, which all lead to the same
/// Redis, are one server with several addresses.
pub fn server_urls(url: &str) -> Vec<String> {
    let mut servers: Vec<String> = Vec::new();
    let mut parts = url.split(';').map(str::trim).filter(|part| !part.is_empty());
    let first = parts.next().unwrap_or(url).to_owned();
    for part in std::iter::once(first.as_str()).chain(parts) {
        let part = if part.contains("://") { part.to_owned() } else { beside(&first, part) };
        match servers.iter_mut().find(|server| is_sentinel(server) && is_sentinel(&part)) {
            Some(sentinels) => *sentinels = format!("{sentinels};{part}"),
            None => servers.push(part),
        }
    }
    servers
}

fn is_sentinel(url: &str) -> bool {
    url.starts_with("sentinel://")
}

/// The URL of another host, with scheme, login, port and path of `url` (kombu's `switch`).
fn beside(url: &str, host: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return host.to_owned() };
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let (login, server) = authority.rsplit_once('@').map_or(("", authority), |(login, server)| (login, server));
    let at = if authority.contains('@') { "@" } else { "" };
    let port = |server: &str| {
        server.rsplit_once(':').filter(|(_, port)| !port.contains(']')).map(|(_, port)| format!(":{port}"))
    };
    let port = if port(host).is_some() { None } else { port(server) };
    format!("{scheme}://{login}{at}{host}{}{path}", port.unwrap_or_default())
}

/// Checks a URL, or a list of them, as far as that is possible without connecting.
pub fn check_url(url: &str) -> Result<(), BrokerError> {
    let servers = server_urls(url);
    for server in &servers {
        let scheme = server.split("://").next().unwrap_or_default();
        if servers.len() > 1 && EMBEDDED.contains(&scheme) {
            let reason = format!("a list is for servers that stand in for each other; `{scheme}` is none");
            return Err(BrokerError::Url { url: RedactedUrl::new(url), reason });
        }
        connect::check_url(server)?;
    }
    Ok(())
}

/// Checks options of a transport. Of several servers those may have none that are of another kind.
pub fn check_transport_options(url: &str, options: &[(String, String)]) -> Result<(), BrokerError> {
    let servers = server_urls(url);
    let mut answers: Vec<_> = servers.iter().map(|url| connect::check_transport_options(url, options)).collect();
    if answers.iter().any(Result::is_ok) {
        return Ok(());
    }
    answers.remove(0)
}

/// Checks that TLS can be had as URLs and options ask for it: reads the files that they name, and connects to nothing.
pub fn check_tls(url: &str, tls: Option<&TlsOptions>) -> Result<(), BrokerError> {
    server_urls(url).iter().try_for_each(|url| connect::check_tls(url, tls))
}

/// Servers that stand in for each other.
struct Servers {
    urls: Vec<String>,
    cursor: Mutex<Cursor>,
    options: ConnectOptions,
    /// What they are for, as a log line goes on.
    purpose: &'static str,
}

/// Where the messages of a process come from and go to: one list of servers, or one to read and one to write.
pub struct Endpoint {
    read: Servers,
    write: Option<Servers>,
    /// How often a server was left for another.
    moves: watch::Sender<u64>,
}

impl Endpoint {
    /// `read` is Celery's `broker_read_url`, and `write` its `broker_write_url`, if that is another. The seed is
    /// for [`FailoverStrategy::Shuffle`].
    pub fn new(
        read: &str,
        write: Option<&str>,
        strategy: FailoverStrategy,
        options: &ConnectOptions,
        seed: u64,
    ) -> Self {
        let servers = |url: &str, purpose| {
            let urls = server_urls(url);
            let cursor = Mutex::new(Cursor::new(urls.len(), strategy, seed));
            Servers { urls, cursor, options: options.clone(), purpose }
        };
        let (for_both, for_write) = (if write.is_some() { " to read" } else { "" }, " to write");
        Self {
            read: servers(read, for_both),
            write: write.map(|url| servers(url, for_write)),
            moves: watch::Sender::new(0),
        }
    }

    /// Connects to the servers in use, or to the next ones that work; whoever else of this process is connected to
    /// others hears it ([`Endpoint::moves`]). The error of a whole round names each server and what it said.
    pub async fn connect(&self) -> Result<Arc<dyn Broker>, BrokerError> {
        let read = self.read.connect(&self.moves).await?;
        let Some(servers) = &self.write else { return Ok(read) };
        match servers.connect(&self.moves).await {
            Ok(write) => Ok(Arc::new(Split::new(read, write))),
            Err(error) => {
                read.close().await;
                Err(error)
            }
        }
    }

    /// Connects to the servers in use, and to no others.
    pub async fn follow(&self) -> Result<Arc<dyn Broker>, BrokerError> {
        let read = self.read.connect_to(self.read.current()).await?;
        let Some(servers) = &self.write else { return Ok(read) };
        match servers.connect_to(servers.current()).await {
            Ok(write) => Ok(Arc::new(Split::new(read, write))),
            Err(error) => {
                read.close().await;
                Err(error)
            }
        }
    }

    /// The servers in use let us in and are of no use: the next ones are tried first.
    pub fn leave(&self) {
        for servers in std::iter::once(&self.read).chain(&self.write) {
            servers.leave(servers.current(), &self.moves);
        }
    }

    /// Changes whenever a server is left for another.
    pub fn moves(&self) -> watch::Receiver<u64> {
        self.moves.subscribe()
    }

    /// The URL of the server that messages come from now.
    pub fn in_use(&self) -> &str {
        &self.read.urls[self.read.current()]
    }

    /// Whether the connection to that server has TLS, which its scheme need not say.
    pub fn has_tls(&self) -> bool {
        connect::has_tls(self.in_use(), &self.read.options)
    }

    /// All servers that messages come from, if there are several.
    pub fn alternates(&self) -> &[String] {
        if self.read.urls.len() > 1 { &self.read.urls } else { &[] }
    }
}

impl Servers {
    fn cursor(&self) -> MutexGuard<'_, Cursor> {
        self.cursor.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn current(&self) -> usize {
        self.cursor().current()
    }

    fn leave(&self, server: usize, moves: &watch::Sender<u64>) {
        if self.cursor().leave(server) {
            moves.send_modify(|moves| *moves = moves.wrapping_add(1));
        }
    }

    async fn connect_to(&self, server: usize) -> Result<Arc<dyn Broker>, BrokerError> {
        connect::connect(&self.urls[server], &self.options).await
    }

    /// One round: each server is tried once.
    async fn connect(&self, moves: &watch::Sender<u64>) -> Result<Arc<dyn Broker>, BrokerError> {
        let mut failures: Vec<(RedactedUrl, BrokerError)> = Vec::new();
        loop {
            let server = self.current();
            let url = RedactedUrl::new(&self.urls[server]);
            let error = match self.connect_to(server).await {
                Ok(broker) => {
                    for (url, error) in failures {
                        error!("consumer: Cannot connect to {url}: {}. Will retry using next failover.", said(&error));
                    }
                    info!("Connected to {url}{}", self.purpose);
                    return Ok(broker);
                }
                Err(error) => error,
            };
            self.leave(server, moves);
            failures.push((url, error));
            if failures.len() == self.urls.len() {
                return Err(whole_round(failures));
            }
        }
    }
}

fn whole_round(mut failures: Vec<(RedactedUrl, BrokerError)>) -> BrokerError {
    if failures.len() == 1 {
        return failures.remove(0).1;
    }
    let transient = failures.iter().any(|(_, error)| error.is_transient());
    let failures = failures.into_iter().map(|(url, error)| (url, said(&error))).collect();
    BrokerError::NoServer { failures, transient }
}

/// What a server said, without its URL, which stands before it.
fn said(error: &BrokerError) -> String {
    let mut said = match error {
        BrokerError::Connect { source, .. } => return chain(&**source),
        BrokerError::Url { reason, .. } => return reason.clone(),
        error => error.to_string(),
    };
    if let Some(source) = error.source() {
        said = format!("{said}: {}", chain(source));
    }
    said
}

fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let said = cause.to_string();
        if !text.ends_with(&said) {
            text = format!("{text}: {said}");
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_servers_is_read_as_kombu_reads_it() {
        let check = |url: &str, expected: &[&str]| assert_eq!(server_urls(url), expected, "{url}");
        check("amqp://a//", &["amqp://a//"]);
        check("amqp://a//;amqp://b//", &["amqp://a//", "amqp://b//"]);
        check("amqp://a// ; redis://b/1;", &["amqp://a//", "redis://b/1"]);
        check("amqp://me:x@a:1/v?heartbeat=5;b", &["amqp://me:x@a:1/v?heartbeat=5", "amqp://me:x@b:1/v?heartbeat=5"]);
        check("redis://a/2;b:7;[::1]", &["redis://a/2", "redis://b:7/2", "redis://[::1]/2"]);
        check("amqp://a;b", &["amqp://a", "amqp://b"]);
        check("amqp://[::1];[::2]", &["amqp://[::1]", "amqp://[::2]"]);
        check("", &[""]);
    }

    #[test]
    fn sentinels_are_one_server() {
        assert_eq!(server_urls("sentinel://a:1;sentinel://b:2"), ["sentinel://a:1;sentinel://b:2"]);
        assert_eq!(server_urls("sentinel://a:1;b:2;redis://c"), ["sentinel://a:1;sentinel://b:2", "redis://c"]);
    }

    #[test]
    fn every_server_of_a_list_is_checked() {
        assert!(check_url("amqp://a//;redis://b/1;c").is_ok(), "transports may be mixed, as in kombu");
        let reason = |url: &str| check_url(url).expect_err(url).to_string();
        assert!(reason("amqp://a//;kafka://me:secret@b").starts_with("broker URL `kafka://me:**@b`: unknown scheme"));
        assert_eq!(
            reason("amqp://me:secret@a//;sqlite:///host.db"),
            "broker URL `amqp://me:**@a//;sqlite:///host.db`: a list is for servers that stand in for each other; \
             `sqlite` is none"
        );
        let options = [("global_keyprefix".to_owned(), "app:".to_owned())];
        assert!(check_transport_options("amqp://a;redis://b", &options).is_ok());
        assert!(check_transport_options("amqp://a;amqp://b", &options).is_err());
    }

    fn endpoint(url: &str) -> Endpoint {
        let options = ConnectOptions { timeout: std::time::Duration::from_secs(2), ..ConnectOptions::default() };
        Endpoint::new(url, None, FailoverStrategy::RoundRobin, &options, 0)
    }

    fn closed_port() -> u16 {
        std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
    }

    #[tokio::test]
    async fn the_error_of_a_whole_round_names_every_server_and_no_password() {
        let (one, two) = (closed_port(), closed_port());
        let endpoint = endpoint(&format!("amqp://me:secret@127.0.0.1:{one}//;redis://:secret@127.0.0.1:{two}/1"));
        let error = endpoint.connect().await.err().expect("nobody is there");
        let text = error.to_string();
        assert!(error.is_transient());
        assert!(text.starts_with(&format!("connect to any broker: amqp://me:**@127.0.0.1:{one}//: ")), "{text}");
        assert!(text.contains(&format!("; redis://:**@127.0.0.1:{two}/1: ")), "{text}");
        assert!(!text.contains("secret") && text.to_lowercase().contains("refused"), "{text}");
        assert!(endpoint.in_use().starts_with("amqp://"), "round and round");
    }

    #[tokio::test]
    async fn the_next_server_is_taken_when_one_fails_and_those_who_follow_hear_it() {
        let dead = format!("amqp://127.0.0.1:{}//", closed_port());
        let endpoint = endpoint(&format!("{dead};memory://servers"));
        let mut moves = endpoint.moves();
        assert!(endpoint.follow().await.is_err(), "whoever follows goes nowhere alone");
        assert!(!moves.has_changed().unwrap());
        endpoint.connect().await.expect("the second is there");
        assert!(moves.has_changed().unwrap());
        moves.mark_unchanged();
        assert_eq!(endpoint.in_use(), "memory://servers");
        assert_eq!(endpoint.alternates(), [dead, "memory://servers".to_owned()]);
        endpoint.connect().await.expect("it stays");
        endpoint.follow().await.expect("it is in use");
        assert!(!moves.has_changed().unwrap());
        endpoint.leave();
        assert!(endpoint.in_use().starts_with("amqp://") && moves.has_changed().unwrap());
    }

    #[tokio::test]
    async fn one_server_alone_says_what_it_always_said() {
        let endpoint = endpoint(&format!("amqp://127.0.0.1:{}//", closed_port()));
        let error = endpoint.connect().await.err().expect("nobody is there");
        assert!(matches!(error, BrokerError::Connect { .. }), "{error}");
        assert!(endpoint.alternates().is_empty());
    }
}

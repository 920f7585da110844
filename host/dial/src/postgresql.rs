//! PostgreSQL: what its URLs say, and a pool of connections to it.
//!
//! Its options are libpq's, which psycopg takes as they are. Nothing here prepares a named statement, so a
//! pgbouncer that hands out connections by the transaction may stand in between.

mod pool;

use std::path::PathBuf;
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config};
use tokio_postgres_rustls::MakeRustlsConnect;

pub use self::pool::{Lease, Pool, PoolError};
use crate::database::{Address, seconds};
use crate::tls::{self, OptionNames, TlsError, TlsOptions, Verify};

/// How long it may take to reach a server, from the name look-up to the login, unless the URL says it
/// (`connect_timeout`).
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an answer may take, unless the URL says it (`command_timeout`, asyncpg's name).
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// When a silent connection is probed, how often, and how many probes may stay unanswered.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(15);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_PROBES_MAX: u32 = 3;
const PORT: u16 = 5432;

/// What SQLAlchemy calls the drivers of PostgreSQL.
const DIALECTS: [&str; 8] = [
    "postgresql",
    "postgres",
    "postgresql+psycopg2",
    "postgresql+psycopg2cffi",
    "postgresql+psycopg",
    "postgresql+psycopg_async",
    "postgresql+asyncpg",
    "postgresql+pg8000",
];

/// True if that is how SQLAlchemy begins a URL of PostgreSQL.
pub fn is_dialect(scheme: &str) -> bool {
    DIALECTS.contains(&scheme)
}

/// A database on a server and how to log in.
#[derive(Clone)]
pub struct Target {
    config: Config,
    /// None: without TLS, whatever the server offers.
    tls: Option<TlsOptions>,
    /// True if the URL says how much of TLS there is to be (`sslmode`).
    says_mode: bool,
    connect_timeout: Duration,
    /// How long a statement may take.
    pub answer_timeout: Duration,
}

impl PartialEq for Target {
    fn eq(&self, other: &Self) -> bool {
        (&self.config, &self.tls, self.connect_timeout, self.answer_timeout)
            == (&other.config, &other.tls, other.connect_timeout, other.answer_timeout)
    }
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let hosts: Vec<String> = (self.config.get_hosts().iter().zip(self.config.get_ports()))
            .map(|(host, port)| match host {
                Host::Tcp(name) => format!("{name}:{port}"),
                #[cfg(unix)]
                Host::Unix(path) => format!("{}:{port}", path.display()),
            })
            .collect();
        let (user, name) = (self.config.get_user().unwrap_or_default(), self.config.get_dbname().unwrap_or_default());
        write!(f, "PostgreSQL({user}@{}/{name}, {:?}, {:?})", hosts.join(","), self.config.get_ssl_mode(), self.tls)
    }
}

impl Target {
    /// Reads what follows the `://` of a URL. The error says what is wrong and shows no password.
    pub fn parse(rest: &str) -> Result<Self, String> {
        let address = Address::parse(rest)?;
        let mut config = Config::new();
        let mut target = Self {
            config: Config::new(),
            tls: None,
            says_mode: false,
            connect_timeout: CONNECT_TIMEOUT,
            answer_timeout: ANSWER_TIMEOUT,
        };
        config.keepalives_idle(KEEPALIVE_AFTER).keepalives_interval(KEEPALIVE_INTERVAL);
        config.keepalives_retries(KEEPALIVE_PROBES_MAX);
        let (mut hosts, mut ports) = (Vec::new(), Vec::new());
        let mut user = address.username;
        let mut database = address.database;
        let mut tls = TlsOptions::default();
        let mut mode = None;
        for (key, value) in &address.query {
            let (key, value) = (key.as_str(), value.as_str());
            match key {
                "host" => hosts.extend(value.split(',').map(str::to_owned)),
                "port" => ports.extend(value.split(',').map(port).collect::<Result<Vec<_>, _>>()?),
                "user" => user = Some(value.to_owned()),
                "dbname" => database = Some(value.to_owned()),
                // Only what stands before the `@` is masked wherever a URL is shown.
                "password" => return Err("the password stands before the `@` of a URL, not behind the `?`".to_owned()),
                "sslmode" | "ssl" => mode = Some(value),
                "sslrootcert" if value == "system" => mode = mode.or(Some("verify-full")),
                "sslrootcert" => tls.ca_certs = Some(PathBuf::from(value)),
                "sslcert" => tls.certfile = Some(PathBuf::from(value)),
                "sslkey" => tls.keyfile = Some(PathBuf::from(value)),
                "connect_timeout" | "timeout" => target.connect_timeout = seconds(key, value)?,
                "command_timeout" => target.answer_timeout = seconds(key, value)?,
                "application_name" => _ = config.application_name(value),
                "options" => _ = config.options(value),
                "target_session_attrs" => {
                    _ = config.target_session_attrs(match value {
                        "any" => TargetSessionAttrs::Any,
                        "read-write" | "primary" => TargetSessionAttrs::ReadWrite,
                        "read-only" | "standby" => TargetSessionAttrs::ReadOnly,
                        _ => {
                            return Err(format!(
                                "target_session_attrs `{value}` is none of any, read-write, read-only"
                            ));
                        }
                    });
                }
                "keepalives" => _ = config.keepalives(value != "0"),
                "keepalives_idle" => _ = config.keepalives_idle(seconds(key, value)?),
                "keepalives_interval" => _ = config.keepalives_interval(seconds(key, value)?),
                "keepalives_count" => {
                    let count = value.parse().map_err(|_| format!("keepalives_count `{value}` is no number"))?;
                    config.keepalives_retries(count);
                }
                // We always speak UTF-8, never Kerberos, and prepare nothing; so these are always as asked for.
                "client_encoding" if matches!(value.to_ascii_lowercase().as_str(), "utf8" | "utf-8" | "unicode") => {}
                "gssencmode" if matches!(value, "disable" | "prefer") => {}
                "prepare_threshold" | "prepared_statement_cache_size" | "executemany_mode" => {}
                _ => return Err(format!("PostgreSQL has no option `{key}` that is known here")),
            }
        }
        target.tls = with_mode(mode, tls, &mut config)?;
        target.says_mode = mode.is_some();
        // Several hosts are tried in order, each with its own port or with the one there is.
        if hosts.is_empty() {
            hosts.push(address.host.unwrap_or_else(|| "localhost".to_owned()));
        }
        let port_of = |host: &str| -> Result<(String, Option<u16>), String> {
            match host.rsplit_once(':') {
                Some((name, given)) if !host.starts_with('/') && !name.contains(':') => {
                    Ok((name.to_owned(), Some(port(given)?)))
                }
                _ => Ok((host.trim_matches(['[', ']']).to_owned(), None)),
            }
        };
        for (index, host) in hosts.iter().enumerate() {
            let (name, own) = port_of(host)?;
            let common = ports.get(index).or(ports.first()).copied().or(address.port);
            config.host(name).port(own.or(common).unwrap_or(PORT));
        }
        // libpq takes the name of the operating system's user.
        let user = user.or_else(|| std::env::var("USER").ok()).unwrap_or_else(|| "postgres".to_owned());
        config.dbname(database.unwrap_or_else(|| user.clone())).user(user);
        if let Some(password) = address.password {
            config.password(password);
        }
        target.config = config;
        Ok(target)
    }

    /// The name that the server shows for our connections, unless the URL says one.
    pub fn named(mut self, name: &str) -> Self {
        if self.config.get_application_name().is_none() {
            // The server cuts names at 63 bytes, and would log that it did.
            let end = (0..=name.len().min(63)).rev().find(|end| name.is_char_boundary(*end)).unwrap_or(0);
            self.config.application_name(&name[..end]);
        }
        self
    }

    /// With TLS though the URL does not say so, and by these options; what the URL says goes over them.
    pub fn secured(mut self, options: &TlsOptions) -> Self {
        if !self.says_mode {
            self.config.ssl_mode(SslMode::Require);
        }
        if let Some(own) = self.tls.take() {
            let verify = if self.says_mode { own.verify } else { options.verify };
            self.tls = Some(TlsOptions {
                ca_certs: own.ca_certs.or_else(|| options.ca_certs.clone()),
                certfile: own.certfile.or_else(|| options.certfile.clone()),
                keyfile: own.keyfile.or_else(|| options.keyfile.clone()),
                verify,
            });
        }
        self
    }

    /// Reads the files that TLS needs, and connects to nothing.
    pub fn check_tls(&self) -> Result<(), String> {
        let loaded = self.tls.as_ref().map(TlsOptions::load).transpose();
        loaded.map(drop).map_err(|error| error.to_string())
    }

    /// A new connection, within the deadline.
    pub async fn connect(&self) -> Result<Connection, ConnectError> {
        // Where nobody is believed or doubted no file is read; that is so without TLS as well.
        let anyone = || TlsOptions { verify: Verify::Nothing, ..TlsOptions::default() };
        let tls = self.tls.clone().unwrap_or_else(anyone).load()?;
        let tls = MakeRustlsConnect::new((*tls.config()).clone());
        let connected = tokio::time::timeout(self.connect_timeout, self.config.connect(tls)).await;
        let (client, connection) = connected.map_err(|_| ConnectError::Late(self.connect_timeout))??;
        // Ends when the client is dropped, or when the server closes the connection; what it says then is said
        // to whoever waits for an answer.
        let driver = tokio::spawn(async move { drop(connection.await) });
        Ok(Connection { client, driver: driver.abort_handle() })
    }
}

fn port(text: &str) -> Result<u16, String> {
    text.parse().map_err(|_| format!("`{text}` is not a port"))
}

/// libpq's `sslmode`: what is not called `verify` believes anyone, unless there is a `sslrootcert`.
fn with_mode(mode: Option<&str>, mut options: TlsOptions, config: &mut Config) -> Result<Option<TlsOptions>, String> {
    let mode = mode.unwrap_or("prefer");
    let (ssl, verify) = match mode {
        "disable" | "false" => (SslMode::Disable, Verify::Nothing),
        "allow" | "prefer" => (SslMode::Prefer, Verify::Nothing),
        "require" | "true" if options.ca_certs.is_some() => (SslMode::Require, Verify::Chain),
        "require" | "true" => (SslMode::Require, Verify::Nothing),
        "verify-ca" => (SslMode::Require, Verify::Chain),
        "verify-full" => (SslMode::Require, Verify::Full),
        _ => {
            return Err(format!(
                "sslmode `{mode}` is none of disable, allow, prefer, require, verify-ca and verify-full"
            ));
        }
    };
    config.ssl_mode(ssl);
    options.verify = verify;
    Ok((mode != "disable" && mode != "false").then_some(options))
}

/// An open connection.
pub struct Connection {
    pub client: Client,
    driver: AbortHandle,
}

impl Connection {
    /// Closes it, whatever the server still has to say.
    pub fn discard(self) {
        self.driver.abort();
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("no connection after {0:?}")]
    Late(Duration),
    #[error("{}", told(.0))]
    Server(#[from] tokio_postgres::Error),
}

impl ConnectError {
    /// True if the same may work later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Tls(_) => false,
            Self::Late(_) => true,
            Self::Server(error) => is_transient(error),
        }
    }
}

/// What the server said, which the driver's own text leaves out, or the driver's text and its cause.
pub fn told(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(told) => {
            let more = told.detail().map(|detail| format!(" ({detail})")).unwrap_or_default();
            format!("{}{more} [{}]", told.message(), told.code().code())
        }
        None => tls::trouble(error, OptionNames::LIBPQ).unwrap_or_else(|| match std::error::Error::source(error) {
            Some(cause) => format!("{error}: {cause}"),
            None => error.to_string(),
        }),
    }
}

/// True if the connection is of no use any more.
pub fn is_lost(error: &tokio_postgres::Error) -> bool {
    error.as_db_error().is_none_or(|told| {
        let lost = [SqlState::ADMIN_SHUTDOWN, SqlState::CRASH_SHUTDOWN, SqlState::CANNOT_CONNECT_NOW];
        lost.contains(told.code()) || told.code().code().starts_with("08")
    })
}

/// True if the transaction was undone so that others could go on, and may be repeated at once.
pub fn is_conflict(error: &tokio_postgres::Error) -> bool {
    let conflicts =
        [SqlState::T_R_SERIALIZATION_FAILURE, SqlState::T_R_DEADLOCK_DETECTED, SqlState::LOCK_NOT_AVAILABLE];
    error.code().is_some_and(|code| conflicts.contains(code))
}

/// True if the same may work later: connections come back, locks go away, a standby is promoted.
pub fn is_transient(error: &tokio_postgres::Error) -> bool {
    match error.code() {
        // Without a code it is the connection, unless somebody is not believed.
        None => !is_about_certificates(error),
        Some(_) if is_turned_away(error) => false,
        Some(code) => {
            let passing = [SqlState::READ_ONLY_SQL_TRANSACTION, SqlState::QUERY_CANCELED];
            // Transaction rollback, insufficient resources, operator intervention, system error.
            is_lost(error)
                || is_conflict(error)
                || passing.contains(code)
                || ["40", "53", "57", "58"].iter().any(|class| code.code().starts_with(class))
        }
    }
}

/// True if a pgbouncer does not let us in: whatever it refuses, and whatever it is busy with, it says with one code.
fn is_turned_away(error: &tokio_postgres::Error) -> bool {
    const REASONS: [&str; 3] = ["authentication failed", "no such user", "no such database"];
    error.as_db_error().is_some_and(|told| {
        *told.code() == SqlState::PROTOCOL_VIOLATION && REASONS.iter().any(|reason| told.message().contains(reason))
    })
}

fn is_about_certificates(error: &tokio_postgres::Error) -> bool {
    // The driver has no name for a server without TLS.
    let cause = std::error::Error::source(error).map(ToString::to_string);
    tls::trouble(error, OptionNames::LIBPQ).is_some()
        || cause.is_some_and(|cause| cause == "server does not support TLS")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(rest: &str, expected: &str) {
        let shown = match Target::parse(rest) {
            Ok(target) => format!("{target:?}"),
            Err(reason) => reason,
        };
        assert_eq!(shown, expected, "{rest}");
    }

    const ANYONE: &str = "Some(TlsOptions { ca_certs: None, certfile: None, keyfile: None, verify: Nothing })";

    #[test]
    fn urls_are_read_as_psycopg_reads_them() {
        check("me:s@box/d", &format!("PostgreSQL(me@box:5432/d, Prefer, {ANYONE})"));
        check("me:s@box:7", &format!("PostgreSQL(me@box:7/me, Prefer, {ANYONE})"));
        check("me@/d?host=/run/pg&sslmode=disable", "PostgreSQL(me@/run/pg:5432/d, Disable, None)");
        check("me@/d?host=a:1&host=b&port=2&ssl=disable", "PostgreSQL(me@a:1,b:2/d, Disable, None)");
        check("me@[::1]:4/d?ssl=require", &format!("PostgreSQL(me@::1:4/d, Require, {ANYONE})"));
    }

    #[test]
    fn a_certificate_is_checked_as_libpq_checks_it() {
        let verify = |options: &str| {
            let target = Target::parse(&format!("me@box/d?{options}")).unwrap();
            (target.config.get_ssl_mode(), target.tls.unwrap().verify)
        };
        assert_eq!(verify("sslmode=require"), (SslMode::Require, Verify::Nothing));
        assert_eq!(verify("sslmode=require&sslrootcert=/ca.pem"), (SslMode::Require, Verify::Chain));
        assert_eq!(verify("sslmode=verify-ca"), (SslMode::Require, Verify::Chain));
        assert_eq!(verify("sslrootcert=system"), (SslMode::Require, Verify::Full));
        let reason = "sslmode `maybe` is none of disable, allow, prefer, require, verify-ca and verify-full";
        check("me@box/d?sslmode=maybe", reason);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        check("me@box/d?colour=red", "PostgreSQL has no option `colour` that is known here");
        check("me@box/d?connect_timeout=0", "connect_timeout `0` is no number of seconds");
        check("me@box/d?password=s", "the password stands before the `@` of a URL, not behind the `?`");
        check("me@/d?host=a:b", "`b` is not a port");
    }

    #[test]
    fn a_password_is_not_shown() {
        assert!(!format!("{:?}", Target::parse("me:secret@box/d").unwrap()).contains("secret"));
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_may_come_back() {
        let error = Target::parse("me@127.0.0.1:1/d").unwrap().connect().await.err().unwrap();
        assert!(error.is_transient(), "{error}");
        assert!(error.to_string().contains("refused"), "{error}");
    }
}

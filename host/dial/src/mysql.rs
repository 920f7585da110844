//! MySQL and MariaDB: what their URLs say, and a pool of connections to them.
//!
//! Options have the names that PyMySQL and mysqlclient give them behind the `?` of SQLAlchemy. Every connection
//! speaks utf8mb4, in strict mode, at READ COMMITTED where the server's binary log allows that.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mysql_async::prelude::Queryable;
use mysql_async::{ClientIdentity, Conn, DriverError, Error, IoError, OptsBuilder};
use mysql_async::{PoolConstraints, PoolOpts, SslOpts, TlsError as DriverTlsError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::database::{Address, PoolOptions, seconds, truth};
use crate::tls::{self, OptionNames, TlsError, TlsOptions, Verify};

/// How long it may take to reach a server, from the name look-up to the login, unless the URL says it
/// (`connect_timeout`).
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an answer may take, unless the URL says it (`read_timeout`).
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long closing a connection politely may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// When a silent connection is probed.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(15);
/// How many prepared statements a connection keeps.
const STATEMENTS_MAX: usize = 64;
const PORT: u16 = 3306;

/// A blob that is too long is an error, not cut: a server that does it silently otherwise is told not to.
const STRICT: &str = "SET SESSION sql_mode = CONCAT(@@sql_mode, ',STRICT_TRANS_TABLES')";
/// Also what the driver's handshake says; servers may be told to ignore that (`skip-character-set-client-handshake`).
const NAMES: &str = "SET NAMES utf8mb4";
const READ_COMMITTED: &str = "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED";
/// `ER_BINLOG_STMT_MODE_AND_ROW_ENGINE`: with a binary log of statements, rows must not be read as committed.
const STATEMENT_LOG: u16 = 1665;

/// What SQLAlchemy calls the drivers of both.
const DRIVERS: [&str; 8] =
    ["pymysql", "mysqldb", "mariadbconnector", "mysqlconnector", "asyncmy", "aiomysql", "cymysql", "pyodbc"];

/// True if that is how SQLAlchemy begins a URL of MySQL or MariaDB.
pub fn is_dialect(scheme: &str) -> bool {
    let (name, driver) = scheme.split_once('+').map_or((scheme, None), |(name, driver)| (name, Some(driver)));
    matches!(name, "mysql" | "mariadb") && driver.is_none_or(|driver| DRIVERS.contains(&driver))
}

/// A database on a server and how to log in.
#[derive(Clone, PartialEq)]
pub struct Target {
    host: String,
    port: u16,
    socket: Option<String>,
    username: Option<String>,
    password: Option<String>,
    database: String,
    /// None: without TLS, whatever the server offers.
    tls: Option<TlsOptions>,
    /// True if the URL says whether there is to be TLS.
    says_tls: bool,
    connect_timeout: Duration,
    answer_timeout: Duration,
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { host, port, socket, username, database, tls, .. } = self;
        let user = username.as_deref().unwrap_or_default();
        match socket {
            Some(socket) => write!(f, "MySQL({user}@{socket}/{database})"),
            None => write!(f, "MySQL({user}@{host}:{port}/{database}, {tls:?})"),
        }
    }
}

impl Target {
    /// Reads what follows the `://` of a URL. The error says what is wrong and shows no password.
    pub fn parse(rest: &str) -> Result<Self, String> {
        let address = Address::parse(rest)?;
        let mut target = Self {
            host: address.host.unwrap_or_else(|| "localhost".to_owned()),
            port: address.port.unwrap_or(PORT),
            socket: None,
            username: address.username,
            password: address.password,
            database: address.database.unwrap_or_default(),
            tls: None,
            says_tls: false,
            connect_timeout: CONNECT_TIMEOUT,
            answer_timeout: ANSWER_TIMEOUT,
        };
        let mut tls = TlsOptions::default();
        let (mut wanted, mut mode) = (None, None);
        for (key, value) in &address.query {
            let (key, value) = (key.as_str(), value.as_str());
            match key {
                "unix_socket" => target.socket = Some(value.to_owned()),
                "connect_timeout" | "connection_timeout" => target.connect_timeout = seconds(key, value)?,
                "read_timeout" => target.answer_timeout = seconds(key, value)?,
                "database" | "db" => target.database = value.to_owned(),
                "user" => target.username = Some(value.to_owned()),
                // Only what stands before the `@` is masked wherever a URL is shown.
                "password" | "passwd" => {
                    return Err("the password stands before the `@` of a URL, not behind the `?`".to_owned());
                }
                "ssl_ca" => (tls.ca_certs, wanted) = (Some(PathBuf::from(value)), Some(true)),
                "ssl_cert" => (tls.certfile, wanted) = (Some(PathBuf::from(value)), Some(true)),
                "ssl_key" => (tls.keyfile, wanted) = (Some(PathBuf::from(value)), Some(true)),
                "ssl" => wanted = Some(truth(key, value)?),
                "ssl_disabled" => wanted = Some(!truth(key, value)?),
                "ssl_mode" => mode = Some(value.to_ascii_uppercase()),
                "ssl_verify_cert" => {
                    wanted = Some(true);
                    if !truth(key, value)? {
                        tls.verify = Verify::Nothing;
                    }
                }
                "ssl_check_hostname" | "ssl_verify_identity" => {
                    if !truth(key, value)? && tls.verify == Verify::Full {
                        tls.verify = Verify::Chain;
                    }
                }
                // We always speak utf8mb4, commit each statement and never send files.
                "charset" | "collation" | "use_unicode" | "binary_prefix" | "write_timeout" => {}
                "autocommit" | "local_infile" if !truth(key, value)? || key == "autocommit" => {}
                _ => return Err(format!("MySQL has no option `{key}` that is known here")),
            }
        }
        if target.database.is_empty() {
            return Err("it names no database; expected mysql://user:password@host/database".to_owned());
        }
        let wanted = match mode.as_deref() {
            None => wanted.unwrap_or(false),
            Some("DISABLED") => false,
            Some("REQUIRED") => {
                tls.verify = Verify::Nothing;
                true
            }
            Some("VERIFY_CA") => {
                tls.verify = Verify::Chain;
                true
            }
            Some("VERIFY_IDENTITY") => {
                tls.verify = Verify::Full;
                true
            }
            Some("PREFERRED") => {
                return Err("ssl_mode PREFERRED may end without TLS; say REQUIRED or DISABLED".to_owned());
            }
            Some(mode) => return Err(format!("ssl_mode `{mode}` is none of DISABLED, REQUIRED and VERIFY_IDENTITY")),
        };
        target.says_tls = mode.is_some() || wanted;
        target.tls = wanted.then_some(tls);
        target.with_names()
    }

    /// With TLS though the URL does not say so, and by these options; what the URL says goes over them.
    pub fn secured(mut self, options: &TlsOptions) -> Result<Self, String> {
        if !self.says_tls {
            self.tls = Some(options.clone());
        }
        self.with_names()
    }

    /// The driver looks for a name of an error that rustls does not write any more.
    fn with_names(self) -> Result<Self, String> {
        match &self.tls {
            Some(tls) if tls.verify == Verify::Chain => {
                Err("MySQL's certificate can only be checked together with its name; leave ssl_check_hostname (or \
                 VERIFY_CA) out, or say ssl_mode=REQUIRED, which believes anyone"
                    .to_owned())
            }
            _ => Ok(self),
        }
    }

    /// Reads the files that TLS needs, and connects to nothing.
    pub fn check_tls(&self) -> Result<(), String> {
        let loaded = self.tls.as_ref().map(ssl).transpose();
        loaded.map(drop).map_err(|error| error.to_string())
    }

    /// How long a statement may take.
    pub fn answer_timeout(&self) -> Duration {
        self.answer_timeout
    }

    fn options(&self, pool: &PoolOptions) -> Result<OptsBuilder, TlsError> {
        let constraints = PoolConstraints::new(pool.kept(), pool.most()).expect("a pool holds one connection at least");
        // Without it the driver forgets all prepared statements whenever a connection is given back.
        let kept = PoolOpts::new().with_constraints(constraints).with_reset_connection(false);
        Ok(OptsBuilder::default()
            .ip_or_hostname(self.host.clone())
            .tcp_port(self.port)
            .socket(self.socket.clone())
            // Else it moves from TCP to a socket that the server names, which may be in another container.
            .prefer_socket(false)
            .user(self.username.clone())
            .pass(self.password.clone())
            .db_name(Some(self.database.clone()))
            .tcp_keepalive(Some(KEEPALIVE_AFTER))
            .stmt_cache_size(STATEMENTS_MAX)
            .ssl_opts(self.tls.as_ref().map(ssl).transpose()?)
            .pool_opts(kept.with_abs_conn_ttl(pool.recycle)))
    }
}

fn ssl(options: &TlsOptions) -> Result<SslOpts, TlsError> {
    // Says what is wrong with the files, which the driver would only do at the first connection.
    options.load()?;
    let mut ssl = SslOpts::default();
    if options.verify == Verify::Nothing {
        ssl = ssl.with_danger_accept_invalid_certs(true);
    } else {
        let authorities = options.authorities()?.into_iter().map(|der| der.to_vec().into());
        ssl = ssl.with_disable_built_in_roots(true).with_root_certs(authorities.collect());
    }
    Ok(ssl.with_client_identity(options.certfile.as_ref().map(|certificate| {
        let key = options.keyfile.as_ref().unwrap_or(certificate);
        ClientIdentity::new(certificate.clone().into(), key.clone().into())
    })))
}

/// Connections to one database.
pub struct Pool {
    pool: mysql_async::Pool,
    target: Target,
    options: PoolOptions,
    free: Arc<Semaphore>,
    /// True if the server's isolation level has to stay as it is.
    keeps_isolation: Arc<AtomicBool>,
}

/// Why a pool gives no connection.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    #[error("all {connections} connections were in use for {waited:?} (pool_size, max_overflow, pool_timeout)")]
    Exhausted { connections: usize, waited: Duration },
    #[error("no connection after {0:?}")]
    Late(Duration),
    #[error("{}", told(.0))]
    Server(#[from] Error),
}

impl PoolError {
    /// True if the same may work later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Exhausted { .. } | Self::Late(_) => true,
            Self::Server(error) => is_transient(error),
        }
    }
}

impl Pool {
    /// Connects to nothing yet, but reads the files that TLS needs. To be called inside a runtime.
    pub fn new(target: Target, options: PoolOptions) -> Result<Self, TlsError> {
        let keeps_isolation = Arc::new(AtomicBool::new(false));
        let keeps = Arc::clone(&keeps_isolation);
        let builder = target.options(&options)?.after_connect(move |connection| {
            let isolation = (!keeps.load(Ordering::Relaxed)).then_some(READ_COMMITTED);
            Box::pin(async move {
                for statement in [NAMES, STRICT].into_iter().chain(isolation) {
                    connection.query_drop(statement).await?;
                }
                Ok(())
            })
        });
        let free = Arc::new(Semaphore::new(options.most()));
        Ok(Self { pool: mysql_async::Pool::new(builder), target, options, free, keeps_isolation })
    }

    /// How long a statement may take.
    pub fn answer_timeout(&self) -> Duration {
        self.target.answer_timeout
    }

    /// A connection, for as long as the lease is held.
    pub async fn lease(&self) -> Result<Lease, PoolError> {
        let waiting = Arc::clone(&self.free).acquire_owned();
        let permit = tokio::time::timeout(self.options.timeout, waiting)
            .await
            .map_err(|_| PoolError::Exhausted { connections: self.options.most(), waited: self.options.timeout })?;
        let permit = permit.expect("the semaphore is never closed");
        let opened = tokio::time::timeout(self.target.connect_timeout, self.pool.get_conn()).await;
        let connection = opened.map_err(|_| PoolError::Late(self.target.connect_timeout))??;
        Ok(Lease { connection: Some(connection), _permit: permit })
    }

    /// New connections keep the server's own isolation level from now on.
    pub fn keep_isolation(&self) {
        self.keeps_isolation.store(true, Ordering::Relaxed);
    }

    /// True if the server refused a write because of the isolation that we chose: new connections keep the
    /// server's own from now on, and what was refused may be repeated on one.
    pub fn gives_up_read_committed(&self, error: &Error) -> bool {
        let refused = matches!(error, Error::Server(told) if told.code == STATEMENT_LOG);
        if refused {
            self.keep_isolation();
        }
        refused
    }
}

/// A connection that is in use. One that is not given back is closed: who was cancelled may have left a statement on
/// it, whose answer the next one would take for its own.
pub struct Lease {
    connection: Option<Conn>,
    _permit: OwnedSemaphorePermit,
}

impl Lease {
    /// The connection.
    pub fn connection(&mut self) -> &mut Conn {
        self.connection.as_mut().expect("there is a connection until the end")
    }

    /// The connection is in order, and nothing is under way on it.
    pub fn give_back(mut self) {
        drop(self.connection.take());
    }

    /// Closes it: something is still under way on it.
    pub async fn discard(mut self) {
        if let Some(connection) = self.connection.take() {
            let _ = tokio::time::timeout(CLOSE_TIMEOUT, connection.disconnect()).await;
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // Without a runtime there is no pool either that could use it again.
        if let (Some(connection), Ok(runtime)) = (self.connection.take(), tokio::runtime::Handle::try_current()) {
            // Has a deadline, and nobody waits for it.
            drop(runtime.spawn(tokio::time::timeout(CLOSE_TIMEOUT, connection.disconnect())));
        }
    }
}

/// The error, and what caused it, without the driver's quotes.
pub fn told(error: &Error) -> String {
    if let Some(trouble) = tls::trouble(error, OptionNames::MYSQL) {
        return trouble;
    }
    match error {
        Error::Server(told) => format!("{} [{}]", told.message, told.code),
        Error::Driver(error) => error.to_string(),
        Error::Io(IoError::Io(error)) => error.to_string(),
        Error::Io(IoError::Tls(error)) => error.to_string(),
        error => error.to_string(),
    }
}

/// True if the connection is of no use any more, and another may do.
pub fn is_lost(error: &Error) -> bool {
    match error {
        Error::Io(IoError::Io(_)) => true,
        Error::Driver(error) => {
            matches!(
                error,
                DriverError::ConnectionClosed | DriverError::PacketOutOfOrder | DriverError::PoolDisconnected
            )
        }
        // Shutdown, killed, network trouble as the server saw it, idle for too long.
        Error::Server(told) => matches!(told.code, 1053 | 1927 | 1158..=1161 | 4031),
        _ => false,
    }
}

/// True if the statement was undone so that others could go on, and may be repeated at once.
pub fn is_conflict(error: &Error) -> bool {
    // A deadlock, a lock that did not come, a row that changed under a snapshot, another vote in a cluster.
    matches!(error, Error::Server(told) if matches!(told.code, 1213 | 1205 | 1020 | 3101 | 1412))
}

/// True if the same may work later: connections come back, disks get room again, a replica is promoted.
pub fn is_transient(error: &Error) -> bool {
    const PASSING: [u16; 21] = [
        1021, 1037, 1038, 1040, 1041, 1047, 1114, 1129, 1135, 1203, 1226, 1290, 1317, 1836, 1969, 3024, 3032, 3168,
        1298, 1180, 1637,
    ];
    let is_io = matches!(error, Error::Io(IoError::Io(_)));
    is_io
        || is_lost(error)
        || is_conflict(error)
        || matches!(error, Error::Server(told) if PASSING.contains(&told.code))
        || matches!(error, Error::Io(IoError::Tls(DriverTlsError::Tls(cause))) if !is_about_certificates(cause))
}

fn is_about_certificates(error: &rustls::Error) -> bool {
    matches!(error, rustls::Error::InvalidCertificate(_) | rustls::Error::AlertReceived(_))
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

    #[test]
    fn urls_are_read_as_sqlalchemy_reads_them() {
        check("me:s@box/d", "MySQL(me@box:3306/d, None)");
        check("me:s@box:7/d?charset=utf8mb4&connect_timeout=3", "MySQL(me@box:7/d, None)");
        check("me:s@/d?unix_socket=/run/m.sock", "MySQL(me@/run/m.sock/d)");
        let tls = r#"Some(TlsOptions { ca_certs: Some("/ca"), certfile: None, keyfile: None, verify: Full })"#;
        check("me:s@box/d?ssl_ca=/ca", &format!("MySQL(me@box:3306/d, {tls})"));
        let tls = tls.replace("Full", "Nothing");
        check("me:s@box/d?ssl_ca=/ca&ssl_mode=required", &format!("MySQL(me@box:3306/d, {tls})"));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        check("me@box", "it names no database; expected mysql://user:password@host/database");
        check("me@box/d?colour=red", "MySQL has no option `colour` that is known here");
        check("me@box/d?passwd=s", "the password stands before the `@` of a URL, not behind the `?`");
        check("me@box/d?ssl_mode=preferred", "ssl_mode PREFERRED may end without TLS; say REQUIRED or DISABLED");
        assert!(Target::parse("me@box/d?ssl_ca=/ca&ssl_check_hostname=false").is_err());
        assert!(Target::parse("me@box/d?ssl_mode=VERIFY_CA").is_err());
    }

    #[test]
    fn dialects_have_sqlalchemys_names() {
        for scheme in ["mysql", "mariadb", "mysql+pymysql", "mysql+mysqldb", "mariadb+pymysql"] {
            assert!(is_dialect(scheme), "{scheme}");
        }
        for scheme in ["mysql+x", "sqlite", "postgresql", "mysqlx"] {
            assert!(!is_dialect(scheme), "{scheme}");
        }
    }

    #[test]
    fn a_password_is_not_shown() {
        assert!(!format!("{:?}", Target::parse("me:secret@box/d").unwrap()).contains("secret"));
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_may_come_back() {
        let target = Target::parse("me@127.0.0.1:1/d").unwrap();
        let error = Pool::new(target, PoolOptions::default()).unwrap().lease().await.err().unwrap();
        assert!(error.is_transient(), "{error}");
        assert!(error.to_string().contains("refused"), "{error}");
    }
}

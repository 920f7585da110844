//! Private servers for tests and measurements: on free ports, with their own data, gone with us.
//!
//! No default port, no service of the machine and no configuration of it is used.

mod mariadb;
mod memcached;
mod pgbouncer;
mod postgresql;
mod qpid;
mod rabbitmq;
mod redis;
mod sentinel;
mod sqs;

use std::env;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{self, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use crate::Result;
use crate::certificates;
use crate::debian::{self, Installed};
use crate::group::Group;

/// RabbitMQ takes 6 s on an idle machine.
const START_TIMEOUT: Duration = Duration::from_secs(120);
/// Where a server says what it has to say, in its folder.
const LOG: &str = "output.log";
const POLL: Duration = Duration::from_millis(50);

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    RabbitMq,
    RabbitMqTls,
    Qpid,
    Redis,
    RedisTls,
    /// Redis with Sentinels.
    Sentinel,
    PostgreSql,
    /// In front of a PostgreSQL of its own.
    PgBouncer,
    MariaDb,
    Memcached,
    /// An emulator.
    Sqs,
    SqsTls,
}

impl Kind {
    pub(crate) const ALL: [Kind; 12] = [
        Kind::RabbitMq,
        Kind::RabbitMqTls,
        Kind::Qpid,
        Kind::Redis,
        Kind::RedisTls,
        Kind::Sentinel,
        Kind::PostgreSql,
        Kind::PgBouncer,
        Kind::MariaDb,
        Kind::Memcached,
        Kind::Sqs,
        Kind::SqsTls,
    ];

    pub(crate) fn parse(name: &str) -> Result<Kind> {
        let known = || Self::ALL.map(Self::name).join(", ");
        let found = Self::ALL.into_iter().find(|kind| kind.name() == name);
        found.ok_or_else(|| format!("no server is called `{name}`; there are: {}", known()))
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::RabbitMq => "rabbitmq",
            Kind::RabbitMqTls => "rabbitmq-tls",
            Kind::Qpid => "qpid",
            Kind::Redis => "redis",
            Kind::RedisTls => "redis-tls",
            Kind::Sentinel => "redis-sentinel",
            Kind::PostgreSql => "postgresql",
            Kind::PgBouncer => "pgbouncer",
            Kind::MariaDb => "mariadb",
            Kind::Memcached => "memcached",
            Kind::Sqs => "sqs",
            Kind::SqsTls => "sqs-tls",
        }
    }

    /// Where tests find the URL of the one that they share.
    pub(crate) fn variable(self) -> &'static str {
        match self {
            Kind::RabbitMq => "TASKHOST_TEST_AMQP",
            Kind::RabbitMqTls => "TASKHOST_TEST_AMQPS",
            Kind::Qpid => "TASKHOST_TEST_QPID",
            Kind::Redis => "TASKHOST_TEST_REDIS",
            Kind::RedisTls => "TASKHOST_TEST_REDISS",
            Kind::Sentinel => "TASKHOST_TEST_SENTINEL",
            Kind::PostgreSql => "TASKHOST_TEST_POSTGRESQL",
            Kind::PgBouncer => "TASKHOST_TEST_PGBOUNCER",
            Kind::MariaDb => "TASKHOST_TEST_MARIADB",
            Kind::Memcached => "TASKHOST_TEST_MEMCACHED",
            Kind::Sqs => "TASKHOST_TEST_SQS",
            Kind::SqsTls => "TASKHOST_TEST_SQS_TLS",
        }
    }

    /// The Debian packages that it comes in; none if it is fetched from elsewhere.
    pub(crate) fn packages(self) -> &'static [&'static str] {
        match self {
            Kind::RabbitMq | Kind::RabbitMqTls => &["rabbitmq-server"],
            Kind::Redis | Kind::RedisTls | Kind::Sentinel => &["redis-server"],
            Kind::PostgreSql => &["postgresql"],
            Kind::PgBouncer => &["postgresql", "pgbouncer"],
            Kind::MariaDb => &["mariadb-server"],
            Kind::Memcached => &["memcached"],
            Kind::Sqs | Kind::SqsTls | Kind::Qpid => &[],
        }
    }

    /// True if what Debian has of it is there.
    pub(crate) fn is_installed(self) -> bool {
        match self {
            Kind::RabbitMq | Kind::RabbitMqTls => rabbitmq::is_installed(),
            Kind::Redis | Kind::RedisTls => debian::in_path("redis-server"),
            Kind::Sentinel => sentinel::is_installed(),
            Kind::PostgreSql => postgresql::is_installed(),
            Kind::PgBouncer => pgbouncer::is_installed(),
            Kind::MariaDb => mariadb::is_installed(),
            Kind::Memcached => debian::in_path("memcached"),
            Kind::Sqs | Kind::SqsTls | Kind::Qpid => true,
        }
    }

    /// Fetches what is not Debian's.
    pub(crate) fn fetch(self) -> Result<Installed> {
        match self {
            Kind::Sqs => sqs::fetch(),
            Kind::SqsTls => match certificates::fetch()? {
                Installed::Yes => sqs::fetch(),
                missing => Ok(missing),
            },
            Kind::Qpid => qpid::fetch(),
            Kind::RabbitMqTls | Kind::RedisTls => certificates::fetch(),
            _ => Ok(Installed::Yes),
        }
    }
}

/// Those of the servers that this machine has, or could be given.
pub(crate) fn obtain(kinds: &[Kind]) -> Result<Vec<Kind>> {
    let missing = kinds.iter().filter(|kind| !kind.is_installed());
    let missing: Vec<&str> = missing.flat_map(|kind| kind.packages()).copied().collect();
    if !missing.is_empty() {
        if let Installed::No(reason) = debian::install(&missing)? {
            eprintln!("test: tests with these servers will be skipped: {reason}");
        } else if let Some(kind) = kinds.iter().find(|kind| !kind.is_installed()) {
            return Err(format!("{} was installed, but its programs are not where they should be", kind.name()));
        }
    }
    let mut there = Vec::new();
    for kind in kinds.iter().copied().filter(|kind| kind.is_installed()) {
        match kind.fetch()? {
            Installed::Yes => there.push(kind),
            Installed::No(reason) => eprintln!("test: tests with {} will be skipped: {reason}", kind.name()),
        }
    }
    Ok(there)
}

/// A server of our own, which keeps its ports and data while it is stopped. Dropping it leaves nothing behind.
pub(crate) struct Server {
    kind: Kind,
    folder: PathBuf,
    port: u16,
    /// Where Erlang nodes talk to each other, and where they find each other.
    erlang_ports: [u16; 2],
    running: Option<Group>,
    epmd: Option<Group>,
    /// Where it is several programs.
    set: Option<sentinel::Set>,
    /// What it stands in front of.
    behind: Option<Box<Server>>,
}

impl Server {
    pub(crate) fn new(kind: Kind) -> Result<Server> {
        let [port, distribution, epmd] = free_ports()?;
        let folder = env::temp_dir().join(format!("taskhost-{}-{}-{port}", kind.name(), process::id()));
        fs::create_dir_all(&folder).map_err(|error| format!("create {}: {error}", folder.display()))?;
        let set = if kind == Kind::Sentinel { Some(sentinel::Set::new()?) } else { None };
        let behind = if kind == Kind::PgBouncer { Some(Box::new(Server::new(Kind::PostgreSql)?)) } else { None };
        Ok(Server { kind, folder, port, erlang_ports: [distribution, epmd], running: None, epmd: None, set, behind })
    }

    /// Starts it, again after a stop, and waits until it answers. The options are more words of its command line.
    pub(crate) fn start(&mut self, options: &[String]) -> Result<()> {
        if let Some(mut set) = self.set.take() {
            let started = set.start(self, options);
            self.set = Some(set);
            return started;
        }
        if let Some(behind) = self.behind.as_mut().filter(|behind| behind.running.is_none()) {
            behind.start(&[])?;
        }
        let mut command = match self.kind {
            Kind::RabbitMq => rabbitmq::command(self)?,
            Kind::RabbitMqTls => rabbitmq::command_tls(self, options)?,
            Kind::Qpid => qpid::command(self, &self.folder.join(LOG))?,
            Kind::Redis => redis::command(self),
            Kind::RedisTls => redis::command_tls(self)?,
            Kind::Sentinel => unreachable!("it was started above"),
            Kind::PostgreSql => postgresql::command(self)?,
            Kind::PgBouncer => pgbouncer::command(self)?,
            Kind::MariaDb => mariadb::command(self)?,
            Kind::Memcached => memcached::command(self),
            Kind::Sqs => sqs::command(self)?,
            Kind::SqsTls => sqs::command_tls(self)?,
        };
        let log = self.folder.join(LOG);
        let file = fs::File::options().create(true).append(true).open(&log);
        let file = file.map_err(|error| format!("open {}: {error}", log.display()))?;
        let errors = file.try_clone().map_err(|error| format!("open {}: {error}", log.display()))?;
        // Of RabbitMQ these are lines of the file that was just written.
        let words: &[String] = if self.kind == Kind::RabbitMqTls { &[] } else { options };
        command.args(words).stdin(Stdio::null()).stdout(file).stderr(errors);
        let group = self.running.insert(Group::start(&mut command)?);
        let deadline = Instant::now() + START_TIMEOUT;
        while !answers(self.kind, self.port, &log) {
            if group.ended().is_some() || Instant::now() > deadline {
                let log = fs::read_to_string(&log).unwrap_or_default();
                return Err(format!("{} does not start; it says:\n{}", self.kind.name(), log.trim()));
            }
            thread::sleep(POLL);
        }
        Ok(())
    }

    pub(crate) fn url(&self) -> String {
        match self.kind {
            Kind::RabbitMqTls => format!("amqps://guest:guest@127.0.0.1:{}//", self.port),
            Kind::RabbitMq | Kind::Qpid => format!("amqp://guest:guest@127.0.0.1:{}//", self.port),
            Kind::Redis => format!("redis://127.0.0.1:{}/0", self.port),
            Kind::RedisTls => redis::url_tls(self),
            Kind::Sentinel => self.set.as_ref().map(sentinel::Set::url).unwrap_or_default(),
            Kind::PostgreSql | Kind::PgBouncer => postgresql::url(self),
            Kind::MariaDb => mariadb::url(self),
            Kind::Memcached => format!("cache+memcached://127.0.0.1:{}/", self.port),
            Kind::Sqs | Kind::SqsTls => format!("sqs://test:test@127.0.0.1:{}//", self.port),
        }
    }

    /// Asks it to end; what it keeps on disk will be there after the next start.
    pub(crate) fn stop(&mut self) {
        if let Some(set) = &mut self.set {
            set.stop();
        }
        if let Some(mut group) = self.running.take() {
            group.stop();
        }
        if let Some(behind) = &mut self.behind {
            behind.stop();
        }
    }

    /// Ends it as a crash would.
    pub(crate) fn kill(&mut self) {
        self.running = None;
        if let Some(set) = &mut self.set {
            set.kill();
        }
        if let Some(behind) = &mut self.behind {
            behind.kill();
        }
    }

    /// Has the tool of its operators do what these words say.
    pub(crate) fn control(&mut self, arguments: &[String]) -> Result<String> {
        match self.kind {
            Kind::RabbitMq | Kind::RabbitMqTls => rabbitmq::control(self, arguments),
            Kind::Sentinel => self.set.as_mut().ok_or("it is not set up")?.control(arguments),
            _ => Err(format!("{} has no such tool", self.kind.name())),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.running = None;
        self.epmd = None;
        self.kill();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// True if a server speaks its protocol at this port.
fn answers(kind: Kind, port: u16, log: &Path) -> bool {
    let hello = certificates::client_hello();
    let (question, answer): (&[u8], u8) = match kind {
        Kind::RabbitMq => (b"AMQP\x00\x00\x09\x01", 1), // a method frame: connection.start
        Kind::Qpid => return qpid::is_ready(log),
        Kind::RabbitMqTls | Kind::RedisTls | Kind::SqsTls => (&hello, certificates::HANDSHAKE),
        Kind::Redis => (b"PING\r\n", b'+'),
        Kind::Sentinel => unreachable!("they are asked otherwise"),
        // May it be TLS? It says no with one letter, and that only when it is ready.
        Kind::PostgreSql | Kind::PgBouncer => (&[0, 0, 0, 8, 4, 210, 22, 47], b'N'),
        Kind::MariaDb => return mariadb::answers(port),
        Kind::Memcached => (b"version\r\n", b'V'),
        Kind::Sqs => (b"GET / HTTP/1.0\r\n\r\n", b'H'),
    };
    let Some(mut stream) = reach(port) else { return false };
    let mut first = [0];
    stream.write_all(question).is_ok() && stream.read_exact(&mut first).is_ok() && first[0] == answer
}

fn reach(port: u16) -> Option<TcpStream> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let stream = TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    Some(stream)
}

/// Ports nobody listens at, below the range that outgoing connections take theirs from: a server that is
/// stopped must find its port free when it starts again.
fn free_ports<const N: usize>() -> Result<[u16; N]> {
    const FIRST: u16 = 12_000;
    const COUNT: u16 = 20_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    // Processes that choose at the same time start at different places.
    let start = (process::id().wrapping_mul(7919) ^ time.subsec_nanos()) as u16;
    let mut ports = [0; N];
    let mut found = 0;
    for _ in 0..COUNT {
        let port = FIRST + start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(_) => ports[found] = port,
            Err(error) if error.kind() == ErrorKind::AddrInUse => continue,
            Err(error) => return Err(format!("look for a free port: {error}")),
        }
        found += 1;
        if found == N {
            return Ok(ports);
        }
    }
    Err("no free port".to_owned())
}
